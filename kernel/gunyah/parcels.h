/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory by parcels: guest ranges become parcels of the VM, and come back. All
 * under gunyah_vm.mem_lock unless noted.
 */
#ifndef _GMEM_GUNYAH_PARCELS_H
#define _GMEM_GUNYAH_PARCELS_H

#include <linux/list.h>
#include <linux/types.h>

struct folio;
struct gunyah_vm;

/*
 * Add @folio to the last parcel of @staged, or to a new one behind that, unless the
 * guest has it already.
 */
int gunyah_parcels_stage(struct gunyah_vm *g, struct list_head *staged,
			 unsigned long gfn, struct folio *folio, u32 map_flags);
void gunyah_parcels_unstage(struct gunyah_vm *g, struct list_head *staged);
/* Give away what is staged: all or nothing, or -EUCLEAN. @staged is empty then. */
int gunyah_parcels_commit(struct gunyah_vm *g, struct list_head *staged);

/*
 * Take pages [@first, @last] back. Where that takes a part of a parcel, the rest of it
 * comes back, too, and is given anew, which can't be while the guest runs: -EBUSY.
 * What of that fails is the host's, and given when it is next asked for.
 */
int gunyah_parcels_take(struct gunyah_vm *g, unsigned long first,
			unsigned long last, bool sanitize);

/* The parcel with guest page @gfn: its handle and first page; -ENOENT. */
int gunyah_parcels_find(struct gunyah_vm *g, unsigned long gfn, u32 *handle,
			unsigned long *first);
/*
 * The label of the @index-th parcel, or false; of so many as go into one message of netlink's.
 * Doesn't sleep.
 */
bool gunyah_parcels_label_at(struct gunyah_vm *g, unsigned int index, u64 *label);
/* With extents: the pages of the image belong to them once the guest has started. */
void gunyah_parcels_adopt(struct gunyah_vm *g, u32 handle);
/* The VM is gone. Takes the lock. */
void gunyah_parcels_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_PARCELS_H */
