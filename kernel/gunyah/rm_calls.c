// SPDX-License-Identifier: GPL-2.0
/* The RM's messages: what is in them. All numbers are little endian. */
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "rm.h"
#include "rm_calls.h"

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
	{ GUNYAH_RM_ERROR_VM_STATE, -EBUSY, "VM_STATE" },
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

struct gunyah_rm_vmid {
	__le16 vmid;
	__le16 reserved;
} __packed;

/* As gunyah_rm_call(), but only what timed out is the caller's. */
static int gunyah_rm_call_late(struct gunyah_rm *rm, u32 message,
			       const void *request, size_t size,
			       struct gunyah_rpc **late)
{
	int err;

	err = gunyah_rm_call(rm, message, request, size, late);
	if (err != -ETIMEDOUT) {
		gunyah_rpc_put(*late);
		*late = NULL;
	}
	return err;
}

int gunyah_rm_reply_vmid(const struct gunyah_rpc *rpc, u16 *vmid)
{
	const struct gunyah_rm_vmid *reply = rpc->reply;

	if (rpc->size < sizeof(*reply))
		return -EBADMSG;
	*vmid = le16_to_cpu(reply->vmid);
	return 0;
}

/* A call whose reply is a VMID. */
static int gunyah_rm_ask_vmid(struct gunyah_rm *rm, u32 message,
			      const void *request, size_t size, u16 *vmid,
			      struct gunyah_rpc **late)
{
	struct gunyah_rpc *rpc;
	int err;

	err = gunyah_rm_call(rm, message, request, size, &rpc);
	if (!err)
		err = gunyah_rm_reply_vmid(rpc, vmid);
	*late = NULL;
	if (err == -ETIMEDOUT)
		*late = rpc;
	else
		gunyah_rpc_put(rpc);
	return err;
}

int gunyah_rm_get_vmid(struct gunyah_rm *rm, u16 *vmid)
{
	struct gunyah_rpc *late;
	int err;

	err = gunyah_rm_ask_vmid(rm, GUNYAH_RM_VM_GET_VMID, NULL, 0, vmid,
				 &late);
	gunyah_rpc_put(late);
	return err;
}

int gunyah_rm_alloc_vmid(struct gunyah_rm *rm, u16 *vmid,
			 struct gunyah_rpc **late)
{
	const struct gunyah_rm_vmid any = {};

	return gunyah_rm_ask_vmid(rm, GUNYAH_RM_VM_ALLOC_VMID, &any,
				  sizeof(any), vmid, late);
}

int gunyah_rm_vm_start(struct gunyah_rm *rm, u16 vmid, struct gunyah_rpc **late)
{
	const struct gunyah_rm_vmid request = { .vmid = cpu_to_le16(vmid) };

	return gunyah_rm_call_late(rm, GUNYAH_RM_VM_START, &request,
				   sizeof(request), late);
}

int gunyah_rm_vm_call(struct gunyah_rm *rm, u32 message, u16 vmid)
{
	const struct gunyah_rm_vmid request = { .vmid = cpu_to_le16(vmid) };

	return gunyah_rm_call(rm, message, &request, sizeof(request), NULL);
}

int gunyah_rm_vm_stop(struct gunyah_rm *rm, u16 vmid)
{
	const struct {
		__le16 vmid;
		u8 flags;
		u8 reserved;
		__le32 reason;
	} __packed request = {
		.vmid = cpu_to_le16(vmid),
		.flags = BIT(0), /* by force */
		.reason = cpu_to_le32(GUNYAH_RM_STOP_FORCED),
	};

	return gunyah_rm_call(rm, GUNYAH_RM_VM_STOP, &request, sizeof(request),
			      NULL);
}

