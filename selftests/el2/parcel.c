// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parcels. A VM has each parcel at its label, which is the guest frame number
 * of its first page; a real VM's device tree would place the labels. The VM's
 * address layout, if there is one, places the parcel of the image. On the
 * public platform, accept.c places parcels.
 */
#include "parcel.h"
#include "rm.h"
#include "vm.h"

static struct parcel parcels[MAX_PARCELS];
static u32 next_handle;

static u8 slot_of(const struct parcel *parcel)
{
	return parcel - parcels;
}

/* The next page of the parcel from @pa on, or the end. */
static u64 next_page(const struct parcel *parcel, u64 pa)
{
	while (pa < parcel->pa_end &&
	       memdb_page(pa)->parcel != slot_of(parcel) + 1)
		pa += PAGE_SIZE;
	return pa;
}

#define for_each_page(pa, parcel)                           \
	for ((pa) = next_page(parcel, (parcel)->pa_lowest); \
	     (pa) < (parcel)->pa_end;                       \
	     (pa) = next_page(parcel, (pa) + PAGE_SIZE))

u64 parcel_gpa(const struct acl_entry *acl, u64 pa)
{
	const struct page_info *page = memdb_page(pa);

	if (acl->scattered)
		return (u64)page->map_gfn << PAGE_SHIFT;
	return acl->gpa + (u64)page->parcel_index * PAGE_SIZE;
}

struct parcel *parcel_create(void)
{
	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++) {
		if (parcel->used)
			continue;
		*parcel = (struct parcel) {
			.used = true, .open = true, .handle = next_handle++,
			.host_access = ACCESS_RWX, .pa_lowest = memdb_end(),
		};
		return parcel;
	}
	return NULL;
}

struct parcel *parcel_find(u32 handle)
{
	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++) {
		if (parcel->used && parcel->handle == handle)
			return parcel;
	}
	return NULL;
}

u64 nr_parcels(void)
{
	u64 n = 0;

	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++)
		n += parcel->used;
	return n;
}

const struct parcel *parcel_in_slot(u8 slot)
{
	return &parcels[slot];
}

u8 parcel_host_access(u8 slot)
{
	return parcels[slot].open && !rm_is_public() ?
		       ACCESS_RWX :
		       parcels[slot].host_access;
}

struct acl_entry *parcel_entry(struct parcel *parcel, u16 vmid)
{
	for (u32 i = 0; i < parcel->nr_acl; i++) {
		if (parcel->acl[i].vmid == vmid)
			return &parcel->acl[i];
	}
	return NULL;
}

struct parcel *parcel_next(u16 vmid, const struct parcel *previous)
{
	struct parcel *next = NULL;

	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++) {
		if (parcel->used && parcel_entry(parcel, vmid) &&
		    (!previous || parcel->handle > previous->handle) &&
		    (!next || parcel->handle < next->handle))
			next = parcel;
	}
	return next;
}

bool parcel_names_vm(u16 vmid)
{
	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++) {
		if (parcel->used && parcel_entry(parcel, vmid))
			return true;
	}
	return false;
}

u32 parcel_add(struct parcel *parcel, u64 pa, u64 size)
{
	u32 nr_before = parcel->nr_pages, error = RM_OK;

	if (!size || !ALIGNED(pa | size, PAGE_SIZE))
		return RM_ARG_INVALID;
	if (!memdb_contains(pa, size))
		return RM_MEM_INVALID;
	if (stage2_prepare(&host_stage2, pa, size))
		return RM_NOMEM;
	if (pa < parcel->pa_lowest)
		parcel->pa_lowest = pa;
	if (pa + size > parcel->pa_end)
		parcel->pa_end = pa + size;
	for (u64 at = pa; at < pa + size; at += PAGE_SIZE) {
		struct page_info *page = memdb_page(at);

		/*
		 * A mapping of an extent would come into effect in the parcel's
		 * place.
		 */
		if (!memdb_is_plain(page)) {
			error = page->parcel ? RM_MEM_INUSE : RM_MEM_INVALID;
			break;
		}
		page->parcel = slot_of(parcel) + 1;
		page->parcel_index = parcel->nr_pages++;
	}
	if (!error && !pieces_add(&parcel->pieces, pa, size))
		error = RM_NOMEM;
	if (error) {
		parcel_truncate(parcel, parcel->nr_pages - nr_before);
		return error;
	}
	if (rm_is_public())
		memdb_update(pa, size);
	return RM_OK;
}

void parcel_truncate(struct parcel *parcel, u32 nr_pages)
{
	u64 pa;

	if (!nr_pages)
		return;
	parcel->nr_pages -= nr_pages;
	for_each_page(pa, parcel) {
		if (memdb_page(pa)->parcel_index < parcel->nr_pages)
			continue;
		memdb_page(pa)->parcel = 0;
		memdb_update(pa, PAGE_SIZE);
	}
	stage2_sync(&host_stage2);
	pieces_truncate(&parcel->pieces, parcel_size(parcel));
}

static void update_host(struct parcel *parcel)
{
	u64 pa;

	for_each_page(pa, parcel)
		memdb_update(pa, PAGE_SIZE);
	stage2_sync(&host_stage2);
}

/* Zero the pages from that index on. */
static void zero_pages(struct parcel *parcel, u32 first)
{
	u64 pa;

	for_each_page(pa, parcel) {
		if (memdb_page(pa)->parcel_index >= first)
			memset((void *)pa, 0, PAGE_SIZE);
	}
}

