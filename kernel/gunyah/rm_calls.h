/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls to the RM about VMs. Each returns 0 or an errno. Where @late is an
 * argument, -ETIMEDOUT sets it to the request, which the RM may still carry
 * out; any other result sets it to NULL.
 */
#ifndef _GMEM_GUNYAH_RM_CALLS_H
#define _GMEM_GUNYAH_RM_CALLS_H

#include <linux/errno.h>
#include <linux/types.h>

struct gunyah_rm;
struct gunyah_rm_range;
struct gunyah_rm_resource;
struct gunyah_rpc;

/*
 * Is @err of a call that the RM may still carry out, or that it didn't get? The
 * other errors are answers.
 */
static inline bool gunyah_rm_is_slow(int err)
{
	return err == -ETIMEDOUT || err == -EIO || err == -ENOMEM;
}

/*
 * Find out which optional calls the RM has: ask it to carry them out for a VM
 * that doesn't exist.
 */
int gunyah_rm_probe(struct gunyah_rm *rm);

/* The VMID of the VM that this kernel runs in. */
int gunyah_rm_get_vmid(struct gunyah_rm *rm, u16 *vmid);
/* -ENOSPC: no VMID is left. */
int gunyah_rm_alloc_vmid(struct gunyah_rm *rm, u16 *vmid,
			 struct gunyah_rpc **late);
/* The VMID in a reply to VM_ALLOC_VMID. -EBADMSG if there is none. */
int gunyah_rm_reply_vmid(const struct gunyah_rpc *rpc, u16 *vmid);
/* Requests with only a VMID. */
int gunyah_rm_vm_call(struct gunyah_rm *rm, u32 message, u16 vmid);
int gunyah_rm_vm_call_late(struct gunyah_rm *rm, u32 message, u16 vmid,
			   struct gunyah_rpc **late);
/* -EBADFD: the guest doesn't run. */
int gunyah_rm_vm_stop(struct gunyah_rm *rm, u16 vmid);

/* The place of the image in the parcel @handle, and of its device tree. */
struct gunyah_rm_image {
	u32 handle;
	u64 image_offset;
	u64 image_size;
	u64 dtb_offset;
	u64 dtb_size;
};

int gunyah_rm_vm_config_image(struct gunyah_rm *rm, u16 vmid,
			      const struct gunyah_rm_image *image);

int gunyah_rm_vm_set_demand_paging(struct gunyah_rm *rm, u16 vmid,
				   const struct gunyah_rm_range *ranges,
				   u32 nr);
/* Set the guest address range of the image. */
int gunyah_rm_vm_set_address_layout(struct gunyah_rm *rm, u16 vmid, u64 base,
				    u64 size);
int gunyah_rm_vm_set_boot_context(struct gunyah_rm *rm, u16 vmid, u8 reg_set,
				  u8 index, u64 value);

/* Call @fn for each resource until it returns an error. */
int gunyah_rm_vm_get_resources(struct gunyah_rm *rm, u16 vmid,
			       int (*fn)(void *data,
					 const struct gunyah_rm_resource *res),
			       void *data);

#endif /* _GMEM_GUNYAH_RM_CALLS_H */
