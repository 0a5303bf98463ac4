/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_WORK_H
#define _GMEM_WORK_H

#include <linux/types.h>

struct work_struct;

int gmem_work_init(void);
/* Waits until all work is done. */
void gmem_work_exit(void);

/*
 * For work that may take long: the kernel's shared workers have other users. The
 * caller holds the module: by a file that it has or that the work has. False if
 * the work is waiting for its turn already.
 */
bool gmem_work_queue(struct work_struct *work);

#endif /* _GMEM_WORK_H */
