// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's discard: a range of a VM is emptied as a whole or not at all.
 *
 * The range may lie in several bindings and guestmems. The discard holds the
 * invalidate locks of all of these for writing, so it can first check
 * everything, and nothing changes before it is done:
 *
 * 1. may the guest do it? Every binding allows writing, and nobody else has the
 *    pages;
 * 2. every page is taken from the guest and from all other mappings. Then no new
 *    pin can appear, so look for pins;
 * 3. the pages leave their files.
 *
 * A failure in step 2 has changed nothing that anybody could notice: the next
 * access brings a page back.
 *
 * Pages that the host allocates at the same time may be missing afterwards, as
 * if they had been there before.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "binding.h"
#include "compat.h"
#include "discard.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"

/**
 * struct gmem_discard - a discard under way
 * @vm: the guest
 * @first: first guest frame number
 * @last: last guest frame number
 * @mems: the guestmems, in the order of their addresses; one may be there more
 *	than once
 * @nr: entries of @mems
 * @before: the guestmem of the binding before
 */
struct gmem_discard {
	struct gmem_vm *vm;
	unsigned long first;
	unsigned long last;
	struct gmem_mem **mems;
	size_t nr;
	struct gmem_mem *before;
};

/* Call @fn for the part of each binding in the range, until it fails. */
static int gmem_discard_for_each(struct gmem_discard *d,
				 int (*fn)(struct gmem_discard *d,
					   struct gmem_binding *b,
					   pgoff_t first, pgoff_t last))
{
	unsigned long gfn = d->first;
	struct gmem_binding *b;
	pgoff_t first, last;
	int err = 0;

	d->before = NULL;
	while (!err && (b = gmem_binding_next(d->vm, &gfn, d->last))) {
		/* The part may cut a huge page. */
		gmem_binding_clip(b, d->first, d->last, &first, &last);
		err = fn(d, b, first, last);
		d->before = b->mem;
	}
	return err;
}

static int gmem_discard_check_rights(struct gmem_discard *d,
				     struct gmem_binding *b, pgoff_t first,
				     pgoff_t last)
{
	if (b->mem != d->before)
		d->nr++;
	return b->flags & GMEM_MAP_ALLOW_WRITE ? 0 : -EACCES;
}

static int gmem_discard_collect(struct gmem_discard *d, struct gmem_binding *b,
				pgoff_t first, pgoff_t last)
{
	if (b->mem != d->before)
		d->mems[d->nr++] = b->mem;
	return 0;
}

static int gmem_discard_check_alone(struct gmem_discard *d,
				    struct gmem_binding *b, pgoff_t first,
				    pgoff_t last)
{
	pgoff_t alone_first = first, alone_last = last;

	if (gmem_binding_lent(b))
		return 0;
	if (!gmem_binding_alone(b, &alone_first, &alone_last) ||
	    alone_first != first || alone_last != last)
		return -EBUSY;
	return 0;
}

/* The module holds leaked folios, and the kernel broken ones. */
static int gmem_discard_unpin(struct folio *folio)
{
	int err = 0;

	folio_lock(folio);
	/* A fault may have been on its way when the range was zapped. */
	if (folio_mapped(folio))
		unmap_mapping_pages(folio->mapping, folio->index,
				    folio_nr_pages(folio), false);
	if (!gmem_folio_broken(folio) &&
	    !gmem_folio_is(folio, GMEM_FOLIO_LEAKED) &&
	    !gmem_lend_wait_unpinned(folio))
		err = -EBUSY;
	folio_unlock(folio);
	return err;
}

