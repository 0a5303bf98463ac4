/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_CACHE_H
#define _GMEM_GUNYAH_CACHE_H

struct folio;

/* Call this first. */
void gunyah_cache_init(void);
/*
 * Write the cache lines of @folio to memory and drop them: a guest whose MMU is
 * off reads and writes past the caches. -EHWPOISON if a part of @folio is
 * broken.
 */
int gunyah_cache_clean(struct folio *folio);
/*
 * Drop the cache lines of @folio, which has just come back from the guest. A
 * CPU may have fetched lines through the linear address, after
 * gunyah_cache_clean() and before the guest got the page.
 */
void gunyah_cache_refresh(struct folio *folio);

#endif /* _GMEM_GUNYAH_CACHE_H */
