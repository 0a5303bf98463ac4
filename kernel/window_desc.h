/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_WINDOW_DESC_H
#define _GMEM_WINDOW_DESC_H

struct file;

/* A call on a VM. */
struct file *gmem_vm_window_call(void *obj, void *arg);

#endif /* _GMEM_WINDOW_DESC_H */
