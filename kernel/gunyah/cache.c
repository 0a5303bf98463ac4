// SPDX-License-Identifier: GPL-2.0
/*
 * A guest starts with its MMU off: what the host wrote, zeroes that hide another owner's
 * data included, must be in memory by then, and no stale line may be left for when the
 * host gets the page back.
 */
#include <linux/libnvdimm.h>
#include <linux/mm.h>

#include <asm/cacheflush.h>

#include "cache.h"

int gunyah_cache_clean(struct folio *folio)
{
	void *addr = folio_address(folio);

	if (folio_test_hwpoison(folio) ||
	    (folio_test_large(folio) && folio_test_has_hwpoisoned(folio)))
		return -EHWPOISON;

	/* To the point of persistence, which is no nearer than that of coherency. */
	arch_wb_cache_pmem(addr, folio_size(folio));
	arch_invalidate_pmem(addr, folio_size(folio));
	/* The instruction caches may have what was there before. */
	caches_clean_inval_pou((unsigned long)addr,
			       (unsigned long)addr + folio_size(folio));
	return 0;
}
