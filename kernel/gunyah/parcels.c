// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bitfield.h>
#include <linux/device.h>
#include <linux/gmem.h>
#include <linux/jiffies.h>
#include <linux/mm.h>

#include "../objects.h"
#include "../piece.h"
#include "../provider.h"
#include "cache.h"
#include "objects.h"
#include "pages.h"
#include "parcel.h"
#include "parcels.h"
#include "rm.h"
#include "rm_wire.h"

/*
 * How long a walk over parcels may take. Each parcel waits for the RM, and
 * other tasks wait for the lock: a walk doesn't add up their waits.
 */
static unsigned long gunyah_parcels_deadline(void)
{
	return jiffies + msecs_to_jiffies(READ_ONCE(gunyah_rm_timeout_ms));
}

/* ---- giving ---- */

int gunyah_parcels_open(const struct gunyah_vm *g)
{
	if (!READ_ONCE(g->sealed) || (g->vm->flags & GMEM_VM_GUEST_ACCEPTS))
		return 0;
	dev_warn_ratelimited(g->rm->dev,
			     "VM %u (VMID %u): a guest gets no memory after its start, unless it accepts it by itself: bind all memory before GMEM_GUNYAH_START, or create the VM with GMEM_VM_GUEST_ACCEPTS\n",
			     g->vm->id, READ_ONCE(g->vmid));
	return -EOPNOTSUPP;
}

static void gunyah_parcels_drop(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	list_del(&p->list);
	gunyah_pages_set(g, p->gfn, p->nr, 0);
	gunyah_parcel_free(p);
}

/*
 * Where memory goes in parcels, the first one is the image. Linux takes memory
 * of no other label as RAM.
 */
static u32 gunyah_parcels_label(const struct gunyah_vm *g, unsigned long gfn)
{
	if (g->image == GUNYAH_RM_NO_HANDLE && !g->rm->demand_paging)
		return GUNYAH_LABEL_IMAGE;
	return gunyah_parcel_label(gfn);
}

