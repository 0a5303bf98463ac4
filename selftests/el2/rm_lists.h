/* SPDX-License-Identifier: GPL-2.0-only */
/* Lists in messages about memory */
#ifndef _RM_LISTS_H
#define _RM_LISTS_H

#include "rm.h"

struct list_header {
	u16 count, reserved;
};

struct wire_acl {
	u16 vmid;
	u8 access, reserved;
};

struct wire_range {
	u64 pa, size;
} __attribute__((__packed__));

/* The unread rest of a request. */
struct rm_reader {
	const u8 *at;
	u32 left;
};

/* The next @size bytes, or NULL. */
const void *rm_take(struct rm_reader *r, u32 size);
/* Returns an error of the Resource Manager. */
u32 rm_take_list(struct rm_reader *r, u32 entry_size, const void **entries,
		 u32 *count);

#endif /* _RM_LISTS_H */
