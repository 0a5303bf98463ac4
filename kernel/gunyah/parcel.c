// SPDX-License-Identifier: GPL-2.0
/* Which parcels a VM has, and how ranges become parcels. */
#include <linux/bitfield.h>
#include <linux/device.h>
#include <linux/gmem.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "../vm.h"
#include "cache.h"
#include "objects.h"
#include "pages.h"
#include "parcel.h"
#include "parcel_internal.h"
#include "rm_mem.h"
#include "rm_rpc.h"
#include "rm_wire.h"

struct gunyah_parcel *gunyah_parcel_alloc(unsigned long gfn, bool lend,
						 u8 access)
{
	struct gunyah_parcel *p;

	p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	if (!p)
		return NULL;
	p->handle = GUNYAH_RM_NO_HANDLE;
	p->gfn = gfn;
	p->lend = lend;
	p->access = access;
	return p;
}

void gunyah_parcel_free(struct gunyah_parcel *p)
{
	gunyah_rpc_put(p->late);
	kvfree(p->entries);
	kfree(p);
}

/* It fits: see gmem_gunyah_provider.max_guest_addr_bits. */
static u32 gunyah_parcel_label(const struct gunyah_parcel *p)
{
	return PFN_PHYS(p->gfn) >> GUNYAH_LABEL_SHIFT;
}

/* Add physical pages behind those that it has. */
int gunyah_parcel_add(struct gunyah_parcel *p, u64 base, u64 size)
{
	struct gunyah_rm_sgl_entry *entry, *entries;
	size_t room;

	entry = p->nr_entries ? &p->entries[p->nr_entries - 1] : NULL;
	if (entry &&
	    le64_to_cpu(entry->base) + le64_to_cpu(entry->size) == base) {
		le64_add_cpu(&entry->size, size);
	} else {
		if (p->nr_entries == p->room) {
			room = max_t(size_t, 16, p->room * 2);
			entries = kvrealloc(p->entries,
					    array_size(room, sizeof(*entries)),
					    GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
			if (!entries)
				return -ENOMEM;
			p->entries = entries;
			p->room = room;
		}
		p->entries[p->nr_entries++] = (struct gunyah_rm_sgl_entry) {
			.base = cpu_to_le64(base),
			.size = cpu_to_le64(size),
		};
	}
	p->nr += size >> PAGE_SHIFT;
	return 0;
}

/* ---- giving ---- */

void gunyah_parcel_drop(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	list_del(&p->list);
	gunyah_pages_set(g, p->gfn, p->nr, 0);
	gunyah_parcel_free(p);
}

static struct gunyah_parcel *gunyah_parcel_stage_at(struct list_head *staged,
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
	p = gunyah_parcel_alloc(gfn, lend, access);
	if (p)
		list_add_tail(&p->list, staged);
	return p;
}

int gunyah_parcel_stage(struct gunyah_vm *g, struct list_head *staged,
			unsigned long gfn, struct folio *folio, u32 map_flags)
{
	unsigned long nr = folio_nr_pages(folio);
	struct gunyah_parcel *p;
	int err;

	if (gunyah_pages_get(g, gfn))
		return 0;
	/* Nobody would use it. */
	if (gunyah_vm_ended(g))
		return -EIO;
	err = gunyah_cache_clean(folio);
	if (err)
		return err;
	p = gunyah_parcel_stage_at(staged, gfn, map_flags);
	if (!p)
		return -ENOMEM;
	err = gunyah_pages_set(g, gfn, nr, GUNYAH_PAGE_PARCEL);
	if (!err) {
		err = gunyah_parcel_add(p, PFN_PHYS(folio_pfn(folio)),
					folio_size(folio));
		if (err)
			gunyah_pages_set(g, gfn, nr, 0);
	}
	/* One that is new has nothing else. */
	if (err && !p->nr)
		gunyah_parcel_drop(g, p);
	return err;
}

void gunyah_parcel_unstage(struct gunyah_vm *g, struct list_head *staged)
{
	struct gunyah_parcel *p, *next;

	list_for_each_entry_safe(p, next, staged, list)
		gunyah_parcel_drop(g, p);
}

int gunyah_parcel_give(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	const struct gunyah_rm_parcel parcel = {
		.vmid = g->vmid,
		.lend = p->lend,
		.access = p->access,
		.label = gunyah_parcel_label(p),
		.entries = p->entries,
		.nr_entries = p->nr_entries,
	};
	int err;

	err = gunyah_rm_mem_give(g->rm, &parcel, &p->handle, &p->late);
	if (err)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): the Resource Manager doesn't %s %lu pages in %zu pieces: error %d (the VM has %u parcels; some versions grant %u)\n",
				     g->vm->id, g->vmid,
				     p->lend ? "lend" : "share", p->nr,
				     p->nr_entries, err, g->nr_parcels,
				     GUNYAH_USUAL_PARCELS);
	return err;
}

