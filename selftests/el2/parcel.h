/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PARCEL_H
#define _PARCEL_H

#include "memdb.h"

struct vm;

#define MAX_PARCELS		64
#define MAX_ACL			8

struct acl_entry {
	u16 vmid;
	u8 access;
	/* The parcel is in the VM's tables, from @gpa on. */
	bool placed;
	u64 gpa;
};

/*
 * Pages that the host lends to one VM, or shares with some. memdb lists the
 * pages.
 */
struct parcel {
	bool used;
	/* More pages will be appended; nobody's access has changed yet. */
	bool open;
	/* Zero the pages before a VM sees them. */
	bool sanitize;
	/* The host's remaining access. */
	u8 host_access;
	u8 nr_acl;
	u32 handle, label;
	/* The other VMs. */
	struct acl_entry acl[MAX_ACL];
	u32 nr_pages;
	/* All pages are in this range. */
	u64 pa_lowest, pa_end;
};

/* Create an open parcel without pages. NULL: there are too many. */
struct parcel *parcel_create(void);
struct parcel *parcel_find(u32 handle);
u64 nr_parcels(void);

/*
 * These return errors of the Resource Manager. A failed call has changed
 * nothing, except that pages to be sanitized may have been zeroed.
 */
u32 parcel_add(struct parcel *parcel, u64 pa, u64 size);
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
bool parcel_is_for(struct parcel *parcel, u16 vmid);

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
