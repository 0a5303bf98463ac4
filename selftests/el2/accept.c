// SPDX-License-Identifier: GPL-2.0-only
/* Where the public Resource Manager puts parcels in a guest. */
#include "accept.h"
#include "rm.h"
#include "setting.h"

#define BLOCK_SIZE		(2UL << 20)

static u64 align_up(u64 n, u64 alignment)
{
	return (n + alignment - 1) & ~(alignment - 1);
}

/* The first used page in the range, or the range's end. */
static u64 first_used(const struct vm *vm, u64 at, u64 end)
{
	while (at < end && !stage2_get(&vm->stage2, at))
		at += PAGE_SIZE;
	return at;
}

/*
 * The lowest free address; GUEST_END: there is none. Addresses seldom become
 * free, so go on behind the last one that was for the same size or a smaller
 * one.
 */
static u64 lowest_free(struct vm *vm, u64 size)
{
	u64 alignment = size >= BLOCK_SIZE ? BLOCK_SIZE : PAGE_SIZE;
	u64 at = vm->hint_size && size >= vm->hint_size ? vm->hint :
							  GUEST_MMIO_END;

	for (;;) {
		u64 used;

		at = align_up(at, alignment);
		if (at >= GUEST_END || size > GUEST_END - at)
			return GUEST_END;
		used = first_used(vm, at, at + size);
		if (used == at + size)
			break;
		at = used + PAGE_SIZE;
	}
	vm->hint = at + size;
	vm->hint_size = size;
	return at;
}

static void note(struct vm *vm, struct acl_entry *acl)
{
	acl->placed = true;
	acl->order = vm->nr_accepted++;
}

u32 accept_at(struct vm *vm, struct parcel *parcel, u64 gpa)
{
	struct acl_entry *acl = parcel_entry(parcel, vm->vmid);
	u64 size = parcel_size(parcel);
	u32 error;

	if (gpa >= GUEST_END || size > GUEST_END - gpa)
		return RM_ARG_INVALID;
	if (gpa < GUEST_MMIO_END)
		return RM_NORESOURCE;
	error = parcel_place(parcel, acl, vm, gpa);
	if (error)
		return error == RM_MAP_FAILED ? RM_NORESOURCE : error;
	note(vm, acl);
	return RM_OK;
}

static u32 place_piece(struct vm *vm, const struct piece *piece, u8 access)
{
	u64 gpa = lowest_free(vm, piece->size);

	if (gpa == GUEST_END)
		return RM_NORESOURCE;
	if (stage2_prepare(&vm->stage2, gpa, piece->size))
		return RM_NOMEM;
	for (u64 at = 0; at < piece->size; at += PAGE_SIZE) {
		u64 pa = piece->pa + at;

		memdb_page(pa)->map_gfn = (gpa + at) >> PAGE_SHIFT;
		stage2_set(&vm->stage2, gpa + at,
			   stage2_pte(pa, access, MEMTYPE_NORMAL_WB));
	}
	return RM_OK;
}

/* Undo place_piece() for the first pieces. */
static void remove_pieces(struct vm *vm, const struct parcel *parcel, u32 n)
{
	struct piece_cursor cursor = { };

	while (n--) {
		const struct piece *piece =
			pieces_next(&parcel->pieces, &cursor);

		for (u64 at = 0; at < piece->size; at += PAGE_SIZE) {
			u64 gfn = memdb_page(piece->pa + at)->map_gfn;

			stage2_set(&vm->stage2, gfn << PAGE_SHIFT, 0);
		}
	}
	stage2_sync(&vm->stage2);
}

static bool is_scattered(const struct parcel *parcel)
{
	for (u32 i = 0; i < parcel->nr_acl; i++) {
		if (parcel->acl[i].scattered)
			return true;
	}
	return false;
}

