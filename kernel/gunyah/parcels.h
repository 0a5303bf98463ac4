/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory by parcels: guest ranges become parcels of the VM, and come back,
 * whole or in part. All under gunyah_vm.mem_lock unless noted.
 */
#ifndef _GMEM_GUNYAH_PARCELS_H
#define _GMEM_GUNYAH_PARCELS_H

#include <linux/list.h>
#include <linux/types.h>

struct folio;
struct gmem_vm_detail;
struct gunyah_vm;

/*
 * Add @folio to the last parcel of the list @staged, or append a new parcel
 * with it. Does nothing if the guest has @folio already.
 */
int gunyah_parcels_stage(struct gunyah_vm *g, struct list_head *staged,
			 unsigned long gfn, struct folio *folio, u32 map_flags);
/* May the VM get memory? 0, or -EOPNOTSUPP after its start. Needs no lock. */
int gunyah_parcels_open(const struct gunyah_vm *g);
/* Free the staged parcels. */
void gunyah_parcels_unstage(struct gunyah_vm *g, struct list_head *staged);
/*
 * Give the staged parcels to the RM; @staged is empty then. After an error the
 * host has all of their pages again, except after -EUCLEAN: then the RM keeps
 * some of them.
 */
int gunyah_parcels_commit(struct gunyah_vm *g, struct list_head *staged,
			  bool killable);

/*
 * Take pages [@first, @last] back. If that is only a part of a parcel, the rest
 * comes back, too, and goes to the RM again as a new parcel. That is impossible
 * while the guest runs: -EBUSY. If the RM refuses the new parcel, its pages
 * stay with the host until the next request provides them. If the RM is slow,
 * or the task was killed, some of many parcels aren't tried: an error, too.
 */
int gunyah_parcels_take(struct gunyah_vm *g, unsigned long first,
			unsigned long last, bool sanitize);

/* The handle and the first page of the parcel with page @gfn, or -ENOENT. */
int gunyah_parcels_find(struct gunyah_vm *g, unsigned long gfn, u32 *handle,
			unsigned long *first);
/*
 * The @index-th detail of the parcels: the label of each, and the handle of
 * each that the guest must accept. False if there is none; only the first
 * GUNYAH_USUAL_PARCELS parcels have any. Needs no lock and doesn't sleep.
 */
bool gunyah_parcels_detail(struct gunyah_vm *g, unsigned int index,
			   struct gmem_vm_detail *detail);
/*
 * With extents, the guest has started: the pages of the parcel @handle belong
 * to the guest's extent now, and the parcel is gone.
 */
void gunyah_parcels_adopt(struct gunyah_vm *g, u32 handle);
/*
 * The VM has ended: take all parcels back. False: the RM still works on some of
 * them, or on the reset of the VM.
 */
bool gunyah_parcels_settle(struct gunyah_vm *g);
/* Free the parcels that the RM keeps. Takes the lock. */
void gunyah_parcels_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_PARCELS_H */
