// SPDX-License-Identifier: GPL-2.0
/*
 * Who has a page: the rules.
 *
 *            guest access (lent binding)
 *      host ----------------------------> lent
 *       ^ | <---------------------------- | |
 *       | |  host access, reclaim, unbind | |
 *       | |                               | | VM gone, provider refused
 *       | | guest access                  | v
 *       | | (shared binding)              | leaked
 *       | +--------------> shared         |
 *       +------------------- unbind       |
 *
 * A page changes hands under its folio lock, which also covers the moment until
 * the new owner's page table entry is in place: a fault handler returns with the
 * folio locked. So whoever holds the lock sees every mapping of the folio that
 * there is or that can come about before they unlock, and none of them belongs to
 * the other side: guest and host mappings of one page never exist together
 * unless it is shared.
 *
 * Lending looks for pins after it has zapped the host's mappings, because only
 * then can no new pin come about.
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/pagevec.h>

#include "binding.h"
#include "folio.h"
#include "guestmem.h"
#include "lend.h"
#include "provider.h"
#include "stats.h"
#include "vm.h"

/* A reference that is about to go away is no pin: ask for up to a millisecond. */
#define GMEM_PIN_TRIES 20

static bool gmem_lend_wait_unpinned(struct folio *folio)
{
	int tries;

	for (tries = 0; gmem_folio_pinned(folio); tries++) {
		if (tries == GMEM_PIN_TRIES)
			return false;
		usleep_range(25, 50);
	}
	return true;
}

static xa_mark_t gmem_lend_state(const struct gmem_binding *b)
{
	return gmem_binding_lent(b) ? GMEM_FOLIO_LENT : GMEM_FOLIO_SHARED;
}

static int gmem_lend_provide(struct gmem_binding *b, struct folio *folio)
{
	const struct gmem_provider *provider = b->vm->provider;
	xa_mark_t state = gmem_lend_state(b);
	bool had = gmem_folio_is(folio, state);
	int err;

	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -ENOTRECOVERABLE;
	/* Where several may share, the mark doesn't tell that this guest does. */
	if (had && gmem_binding_exclusive(b))
		return 0;

	if (gmem_binding_lent(b)) {
		if (folio_mapped(folio))
			unmap_mapping_pages(folio->mapping, folio->index,
					    folio_nr_pages(folio), false);
		if (!gmem_lend_wait_unpinned(folio))
			return -EBUSY;
	}

	err = provider->provide(b->vm, gmem_binding_gfn(b, folio->index), folio,
				b->flags);
	if (err && err != -EUCLEAN)
		return err;

	if (!had)
		gmem_folio_set(folio, state);
	if (gmem_binding_lent(b)) {
		gmem_stat_add(GMEM_STAT_LENT_PAGES, folio_nr_pages(folio));
		gmem_stat_add(GMEM_STAT_LENDS, folio_nr_pages(folio));
	}
	return err;
}

/* Hand a folio out if @err is 0; else let go of it. */
static int gmem_lend_finish(struct folio *folio, int err, struct folio **foliop)
{
	if (err) {
		folio_unlock(folio);
		folio_put(folio);
	} else {
		*foliop = folio;
	}
	return err;
}

int gmem_lend_get(struct gmem_binding *b, pgoff_t index, struct folio **foliop)
{
	struct folio *folio;
	int err;

	gmem_folio_lock_index(b->mem, index);
	folio = gmem_folio_get(b->mem, index);
	if (IS_ERR(folio))
		err = PTR_ERR(folio);
	else
		err = gmem_lend_finish(folio, gmem_lend_provide(b, folio),
				       foliop);
	gmem_folio_unlock_index(b->mem, index);
	return err;
}

