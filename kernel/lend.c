// SPDX-License-Identifier: GPL-2.0
/*
 * The rules by which a page goes from host to guest and back.
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
 * the new owner's page table entry is in place: a fault handler returns with
 * the folio locked. So the holder of the lock sees every mapping of the folio
 * that exists or that can appear before it unlocks, and none of them belongs to
 * the other side: guest and host mappings of one page never exist together
 * unless it is shared.
 *
 * Lending looks for pins after it has zapped the host's mappings, because only
 * then can no new pin appear.
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "binding.h"
#include "compat.h"
#include "event.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "provider.h"
#include "stats.h"

/*
 * A reference that is about to go away is no pin: retry for up to a
 * millisecond.
 */
#define GMEM_PIN_TRIES 20

bool gmem_lend_wait_unpinned(struct folio *folio)
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

int gmem_lend_prepare(struct gmem_binding *b, struct folio *folio)
{
	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -ENOTRECOVERABLE;

	if (gmem_binding_lent(b) && !gmem_folio_is(folio, GMEM_FOLIO_LENT)) {
		if (folio_mapped(folio))
			unmap_mapping_pages(folio->mapping, folio->index,
					    folio_nr_pages(folio), false);
		if (!gmem_lend_wait_unpinned(folio))
			return -EBUSY;
	}
	return 0;
}

void gmem_lend_provided(struct gmem_binding *b, struct folio *folio)
{
	xa_mark_t state = gmem_lend_state(b);

	if (gmem_folio_is(folio, state))
		return;
	gmem_folio_set(b->mem, folio, state);
	if (gmem_binding_lent(b)) {
		gmem_stat_add(GMEM_STAT_LENT_PAGES, folio_nr_pages(folio));
		atomic_long_add(folio_nr_pages(folio), &b->vm->lent_pages);
		gmem_stat_add(GMEM_STAT_LENDS, folio_nr_pages(folio));
		gmem_event_lend(b, folio);
	} else {
		gmem_event_share(b, folio);
	}
}

static int gmem_lend_provide(struct gmem_binding *b, struct folio *folio)
{
	int err;

	err = gmem_lend_prepare(b, folio);
	if (err)
		return err;
	/*
	 * Call the provider even for a marked folio: perhaps only another guest
	 * shares it, or an unmap began to take it back and then failed at
	 * another page.
	 */
	err = b->vm->provider->provide(b->vm, gmem_binding_gfn(b, folio->index),
				       folio, b->flags);
	if (!err || err == -EUCLEAN)
		gmem_lend_provided(b, folio);
	return err;
}

/* Hand a folio out if @err is 0; else drop the reference. */
static int gmem_lend_hand_out(struct folio *folio, int err,
			      struct folio **foliop)
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
		err = gmem_lend_hand_out(folio, gmem_lend_provide(b, folio),
					 foliop);
	gmem_folio_unlock_index(b->mem, index);
	return err;
}

/* The page is the provider's for good: keep it from allocator and host. */
static void gmem_lend_leak(const struct gmem_binding *b, struct folio *folio)
{
	folio_get(folio);
	gmem_folio_set(b->mem, folio, GMEM_FOLIO_LEAKED);
	if (folio_mapped(folio))
		unmap_mapping_pages(folio->mapping, folio->index,
				    folio_nr_pages(folio), false);
	gmem_stat_add(GMEM_STAT_LEAKED_PAGES, folio_nr_pages(folio));
	gmem_event_leak(b, folio);
	pr_warn_once("gmem: a provider refused to give back a page of a VM that is gone: it is lost until reboot (GMEM_STATS counts such pages)\n");
}

static bool gmem_lend_denied(const struct gmem_binding *b,
			     enum gmem_reclaim_reason reason)
{
	return gmem_binding_lent(b) &&
	       READ_ONCE(b->vm->policy) == GMEM_POLICY_DENY &&
	       (reason == GMEM_RECLAIM_HOST || reason == GMEM_RECLAIM_PUNCH);
}

static bool gmem_lend_must_scrub(const struct gmem_vm *vm,
				 enum gmem_reclaim_reason reason)
{
	return READ_ONCE(vm->policy) != GMEM_POLICY_ALLOW &&
	       reason != GMEM_RECLAIM_PUNCH && reason != GMEM_RECLAIM_DISCARD;
}

/*
 * May the provider drop the contents? It must not if another page can still
 * make the reclaim fail: then the guest gets the page with its contents again.
 */
