/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory by extents: a folio is donated from the host's extent to the guest's, and that
 * is mapped in the guest's address space. There is a pair of extents for what is lent
 * (private), and one for what is shared. All under gunyah_vm.mem_lock.
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
 * Take @folio out of the guest's address space, unless it isn't there: what can be done
 * for many before they are donated back. Without @sync it may take until the next
 * call that has it.
 */
void gunyah_extent_unmap(struct gunyah_vm *g, unsigned long gfn,
			 struct folio *folio, bool sync);

#endif /* _GMEM_GUNYAH_EXTENT_H */
