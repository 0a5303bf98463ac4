/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the RM can be asked, as functions. Each returns 0 or an errno. Where @late is an
 * argument, on -ETIMEDOUT it becomes the request that may yet be fulfilled, else NULL.
 */
#ifndef _GMEM_GUNYAH_RM_CALLS_H
#define _GMEM_GUNYAH_RM_CALLS_H

#include <linux/types.h>

struct gunyah_rm;
struct gunyah_rm_range;
struct gunyah_rm_resource;
struct gunyah_rm_sgl_entry;
struct gunyah_rpc;

int gunyah_rm_get_vmid(struct gunyah_rm *rm, u16 *vmid);
int gunyah_rm_alloc_vmid(struct gunyah_rm *rm, u16 *vmid,
			 struct gunyah_rpc **late);
/* The VMID in the reply to that. */
int gunyah_rm_reply_vmid(const struct gunyah_rpc *rpc, u16 *vmid);
/* VM_DEALLOC_VMID, _INIT, _RESET: the VMID alone. */
int gunyah_rm_vm_call(struct gunyah_rm *rm, u32 message, u16 vmid);
int gunyah_rm_vm_start(struct gunyah_rm *rm, u16 vmid,
		       struct gunyah_rpc **late);
int gunyah_rm_vm_stop(struct gunyah_rm *rm, u16 vmid);

/* Where the image, and in it the device tree, lies in a parcel. */
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
				   const struct gunyah_rm_range *ranges, u32 nr);
/* Of the image. */
int gunyah_rm_vm_set_address_layout(struct gunyah_rm *rm, u16 vmid, u64 base,
				    u64 size);
int gunyah_rm_vm_set_boot_context(struct gunyah_rm *rm, u16 vmid, u8 reg_set,
				  u8 index, u64 value);

/* Calls @fn for each resource until one returns an error. */
int gunyah_rm_vm_get_resources(struct gunyah_rm *rm, u16 vmid,
			       int (*fn)(void *data,
					 const struct gunyah_rm_resource *res),
			       void *data);

/* ---- parcels ---- */

/**
 * struct gunyah_rm_parcel - what is lent or shared
 * @vmid: to whom
 * @lend: or share
 * @access: GUNYAH_ACCESS bits of the other
 * @label: by which the other knows it
 * @entries: physical ranges
 * @nr_entries: how many; more than a message holds are appended
 */
struct gunyah_rm_parcel {
	u16 vmid;
	bool lend;
	u8 access;
	u32 label;
	const struct gunyah_rm_sgl_entry *entries;
	size_t nr_entries;
};

/*
 * MEM_LEND or MEM_SHARE, with MEM_APPEND as often as it takes. @handle is
 * GUNYAH_RM_NO_HANDLE unless there is one, which on failure has to be reclaimed. @late is
 * there, too, if the answer wasn't understood.
 */
int gunyah_rm_mem_give(struct gunyah_rm *rm,
		       const struct gunyah_rm_parcel *parcel, u32 *handle,
		       struct gunyah_rpc **late);
/* The handle in the reply to a MEM_LEND or MEM_SHARE; -EBADMSG if there is none. */
int gunyah_rm_mem_handle(const struct gunyah_rpc *rpc, u32 *handle);
int gunyah_rm_mem_reclaim(struct gunyah_rm *rm, u32 handle, bool sanitize,
			  struct gunyah_rpc **late);

#endif /* _GMEM_GUNYAH_RM_CALLS_H */