static bool gmem_lend_may_sanitize(const struct gmem_binding *b,
				   enum gmem_reclaim_reason reason)
{
	return gmem_binding_lent(b) && gmem_lend_must_scrub(b->vm, reason) &&
	       (reason == GMEM_RECLAIM_HOST || reason == GMEM_RECLAIM_TEARDOWN);
}

/* First step: the guest loses the folio. The state stays. */
static int gmem_lend_begin_folio(struct gmem_binding *b, struct folio *folio,
				 enum gmem_reclaim_reason reason)
{
	int err;

	if (!gmem_folio_is(folio, gmem_lend_state(b)))
		return 0;
	if (gmem_lend_denied(b, reason))
		err = -EACCES;
	else
		err = b->vm->provider->reclaim(b->vm,
					       gmem_binding_gfn(b, folio->index),
					       folio,
					       gmem_lend_may_sanitize(b, reason));
	if (err)
		gmem_event_reclaim_refused(b, folio, reason, err);
	return err;
}

static void gmem_lend_finish_lent(struct gmem_binding *b, struct folio *folio,
				  enum gmem_reclaim_reason reason)
{
	/* A leaked folio belongs to the provider: nobody may write to it. */
	if (!gmem_folio_is(folio, GMEM_FOLIO_LEAKED)) {
		if (gmem_lend_must_scrub(b->vm, reason))
			gmem_folio_scrub(folio);
		gmem_stat_add(GMEM_STAT_RECLAIMS, folio_nr_pages(folio));
		gmem_event_reclaim(b, folio, reason);
	}
	gmem_folio_clear(b->mem, folio, GMEM_FOLIO_LENT);
	gmem_stat_add(GMEM_STAT_LENT_PAGES, -folio_nr_pages(folio));
	atomic_long_sub(folio_nr_pages(folio), &b->vm->lent_pages);
}

/* Second step: the folio is the host's. No other binding holds it. */
static int gmem_lend_finish_folio(struct gmem_binding *b, struct folio *folio,
				  enum gmem_reclaim_reason reason)
{
	if (!gmem_folio_is(folio, gmem_lend_state(b)))
		return 0;
	if (gmem_binding_lent(b))
		gmem_lend_finish_lent(b, folio, reason);
	else
		gmem_folio_clear(b->mem, folio, GMEM_FOLIO_SHARED);
	return 0;
}

/* First step at the end of a VM. It can't fail: a refused folio is leaked. */
static int gmem_lend_end_folio(struct gmem_binding *b, struct folio *folio,
			       enum gmem_reclaim_reason reason)
{
	if (gmem_lend_begin_folio(b, folio, reason))
		gmem_lend_leak(b, folio);
	return 0;
}

/* Both steps at once, for a lent folio. */
static int gmem_lend_reclaim_folio(struct gmem_binding *b, struct folio *folio,
				   enum gmem_reclaim_reason reason)
{
	int err;

	if (reason == GMEM_RECLAIM_TEARDOWN)
		err = gmem_lend_end_folio(b, folio, reason);
	else
		err = gmem_lend_begin_folio(b, folio, reason);
	return err ?: gmem_lend_finish_folio(b, folio, reason);
}

static int gmem_lend_host_access(struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_binding *b;

	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -EIO;
	if (!gmem_folio_is(folio, GMEM_FOLIO_LENT))
		return 0;
	b = gmem_binding_of_page(mem, folio->index, NULL);
	return gmem_lend_reclaim_folio(b, folio, GMEM_RECLAIM_HOST);
}

/* A view never takes a page back. */
static int gmem_lend_view_access(struct gmem_mem *mem, struct folio *folio)
{
	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -EIO;
	return gmem_folio_is(folio, GMEM_FOLIO_LENT) ? -EACCES : 0;
}

static int gmem_lend_get_for(struct gmem_mem *mem, pgoff_t index,
			     struct folio **foliop,
			     int (*access)(struct gmem_mem *mem,
					   struct folio *folio))
{
	struct folio *folio;
	int err;

	gmem_folio_lock_index(mem, index);
	folio = gmem_folio_get(mem, index);
	if (IS_ERR(folio))
		err = PTR_ERR(folio);
	else
		err = gmem_lend_hand_out(folio, access(mem, folio), foliop);
	gmem_folio_unlock_index(mem, index);
	return err;
}

int gmem_lend_host_get(struct gmem_mem *mem, pgoff_t index,
		       struct folio **folio)
{
	return gmem_lend_get_for(mem, index, folio, gmem_lend_host_access);
}