/* The page is the provider's for good: keep it from the allocator. */
static void gmem_lend_leak(struct folio *folio)
{
	folio_get(folio);
	gmem_folio_set(folio, GMEM_FOLIO_LEAKED);
	gmem_stat_add(GMEM_STAT_LEAKED_PAGES, folio_nr_pages(folio));
	pr_warn_once("gmem: a provider refused to give back a page of a VM that is gone: it is lost until reboot (GMEM_STATS counts such pages)\n");
}

static bool gmem_lend_denied(const struct gmem_vm *vm,
			     enum gmem_reclaim_reason reason)
{
	return READ_ONCE(vm->policy) == GMEM_POLICY_DENY &&
	       (reason == GMEM_RECLAIM_HOST || reason == GMEM_RECLAIM_PUNCH);
}

static bool gmem_lend_must_scrub(const struct gmem_vm *vm,
				 enum gmem_reclaim_reason reason)
{
	return READ_ONCE(vm->policy) != GMEM_POLICY_ALLOW &&
	       reason != GMEM_RECLAIM_PUNCH && reason != GMEM_RECLAIM_POISON;
}

static int gmem_lend_reclaim_lent(struct gmem_binding *b, struct folio *folio,
				  enum gmem_reclaim_reason reason)
{
	const struct gmem_provider *provider = b->vm->provider;
	int err;

	if (gmem_lend_denied(b->vm, reason))
		return -EACCES;

	err = provider->reclaim(b->vm, gmem_binding_gfn(b, folio->index),
				folio);
	if (err && reason != GMEM_RECLAIM_TEARDOWN)
		return err;

	if (err)
		gmem_lend_leak(folio);
	else if (gmem_lend_must_scrub(b->vm, reason))
		gmem_folio_scrub(folio);
	gmem_folio_clear(folio, GMEM_FOLIO_LENT);
	gmem_stat_add(GMEM_STAT_LENT_PAGES, -folio_nr_pages(folio));
	if (!err)
		gmem_stat_add(GMEM_STAT_RECLAIMS, folio_nr_pages(folio));
	return err;
}

static int gmem_lend_reclaim_shared(struct gmem_binding *b, struct folio *folio,
				    enum gmem_reclaim_reason reason)
{
	const struct gmem_provider *provider = b->vm->provider;
	struct gmem_binding *other;
	int err;

	err = provider->reclaim(b->vm, gmem_binding_gfn(b, folio->index),
				folio);
	if (err && reason != GMEM_RECLAIM_TEARDOWN)
		return err;

	if (err)
		gmem_lend_leak(folio);
	other = gmem_binding_of_page(b->mem, folio->index, NULL);
	if (other == b)
		other = gmem_binding_of_page(b->mem, folio->index, b);
	if (!other)
		gmem_folio_clear(folio, GMEM_FOLIO_SHARED);
	return err;
}

/* Does the guest of @b have the folio? If so, take it back. */
static int gmem_lend_reclaim(struct gmem_binding *b, struct folio *folio,
			     enum gmem_reclaim_reason reason)
{
	if (!gmem_folio_is(folio, gmem_lend_state(b)))
		return 0;
	return gmem_binding_lent(b) ?
		       gmem_lend_reclaim_lent(b, folio, reason) :
		       gmem_lend_reclaim_shared(b, folio, reason);
}

static int gmem_lend_host_access(struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_binding *b;

	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -EIO;
	if (!gmem_folio_is(folio, GMEM_FOLIO_LENT))
		return 0;
	b = gmem_binding_of_page(mem, folio->index, NULL);
	return gmem_lend_reclaim(b, folio, GMEM_RECLAIM_HOST);
}

int gmem_lend_host_get(struct gmem_mem *mem, pgoff_t index,
		       struct folio **foliop)
{
	struct folio *folio;
	int err;

	gmem_folio_lock_index(mem, index);
	folio = gmem_folio_get(mem, index);
	if (IS_ERR(folio))
		err = PTR_ERR(folio);
	else
		err = gmem_lend_finish(folio, gmem_lend_host_access(mem, folio),
				       foliop);
	gmem_folio_unlock_index(mem, index);
	return err;
}

