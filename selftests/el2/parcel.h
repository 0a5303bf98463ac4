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
	/* In the VM's tables, from @gpa on */
	bool placed;
	u64 gpa;
};

/* Pages that the host lent to one VM, or shares with some. Which: memdb knows. */
struct parcel {
	bool used;
	/* More pages are to be appended; nothing has changed for anybody yet. */
	bool open;
	/* Zero the pages before a VM sees them. */
	bool sanitize;
	/* What the host may still do with them. */
	u8 host_access;
	u8 nr_acl;
	u32 handle, label;
	/* The others in it. */
	struct acl_entry acl[MAX_ACL];
	u32 nr_pages;
	/* All pages are between these. */
	u64 pa_lowest, pa_end;
};

/* Returns NULL if there are too many, else an open one without pages. */
struct parcel *parcel_create(void);
struct parcel *parcel_find(u32 handle);
u64 nr_parcels(void);

/*
 * Errors of the Resource Manager. On failure of any, nothing has changed, but that
 * pages to be sanitized may be zeroed.
 */
u32 parcel_add(struct parcel *parcel, u64 pa, u64 size);
/* Undo the last @nr_pages added. */
void parcel_truncate(struct parcel *parcel, u32 nr_pages);
/* All pages are there: they change hands. */
u32 parcel_close(struct parcel *parcel);
u32 parcel_reclaim(struct parcel *parcel, bool sanitize);
void parcel_delete(struct parcel *parcel);

/* Of the parcel in a slot, see struct page_info */
u8 parcel_host_access(u8 slot);
const struct parcel *parcel_in_slot(u8 slot);
bool parcel_names_vm(u16 vmid);
bool parcel_is_for(struct parcel *parcel, u16 vmid);

/* Put all parcels of a VM into its tables; tells where the image is. Or take them off. */
u32 parcels_place(struct vm *vm, u64 *image);
void parcels_unplace(struct vm *vm);
/* The VM's lent image becomes its private extent's, mapped where it is; forget it. */
void parcel_to_extent(struct vm *vm);

#endif /* _PARCEL_H */
