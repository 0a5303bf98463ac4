/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory by parcels: guest ranges that the RM lends or shares as a whole, and takes back
 * as a whole. All under gunyah_vm.mem_lock unless noted.
 */
#ifndef _GMEM_GUNYAH_PARCEL_H
#define _GMEM_GUNYAH_PARCEL_H

#include <linux/list.h>
#include <linux/types.h>

struct folio;
struct gunyah_vm;

/* A parcel is labelled with its guest address, in units of 4 KiB: 32 bits. */
#define GUNYAH_LABEL_SHIFT 12
/* What the public RM grants a VM. */
#define GUNYAH_USUAL_PARCELS 64

/*
 * Add @folio to the last parcel of @staged, or to a new one behind that, unless the
 * guest has it already.
 */
int gunyah_parcel_stage(struct gunyah_vm *g, struct list_head *staged,
			unsigned long gfn, struct folio *folio, u32 map_flags);
void gunyah_parcel_unstage(struct gunyah_vm *g, struct list_head *staged);
/* Give away what is staged: all or nothing, or -EUCLEAN. @staged is empty then. */
int gunyah_parcel_commit(struct gunyah_vm *g, struct list_head *staged);

/*
 * Take pages [@first, @last] back. Where that takes a part of a parcel, the rest of it
 * comes back, too, and is given anew, which can't be while the guest runs: -EBUSY.
 * What of that fails is the host's, and given when it is next asked for.
 */
int gunyah_parcel_take(struct gunyah_vm *g, unsigned long first,
		       unsigned long last, bool sanitize);

/* The parcel with guest page @gfn: its handle and first page; -ENOENT. */
int gunyah_parcel_find(struct gunyah_vm *g, unsigned long gfn, u32 *handle,
		       unsigned long *first);
/*
 * The label of the @index-th parcel, or false; of so many as go into one message of netlink's.
 * Doesn't sleep.
 */
bool gunyah_parcel_label_at(struct gunyah_vm *g, unsigned int index, u64 *label);
/* With extents: the pages of the image belong to them once the guest has started. */
void gunyah_parcel_adopt(struct gunyah_vm *g, u32 handle);
/* The VM is gone. Takes the lock. */
void gunyah_parcels_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_PARCEL_H */