/* Step 2 for one binding. */
static int gmem_discard_take(struct gmem_discard *d, struct gmem_binding *b,
			     pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	struct folio_batch batch;
	unsigned int i;
	int err;

	err = gmem_lend_begin_reclaim(b, first, last, GMEM_RECLAIM_DISCARD);
	if (err)
		return err;
	unmap_mapping_pages(mapping, first, last - first + 1, false);

	folio_batch_init(&batch);
	while (!err && filemap_get_folios(mapping, &first, last, &batch)) {
		for (i = 0; !err && i < folio_batch_count(&batch); i++)
			err = gmem_discard_unpin(batch.folios[i]);
		folio_batch_release(&batch);
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	return err;
}

static void gmem_discard_zero(struct folio *folio, pgoff_t first, pgoff_t end)
{
	struct page *page;

	for (; first < end; first++) {
		page = folio_file_page(folio, first);
		if (!PageHWPoison(page))
			clear_highpage(page);
	}
}

/*
 * If the folio at @index is only partly in [*first, *end), zero that part and
 * narrow the range to the rest.
 */
static void gmem_discard_edge(struct gmem_mem *mem, pgoff_t index,
			      pgoff_t *first, pgoff_t *end)
{
	struct folio *folio;
	pgoff_t next;

	folio = filemap_lock_folio(mem->inode.i_mapping, index);
	if (IS_ERR(folio))
		return;
	next = folio_next_index(folio);
	if (folio->index < *first) {
		gmem_discard_zero(folio, *first, min(next, *end));
		*first = min(next, *end);
	} else if (next > *end) {
		gmem_discard_zero(folio, folio->index, *end);
		*end = folio->index;
	}
	folio_unlock(folio);
	folio_put(folio);
}

/* Step 3 for one binding. */
static int gmem_discard_drop(struct gmem_discard *d, struct gmem_binding *b,
			     pgoff_t first, pgoff_t last)
{
	pgoff_t end = last + 1;

	gmem_discard_edge(b->mem, first, &first, &end);
	if (first < end)
		gmem_discard_edge(b->mem, last, &first, &end);
	if (first < end) {
		gmem_lend_finish_reclaim(b, first, end - 1,
					 GMEM_RECLAIM_DISCARD);
		gmem_folio_remove(b->mem, first, end - 1);
	}
	return 0;
}

static int gmem_discard_compare(const void *a, const void *b)
{
	const struct gmem_mem *first = *(struct gmem_mem *const *)a;
	const struct gmem_mem *second = *(struct gmem_mem *const *)b;

	return first < second ? -1 : first > second;
}

/* The first entry of the same guestmem? */
static bool gmem_discard_is_first(const struct gmem_discard *d, size_t i)
{
	return !i || d->mems[i] != d->mems[i - 1];
}

static void gmem_discard_lock(struct gmem_discard *d)
{
	struct address_space *mapping;
	size_t i;

	sort(d->mems, d->nr, sizeof(*d->mems), gmem_discard_compare, NULL);
	for (i = 0; i < d->nr; i++) {
		mapping = d->mems[i]->inode.i_mapping;
		if (gmem_discard_is_first(d, i))
			down_write_nest_lock(&mapping->invalidate_lock,
					     &d->vm->lock);
	}
}

static void gmem_discard_unlock(struct gmem_discard *d)
{
	size_t i;

	for (i = 0; i < d->nr; i++)
		if (gmem_discard_is_first(d, i))
			filemap_invalidate_unlock(d->mems[i]->inode.i_mapping);
}

static int gmem_discard_locked(struct gmem_discard *d)
{
	int err;

	err = gmem_discard_for_each(d, gmem_discard_check_alone);
	if (!err)
		err = gmem_discard_for_each(d, gmem_discard_take);
	if (!err)
		gmem_discard_for_each(d, gmem_discard_drop);
	return err;
}

int gmem_vm_discard(struct gmem_vm *vm, unsigned long first,
		    unsigned long last)
{
	struct gmem_discard d = {
		.vm = vm,
		.first = first,
		.last = last,
	};
	int err;

	lockdep_assert_held(&vm->lock);

	err = gmem_discard_for_each(&d, gmem_discard_check_rights);
	if (err || !d.nr)
		return err;
	d.mems = kvmalloc_array(d.nr, sizeof(*d.mems), GFP_KERNEL_ACCOUNT);
	if (!d.mems)
		return -ENOMEM;
	d.nr = 0;
	gmem_discard_for_each(&d, gmem_discard_collect);

	gmem_discard_lock(&d);
	err = gmem_discard_locked(&d);
	gmem_discard_unlock(&d);
	kvfree(d.mems);
	return err;
}
