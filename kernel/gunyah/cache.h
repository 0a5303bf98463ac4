/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_CACHE_H
#define _GMEM_GUNYAH_CACHE_H

struct folio;

/*
 * Bring to memory what the caches have of @folio, and out of them: a guest whose MMU is
 * off reads and writes past them. -EHWPOISON if part of it is broken.
 */
int gunyah_cache_clean(struct folio *folio);
/*
 * Forget what the caches have of @folio, which has just come back: through its linear
 * address the CPU may have fetched lines between the cleaning and the loss.
 */
void gunyah_cache_refresh(struct folio *folio);

#endif /* _GMEM_GUNYAH_CACHE_H */