u32 accept_lowest(struct vm *vm, struct parcel *parcel)
{
	struct acl_entry *acl = parcel_entry(parcel, vm->vmid);
	struct piece_cursor cursor = { };
	const struct piece *piece;
	u32 n = 0;

	if (is_scattered(parcel))
		return RM_MAP_FAILED;
	while ((piece = pieces_next(&parcel->pieces, &cursor))) {
		u32 error = place_piece(vm, piece, acl->access);

		if (error) {
			remove_pieces(vm, parcel, n);
			return error;
		}
		if (!n++)
			acl->gpa = (u64)memdb_page(piece->pa)->map_gfn
				   << PAGE_SHIFT;
	}
	acl->scattered = true;
	note(vm, acl);
	return RM_OK;
}

static u32 accept_image(struct vm *vm)
{
	struct parcel *parcel = parcel_find(vm->image_handle);
	struct acl_entry *acl = parcel ? parcel_entry(parcel, vm->vmid) : NULL;

	if (!acl || parcel->open)
		return RM_HANDLE_INVALID;
	vm->mem_size = parcel_size(parcel);
	if (!setting(EL2_DEBUG_BUILD)) {
		/* The image must be lent, to that VM alone. */
		if (parcel->host_access)
			return RM_ARG_INVALID;
		if (parcel->nr_acl != 1 || acl->access != ACCESS_RWX ||
		    parcel->attributes)
			return RM_VALIDATE_FAILED;
	}
	return accept_at(vm, parcel, vm->config.base);
}

/* The vdevice with the parcel's label, or NULL. */
static const struct shm_config *find_shm(const struct vm *vm, u32 label)
{
	const struct guest_config *config = &vm->config;

	for (u32 i = 0; i < config->nr_shm; i++) {
		if (config->shm[i].label == label)
			return &config->shm[i];
	}
	return NULL;
}

bool is_private_memory(struct parcel *parcel, u16 vmid)
{
	if (parcel->label || parcel->attributes ||
	    parcel_entry(parcel, vmid)->access != ACCESS_RWX)
		return false;
	return setting(EL2_DEBUG_BUILD) ||
	       (parcel->nr_acl == 1 && !parcel->host_access);
}

/* Put it behind the image. If that fails, any place will do. */
static void accept_private(struct vm *vm, struct parcel *parcel)
{
	u64 size = parcel_size(parcel);

	if (vm->mem_size + size > vm->config.size_max)
		return;
	if (!accept_at(vm, parcel, vm->config.base + vm->mem_size))
		vm->mem_size += size;
}

u32 accept_configured(struct vm *vm)
{
	u32 error = accept_image(vm);
	struct parcel *parcel = NULL;

	while (!error && (parcel = parcel_next(vm->vmid, parcel))) {
		const struct shm_config *shm = find_shm(vm, parcel->label);

		if (shm && !shm->allocate && !parcel->open &&
		    !is_accepted(parcel, vm->vmid))
			error = accept_at(vm, parcel, shm->base);
	}
	while (!error && (parcel = parcel_next(vm->vmid, parcel))) {
		if (!parcel->open && !is_accepted(parcel, vm->vmid) &&
		    is_private_memory(parcel, vm->vmid))
			accept_private(vm, parcel);
	}
	return error;
}

u32 accept_lowest_run(struct vm *vm, struct parcel *parcel)
{
	u64 gpa = lowest_free(vm, parcel_size(parcel));

	return gpa == GUEST_END ? RM_NORESOURCE : accept_at(vm, parcel, gpa);
}

struct parcel *last_accepted(const struct vm *vm)
{
	struct parcel *parcel = NULL, *last = NULL;

	while ((parcel = parcel_next(vm->vmid, parcel))) {
		const struct acl_entry *acl = parcel_entry(parcel, vm->vmid);

		if (acl->placed &&
		    (!last || acl->order > parcel_entry(last, vm->vmid)->order))
			last = parcel;
	}
	return last;
}

void release(struct vm *vm, struct parcel *parcel)
{
	struct acl_entry *acl = parcel_entry(parcel, vm->vmid);

	parcel_unplace(parcel, acl);
	acl->phandle = 0;
	/* Lower addresses may be free again. */
	vm->hint_size = 0;
}
