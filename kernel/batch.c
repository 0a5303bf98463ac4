// SPDX-License-Identifier: GPL-2.0-only
/*
 * Providing many folios in one step, for a provider whose calls are expensive.
 *
 * With the invalidate lock held for writing, no other task provides or maps a
 * page of the file, and no page leaves the file. So a prepared folio (taken
 * from all mappings, found unpinned) stays prepared without its folio lock,
 * until the provider has all folios and their states are set.
 */
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "batch.h"
#include "compat.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "piece.h"
#include "provider.h"

static int gmem_batch_stage(struct gmem_binding *b, struct list_head *staged,
			    pgoff_t *index)
{
	struct folio *folio;
	int err;

	if (fatal_signal_pending(current))
		return -EINTR;
	if (gmem_mem_punching(b->mem, *index, *index))
		return -ERESTART;
	folio = gmem_folio_get(b->mem, *index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);
	err = gmem_lend_prepare(b, folio);
	if (!err)
		err = b->vm->provider->stage(b->vm, staged,
					     gmem_binding_gfn(b, folio->index),
					     folio, b->flags);
	if (!err)
		*index = folio_next_index(folio);
	folio_unlock(folio);
	folio_put(folio);
	cond_resched();
	return err;
}

static bool gmem_batch_has(struct gmem_binding *b, struct folio *folio)
{
	return b->vm->provider->has(b->vm, gmem_binding_gfn(b, folio->index));
}

static void gmem_batch_provided(struct gmem_binding *b, pgoff_t first,
				pgoff_t last)
{
	struct folio_batch batch;
	struct folio *folio;
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios(b->mem->inode.i_mapping, &first, last,
				  &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++) {
			folio = batch.folios[i];
			folio_lock(folio);
			if (gmem_batch_has(b, folio))
				gmem_lend_provided(b, folio);
			folio_unlock(folio);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
}

/* @staged: NULL if the provider takes folios one by one. */
static void gmem_batch_restore_folio(struct gmem_binding *b,
				     struct list_head *staged,
				     struct folio *folio)
{
	const struct gmem_provider *provider = b->vm->provider;
	unsigned long gfn = gmem_binding_gfn(b, folio->index);

	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED) ||
	    gmem_folio_broken(folio) ||
	    gmem_mem_punching(b->mem, folio->index, folio->index))
		return;
	/* A page that fails stays unprovided until the guest next uses it. */
	if (staged)
		provider->stage(b->vm, staged, gfn, folio, b->flags);
	else
		provider->provide(b->vm, gfn, folio, b->flags);
}

static xa_mark_t gmem_batch_state(const struct gmem_binding *b)
{
	return gmem_binding_lent(b) ? GMEM_FOLIO_LENT : GMEM_FOLIO_SHARED;
}

/* With the invalidate lock held for writing. */
static void gmem_batch_restore_piece(struct gmem_binding *b, pgoff_t first,
				     pgoff_t last, bool batches)
{
	const struct gmem_provider *provider = b->vm->provider;
	struct folio_batch batch;
	LIST_HEAD(staged);
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios_tag(b->mem->inode.i_mapping, &first, last,
				      gmem_batch_state(b), &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++) {
			folio_lock(batch.folios[i]);
			gmem_batch_restore_folio(b, batches ? &staged : NULL,
						 batch.folios[i]);
			folio_unlock(batch.folios[i]);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
	if (batches)
		provider->commit(b->vm, &staged, false, 0);
}

void gmem_batch_restore(struct gmem_binding *b, pgoff_t first, pgoff_t last)
{
	const struct gmem_provider *provider = b->vm->provider;
	bool batches = gmem_provider_batches(b->vm);
	struct address_space *mapping = b->mem->inode.i_mapping;
	pgoff_t piece_last;

	lockdep_assert_held(&b->vm->lock);

	if (provider->on_demand)
		return;
	while (gmem_piece_find(b->mem, &first, last, gmem_batch_state(b))) {
		/* One batch, so that the provider's objects are few. */
		piece_last = batches ? last :
				       gmem_piece_last(b->mem, first, last);
		filemap_invalidate_lock(mapping);
		gmem_batch_restore_piece(b, first, piece_last, batches);
		filemap_invalidate_unlock(mapping);
		if (piece_last == last)
			break;
		first = piece_last + 1;
	}
}

/* On failure, *index is that of the page which failed. */
static int gmem_batch_provide_once(struct gmem_binding *b, pgoff_t first,
				   pgoff_t last, pgoff_t *index)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	LIST_HEAD(staged);
	int err = 0;

	if (down_write_killable(&mapping->invalidate_lock))
		return -EINTR;
	for (*index = first; !err && *index <= last;)
		err = gmem_batch_stage(b, &staged, index);
	err = b->vm->provider->commit(b->vm, &staged, true, err);
	if (!err || err == -EUCLEAN)
		gmem_batch_provided(b, first, last);
	filemap_invalidate_unlock(mapping);
	return err;
}

int gmem_batch_provide(struct gmem_binding *b, pgoff_t first, pgoff_t last,
		       u64 *nr)
{
	pgoff_t index;
	int err;

	do {
		err = gmem_batch_provide_once(b, first, last, &index);
	} while (err == -EINPROGRESS && !(err = gmem_folio_wait(b->mem, index)));

	if (!err)
		*nr += last - first + 1;
	return err;
}
