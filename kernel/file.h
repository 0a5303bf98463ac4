/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_FILE_H
#define _GMEM_FILE_H

#include <linux/fs.h>

struct vfsmount;

/*
 * A new file of @inode, with operations of its own; @flags: O_RDONLY or O_RDWR.
 * The kernel doesn't call their ->open.
 */
struct file *gmem_file_create(struct inode *inode, struct vfsmount *mnt,
			      const char *name, int flags,
			      const struct file_operations *fops);

#endif /* _GMEM_FILE_H */
