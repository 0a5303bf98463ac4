// SPDX-License-Identifier: GPL-2.0-only
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
 *       | +--------------> shared <------>+
 *       +------------------- unbind   change in place
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
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "binding.h"
#include "compat.h"
#include "event.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "piece.h"
#include "provider.h"
#include "replace.h"
#include "stats.h"

static xa_mark_t gmem_lend_state(const struct gmem_binding *b)
{
	return gmem_binding_lent(b) ? GMEM_FOLIO_LENT : GMEM_FOLIO_SHARED;
}

int gmem_lend_prepare(struct gmem_binding *b, struct folio *folio)
{
	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -ENOTRECOVERABLE;

	/*
	 * A folio that isn't mapped may still be in a TLB: munmap() takes a
	 * mapping from the reverse map before it flushes, but holds a reference
	 * until it has flushed. It looks pinned until then.
	 */
	if (gmem_binding_lent(b) && !gmem_folio_is(folio, GMEM_FOLIO_LENT)) {
		if (folio_mapped(folio))
			gmem_unmap_pages(folio->mapping, folio->index,
					 folio_nr_pages(folio), false);
		return gmem_folio_check_pins(b->mem, folio);
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

int gmem_lend_get(struct gmem_binding *b, pgoff_t index, bool wait,
		  struct folio **foliop)
{
	struct folio *folio;
	int err;

	err = gmem_folio_lock_index(b->mem, index, wait);
	if (err)
		return err;
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
		gmem_unmap_pages(folio->mapping, folio->index,
				 folio_nr_pages(folio), false);
	gmem_stat_add(GMEM_STAT_LEAKED_PAGES, folio_nr_pages(folio));
	gmem_event_leak(b, folio);
	pr_warn_once("gmem: a page is lost until reboot: the provider of a VM refused to give it back, or it broke while it was pinned (GMEM_STATS counts such pages)\n");
}

static bool gmem_lend_denied(const struct gmem_binding *b,
			     enum gmem_reclaim_reason reason)
{
	u32 policy = gmem_binding_policy(b);

	if (!gmem_binding_lent(b))
		return false;
	if (reason == GMEM_RECLAIM_READ)
		return policy != GMEM_POLICY_ALLOW;
	return policy == GMEM_POLICY_DENY && !READ_ONCE(b->vm->ending) &&
	       (reason == GMEM_RECLAIM_HOST || reason == GMEM_RECLAIM_PUNCH);
}

static bool gmem_lend_must_scrub(const struct gmem_binding *b,
				 enum gmem_reclaim_reason reason)
{
	switch (reason) {
	case GMEM_RECLAIM_READ:
		/* Also if the policy changes meanwhile. */
	case GMEM_RECLAIM_PUNCH:
	case GMEM_RECLAIM_DISCARD:
		return false;
	default:
		return gmem_binding_policy(b) != GMEM_POLICY_ALLOW;
	}
}

/*
 * May the provider drop the contents? It must not if another page can still
 * make the reclaim fail: then the guest gets the page with its contents again.
 */
static bool gmem_lend_may_sanitize(const struct gmem_binding *b,
				   enum gmem_reclaim_reason reason)
{
	return gmem_binding_lent(b) && gmem_lend_must_scrub(b, reason) &&
	       (reason == GMEM_RECLAIM_HOST || reason == GMEM_RECLAIM_TEARDOWN);
}

static int gmem_lend_prepare_replacement(struct gmem_binding *b,
					 struct folio *folio)
{
	int err = gmem_replace_prepare(b->mem, folio);

	/* A brief reference looks like a pin. */
	if (err && !gmem_replace_needed(b->mem, folio))
		err = 0;
	return err;
}

/*
 * The guest has lost a lent folio, and no page table has it, so that no pin can
 * appear. A pin that was taken through a paged window may be left: a device goes
 * on using the guest's memory. So the guest keeps the folio, or another one
 * replaces it before it gets another owner.
 */
static int gmem_lend_check_pins(struct gmem_binding *b, struct folio *folio,
				enum gmem_reclaim_reason reason)
{
	switch (reason) {
	case GMEM_RECLAIM_HOST:
	case GMEM_RECLAIM_READ:
	case GMEM_RECLAIM_PUNCH:
	case GMEM_RECLAIM_CHANGE:
		if (!gmem_replace_needed(b->mem, folio))
			return 0;
		gmem_folio_settle(folio);
		return gmem_folio_check_pins(b->mem, folio);
	case GMEM_RECLAIM_UNBIND:
		/* Don't wait for a brief reference: a new folio costs less. */
		if (!gmem_replace_needed(b->mem, folio))
			return 0;
		return gmem_lend_prepare_replacement(b, folio);
	default:
		return 0;
	}
}

/* First step, if the provider has already taken the folio from the guest. */
static int gmem_lend_begin_lost_folio(struct gmem_binding *b,
				      struct folio *folio,
				      enum gmem_reclaim_reason reason)
{
	int err;

	if (!gmem_binding_lent(b) || !gmem_folio_is(folio, GMEM_FOLIO_LENT))
		return 0;
	err = gmem_lend_check_pins(b, folio, reason);
	if (err && err != -EINPROGRESS)
		gmem_event_reclaim_refused(b, folio, reason, err);
	return err;
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
	return err ?: gmem_lend_begin_lost_folio(b, folio, reason);
}

static bool gmem_lend_must_replace(const struct gmem_binding *b,
				   struct folio *folio,
				   enum gmem_reclaim_reason reason)
{
	return (reason == GMEM_RECLAIM_UNBIND ||
		reason == GMEM_RECLAIM_TEARDOWN) &&
	       gmem_replace_needed(b->mem, folio);
}

/*
 * The folio gets the state "host", or leaves the file. A hole reads as zeroes, so
 * it does for a folio that would be scrubbed; else it is the last resort.
 */
static void gmem_lend_release(struct gmem_binding *b, struct folio *folio,
			      enum gmem_reclaim_reason reason)
{
	bool replace = gmem_lend_must_replace(b, folio, reason);
	bool scrub = gmem_lend_must_scrub(b, reason);

	gmem_folio_clear(b->mem, folio, GMEM_FOLIO_LENT);
	/* It broke while it was pinned: no page of the host's can stand for it. */
	if (replace && gmem_folio_broken(folio)) {
		gmem_lend_leak(b, folio);
		return;
	}
	if (replace && reason == GMEM_RECLAIM_TEARDOWN &&
	    (scrub || gmem_lend_prepare_replacement(b, folio))) {
		gmem_replace_by_hole(folio);
		return;
	}
	if (replace && gmem_replace(b->mem, folio, !scrub))
		return;
	if (scrub)
		gmem_folio_scrub(folio);
}

static void gmem_lend_finish_lent(struct gmem_binding *b, struct folio *folio,
				  enum gmem_reclaim_reason reason)
{
	/* A leaked folio belongs to the provider: nobody may write to it. */
	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED)) {
		gmem_folio_clear(b->mem, folio, GMEM_FOLIO_LENT);
	} else {
		gmem_stat_add(GMEM_STAT_RECLAIMS, folio_nr_pages(folio));
		gmem_event_reclaim(b, folio, reason);
		gmem_lend_release(b, folio, reason);
	}
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
	if (!gmem_folio_is(folio, GMEM_FOLIO_LEAKED) &&
	    gmem_lend_begin_folio(b, folio, reason))
		gmem_lend_leak(b, folio);
	return 0;
}

