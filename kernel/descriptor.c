// SPDX-License-Identifier: GPL-2.0-only
#include <linux/err.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "call.h"
#include "descriptor.h"
#include "file.h"
#include "huge.h"

static struct gmem_descriptor_kind *
gmem_descriptor_kind_of(const struct inode *inode)
{
	return container_of(inode->i_sb->s_type, struct gmem_descriptor_kind,
			    fs);
}

static void gmem_descriptor_evict_inode(struct inode *inode)
{
	struct gmem_descriptor_kind *kind = gmem_descriptor_kind_of(inode);

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	/* The filesystem has a root directory, too. */
	if (!inode->i_private)
		return;
	kind->release(inode->i_private);
	simple_release_fs(&kind->mnt, &kind->nr_pins);
}

static const struct super_operations gmem_descriptor_sops = {
	.evict_inode = gmem_descriptor_evict_inode,
	.statfs = gmem_file_statfs,
};

int gmem_descriptor_init_fs_context(struct fs_context *fc)
{
	const struct gmem_descriptor_kind *kind =
		container_of(fc->fs_type, struct gmem_descriptor_kind, fs);
	struct pseudo_fs_context *ctx = init_pseudo(fc, kind->magic);

	if (!ctx)
		return -ENOMEM;
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->ops = &gmem_descriptor_sops;
	return 0;
}

/*
 * Its creator decides who may do what, for good: not even root or the owner
 * change the mode.
 */
static int gmem_descriptor_setattr(struct mnt_idmap *idmap,
				   struct dentry *dentry, struct iattr *attr)
{
	return -EPERM;
}

static const struct inode_operations gmem_descriptor_iops = {
	.setattr = gmem_descriptor_setattr,
};

/* The kernel has checked the mode, but root passes any. */
int gmem_descriptor_open(struct inode *inode, struct file *file)
{
	return (file->f_mode & FMODE_WRITE) && !(inode->i_mode & 0222) ?
		       -EACCES : 0;
}

void gmem_descriptor_init(struct gmem_descriptor *d)
{
	refcount_set(&d->refs, 1);
	d->pid = task_tgid_nr(current);
}

static struct inode *gmem_descriptor_inode(const struct gmem_descriptor_kind *kind,
					   const struct gmem_descriptor *d,
					   bool read_only, unsigned int order)
{
	struct inode *inode;

	inode = new_inode(kind->mnt->mnt_sb);
	if (!inode)
		return ERR_PTR(-ENOMEM);
	inode->i_ino = d->id;
	inode->i_mode = S_IFREG | (read_only ? 0444 : 0666);
	inode->i_uid = current_fsuid();
	inode->i_gid = current_fsgid();
	inode->i_flags |= S_NOATIME | S_NOCMTIME;
	inode->i_op = &gmem_descriptor_iops;
	/* For an open of the file through /proc/PID/fd. */
	inode->i_fop = kind->fops;
	inode->i_size = (u64)(d->last - d->first + 1) << PAGE_SHIFT;
	inode->i_blkbits = PAGE_SHIFT + order;
	simple_inode_init_ts(inode);
	/* The inode has no name, so inotify drops it with any of its files. */
	clear_nlink(inode);
	return inode;
}

struct file *gmem_descriptor_file(struct gmem_descriptor_kind *kind,
				  struct gmem_descriptor *d, bool read_only,
				  unsigned int order)
{
	struct inode *inode;
	struct file *file;
	int err;

	err = gmem_file_pin_fs(&kind->fs, &kind->mnt, &kind->nr_pins);
	if (err)
		return ERR_PTR(err);
	inode = gmem_descriptor_inode(kind, d, read_only, order);
	if (IS_ERR(inode)) {
		file = ERR_CAST(inode);
		goto release_fs;
	}
	file = gmem_file_create(inode, kind->mnt, kind->name,
				read_only ? O_RDONLY : O_RDWR, kind->fops);
	if (!IS_ERR(file))
		inode->i_private = d;
	iput(inode);
	/* One mount for all: the inode keeps it. */
	if (!IS_ERR(file))
		return file;
release_fs:
	simple_release_fs(&kind->mnt, &kind->nr_pins);
	return file;
}

void gmem_descriptor_show(struct seq_file *seq, const struct gmem_descriptor *d)
{
	if (*d->name)
		seq_printf(seq, "gmem-name:\t%s\n", d->name);
}

unsigned long gmem_descriptor_get_unmapped_area(struct file *file,
						unsigned long addr,
						unsigned long length,
						unsigned long pgoff,
						unsigned long flags)
{
	return gmem_huge_get_unmapped_area(file, addr, length,
					   gmem_descriptor_of(file)->first +
						   pgoff, flags);
}

int gmem_descriptor_check_mmap(const struct gmem_descriptor *d,
			       struct vm_area_struct *vma)
{
	unsigned long last;

	/* SHARED is off where the file is open for reading only. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (check_add_overflow(vma->vm_pgoff, vma_pages(vma) - 1, &last))
		return -EOVERFLOW;
	return last > d->last - d->first ? -EINVAL : 0;
}

/*
 * Without mmap and fallocate, so that remap_file_pages() and MADV_REMOVE can't
 * call them with the shifted offset.
 */
static const struct file_operations gmem_descriptor_map_fops = {
	.owner = THIS_MODULE,
};

int gmem_descriptor_map(struct vm_area_struct *vma,
			struct address_space *mapping)
{
	struct inode *inode = file_inode(vma->vm_file);
	const struct gmem_descriptor *d = inode->i_private;
	struct file *file;

	file = gmem_file_create(inode, vma->vm_file->f_path.mnt,
				gmem_descriptor_kind_of(inode)->name, O_RDWR,
				&gmem_descriptor_map_fops);
	if (IS_ERR(file))
		return PTR_ERR(file);
	file->f_mapping = mapping;

	/*
	 * DONTEXPAND: the kernel must neither merge the mapping with another by
	 * the offset that isn't shifted yet, nor let mremap() grow it beyond the
	 * range.
	 */
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_pgoff += d->first;
	vma_set_file(vma, file);
	fput(file);
	return 0;
}
