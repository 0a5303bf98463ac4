/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_PROVIDER_H
#define _GMEM_PROVIDER_H

#include <linux/types.h>

struct address_space;
struct folio;
struct gmem_vm;

/**
 * struct gmem_provider - what puts pages before a guest
 * @name: as GMEM_INFO and GMEM_VM_CREATE know it
 * @flags: bits of &enum gmem_provider_flags
 * @max_guest_addr_bits: widest guest address space, in bits
 * @map_access: as in &struct gmem_info
 * @ends_with_vm: a VM that goes has no guest that could reach anything, so what it
 *	shares need not be taken back
 * @vm_init: optional; sets up gmem_vm.provider_data
 * @vm_release: optional; undoes @vm_init. No page is provided any more.
 * @provide: let the guest reach @folio, whose first page is @gfn, with the ALLOW
 *	bits of @map_flags. No error if it does already. For lent memory no host
 *	mapping and no pin is left. On failure the folio is wholly the host's
 *	again; if not even that could be done, the error is -EUCLEAN: the folio
 *	then counts as provided, and both @provide and @reclaim get to try again.
 * @reclaim: undo @provide; no error if there is nothing to undo. Afterwards the
 *	guest can't reach the folio. On failure nothing has changed.
 * @reclaim_begin: optional hint: @reclaim of many folios of the file range is
 *	about to come
 *
 * @provide and @reclaim are called with the folio locked and the invalidate lock
 * of its file held, may sleep, and see each folio of a binding whole. Their own
 * locks are the innermost.
 */
struct gmem_provider {
	const char *name;
	u32 flags;
	u32 max_guest_addr_bits;
	u32 map_access;
	bool ends_with_vm;
	int (*vm_init)(struct gmem_vm *vm);
	void (*vm_release)(struct gmem_vm *vm);
	int (*provide)(struct gmem_vm *vm, unsigned long gfn,
		       struct folio *folio, u32 map_flags);
	int (*reclaim)(struct gmem_vm *vm, unsigned long gfn,
		       struct folio *folio);
	void (*reclaim_begin)(struct address_space *mapping, pgoff_t first,
			      pgoff_t last);
};

/* The index of GMEM_INFO; NULL past the last. */
const struct gmem_provider *gmem_provider_at(u32 index);
/* "" is the default one; NULL if there is none of that name. */
const struct gmem_provider *gmem_provider_find(const char *name);
u32 gmem_nr_providers(void);

/* Can it enforce the ALLOW bits of @map_flags exactly? */
bool gmem_provider_can(const struct gmem_provider *provider, u32 map_flags);
/* Can it share pages that it, or another that can, shares already? */
bool gmem_provider_shares_again(const struct gmem_provider *provider);

#endif /* _GMEM_PROVIDER_H */
