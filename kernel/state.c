// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reports of the states of pages: counts, runs, and the next hole or data.
 *
 * All of them walk the page cache under RCU, and so wait for nobody. A walk
 * goes in pieces, of GMEM_STATE_PIECE_ENTRIES entries each. A page that has
 * memory is always seen: where another page takes its place (see replace.c), or
 * a huge one is split, there is no moment without an entry.
 */
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "call.h"
#include "folio.h"
#include "objects.h"
#include "state.h"

/* An entry costs little: less than a microsecond. */
#define GMEM_STATE_PIECE_ENTRIES 1024

/**
 * struct gmem_state_walk - a walk under way
 * @mem: the guestmem
 * @next: the first page that it hasn't reported
 * @last: the last page of the range
 * @report: takes pages [@next, @last] of one state; false to stop before them
 */
struct gmem_state_walk {
	struct gmem_mem *mem;
	pgoff_t next;
	pgoff_t last;
	bool (*report)(struct gmem_state_walk *walk, pgoff_t last,
		       enum gmem_page_state state);
};

static bool gmem_state_report(struct gmem_state_walk *walk, pgoff_t last,
			      enum gmem_page_state state)
{
	if (!walk->report(walk, last, state))
		return false;
	walk->next = last + 1;
	return true;
}

static enum gmem_page_state gmem_state_of(const struct xa_state *xas)
{
	if (xas_get_mark(xas, GMEM_FOLIO_LEAKED))
		return GMEM_STATE_LEAKED;
	if (xas_get_mark(xas, GMEM_FOLIO_LENT))
		return GMEM_STATE_LENT;
	if (xas_get_mark(xas, GMEM_FOLIO_SHARED))
		return GMEM_STATE_SHARED;
	return GMEM_STATE_HOST;
}

/* Walk over one piece. False: the walk is at its end. Under RCU. */
static bool gmem_state_walk_piece(struct gmem_state_walk *walk)
{
	XA_STATE(xas, &walk->mem->inode.i_mapping->i_pages, walk->next);
	unsigned int nr = 0;
	struct folio *folio;

	xas_for_each(&xas, folio, walk->last) {
		pgoff_t first, last, pages;

		if (xas_retry(&xas, folio) || xa_is_value(folio))
			continue;
		/* Look only at the entry: the folio isn't held. */
		pages = 1UL << xas_get_order(&xas);
		first = round_down(xas.xa_index, pages);
		last = min(first + pages - 1, walk->last);
		/*
		 * If the folio is split meanwhile, the walk meets its parts,
		 * too.
		 */
		if (last < walk->next)
			continue;
		if (first > walk->next &&
		    !gmem_state_report(walk, first - 1, GMEM_STATE_ABSENT))
			return false;
		if (!gmem_state_report(walk, last, gmem_state_of(&xas)))
			return false;
		if (++nr == GMEM_STATE_PIECE_ENTRIES)
			return walk->next <= walk->last;
	}
	if (walk->next <= walk->last)
		gmem_state_report(walk, walk->last, GMEM_STATE_ABSENT);
	return false;
}

/* Report all pages from @next to @last. -EINTR on a fatal signal. */
static int gmem_state_walk(struct gmem_state_walk *walk)
{
	bool more;

	do {
		if (fatal_signal_pending(current))
			return -EINTR;
		rcu_read_lock();
		more = gmem_state_walk_piece(walk);
		rcu_read_unlock();
		cond_resched();
	} while (more);
	return 0;
}

static int gmem_state_range(const struct inode *inode, u64 offset, u64 length,
			    unsigned long *first, unsigned long *last)
{
	int err = gmem_call_range(offset, length, first, last);

	if (err)
		return err;
	return *last >= i_size_read(inode) >> PAGE_SHIFT ? -EINVAL : 0;
}

/* ---- counts ---- */

struct gmem_state_count {
	struct gmem_state_walk walk;
	u64 pages[GMEM_STATE_LEAKED + 1];
};

static bool gmem_state_count(struct gmem_state_walk *walk, pgoff_t last,
			     enum gmem_page_state state)
{
	container_of(walk, struct gmem_state_count, walk)->pages[state] +=
		last - walk->next + 1;
	return true;
}

int gmem_mem_query_call(void *obj, void *arg)
{
	struct inode *inode = file_inode(obj);
	struct gmem_mem_query *query = arg;
	struct gmem_state_count count = {
		.walk.mem = gmem_mem(inode),
		.walk.report = gmem_state_count,
	};
	int err;

	if (query->flags)
		return -EINVAL;
	err = gmem_state_range(inode, query->offset, query->length,
			       &count.walk.next, &count.walk.last);
	if (!err)
		err = gmem_state_walk(&count.walk);
	if (err)
		return err;

	query->absent = count.pages[GMEM_STATE_ABSENT];
	query->host = count.pages[GMEM_STATE_HOST];
	query->lent = count.pages[GMEM_STATE_LENT];
	query->shared = count.pages[GMEM_STATE_SHARED];
	query->leaked = count.pages[GMEM_STATE_LEAKED];
	return 0;
}

