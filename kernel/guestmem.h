/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUESTMEM_H
#define _GMEM_GUESTMEM_H

struct file;

int gmem_mem_init(void);
void gmem_mem_exit(void);

/* The guestmem behind a descriptor, referenced; -EBADF or -EINVAL. */
struct file *gmem_mem_file_get(int fd);

int gmem_mem_create_default_call(void *obj, void *arg);
struct file *gmem_mem_create_call(void *obj, void *arg);
int gmem_mem_from_secret_call(void *obj, void *arg);

#endif /* _GMEM_GUESTMEM_H */
