/* SPDX-License-Identifier: GPL-2.0-only */
/* The call for window descriptors. */
#ifndef LIB_WINDOW_DESC_H
#define LIB_WINDOW_DESC_H

#include "proc.h"
#include "test.h"

/* Create one. A descriptor or -errno; *id: its number, unless @id is NULL. */
static inline int new_window_named(int vm, __u64 gpa, __u64 length, __u32 flags,
				   const char *name, __u64 *id)
{
	struct gmem_vm_window window = {
		.size = sizeof(window),
		.flags = flags,
		.guest_addr = gpa,
		.length = length,
	};
	int fd;

	memcpy(window.name, name, strnlen(name, GMEM_OBJECT_NAME_LEN - 1));
	fd = err_of(ioctl(vm, GMEM_VM_WINDOW, &window));
	if (id)
		*id = window.id;
	return fd;
}

static inline int new_window(int vm, __u64 gpa, __u64 length, __u32 flags,
			     __u64 *id)
{
	return new_window_named(vm, gpa, length, flags, "", id);
}

static inline __u64 window_id(int window)
{
	return fd_number(window, "gmem-window:");
}

#endif /* LIB_WINDOW_DESC_H */
