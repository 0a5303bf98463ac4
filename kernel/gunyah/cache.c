// SPDX-License-Identifier: GPL-2.0
/*
 * A guest starts with its MMU off: what the host wrote, zeroes that hide another owner's
 * data included, must be in memory by then, and no stale line may be left for when the
 * host gets the page back.
 */
#include <linux/libnvdimm.h>
#include <linux/mm.h>

#include <asm/cacheflush.h>

#include "../folio.h"
#include "../secret.h"
#include "cache.h"

static void gunyah_cache_clean_range(void *addr, size_t size)
{
	/* To the point of persistence, which is no nearer than that of coherency. */
	arch_wb_cache_pmem(addr, size);
	arch_invalidate_pmem(addr, size);
	/* The instruction caches may have what was there before. */
	caches_clean_inval_pou((unsigned long)addr, (unsigned long)addr + size);
}

int gunyah_cache_clean(struct folio *folio)
{
	void *addr;

	if (gmem_folio_broken(folio))
		return -EHWPOISON;
	if (!gmem_folio_is_secret(folio)) {
		gunyah_cache_clean_range(folio_address(folio),
					 folio_size(folio));
		return 0;
	}
	/* Any address of it will do. */
	addr = gmem_secret_map(folio);
	if (!addr)
		return -ENOMEM;
	gunyah_cache_clean_range(addr, folio_size(folio));
	gmem_secret_unmap(addr);
	return 0;
}

void gunyah_cache_refresh(struct folio *folio)
{
	/*
	 * Under a hypervisor's second stage, invalidation cleans, too: what the host has
	 * written to a shared page isn't lost. A page without a linear address has no
	 * lines but those of its users.
	 */
	if (!gmem_folio_broken(folio) && !gmem_folio_is_secret(folio))
		arch_invalidate_pmem(folio_address(folio), folio_size(folio));
}
