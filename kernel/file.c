// SPDX-License-Identifier: GPL-2.0
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>

#include "file.h"

struct file *gmem_file_create(struct inode *inode, struct vfsmount *mnt,
			      const char *name, int flags,
			      const struct file_operations *fops)
{
	struct file *file;

	/* Dropped with the file, by fops_put(). */
	__module_get(THIS_MODULE);
	ihold(inode);
	file = alloc_file_pseudo(inode, mnt, name, flags | O_LARGEFILE, fops);
	if (IS_ERR(file)) {
		iput(inode);
		module_put(THIS_MODULE);
	}
	return file;
}
