// SPDX-License-Identifier: GPL-2.0-only
/*
 * The change in place: a range of a VM goes from lent to shared or back, or gets
 * other rights, as a whole or not at all.
 *
 * The range may lie in several bindings and guestmems. Under gmem_vm.lock:
 *
 * 1. check every binding, and cut those that are only partly in the range;
 * 2. take every page from the guest. From here on, guest accesses to the range
 *    wait, and so do host tasks that touch a lent page of it;
 * 3. from shared to lent: the bindings become lent ones, which keeps other
 *    bindings from their pages. Then the pages are lent one by one: all host
 *    mappings go, and a pin is a failure;
 * 4. from lent to shared: the pages become shared ones, then the bindings. This
 *    can't fail, and neither can a change of rights;
 * 5. the guest goes on with the new flags.
 *
 * A lent page is always in a lent binding, so either state is valid for all
 * other code, between two pieces, too. A failure in steps 1 to 3 is undone.
 * No task has seen the change by then: a task that touched a page while it was
 * lent still waits.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>

#include "batch.h"
#include "binding.h"
#include "change.h"
#include "event.h"
#include "folio.h"
#include "lend.h"
#include "map.h"
#include "objects.h"
#include "piece.h"
#include "provider.h"
#include "unmap.h"
#include "vm.h"

/**
 * struct gmem_change - a change under way
 * @vm: the guest
 * @flags: as in &struct gmem_vm_change
 * @first: first guest frame number
 * @last: last guest frame number
 * @left: what was cut off before the range, or NULL
 * @right: what was cut off behind the range, or NULL
 * @list: the bindings that change, chained by gmem_binding.unmap_next
 * @end: until when it waits for brief references, in jiffies
 */
struct gmem_change {
	struct gmem_vm *vm;
	u32 flags;
	unsigned long first;
	unsigned long last;
	struct gmem_binding *left;
	struct gmem_binding *right;
	struct gmem_binding *list;
	unsigned long end;
};

static u32 gmem_change_flags(const struct gmem_change *c,
			     const struct gmem_binding *b)
{
	u32 access = c->flags & GMEM_MAP_ACCESS_MASK;
	u32 allow = c->flags & GMEM_MAP_ALLOW_RWX;

	return (access ?: b->flags & GMEM_MAP_ACCESS_MASK) |
	       (allow ?: b->flags & GMEM_MAP_ALLOW_RWX);
}

/* ---- step 1 ---- */

static int gmem_change_check_binding(const struct gmem_change *c,
				     struct gmem_binding *b)
{
	u32 flags = gmem_change_flags(c, b);
	pgoff_t first, last;
	int err;

	if (!gmem_binding_clip(b, c->first, c->last, &first, &last))
		return -EINVAL;
	if (flags == b->flags)
		return 0;
	err = c->vm->provider->change ?
		      c->vm->provider->change(b, first, last, flags) : 0;
	if (!err)
		err = gmem_map_check(c->vm, b->file, flags);
	if (!err && (flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND &&
	    !gmem_binding_exclusive(b))
		err = gmem_binding_wait_alone(b, first, last);
	return err;
}

static int gmem_change_check(const struct gmem_change *c)
{
	unsigned long gfn = c->first;
	struct gmem_binding *b;
	int err = 0;

	if (!gmem_range_is_bound(c->vm, c->first, c->last))
		return -ENOENT;
	while (!err && (b = gmem_binding_next(c->vm, &gfn, c->last)))
		err = gmem_change_check_binding(c, b);
	return err;
}

/* The binding at @gfn, if it changes, and is bound at @beyond, too; or NULL. */
static struct gmem_binding *gmem_change_to_cut(const struct gmem_change *c,
					       unsigned long gfn,
					       unsigned long beyond)
{
	struct gmem_binding *b = gmem_binding_next(c->vm, &gfn, gfn);
	pgoff_t index = gmem_binding_index(b, beyond);

	if (index < b->first || index > b->last ||
	    gmem_change_flags(c, b) == b->flags)
		return NULL;
	return b;
}

static void gmem_change_uncut(struct gmem_change *c)
{
	unsigned long gfn = c->first;

	if (c->right) {
		gfn = c->last;
		gmem_binding_join(gmem_binding_next(c->vm, &gfn, c->last),
				  c->right);
		gfn = c->first;
	}
	if (c->left)
		gmem_binding_join(c->left,
				  gmem_binding_next(c->vm, &gfn, c->first));
}

static int gmem_change_cut(struct gmem_change *c)
{
	struct gmem_binding *b, *piece;

	b = c->first ? gmem_change_to_cut(c, c->first, c->first - 1) : NULL;
	if (b) {
		piece = gmem_binding_divide(b, c->first - 1);
		if (IS_ERR(piece))
			return PTR_ERR(piece);
		c->left = b;
	}
	b = gmem_change_to_cut(c, c->last, c->last + 1);
	if (b) {
		piece = gmem_binding_divide(b, c->last);
		if (IS_ERR(piece)) {
			gmem_change_uncut(c);
			return PTR_ERR(piece);
		}
		c->right = piece;
	}
	return 0;
}

static void gmem_change_collect(struct gmem_change *c)
{
	struct gmem_binding **tail = &c->list;
	unsigned long gfn = c->first;
	struct gmem_binding *b;

	while ((b = gmem_binding_next(c->vm, &gfn, c->last))) {
		if (gmem_change_flags(c, b) == b->flags)
			continue;
		b->old_flags = b->flags;
		b->unmap_next = NULL;
		*tail = b;
		tail = &b->unmap_next;
	}
}

/* ---- steps 2 to 5 ---- */

static void gmem_change_begin(struct gmem_change *c)
{
	WRITE_ONCE(c->vm->changing, true);
	gmem_vm_begin_unmap(c->vm, c->first, c->last);
}

static void gmem_change_end(struct gmem_change *c)
{
	unsigned long gfn = c->first;
	struct gmem_binding *b;

	gmem_vm_end_unmap(c->vm);
	WRITE_ONCE(c->vm->changing, false);
	/* Hosts also wait for pages of bindings that didn't change. */
	while ((b = gmem_binding_next(c->vm, &gfn, c->last))) {
		gmem_mem_end_change(b->mem);
		cond_resched();
	}
}

/* Step 3, for a binding that shares its pages. */
static int gmem_change_lend(const struct gmem_change *c, struct gmem_binding *b)
{
	int err;

	err = gmem_binding_set_flags(b, gmem_change_flags(c, b));
	return err ?: gmem_lend_take(b, c->end);
}

/* Step 2, for a binding. */
static int gmem_change_take_back(const struct gmem_change *c,
				 struct gmem_binding *b)
{
	int err;