void gunyah_parcel_keep(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	spin_lock(&g->parcels_lock);
	list_move_tail(&p->list, &g->parcels);
	WRITE_ONCE(g->nr_parcels, g->nr_parcels + 1);
	spin_unlock(&g->parcels_lock);
}

void gunyah_parcel_unlist(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	spin_lock(&g->parcels_lock);
	list_del_init(&p->list);
	WRITE_ONCE(g->nr_parcels, g->nr_parcels - 1);
	spin_unlock(&g->parcels_lock);
}

int gunyah_parcel_commit(struct gunyah_vm *g, struct list_head *staged)
{
	struct gunyah_parcel *p, *next;
	LIST_HEAD(given);
	int err = 0;

	list_for_each_entry_safe(p, next, staged, list) {
		err = gunyah_parcel_give(g, p);
		if (err)
			break;
		list_move_tail(&p->list, &given);
	}
	if (!err) {
		list_for_each_entry_safe(p, next, &given, list)
			gunyah_parcel_keep(g, p);
		return 0;
	}

	/* The one that failed may be half given. */
	list_move_tail(&p->list, &given);
	gunyah_parcel_unstage(g, staged);
	list_for_each_entry_safe(p, next, &given, list) {
		if (gunyah_parcel_return(g, p, false)) {
			gunyah_parcel_keep(g, p);
			err = -EUCLEAN;
		} else {
			gunyah_parcel_drop(g, p);
		}
	}
	return err;
}

/* ---- the rest ---- */

int gunyah_parcel_find(struct gunyah_vm *g, unsigned long gfn, u32 *handle,
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

void gunyah_parcel_adopt(struct gunyah_vm *g, u32 handle)
{
	struct gunyah_parcel *p;

	list_for_each_entry(p, &g->parcels, list) {
		if (p->handle != handle)
			continue;
		gunyah_pages_set(g, p->gfn, p->nr,
				 GUNYAH_PAGE_DONATED | GUNYAH_PAGE_MAPPED |
				 FIELD_PREP(GUNYAH_PAGE_ACCESS, p->access));
		gunyah_parcel_unlist(g, p);
		gunyah_parcel_free(p);
		return;
	}
}

bool gunyah_parcel_label_at(struct gunyah_vm *g, unsigned int index, u64 *label)
{
	struct gunyah_parcel *p;
	bool found = false;

	if (index >= GUNYAH_USUAL_PARCELS)
		return false;
	spin_lock(&g->parcels_lock);
	list_for_each_entry(p, &g->parcels, list) {
		if (index--)
			continue;
		*label = gunyah_parcel_label(p);
		found = true;
		break;
	}
	spin_unlock(&g->parcels_lock);
	return found;
}

void gunyah_parcels_end(struct gunyah_vm *g)
{
	struct gunyah_parcel *p, *next;

	mutex_lock(&g->mem_lock);
	list_for_each_entry_safe(p, next, &g->parcels, list) {
		if (gunyah_parcel_return(g, p, false))
			dev_err_ratelimited(g->rm->dev,
					    "VM %u (VMID %u): parcel %u was never given back: %lu pages are lost until reboot\n",
					    g->vm->id, g->vmid, p->handle,
					    p->nr);
		gunyah_parcel_unlist(g, p);
		gunyah_parcel_drop(g, p);
	}
	mutex_unlock(&g->mem_lock);
}
