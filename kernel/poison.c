// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken pages.
 *
 * memory_failure() takes a broken page out of the page tables that the reverse map
 * of its folio knows. The page stays in the file, so that the next access gets an
 * error instead of zeroes; punching a hole replaces it.
 *
 * It splits a huge folio first. That fails while anybody holds a reference to the
 * folio, and memory_failure() tries once. If such a folio were freed, the kernel
 * would hand out the broken page again: the allocator keeps back a broken page
 * only if that is a folio by itself. So this file tries again, until nobody holds
 * the folio. A folio that is held to its end is kept for good.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "event.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "poison.h"

/* Let memory_failure() finish its own try first. */
#define GMEM_POISON_FIRST_MS 20
/* The time between two tries doubles at most this many times. */
#define GMEM_POISON_MAX_TRIES 6U
/* How long a caller waits, and how often it tries. */
#define GMEM_POISON_WAIT_MS 2000
#define GMEM_POISON_TRY_MS 10
/* How often a caller that can't wait tries. */
#define GMEM_POISON_TRIES 20

static struct workqueue_struct *gmem_poison_wq;

/* ---- the range of huge folios with broken pages ---- */

static void gmem_poison_add(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			    unsigned int tries)
{
	spin_lock(&mem->broken_lock);
	mem->broken_first = min(mem->broken_first, first);
	mem->broken_last = max(mem->broken_last, last);
	mem->broken_tries = min(mem->broken_tries, tries);
	spin_unlock(&mem->broken_lock);
}

/* Narrow [*first, *last] to the part with such folios; false: it has none. */
static bool gmem_poison_clip(struct gmem_mem *mem, pgoff_t *first, pgoff_t *last)
{
	spin_lock(&mem->broken_lock);
	*first = max(mem->broken_first, *first);
	*last = min(mem->broken_last, *last);
	spin_unlock(&mem->broken_lock);
	return *first <= *last;
}

/* The range, and a new count of tries: the range stays for others. */
static bool gmem_poison_begin(struct gmem_mem *mem, pgoff_t *first,
			      pgoff_t *last, unsigned int *tries)
{
	spin_lock(&mem->broken_lock);
	*first = mem->broken_first;
	*last = mem->broken_last;
	*tries = mem->broken_tries;
	mem->broken_tries = UINT_MAX;
	spin_unlock(&mem->broken_lock);
	return *first <= *last;
}

/* The range has no such folio, unless one was added meanwhile. */
static void gmem_poison_forget(struct gmem_mem *mem)
{
	spin_lock(&mem->broken_lock);
	if (mem->broken_tries == UINT_MAX) {
		mem->broken_first = ULONG_MAX;
		mem->broken_last = 0;
	}
	spin_unlock(&mem->broken_lock);
}

/* ---- splitting ---- */