/* Both steps at once, for a lent folio. */
static int gmem_lend_reclaim_folio(struct gmem_binding *b, struct folio *folio,
				   enum gmem_reclaim_reason reason)
{
	return gmem_lend_begin_folio(b, folio, reason) ?:
	       gmem_lend_finish_folio(b, folio, reason);
}

/* Both steps at once, if the provider has already taken the folio. */
static int gmem_lend_reclaim_lost_folio(struct gmem_binding *b,
					struct folio *folio,
					enum gmem_reclaim_reason reason)
{
	return gmem_lend_begin_lost_folio(b, folio, reason) ?:
	       gmem_lend_finish_folio(b, folio, reason);
}

static int gmem_lend_host_access(struct gmem_mem *mem, struct folio *folio,
				 enum gmem_lend_right right)
{
	struct gmem_binding *b;

	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return -EIO;
	if (!gmem_folio_is(folio, GMEM_FOLIO_LENT))
		return 0;
	b = gmem_binding_of_page(mem, folio->index, NULL);
	if (gmem_binding_changing(b, folio->index))
		return -EALREADY;
	if (right == GMEM_LEND_RIGHT_NONE)
		return -EACCES;
	return gmem_lend_reclaim_folio(b, folio,
				       right == GMEM_LEND_RIGHT_READ ?
					       GMEM_RECLAIM_READ :
					       GMEM_RECLAIM_HOST);
}

