/* SPDX-License-Identifier: GPL-2.0-only */
/* Calls to the RM about parcels: memory that it lends or shares to a VM. */
#ifndef _GMEM_GUNYAH_RM_MEM_H
#define _GMEM_GUNYAH_RM_MEM_H

#include <linux/types.h>

struct gunyah_rm;
struct gunyah_rm_sgl_entry;
struct gunyah_rpc;

/**
 * struct gunyah_rm_parcel - argument of gunyah_rm_mem_give()
 * @vmid: the VM that gets the memory
 * @lend: true to lend, false to share
 * @access: GUNYAH_ACCESS bits of that VM
 * @label: the name of the parcel in that VM
 * @entries: physical ranges
 * @nr_entries: their number; it may be more than one message holds
 * @killable: a killed task stops between two messages, with -EINTR
 */
struct gunyah_rm_parcel {
	u16 vmid;
	bool lend;
	u8 access;
	u32 label;
	const struct gunyah_rm_sgl_entry *entries;
	size_t nr_entries;
	bool killable;
};

/*
 * MEM_LEND or MEM_SHARE, with as many MEM_APPEND as the entries need. @handle
 * becomes the handle, or GUNYAH_RM_NO_HANDLE. After an error the caller must
 * reclaim a handle if there is one. @late becomes the request if the RM hasn't
 * answered in time, or if the answer makes no sense; else NULL.
 */
int gunyah_rm_mem_give(struct gunyah_rm *rm,
		       const struct gunyah_rm_parcel *parcel, u32 *handle,
		       struct gunyah_rpc **late);
/* The handle in a reply to MEM_LEND or MEM_SHARE. -EBADMSG if there is none. */
int gunyah_rm_mem_handle(const struct gunyah_rpc *rpc, u32 *handle);
/*
 * -ETIMEDOUT sets @late to the request, any other result to NULL. -ENOENT: the RM
 * has no such parcel.
 */
int gunyah_rm_mem_reclaim(struct gunyah_rm *rm, u32 handle, bool sanitize,
			  struct gunyah_rpc **late);

#endif /* _GMEM_GUNYAH_RM_MEM_H */
