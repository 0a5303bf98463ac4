/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_START_H
#define _GMEM_GUNYAH_START_H

/* GMEM_GUNYAH_START */
int gunyah_vm_start_call(void *obj, void *arg);

#endif /* _GMEM_GUNYAH_START_H */
