// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations that the core calls: each calls the code for extents or the
 * code for parcels.
 */
#include <linux/bits.h>
#include <linux/gmem_gunyah.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/printk.h>

#include "../call.h"
#include "../compat.h"
#include "../objects.h"
#include "../provider.h"
#include "cache.h"
#include "end.h"
#include "extent.h"
#include "function.h"
#include "objects.h"
#include "pages.h"
#include "parcel.h"
#include "parcels.h"
#include "platform.h"
#include "pm.h"
#include "provider.h"
#include "start.h"
#include "vm.h"

static bool gunyah_lend_mapped;
module_param_named(gunyah_lend_mapped, gunyah_lend_mapped, bool, 0644);
MODULE_PARM_DESC(gunyah_lend_mapped,
		 "Gunyah: lend memory that the kernel itself still has in its linear map. Any stray access of the kernel to a lent page (a crash dump, a debugger, a driver's bug) then ends in a fatal external abort. (default: N)");

static int gunyah_provide(struct gmem_vm *vm, unsigned long gfn,
			  struct folio *folio, u32 map_flags)
{
	struct gunyah_vm *g = vm->provider_data;
	LIST_HEAD(staged);
	int err = -EAGAIN;

	mutex_lock(&g->mem_lock);
	switch (g->memory) {
	case GUNYAH_MEMORY_NONE:
		break;
	case GUNYAH_MEMORY_PARCELS:
		err = gunyah_parcels_stage(g, &staged, gfn, folio, map_flags);
		if (err)
			gunyah_parcels_unstage(g, &staged);
		else
			err = gunyah_parcels_commit(g, &staged, true);
		break;
	case GUNYAH_MEMORY_EXTENTS:
		err = 0;
		if (!(gunyah_pages_get(g, gfn) & GUNYAH_PAGE_PARCEL))
			err = gunyah_extent_provide(g, gfn, folio, map_flags);
		break;
	}
	mutex_unlock(&g->mem_lock);
	return err;
}

static bool gunyah_batches(struct gmem_vm *vm)
{
	const struct gunyah_vm *g = vm->provider_data;

	return READ_ONCE(g->memory) == GUNYAH_MEMORY_PARCELS;
}

static int gunyah_stage(struct gmem_vm *vm, struct list_head *staged,
			unsigned long gfn, struct folio *folio, u32 map_flags)
{
	struct gunyah_vm *g = vm->provider_data;
	int err;

	mutex_lock(&g->mem_lock);
	err = gunyah_parcels_stage(g, staged, gfn, folio, map_flags);
	mutex_unlock(&g->mem_lock);
	return err;
}

static int gunyah_commit(struct gmem_vm *vm, struct list_head *staged,
			 bool killable, int err)
{
	struct gunyah_vm *g = vm->provider_data;

	mutex_lock(&g->mem_lock);
	if (err)
		gunyah_parcels_unstage(g, staged);
	else
		err = gunyah_parcels_commit(g, staged, killable);
	mutex_unlock(&g->mem_lock);
	return err;
}

static bool gunyah_has(struct gmem_vm *vm, unsigned long gfn)
{
	struct gunyah_vm *g = vm->provider_data;
	bool has;

	mutex_lock(&g->mem_lock);
	has = gunyah_pages_get(g, gfn);
	mutex_unlock(&g->mem_lock);
	return has;
}

static int gunyah_reclaim(struct gmem_vm *vm, unsigned long gfn,
			  struct folio *folio, bool sanitize)
{
	struct gunyah_vm *g = vm->provider_data;
	int err = 0;
	u32 flags;

	mutex_lock(&g->mem_lock);
	flags = gunyah_pages_get(g, gfn);
	if (flags & GUNYAH_PAGE_PARCEL)
		err = gunyah_parcels_take(g, gfn,
					  gfn + folio_nr_pages(folio) - 1,
					  sanitize);
	else if (flags)
		err = gunyah_extent_reclaim(g, gfn, folio);
	mutex_unlock(&g->mem_lock);
	/* Also for a page that gunyah_reclaim_begin() has taken back. */
	if (!err)
		gunyah_cache_refresh(folio);
	return err;
}

/*
 * Unmap every page of the range that the guest has; only the last hypercall
 * waits until no vCPU uses the mappings. The caller holds the invalidate lock,
 * so no folio goes away, but memory_failure() may split a huge folio: hold a
 * reference to the folio that is unmapped next.
 */
static void gunyah_unmap_extents(struct gunyah_vm *g, unsigned long gfn,
				 struct address_space *mapping, pgoff_t first,
				 pgoff_t last)
{
	unsigned long delta = gfn - first;
	struct folio *folio, *prev = NULL;
	struct folio_batch batch;
	unsigned int i;

	folio_batch_init(&batch);
	while (filemap_get_folios(mapping, &first, last, &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++) {
			folio = batch.folios[i];
			if (!(gunyah_pages_get(g, folio->index + delta) &
			      GUNYAH_PAGE_MAPPED))
				continue;
			if (prev) {
				gunyah_extent_unmap(g, prev->index + delta,
						    prev, false);
				folio_put(prev);
			}
			folio_get(folio);
			prev = folio;
		}
		folio_batch_release(&batch);
		cond_resched();
	}
	if (prev) {
		gunyah_extent_unmap(g, prev->index + delta, prev, true);
		folio_put(prev);
	}
}