int gunyah_rm_vm_config_image(struct gunyah_rm *rm, u16 vmid,
			      const struct gunyah_rm_image *image)
{
	const struct {
		__le16 vmid;
		__le16 auth; /* none */
		__le32 handle;
		__le64 image_offset;
		__le64 image_size;
		__le64 dtb_offset;
		__le64 dtb_size;
	} __packed request = {
		.vmid = cpu_to_le16(vmid),
		.handle = cpu_to_le32(image->handle),
		.image_offset = cpu_to_le64(image->image_offset),
		.image_size = cpu_to_le64(image->image_size),
		.dtb_offset = cpu_to_le64(image->dtb_offset),
		.dtb_size = cpu_to_le64(image->dtb_size),
	};

	return gunyah_rm_call(rm, GUNYAH_RM_VM_CONFIG_IMAGE, &request,
			      sizeof(request), NULL);
}

struct gunyah_rm_demand_paging {
	__le16 vmid;
	__le16 reserved;
	__le32 nr;
	struct gunyah_rm_range ranges[];
} __packed;

int gunyah_rm_vm_set_demand_paging(struct gunyah_rm *rm, u16 vmid,
				   const struct gunyah_rm_range *ranges, u32 nr)
{
	struct gunyah_rm_demand_paging *request;
	size_t size = struct_size(request, ranges, nr);
	int err;

	request = kzalloc(size, GFP_KERNEL);
	if (!request)
		return -ENOMEM;
	request->vmid = cpu_to_le16(vmid);
	request->nr = cpu_to_le32(nr);
	memcpy(request->ranges, ranges, nr * sizeof(*ranges));
	err = gunyah_rm_call(rm, GUNYAH_RM_VM_SET_DEMAND_PAGING, request, size,
			     NULL);
	kfree(request);
	return err;
}

int gunyah_rm_vm_set_address_layout(struct gunyah_rm *rm, u16 vmid, u64 base,
				    u64 size)
{
	const struct {
		__le16 vmid;
		__le16 reserved;
		__le32 range; /* the image's */
		__le64 base;
		__le64 size;
	} __packed request = {
		.vmid = cpu_to_le16(vmid),
		.base = cpu_to_le64(base),
		.size = cpu_to_le64(size),
	};

	return gunyah_rm_call(rm, GUNYAH_RM_VM_SET_ADDRESS_LAYOUT, &request,
			      sizeof(request), NULL);
}

int gunyah_rm_vm_set_boot_context(struct gunyah_rm *rm, u16 vmid, u8 reg_set,
				  u8 index, u64 value)
{
	const struct {
		__le16 vmid;
		u8 reg_set;
		u8 index;
		__le32 reserved;
		__le64 value;
	} __packed request = {
		.vmid = cpu_to_le16(vmid),
		.reg_set = reg_set,
		.index = index,
		.value = cpu_to_le64(value),
	};

	return gunyah_rm_call(rm, GUNYAH_RM_VM_SET_BOOT_CONTEXT, &request,
			      sizeof(request), NULL);
}

int gunyah_rm_vm_get_resources(struct gunyah_rm *rm, u16 vmid,
			       int (*fn)(void *data,
					 const struct gunyah_rm_resource *res),
			       void *data)
{
	const struct gunyah_rm_vmid request = { .vmid = cpu_to_le16(vmid) };
	const struct gunyah_rm_resource *res;
	struct gunyah_rpc *rpc;
	__le32 nr;
	u32 i;
	int err;

	err = gunyah_rm_call(rm, GUNYAH_RM_VM_GET_HYP_RESOURCES, &request,
			     sizeof(request), &rpc);
	if (err)
		goto put;
	err = -EBADMSG;
	if (rpc->size < sizeof(nr))
		goto put;
	memcpy(&nr, rpc->reply, sizeof(nr));
	if ((rpc->size - sizeof(nr)) / sizeof(*res) < le32_to_cpu(nr))
		goto put;

	res = rpc->reply + sizeof(nr);
	err = 0;
	for (i = 0; !err && i < le32_to_cpu(nr); i++)
		err = fn(data, &res[i]);
put:
	gunyah_rpc_put(rpc);
	return err;
}
