// SPDX-License-Identifier: GPL-2.0-only
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/statfs.h>

#include "file.h"

int gmem_file_pin_fs(struct file_system_type *fs, struct vfsmount **mnt,
		     int *nr_pins)
{
	/* Nobody else uses a new mount before its flags are right. */
	static DEFINE_MUTEX(lock);
	int err;

	mutex_lock(&lock);
	err = simple_pin_fs(fs, mnt, nr_pins);
	/* The kernel ends an internal mount at once. */
	if (!err && (*mnt)->mnt_flags & MNT_INTERNAL)
		(*mnt)->mnt_flags &= ~MNT_INTERNAL;
	mutex_unlock(&lock);
	return err;
}

int gmem_file_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	buf->f_fsid = u64_to_fsid(huge_encode_dev(dentry->d_sb->s_dev));
	buf->f_type = dentry->d_sb->s_magic;
	buf->f_bsize = PAGE_SIZE;
	buf->f_namelen = NAME_MAX;
	return 0;
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