int gmem_lend_host_get(struct gmem_mem *mem, pgoff_t index,
		       enum gmem_lend_right right, bool wait,
		       struct folio **foliop)
{
	struct folio *folio;
	int err;

	err = gmem_folio_lock_index(mem, index, wait);
	if (err)
		return err;
	folio = gmem_folio_get(mem, index);
	if (IS_ERR(folio))
		err = PTR_ERR(folio);
	else
		err = gmem_lend_hand_out(folio,
					 gmem_lend_host_access(mem, folio,
							       right),
					 foliop);
	gmem_folio_unlock_index(mem, index);
	return err;
}

/* One of the steps above, or both. */
typedef int (*gmem_lend_step)(struct gmem_binding *b, struct folio *folio,
			      enum gmem_reclaim_reason reason);

/* Others wait for the invalidate lock: don't wait for a reference here. */
static int gmem_lend_walk_step(struct gmem_binding *b, struct folio *folio,
			       gmem_lend_step step,
			       enum gmem_reclaim_reason reason)
{
	int err = step(b, folio, reason);

	/* A change waits without the lock. */
	if (err != -EINPROGRESS || reason == GMEM_RECLAIM_CHANGE)
		return err;
	gmem_folio_give_up(b->mem, folio);
	err = step(b, folio, reason);
	return err == -EINPROGRESS ? -EBUSY : err;
}

static int gmem_lend_walk_batch(struct gmem_binding *b,
				struct folio_batch *batch, xa_mark_t state,
				gmem_lend_step step,
				enum gmem_reclaim_reason reason)
{
	unsigned int i;
	int err = 0;

	for (i = 0; !err && i < folio_batch_count(batch); i++) {
		struct folio *folio = batch->folios[i];

		folio_lock(folio);
		if (folio->mapping == b->mem->inode.i_mapping &&
		    gmem_folio_is(folio, state))
			err = gmem_lend_walk_step(b, folio, step, reason);
		folio_unlock(folio);
	}
	return err;
}

/* Call @step for the folios of a piece that the guest of @b holds. */
static int gmem_lend_walk(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			  gmem_lend_step step, enum gmem_reclaim_reason reason)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	xa_mark_t state = gmem_lend_state(b);
	struct folio_batch batch;
	int err = 0;

	rwsem_assert_held_write(&mapping->invalidate_lock);

	folio_batch_init(&batch);
	while (!err && filemap_get_folios_tag(mapping, &first, last, state,
					      &batch)) {
		err = gmem_lend_walk_batch(b, &batch, state, step, reason);
		folio_batch_release(&batch);
		cond_resched();
	}
	return err;
}

/*
 * Many folios are about to come back: the provider may have a short cut. True
 * if the guest has lost all of them by now.
 */