/* Is the page broken, and part of a huge folio? 0, or an error as for a split. */
static int gmem_poison_check(struct gmem_mem *mem, pgoff_t index)
{
	struct folio *folio;
	int err = 0;

	folio = filemap_lock_folio(mem->inode.i_mapping, index);
	if (IS_ERR(folio))
		return 0;
	if (PageHWPoison(folio_file_page(folio, index)) &&
	    folio_test_large(folio))
		err = folio_maybe_dma_pinned(folio) ? -EBUSY : -EAGAIN;
	if (err) {
		/* Truncation would drop a clean folio that it can't split. */
		folio_mark_dirty(folio);
		/* Some kernels forget this when they split off large parts. */
		folio_set_has_hwpoisoned(folio);
	}
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

/* memory_failure() reports only what it could split. */
static void gmem_poison_report(struct gmem_mem *mem, pgoff_t index)
{
	struct folio *folio;

	folio = filemap_lock_folio(mem->inode.i_mapping, index);
	if (IS_ERR(folio))
		return;
	gmem_event_hwpoison(mem, folio);
	folio_unlock(folio);
	folio_put(folio);
}

/*
 * No module can call the function that splits a folio, but truncation does: where
 * it ends inside a folio. This is a truncation of a part of a page: it removes no
 * page, and zeroes nothing, because the mapping is inaccessible to the kernel.
 */
static int gmem_poison_split_page(struct gmem_mem *mem, pgoff_t index)
{
	loff_t pos = (loff_t)index << PAGE_SHIFT;
	int err;

	err = gmem_poison_check(mem, index);
	if (err != -EAGAIN)
		return err;
	truncate_inode_pages_range(mem->inode.i_mapping, pos + 1,
				   pos + PAGE_SIZE - 1);
	err = gmem_poison_check(mem, index);
	if (!err)
		gmem_poison_report(mem, index);
	return err;
}

static int gmem_poison_split_pages(struct gmem_mem *mem, pgoff_t first,
				   pgoff_t last)
{
	int err, ret = 0;

	for (; first <= last; first++) {
		err = gmem_poison_split_page(mem, first);
		ret = ret ?: err;
	}
	return ret;
}

/*
 * The first huge folio with a broken page from *first on: *first and *end become
 * its range.
 */
static bool gmem_poison_find(struct gmem_mem *mem, pgoff_t *first, pgoff_t last,
			     pgoff_t *end)
{
	struct folio_batch batch;
	bool found = false;
	unsigned int i;

	folio_batch_init(&batch);
	while (!found && filemap_get_folios(mem->inode.i_mapping, first, last,
					    &batch)) {
		for (i = 0; !found && i < folio_batch_count(&batch); i++) {
			if (!folio_test_large(batch.folios[i]) ||
			    !gmem_folio_broken(batch.folios[i]))
				continue;
			*first = batch.folios[i]->index;
			*end = folio_next_index(batch.folios[i]) - 1;
			found = true;
		}
		/* A reference would prevent the split. */
		folio_batch_release(&batch);
		cond_resched();
	}
	return found;
}

static int gmem_poison_split_range(struct gmem_mem *mem, pgoff_t first,
				   pgoff_t last)
{
	pgoff_t end;
	int err, ret = 0;

	rwsem_assert_held_write(&mem->inode.i_mapping->invalidate_lock);

	WRITE_ONCE(mem->broken_splitter, current);
	while (first <= last && gmem_poison_find(mem, &first, last, &end)) {
		err = gmem_poison_split_pages(mem, first, end);
		ret = ret ?: err;
		first = end + 1;
	}
	WRITE_ONCE(mem->broken_splitter, NULL);
	return ret;
}

/*
 * Split in a range of any length. Others wait for the invalidate lock, so take it
 * for a folio at a time. @tell: memory_failure() has left the page with the guests.
 */
static int gmem_poison_split_each(struct gmem_mem *mem, pgoff_t first,
				  pgoff_t last, bool tell)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t end;
	int err, ret = 0;

	while (first <= last && gmem_poison_find(mem, &first, last, &end)) {
		filemap_invalidate_lock(mapping);
		if (tell)
			gmem_lend_poison_piece(mem, first, end);
		err = gmem_poison_split_range(mem, first, end);
		filemap_invalidate_unlock(mapping);
		ret = ret ?: err;
		first = end + 1;
	}
	return ret;
}

int gmem_poison_split(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	if (!gmem_poison_clip(mem, &first, &last))
		return 0;
	return gmem_poison_split_range(mem, first, last);
}

static int gmem_poison_wait_range(struct gmem_mem *mem, pgoff_t first,
				  pgoff_t last)
{
	unsigned long end = jiffies + msecs_to_jiffies(GMEM_POISON_WAIT_MS);
	int err;

	for (;;) {
		err = gmem_poison_split_each(mem, first, last, false);
		if (err != -EAGAIN)
			return err;
		if (time_after(jiffies, end))
			return -EBUSY;
		if (fatal_signal_pending(current))
			return -EINTR;
		schedule_timeout_killable(msecs_to_jiffies(GMEM_POISON_TRY_MS));
	}
}

int gmem_poison_wait_split(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	if (!gmem_poison_clip(mem, &first, &last))
		return 0;
	return gmem_poison_wait_range(mem, first, last);
}

void gmem_poison_wait_page(struct gmem_mem *mem, pgoff_t index)
{
	gmem_poison_wait_range(mem, index, index);
}