	do {
		err = gmem_lend_begin_reclaim(b, b->first, b->last,
					      GMEM_RECLAIM_CHANGE);
		if (err != -EINPROGRESS)
			return err;
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
	} while (time_before(jiffies, c->end));
	return -EBUSY;
}

/* The steps that can fail. */
static int gmem_change_try(struct gmem_change *c)
{
	bool lend = (c->flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND;
	struct gmem_binding *b;
	int err = 0;

	for (b = c->list; b && !err; b = b->unmap_next)
		err = gmem_change_take_back(c, b);
	for (b = c->list; b && !err && lend; b = b->unmap_next)
		if (!gmem_binding_lent(b))
			err = gmem_change_lend(c, b);
	return err;
}

static void gmem_change_undo(struct gmem_change *c)
{
	struct gmem_binding *b;

	for (b = c->list; b; b = b->unmap_next) {
		if (b->flags == b->old_flags)
			continue;
		gmem_lend_open(b);
		/* It has had the pages alone since. */
		gmem_binding_set_flags(b, b->old_flags);
	}
}

static void gmem_change_finish(struct gmem_change *c)
{
	bool share = (c->flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_SHARE;
	struct gmem_binding *b;
	u32 flags;

	for (b = c->list; b; b = b->unmap_next) {
		flags = gmem_change_flags(c, b);
		if (share && gmem_binding_lent(b))
			gmem_lend_open(b);
		if (flags != b->flags)
			gmem_binding_set_flags(b, flags);
		gmem_event_change(b);
	}
}

static int gmem_change_run(struct gmem_change *c)
{
	struct gmem_binding *b;
	int err;

	gmem_change_begin(c);
	err = gmem_change_try(c);
	if (err)
		gmem_change_undo(c);
	else
		gmem_change_finish(c);
	for (b = c->list; b; b = b->unmap_next)
		gmem_batch_restore(b, b->first, b->last);
	gmem_change_end(c);
	return err;
}

static int gmem_change(struct gmem_change *c)
{
	int err;

	lockdep_assert_held(&c->vm->lock);

	err = gmem_change_check(c);
	if (!err)
		err = gmem_change_cut(c);
	if (err)
		return err;
	gmem_change_collect(c);
	if (!c->list)
		return 0;
	c->end = jiffies + GMEM_FOLIO_WAIT;
	err = gmem_change_run(c);
	if (err) {
		gmem_change_uncut(c);
	} else {
		gmem_binding_changed(c->vm, 0);
		gmem_binding_join_range(c->vm, c->first, c->last);
	}
	return err;
}

int gmem_vm_change_call(void *obj, void *arg)
{
	const struct gmem_vm_change *change = arg;
	struct gmem_change c = {
		.vm = obj,
		.flags = change->flags,
	};
	u32 access = c.flags & GMEM_MAP_ACCESS_MASK;
	int err;

	if (!c.flags || access > GMEM_MAP_FORCE_SHARE ||
	    c.flags & ~(u32)(GMEM_MAP_ACCESS_MASK | GMEM_MAP_ALLOW_RWX))
		return -EINVAL;
	err = gmem_vm_range(c.vm, change->guest_addr, change->length, &c.first,
			    &c.last);
	if (err)
		return err;
	if (gmem_vm_lock_killable(c.vm))
		return -EINTR;
	err = gmem_change(&c);
	mutex_unlock(&c.vm->lock);
	return err;
}
