/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_WINDOW_H
#define _GMEM_WINDOW_H

struct file;
struct gmem_provider;
struct vm_area_struct;

extern const struct gmem_provider gmem_window_provider;

int gmem_window_mmap(struct file *file, struct vm_area_struct *vma);

#endif /* _GMEM_WINDOW_H */
