/* SPDX-License-Identifier: GPL-2.0-only */
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

/* Does what noop_dirty_folio() does: Android's kernels keep that to themselves. */
bool gmem_folio_dirty(struct address_space *mapping, struct folio *folio);

/*
 * Take @nr pages from @first on out of all page tables that the reverse map knows,
 * as unmap_mapping_pages() does, which Android's kernels keep to themselves.
 */
static inline void gmem_unmap_pages(struct address_space *mapping,
				    pgoff_t first, unsigned long nr,
				    bool even_cows)
{
	unmap_mapping_range(mapping, (loff_t)first << PAGE_SHIFT,
			    (loff_t)nr << PAGE_SHIFT, even_cows);
}

/*
 * Take the folios of [@first, @last] out of the file, and out of all page tables
 * that know them by the reverse map. No guest has one. Invalidate lock held for
 * writing.
 */
void gmem_folio_remove(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

/*
 * Lock an index, so that one user at a time looks up the folio there and
 * decides about it. A task that waits for a folio lock holds a reference, which
 * looks like a pin; a task that waits here holds none yet. -EINTR on a fatal
 * signal; -EAGAIN instead of a wait, unless @wait.
 */
int gmem_folio_lock_index(struct gmem_mem *mem, pgoff_t index, bool wait);
void gmem_folio_unlock_index(struct gmem_mem *mem, pgoff_t index);

/*
 * The folio at @index, allocated and zeroed if there is none; locked and
 * referenced, or -ENOMEM, or -EHWPOISON if the page is broken. With the index
 * locked.
 */
struct folio *gmem_folio_get(struct gmem_mem *mem, pgoff_t index);

/*
 * For a caller that has the contents: "alloc" makes a folio for @index that isn't
 * zeroed and isn't in the file; NULL if there is no memory. Once it is filled,
 * "add_filled" lets the file have it, too; -EEXIST if the file has any of its
 * pages; -ENOMEM, or -EINTR on a fatal signal. A reference stays with the caller.
 * Invalidate lock for "add_filled".
 */
struct folio *gmem_folio_alloc(struct gmem_mem *mem, pgoff_t index,
			       unsigned int order);
int gmem_folio_add_filled(struct gmem_mem *mem, pgoff_t index,
			  struct folio *folio);

/**
 * enum gmem_folio_pins - who refers to a folio that no page table has, except
 *	the page cache and the caller?
 * @GMEM_FOLIO_FREE: nobody
 * @GMEM_FOLIO_PINNED: a device or a system call may use its memory
 * @GMEM_FOLIO_HELD: somebody, perhaps only for a moment: an unmap that isn't
 *	complete, a batch of the LRU lists, a look at the folio; or a pipe, for as
 *	long as it likes
 */
enum gmem_folio_pins {
	GMEM_FOLIO_FREE,
	GMEM_FOLIO_PINNED,
	GMEM_FOLIO_HELD,
};

enum gmem_folio_pins gmem_folio_pins(struct folio *folio);

/* A reference that lasts longer is no brief one. In jiffies. */
#define GMEM_FOLIO_WAIT (2 * HZ)

/*
 * May the caller have the folio alone? 0, -EBUSY, or -EINPROGRESS: the reference
 * may be brief. Then drop all locks, call gmem_folio_wait() and restart. If the
 * reference stays all that time, or each of many waits finds one, the next call
 * returns -EBUSY. With the index locked, or the invalidate lock held for writing.
 */
int gmem_folio_check_pins(struct gmem_mem *mem, struct folio *folio);

/*
 * Wait for the end of a brief reference to the folio at @index, for at most two
 * seconds. 0, or -EINTR at a fatal signal. The caller holds no lock that others
 * need.
 */
int gmem_folio_wait(struct gmem_mem *mem, pgoff_t index);

/* For a caller that can't wait: from now on, gmem_folio_check_pins() is -EBUSY. */
void gmem_folio_give_up(struct gmem_mem *mem, struct folio *folio);

/*
 * Wait for the end of a brief reference with the folio locked, for about a
 * millisecond.
 */
void gmem_folio_settle(struct folio *folio);

/* Is any page of the folio broken? */
bool gmem_folio_broken(const struct folio *folio);

/* Zero the folio, except for its broken pages. */
void gmem_folio_scrub(struct folio *folio);

/* A folio has left the page cache: keep it if it is broken and huge. */
void gmem_folio_freed(struct folio *folio);

/* Allocate [@first, @last], all or nothing. Inode lock. */
int gmem_folio_allocate(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

#endif /* _GMEM_FOLIO_H */
