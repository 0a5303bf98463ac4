/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_FILE_H
#define _GMEM_FILE_H

#include <linux/fs.h>

struct kstatfs;
struct vfsmount;

/*
 * simple_pin_fs(), for a filesystem whose inodes drop their pin when they end.
 * That may be under the filesystem's s_umount (drop_caches), which the end of the
 * filesystem takes. So the last pin ends the filesystem later.
 */
int gmem_file_pin_fs(struct file_system_type *fs, struct vfsmount **mnt,
		     int *nr_pins);

/*
 * The statfs operation of a filesystem without a disk. It does what simple_statfs()
 * does, which Android's kernels keep to themselves.
 */
int gmem_file_statfs(struct dentry *dentry, struct kstatfs *buf);

/*
 * A new file of @inode, with operations of its own; @flags: O_RDONLY or O_RDWR.
 * The kernel doesn't call their ->open.
 */
struct file *gmem_file_create(struct inode *inode, struct vfsmount *mnt,
			      const char *name, int flags,
			      const struct file_operations *fops);

#endif /* _GMEM_FILE_H */
