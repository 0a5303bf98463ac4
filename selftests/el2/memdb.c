// SPDX-License-Identifier: GPL-2.0-only
/* The ownership database: the owner and the mapping of each page. */
#include "control.h"
#include "memdb.h"
#include "parcel.h"
#include "vm.h"

struct stage2 host_stage2;
struct extent host_extent = { .kind = EL2_EXTENT_HOST };

static struct page_info *pages;
static u64 start, end;

u64 memdb_init(u64 at, u64 ram_start, u64 ram_end)
{
	u64 size = (ram_end - ram_start) / PAGE_SIZE * sizeof(*pages);

	pages = (void *)at;
	start = ram_start;
	end = ram_end;
	if (at + size < ram_start)
		memset(pages, 0, size);
	host_extent.nr_owned = (end - start) / PAGE_SIZE;
	return (at + size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

struct page_info *memdb_page(u64 pa)
{
	if (pa < start || pa >= end)
		return NULL;
	return &pages[(pa - start) / PAGE_SIZE];
}

bool memdb_contains(u64 pa, u64 size)
{
	return pa >= start && pa <= end && size <= end - pa;
}

u64 memdb_start(void)
{
	return start;
}

u64 memdb_end(void)
{
	return end;
}

struct extent *extent_by_id(u8 id)
{
	return id ? vm_extent(id) : &host_extent;
}

u8 memdb_host_access(const struct page_info *page)
{
	if (page->parcel)
		return parcel_host_access(page->parcel - 1);
	if (page->owner &&
	    extent_by_id(page->owner)->kind == EL2_EXTENT_PRIVATE)
		return 0;
	return ACCESS_RWX;
}

bool memdb_is_plain(const struct page_info *page)
{
	return !page->owner && !page->mapper && !page->parcel;
}

/* This has to be fast: tests walk all of RAM after each of their steps. */
u64 memdb_next_special(u64 pa)
{
	const struct page_info *page = &pages[(pa - start) / PAGE_SIZE];

	for (; pa < end && memdb_is_plain(page); page++)
		pa += PAGE_SIZE;
	return pa;
}

void memdb_set_owner(u64 pa, u64 size, struct extent *owner)
{
	for (u64 at = pa; at < pa + size; at += PAGE_SIZE) {
		struct page_info *page = memdb_page(at);

		extent_by_id(page->owner)->nr_owned--;
		owner->nr_owned++;
		page->owner = owner->id;
	}
	memdb_update(pa, size);
}

static void update_host(u64 pa, const struct page_info *page)
{
	u8 access = memdb_host_access(page);

	/* Don't split a block for an entry that doesn't change. */
	if (stage2_access(stage2_get(&host_stage2, pa)) != access)
		stage2_set(&host_stage2, pa,
			   stage2_pte(pa, access, MEMTYPE_NORMAL_WB));
}

/* Another page may have the address while this mapping isn't in effect. */
static void clear_guest(u64 pa, struct stage2 *s2, u64 gpa)
{
	if (stage2_pa(stage2_get(s2, gpa)) == pa)
		stage2_set(s2, gpa, 0);
}

static void update_guest(u64 pa, const struct page_info *page)
{
	u64 gpa = (u64)page->map_gfn << PAGE_SHIFT;
	struct stage2 *s2;

	if (!page->mapper)
		return;
	s2 = &extent_by_id(page->mapper)->vm->stage2;
	if (page->owner == page->mapper)
		stage2_set(s2, gpa,
			   stage2_pte(pa, page->map_access, page->map_memtype));
	else
		clear_guest(pa, s2, gpa);
}

void memdb_update(u64 pa, u64 size)
{
	for (u64 at = pa; at < pa + size; at += PAGE_SIZE) {
		const struct page_info *page = memdb_page(at);

		update_host(at, page);
		update_guest(at, page);
	}
}

void memdb_map(u64 pa, struct extent *mapper, u64 gpa, u8 access, u8 memtype)
{
	struct page_info *page = memdb_page(pa);

	if (!page->mapper)
		mapper->nr_mapped++;
	page->mapper = mapper->id;
	page->map_gfn = gpa >> PAGE_SHIFT;
	page->map_access = access;
	page->map_memtype = memtype;
	update_guest(pa, page);
}

void memdb_unmap(u64 pa)
{
	struct page_info *page = memdb_page(pa);
	struct extent *mapper = extent_by_id(page->mapper);

	mapper->nr_mapped--;
	clear_guest(pa, &mapper->vm->stage2, (u64)page->map_gfn << PAGE_SHIFT);
	page->mapper = 0;
}

void memdb_unmap_all(struct extent *mapper)
{
	for (u64 pa = start; mapper->nr_mapped; pa += PAGE_SIZE) {
		if (memdb_page(pa)->mapper == mapper->id)
			memdb_unmap(pa);
	}
}
