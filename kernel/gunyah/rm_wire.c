// SPDX-License-Identifier: GPL-2.0-only
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "rm_wire.h"

static const struct {
	u32 error;
	int err;
	const char *name;
} gunyah_rm_errors[] = {
	{ GUNYAH_RM_ERROR_OK, 0, "OK" },
	{ GUNYAH_RM_ERROR_UNIMPLEMENTED, -EOPNOTSUPP, "UNIMPLEMENTED" },
	{ GUNYAH_RM_ERROR_NOMEM, -ENOMEM, "NOMEM" },
	{ GUNYAH_RM_ERROR_NORESOURCE, -ENODEV, "NORESOURCE" },
	{ GUNYAH_RM_ERROR_DENIED, -EPERM, "DENIED" },
	{ GUNYAH_RM_ERROR_INVALID, -EINVAL, "INVALID" },
	{ GUNYAH_RM_ERROR_BUSY, -EBUSY, "BUSY" },
	{ GUNYAH_RM_ERROR_ARGUMENT_INVALID, -EINVAL, "ARGUMENT_INVALID" },
	{ GUNYAH_RM_ERROR_HANDLE_INVALID, -EINVAL, "HANDLE_INVALID" },
	{ GUNYAH_RM_ERROR_VALIDATE_FAILED, -EINVAL, "VALIDATE_FAILED" },
	{ GUNYAH_RM_ERROR_MAP_FAILED, -EINVAL, "MAP_FAILED" },
	{ GUNYAH_RM_ERROR_MEM_INVALID, -EINVAL, "MEM_INVALID" },
	{ GUNYAH_RM_ERROR_MEM_INUSE, -EBUSY, "MEM_INUSE" },
	{ GUNYAH_RM_ERROR_MEM_RELEASED, -EINVAL, "MEM_RELEASED" },
	{ GUNYAH_RM_ERROR_VMID_INVALID, -EINVAL, "VMID_INVALID" },
	{ GUNYAH_RM_ERROR_LOOKUP_FAILED, -EINVAL, "LOOKUP_FAILED" },
	{ GUNYAH_RM_ERROR_IRQ_INVALID, -EINVAL, "IRQ_INVALID" },
	{ GUNYAH_RM_ERROR_IRQ_INUSE, -EINVAL, "IRQ_INUSE" },
	{ GUNYAH_RM_ERROR_IRQ_RELEASED, -EINVAL, "IRQ_RELEASED" },
	{ GUNYAH_RM_ERROR_IN_USE, -EBUSY, "IN_USE" },
	{ GUNYAH_RM_ERROR_IRQ_NOT_MAPPED, -EINVAL, "IRQ_NOT_MAPPED" },
	{ GUNYAH_RM_ERROR_VM_STATE, -EBADFD, "VM_STATE" },
};

int gunyah_rm_error_errno(u32 error)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gunyah_rm_errors); i++)
		if (gunyah_rm_errors[i].error == error)
			return gunyah_rm_errors[i].err;
	return -EBADMSG;
}

const char *gunyah_rm_error_name(u32 error)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gunyah_rm_errors); i++)
		if (gunyah_rm_errors[i].error == error)
			return gunyah_rm_errors[i].name;
	return "unknown error";
}

static const struct {
	u32 message;
	const char *name;
} gunyah_rm_messages[] = {
	{ GUNYAH_RM_MEM_LEND, "MEM_LEND" },
	{ GUNYAH_RM_MEM_SHARE, "MEM_SHARE" },
	{ GUNYAH_RM_MEM_RECLAIM, "MEM_RECLAIM" },
	{ GUNYAH_RM_MEM_APPEND, "MEM_APPEND" },
	{ GUNYAH_RM_VM_ALLOC_VMID, "VM_ALLOC_VMID" },
	{ GUNYAH_RM_VM_DEALLOC_VMID, "VM_DEALLOC_VMID" },
	{ GUNYAH_RM_VM_START, "VM_START" },
	{ GUNYAH_RM_VM_STOP, "VM_STOP" },
	{ GUNYAH_RM_VM_RESET, "VM_RESET" },
	{ GUNYAH_RM_VM_CONFIG_IMAGE, "VM_CONFIG_IMAGE" },
	{ GUNYAH_RM_VM_INIT, "VM_INIT" },
	{ GUNYAH_RM_VM_GET_HYP_RESOURCES, "VM_GET_HYP_RESOURCES" },
	{ GUNYAH_RM_VM_GET_VMID, "VM_GET_VMID" },
	{ GUNYAH_RM_VM_SET_BOOT_CONTEXT, "VM_SET_BOOT_CONTEXT" },
	{ GUNYAH_RM_VM_SET_DEMAND_PAGING, "VM_SET_DEMAND_PAGING" },
	{ GUNYAH_RM_VM_SET_ADDRESS_LAYOUT, "VM_SET_ADDRESS_LAYOUT" },
};

const char *gunyah_rm_message_name(u32 message)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gunyah_rm_messages); i++)
		if (gunyah_rm_messages[i].message == message)
			return gunyah_rm_messages[i].name;
	return "unknown message";
}

bool gunyah_rm_notified_vmid(u32 message, const void *payload, size_t size,
			     u16 *vmid)
{
	size_t least;
	__le16 id;

	switch (message) {
	case GUNYAH_RM_NOTIFY_VM_EXITED:
		least = sizeof(struct gunyah_rm_vm_exited);
		break;
	case GUNYAH_RM_NOTIFY_VM_STATUS:
		least = sizeof(struct gunyah_rm_vm_status);
		break;
	default:
		return false;
	}
	if (size < least)
		return false;
	memcpy(&id, payload, sizeof(id));
	*vmid = le16_to_cpu(id);
	return true;
}
