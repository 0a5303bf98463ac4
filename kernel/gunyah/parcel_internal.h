/* SPDX-License-Identifier: GPL-2.0 */
/* Between parcel.c, which gives, and parcel_take.c, which takes back. */
#ifndef _GMEM_GUNYAH_PARCEL_INTERNAL_H
#define _GMEM_GUNYAH_PARCEL_INTERNAL_H

#include <linux/list.h>
#include <linux/types.h>

struct gunyah_rm_sgl_entry;
struct gunyah_rpc;
struct gunyah_vm;

/**
 * struct gunyah_parcel - a guest range that is lent or shared as a whole
 * @list: in gunyah_vm.parcels, or on the way there
 * @handle: by which the RM knows it; GUNYAH_RM_NO_HANDLE before it says so
 * @lend: or share
 * @access: GUNYAH_ACCESS bits
 * @gfn: its first page
 * @nr: its pages
 * @entries: where they are, in their order
 * @nr_entries: how many
 * @room: for how many there is memory
 * @late: a request about it without a clear answer yet: to give it, while there is no
 *	handle, else to take it back
 * @refused: not 0: it won't come back, so nobody need ask again
 */
struct gunyah_parcel {
	struct list_head list;
	u32 handle;
	bool lend;
	u8 access;
	unsigned long gfn;
	unsigned long nr;
	struct gunyah_rm_sgl_entry *entries;
	size_t nr_entries;
	size_t room;
	struct gunyah_rpc *late;
	int refused;
};

static inline unsigned long gunyah_parcel_last(const struct gunyah_parcel *p)
{
	return p->gfn + p->nr - 1;
}

struct gunyah_parcel *gunyah_parcel_alloc(unsigned long gfn, bool lend,
					  u8 access);
void gunyah_parcel_free(struct gunyah_parcel *p);
/* Add physical pages behind those that it has. -ENOMEM */
int gunyah_parcel_add(struct gunyah_parcel *p, u64 base, u64 size);

/* Ask the RM to lend or share it. */
int gunyah_parcel_give(struct gunyah_vm *g, struct gunyah_parcel *p);
/* It is the guest's: from wherever it is listed to gunyah_vm.parcels. */
void gunyah_parcel_keep(struct gunyah_vm *g, struct gunyah_parcel *p);
/* From gunyah_vm.parcels to no list. */
void gunyah_parcel_unlist(struct gunyah_vm *g, struct gunyah_parcel *p);
/* It isn't the guest's, and in no list but a caller's own. */
void gunyah_parcel_drop(struct gunyah_vm *g, struct gunyah_parcel *p);
/* Until the RM has nothing to do with it any more; an error if it won't let go. */
int gunyah_parcel_return(struct gunyah_vm *g, struct gunyah_parcel *p,
			 bool sanitize);

#endif /* _GMEM_GUNYAH_PARCEL_INTERNAL_H */
