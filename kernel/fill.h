/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_FILL_H
#define _GMEM_FILL_H

#include <linux/types.h>

struct file;
struct gmem_vm;

/*
 * Write to the pages of a guestmem from user space; -EEXIST for a page that is
 * bound. The range lies in the file. On failure, a part may be written. The caller
 * is going to bind the range at @gfn.
 */
int gmem_fill(struct gmem_vm *vm, unsigned long gfn, struct file *file,
	      pgoff_t first, pgoff_t last, u64 source);

#endif /* _GMEM_FILL_H */
