// SPDX-License-Identifier: GPL-2.0-only
#include <linux/delay.h>
#include <linux/gmem_test.h>
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>

#include "charge.h"
#include "compat.h"
#include "folio.h"
#include "numa.h"
#include "objects.h"
#include "piece.h"
#include "secret.h"

/* After a wait that failed, no task waits for the same folio for this long. */
#define GMEM_FOLIO_HELD_TIME HZ
/* After a pause this long, a reference counts as a new one. */
#define GMEM_FOLIO_WAITED_PAUSE (HZ / 2)
/* Pauses between two looks at a folio: the first, and the longest. */
#define GMEM_FOLIO_WAIT_MIN_US 25UL
#define GMEM_FOLIO_WAIT_MAX_US 1000UL
/* The most pauses, of the first length, under the folio lock: a millisecond. */
#define GMEM_FOLIO_SETTLE_TRIES 20

/* Count the @nr pages of an entry among those of its state. */
static void gmem_folio_count(struct gmem_mem *mem, struct xa_state *xas,
			     long nr)
{
	unsigned long *count;

	if (xas_get_mark(xas, GMEM_FOLIO_LEAKED))
		count = &mem->nr_leaked;
	else if (xas_get_mark(xas, GMEM_FOLIO_LENT))
		count = &mem->nr_lent;
	else if (xas_get_mark(xas, GMEM_FOLIO_SHARED))
		count = &mem->nr_shared;
	else
		return;
	WRITE_ONCE(*count, *count + nr);
}

static void gmem_folio_change(struct gmem_mem *mem, struct folio *folio,
			      xa_mark_t state, bool on)
{
	XA_STATE(xas, &folio->mapping->i_pages, folio->index);

	xas_lock_irq(&xas);
	xas_load(&xas);
	gmem_folio_count(mem, &xas, -folio_nr_pages(folio));
	if (on)
		xas_set_mark(&xas, state);
	else
		xas_clear_mark(&xas, state);
	gmem_folio_count(mem, &xas, folio_nr_pages(folio));
	xas_unlock_irq(&xas);
}

void gmem_folio_set(struct gmem_mem *mem, struct folio *folio, xa_mark_t state)
{
	gmem_folio_change(mem, folio, state, true);
}

void gmem_folio_clear(struct gmem_mem *mem, struct folio *folio,
		      xa_mark_t state)
{
	gmem_folio_change(mem, folio, state, false);
}

