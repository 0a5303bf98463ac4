/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Views and window descriptors: files that stand for a range of memory and can
 * only be mapped, opened again and asked for their size.
 *
 * Each has an inode of its own: an open through /proc/self/fd checks the mode
 * of the inode, which must let any user in. And a file's f_mapping is the
 * inode's own, which is empty: whatever the kernel does with the page cache of a
 * descriptor (fadvise(), cachestat(), sync_file_range()) reaches no memory. A
 * mapping has a file of its own.
 */
#ifndef _GMEM_DESCRIPTOR_H
#define _GMEM_DESCRIPTOR_H

#include <linux/fs.h>

#include "objects.h"

struct address_space;
struct seq_file;
struct vm_area_struct;

/**
 * struct gmem_descriptor_kind - views, or window descriptors
 * @fs: their pseudo filesystem
 * @magic: f_type
 * @name: of the files, in /proc/PID/maps for example
 * @fops: with gmem_descriptor_open() as ->open
 * @release: drops the reference of an inode that is evicted
 * @mnt: mounted while a descriptor is being created. From then on each file,
 *	O_PATH descriptors included, holds the mount, and with it the module.
 * @nr_pins: for @mnt
 */
struct gmem_descriptor_kind {
	struct file_system_type fs;
	unsigned long magic;
	const char *name;
	const struct file_operations *fops;
	void (*release)(struct gmem_descriptor *d);
	struct vfsmount *mnt;
	int nr_pins;
};

int gmem_descriptor_init_fs_context(struct fs_context *fc);

/* @d gets its reference and its process. */
void gmem_descriptor_init(struct gmem_descriptor *d);

/*
 * A file for @d, whose number and range are set, with pages of PAGE_SIZE << @order.
 * It takes over the caller's reference, unless the call fails.
 */
struct file *gmem_descriptor_file(struct gmem_descriptor_kind *kind,
				  struct gmem_descriptor *d, bool read_only,
				  unsigned int order);

static inline struct gmem_descriptor *gmem_descriptor_of(const struct file *file)
{
	return file_inode(file)->i_private;
}

int gmem_descriptor_open(struct inode *inode, struct file *file);
/* The lines that both kinds have. */
void gmem_descriptor_show(struct seq_file *seq, const struct gmem_descriptor *d);

/* Huge pages are aligned in the range, wherever the file begins. */
unsigned long gmem_descriptor_get_unmapped_area(struct file *file,
						unsigned long addr,
						unsigned long length,
						unsigned long pgoff,
						unsigned long flags);
/* May the file be mapped so? */
int gmem_descriptor_check_mmap(const struct gmem_descriptor *d,
			       struct vm_area_struct *vma);
/*
 * Turn a new mapping of a descriptor into one that stands in @mapping, at the
 * place of its range there.
 */
int gmem_descriptor_map(struct vm_area_struct *vma,
			struct address_space *mapping);

#endif /* _GMEM_DESCRIPTOR_H */
