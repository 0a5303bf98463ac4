// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hypercalls for extents and address spaces. All extents are sparse, and the
 * host's begins at physical address 0, so an offset is a physical address. Each
 * call checks all arguments before it changes anything.
 */
#include "cap.h"
#include "control.h"
#include "hypercall.h"
#include "vm.h"

#define FLAG_PARTIAL		(1UL << 0)
#define FLAG_PRIVATE		(1UL << 1)
#define FLAG_VMMIO		(1UL << 2)
#define FLAG_NOSYNC		(1UL << 31)

#define DONATE_TYPE		0xffUL
enum {
	TO_CHILD, TO_PARENT, TO_SIBLING, TO_PROTECTED, FROM_PROTECTED,
};

#define MODIFY_OP		0xffUL
enum {
	UNMAP_ALL,
	ZERO_RANGE,
	CACHE_CLEAN_RANGE,
	CACHE_FLUSH_RANGE,
	SYNC_ALL = 255,
};

static u64 unsynced;

u64 nr_unsynced_donations(void)
{
	return unsynced;
}

/* The range that a call names. */
struct target {
	struct vm *vm;
	struct extent *extent;
	u64 gpa, pa, size;
};

static s64 find_objects(u64 *x, u8 addrspace_right, u8 extent_right,
			struct target *t)
{
	struct cap *addrspace, *extent;
	s64 error = cap_find(x[1], CAP_ADDRSPACE, addrspace_right, &addrspace);

	if (!error)
		error = cap_find(x[2], CAP_EXTENT, extent_right, &extent);
	if (error)
		return error;
	t->vm = addrspace->object;
	t->extent = extent->object;
	/*
	 * An extent can be mapped only in the address space of the VM that has
	 * it; the host's extents only in the host's.
	 */
	return t->extent->vm == t->vm ? OK : ARG_INVALID;
}

static s64 check_flags(u64 flags, const struct extent *extent)
{
	u64 kind = extent->kind == EL2_EXTENT_PRIVATE ? FLAG_PRIVATE :
							FLAG_VMMIO;

	return (flags & ~FLAG_NOSYNC) == (FLAG_PARTIAL | kind) ? OK :
								 ARG_INVALID;
}

static s64 check_range(u64 pa, u64 size)
{
	if (!ALIGNED(pa | size, PAGE_SIZE))
		return ARG_ALIGN;
	if (!size || pa + size < pa)
		return ARG_SIZE;
	return memdb_contains(pa, size) ? OK : ARG_INVALID;
}

static s64 check_target(const struct target *t)
{
	if (!ALIGNED(t->gpa, PAGE_SIZE))
		return ARG_ALIGN;
	if (t->gpa >= IPA_END || t->size > IPA_END - t->gpa)
		return ADDR_OVERFLOW;
	return check_range(t->pa, t->size);
}

/* In Gunyah, access by user and kernel may differ; here it must not. */
static s64 check_access(u64 attributes, u8 *access)
{
	*access = attributes & 7;
	if (*access != (attributes >> 4 & 7) ||
	    *access == (ACCESS_W | ACCESS_X))
		return ARG_INVALID;
	return attributes & ~0x77UL ? ARG_INVALID : OK;
}

static s64 check_memtype(u8 memtype)
{
	/* 0x4, 0x8 and 0xc are reserved. */
	return memtype > 0xf || (memtype >= 4 && !(memtype & 3)) ? ARG_INVALID :
								   OK;
}

/* Check that the extent maps the whole range at the named address. */
static s64 check_mapped(const struct target *t)
{
	for (u64 at = 0; at < t->size; at += PAGE_SIZE) {
		const struct page_info *page = memdb_page(t->pa + at);

		if (page->mapper != t->extent->id ||
		    page->map_gfn != (t->gpa + at) >> PAGE_SHIFT)
			return ADDR_INVALID;
	}
	return OK;
}

static s64 check_unmapped(const struct target *t)
{
	for (u64 at = 0; at < t->size; at += PAGE_SIZE) {
		if (stage2_get(&t->vm->stage2, t->gpa + at))
			return EXISTING_MAPPING;
		if (memdb_page(t->pa + at)->mapper)
			return MAPPINGS_FULL;
	}
	return OK;
}

static void finish(const struct target *t, u64 flags)
{
	if (!(flags & FLAG_NOSYNC))
		stage2_sync(&t->vm->stage2);
}

/*
 * x1 addrspace, x2 extent, x3 base, x4 attributes, x5 flags, x6 offset, x7 size
 */
