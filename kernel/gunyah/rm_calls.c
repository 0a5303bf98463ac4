// SPDX-License-Identifier: GPL-2.0-only
/* Calls to the RM about VMs. */
#include <linux/errno.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "rm.h"
#include "rm_calls.h"
#include "rm_connection.h"
#include "rm_rpc.h"
#include "rm_wire.h"

/* Like gunyah_rm_call(), but @late is NULL unless the call timed out. */
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

/* Make a call whose reply is a VMID. */
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

/* Turn the result of a request for GUNYAH_RM_NO_VMID into a flag. */
static int gunyah_rm_knows(int err, bool *known)
{
	if (gunyah_rm_is_slow(err))
		return err;
	*known = err != -EOPNOTSUPP;
	return 0;
}

int gunyah_rm_probe(struct gunyah_rm *rm)
{
	int err;

	err = gunyah_rm_vm_set_demand_paging(rm, GUNYAH_RM_NO_VMID, NULL, 0);
	err = gunyah_rm_knows(err, &rm->demand_paging);
	if (err)
		return err;
	err = gunyah_rm_vm_set_boot_context(rm, GUNYAH_RM_NO_VMID, 0, 0, 0);
	return gunyah_rm_knows(err, &rm->boot_context);
}

int gunyah_rm_alloc_vmid(struct gunyah_rm *rm, u16 *vmid,
			 struct gunyah_rpc **late)
{
	const struct gunyah_rm_vmid any = {};
	int err;

	err = gunyah_rm_ask_vmid(rm, GUNYAH_RM_VM_ALLOC_VMID, &any,
				 sizeof(any), vmid, late);
	/* NORESOURCE: each VMID is in use. */
	return err == -ENODEV ? -ENOSPC : err;
}

int gunyah_rm_vm_call_late(struct gunyah_rm *rm, u32 message, u16 vmid,
			   struct gunyah_rpc **late)
{
	const struct gunyah_rm_vmid request = { .vmid = cpu_to_le16(vmid) };

	return gunyah_rm_call_late(rm, message, &request, sizeof(request),
				   late);
}

int gunyah_rm_vm_call(struct gunyah_rm *rm, u32 message, u16 vmid)
{
	const struct gunyah_rm_vmid request = { .vmid = cpu_to_le16(vmid) };

	return gunyah_rm_call(rm, message, &request, sizeof(request), NULL);
}

int gunyah_rm_vm_stop(struct gunyah_rm *rm, u16 vmid)
{
	const struct gunyah_rm_stop request = {
		.vmid = cpu_to_le16(vmid),
		.flags = GUNYAH_RM_STOP_BY_FORCE,
		.reason = cpu_to_le32(GUNYAH_RM_STOP_FORCED),
	};

	return gunyah_rm_call(rm, GUNYAH_RM_VM_STOP, &request, sizeof(request),
			      NULL);
}

int gunyah_rm_vm_config_image(struct gunyah_rm *rm, u16 vmid,
			      const struct gunyah_rm_image *image)
{
	const struct gunyah_rm_config_image request = {
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
	const struct gunyah_rm_address_layout request = {
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
	const struct gunyah_rm_boot_context request = {
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
