/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_VIEW_H
#define _GMEM_VIEW_H

struct file;

/* Calls on a guestmem. */
struct file *gmem_mem_view_call(void *obj, void *arg);
int gmem_mem_revoke_call(void *obj, void *arg);

#endif /* _GMEM_VIEW_H */