void gmem_poison_remove(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	int tries;

	/* Others wait for the invalidate lock: don't wait for long. */
	for (tries = 0; tries < GMEM_POISON_TRIES; tries++) {
		if (gmem_poison_split(mem, first, last) != -EAGAIN)
			break;
		usleep_range(25, 50);
	}
	gmem_folio_remove(mem, first, last);
}

static void gmem_poison_split_work(struct work_struct *work)
{
	struct gmem_mem *mem = container_of(to_delayed_work(work),
					    struct gmem_mem, split_work);
	pgoff_t first, last, found, end;
	unsigned int tries;

	if (!gmem_poison_begin(mem, &first, &last, &tries))
		return;
	found = first;
	if (!gmem_poison_find(mem, &found, last, &end)) {
		gmem_poison_forget(mem);
		return;
	}
	gmem_poison_split_each(mem, found, last, !tries);
	tries = min(tries + 1, GMEM_POISON_MAX_TRIES);
	gmem_poison_add(mem, first, last, tries);
	queue_delayed_work(gmem_poison_wq, &mem->split_work,
			   msecs_to_jiffies(GMEM_POISON_FIRST_MS << tries));
}

/* ---- operations of the page cache ---- */

static void gmem_poison_work(struct work_struct *work)
{
	gmem_lend_poison(container_of(work, struct gmem_mem, poison_work));
}

/*
 * The caller holds the folio lock, so a work item takes the page from the guests
 * of those providers that need the invalidate lock for that.
 */
int gmem_poison_error_remove_folio(struct address_space *mapping,
				   struct folio *folio)
{
	struct gmem_mem *mem = gmem_mem(mapping->host);

	gmem_lend_zap_broken(mem, folio);
	gmem_event_hwpoison(mem, folio);
	/* The folio is in the file, so eviction can't have begun. */
	queue_work(gmem_poison_wq, &mem->poison_work);
	return MF_DELAYED;
}

/*
 * The kernel is about to split a huge folio, or to drop a folio. Only
 * memory_failure() may do that, to the folio of a broken page, and this file. If
 * memory_failure() fails, it leaves the page where it is. Others would split
 * folios for nothing, such as MADV_COLD and MADV_PAGEOUT of a part: the pages stay
 * anyway.
 */
bool gmem_poison_release_folio(struct folio *folio, gfp_t gfp)
{
	struct gmem_mem *mem = gmem_mem(folio->mapping->host);

	if (!gmem_folio_broken(folio))
		return false;
	if (READ_ONCE(mem->broken_splitter) == current)
		return true;
	gmem_lend_zap_broken(mem, folio);
	gmem_unmap_pages(folio->mapping, folio->index, folio_nr_pages(folio),
			 false);
	if (folio_test_large(folio)) {
		gmem_poison_add(mem, folio->index, folio_next_index(folio) - 1,
				0);
		/* As above. */
		queue_delayed_work(gmem_poison_wq, &mem->split_work,
				   msecs_to_jiffies(GMEM_POISON_FIRST_MS));
	}
	return true;
}

/* ---- the beginning and the end ---- */

void gmem_poison_init_mem(struct gmem_mem *mem)
{
	spin_lock_init(&mem->broken_lock);
	mem->broken_first = ULONG_MAX;
	mem->broken_last = 0;
	mem->broken_tries = UINT_MAX;
	mem->broken_splitter = NULL;
	INIT_WORK(&mem->poison_work, gmem_poison_work);
	INIT_DELAYED_WORK(&mem->split_work, gmem_poison_split_work);
}

void gmem_poison_exit_mem(struct gmem_mem *mem)
{
	cancel_delayed_work_sync(&mem->split_work);
	cancel_work_sync(&mem->poison_work);
}

int gmem_poison_init(void)
{
	gmem_poison_wq = alloc_workqueue("gmem", WQ_UNBOUND, 0);
	return gmem_poison_wq ? 0 : -ENOMEM;
}

void gmem_poison_exit(void)
{
	destroy_workqueue(gmem_poison_wq);
}