int gmem_lend_view_get(struct gmem_mem *mem, pgoff_t index,
		       struct folio **folio)
{
	return gmem_lend_get_for(mem, index, folio, gmem_lend_view_access);
}

/* One of the steps above, or both. */
typedef int (*gmem_lend_step)(struct gmem_binding *b, struct folio *folio,
			      enum gmem_reclaim_reason reason);

/**
 * struct gmem_lend_walk - a walk over the folios that guests have
 * @mem: the guestmem
 * @b: the binding whose folios count; NULL for all bindings
 * @step: called for each folio and binding
 * @reason: passed to @step
 * @nr: if not NULL, grows by the pages for which @step succeeded
 */
struct gmem_lend_walk {
	struct gmem_mem *mem;
	struct gmem_binding *b;
	gmem_lend_step step;
	enum gmem_reclaim_reason reason;
	u64 *nr;
};

static bool gmem_lend_concerns(struct folio *folio,
			       enum gmem_reclaim_reason reason)
{
	return reason != GMEM_RECLAIM_POISON || gmem_folio_broken(folio);
}

static int gmem_lend_walk_folio(const struct gmem_lend_walk *walk,
				struct folio *folio)
{
	struct gmem_binding *b = walk->b;
	int err;

	if (b)
		return walk->step(b, folio, walk->reason);

	while ((b = gmem_binding_of_page(walk->mem, folio->index, b))) {
		err = walk->step(b, folio, walk->reason);
		if (err)
			return err;
	}
	return 0;
}

static int gmem_lend_walk_batch(const struct gmem_lend_walk *walk,
				struct folio_batch *batch, xa_mark_t state)
{
	unsigned int i;
	int err;

	for (i = 0; i < folio_batch_count(batch); i++) {
		struct folio *folio = batch->folios[i];

		err = 0;
		folio_lock(folio);
		if (folio->mapping == walk->mem->inode.i_mapping &&
		    gmem_folio_is(folio, state) &&
		    gmem_lend_concerns(folio, walk->reason)) {
			err = gmem_lend_walk_folio(walk, folio);
			if (!err && walk->nr)
				*walk->nr += folio_nr_pages(folio);
		}
		folio_unlock(folio);
		if (err)
			return err;
	}
	return 0;
}

/* A walk that may fail stops when its task is killed. */
static bool gmem_lend_walk_killed(const struct gmem_lend_walk *walk)
{
	if (walk->reason == GMEM_RECLAIM_TEARDOWN)
		return false;
	/* Only a reclaim for the host may stop between two folios. */
	if (walk->step == gmem_lend_finish_folio &&
	    walk->reason != GMEM_RECLAIM_HOST)
		return false;
	return fatal_signal_pending(current);
}

static int gmem_lend_walk(const struct gmem_lend_walk *walk, pgoff_t first,
			  pgoff_t last, xa_mark_t state)
{
	struct address_space *mapping = walk->mem->inode.i_mapping;
	struct folio_batch batch;
	pgoff_t next = first;
	int err = 0;

	rwsem_assert_held_write(&mapping->invalidate_lock);

	folio_batch_init(&batch);
	while (!err && filemap_get_folios_tag(mapping, &next, last, state,
					      &batch)) {
		err = gmem_lend_walk_batch(walk, &batch, state);
		folio_batch_release(&batch);
		if (!err && gmem_lend_walk_killed(walk))
			err = -EINTR;
		cond_resched();
	}
	return err;
}

static int gmem_lend_walk_binding(struct gmem_binding *b, pgoff_t first,
				  pgoff_t last, gmem_lend_step step,
				  enum gmem_reclaim_reason reason, u64 *nr)
{
	const struct gmem_lend_walk walk = {
		.mem = b->mem,
		.b = b,
		.step = step,
		.reason = reason,
		.nr = nr,
	};

	return gmem_lend_walk(&walk, first, last, gmem_lend_state(b));
}

/*
 * Many folios are about to come back: the provider may have a short cut. True
 * if the guest has lost all of them by now.
 */
static bool gmem_lend_announce(struct gmem_binding *b, pgoff_t first,
			       pgoff_t last, enum gmem_reclaim_reason reason)
{
	const struct gmem_provider *provider = b->vm->provider;
	struct address_space *mapping = b->mem->inode.i_mapping;
	pgoff_t index = first;

	if (!provider->reclaim_begin || first == last ||
	    gmem_lend_denied(b, reason) ||
	    !xa_find(&mapping->i_pages, &index, last, gmem_lend_state(b)))
		return false;
	return provider->reclaim_begin(b->vm, gmem_binding_gfn(b, first),
				       mapping, first, last,
				       reason == GMEM_RECLAIM_TEARDOWN &&
				       gmem_lend_may_sanitize(b, reason));
}

