/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory by extents: the host donates a folio from its extent to the guest's
 * extent, then maps it in the guest's address space. One pair of extents is for
 * lent memory (private), another pair for shared memory. All under
 * gunyah_vm.mem_lock.
 */
#ifndef _GMEM_GUNYAH_EXTENT_H
#define _GMEM_GUNYAH_EXTENT_H

#include <linux/types.h>

struct folio;
struct gunyah_vm;

int gunyah_extent_provide(struct gunyah_vm *g, unsigned long gfn,
			  struct folio *folio, u32 map_flags);
int gunyah_extent_reclaim(struct gunyah_vm *g, unsigned long gfn,
			  struct folio *folio);
/*
 * Take @folio out of the guest's address space, if it is there. A caller that
 * reclaims many folios does this for all of them first. Without @sync vCPUs may
 * use the mapping until the next call with @sync.
 */
void gunyah_extent_unmap(struct gunyah_vm *g, unsigned long gfn,
			 struct folio *folio, bool sync);

#endif /* _GMEM_GUNYAH_EXTENT_H */
