// SPDX-License-Identifier: GPL-2.0-only
/*
 * The states of a page, see pages.h:
 *
 *   (no flags)  --donate-->  DONATED  --map-->  DONATED|MAPPED
 *               <--donate--           <-unmap-
 *
 * A step that fails leaves the page where it is, and this file undoes the steps
 * before it. If an undo fails, too, the page stays in state DONATED: the host
 * doesn't own it, and the guest can't reach it. The next provide or reclaim
 * continues from that state.
 */
#include <linux/bitfield.h>
#include <linux/device.h>
#include <linux/gmem.h>
#include <linux/mm.h>

#include "../folio.h"
#include "../objects.h"
#include "cache.h"
#include "extent.h"
#include "hypercall.h"
#include "objects.h"
#include "pages.h"

static int gunyah_extent_error(struct gunyah_vm *g, const char *what,
			       unsigned long gfn, s64 error)
{
	if (error)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): can't %s guest page %#lx: %s (%lld)\n",
				     g->vm->id, g->vmid, what, gfn,
				     gunyah_error_name(error), error);
	return gunyah_error_errno(error);
}

static u64 gunyah_extent_of_host(const struct gunyah_vm *g, u32 flags)
{
	return flags & GUNYAH_PAGE_SHARED ? g->extents.host_shared :
					    g->extents.host_private;
}

static u64 gunyah_extent_of_guest(const struct gunyah_vm *g, u32 flags)
{
	return flags & GUNYAH_PAGE_SHARED ? g->extents.guest_shared :
					    g->extents.guest_private;
}

static int gunyah_extent_donate(struct gunyah_vm *g, unsigned long gfn,
				struct folio *folio, u32 flags)
{
	s64 error;

	error = gunyah_memextent_donate(flags & GUNYAH_PAGE_SHARED ?
						GUNYAH_DONATE_TO_SIBLING :
						GUNYAH_DONATE_TO_PROTECTED,
					gunyah_extent_of_host(g, flags),
					gunyah_extent_of_guest(g, flags),
					PFN_PHYS(folio_pfn(folio)),
					folio_size(folio));
	return gunyah_extent_error(g, "donate", gfn, error);
}

static int gunyah_extent_donate_back(struct gunyah_vm *g, unsigned long gfn,
				     struct folio *folio, u32 flags)
{
	s64 error = 0;

	/*
	 * The last unmap of the range should have waited until no vCPU uses the
	 * mappings, but it failed: wait now.
	 */
	if (g->unsynced)
		error = gunyah_memextent_sync(gunyah_extent_of_guest(g, flags));
	if (error)
		return gunyah_extent_error(g, "wait for the loss of", gfn,
					   error);
	error = gunyah_memextent_donate(flags & GUNYAH_PAGE_SHARED ?
						GUNYAH_DONATE_TO_SIBLING :
						GUNYAH_DONATE_FROM_PROTECTED,
					gunyah_extent_of_guest(g, flags),
					gunyah_extent_of_host(g, flags),
					PFN_PHYS(folio_pfn(folio)),
					folio_size(folio));
	return gunyah_extent_error(g, "take back", gfn, error);
}

static struct gunyah_mapping gunyah_extent_mapping(struct gunyah_vm *g,
						   unsigned long gfn,
						   struct folio *folio,
						   u32 flags)
{
	return (struct gunyah_mapping) {
		.addrspace = g->extents.addrspace,
		.extent = gunyah_extent_of_guest(g, flags),
		.base = PFN_PHYS(gfn),
		.flags = GUNYAH_MAP_PARTIAL |
			 (flags & GUNYAH_PAGE_SHARED ? GUNYAH_MAP_VMMIO :
						       GUNYAH_MAP_PRIVATE),
		.offset = PFN_PHYS(folio_pfn(folio)),
		.size = folio_size(folio),
	};
}

static int gunyah_extent_do_unmap(struct gunyah_vm *g, unsigned long gfn,
				  struct folio *folio, u32 flags, bool sync)
{
	struct gunyah_mapping mapping;
	s64 error;

