// SPDX-License-Identifier: GPL-2.0
/* Parcels on their way back: whole, or in parts, whose rest is given anew. */
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "../vm.h"
#include "objects.h"
#include "pages.h"
#include "parcel.h"
#include "parcel_internal.h"
#include "reset.h"
#include "rm_mem.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"

/*
 * What became of a request whose answer didn't come, or wasn't understood. 0: the RM has
 * the parcel; -ENOENT: it hasn't; else nobody knows.
 */
static int gunyah_parcel_catch_up(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	struct gunyah_rpc *late = p->late;
	int err;

	gunyah_rm_receive(g->rm);
	/* Its last chance. */
	if (g->stopped)
		wait_for_completion_timeout(&late->done,
					    msecs_to_jiffies(1000));
	if (!completion_done(&late->done))
		return -ETIMEDOUT;

	if (p->handle != GUNYAH_RM_NO_HANDLE)
		err = late->rm_error ? 0 : -ENOENT;
	else if (late->rm_error)
		err = -ENOENT;
	else
		err = gunyah_rm_mem_handle(late, &p->handle);
	if (err == -EBADMSG) {
		p->handle = GUNYAH_RM_NO_HANDLE;
		return err;
	}
	p->late = NULL;
	gunyah_rpc_put(late);
	return err;
}

static int gunyah_parcel_do_return(struct gunyah_vm *g, struct gunyah_parcel *p,
				   bool sanitize)
{
	int err = 0;

	if (p->late)
		err = gunyah_parcel_catch_up(g, p);
	if (err || p->handle == GUNYAH_RM_NO_HANDLE)
		return err == -ENOENT ? 0 : err;
	/* Until then, what it has accepted stays in use. */
	if (g->memory == GUNYAH_MEMORY_PARCELS && READ_ONCE(g->exited))
		gunyah_vm_reset(g);
	return gunyah_rm_mem_reclaim(g->rm, p->handle, sanitize, &p->late);
}

int gunyah_parcel_return(struct gunyah_vm *g, struct gunyah_parcel *p,
				bool sanitize)
{
	int err;

	if (p->refused)
		return p->refused;
	err = gunyah_parcel_do_return(g, p, sanitize);
	if (!err)
		return 0;
	dev_warn_ratelimited(g->rm->dev,
			     "VM %u (VMID %u): the Resource Manager doesn't give back parcel %u of %lu pages: error %d\n",
			     g->vm->id, g->vmid, p->handle, p->nr, err);
	/* One verdict is enough: the core asks for each of its pages. */
	if (g->stopped)
		p->refused = err;
	return err;
}

/* A parcel like @p, of part of its pages, which isn't given yet. */
static struct gunyah_parcel *gunyah_parcel_slice(const struct gunyah_parcel *p,
						 unsigned long gfn,
						 unsigned long nr)
{
	u64 skip = (u64)(gfn - p->gfn) << PAGE_SHIFT;
	u64 left = (u64)nr << PAGE_SHIFT;
	struct gunyah_parcel *slice;
	size_t i;

	slice = gunyah_parcel_alloc(gfn, p->lend, p->access);
	if (!slice)
		return NULL;
	for (i = 0; left && i < p->nr_entries; i++) {
		u64 base = le64_to_cpu(p->entries[i].base);
		u64 size = le64_to_cpu(p->entries[i].size);
		u64 part;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		part = min(size - skip, left);
		if (gunyah_parcel_add(slice, base + skip, part)) {
			gunyah_parcel_free(slice);
			return NULL;
		}
		left -= part;
		skip = 0;
	}
	return slice;
}

/* The parts of @p outside of [@first, @last]. */
static int gunyah_parcel_rest(const struct gunyah_parcel *p,
			      unsigned long first, unsigned long last,
			      struct list_head *rest)
{
	struct gunyah_parcel *slice, *next;

	if (p->gfn < first) {
		slice = gunyah_parcel_slice(p, p->gfn, first - p->gfn);
		if (!slice)
			return -ENOMEM;
		list_add_tail(&slice->list, rest);
	}
	if (gunyah_parcel_last(p) > last) {
		slice = gunyah_parcel_slice(p, last + 1,
					    gunyah_parcel_last(p) - last);
		if (!slice)
			goto free_rest;
		list_add_tail(&slice->list, rest);
	}
	return 0;

free_rest:
	list_for_each_entry_safe(slice, next, rest, list)
		gunyah_parcel_free(slice);
	return -ENOMEM;
}

static int gunyah_parcel_take_part(struct gunyah_vm *g, struct gunyah_parcel *p,
				   unsigned long first, unsigned long last)
{
	struct gunyah_parcel *slice, *next;
	LIST_HEAD(rest);
	int err;

	if (gunyah_vm_runs(g))
		return -EBUSY;
	err = gunyah_parcel_rest(p, first, last, &rest);
	if (err)
		return err;
	err = gunyah_parcel_return(g, p, false);
	if (err) {
		list_for_each_entry_safe(slice, next, &rest, list)
			gunyah_parcel_free(slice);
		return err;
	}

	/* The rest keeps its flags, so that there is memory for them. */
	gunyah_pages_set(g, max(first, p->gfn),
			 min(last, gunyah_parcel_last(p)) -
			 max(first, p->gfn) + 1, 0);
	gunyah_parcel_unlist(g, p);
	gunyah_parcel_free(p);
	list_for_each_entry_safe(slice, next, &rest, list) {
		if (gunyah_parcel_give(g, slice) &&
		    !gunyah_parcel_return(g, slice, false))
			gunyah_parcel_drop(g, slice);
		else
			gunyah_parcel_keep(g, slice);
	}
	return 0;
}

/*
 * From the moment that it is lent, the image stays where the RM was told that it is; before
 * that was told, no other parcel is there. What took its place the RM wouldn't know, nor
 * where extents come the rests of it: it wouldn't give those back at the end.
 */
static bool gunyah_parcel_is_image(const struct gunyah_vm *g,
				   const struct gunyah_parcel *p)
{
	if (READ_ONCE(g->failed) || gunyah_vm_ended(g))
		return false;
	return g->image == GUNYAH_RM_NO_HANDLE || p->handle == g->image;
}

static int gunyah_parcel_take_from(struct gunyah_vm *g, struct gunyah_parcel *p,
				   unsigned long first, unsigned long last,
				   bool sanitize)
{
	int err;

	if (gunyah_parcel_is_image(g, p))
		return -EBUSY;
	/* A guest that has ended needs no rest. */
	if (!gunyah_vm_ended(g) && (p->gfn < first || gunyah_parcel_last(p) > last))
		return gunyah_parcel_take_part(g, p, first, last);

	/* Of other pages, somebody may yet want the contents. */
	err = gunyah_parcel_return(g, p, sanitize && p->gfn >= first &&
				   gunyah_parcel_last(p) <= last);
	if (err)
		return err;
	gunyah_parcel_unlist(g, p);
	gunyah_parcel_drop(g, p);
	return 0;
}

int gunyah_parcel_take(struct gunyah_vm *g, unsigned long first,
		       unsigned long last, bool sanitize)
{
	struct gunyah_parcel *p, *next;
	int err, ret = 0;

	lockdep_assert_held(&g->mem_lock);
	/* Rests that are given anew come behind, and aren't in the range. */
	list_for_each_entry_safe(p, next, &g->parcels, list) {
		if (p->gfn > last || gunyah_parcel_last(p) < first)
			continue;
		err = gunyah_parcel_take_from(g, p, first, last, sanitize);
		ret = ret ?: err;
	}
	return ret;
}