s64 call_addrspace_map(u64 *x)
{
	struct target t = { .gpa = x[3], .pa = x[6], .size = x[7] };
	u64 attributes = x[4], memtype = attributes >> 16 & 0xff;
	u8 access;
	s64 error = find_objects(x, ADDRSPACE_MAP, EXTENT_MAP, &t);

	if (!error)
		error = x[8] ? ARG_INVALID :
			       check_access(attributes & ~0xff0000UL, &access);
	if (!error)
		error = check_memtype(memtype);
	if (!error)
		error = check_flags(x[5], t.extent);
	if (!error)
		error = check_target(&t);
	if (!error)
		error = check_unmapped(&t);
	if (!error)
		error = stage2_prepare(&t.vm->stage2, t.gpa, t.size);
	if (error)
		return error;
	for (u64 at = 0; at < t.size; at += PAGE_SIZE)
		memdb_map(t.pa + at, t.extent, t.gpa + at, access, memtype);
	finish(&t, x[5]);
	return OK;
}

/* x1 addrspace, x2 extent, x3 base, x4 flags, x5 offset, x6 size */
s64 call_addrspace_unmap(u64 *x)
{
	struct target t = { .gpa = x[3], .pa = x[5], .size = x[6] };
	s64 error = find_objects(x, ADDRSPACE_MAP, EXTENT_MAP, &t);

	if (!error)
		error = x[7] ? ARG_INVALID : check_flags(x[4], t.extent);
	if (!error)
		error = check_target(&t);
	if (!error)
		error = check_mapped(&t);
	if (error)
		return error;
	for (u64 at = 0; at < t.size; at += PAGE_SIZE)
		memdb_unmap(t.pa + at);
	finish(&t, x[4]);
	return OK;
}

/* x1 addrspace, x2 extent, x3 base, x4 access, x5 flags, x6 offset, x7 size */
s64 call_addrspace_update_access(u64 *x)
{
	struct target t = { .gpa = x[3], .pa = x[6], .size = x[7] };
	u8 access;
	s64 error = find_objects(x, ADDRSPACE_MAP, EXTENT_MAP, &t);

	if (!error)
		error = x[8] ? ARG_INVALID : check_access(x[4], &access);
	if (!error)
		error = check_flags(x[5], t.extent);
	if (!error)
		error = check_target(&t);
	if (!error)
		error = check_mapped(&t);
	if (error)
		return error;
	for (u64 at = 0; at < t.size; at += PAGE_SIZE)
		memdb_map(t.pa + at, t.extent, t.gpa + at, access,
			  memdb_page(t.pa + at)->map_memtype);
	finish(&t, x[5]);
	return OK;
}

/*
 * x1 addrspace, x2 extent, x3 base, x4 size -> x1 offset, x2 size, x3
 * attributes
 */
s64 call_addrspace_lookup(u64 *x)
{
	struct target t = { .gpa = x[3] };
	u64 pte, size = x[4];
	s64 error = find_objects(x, ADDRSPACE_LOOKUP, EXTENT_LOOKUP, &t);

	if (!error && x[5])
		error = ARG_INVALID;
	if (!error && !ALIGNED(t.gpa | size, PAGE_SIZE))
		error = ARG_ALIGN;
	if (!error && !size)
		error = ARG_SIZE;
	if (!error && (t.gpa >= IPA_END || size > IPA_END - t.gpa))
		error = ADDR_OVERFLOW;
	if (error)
		return error;
	pte = stage2_get(&t.vm->stage2, t.gpa);
	if (!pte || memdb_page(stage2_pa(pte))->mapper != t.extent->id)
		return ADDR_INVALID;
	/* Extend the range while the mapping continues. */
	for (t.size = PAGE_SIZE; t.size < size; t.size += PAGE_SIZE) {
		if (stage2_get(&t.vm->stage2, t.gpa + t.size) != pte + t.size ||
		    memdb_page(stage2_pa(pte) + t.size)->mapper != t.extent->id)
			break;
	}
	x[1] = stage2_pa(pte);
	x[2] = t.size;
	x[3] = stage2_access(pte) * 0x11 | (u64)stage2_memtype(pte) << 16;
	return OK;
}

