// SPDX-License-Identifier: GPL-2.0
/*
 * A guest starts with its MMU off, so it reads memory past the caches. By then
 * all that the host wrote must be in memory, including the zeroes that hide the
 * data of a previous owner. No cache line of the page may be left either: it
 * would be stale when the host gets the page back.
 */
#include <linux/libnvdimm.h>
#include <linux/mm.h>

#include <asm/cacheflush.h>

#include "../folio.h"
#include "../secret.h"
#include "cache.h"

static void gunyah_cache_clean_range(void *addr, size_t size)
{
	/*
	 * This cleans to the point of persistence, which lies at the point of
	 * coherency or beyond.
	 */
	arch_wb_cache_pmem(addr, size);
	arch_invalidate_pmem(addr, size);
	/* The instruction caches may hold code that was there before. */
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
	/* Any mapping of the page reaches its cache lines. */
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
	 * Under a hypervisor's second stage an invalidation also cleans, so the
	 * writes of the host to a shared page aren't lost. A secret page has no
	 * linear address: only its users can have brought lines into a cache.
	 */
	if (!gmem_folio_broken(folio) && !gmem_folio_is_secret(folio))
		arch_invalidate_pmem(folio_address(folio), folio_size(folio));
}