static bool gmem_lend_announce(struct gmem_binding *b, pgoff_t first,
			       pgoff_t last, enum gmem_reclaim_reason reason)
{
	const struct gmem_provider *provider = b->vm->provider;

	if (!provider->reclaim_begin || first == last ||
	    gmem_lend_denied(b, reason) ||
	    !gmem_piece_find(b->mem, &(pgoff_t){ first }, last,
			     gmem_lend_state(b)))
		return false;
	return provider->reclaim_begin(b->vm, gmem_binding_gfn(b, first),
				       b->mem->inode.i_mapping, first, last,
				       reason == GMEM_RECLAIM_TEARDOWN &&
				       gmem_lend_may_sanitize(b, reason));
}

int gmem_lend_begin_piece(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			  enum gmem_reclaim_reason reason)
{
	gmem_lend_step step = gmem_lend_begin_folio;

	if (reason == GMEM_RECLAIM_TEARDOWN)
		step = gmem_lend_end_folio;
	if (gmem_lend_announce(b, first, last, reason)) {
		if (!gmem_binding_lent(b) || (reason != GMEM_RECLAIM_PUNCH &&
					      reason != GMEM_RECLAIM_UNBIND &&
					      reason != GMEM_RECLAIM_CHANGE))
			return 0;
		step = gmem_lend_begin_lost_folio;
	}
	return gmem_lend_walk(b, first, last, step, reason);
}

void gmem_lend_finish_piece(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason)
{
	gmem_lend_walk(b, first, last, gmem_lend_finish_folio, reason);
}

int gmem_lend_begin_reclaim(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    enum gmem_reclaim_reason reason)
{
	struct gmem_mem *mem = b->mem;
	pgoff_t piece_last;
	int err;

	/*
	 * Always take the lock once: a guest access that doesn't see the range of
	 * the unmap yet may be about to change a page's state.
	 */
	do {
		err = gmem_piece_lock_killable(mem);
		if (err)
			return err;
		piece_last = gmem_provider_batches(b->vm) ? last :
				gmem_piece_last(mem, first, last);
		err = gmem_lend_begin_piece(b, first, piece_last, reason);
		filemap_invalidate_unlock(mem->inode.i_mapping);
		cond_resched();
		first = piece_last + 1;
	} while (!err && piece_last < last &&
		 gmem_piece_find(mem, &first, last, gmem_lend_state(b)));
	return err;
}

/*
 * Call @step for the first folio of [*index, @last] that the guest of @b holds;
 * *index moves behind it, or to it if @step fails. False if there is none. Without
 * a batch of folios, whose references would look like pins for as long as one of
 * them is scrubbed.
 */
static bool gmem_lend_step_folio(struct gmem_binding *b, pgoff_t *index,
				 pgoff_t last, gmem_lend_step step,
				 enum gmem_reclaim_reason reason, int *err,
				 u64 *nr)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	xa_mark_t state = gmem_lend_state(b);
	struct folio *folio;

	*err = 0;
	if (*index > last || !gmem_piece_find(b->mem, index, last, state))
		return false;
	folio = filemap_lock_folio(mapping, *index);
	if (IS_ERR(folio)) {
		++*index;
		return true;
	}
	if (gmem_folio_is(folio, state)) {
		*err = step(b, folio, reason);
		if (!*err && nr)
			*nr += folio_nr_pages(folio);
	}
	if (!*err)
		*index = folio_next_index(folio);
	folio_unlock(folio);
	folio_put(folio);
	cond_resched();
	return true;
}

bool gmem_lend_finish_reclaim(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, enum gmem_reclaim_reason reason)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	bool more = true;
	int err;

	/*
	 * Scrubbing takes the most time: a folio at a time, beside faults. A punch
	 * and the like hold references to many folios, which would look like pins;
	 * they have the invalidate lock for writing.
	 */
	while (more) {
		filemap_invalidate_lock_shared(mapping);
		more = gmem_lend_step_folio(b, &first, last,
					    gmem_lend_finish_folio, reason,
					    &err, NULL);
		filemap_invalidate_unlock_shared(mapping);
		if (more && gmem_killed())
			return false;
	}
	return true;
}

