/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Broken pages: memory_failure() has found them in the page cache of a guestmem.
 */
#ifndef _GMEM_POISON_H
#define _GMEM_POISON_H

#include <linux/types.h>

struct address_space;
struct folio;
struct gmem_mem;

int gmem_poison_init(void);
void gmem_poison_exit(void);

/* Set up a new guestmem; stop after its last folio is gone. */
void gmem_poison_init_mem(struct gmem_mem *mem);
void gmem_poison_exit_mem(struct gmem_mem *mem);

/* Operations of the page cache. Folio lock. */
int gmem_poison_error_remove_folio(struct address_space *mapping,
				   struct folio *folio);
bool gmem_poison_release_folio(struct folio *folio, gfp_t gfp);

/*
 * Split the huge folios with broken pages in [@first, @last], so that only the
 * broken pages themselves are lost when the folios are freed. -EAGAIN: somebody
 * holds one; -EBUSY: somebody has one pinned. Invalidate lock held for writing.
 */
int gmem_poison_split(struct gmem_mem *mem, pgoff_t first, pgoff_t last);
/*
 * Take the lock and split. While somebody holds a folio, try again for up to two
 * seconds, then return -EBUSY; -EINTR on a fatal signal.
 */
int gmem_poison_wait_split(struct gmem_mem *mem, pgoff_t first, pgoff_t last);
/* Split the folio at @index likewise, also if its page is just breaking. */
void gmem_poison_wait_page(struct gmem_mem *mem, pgoff_t index);
/* gmem_folio_remove(), for folios that may be huge and broken. */
void gmem_poison_remove(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

#endif /* _GMEM_POISON_H */
