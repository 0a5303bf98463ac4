/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_LEND_H
#define _GMEM_LEND_H

#include "objects.h"

struct folio;

/*
 * A guest is about to use the page at @index through @b: allocate it if need
 * be, and lend or share it, unless the guest has it. The folio comes back
 * locked and referenced. -ENOMEM, -EHWPOISON, -EBUSY if it is pinned,
 * -ENOTRECOVERABLE if it was leaked, else the error of the provider. Invalidate
 * lock held.
 */
int gmem_lend_get(struct gmem_binding *b, pgoff_t index, struct folio **folio);

/*
 * Wait for a moment until nobody pins the folio; false if it stays pinned. Folio
 * lock held; no page table has the folio.
 */
bool gmem_lend_wait_unpinned(struct folio *folio);

/*
 * The first and the last part of gmem_lend_get(), for a caller that provides
 * many folios in one step: "prepare" does everything that must come before
 * @folio can be provided, "provided" sets its new state. Folio lock held.
 */
int gmem_lend_prepare(struct gmem_binding *b, struct folio *folio);
void gmem_lend_provided(struct gmem_binding *b, struct folio *folio);

/*
 * The host is about to use the page at @index: allocate it if need be, take it
 * back if it is lent. The folio comes back locked and referenced. -ENOMEM,
 * -EHWPOISON, -EACCES if the policy denies it, -EIO if the provider refuses or
 * the folio was leaked. Invalidate lock held.
 */
int gmem_lend_host_get(struct gmem_mem *mem, pgoff_t index,
		       struct folio **folio);

/*
 * As gmem_lend_host_get(), for a device back-end that has a view: a lent page
 * stays lent, and the error is -EACCES.
 */
int gmem_lend_view_get(struct gmem_mem *mem, pgoff_t index,
		       struct folio **folio);

/*
 * Take back the pages of [@first, @last] that the guest of @b holds.
 * GMEM_RECLAIM_HOST takes back only lent pages; any other reason shared pages,
 * too. @nr, if not NULL, grows by the pages that came back. Invalidate lock
 * held for writing.
 *
 * GMEM_RECLAIM_TEARDOWN can't fail. Any other reason stops at the first
 * failure; then the guest may not reach pages that are still its own: see
 * gmem_batch_restore().
 *
 * To take back several ranges or none, call the two steps. After "begin" the
 * guest can't reach the pages, but they aren't the host's yet: if another range
 * fails, gmem_batch_restore() undoes this. "finish" can't fail.
 */
int gmem_lend_reclaim_range(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason, u64 *nr);
int gmem_lend_begin_reclaim(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason);
void gmem_lend_finish_reclaim(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, enum gmem_reclaim_reason reason);

/*
 * Take back pages [@first, @last], which a file is about to lose, from all
 * guests that hold one: all pages or, if one can't be taken back, none.
 */
int gmem_lend_reclaim_file(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

/*
 * A page of @folio broke: guests behind live windows lose the folio at once.
 * Folio lock held.
 */
void gmem_lend_zap_broken(struct gmem_mem *mem, struct folio *folio);

/*
 * Take the broken folios of a file from their guests. The state stays: a huge
 * folio may have sound pages that are still lent, and the host takes these back
 * like any lent page. Invalidate lock held for writing.
 */
void gmem_lend_poison(struct gmem_mem *mem);

#endif /* _GMEM_LEND_H */
