/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _PARCEL_H
#define _PARCEL_H

#include "memdb.h"
#include "piece.h"

struct vm;

#define MAX_PARCELS		64
#define MAX_ACL			8

struct acl_entry {
	u16 vmid;
	u8 access;
	/*
	 * The parcel is in the VM's tables, from @gpa on; or, if it is
	 * scattered, where memdb says: then @gpa is the place of the first
	 * piece. A parcel is scattered in one VM at most.
	 */
	bool placed, scattered;
	u64 gpa;
	/* Public: the VM accepted this many parcels before. */
	u32 order;
	/* Public: of the parcel's node in the guest's device tree, or 0 */
	u32 phandle;
};

/*
 * Pages that the host lends to one VM, or shares with some. memdb lists the
 * pages.
 */
struct parcel {
	bool used;
	/*
	 * More pages will be appended. Nobody's access has changed yet; on the
	 * public platform, the host has already lost its access.
	 */
	bool open;
	/* The sender has listed attributes. */
	bool attributes;
	/* Zero the pages before a VM sees them, or before the host does. */
	bool sanitize, sanitize_last;
	/* The host's remaining access. */
	u8 host_access;
	u8 nr_acl;
	u32 handle, label;
	/* The other VMs. */
	struct acl_entry acl[MAX_ACL];
	u32 nr_pages;
	struct pieces pieces;
	/* All pages are in this range. */
	u64 pa_lowest, pa_end;
};

static inline u64 parcel_size(const struct parcel *parcel)
{
	return (u64)parcel->nr_pages * PAGE_SIZE;
}

/* Create an open parcel without pages. NULL: there are too many. */
struct parcel *parcel_create(void);
struct parcel *parcel_find(u32 handle);
u64 nr_parcels(void);

/*
 * These return errors of the Resource Manager. A failed call has changed
 * nothing, except that pages to be sanitized may have been zeroed.
 */
u32 parcel_add(struct parcel *parcel, u64 pa, u64 size);
/* Pages from that index on have been added: flush the TLBs, and sanitize. */
void parcel_added(struct parcel *parcel, u32 first);
/* Remove the last @nr_pages pages again. */
void parcel_truncate(struct parcel *parcel, u32 nr_pages);
/* The parcel is complete: its pages change hands. */
u32 parcel_close(struct parcel *parcel);
u32 parcel_reclaim(struct parcel *parcel, bool sanitize);
void parcel_delete(struct parcel *parcel);

/* The host's access to the parcel in a slot, see struct page_info */
u8 parcel_host_access(u8 slot);
const struct parcel *parcel_in_slot(u8 slot);
bool parcel_names_vm(u16 vmid);
/* NULL: the parcel isn't for that VM. */
struct acl_entry *parcel_entry(struct parcel *parcel, u16 vmid);
/*
 * The VM's first parcel, for NULL, or the one that was created after @previous.
 * NULL: no more.
 */
struct parcel *parcel_next(u16 vmid, const struct parcel *previous);
/* The guest address of a page of a placed parcel. */
u64 parcel_gpa(const struct acl_entry *acl, u64 pa);

/*
 * Put a parcel into a VM's tables, as a whole at @gpa. Returns an error of the
 * Resource Manager.
 */
u32 parcel_place(struct parcel *parcel, struct acl_entry *acl, struct vm *vm,
		 u64 gpa);
void parcel_unplace(struct parcel *parcel, struct acl_entry *acl);

/*
 * Put all parcels of a VM into its tables, and find the image; or remove them.
 */
u32 parcels_place(struct vm *vm, u64 *image);
void parcels_unplace(struct vm *vm);
/*
 * Turn the VM's lent image into pages of its private extent, mapped at the same
 * place, and forget the parcel.
 */
void parcel_to_extent(struct vm *vm);

#endif /* _PARCEL_H */
