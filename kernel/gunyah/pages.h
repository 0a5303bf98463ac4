/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The state of each page of a guest's address space: some bits per GFN, packed.
 * A page without flags belongs to the host. All under gunyah_vm.mem_lock.
 */
#ifndef _GMEM_GUNYAH_PAGES_H
#define _GMEM_GUNYAH_PAGES_H

#include <linux/bits.h>
#include <linux/gmem.h>
#include <linux/types.h>

#include "hypercall.h"

struct gunyah_vm;

/* The guest's extent owns the page. */
#define GUNYAH_PAGE_DONATED BIT(0)
/* The page is mapped in the guest's address space, too. */
#define GUNYAH_PAGE_MAPPED BIT(1)
/* The extents for shared memory are used, not those for private memory. */
#define GUNYAH_PAGE_SHARED BIT(2)
/* The page is in a parcel. */
#define GUNYAH_PAGE_PARCEL BIT(3)
/* With extents: GUNYAH_ACCESS bits, for mapping the page again. */
#define GUNYAH_PAGE_ACCESS GENMASK(6, 4)

u32 gunyah_pages_get(struct gunyah_vm *g, unsigned long gfn);
/*
 * Set the flags of @nr pages. After -ENOMEM none of them has flags. -ENOMEM
 * can't happen if every page has flags already, or if @flags is 0.
 */
int gunyah_pages_set(struct gunyah_vm *g, unsigned long gfn, unsigned long nr,
		     u32 flags);

/* GUNYAH_ACCESS bits from the ALLOW bits of @map_flags. */
static inline u8 gunyah_access(u32 map_flags)
{
	return (map_flags & GMEM_MAP_ALLOW_READ ? GUNYAH_ACCESS_R : 0) |
	       (map_flags & GMEM_MAP_ALLOW_WRITE ? GUNYAH_ACCESS_W : 0) |
	       (map_flags & GMEM_MAP_ALLOW_EXEC ? GUNYAH_ACCESS_X : 0);
}

#endif /* _GMEM_GUNYAH_PAGES_H */
