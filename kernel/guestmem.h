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
 * @secret: the memfd_secret() file whose page cache @inode uses instead of its own;
 *	NULL for none. No other file refers to that.
 * @order: of the folios that it tries to use; also the alignment of all ranges
 * @exclusive: interval tree of the bindings that suffer no other, by page
 * @shared: interval tree of the others. Both under the invalidate lock of the
 *	inode; written under gmem_vm.lock, too.
 * @index_locks: see folio.h; an index uses that of its hash
 * @poison_work: takes broken pages away from their guests
 * @nr_lent: base pages in that state
 * @nr_shared: the same
 * @nr_leaked: the same. Written under the lock of the page cache's XArray;
 *	READ_ONCE() by others.
 *
 * Lifetime: as long as descriptors, mappings, windows or bindings refer to it.
 * So when the inode is evicted, no page is lent or shared any more. Readers under
 * RCU may see it for longer.
 */
struct gmem_mem {
	struct inode inode;
	struct file *secret;
	unsigned int order;
	struct rb_root_cached exclusive;
	struct rb_root_cached shared;
	struct mutex index_locks[1 << GMEM_INDEX_LOCK_BITS];
	struct work_struct poison_work;
	unsigned long nr_lent;
	unsigned long nr_shared;
	unsigned long nr_leaked;
};

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
