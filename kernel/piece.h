/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Long operations go in pieces, so that no other user of the file waits for the
 * whole.
 *
 * An operation holds the invalidate lock for one piece at a time, and its waits
 * for the lock end with a fatal signal. The lock is fair: tasks that wait when a
 * piece ends get their turn before the next one.
 *
 * Between two pieces other tasks go on, so an operation that has taken pages from
 * a guest must keep the guest from getting them again. A guest gets a page only
 * under the invalidate lock, and after a look at two ranges:
 *
 * - gmem_vm.unmap_first to unmap_last: pages of this guest that an unmap, a
 *   reclaim or a discard takes back, or that change in place;
 * - gmem_mem.punch_first to punch_last: pages of this file that are about to be
 *   freed.
 *
 * Where one of them has the page, the guest waits for its end. An operation
 * publishes the range before it first takes the lock. So a task that takes the
 * lock later sees the range, and a task that had it before is done. The end of a
 * VM needs no range: no guest is left.
 *
 * The state of the pages doesn't change before the operation is sure to succeed.
 * The host may touch them meanwhile and takes them back page by page, as always. A
 * change in place is the exception: it changes states and may still fail. So the
 * host, too, is kept from the lent pages of its range, and waits for its end.
 */
#ifndef _GMEM_PIECE_H
#define _GMEM_PIECE_H

#include <linux/minmax.h>
#include <linux/pagemap.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>

#include "objects.h"

/* A piece has this many pages, or is one huge page. */
#define GMEM_PIECE_PAGES (SZ_512K >> PAGE_SHIFT)

/* Where a provider takes many pages back at once, or not at all. */
#define GMEM_ALL_PAGES (1UL << (BITS_PER_LONG - 1))

/* Where each piece looks at all bindings, and does little for a page. */
#define GMEM_SHARED_PIECE_PAGES (SZ_8M >> PAGE_SHIFT)

/*
 * The last page of the piece of [@first, @last] that begins at @first, and has
 * @pages at most.
 */
static inline pgoff_t gmem_piece_last_of(const struct gmem_mem *mem,
					 pgoff_t first, pgoff_t last,
					 pgoff_t pages)
{
	pages = max(pages, 1UL << mem->order);
	return min(round_down(first, pages) + pages - 1, last);
}

static inline pgoff_t gmem_piece_last(const struct gmem_mem *mem, pgoff_t first,
				      pgoff_t last)
{
	return gmem_piece_last_of(mem, first, last, GMEM_PIECE_PAGES);
}

/*
 * Skip pages that aren't in @state, at the begin of [*first, @last]; false if no
 * page is left. Without the invalidate lock, the caller must know that no page
 * gets the state meanwhile.
 */
static inline bool gmem_piece_find(const struct gmem_mem *mem, pgoff_t *first,
				   pgoff_t last, xa_mark_t state)
{
	pgoff_t index = *first;

	if (!xa_find(&mem->inode.i_mapping->i_pages, &index, last, state))
		return false;
	/* An entry may begin before the range. */
	*first = max(*first, index);
	return true;
}

/* Is every guest kept from a page of [@first, @last]? Invalidate lock. */
static inline bool gmem_mem_punching(const struct gmem_mem *mem, pgoff_t first,
				     pgoff_t last)
{
	return last >= READ_ONCE(mem->punch_first) &&
	       first <= READ_ONCE(mem->punch_last);
}

static inline void gmem_mem_begin_punch(struct gmem_mem *mem, pgoff_t first,
					pgoff_t last)
{
	WRITE_ONCE(mem->punch_first, first);
	WRITE_ONCE(mem->punch_last, last);
}

static inline void gmem_mem_end_punch(struct gmem_mem *mem)
{
	WRITE_ONCE(mem->punch_last, 0);
	WRITE_ONCE(mem->punch_first, ULONG_MAX);
	smp_mb(); /* the range, then a look for tasks that wait */
	wake_up_var(&mem->punch_first);
}

/* Wait for the end of that. -EINTR on a fatal signal. */
static inline int gmem_mem_wait_punch(struct gmem_mem *mem, pgoff_t first,
				      pgoff_t last)
{
	return wait_var_event_killable(&mem->punch_first,
				       !gmem_mem_punching(mem, first, last)) ?
		       -EINTR : 0;
}

/*
 * Does the page of a binding change in place? Then wait by
 * gmem_mem_wait_change(), with a count of gmem_mem.changes from before. Invalidate
 * lock.
 */
static inline bool gmem_binding_changing(const struct gmem_binding *b,
					 pgoff_t index)
{
	unsigned long gfn = gmem_binding_gfn(b, index);

	return READ_ONCE(b->vm->changing) &&
	       gfn >= READ_ONCE(b->vm->unmap_first) &&
	       gfn <= READ_ONCE(b->vm->unmap_last);
}

/* A change has ended. */
static inline void gmem_mem_end_change(struct gmem_mem *mem)
{
	/* Fully ordered: the end, then the count, then a look for tasks. */
	atomic_inc_return(&mem->changes);
	wake_up_var(&mem->changes);
}

/* -EINTR on a fatal signal. */
static inline int gmem_mem_wait_change(struct gmem_mem *mem, int changes)
{
	return wait_var_event_killable(&mem->changes,
				       atomic_read(&mem->changes) != changes) ?
		       -EINTR : 0;
}

/*
 * Has the task been killed? Also at its exit, when it closes its files. Then an
 * operation that must come to its end goes on in a work item, where this is never
 * true, and the task dies without a delay.
 */
static inline bool gmem_killed(void)
{
	return fatal_signal_pending(current) ||
	       ((current->flags & PF_EXITING) &&
		(READ_ONCE(current->signal->group_exit_code) & 0x7f) == SIGKILL);
}

/* Before each piece: -EINTR if the task was killed. */
static inline int gmem_piece_lock_killable(struct gmem_mem *mem)
{
	if (gmem_killed())
		return -EINTR;
	return down_write_killable(&mem->inode.i_mapping->invalidate_lock);
}

#endif /* _GMEM_PIECE_H */
