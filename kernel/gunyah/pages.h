/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest has of each page of its address space: some bits per GFN, packed.
 * All under gunyah_vm.mem_lock.
 */
#ifndef _GMEM_GUNYAH_PAGES_H
#define _GMEM_GUNYAH_PAGES_H

#include <linux/bits.h>
#include <linux/gmem.h>
#include <linux/types.h>

#include "hypercall.h"

struct gunyah_vm;

/* The guest's extent owns it. */
#define GUNYAH_PAGE_DONATED BIT(0)
/* And the guest's address space shows it. */
#define GUNYAH_PAGE_MAPPED BIT(1)
/* By the extents for shared memory, not those for private. */
#define GUNYAH_PAGE_SHARED BIT(2)
/* It is in a parcel. */
#define GUNYAH_PAGE_PARCEL BIT(3)
/* With extents: GUNYAH_ACCESS bits, to map it anew with. */
#define GUNYAH_PAGE_ACCESS GENMASK(6, 4)

u32 gunyah_pages_get(struct gunyah_vm *g, unsigned long gfn);
/* On -ENOMEM none has flags. That can't happen if all had some, or @flags is 0. */
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
