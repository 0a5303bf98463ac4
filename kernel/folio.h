/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The folios of a guestmem and their states.
 *
 * A mark of the page cache entry holds a folio's state. Marks survive the split
 * of a huge folio, the kernel can search and count them, and they cost nothing.
 * Nothing is ever written back from a guestmem, so the marks have no other
 * user. The folio lock protects the state.
 */
#ifndef _GMEM_FOLIO_H
#define _GMEM_FOLIO_H

#include <linux/pagemap.h>
#include <linux/types.h>

struct gmem_mem;

/* Only the guest has it. */
#define GMEM_FOLIO_LENT PAGECACHE_TAG_TOWRITE
/* A guest has used it through a shared binding. */
#define GMEM_FOLIO_SHARED PAGECACHE_TAG_WRITEBACK
/* Its provider never gave it back; its VM is gone. */
#define GMEM_FOLIO_LEAKED PAGECACHE_TAG_DIRTY

static inline bool gmem_folio_is(struct folio *folio, xa_mark_t state)
{
	return xa_get_mark(&folio->mapping->i_pages, folio->index, state);
}

/* Change the state, and the guestmem's counts with it. Folio lock. */
void gmem_folio_set(struct gmem_mem *mem, struct folio *folio, xa_mark_t state);
void gmem_folio_clear(struct gmem_mem *mem, struct folio *folio,
		      xa_mark_t state);

/*
 * Take the folios of [@first, @last] out of the file, and out of all page tables
 * that know them by the reverse map. No guest has one. Invalidate lock held for
 * writing.
 */
void gmem_folio_remove(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

/*
 * Lock an index, so that one user at a time looks up the folio there and
 * decides about it. A task that waits for a folio lock holds a reference, which
 * looks like a pin; a task that waits here holds none yet.
 */
void gmem_folio_lock_index(struct gmem_mem *mem, pgoff_t index);
void gmem_folio_unlock_index(struct gmem_mem *mem, pgoff_t index);

/*
 * The folio at @index, allocated and zeroed if there is none; locked and
 * referenced, or -ENOMEM, or -EHWPOISON if the page is broken. With the index
 * locked.
 */
struct folio *gmem_folio_get(struct gmem_mem *mem, pgoff_t index);

/*
 * Does anybody hold the folio except the page cache, page tables and the
 * caller?
 */
bool gmem_folio_pinned(struct folio *folio);

/* Is any page of the folio broken? */
bool gmem_folio_broken(const struct folio *folio);

/* Zero the folio, except for its broken pages. */
void gmem_folio_scrub(struct folio *folio);

/*
 * For tests: fill a folio that has left the file with GMEM_TEST_FREED. The page
 * table entries of a live window hold no references: a guest that has kept one
 * reads this.
 */
void gmem_folio_mark_freed(struct folio *folio);

/* Allocate [@first, @last], all or nothing. Inode lock. */
int gmem_folio_allocate(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

#endif /* _GMEM_FOLIO_H */
