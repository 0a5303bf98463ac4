// SPDX-License-Identifier: GPL-2.0
#include <linux/gmem_test.h>
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "folio.h"
#include "objects.h"
#include "secret.h"

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

void gmem_folio_remove(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = mem->inode.i_mapping;

	gmem_folio_forget_state(mem, first, last, GMEM_FOLIO_SHARED);
	gmem_folio_forget_state(mem, first, last, GMEM_FOLIO_LEAKED);
	/* Truncation doesn't zap the hwpoison entries of page tables. */
	unmap_mapping_pages(mapping, first, last - first + 1, true);
	truncate_inode_pages_range(mapping, (loff_t)first << PAGE_SHIFT,
				   (((loff_t)last + 1) << PAGE_SHIFT) - 1);
}

static struct mutex *gmem_index_mutex(struct gmem_mem *mem, pgoff_t index)
{
	return &mem->index_locks[hash_long(index >> mem->order,
					   GMEM_INDEX_LOCK_BITS)];
}

void gmem_folio_lock_index(struct gmem_mem *mem, pgoff_t index)
{
	mutex_lock(gmem_index_mutex(mem, index));
}

void gmem_folio_unlock_index(struct gmem_mem *mem, pgoff_t index)
{
	mutex_unlock(gmem_index_mutex(mem, index));
}

/*
 * Add a folio at @index, zeroed but not uptodate: gmem_folio_get() marks it so
 * for its first user. -EEXIST if there is a folio already.
 */
static struct folio *gmem_folio_add(struct gmem_mem *mem, pgoff_t index,
				    unsigned int order)
{
	struct address_space *mapping = mem->inode.i_mapping;
	gfp_t gfp = mapping_gfp_mask(mapping);
	struct folio *folio;
	int err;

	/* A small folio will do: don't try hard to get a huge one. */
	if (order)
		gfp = (gfp & ~__GFP_RETRY_MAYFAIL) | __GFP_NORETRY;

	index = round_down(index, 1UL << order);
	folio = gmem_filemap_alloc_folio(gfp | __GFP_ZERO, order);
	if (!folio)
		return ERR_PTR(-ENOMEM);
	err = filemap_add_folio(mapping, folio, index, gfp);
	if (err) {
		folio_put(folio);
		return ERR_PTR(err);
	}
	/* drop_caches frees clean unmapped folios, even lent ones. */
	folio_mark_dirty(folio);
	return folio;
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
		if (mem->order) {
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

bool gmem_folio_pinned(struct folio *folio)
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

#ifdef CONFIG_GMEM_TEST
void gmem_folio_mark_freed(struct folio *folio)
{
	void *addr;
	long i;

	/* The holder of a reference still uses the page. */
	if (gmem_folio_broken(folio) || gmem_folio_pinned(folio))
		return;
	for (i = 0; i < folio_nr_pages(folio); i++) {
		addr = kmap_local_folio(folio, i * PAGE_SIZE);
		memset32(addr, GMEM_TEST_FREED, PAGE_SIZE / sizeof(u32));
		kunmap_local(addr);
	}
}
#endif

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

	filemap_invalidate_lock_shared(mem->inode.i_mapping);
	gmem_folio_lock_index(mem, *index);
	folio = gmem_folio_find_or_add(mem, *index);
	gmem_folio_unlock_index(mem, *index);
	filemap_invalidate_unlock_shared(mem->inode.i_mapping);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	*index = folio_next_index(folio);
	folio_unlock(folio);
	folio_put(folio);
	cond_resched();
	return 0;
}

int gmem_folio_allocate(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t index = first;
	int err = 0;

	/*
	 * One call at a time: a failing call would drop another call's folios.
	 */
	lockdep_assert_held_write(&mem->inode.i_rwsem);

	/*
	 * Each call makes progress by at least one page of the guestmem, even
	 * under a stream of signals. Without a huge folio that page may be many
	 * small ones.
	 */
	while (!err && index <= last)
		err = (index - first) >> mem->order && signal_pending(current) ?
			      -EINTR : gmem_folio_allocate_one(mem, &index);

	filemap_invalidate_lock(mapping);
	gmem_folio_for_each_unused(mem, first, last,
				   err ? gmem_folio_drop : gmem_folio_mark_used);
	filemap_invalidate_unlock(mapping);
	return err;
}