void parcel_added(struct parcel *parcel, u32 first)
{
	/* On the other platforms, nothing has changed yet. */
	if (!rm_is_public())
		return;
	stage2_sync(&host_stage2);
	if (parcel->sanitize)
		zero_pages(parcel, first);
}

u32 parcel_place(struct parcel *parcel, struct acl_entry *acl, struct vm *vm,
		 u64 gpa)
{
	u64 pa, size = parcel_size(parcel);

	acl->gpa = gpa;
	acl->scattered = false;
	if (acl->gpa >= IPA_END || size > IPA_END - acl->gpa)
		return RM_MAP_FAILED;
	for (u64 at = acl->gpa; at < acl->gpa + size; at += PAGE_SIZE) {
		if (stage2_get(&vm->stage2, at))
			return RM_MAP_FAILED;
	}
	if (stage2_prepare(&vm->stage2, acl->gpa, size))
		return RM_NOMEM;
	for_each_page(pa, parcel)
		stage2_set(&vm->stage2, parcel_gpa(acl, pa),
			   stage2_pte(pa, acl->access, MEMTYPE_NORMAL_WB));
	acl->placed = true;
	return RM_OK;
}

static u32 place_by_label(struct parcel *parcel, struct acl_entry *acl,
			  struct vm *vm)
{
	u64 gpa = (u64)parcel->label << PAGE_SHIFT;

	if (vm->has_image && vm->has_layout &&
	    vm->image_handle == parcel->handle)
		gpa = vm->layout.base;
	return parcel_place(parcel, acl, vm, gpa);
}

void parcel_unplace(struct parcel *parcel, struct acl_entry *acl)
{
	struct vm *vm = vm_find(acl->vmid);
	u64 pa;

	if (!acl->placed)
		return;
	for_each_page(pa, parcel)
		stage2_set(&vm->stage2, parcel_gpa(acl, pa), 0);
	stage2_sync(&vm->stage2);
	acl->placed = false;
	acl->scattered = false;
}

static void unplace_all(struct parcel *parcel)
{
	for (u32 i = 0; i < parcel->nr_acl; i++)
		parcel_unplace(parcel, &parcel->acl[i]);
}

u32 parcel_close(struct parcel *parcel)
{
	u32 error = RM_OK;

	parcel->open = false;
	/* The pages changed hands one by one, and no VM gets any before START. */
	if (rm_is_public())
		return RM_OK;
	update_host(parcel);
	if (parcel->sanitize)
		zero_pages(parcel, 0);
	for (u32 i = 0; i < parcel->nr_acl && !error; i++) {
		struct vm *vm = vm_find(parcel->acl[i].vmid);

		if (vm_has_memory(vm))
			error = place_by_label(parcel, &parcel->acl[i], vm);
	}
	if (error) {
		unplace_all(parcel);
		parcel->open = true;
		update_host(parcel);
	}
	return error;
}

void parcel_delete(struct parcel *parcel)
{
	u64 pa;

	for_each_page(pa, parcel) {
		memdb_page(pa)->parcel = 0;
		memdb_update(pa, PAGE_SIZE);
	}
	stage2_sync(&host_stage2);
	pieces_truncate(&parcel->pieces, 0);
	parcel->used = false;
}

u32 parcel_reclaim(struct parcel *parcel, bool sanitize)
{
	for (u32 i = 0; i < parcel->nr_acl; i++) {
		if (parcel->acl[i].placed &&
		    (rm_is_public() ||
		     vm_is_live(vm_find(parcel->acl[i].vmid))))
			return RM_MEM_INUSE;
	}
	unplace_all(parcel);
	if (sanitize || parcel->sanitize_last)
		zero_pages(parcel, 0);
	parcel_delete(parcel);
	return RM_OK;
}

u32 parcels_place(struct vm *vm, u64 *image)
{
	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++) {
		struct acl_entry *acl;
		u32 error;

		if (!parcel->used || parcel->open)
			continue;
		acl = parcel_entry(parcel, vm->vmid);
		if (!acl)
			continue;
		error = place_by_label(parcel, acl, vm);
		if (error)
			return error;
		if (vm->has_image && parcel->handle == vm->image_handle)
			*image = acl->gpa;
	}
	return RM_OK;
}

void parcels_unplace(struct vm *vm)
{
	for (struct parcel *parcel = parcels; parcel < parcels + MAX_PARCELS;
	     parcel++) {
		struct acl_entry *acl =
			parcel->used ? parcel_entry(parcel, vm->vmid) : NULL;

		if (acl)
			parcel_unplace(parcel, acl);
	}
}

void parcel_to_extent(struct vm *vm)
{
	struct parcel *parcel = vm->has_image ? parcel_find(vm->image_handle) :
						NULL;
	struct acl_entry *acl = parcel ? parcel_entry(parcel, vm->vmid) : NULL;
	u64 pa;

	if (!acl || !acl->placed || parcel->host_access)
		return;
	for_each_page(pa, parcel) {
		u64 gpa = parcel_gpa(acl, pa);

		memdb_page(pa)->parcel = 0;
		memdb_set_owner(pa, PAGE_SIZE, &vm->private);
		memdb_map(pa, &vm->private, gpa, acl->access,
			  MEMTYPE_NORMAL_WB);
	}
	pieces_truncate(&parcel->pieces, 0);
	parcel->used = false;
}
