/* SPDX-License-Identifier: GPL-2.0-only */
/* Hibernation, which reads all memory that is in the kernel's linear map. */
#ifndef _GMEM_GUNYAH_PM_H
#define _GMEM_GUNYAH_PM_H

#include <linux/types.h>

struct gunyah_vm;

int gunyah_pm_init(void);
void gunyah_pm_exit(void);

/*
 * The VM is about to lend memory that is in the linear map: no hibernation until
 * its end. -EBUSY if one has begun.
 */
int gunyah_pm_lend_mapped(struct gunyah_vm *g);
/* The VM has ended. */
void gunyah_pm_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_PM_H */