static void gmem_folio_forget_state(struct gmem_mem *mem, pgoff_t first,
				    pgoff_t last, xa_mark_t state)
{
	struct folio_batch batch;
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios_tag(mem->inode.i_mapping, &first, last, state,
				      &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++) {
			folio_lock(batch.folios[i]);
			gmem_folio_clear(mem, batch.folios[i], state);
			folio_unlock(batch.folios[i]);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
}

bool gmem_folio_dirty(struct address_space *mapping, struct folio *folio)
{
	return !folio_test_dirty(folio) && !folio_test_set_dirty(folio);
}

void gmem_folio_remove(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = mem->inode.i_mapping;

	gmem_folio_forget_state(mem, first, last, GMEM_FOLIO_SHARED);
	gmem_folio_forget_state(mem, first, last, GMEM_FOLIO_LEAKED);
	/* Truncation doesn't zap the hwpoison entries of page tables. */
	gmem_unmap_pages(mapping, first, last - first + 1, true);
	truncate_inode_pages_range(mapping, (loff_t)first << PAGE_SHIFT,
				   (((loff_t)last + 1) << PAGE_SHIFT) - 1);
}

static struct gmem_index *gmem_index(struct gmem_mem *mem, pgoff_t index)
{
	return &mem->indexes[hash_long(index >> mem->order, GMEM_INDEX_BITS)];
}

int gmem_folio_lock_index(struct gmem_mem *mem, pgoff_t index, bool wait)
{
	struct mutex *lock = &gmem_index(mem, index)->lock;

	if (mutex_trylock(lock))
		return 0;
	return wait ? mutex_lock_killable(lock) : -EAGAIN;
}

void gmem_folio_unlock_index(struct gmem_mem *mem, pgoff_t index)
{
	mutex_unlock(&gmem_index(mem, index)->lock);
}

static gfp_t gmem_folio_gfp(const struct gmem_mem *mem, unsigned int order)
{
	gfp_t gfp = mapping_gfp_mask(mem->inode.i_mapping);

	/* A small folio will do: don't try hard to get a huge one. */
	if (order)
		gfp = (gfp & ~__GFP_RETRY_MAYFAIL) | __GFP_NORETRY;
	return gfp;
}

struct folio *gmem_folio_alloc(struct gmem_mem *mem, pgoff_t index,
			       unsigned int order)
{
	return gmem_numa_alloc_folio(mem, index, gmem_folio_gfp(mem, order),
				     order);
}

/* The file gets @folio, locked; -EEXIST if it has one there already. */
static int gmem_folio_insert(struct gmem_mem *mem, pgoff_t index,
			     struct folio *folio)
{
	gfp_t gfp = gmem_folio_gfp(mem, folio_order(folio));
	struct mem_cgroup *before;
	int err;

	before = gmem_charge_begin(mem);
	err = filemap_add_folio(mem->inode.i_mapping, folio, index, gfp);
	gmem_charge_end(mem, before);
	/* drop_caches frees clean unmapped folios, even lent ones. */
	if (!err)
		folio_mark_dirty(folio);
	return err;
}

int gmem_folio_add_filled(struct gmem_mem *mem, pgoff_t index,
			  struct folio *folio)
{
	int err;

	err = gmem_folio_lock_index(mem, index, true);
	if (err)
		return err;
	folio_mark_uptodate(folio);
	err = gmem_folio_insert(mem, index, folio);
	if (!err)
		folio_unlock(folio);
	gmem_folio_unlock_index(mem, index);
	return err;
}

/*
 * Add a folio at @index, zeroed but not uptodate: gmem_folio_get() marks it so
 * for its first user. -EEXIST if there is a folio already.
 */
static struct folio *gmem_folio_add(struct gmem_mem *mem, pgoff_t index,
				    unsigned int order)
{
	gfp_t gfp = gmem_folio_gfp(mem, order) | __GFP_ZERO;
	struct folio *folio;
	int err;

	index = round_down(index, 1UL << order);
	folio = gmem_numa_alloc_folio(mem, index, gfp, order);
	if (!folio)
		return ERR_PTR(-ENOMEM);
	err = gmem_folio_insert(mem, index, folio);
	if (err) {
		folio_put(folio);
		return ERR_PTR(err);
	}
	return folio;
}

/*
 * Has the huge page around @index any memory? Then a huge folio can't be added
 * there. Zeroing one to learn that would cost hundreds of small folios.
 */
static bool gmem_folio_is_split(struct gmem_mem *mem, pgoff_t index)
{
	pgoff_t nr = 1UL << mem->order, first = round_down(index, nr);

	return xa_find(&mem->inode.i_mapping->i_pages, &first, first + nr - 1,
		       XA_PRESENT);
}

/* As gmem_folio_get(), but the folio doesn't count as used. */
static struct folio *gmem_folio_find_or_add(struct gmem_mem *mem, pgoff_t index)
{
	struct folio *folio;

	for (;;) {
		folio = filemap_lock_folio(mem->inode.i_mapping, index);
		/* A secret file has had all its pages from the start. */
		if (!IS_ERR(folio) || mem->secret)
			return folio;
		if (mem->order && !gmem_folio_is_split(mem, index)) {
			folio = gmem_folio_add(mem, index, mem->order);
			if (!IS_ERR(folio))
				return folio;
		}
		folio = gmem_folio_add(mem, index, 0);
		/* -EEXIST: another user of the page was faster. */
		if (PTR_ERR_OR_ZERO(folio) != -EEXIST)
			return folio;
	}
}

struct folio *gmem_folio_get(struct gmem_mem *mem, pgoff_t index)
{
	struct folio *folio;

	folio = gmem_folio_find_or_add(mem, index);
	if (IS_ERR(folio))
		return folio;
	if (PageHWPoison(folio_file_page(folio, index))) {
		folio_unlock(folio);
		folio_put(folio);
		return ERR_PTR(-EHWPOISON);
	}
	folio_mark_uptodate(folio);
	return folio;
}

/* Does anybody refer to the folio except the page cache and the caller? */
static bool gmem_folio_referenced(struct folio *folio)
{
	/* The page cache's references, and the caller's. */
	int expected = folio_nr_pages(folio) + 1;
	bool off_lru = !folio_test_lru(folio);
	int refs;

	/*
	 * A folio without the LRU flag is on its way to the LRU, or some task
	 * has taken it off for a while. That task holds one reference, and sets
	 * the flag before it drops the reference. So if the flag is off both
	 * before and after the count is read, the count includes the reference.
	 * There is one exception: the flag may have been on in between; then
	 * the count changes, too.
	 */
	smp_rmb(); /* the flag, then the count */
	refs = folio_ref_count(folio);
	smp_rmb(); /* the count, then the flag */
	if (off_lru && !folio_test_lru(folio)) {
		smp_rmb(); /* the flag, then the count again */
		if (folio_ref_count(folio) == refs)
			expected++;
	}
	return refs > expected;
}

enum gmem_folio_pins gmem_folio_pins(struct folio *folio)
{
	if (!gmem_folio_referenced(folio))
		return GMEM_FOLIO_FREE;
	return folio_maybe_dma_pinned(folio) ? GMEM_FOLIO_PINNED :
					       GMEM_FOLIO_HELD;
}

/*
 * Has a wait for the folio failed not long ago? The fields may change meanwhile:
 * this costs another wait, or spares one.
 */
static bool gmem_folio_is_held(struct gmem_mem *mem, struct folio *folio)
{
	const struct gmem_index *at = gmem_index(mem, folio->index);

	return READ_ONCE(at->held) == folio_pfn(folio) &&
	       time_before(jiffies, READ_ONCE(at->held_until));
}

void gmem_folio_give_up(struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_index *at = gmem_index(mem, folio->index);

	WRITE_ONCE(at->held_until, jiffies + GMEM_FOLIO_HELD_TIME);
	WRITE_ONCE(at->held, folio_pfn(folio));
}

/*
 * Has each look at the folio found a reference, for longer than a brief one lasts? A
 * wait may end before the reference does: a touch by the host ends it, and the holder
 * of the reference may touch the page all the time. So the waits count together,
 * whosever they are. As above, a race costs another wait, or spares one.
 */
static bool gmem_folio_waited_long(struct gmem_mem *mem,
				   struct folio *folio)
{
	struct gmem_index *at = gmem_index(mem, folio->index);
	unsigned long now = jiffies;

	if (READ_ONCE(at->waited) != folio_pfn(folio) ||
	    time_after(now, READ_ONCE(at->waited_last) +
			    GMEM_FOLIO_WAITED_PAUSE)) {
		WRITE_ONCE(at->waited, folio_pfn(folio));
		WRITE_ONCE(at->waited_since, now);
	}
	WRITE_ONCE(at->waited_last, now);
	return time_after(now, READ_ONCE(at->waited_since) + GMEM_FOLIO_WAIT);
}

/* The wait itself is no pause. */
static void gmem_folio_note_wait(struct gmem_mem *mem,
				 struct folio *folio)
{
	struct gmem_index *at = gmem_index(mem, folio->index);

	if (READ_ONCE(at->waited) == folio_pfn(folio))
		WRITE_ONCE(at->waited_last, jiffies);
}

static void gmem_folio_forget_wait(struct gmem_mem *mem,
				   struct folio *folio)
{
	struct gmem_index *at = gmem_index(mem, folio->index);

	if (READ_ONCE(at->waited) == folio_pfn(folio))
		WRITE_ONCE(at->waited, ULONG_MAX);
}

int gmem_folio_check_pins(struct gmem_mem *mem, struct folio *folio)
{
	switch (gmem_folio_pins(folio)) {
	case GMEM_FOLIO_FREE:
		gmem_folio_forget_wait(mem, folio);
		return 0;
	case GMEM_FOLIO_PINNED:
		return -EBUSY;
	case GMEM_FOLIO_HELD:
		break;
	}
	if (gmem_folio_waited_long(mem, folio))
		gmem_folio_give_up(mem, folio);
	return gmem_folio_is_held(mem, folio) ? -EBUSY : -EINPROGRESS;
}

/* Should the wait end? */
static bool gmem_folio_wait_done(struct gmem_mem *mem, pgoff_t index,
				 unsigned long end)
{
	struct folio *folio;
	enum gmem_folio_pins pins;
	bool done;

	folio = filemap_get_folio(mem->inode.i_mapping, index);
	if (IS_ERR(folio))
		return true;
	pins = gmem_folio_pins(folio);
	if (pins == GMEM_FOLIO_FREE)
		gmem_folio_forget_wait(mem, folio);
	else
		gmem_folio_note_wait(mem, folio);
	/* A page table entry is a reference, too: the next try zaps it. */
	done = folio_mapped(folio) || pins != GMEM_FOLIO_HELD;
	if (!done && time_after(jiffies, end)) {
		gmem_folio_give_up(mem, folio);
		done = true;
	}
	folio_put(folio);
	return done;
}

int gmem_folio_wait(struct gmem_mem *mem, pgoff_t index)
{
	unsigned long end = jiffies + GMEM_FOLIO_WAIT;
	unsigned long us = GMEM_FOLIO_WAIT_MIN_US;

	while (!gmem_folio_wait_done(mem, index, end)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		usleep_range(us, 2 * us);
		us = min(2 * us, GMEM_FOLIO_WAIT_MAX_US);
	}
	return 0;
}

void gmem_folio_settle(struct folio *folio)
{
	int tries;

	for (tries = 0; gmem_folio_pins(folio) == GMEM_FOLIO_HELD &&
	     tries < GMEM_FOLIO_SETTLE_TRIES; tries++)
		usleep_range(GMEM_FOLIO_WAIT_MIN_US, 2 * GMEM_FOLIO_WAIT_MIN_US);
}

bool gmem_folio_broken(const struct folio *folio)
{
	return folio_test_hwpoison(folio) ||
	       (folio_test_large(folio) && folio_test_has_hwpoisoned(folio));
}

static void gmem_folio_scrub_secret(struct folio *folio)
{
	void *addr;

	/*
	 * This must not fail, so retry. The kernel hardly ever lacks a single
	 * page.
	 */
	while (!(addr = gmem_secret_map(folio)))
		schedule_timeout_uninterruptible(1);
	clear_page(addr);
	gmem_secret_unmap(addr);
}

void gmem_folio_scrub(struct folio *folio)
{
	long i;

	if (gmem_folio_is_secret(folio)) {
		if (!folio_test_hwpoison(folio))
			gmem_folio_scrub_secret(folio);
		return;
	}
	for (i = 0; i < folio_nr_pages(folio); i++) {
		if (PageHWPoison(folio_page(folio, i)))
			continue;
		clear_highpage(folio_page(folio, i));
		cond_resched();
	}
}

/*
 * For tests: fill a folio with GMEM_TEST_FREED. The page table entries of a live
 * window hold no references: a guest that has kept one reads this.
 */
static void gmem_folio_mark_freed(struct folio *folio)
{
	void *addr;
	long i;

	/* The holder of a reference still uses the page. */
	if (gmem_folio_broken(folio) || gmem_folio_referenced(folio))
		return;
	for (i = 0; i < folio_nr_pages(folio); i++) {
		addr = kmap_local_folio(folio, i * PAGE_SIZE);
		memset32(addr, GMEM_TEST_FREED, PAGE_SIZE / sizeof(u32));
		kunmap_local(addr);
	}
}

void gmem_folio_freed(struct folio *folio)
{
	if (folio_test_large(folio) && gmem_folio_broken(folio)) {
		folio_get(folio);
		pr_warn_once("gmem: a huge page with a broken page was in use when it was freed: it is lost until reboot\n");
	}
	if (IS_ENABLED(CONFIG_GMEM_TEST))
		gmem_folio_mark_freed(folio);
}

static void gmem_folio_mark_used(struct folio *folio)
{
	folio_lock(folio);
	folio_mark_uptodate(folio);
	folio_unlock(folio);
}

static void gmem_folio_drop(struct folio *folio)
{
	loff_t pos = folio_pos(folio);

	truncate_inode_pages_range(folio->mapping, pos,
				   pos + folio_size(folio) - 1);
}

/*
 * Call @fn for those of [first, last] that were allocated but never used. With
 * the invalidate lock held for writing, they stay unused, and nobody takes the
 * references held here for pins.
 */
static void gmem_folio_for_each_unused(struct gmem_mem *mem, pgoff_t first,
				       pgoff_t last,
				       void (*fn)(struct folio *folio))
{
	struct folio_batch batch;
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios(mem->inode.i_mapping, &first, last, &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++)
			if (!folio_test_uptodate(batch.folios[i]))
				fn(batch.folios[i]);
		folio_batch_release(&batch);
		cond_resched();
	}
}