/* x1 extent, x2 flags, x3 offset, x4 size */
s64 call_memextent_modify(u64 *x)
{
	u64 op = x[2] & MODIFY_OP, pa = x[3], size = x[4];
	bool range = op >= ZERO_RANGE && op <= CACHE_FLUSH_RANGE,
	     nosync = x[2] & FLAG_NOSYNC;
	struct extent *extent;
	struct cap *cap;
	s64 error = cap_find(x[1], CAP_EXTENT, EXTENT_MAP, &cap);

	if (error)
		return error;
	extent = cap->object;
	if (x[2] & ~(MODIFY_OP | FLAG_NOSYNC) ||
	    (op > CACHE_FLUSH_RANGE && op != SYNC_ALL) || (range && !nosync) ||
	    (op == SYNC_ALL && nosync))
		return ARG_INVALID;
	/* The host's own extent stays mapped. */
	if (!range && !extent->vm)
		return op == UNMAP_ALL ? ARG_INVALID : OK;
	if (!range) {
		if (op == UNMAP_ALL)
			memdb_unmap_all(extent);
		if (!nosync)
			stage2_sync(&extent->vm->stage2);
		return OK;
	}
	error = check_range(pa, size);
	if (error)
		return error;
	for (u64 at = pa; at < pa + size; at += PAGE_SIZE) {
		if (memdb_page(at)->owner != extent->id ||
		    memdb_page(at)->parcel)
			return MEMDB_NOT_OWNER;
	}
	if (op == ZERO_RANGE)
		memset((void *)pa, 0, size);
	return OK;
}

static s64 check_donation(u64 type, const struct cap *from,
			  const struct cap *to)
{
	const struct extent *a = from->object, *b = to->object;

	switch (type) {
	case TO_SIBLING:
		/* The host's extent has two labels, one for each use. */
		return a != b &&
				       (from->label == LABEL_HOST_SHARED ||
					from->label == LABEL_GUEST_SHARED) &&
				       (to->label == LABEL_HOST_SHARED ||
					to->label == LABEL_GUEST_SHARED) ?
			       OK :
			       ARG_INVALID;
	case TO_PROTECTED:
		return from->label == LABEL_HOST_PRIVATE &&
				       to->label == LABEL_GUEST_PRIVATE ?
			       OK :
			       ARG_INVALID;
	case FROM_PROTECTED:
		return from->label == LABEL_GUEST_PRIVATE &&
				       to->label == LABEL_HOST_PRIVATE ?
			       OK :
			       ARG_INVALID;
	default:
		/* No extent of the host's is derived from another. */
		return ARG_INVALID;
	}
}

static s64 check_owned(const struct extent *from, const struct extent *to,
		       u64 pa, u64 size)
{
	for (u64 at = pa; at < pa + size; at += PAGE_SIZE) {
		const struct page_info *page = memdb_page(at);

		if (page->owner != from->id || page->parcel)
			return MEMDB_NOT_OWNER;
		/*
		 * A mapping of "to" would come into effect: its address must be
		 * free.
		 */
		if (page->mapper && page->mapper == to->id &&
		    stage2_get(&to->vm->stage2,
			       (u64)page->map_gfn << PAGE_SHIFT))
			return EXISTING_MAPPING;
	}
	return OK;
}

/* x1 options, x2 from, x3 to, x4 offset, x5 size */
s64 call_memextent_donate(u64 *x)
{
	u64 type = x[1] & DONATE_TYPE, pa = x[4], size = x[5];
	struct extent *from, *to;
	struct cap *from_cap, *to_cap;
	bool stale;
	s64 error;

	if (x[1] & ~(DONATE_TYPE | FLAG_NOSYNC) || x[6] ||
	    type > (rm_is_public() ? TO_SIBLING : FROM_PROTECTED))
		return ARG_INVALID;
	error = cap_find(x[2], CAP_EXTENT, EXTENT_DONATE, &from_cap);
	if (!error)
		error = cap_find(x[3], CAP_EXTENT, EXTENT_DONATE, &to_cap);
	if (!error)
		error = check_donation(type, from_cap, to_cap);
	if (!error)
		error = check_range(pa, size);
	if (error)
		return error;
	from = from_cap->object;
	to = to_cap->object;
	error = check_owned(from, to, pa, size);
	/*
	 * Only donations between host and private extents change the host's
	 * access.
	 */
	if (!error && type != TO_SIBLING)
		error = stage2_prepare(&host_stage2, pa, size);
	if (error)
		return error;
	stale = from->vm && from->vm->stage2.stale;
	unsynced += stale;
	if (from->vm)
		from->vm->stage2.stale = false;
	memdb_set_owner(pa, size, to);
	if (!(x[1] & FLAG_NOSYNC)) {
		stage2_sync(&host_stage2);
		/*
		 * Flush the entries that the donation removed, but not those
		 * that an earlier call left stale.
		 */
		if (from->vm && from->vm->stage2.stale)
			stale = false;
		if (from->vm)
			stage2_sync(&from->vm->stage2);
	}
	if (stale)
		from->vm->stage2.stale = true;
	return OK;
}
