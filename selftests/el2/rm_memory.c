// SPDX-License-Identifier: GPL-2.0-only
/* Messages about memory that the host lends and shares in parcels. */
#include "parcel.h"
#include "rm.h"
#include "rm_lists.h"
#include "vm.h"

#define MAX_ENTRIES		512

#define MEM_TYPE_NORMAL		0
#define FLAG_SANITIZE		1
#define FLAG_APPEND		2
#define APPEND_END		1

struct memory_header {
	u8 type, reserved1, flags, reserved2;
	u32 label;
};

struct append_header {
	u32 handle;
	u8 flags, reserved[3];
};

struct wire_attribute {
	u16 attribute, vmid;
};

const void *rm_take(struct rm_reader *r, u32 size)
{
	const void *p = r->at;

	if (size > r->left)
		return NULL;
	r->at += size;
	r->left -= size;
	return p;
}

u32 rm_take_list(struct rm_reader *r, u32 entry_size, const void **entries,
		 u32 *count)
{
	const struct list_header *header = rm_take(r, sizeof(*header));

	if (!header)
		return RM_MSG_INVALID;
	if (header->count > MAX_ENTRIES)
		return RM_ARG_INVALID;
	*count = header->count;
	*entries = rm_take(r, *count * entry_size);
	return *entries ? RM_OK : RM_MSG_INVALID;
}

static u32 take_acl(struct rm_reader *r, struct parcel *parcel, bool share)
{
	const struct wire_acl *acl;
	bool self = false;
	u32 error, count;

	error = rm_take_list(r, sizeof(*acl), (const void **)&acl, &count);
	if (error)
		return error;
	parcel->host_access = 0;
	for (; count--; acl++) {
		if (!acl->access || acl->access & ~ACCESS_RWX || acl->reserved)
			return RM_ARG_INVALID;
		if (acl->vmid == VMID_HOST) {
			if (self)
				return RM_ARG_INVALID;
			self = true;
			parcel->host_access = acl->access;
			continue;
		}
		if (!vm_find(acl->vmid))
			return RM_VMID_INVALID;
		for (u32 i = 0; i < parcel->nr_acl; i++) {
			if (parcel->acl[i].vmid == acl->vmid)
				return RM_ARG_INVALID;
		}
		if (parcel->nr_acl == MAX_ACL)
			return RM_NOMEM;
		parcel->acl[parcel->nr_acl++] = (struct acl_entry) {
			.vmid = acl->vmid, .access = acl->access,
		};
	}
	/*
	 * The host is in the ACL of a shared parcel, not in that of a lent one.
	 * Another VM must be in it.
	 */
	return self == share && parcel->nr_acl ? RM_OK : RM_ARG_INVALID;
}

static u32 take_ranges(struct rm_reader *r, struct parcel *parcel)
{
	u32 error, count, nr_before = parcel->nr_pages;
	const struct wire_range *range;

	error = rm_take_list(r, sizeof(*range), (const void **)&range, &count);
	if (!error && !count)
		error = RM_ARG_INVALID;
	for (; !error && count--; range++)
		error = parcel_add(parcel, range->pa, range->size);
	if (error)
		parcel_truncate(parcel, parcel->nr_pages - nr_before);
	else
		parcel_added(parcel, nr_before);
	return error;
}

static u32 fill(struct rm_reader *r, struct parcel *parcel, bool share,
		bool more)
{
	const struct wire_attribute *attributes;
	u32 count, error = take_acl(r, parcel, share);

	if (!error)
		error = take_ranges(r, parcel);
	/* There is only one kind of memory, so attributes have no effect. */
	if (!error)
		error = rm_take_list(r, sizeof(*attributes),
				     (const void **)&attributes, &count);
	if (!error)
		parcel->attributes = count;
	if (!error && r->left)
		error = RM_MSG_INVALID;
	if (!error && !more)
		error = parcel_close(parcel);
	return error;
}

static u32 give(const struct rm_request *request, struct rm_reply *reply,
		bool share)
{
	struct rm_reader r = { request->payload, request->size };
	const struct memory_header *header = rm_take(&r, sizeof(*header));
	struct parcel *parcel;
	u32 error;

	if (!header)
		return RM_MSG_INVALID;
	if (header->type != MEM_TYPE_NORMAL || header->reserved1 ||
	    header->reserved2 || header->flags & ~(FLAG_SANITIZE | FLAG_APPEND))
		return RM_ARG_INVALID;
	parcel = parcel_create();
	if (!parcel)
		return RM_DENIED;
	parcel->label = header->label;
	parcel->sanitize = header->flags & FLAG_SANITIZE;
	error = fill(&r, parcel, share, header->flags & FLAG_APPEND);
	if (error) {
		parcel_delete(parcel);
		return error;
	}
	reply->size = sizeof(parcel->handle);
	memcpy(reply->payload, &parcel->handle, sizeof(parcel->handle));
	return RM_OK;
}

u32 rm_mem_lend(const struct rm_request *request, struct rm_reply *reply)
{
	return give(request, reply, false);
}

u32 rm_mem_share(const struct rm_request *request, struct rm_reply *reply)
{
	return give(request, reply, true);
}

u32 rm_mem_append(const struct rm_request *request, struct rm_reply *reply)
{
	struct rm_reader r = { request->payload, request->size };
	const struct append_header *header = rm_take(&r, sizeof(*header));
	struct parcel *parcel;
	u32 nr_before, error;

	(void)reply;
	if (!header)
		return RM_MSG_INVALID;
	parcel = parcel_find(header->handle);
	if (!parcel)
		return RM_HANDLE_INVALID;
	if (!parcel->open)
		return rm_is_public() ? RM_DENIED : RM_ARG_INVALID;
	if (header->flags & ~APPEND_END)
		return RM_ARG_INVALID;
	nr_before = parcel->nr_pages;
	error = take_ranges(&r, parcel);
	if (!error && r.left)
		error = RM_MSG_INVALID;
	if (!error && header->flags & APPEND_END)
		error = parcel_close(parcel);
	if (error)
		parcel_truncate(parcel, parcel->nr_pages - nr_before);
	return error;
}

u32 rm_mem_reclaim(const struct rm_request *request, struct rm_reply *reply)
{
	struct rm_reader r = { request->payload, request->size };
	const struct append_header *header = rm_take(&r, sizeof(*header));
	struct parcel *parcel;

	(void)reply;
	if (!header || r.left)
		return RM_MSG_INVALID;
	if (header->flags & ~FLAG_SANITIZE)
		return RM_ARG_INVALID;
	parcel = parcel_find(header->handle);
	return parcel ? parcel_reclaim(parcel, header->flags & FLAG_SANITIZE) :
			RM_HANDLE_INVALID;
}