static int gmem_folio_allocate_one(struct gmem_mem *mem, pgoff_t *index)
{
	struct folio *folio;
	int err;

	err = down_read_killable(&mem->inode.i_mapping->invalidate_lock);
	if (err)
		return err;
	err = gmem_folio_lock_index(mem, *index, true);
	if (!err) {
		folio = gmem_folio_find_or_add(mem, *index);
		err = PTR_ERR_OR_ZERO(folio);
		gmem_folio_unlock_index(mem, *index);
	}
	filemap_invalidate_unlock_shared(mem->inode.i_mapping);
	if (err)
		return err;

	*index = folio_next_index(folio);
	folio_unlock(folio);
	folio_put(folio);
	cond_resched();
	return 0;
}

int gmem_folio_allocate(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t index = first, piece_last;
	int err = 0;

	/*
	 * One call at a time: a failing call would drop another call's folios.
	 */
	lockdep_assert_held_write(&mem->inode.i_rwsem);

	/*
	 * The call drops what it has allocated when it fails. So if any signal
	 * ended it, a long call under a periodic timer would never come to an
	 * end.
	 */
	while (!err && index <= last)
		err = fatal_signal_pending(current) ?
			      -EINTR : gmem_folio_allocate_one(mem, &index);
	/* A call that fails has touched no page from @index on. */
	if (err && index == first)
		return err;
	last = min(last, index - 1);

	/* A file may be as large as it likes: skip what has no folios. */
	while (first <= last && gmem_piece_find(mem, &first, last, XA_PRESENT)) {
		piece_last = gmem_piece_last(mem, first, last);
		filemap_invalidate_lock(mapping);
		gmem_folio_for_each_unused(mem, first, piece_last,
					   err ? gmem_folio_drop :
						 gmem_folio_mark_used);
		filemap_invalidate_unlock(mapping);
		cond_resched();
		first = piece_last + 1;
	}
	return err;
}