static bool gunyah_reclaim_begin(struct gmem_vm *vm, unsigned long gfn,
				 struct address_space *mapping, pgoff_t first,
				 pgoff_t last, bool sanitize)
{
	struct gunyah_vm *g = vm->provider_data;

	mutex_lock(&g->mem_lock);
	if (g->nr_parcels)
		gunyah_parcels_take(g, gfn, gfn + (last - first), sanitize);
	if (g->memory == GUNYAH_MEMORY_EXTENTS)
		gunyah_unmap_extents(g, gfn, mapping, first, last);
	mutex_unlock(&g->mem_lock);
	return false;
}

static int gunyah_bind(struct gmem_vm *vm, const struct gmem_mem *mem,
		       u32 flags)
{
	int err = gunyah_parcels_open(vm->provider_data);

	if (err)
		return err;
	if ((flags & GMEM_MAP_ACCESS_MASK) != GMEM_MAP_FORCE_LEND ||
	    mem->secret)
		return 0;
	if (READ_ONCE(gunyah_lend_mapped))
		return gunyah_pm_lend_mapped(vm->provider_data);
	pr_warn_ratelimited("gmem: refused to lend memory that is in the kernel's linear map, where a stray access would be fatal once the guest has it: make the guestmem from a memfd_secret() file (GMEM_MEM_FROM_SECRET), or load gmem with gunyah_lend_mapped=1 to take the risk\n");
	return -EPERM;
}

/*
 * A parcel is lent or shared as a whole, and a guest that runs accepts no new one.
 */
static int gunyah_change(const struct gmem_binding *b, pgoff_t first,
			 pgoff_t last, u32 flags)
{
	return gunyah_batches(b->vm) ? -EOPNOTSUPP : 0;
}

static bool gunyah_vm_detail(struct gmem_vm *vm, unsigned int index,
			     struct gmem_vm_detail *detail)
{
	struct gunyah_vm *g = vm->provider_data;
	const struct gmem_vm_detail details[] = {
		{ "vmid", READ_ONCE(g->vmid) },
		{ "started", READ_ONCE(g->phase) == GUNYAH_PHASE_STARTED },
		{ "failed", READ_ONCE(g->failed) },
		{ "exited", READ_ONCE(g->exited) },
		{ "extents", READ_ONCE(g->memory) == GUNYAH_MEMORY_EXTENTS },
		{ "parcels", READ_ONCE(g->nr_parcels) },
		{ "pieces", READ_ONCE(g->nr_pieces) },
	};

	if (index < ARRAY_SIZE(details)) {
		*detail = details[index];
		return true;
	}
	return gunyah_parcels_detail(g, index - ARRAY_SIZE(details), detail);
}

static bool gunyah_present(void)
{
	return gunyah_platform_present();
}

static const struct gmem_call gunyah_vm_calls[] = {
	GMEM_CALL(GMEM_GUNYAH_SET_DTB_CONFIG, GMEM_CALL_FIXED,
		  gunyah_vm_set_dtb_call, struct gmem_gunyah_dtb_config, size),
	{
		.cmd = GMEM_GUNYAH_START,
		.kind = GMEM_CALL_VALUE,
		.fn = gunyah_vm_start_call,
	},
	GMEM_CALL(GMEM_GUNYAH_ADD_FUNCTION, GMEM_CALL_FIXED,
		  gunyah_vm_add_function_call, struct gmem_gunyah_fn_desc, arg),
	GMEM_CALL(GMEM_GUNYAH_REMOVE_FUNCTION, GMEM_CALL_FIXED,
		  gunyah_vm_remove_function_call, struct gmem_gunyah_fn_desc,
		  arg),
	GMEM_CALL(GMEM_GUNYAH_SET_BOOT_CONTEXT, GMEM_CALL_FIXED,
		  gunyah_vm_set_boot_context_call,
		  struct gmem_gunyah_boot_context, value),
};

const struct gmem_provider gmem_gunyah_provider = {
	.name = "gunyah",
	/*
	 * A parcel's label sets the limit; any VM may get the device tree in
	 * one.
	 */
	.max_guest_addr_bits = 32 + GUNYAH_LABEL_SHIFT,
	/* Gunyah reports a fetch like a read: executable memory is readable. */
	.map_access = GENMASK(7, 1) & ~BIT(GMEM_ACCESS_EXEC) &
		      ~BIT(GMEM_ACCESS_WRITE | GMEM_ACCESS_EXEC),
	.vm_flags = GMEM_VM_GUEST_ACCEPTS,
	.takes_secret = true,
	.init = gunyah_platform_init,
	.exit = gunyah_platform_exit,
	.present = gunyah_present,
	.limits = gunyah_platform_limits,
	.debugfs = gunyah_platform_debugfs,
	.vm_calls = gunyah_vm_calls,
	.nr_vm_calls = ARRAY_SIZE(gunyah_vm_calls),
	.vm_detail = gunyah_vm_detail,
	.vm_init = gunyah_vm_init,
	.vm_stop = gunyah_vm_stop,
	.vm_release = gunyah_vm_release,
	.bind = gunyah_bind,
	.change = gunyah_change,
	.provide = gunyah_provide,
	.batches = gunyah_batches,
	.stage = gunyah_stage,
	.commit = gunyah_commit,
	.has = gunyah_has,
	.reclaim = gunyah_reclaim,
	.reclaim_begin = gunyah_reclaim_begin,
};
