/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MEMDB_H
#define _MEMDB_H

#include "el2.h"
#include "stage2.h"

struct vm;

/*
 * A memory extent: what owns pages. All of RAM begins in the host's. Each VM has a
 * private one, whose pages the host can't reach, and a shared one, whose pages it can.
 */
struct extent {
	/* Its name in the database: 0 is the host's. */
	u8 id;
	/* enum el2_extent */
	u8 kind;
	/* NULL: the host's */
	struct vm *vm;
	/* Pages that it owns, and that it maps in its VM, owned or not. */
	u64 nr_owned, nr_mapped;
};

/*
 * A page of the host's RAM. The stage-2 tables follow from these: memdb_update().
 *
 * A mapping belongs to an extent and is in effect only while the extent owns the
 * page. A page has at most one (the real hypervisor: several).
 */
struct page_info {
	/* Ids of extents. Nobody: @mapper is 0. */
	u8 owner, mapper;
	u8 map_access, map_memtype;
	/* Guest frame number of the mapping. */
	u32 map_gfn;
	/* Index in the parcel. */
	u32 parcel_index;
	/* The parcel's slot + 1, or 0. */
	u8 parcel;
	u8 reserved[3];
};

extern struct stage2 host_stage2;
extern struct extent host_extent;

/* Put the database at @at. Returns where it ends, page-aligned. */
u64 memdb_init(u64 at, u64 ram_start, u64 ram_end);
/* NULL: not a page of the host's RAM. */
struct page_info *memdb_page(u64 pa);
bool memdb_contains(u64 pa, u64 size);
u64 memdb_start(void);
u64 memdb_end(void);
struct extent *extent_by_id(u8 id);

/* What the host may do with a page. */
u8 memdb_host_access(const struct page_info *page);
/* Nobody but the host has anything to do with it. */
bool memdb_is_plain(const struct page_info *page);
/* The first page from @pa on of which that isn't so; the end of RAM if there is none. */
u64 memdb_next_special(u64 pa);

/* Do both for a range that the host's tables are prepared for; the TLBs come after. */
void memdb_set_owner(u64 pa, u64 size, struct extent *owner);
void memdb_update(u64 pa, u64 size);

/* Note, or forget, a mapping. Its VM's tables must be prepared. */
void memdb_map(u64 pa, struct extent *mapper, u64 gpa, u8 access, u8 memtype);
void memdb_unmap(u64 pa);
/* Forget all mappings of an extent. */
void memdb_unmap_all(struct extent *mapper);

#endif /* _MEMDB_H */
