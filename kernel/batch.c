// SPDX-License-Identifier: GPL-2.0
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
#include "provider.h"

static int gmem_batch_stage(struct gmem_binding *b, struct list_head *staged,
			    pgoff_t *index)
{
	struct folio *folio;
	int err;

	if (fatal_signal_pending(current))
		return -EINTR;
	folio = gmem_folio_get(b->mem, *index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);
	err = gmem_lend_prepare(b, folio);
	if (!err)
		err = b->vm->provider->stage(b->vm, staged,
					     gmem_binding_gfn(b, folio->index),
					     folio, b->flags);
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

	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED) || gmem_folio_broken(folio))
		return;
	/* A page that fails stays unprovided until the guest next uses it. */
	if (staged)
		provider->stage(b->vm, staged, gfn, folio, b->flags);
	else
		provider->provide(b->vm, gfn, folio, b->flags);
}

void gmem_batch_restore(struct gmem_binding *b, pgoff_t first, pgoff_t last)
{
	xa_mark_t state = gmem_binding_lent(b) ? GMEM_FOLIO_LENT :
						 GMEM_FOLIO_SHARED;
	const struct gmem_provider *provider = b->vm->provider;
	bool batches = provider->batches && provider->batches(b->vm);
	struct folio_batch batch;
	LIST_HEAD(staged);
	unsigned int i;

	lockdep_assert_held(&b->vm->lock);

	folio_batch_init(&batch);
	while (filemap_get_folios_tag(b->mem->inode.i_mapping, &first, last,
				      state, &batch)) {
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
		provider->commit(b->vm, &staged, 0);
}

int gmem_batch_provide(struct gmem_binding *b, pgoff_t first, pgoff_t last,
		       u64 *nr)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	pgoff_t index = first;
	LIST_HEAD(staged);
	int err = 0;

	filemap_invalidate_lock(mapping);
	while (!err && index <= last)
		err = gmem_batch_stage(b, &staged, &index);
	err = b->vm->provider->commit(b->vm, &staged, err);
	if (!err || err == -EUCLEAN)
		gmem_batch_provided(b, first, last);
	filemap_invalidate_unlock(mapping);

	if (!err)
		*nr += last - first + 1;
	return err;
}