/*
 * A page stays shared until the last binding that shares it goes: skip the
 * pages that other bindings hold, or the end of N bindings of M pages would
 * cost N * M.
 */
static void gmem_lend_finish_shared(struct gmem_binding *b, pgoff_t first,
				    pgoff_t last,
				    enum gmem_reclaim_reason reason)
{
	pgoff_t alone_last = last;

	while (first <= last && gmem_binding_alone(b, &first, &alone_last)) {
		gmem_lend_walk_binding(b, first, alone_last,
				       gmem_lend_finish_folio, reason, NULL);
		first = alone_last + 1;
		alone_last = last;
	}
}

static void gmem_lend_end_shared(struct gmem_binding *b, pgoff_t first,
				 pgoff_t last)
{
	if (!b->vm->provider->ends_with_vm &&
	    !gmem_lend_announce(b, first, last, GMEM_RECLAIM_TEARDOWN))
		gmem_lend_walk_binding(b, first, last, gmem_lend_end_folio,
				       GMEM_RECLAIM_TEARDOWN, NULL);
	gmem_lend_finish_shared(b, first, last, GMEM_RECLAIM_TEARDOWN);
}

int gmem_lend_reclaim_range(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason, u64 *nr)
{
	gmem_lend_step step = gmem_lend_reclaim_folio;

	if (!gmem_binding_lent(b)) {
		/* The host has never lost a shared page. */
		if (reason == GMEM_RECLAIM_TEARDOWN)
			gmem_lend_end_shared(b, first, last);
		return 0;
	}
	if (gmem_lend_announce(b, first, last, reason))
		step = gmem_lend_finish_folio;
	return gmem_lend_walk_binding(b, first, last, step, reason, nr);
}

int gmem_lend_begin_reclaim(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason)
{
	if (gmem_lend_announce(b, first, last, reason))
		return 0;
	return gmem_lend_walk_binding(b, first, last, gmem_lend_begin_folio,
				      reason, NULL);
}

void gmem_lend_finish_reclaim(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, enum gmem_reclaim_reason reason)
{
	if (gmem_binding_lent(b))
		gmem_lend_walk_binding(b, first, last, gmem_lend_finish_folio,
				       reason, NULL);
	else
		gmem_lend_finish_shared(b, first, last, reason);
}

/* The first step, for lent and for shared pages. */
static int gmem_lend_begin_file(struct gmem_mem *mem, pgoff_t first,
				pgoff_t last, enum gmem_reclaim_reason reason)
{
	const struct gmem_lend_walk walk = {
		.mem = mem,
		.step = gmem_lend_begin_folio,
		.reason = reason,
	};
	int err;

	err = gmem_lend_walk(&walk, first, last, GMEM_FOLIO_LENT);
	if (err)
		return err;
	return gmem_lend_walk(&walk, first, last, GMEM_FOLIO_SHARED);
}

int gmem_lend_reclaim_file(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	const struct gmem_lend_walk finish = {
		.mem = mem,
		.step = gmem_lend_finish_folio,
		.reason = GMEM_RECLAIM_PUNCH,
	};
	int err;

	err = gmem_lend_begin_file(mem, first, last, GMEM_RECLAIM_PUNCH);
	if (err)
		return err;
	/*
	 * Shared pages lose their mark with the folio: see gmem_folio_remove().
	 */
	return gmem_lend_walk(&finish, first, last, GMEM_FOLIO_LENT);
}

void gmem_lend_zap_broken(struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_binding *b = NULL;

	down_read(&mem->tree_rwsem);
	while ((b = gmem_binding_of_page(mem, folio->index, b)))
		if (b->vm->provider->zap)
			b->vm->provider->zap(b->vm,
					     gmem_binding_gfn(b, folio->index),
					     folio_nr_pages(folio));
	up_read(&mem->tree_rwsem);
}

void gmem_lend_poison(struct gmem_mem *mem)
{
	/*
	 * A page that a provider refuses to give back is out of reach there,
	 * too.
	 */
	gmem_lend_begin_file(mem, 0, ULONG_MAX, GMEM_RECLAIM_POISON);
}
