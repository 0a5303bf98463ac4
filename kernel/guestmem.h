/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUESTMEM_H
#define _GMEM_GUESTMEM_H

#include <linux/container_of.h>
#include <linux/fs.h>
#include <linux/gmem.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/workqueue.h>

struct vfsmount;

#define GMEM_INDEX_LOCK_BITS 5

/**
 * struct gmem_mem - a guestmem
 * @inode: the file; several struct files may stand for it
 * @order: of the folios that it tries to use; also the alignment of all ranges
 * @exclusive: interval tree of the bindings that suffer no other, by page
 * @shared: interval tree of the others. Both under the invalidate lock of the
 *	inode; written under gmem_vm.lock, too.
 * @index_locks: see folio.h; an index uses that of its hash
 * @poison_work: takes broken pages away from their guests
 *
 * Lifetime: as long as descriptors, mappings, windows or bindings refer to it.
 * So when the inode is evicted, no page is lent or shared any more.
 */
struct gmem_mem {
	struct inode inode;
	unsigned int order;
	struct rb_root_cached exclusive;
	struct rb_root_cached shared;
	struct mutex index_locks[1 << GMEM_INDEX_LOCK_BITS];
	struct work_struct poison_work;
};

static inline struct gmem_mem *gmem_mem(struct inode *inode)
{
	return container_of(inode, struct gmem_mem, inode);
}

static inline bool gmem_mem_aligned(const struct gmem_mem *mem, pgoff_t index)
{
	return !(index & ((1UL << mem->order) - 1));
}

int gmem_mem_init(void);
void gmem_mem_exit(void);

/* The page order of a huge guestmem, 0 if the kernel has none. */
unsigned int gmem_mem_huge_order(void);

/* The guestmem behind a descriptor, referenced; -EBADF or -EINVAL. */
struct file *gmem_mem_file_get(int fd);

/*
 * Count pages by state into the five last members of @count; they sum up to the
 * range whatever changes meanwhile. -EINTR on a fatal signal.
 */
int gmem_mem_count(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
		   struct gmem_mem_query *count);

/* A new file that stands for the guestmem, with operations of its own. */
struct file *gmem_mem_file_create(struct inode *inode, struct vfsmount *mnt,
				  const char *name,
				  const struct file_operations *fops);

int gmem_mem_create_call(void *obj, void *arg);

#endif /* _GMEM_GUESTMEM_H */
