// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's discard: a range of a VM is emptied as a whole or not at all, unless
 * another task binds or pins a page of it meanwhile.
 *
 * The range may lie in several bindings and guestmems, so the discard goes in
 * three steps under gmem_vm.lock:
 *
 * 1. may the guest do it? Every binding allows writing, and nobody else has the
 *    pages;
 * 2. every page is taken from the guest and from all other mappings. Then no new
 *    pin can appear, so look for pins;
 * 3. the pages leave their files.
 *
 * Steps 2 and 3 go in pieces: see piece.h. A failure in step 2 has changed nothing
 * that anybody could notice: the next access brings a page back.
 *
 * Between two pieces, another task may bind a page again or touch and pin it. So
 * step 3 does the checks of step 2 once more for each piece, and stops where one
 * fails. Pages that the host allocates at the same time may be missing afterwards,
 * as if they had been there before.
 *
 * If a page has a reference that may be brief, the discard lets the guest and the
 * VM's other calls go on, waits for the end of the reference and begins again. The
 * holder may itself wait for the guest's page, or touch the page all the time; so
 * the discard gives up after a few waits.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rwsem.h>
#include <linux/sched.h>

#include "binding.h"
#include "compat.h"
#include "discard.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "piece.h"
#include "poison.h"
#include "unmap.h"

/* The waits grow longer; together they take at least 190 ms. */
#define GMEM_DISCARD_WAITS 20

/**
 * struct gmem_discard_held - a page with a reference that may be brief
 * @file: its guestmem, with a reference
 * @index: its index there
 */
struct gmem_discard_held {
	struct file *file;
	pgoff_t index;
};

/*
 * A step, for the part [@first, @last] of a binding. -EINPROGRESS: wait for
 * @held.
 */
typedef int (*gmem_discard_step)(struct gmem_binding *b, pgoff_t first,
				 pgoff_t last, struct gmem_discard_held *held);

/* Call @step for the part of each binding in the range, until it fails. */
static int gmem_discard_for_each(struct gmem_vm *vm, unsigned long first,
				 unsigned long last, gmem_discard_step step,
				 struct gmem_discard_held *held)
{
	pgoff_t part_first, part_last;
	unsigned long gfn = first;
	struct gmem_binding *b;
	int err = 0;

	while (!err && (b = gmem_binding_next(vm, &gfn, last))) {
		/* The part may cut a huge page. */
		gmem_binding_clip(b, first, last, &part_first, &part_last);
		err = step(b, part_first, part_last, held);
	}
	return err;
}

static int gmem_discard_check_rights(struct gmem_binding *b, pgoff_t first,
				     pgoff_t last,
				     struct gmem_discard_held *held)
{
	return b->flags & GMEM_MAP_ALLOW_WRITE ? 0 : -EACCES;
}

/* Has no other binding one of the pages? Invalidate lock. */
static int gmem_discard_alone(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last)
{
	struct gmem_binding *other;

	if (gmem_binding_lent(b))
		return 0;
	other = gmem_binding_next_shared(b->mem, first, last, NULL);
	if (other == b)
		other = gmem_binding_next_shared(b->mem, first, last, b);
	return other ? -EBUSY : 0;
}

static int gmem_discard_check_alone(struct gmem_binding *b, pgoff_t first,
				    pgoff_t last,
				    struct gmem_discard_held *held)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	int err;

	if (down_read_killable(&mapping->invalidate_lock))
		return -EINTR;
	err = gmem_discard_alone(b, first, last);
	filemap_invalidate_unlock_shared(mapping);
	return err;
}

/* The module holds leaked folios, and the kernel broken ones. */
static int gmem_discard_unpin(struct gmem_binding *b, struct folio *folio,
			      struct gmem_discard_held *held)
{
	int err = 0;

	folio_lock(folio);
	/* A fault may have been on its way when the range was zapped. */
	if (folio_mapped(folio))
		gmem_unmap_pages(folio->mapping, folio->index,
				 folio_nr_pages(folio), false);
	if (!gmem_folio_broken(folio) &&
	    !gmem_folio_is(folio, GMEM_FOLIO_LEAKED)) {
		gmem_folio_settle(folio);
		err = gmem_folio_check_pins(b->mem, folio);
	}
	if (err == -EINPROGRESS)
		*held = (struct gmem_discard_held){
			.file = get_file(b->file),
			.index = folio->index,
		};
	folio_unlock(folio);
	return err;
}

