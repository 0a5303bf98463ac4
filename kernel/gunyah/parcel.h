/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A parcel: a guest range that the RM lends or shares as a whole, and gives
 * back as a whole. All under gunyah_vm.mem_lock unless noted.
 */
#ifndef _GMEM_GUNYAH_PARCEL_H
#define _GMEM_GUNYAH_PARCEL_H

#include <linux/list.h>
#include <linux/types.h>

struct gunyah_rm_sgl_entry;
struct gunyah_rpc;
struct gunyah_vm;

/* A label is the guest address in units of 4 KiB: 32 bits. */
#define GUNYAH_LABEL_SHIFT 12
/* That of the image, where the guest's device tree places it. */
#define GUNYAH_LABEL_IMAGE 0
/* The number of parcels that the public RM grants a VM. */
#define GUNYAH_USUAL_PARCELS 64

/**
 * struct gunyah_parcel - a guest range that is lent or shared as a whole
 * @list: entry in gunyah_vm.parcels, or in a list of staged parcels
 * @handle: the RM's name of the parcel, or GUNYAH_RM_NO_HANDLE
 * @lend: true: lent; false: shared
 * @access: GUNYAH_ACCESS bits of the guest
 * @added: given after VM_START: the guest has it only if it accepts it
 * @label: the name of the parcel in the guest
 * @gfn: first guest page
 * @nr: number of pages
 * @entries: physical ranges, in the order of the guest pages
 * @nr_entries: number of @entries
 * @room: number of entries that the allocation of @entries holds
 * @late: a request about the parcel without a clear answer yet: to lend or
 *	share it while there is no handle, else to reclaim it
 * @asked: an earlier request to reclaim it has no answer
 * @ask_again: until then, while the VM is open, @late isn't sent once more: each
 *	request waits for its answer; in jiffies
 * @refused: 0, or an errno: the RM will never give the parcel back
 */
struct gunyah_parcel {
	struct list_head list;
	u32 handle;
	bool lend;
	u8 access;
	bool added;
	u32 label;
	unsigned long gfn;
	unsigned long nr;
	struct gunyah_rm_sgl_entry *entries;
	size_t nr_entries;
	size_t room;
	struct gunyah_rpc *late;
	bool asked;
	unsigned long ask_again;
	int refused;
};

static inline unsigned long gunyah_parcel_last(const struct gunyah_parcel *p)
{
	return p->gfn + p->nr - 1;
}

/* NULL without memory. */
struct gunyah_parcel *gunyah_parcel_alloc(unsigned long gfn, bool lend,
					  u8 access, u32 label);
void gunyah_parcel_free(struct gunyah_parcel *p);
/* Append physical pages to the parcel. -ENOMEM */
int gunyah_parcel_add(struct gunyah_parcel *p, u64 base, u64 size);
/*
 * Make a parcel, unknown to the RM, with @nr pages of @p from @gfn on; NULL
 * without memory.
 */
struct gunyah_parcel *gunyah_parcel_slice(const struct gunyah_parcel *p,
					  unsigned long gfn, unsigned long nr);
/* The label of a parcel that isn't the image. */
u32 gunyah_parcel_label(unsigned long gfn);

/*
 * Ask the RM to lend or share the parcel. After an error the RM may have it, or
 * a part of it: gunyah_parcel_return() takes that back. With @killable, a killed
 * task gets -EINTR after the message that the RM is working on.
 */
int gunyah_parcel_give(struct gunyah_vm *g, struct gunyah_parcel *p,
		       bool killable);
/*
 * Take the parcel back from the RM. After 0 the RM doesn't have it; after an
 * error the RM may still have it. -EBUSY: the guest uses it, or the RM hasn't
 * released it yet. When the VM ends, @refused tells whether to try again.
 */
int gunyah_parcel_return(struct gunyah_vm *g, struct gunyah_parcel *p,
			 bool sanitize);

#endif /* _GMEM_GUNYAH_PARCEL_H */
