/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _MEMDB_H
#define _MEMDB_H

#include "el2.h"
#include "stage2.h"

struct vm;

/*
 * A memory extent, which owns pages. At first, the host's extent owns all of
 * RAM. Each VM has a private extent, whose pages the host can't access, and a
 * shared one, whose pages it can.
 */
struct extent {
	/* The extent's number in the database: 0 is the host's. */
	u8 id;
	/* enum el2_extent */
	u8 kind;
	/* NULL: the host's */
	struct vm *vm;
	/*
	 * The numbers of pages that the extent owns, and that it maps in its
	 * VM, owned or not.
	 */
	u64 nr_owned, nr_mapped;
};

/*
 * A page of the host's RAM. memdb_update() derives the stage-2 tables from it.
 *
 * A mapping belongs to an extent and is in effect only while the extent owns
 * the page. A page has at most one mapping (in Gunyah: several).
 */
struct page_info {
	/* Ids of extents; @mapper is 0 without a mapping. */
	u8 owner, mapper;
	u8 map_access, map_memtype;
	/* Guest frame number of the mapping. */
	u32 map_gfn;
	/* Index in the parcel. */
	u32 parcel_index;
	/* The parcel's slot + 1, or 0 without a parcel. */
	u8 parcel;
	u8 reserved[3];
};

extern struct stage2 host_stage2;
extern struct extent host_extent;

/* Put the database at @at. Returns its end, page-aligned. */
u64 memdb_init(u64 at, u64 ram_start, u64 ram_end);
/* NULL: the page isn't in the host's RAM. */
struct page_info *memdb_page(u64 pa);
bool memdb_contains(u64 pa, u64 size);
u64 memdb_start(void);
u64 memdb_end(void);
struct extent *extent_by_id(u8 id);

/* The host's access to a page. */
u8 memdb_host_access(const struct page_info *page);
/* Is only the host involved with the page? */
bool memdb_is_plain(const struct page_info *page);
/*
 * The first page from @pa on that isn't plain; the end of RAM if there is none.
 */
u64 memdb_next_special(u64 pa);

/*
 * Set the owner of a range, or update its entries. The host's tables must be
 * prepared for the range; the caller flushes the TLBs afterwards.
 */
void memdb_set_owner(u64 pa, u64 size, struct extent *owner);
void memdb_update(u64 pa, u64 size);

/* Record, or remove, a mapping. Its VM's tables must be prepared. */
void memdb_map(u64 pa, struct extent *mapper, u64 gpa, u8 access, u8 memtype);
void memdb_unmap(u64 pa);
/* Remove all mappings of an extent. */
void memdb_unmap_all(struct extent *mapper);

#endif /* _MEMDB_H */