/* Step 2 for a piece. */
static int gmem_discard_take(struct gmem_binding *b, pgoff_t first,
			     pgoff_t last, struct gmem_discard_held *held)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	struct folio_batch batch;
	unsigned int i;
	int err;

	err = gmem_lend_begin_piece(b, first, last, GMEM_RECLAIM_DISCARD);
	if (err)
		return err;
	gmem_unmap_pages(mapping, first, last - first + 1, false);

	folio_batch_init(&batch);
	while (!err && filemap_get_folios(mapping, &first, last, &batch)) {
		for (i = 0; !err && i < folio_batch_count(&batch); i++)
			err = gmem_discard_unpin(b, batch.folios[i], held);
		folio_batch_release(&batch);
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

static void gmem_discard_drop(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last)
{
	pgoff_t end = last + 1;

	gmem_discard_edge(b->mem, first, &first, &end);
	if (first < end)
		gmem_discard_edge(b->mem, last, &first, &end);
	if (first < end) {
		gmem_lend_finish_piece(b, first, end - 1,
				       GMEM_RECLAIM_DISCARD);
		gmem_poison_remove(b->mem, first, end - 1);
	}
}

static int gmem_discard_piece(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, bool drop,
			      struct gmem_discard_held *held)
{
	int err;

	err = gmem_piece_lock_killable(b->mem);
	if (err)
		return err;
	err = gmem_discard_alone(b, first, last) ?:
	      gmem_discard_take(b, first, last, held);
	if (!err && drop)
		gmem_discard_drop(b, first, last);
	filemap_invalidate_unlock(b->mem->inode.i_mapping);
	cond_resched();
	return err;
}

static int gmem_discard_pieces(struct gmem_binding *b, pgoff_t first,
			       pgoff_t last, bool drop,
			       struct gmem_discard_held *held)
{
	pgoff_t piece_last;
	int err;

	/* Take the lock once, as in gmem_lend_begin_reclaim(). */
	do {
		piece_last = gmem_piece_last(b->mem, first, last);
		err = gmem_discard_piece(b, first, piece_last, drop, held);
		first = piece_last + 1;
	} while (!err && piece_last < last &&
		 gmem_piece_find(b->mem, &first, last, XA_PRESENT));
	return err;
}

static int gmem_discard_begin(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, struct gmem_discard_held *held)
{
	return gmem_discard_pieces(b, first, last, false, held);
}

static int gmem_discard_finish(struct gmem_binding *b, pgoff_t first,
			       pgoff_t last, struct gmem_discard_held *held)
{
	return gmem_discard_pieces(b, first, last, true, held);
}

/* -EINPROGRESS: wait for @held, and try again. */
static int gmem_discard_try(struct gmem_vm *vm, unsigned long first,
			    unsigned long last, struct gmem_discard_held *held)
{
	int err;

	if (gmem_vm_lock_killable(vm))
		return -EINTR;
	err = gmem_discard_for_each(vm, first, last, gmem_discard_check_rights,
				    held) ?:
	      gmem_discard_for_each(vm, first, last, gmem_discard_check_alone,
				    held);
	if (!err) {
		gmem_vm_begin_unmap(vm, first, last);
		err = gmem_discard_for_each(vm, first, last, gmem_discard_begin,
					    held) ?:
		      gmem_discard_for_each(vm, first, last,
					    gmem_discard_finish, held);
		gmem_vm_end_unmap(vm);
	}
	mutex_unlock(&vm->lock);
	return err;
}

int gmem_vm_discard(struct gmem_vm *vm, unsigned long first,
		    unsigned long last)
{
	struct gmem_discard_held held;
	unsigned int waits;
	int err;

	for (waits = 1;; waits++) {
		err = gmem_discard_try(vm, first, last, &held);
		if (err != -EINPROGRESS)
			return err;
		/* This ends at once where a page table has the page again. */
		err = gmem_folio_wait(gmem_mem(file_inode(held.file)),
				      held.index);
		fput(held.file);
		if (err)
			return err;
		if (waits == GMEM_DISCARD_WAITS)
			return -EBUSY;
		msleep(waits);
	}
}