/* Take a folio back from all that have it, or from @b alone if it isn't NULL. */
static int gmem_lend_reclaim_folio(struct gmem_mem *mem, struct folio *folio,
				   struct gmem_binding *b,
				   enum gmem_reclaim_reason reason)
{
	int err;

	if (b)
		return gmem_lend_reclaim(b, folio, reason);

	while ((b = gmem_binding_of_page(mem, folio->index, b))) {
		err = gmem_lend_reclaim(b, folio, reason);
		if (err)
			return err;
	}
	return 0;
}

static bool gmem_lend_concerns(struct folio *folio,
			       enum gmem_reclaim_reason reason)
{
	if (reason != GMEM_RECLAIM_POISON)
		return true;
	return folio_test_hwpoison(folio) ||
	       (folio_test_large(folio) && folio_test_has_hwpoisoned(folio));
}

static int gmem_lend_reclaim_batch(struct gmem_mem *mem, struct gmem_binding *b,
				   struct folio_batch *batch, xa_mark_t state,
				   enum gmem_reclaim_reason reason, u64 *nr)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < folio_batch_count(batch); i++) {
		struct folio *folio = batch->folios[i];
		int err = 0;

		folio_lock(folio);
		if (folio->mapping == mem->inode.i_mapping &&
		    gmem_folio_is(folio, state) &&
		    gmem_lend_concerns(folio, reason)) {
			err = gmem_lend_reclaim_folio(mem, folio, b, reason);
			if (!err && nr)
				*nr += folio_nr_pages(folio);
		}
		folio_unlock(folio);
		if (err && !ret)
			ret = err;
		/* The end of a VM has to look at every page. */
		if (ret && reason != GMEM_RECLAIM_TEARDOWN)
			break;
	}
	return ret;
}

/* All folios in @state of the range, from @b alone if it isn't NULL. */
static int gmem_lend_reclaim_state(struct gmem_mem *mem, struct gmem_binding *b,
				   pgoff_t first, pgoff_t last, xa_mark_t state,
				   enum gmem_reclaim_reason reason, u64 *nr)
{
	struct address_space *mapping = mem->inode.i_mapping;
	struct folio_batch batch;
	pgoff_t next = first;
	bool begun = false;
	int ret = 0;

	folio_batch_init(&batch);
	while (filemap_get_folios_tag(mapping, &next, last, state, &batch)) {
		int err;

		if (b && !begun && first != last &&
		    b->vm->provider->reclaim_begin &&
		    !gmem_lend_denied(b->vm, reason))
			b->vm->provider->reclaim_begin(mapping, first, last);
		begun = true;

		err = gmem_lend_reclaim_batch(mem, b, &batch, state, reason, nr);
		folio_batch_release(&batch);
		cond_resched();
		if (err && !ret)
			ret = err;
		if (ret && reason != GMEM_RECLAIM_TEARDOWN)
			break;
	}
	return ret;
}

int gmem_lend_reclaim_range(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason, u64 *nr)
{
	rwsem_assert_held_write(&b->mem->inode.i_mapping->invalidate_lock);

	/* A page that the host shares is the host's already. */
	if (reason == GMEM_RECLAIM_HOST && !gmem_binding_lent(b))
		return 0;
	return gmem_lend_reclaim_state(b->mem, b, first, last,
				       gmem_lend_state(b), reason, nr);
}

int gmem_lend_reclaim_file(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			   enum gmem_reclaim_reason reason)
{
	int err;

	rwsem_assert_held_write(&mem->inode.i_mapping->invalidate_lock);

	err = gmem_lend_reclaim_state(mem, NULL, first, last, GMEM_FOLIO_LENT,
				      reason, NULL);
	if (err)
		return err;
	return gmem_lend_reclaim_state(mem, NULL, first, last,
				       GMEM_FOLIO_SHARED, reason, NULL);
}
