/* SPDX-License-Identifier: GPL-2.0-only */
/* The states of a guestmem's pages, for the calls that report them. */
#ifndef _GMEM_STATE_H
#define _GMEM_STATE_H

#include <linux/types.h>

struct file;

int gmem_mem_query_call(void *obj, void *arg);
int gmem_mem_runs_call(void *obj, void *arg);

/* lseek() with SEEK_DATA or SEEK_HOLE. */
loff_t gmem_mem_seek(struct file *file, loff_t offset, int whence);

#endif /* _GMEM_STATE_H */
