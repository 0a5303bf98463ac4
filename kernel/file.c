// SPDX-License-Identifier: GPL-2.0
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mount.h>

#include "file.h"

int gmem_file_pin_fs(struct file_system_type *fs, struct vfsmount **mnt,
		     int *nr_pins)
{
	int err = simple_pin_fs(fs, mnt, nr_pins);

	/* The kernel ends an internal mount at once. */
	if (!err)
		(*mnt)->mnt_flags &= ~MNT_INTERNAL;
	return err;
}

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