static int gmem_lend_unshare_folio(struct gmem_binding *b, struct folio *folio,
				   enum gmem_reclaim_reason reason)
{
	const struct gmem_binding *other =
		gmem_binding_of_page(b->mem, folio->index, NULL);

	/* A new binding, of a provider that shares a page only once? */
	if (!other || gmem_binding_lent(other))
		gmem_folio_clear(b->mem, folio, GMEM_FOLIO_SHARED);
	return 0;
}

/*
 * A page stays shared until the last binding that shares it goes: skip the
 * pages that other bindings hold, or the end of N bindings of M pages would
 * cost N * M.
 */
static void gmem_lend_unshare_piece(struct gmem_binding *b, pgoff_t first,
				    pgoff_t last)
{
	pgoff_t alone_last = last;

	while (first <= last && gmem_binding_alone(b, &first, &alone_last)) {
		gmem_lend_walk(b, first, alone_last, gmem_lend_unshare_folio,
			       GMEM_RECLAIM_UNBIND);
		first = alone_last + 1;
		alone_last = last;
	}
}

bool gmem_lend_unshare(struct gmem_binding *b, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	pgoff_t piece_last;

	/* @b no longer sets the state; if another binding sets it, it stays. */
	while (gmem_piece_find(b->mem, &first, last, GMEM_FOLIO_SHARED)) {
		piece_last = gmem_piece_last(b->mem, first, last);
		filemap_invalidate_lock(mapping);
		gmem_lend_unshare_piece(b, first, piece_last);
		filemap_invalidate_unlock(mapping);
		cond_resched();
		if (piece_last == last)
			break;
		first = piece_last + 1;
		if (gmem_killed())
			return false;
	}
	return true;
}

int gmem_lend_reclaim_piece(struct gmem_binding *b, pgoff_t first, pgoff_t last,
			    u64 *nr)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	gmem_lend_step step = gmem_lend_reclaim_folio;
	bool more = true;
	int err;

	err = gmem_piece_lock_killable(b->mem);
	if (err)
		return err;
	if (gmem_lend_announce(b, first, last, GMEM_RECLAIM_HOST))
		step = gmem_lend_reclaim_lost_folio;
	filemap_invalidate_unlock(mapping);

	while (!err && more) {
		if (fatal_signal_pending(current) ||
		    down_read_killable(&mapping->invalidate_lock))
			return -EINTR;
		more = gmem_lend_step_folio(b, &first, last, step,
					    GMEM_RECLAIM_HOST, &err, nr);
		filemap_invalidate_unlock_shared(mapping);
		if (err == -EINPROGRESS)
			err = gmem_folio_wait(b->mem, first);
	}
	return err;
}

/* ---- a change in place ---- */