/* ---- runs ---- */

/**
 * struct gmem_state_runs - the runs of a walk
 * @walk: fills them
 * @runs: the array
 * @nr: entries that are used
 * @room: entries that there are
 */
struct gmem_state_runs {
	struct gmem_state_walk walk;
	struct gmem_mem_run *runs;
	u32 nr;
	u32 room;
};

#define GMEM_STATE_BATCH ((u32)(PAGE_SIZE / sizeof(struct gmem_mem_run)))

/* The last run may grow even if there is no room for another. */
static bool gmem_state_add_run(struct gmem_state_walk *walk, pgoff_t last,
			       enum gmem_page_state state)
{
	struct gmem_state_runs *to =
		container_of(walk, struct gmem_state_runs, walk);
	u64 length = (u64)(last - walk->next + 1) << PAGE_SHIFT;

	if (to->nr && to->runs[to->nr - 1].state == state) {
		to->runs[to->nr - 1].length += length;
		return true;
	}
	if (to->nr == to->room)
		return false;
	to->runs[to->nr++] = (struct gmem_mem_run) {
		.offset = (u64)walk->next << PAGE_SHIFT,
		.length = length,
		.state = state,
	};
	return true;
}

static int gmem_state_copy_runs(struct gmem_state_runs *runs,
				const struct gmem_mem_runs *call, u32 *nr)
{
	int err;

	do {
		runs->nr = 0;
		runs->room = min(call->nr_entries - *nr, GMEM_STATE_BATCH);
		err = gmem_state_walk(&runs->walk);
		/* User memory may be a mapping of the guestmem: without locks. */
		if (!err)
			err = gmem_call_put_entries(call->entries,
						    call->entry_size, *nr,
						    runs->runs,
						    sizeof(*runs->runs),
						    runs->nr);
		*nr += runs->nr;
	} while (!err && runs->nr == GMEM_STATE_BATCH &&
		 runs->walk.next <= runs->walk.last);
	return err;
}

int gmem_mem_runs_call(void *obj, void *arg)
{
	struct inode *inode = file_inode(obj);
	struct gmem_mem_runs *call = arg;
	struct gmem_state_runs runs = {
		.walk.mem = gmem_mem(inode),
		.walk.report = gmem_state_add_run,
	};
	u64 end = call->offset + call->length;
	u32 nr = 0;
	int err;

	if (call->flags || !gmem_call_entry_size_ok(call->entry_size,
						    sizeof(*runs.runs)))
		return -EINVAL;
	err = gmem_state_range(inode, call->offset, call->length,
			       &runs.walk.next, &runs.walk.last);
	if (err)
		return err;
	runs.runs = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!runs.runs)
		return -ENOMEM;
	err = gmem_state_copy_runs(&runs, call, &nr);
	kfree(runs.runs);
	if (err)
		return err;

	call->nr_entries = nr;
	call->entry_size = min_t(u32, call->entry_size, sizeof(*runs.runs));
	call->offset = (u64)runs.walk.next << PAGE_SHIFT;
	call->length = end - call->offset;
	return 0;
}

/* ---- holes and data ---- */

static bool gmem_state_skip_holes(struct gmem_state_walk *walk, pgoff_t last,
				  enum gmem_page_state state)
{
	return state == GMEM_STATE_ABSENT;
}

static bool gmem_state_skip_data(struct gmem_state_walk *walk, pgoff_t last,
				 enum gmem_page_state state)
{
	return state != GMEM_STATE_ABSENT;
}

loff_t gmem_mem_seek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);
	loff_t size = i_size_read(inode);
	struct gmem_state_walk walk = {
		.mem = gmem_mem(inode),
		.next = offset >> PAGE_SHIFT,
		.last = (size >> PAGE_SHIFT) - 1,
		.report = whence == SEEK_DATA ? gmem_state_skip_holes :
						gmem_state_skip_data,
	};
	int err;

	if (offset < 0 || offset >= size)
		return -ENXIO;
	err = gmem_state_walk(&walk);
	if (err)
		return err;
	if (whence == SEEK_DATA && walk.next > walk.last)
		return -ENXIO;
	/* The offset itself may lie inside the page that was found. */
	return vfs_setpos(file, max(offset, (loff_t)walk.next << PAGE_SHIFT),
			  size);
}
