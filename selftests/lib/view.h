/* SPDX-License-Identifier: GPL-2.0-only */
/* The calls for views. Every call returns the result of the ioctl, or -errno. */
#ifndef LIB_VIEW_H
#define LIB_VIEW_H

#include "proc.h"
#include "test.h"

/* Create a view; *id: its number, unless @id is NULL. */
static inline int new_view_named(int mem, __u64 offset, __u64 length,
				 __u32 flags, const char *name, __u64 *id)
{
	struct gmem_mem_view view = {
		.size = sizeof(view),
		.flags = flags,
		.offset = offset,
		.length = length,
	};
	int fd;

	memcpy(view.name, name, strnlen(name, GMEM_OBJECT_NAME_LEN - 1));
	fd = err_of(ioctl(mem, GMEM_MEM_VIEW, &view));
	if (id)
		*id = view.id;
	return fd;
}

static inline int new_view(int mem, __u64 offset, __u64 length, __u32 flags,
			   __u64 *id)
{
	return new_view_named(mem, offset, length, flags, "", id);
}

/* Revoke a view; *pinned: the number of pinned pages, unless @pinned is NULL. */
static inline int revoke_view(int mem, __u64 id, __u64 *pinned)
{
	struct gmem_mem_revoke revoke = {
		.size = sizeof(revoke),
		.id = id,
		.pinned = ~0ULL,
	};
	int ret = err_of(ioctl(mem, GMEM_MEM_REVOKE, &revoke));

	if (pinned)
		*pinned = revoke.pinned;
	return ret;
}

static inline __u64 view_id(int view)
{
	return fd_number(view, "gmem-view:");
}

#endif /* LIB_VIEW_H */
