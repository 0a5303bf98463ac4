/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUESTMEM_H
#define _GMEM_GUESTMEM_H

#include "objects.h"

struct vfsmount;

/**
 * struct gmem_mem_info - a guestmem as seen from outside
 * @id: number of its inode
 * @size: in bytes
 * @page_size: the same
 * @absent: base pages without memory; from here on, they sum up to @size
 * @host: those that are the host's alone
 * @lent: as in &struct gmem_mem_query
 * @shared: the same
 * @leaked: the same
 */
struct gmem_mem_info {
	u64 id;
	u64 size;
	u64 page_size;
	u64 absent;
	u64 host;
	u64 lent;
	u64 shared;
	u64 leaked;
};

int gmem_mem_init(void);
void gmem_mem_exit(void);

/* The page order of a huge guestmem, 0 if the kernel has none. */
unsigned int gmem_mem_huge_order(void);

/* The guestmem behind a descriptor, referenced; -EBADF or -EINVAL. */
struct file *gmem_mem_file_get(int fd);

/* What is known without a look at the pages. RCU is enough to keep @mem. */
void gmem_mem_peek(const struct gmem_mem *mem, struct gmem_mem_info *info);

/* A new file that stands for the guestmem, with operations of its own. */
struct file *gmem_mem_file_create(struct inode *inode, struct vfsmount *mnt,
				  const char *name,
				  const struct file_operations *fops);

/* A guestmem, with the page cache of @secret unless that is NULL. */
struct file *gmem_mem_create(u64 size, unsigned int order, struct file *secret);

int gmem_mem_create_call(void *obj, void *arg);

#endif /* _GMEM_GUESTMEM_H */