static int gmem_lend_take_folio(struct gmem_binding *b, struct folio *folio)
{
	int err;

	/* No guest gets it, and the module holds it. */
	if (gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		return 0;
	/* A fault maps a page under the folio lock alone. */
	if (folio_mapped(folio))
		gmem_unmap_pages(folio->mapping, folio->index,
				 folio_nr_pages(folio), false);
	/* Nobody uses a broken page, but the kernel holds it. */
	if (!folio_test_hwpoison(folio) || folio_test_large(folio)) {
		err = gmem_folio_check_pins(b->mem, folio);
		if (err)
			return err;
	}
	if (gmem_folio_is(folio, GMEM_FOLIO_SHARED)) {
		gmem_folio_clear(b->mem, folio, GMEM_FOLIO_SHARED);
		gmem_lend_provided(b, folio);
	}
	return 0;
}

/* On failure, *first is the index of the folio that failed. */
static int gmem_lend_take_piece(struct gmem_binding *b, pgoff_t *first,
				pgoff_t last)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	struct folio_batch batch;
	pgoff_t next = *first;
	unsigned int i;
	int err = 0;

	/* One zap instead of many. */
	gmem_unmap_pages(mapping, *first, last - *first + 1, false);
	folio_batch_init(&batch);
	while (!err && filemap_get_folios(mapping, &next, last, &batch)) {
		for (i = 0; !err && i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];

			folio_lock(folio);
			if (folio->mapping == mapping)
				err = gmem_lend_take_folio(b, folio);
			if (err)
				*first = folio->index;
			folio_unlock(folio);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
	return err;
}

int gmem_lend_take(struct gmem_binding *b, unsigned long end)
{
	pgoff_t first = b->first, last = b->last, piece_last;
	int err;

	while (first <= last &&
	       gmem_piece_find(b->mem, &first, last, XA_PRESENT)) {
		err = gmem_piece_lock_killable(b->mem);
		if (err)
			return err;
		piece_last = gmem_piece_last(b->mem, first, last);
		err = gmem_lend_take_piece(b, &first, piece_last);
		filemap_invalidate_unlock(b->mem->inode.i_mapping);
		cond_resched();
		if (err == -EINPROGRESS)
			err = time_before(jiffies, end) ?
				      gmem_folio_wait(b->mem, first) : -EBUSY;
		else if (!err)
			first = piece_last + 1;
		if (err)
			return err;
	}
	return 0;
}

static int gmem_lend_open_folio(struct gmem_binding *b, struct folio *folio,
				enum gmem_reclaim_reason reason)
{
	gmem_folio_clear(b->mem, folio, GMEM_FOLIO_LENT);
	gmem_folio_set(b->mem, folio, GMEM_FOLIO_SHARED);
	gmem_stat_add(GMEM_STAT_RECLAIMS, folio_nr_pages(folio));
	gmem_stat_add(GMEM_STAT_LENT_PAGES, -folio_nr_pages(folio));
	atomic_long_sub(folio_nr_pages(folio), &b->vm->lent_pages);
	gmem_event_share(b, folio);
	return 0;
}

void gmem_lend_open(struct gmem_binding *b)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	pgoff_t first = b->first, last = b->last, piece_last;

	while (first <= last &&
	       gmem_piece_find(b->mem, &first, last, GMEM_FOLIO_LENT)) {
		piece_last = gmem_piece_last(b->mem, first, last);
		filemap_invalidate_lock(mapping);
		gmem_lend_walk(b, first, piece_last, gmem_lend_open_folio,
			       GMEM_RECLAIM_CHANGE);
		filemap_invalidate_unlock(mapping);
		cond_resched();
		first = piece_last + 1;
	}
}

/* ---- all bindings of a range of the file ---- */

/*
 * Guests may share a page many times. A provider that takes a page from all of
 * its guests at once needs one call for the piece, and one for each folio. The
 * others take a range from each guest. So N bindings of M pages cost N + M.
 */
static int gmem_lend_begin_shared(struct gmem_mem *mem, pgoff_t first,
				  pgoff_t last)
{
	const struct gmem_provider *provider, *seen = NULL;
	struct gmem_binding *b = NULL;
	int err = 0;

	while (!err && (b = gmem_binding_next_shared(mem, first, last, b))) {
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		provider = b->vm->provider;
		if (!provider->reclaims_all) {
			err = gmem_lend_begin_piece(b, max(b->first, first),
						    min(b->last, last),
						    GMEM_RECLAIM_PUNCH);
		} else if (provider != seen) {
			err = gmem_lend_begin_piece(b, first, last,
						    GMEM_RECLAIM_PUNCH);
			seen = provider;
		}
	}
	return err;
}

static int gmem_lend_begin_of(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			      bool batches)
{
	struct gmem_binding *b = NULL;
	int err = 0;

	while (!err && (b = gmem_binding_next_exclusive(mem, first, last, b)))
		if (gmem_provider_batches(b->vm) == batches)
			err = gmem_lend_begin_piece(b, max(b->first, first),
						    min(b->last, last),
						    GMEM_RECLAIM_PUNCH);
	return err;
}

