/* SPDX-License-Identifier: GPL-2.0 */
/* Calls to the RM about parcels: memory that one VM lends or shares to another. */
#ifndef _GMEM_GUNYAH_RM_MEM_H
#define _GMEM_GUNYAH_RM_MEM_H

#include <linux/types.h>

struct gunyah_rm;
struct gunyah_rm_sgl_entry;
struct gunyah_rpc;

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

#endif /* _GMEM_GUNYAH_RM_MEM_H */