static struct gunyah_parcel *gunyah_parcels_stage_at(const struct gunyah_vm *g,
						     struct list_head *staged,
						     unsigned long gfn,
						     u32 map_flags)
{
	bool lend = (map_flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND;
	u8 access = gunyah_access(map_flags);
	struct gunyah_parcel *p = NULL;

	if (!list_empty(staged))
		p = list_last_entry(staged, struct gunyah_parcel, list);
	if (p && p->gfn + p->nr == gfn && p->lend == lend &&
	    p->access == access)
		return p;
	p = gunyah_parcel_alloc(gfn, lend, access,
				gunyah_parcels_label(g, gfn));
	if (p)
		list_add_tail(&p->list, staged);
	return p;
}

int gunyah_parcels_stage(struct gunyah_vm *g, struct list_head *staged,
			 unsigned long gfn, struct folio *folio, u32 map_flags)
{
	unsigned long nr = folio_nr_pages(folio);
	struct gunyah_parcel *p;
	int err;

	if (gunyah_pages_get(g, gfn))
		return 0;
	/* The guest has ended and can't use it. */
	if (gunyah_vm_ended(g))
		return -EIO;
	err = gunyah_parcels_open(g);
	if (err)
		return err;
	err = gunyah_cache_clean(folio);
	if (err)
		return err;
	p = gunyah_parcels_stage_at(g, staged, gfn, map_flags);
	if (!p)
		return -ENOMEM;
	err = gunyah_pages_set(g, gfn, nr, GUNYAH_PAGE_PARCEL);
	if (!err) {
		err = gunyah_parcel_add(p, PFN_PHYS(folio_pfn(folio)),
					folio_size(folio));
		if (err)
			gunyah_pages_set(g, gfn, nr, 0);
	}
	/* Drop a new parcel, which has no other page. */
	if (err && !p->nr)
		gunyah_parcels_drop(g, p);
	return err;
}

void gunyah_parcels_unstage(struct gunyah_vm *g, struct list_head *staged)
{
	struct gunyah_parcel *p, *next;

	list_for_each_entry_safe(p, next, staged, list)
		gunyah_parcels_drop(g, p);
}

static void gunyah_parcels_keep(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	spin_lock(&g->parcels_lock);
	list_move_tail(&p->list, &g->parcels);
	WRITE_ONCE(g->nr_parcels, g->nr_parcels + 1);
	WRITE_ONCE(g->nr_pieces, g->nr_pieces + p->nr_entries);
	spin_unlock(&g->parcels_lock);
}

static void gunyah_parcels_unlist(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	spin_lock(&g->parcels_lock);
	list_del_init(&p->list);
	WRITE_ONCE(g->nr_parcels, g->nr_parcels - 1);
	WRITE_ONCE(g->nr_pieces, g->nr_pieces - p->nr_entries);
	spin_unlock(&g->parcels_lock);
}

int gunyah_parcels_commit(struct gunyah_vm *g, struct list_head *staged,
			  bool killable)
{
	struct gunyah_parcel *p, *next;
	unsigned long deadline;
	LIST_HEAD(given);
	int err = 0;

	list_for_each_entry_safe(p, next, staged, list) {
		err = killable && gmem_killed() ? -EINTR :
		      gunyah_parcel_give(g, p, killable);
		if (err)
			break;
		list_move_tail(&p->list, &given);
	}
	if (!err) {
		list_for_each_entry_safe(p, next, &given, list)
			gunyah_parcels_keep(g, p);
		return 0;
	}

	/* The RM may have a part of the parcel that failed. */
	list_move_tail(&p->list, &given);
	gunyah_parcels_unstage(g, staged);
	deadline = gunyah_parcels_deadline();
	list_for_each_entry_safe(p, next, &given, list) {
		if (time_after(jiffies, deadline) ||
		    gunyah_parcel_return(g, p, false)) {
			gunyah_parcels_keep(g, p);
			err = -EUCLEAN;
		} else {
			gunyah_parcels_drop(g, p);
		}
	}
	return err;
}

/* ---- taking back ---- */

/* Make parcels of the parts of @p that are outside of [@first, @last]. */
static int gunyah_parcels_rest(const struct gunyah_parcel *p,
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

static int gunyah_parcels_take_part(struct gunyah_vm *g,
				    struct gunyah_parcel *p,
				    unsigned long first, unsigned long last)
{
	struct gunyah_parcel *slice, *next;
	LIST_HEAD(rest);
	int err;

	if (gunyah_vm_runs(g))
		return -EBUSY;
	err = gunyah_parcels_rest(p, first, last, &rest);
	if (err)
		return err;
	err = gunyah_parcel_return(g, p, false);
	if (err) {
		list_for_each_entry_safe(slice, next, &rest, list)
			gunyah_parcel_free(slice);
		return err;
	}

	/* The rest keeps its flags: setting them again would need memory. */
	gunyah_pages_set(g, max(first, p->gfn),
			 min(last, gunyah_parcel_last(p)) -
			 max(first, p->gfn) + 1, 0);
	gunyah_parcels_unlist(g, p);
	gunyah_parcel_free(p);
	list_for_each_entry_safe(slice, next, &rest, list) {
		if (gunyah_parcel_give(g, slice, false) &&
		    !gunyah_parcel_return(g, slice, false))
			gunyah_parcels_drop(g, slice);
		else
			gunyah_parcels_keep(g, slice);
	}
	return 0;
}

/*
 * True if @p has the image and must stay. VM_CONFIG_IMAGE tells the RM which
 * parcel has the image. The RM wouldn't know a parcel in its place, nor, with
 * extents, the parcels with the rest of its pages, and wouldn't give these back
 * at the end. Before VM_CONFIG_IMAGE the VM has no other parcel.
 */
static bool gunyah_parcels_is_image(const struct gunyah_vm *g,
				    const struct gunyah_parcel *p)
{
	if (READ_ONCE(g->failed) || gunyah_vm_ended(g))
		return false;
	return g->image == GUNYAH_RM_NO_HANDLE || p->handle == g->image;
}

static int gunyah_parcels_take_from(struct gunyah_vm *g,
				    struct gunyah_parcel *p,
				    unsigned long first, unsigned long last,
				    bool sanitize)
{
	int err;

	if (gunyah_parcels_is_image(g, p))
		return -EBUSY;
	/* A guest that has ended doesn't need the rest of the parcel. */
	if (!gunyah_vm_ended(g) &&
	    (p->gfn < first || gunyah_parcel_last(p) > last))
		return gunyah_parcels_take_part(g, p, first, last);

	/* Don't sanitize pages outside of the range: the host keeps them. */
	err = gunyah_parcel_return(g, p, sanitize && p->gfn >= first &&
				   gunyah_parcel_last(p) <= last);
	if (err)
		return err;
	gunyah_parcels_unlist(g, p);
	gunyah_parcels_drop(g, p);
	return 0;
}

int gunyah_parcels_take(struct gunyah_vm *g, unsigned long first,
			unsigned long last, bool sanitize)
{
	unsigned long deadline = gunyah_parcels_deadline();
	struct gunyah_parcel *p, *next;
	bool tried = false;
	int err, ret = 0;

	lockdep_assert_held(&g->mem_lock);
	/* Parcels with a rest are appended, and are outside of the range. */
	list_for_each_entry_safe(p, next, &g->parcels, list) {
		if (p->gfn > last || gunyah_parcel_last(p) < first)
			continue;
		if (tried && (gmem_killed() || time_after(jiffies, deadline)))
			return ret ?: -EBUSY;
		tried = true;
		err = gunyah_parcels_take_from(g, p, first, last, sanitize);
		ret = ret ?: err;
	}
	return ret;
}

/* ---- the rest ---- */

int gunyah_parcels_find(struct gunyah_vm *g, unsigned long gfn, u32 *handle,
			unsigned long *first)
{
	struct gunyah_parcel *p;

	list_for_each_entry(p, &g->parcels, list) {
		if (gfn < p->gfn || gfn > gunyah_parcel_last(p))
			continue;
		*handle = p->handle;
		*first = p->gfn;
		return 0;
	}
	return -ENOENT;
}

void gunyah_parcels_adopt(struct gunyah_vm *g, u32 handle)
{
	struct gunyah_parcel *p;

	list_for_each_entry(p, &g->parcels, list) {
		if (p->handle != handle)
			continue;
		gunyah_pages_set(g, p->gfn, p->nr,
				 GUNYAH_PAGE_DONATED | GUNYAH_PAGE_MAPPED |
				 FIELD_PREP(GUNYAH_PAGE_ACCESS, p->access));
		gunyah_parcels_unlist(g, p);
		gunyah_parcel_free(p);
		return;
	}
}

bool gunyah_parcels_detail(struct gunyah_vm *g, unsigned int index,
			   struct gmem_vm_detail *detail)
{
	struct gunyah_parcel *p;
	unsigned int nr = 0;
	bool found = false;

	spin_lock(&g->parcels_lock);
	list_for_each_entry(p, &g->parcels, list) {
		if (++nr > GUNYAH_USUAL_PARCELS)
			break;
		found = true;
		*detail = (struct gmem_vm_detail) { "label", p->label };
		if (!index--)
			break;
		*detail = (struct gmem_vm_detail) { "handle", p->handle };
		if (p->added && !index--)
			break;
		found = false;
	}
	spin_unlock(&g->parcels_lock);
	return found;
}

bool gunyah_parcels_settle(struct gunyah_vm *g)
{
	unsigned long deadline = gunyah_parcels_deadline();
	struct gunyah_parcel *p, *next;
	bool settled = true;

	lockdep_assert_held(&g->mem_lock);
	list_for_each_entry_safe(p, next, &g->parcels, list) {
		if (time_after(jiffies, deadline))
			return false;
		if (!gunyah_parcel_return(g, p, false)) {
			gunyah_parcels_unlist(g, p);
			gunyah_parcels_drop(g, p);
		} else if (!p->refused) {
			settled = false;
		}
	}
	return settled;
}

void gunyah_parcels_end(struct gunyah_vm *g)
{
	struct gunyah_parcel *p, *next;

	mutex_lock(&g->mem_lock);
	list_for_each_entry_safe(p, next, &g->parcels, list) {
		dev_err_ratelimited(g->rm->dev,
				    "VM %u (VMID %u): parcel %u was never given back: %lu pages are lost until reboot\n",
				    g->vm->id, g->vmid, p->handle, p->nr);
		gunyah_parcels_unlist(g, p);
		gunyah_parcels_drop(g, p);
	}
	mutex_unlock(&g->mem_lock);
}