static int gmem_lend_begin_batches(struct gmem_mem *mem, pgoff_t first,
				   pgoff_t last)
{
	return gmem_lend_begin_of(mem, first, last, true);
}

static int gmem_lend_begin_exclusive(struct gmem_mem *mem, pgoff_t first,
				     pgoff_t last)
{
	return gmem_lend_begin_of(mem, first, last, false);
}

/* Call @begin for the pieces of the range that have pages, until it fails. */
static int gmem_lend_begin_pieces(struct gmem_mem *mem, pgoff_t first,
				  pgoff_t last, pgoff_t pages,
				  int (*begin)(struct gmem_mem *mem,
					       pgoff_t first, pgoff_t last))
{
	pgoff_t piece_last;
	int err;

	/* Take the lock once, as in gmem_lend_begin_reclaim(). */
	do {
		err = gmem_piece_lock_killable(mem);
		if (err)
			return err;
		piece_last = gmem_piece_last_of(mem, first, last, pages);
		err = begin(mem, first, piece_last);
		filemap_invalidate_unlock(mem->inode.i_mapping);
		cond_resched();
		first = piece_last + 1;
	} while (!err && piece_last < last &&
		 gmem_piece_find(mem, &first, last, XA_PRESENT));
	return err;
}

int gmem_lend_begin_punch(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	int err;

	err = gmem_lend_begin_pieces(mem, first, last, GMEM_ALL_PAGES,
				     gmem_lend_begin_batches) ?:
	      gmem_lend_begin_pieces(mem, first, last, GMEM_PIECE_PAGES,
				     gmem_lend_begin_exclusive);
	if (err)
		return err;
	return gmem_lend_begin_pieces(mem, first, last, GMEM_SHARED_PIECE_PAGES,
				      gmem_lend_begin_shared);
}

void gmem_lend_finish_punch(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct gmem_binding *b = NULL;

	/*
	 * Shared pages lose their mark with the folio: see gmem_folio_remove().
	 */
	while ((b = gmem_binding_next_exclusive(mem, first, last, b)))
		if (gmem_binding_lent(b))
			gmem_lend_finish_piece(b, max(b->first, first),
					       min(b->last, last),
					       GMEM_RECLAIM_PUNCH);
}

/* Take a broken folio from all guests. */
static void gmem_lend_poison_folio(struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_binding *b = NULL;

	while ((b = gmem_binding_of_page(mem, folio->index, b))) {
		/*
		 * A page that a provider refuses to give back is out of reach
		 * there, too.
		 */
		gmem_lend_begin_folio(b, folio, GMEM_RECLAIM_POISON);
		cond_resched();
	}
}

void gmem_lend_poison_piece(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct folio_batch batch;
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios(mem->inode.i_mapping, &first, last, &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];

			if (!gmem_folio_broken(folio))
				continue;
			folio_lock(folio);
			if (folio->mapping == mem->inode.i_mapping)
				gmem_lend_poison_folio(mem, folio);
			folio_unlock(folio);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
}

void gmem_lend_poison(struct gmem_mem *mem)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t first = 0, last = ULONG_MAX, piece_last;

	while (gmem_piece_find(mem, &first, last, XA_PRESENT)) {
		piece_last = gmem_piece_last(mem, first, last);
		filemap_invalidate_lock(mapping);
		gmem_lend_poison_piece(mem, first, piece_last);
		filemap_invalidate_unlock(mapping);
		first = piece_last + 1;
	}
}

void gmem_lend_zap_broken(struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_binding *b = NULL;

	down_read(&mem->tree_rwsem);
	while ((b = gmem_binding_of_page(mem, folio->index, b))) {
		if (b->vm->provider->zap)
			b->vm->provider->zap(b->vm,
					     gmem_binding_gfn(b, folio->index),
					     folio_nr_pages(folio));
		cond_resched();
	}
	up_read(&mem->tree_rwsem);
}