	mapping = gunyah_extent_mapping(g, gfn, folio, flags);
	if (!sync)
		mapping.flags |= GUNYAH_MAP_NOSYNC;
	error = gunyah_addrspace_unmap(&mapping);
	if (!error)
		g->unsynced = !sync;
	if (!error)
		gunyah_pages_set(g, gfn, folio_nr_pages(folio),
				 flags & ~GUNYAH_PAGE_MAPPED);
	return gunyah_extent_error(g, "unmap", gfn, error);
}

static int gunyah_extent_map(struct gunyah_vm *g, unsigned long gfn,
			     struct folio *folio, u32 flags)
{
	struct gunyah_mapping mapping;
	s64 error;

	mapping = gunyah_extent_mapping(g, gfn, folio, flags);
	error = gunyah_addrspace_map(&mapping,
				     FIELD_GET(GUNYAH_PAGE_ACCESS, flags));
	if (!error)
		gunyah_pages_set(g, gfn, folio_nr_pages(folio),
				 flags | GUNYAH_PAGE_MAPPED);
	return gunyah_extent_error(g, "map", gfn, error);
}

/*
 * Donate the folio to the guest's extent. The flags are stored first, since
 * that needs memory; clearing them needs none.
 */
static int gunyah_extent_give(struct gunyah_vm *g, unsigned long gfn,
			      struct folio *folio, u32 flags)
{
	unsigned long nr = folio_nr_pages(folio);
	int err;

	err = gunyah_cache_clean(folio);
	if (err)
		return err;
	err = gunyah_pages_set(g, gfn, nr, flags);
	if (err)
		return err;
	err = gunyah_extent_donate(g, gfn, folio, flags);
	if (err)
		gunyah_pages_set(g, gfn, nr, 0);
	return err;
}

int gunyah_extent_provide(struct gunyah_vm *g, unsigned long gfn,
			  struct folio *folio, u32 map_flags)
{
	u32 flags = gunyah_pages_get(g, gfn);
	int err;

	if (flags & GUNYAH_PAGE_MAPPED)
		return 0;
	if (!flags) {
		flags = GUNYAH_PAGE_DONATED;
		if ((map_flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_SHARE)
			flags |= GUNYAH_PAGE_SHARED;
		flags |= FIELD_PREP(GUNYAH_PAGE_ACCESS,
				    gunyah_access(map_flags));
		err = gunyah_extent_give(g, gfn, folio, flags);
		if (err)
			return err;
	}

	err = gunyah_extent_map(g, gfn, folio, flags);
	if (!err)
		return 0;
	if (gunyah_extent_donate_back(g, gfn, folio, flags))
		return -EUCLEAN;
	gunyah_pages_set(g, gfn, folio_nr_pages(folio), 0);
	return err;
}

void gunyah_extent_unmap(struct gunyah_vm *g, unsigned long gfn,
			 struct folio *folio, bool sync)
{
	u32 flags = gunyah_pages_get(g, gfn);

	if (flags & GUNYAH_PAGE_MAPPED)
		gunyah_extent_do_unmap(g, gfn, folio, flags, sync);
}

int gunyah_extent_reclaim(struct gunyah_vm *g, unsigned long gfn,
			  struct folio *folio)
{
	u32 flags = gunyah_pages_get(g, gfn);
	int err;

	if (flags & GUNYAH_PAGE_MAPPED) {
		err = gunyah_extent_do_unmap(g, gfn, folio, flags, true);
		if (err)
			return err;
	}
	err = gunyah_extent_donate_back(g, gfn, folio, flags);
	if (!err)
		gunyah_pages_set(g, gfn, folio_nr_pages(folio), 0);
	else if (!gunyah_vm_ended(g) && !gmem_folio_broken(folio))
		gunyah_extent_map(g, gfn, folio, flags & ~GUNYAH_PAGE_MAPPED);
	return err;
}
