// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guestmem file: its inode, its calls and the host's access to it.
 *
 * The files live in a pseudo filesystem of their own, with folios in the page
 * cache. So accounting, truncation, reverse mapping and memory failure work as
 * for any file. Folios are unevictable and unmovable: a guest's second stage
 * may refer to them by physical address.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "call.h"
#include "charge.h"
#include "event.h"
#include "file.h"
#include "folio.h"
#include "guestmem.h"
#include "huge.h"
#include "lend.h"
#include "numa.h"
#include "objects.h"
#include "piece.h"
#include "poison.h"
#include "registry.h"
#include "secret.h"
#include "state.h"
#include "stats.h"
#include "touch.h"
#include "user.h"
#include "view.h"
#include "work.h"

/*
 * Mounted while there is a guestmem; each has the mount pinned, with i_private
 * set. Each file of one, O_PATH descriptors included, holds the mount, too, and
 * with it the module.
 */
static struct vfsmount *gmem_mnt;
static int gmem_mnt_count;
static struct kmem_cache *gmem_mem_cache;

/*
 * Faults of a CPU and of the kernel's user copies have one of these flags. GUP
 * sets neither: it faults pages in for pins, futexes and debuggers, and in bulk
 * for MAP_POPULATE and mlockall(). Nobody touches a page there, so such a fault
 * must not take a page from a guest.
 *
 * The READ right is for a task that can't get write access to the mapping.
 */
static enum gmem_lend_right gmem_mem_fault_right(const struct vm_fault *vmf)
{
	if (!(vmf->flags & (FAULT_FLAG_USER | FAULT_FLAG_INTERRUPTIBLE)))
		return GMEM_LEND_RIGHT_NONE;
	return vmf->vma->vm_flags & VM_MAYWRITE ? GMEM_LEND_RIGHT_WRITE :
						  GMEM_LEND_RIGHT_READ;
}

static int gmem_mem_get_folio(struct vm_fault *vmf, bool wait,
			      struct folio **folio)
{
	return gmem_lend_host_get(gmem_mem(file_inode(vmf->vma->vm_file)),
				  vmf->pgoff, gmem_mem_fault_right(vmf), wait,
				  folio);
}

static vm_fault_t gmem_mem_host_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);

	if (vmf->pgoff >= i_size_read(inode) >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	return gmem_touch(vmf, gmem_mem(inode), gmem_mem_get_folio);
}

#ifdef CONFIG_NUMA
static int gmem_mem_set_policy(struct vm_area_struct *vma,
			       struct mempolicy *policy)
{
	return gmem_numa_set_policy(gmem_mem(file_inode(vma->vm_file)), vma,
				    policy);
}
#endif

static const struct vm_operations_struct gmem_mem_vm_ops = {
	.fault = gmem_mem_host_fault,
	GMEM_NUMA_VM_OPS(gmem_mem_set_policy)
};

static int gmem_mem_mmap(struct file *file, struct vm_area_struct *vma)
{
	/*
	 * A private mapping would copy pages on write. Ask for MAYSHARE: SHARED
	 * is off where a read-only descriptor is mapped.
	 */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;

	/*
	 * DONTDUMP: writing a core must not take pages back from a guest.
	 * DONTEXPAND: mlock() skips the mapping. Its batches would hold
	 * references to pages for so long that the pages would look pinned.
	 */
	vm_flags_set(vma, VM_DONTDUMP | VM_DONTEXPAND);
	/*
	 * A user of pinned pages would reach them by the linear map: allow no
	 * pins.
	 */
	if (gmem_mem(file_inode(file))->secret)
		vm_flags_set(vma, VM_IO);
	vma->vm_ops = &gmem_mem_vm_ops;
	return 0;
}

/*
 * The guests have lost the pages: drop them. A task that is killed stops between
 * two pieces, and the guests get the rest again when they next use it.
 */
static int gmem_mem_drop(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t piece_last;
	int err;

	while (first <= last &&
	       gmem_piece_find(mem, &first, last, XA_PRESENT)) {
		piece_last = gmem_piece_last(mem, first, last);
		err = gmem_piece_lock_killable(mem);
		if (err)
			return err;
		gmem_lend_finish_punch(mem, first, piece_last);
		gmem_poison_remove(mem, first, piece_last);
		filemap_invalidate_unlock(mapping);
		cond_resched();
		first = piece_last + 1;
	}
	return 0;
}

/* Nothing is dropped before all guests have lost all the pages. */
static int gmem_mem_punch(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	int err;

	gmem_mem_begin_punch(mem, first, last);
	err = gmem_lend_begin_punch(mem, first, last);
	if (!err)
		err = gmem_mem_drop(mem, first, last);
	gmem_mem_end_punch(mem);
	return err;
}

static long gmem_mem_fallocate(struct file *file, int mode, loff_t offset,
			       loff_t length)
{
	struct inode *inode = file_inode(file);
	struct gmem_mem *mem = gmem_mem(inode);
	unsigned long first, last;
	int err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;
	err = gmem_call_range(offset, length, &first, &last);
	if (err)
		return err;
	if (last >= i_size_read(inode) >> PAGE_SHIFT ||
	    !gmem_mem_aligned(mem, first) || !gmem_mem_aligned(mem, last + 1))
		return -EINVAL;
	/* Only a mapping of the secret file could allocate new pages. */
	if (mem->secret && (mode & FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;

	if (mode & FALLOC_FL_PUNCH_HOLE) {
		err = gmem_poison_wait_split(mem, first, last);
		if (err)
			return err;
	}
	if (down_write_killable(&inode->i_rwsem))
		return -EINTR;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		err = gmem_mem_punch(mem, first, last);
	else
		err = gmem_folio_allocate(mem, first, last);
	inode_unlock(inode);
	return err;
}

static const struct gmem_call gmem_mem_calls[] = {
	GMEM_CALL(GMEM_MEM_QUERY, GMEM_CALL_INOUT, gmem_mem_query_call,
		  struct gmem_mem_query, leaked),
	GMEM_CALL_OPENS(GMEM_MEM_VIEW, gmem_mem_view_call,
			struct gmem_mem_view, name),
	GMEM_CALL(GMEM_MEM_REVOKE, GMEM_CALL_INOUT, gmem_mem_revoke_call,
		  struct gmem_mem_revoke, pinned),
	GMEM_CALL(GMEM_MEM_RUNS, GMEM_CALL_INOUT, gmem_mem_runs_call,
		  struct gmem_mem_runs, entry_size),
};

static long gmem_mem_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	return gmem_call(gmem_call_find(gmem_mem_calls,
					ARRAY_SIZE(gmem_mem_calls), cmd),
			 file, arg);
}

static loff_t gmem_mem_llseek(struct file *file, loff_t offset, int whence)
{
	if (whence == SEEK_DATA || whence == SEEK_HOLE)
		return gmem_mem_seek(file, offset, whence);
	return generic_file_llseek(file, offset, whence);
}

static int gmem_mem_open(struct inode *inode, struct file *file)
{
	return gmem_user_get(gmem_mem(inode));
}

static int gmem_mem_release(struct inode *inode, struct file *file)
{
	gmem_user_put(gmem_mem(inode));
	return 0;
}

static void gmem_mem_show_fdinfo(struct seq_file *seq, struct file *file)
{
	const struct gmem_mem *mem = gmem_mem(file_inode(file));

	seq_printf(seq, "gmem-mem:\t%llu\n", (u64)mem->inode.i_ino);
	if (*mem->name)
		seq_printf(seq, "gmem-name:\t%s\n", mem->name);
}

static const struct file_operations gmem_mem_fops = {
	.owner = THIS_MODULE,
	.open = gmem_mem_open,
	.release = gmem_mem_release,
	.mmap = gmem_mem_mmap,
	.get_unmapped_area = gmem_huge_get_unmapped_area,
	.fallocate = gmem_mem_fallocate,
	.unlocked_ioctl = gmem_mem_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = gmem_mem_llseek,
	.show_fdinfo = gmem_mem_show_fdinfo,
};

/*
 * The size is fixed, whatever ftruncate() says; the rest is as for any inode.
 */
static int gmem_mem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
			    struct iattr *attr)
{
	if ((attr->ia_valid & ATTR_SIZE) &&
	    attr->ia_size != i_size_read(d_inode(dentry)))
		return -EINVAL;
	attr->ia_valid &= ~ATTR_SIZE;
	return simple_setattr(idmap, dentry, attr);
}

/* st_blksize tells the page size of a guestmem that another process made. */
static int gmem_mem_getattr(struct mnt_idmap *idmap, const struct path *path,
			    struct kstat *stat, u32 request_mask,
			    unsigned int query_flags)
{
	struct gmem_mem *mem = gmem_mem(d_inode(path->dentry));

	simple_getattr(idmap, path, stat, request_mask, query_flags);
	stat->blksize = PAGE_SIZE << mem->order;
	return 0;
}

static const struct inode_operations gmem_mem_iops = {
	.setattr = gmem_mem_setattr,
	.getattr = gmem_mem_getattr,
};

static const struct address_space_operations gmem_mem_aops = {
	.free_folio = gmem_folio_freed,
	.release_folio = gmem_poison_release_folio,
	.dirty_folio = gmem_folio_dirty,
	.error_remove_folio = gmem_poison_error_remove_folio,
};

struct file *gmem_mem_file_get(int fd)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op != &gmem_mem_fops) {
		fput(file);
		return ERR_PTR(-EINVAL);
	}
	return file;
}

static struct inode *gmem_mem_alloc_inode(struct super_block *sb)
{
	struct gmem_mem *mem;
	unsigned int i;

	mem = alloc_inode_sb(sb, gmem_mem_cache, GFP_KERNEL);
	if (!mem)
		return NULL;
	/* destroy_inode reads these even if inode_init_always() fails. */
	mem->inode.i_mode = 0;
	mem->order = 0;
	mem->secret = NULL;
	mem->spare = NULL;
	mem->memcg = NULL;
	mem->nr_lent = 0;
	mem->nr_shared = 0;
	mem->nr_leaked = 0;
	mem->punch_first = ULONG_MAX;
	mem->punch_last = 0;
	atomic_set(&mem->changes, 0);
	gmem_user_init(mem);
	mem->exclusive = RB_ROOT_CACHED;
	mem->shared = RB_ROOT_CACHED;
	gmem_poison_init_mem(mem);
	for (i = 0; i < ARRAY_SIZE(mem->indexes); i++) {
		mem->indexes[i].held = ULONG_MAX;
		mem->indexes[i].held_until = jiffies;
		mem->indexes[i].waited = ULONG_MAX;
	}
	gmem_numa_init(mem);
	return &mem->inode;
}

static void gmem_mem_free_inode(struct inode *inode)
{
	kmem_cache_free(gmem_mem_cache, gmem_mem(inode));
}

static void gmem_mem_evict_inode(struct inode *inode)
{
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	iput(gmem_mem(inode)->spare);
	/* No folio is left, so nothing can queue the work again. */
	gmem_poison_exit_mem(gmem_mem(inode));
	if (inode->i_private)
		simple_release_fs(&gmem_mnt, &gmem_mnt_count);
}

/*
 * The end of the secret file would free leaked pages and write to them. So it
 * stays for ever, as they do.
 */
static void gmem_mem_put_secret(struct gmem_mem *mem)
{
	if (mem->secret && !mem->nr_leaked)
		fput(mem->secret);
}

static void gmem_mem_destroy_inode(struct inode *inode)
{
	/* The filesystem has a root directory, too. */
	if (!S_ISREG(inode->i_mode))
		return;
	/* A guestmem without a number was never registered. */
	if (inode->i_ino) {
		gmem_registry_remove_mem(gmem_mem(inode));
		gmem_event_mem_destroyed(gmem_mem(inode));
	}
	gmem_numa_destroy(gmem_mem(inode));
	mem_cgroup_put(gmem_mem(inode)->memcg);
	/* Last, because the registry looks at the page cache under RCU. */
	gmem_mem_put_secret(gmem_mem(inode));
	gmem_stat_add(GMEM_STAT_MEMS, -1);
}

/* Don't cache the inode of a guestmem without users. */
static int gmem_mem_drop_inode(struct inode *inode)
{
	return 1;
}

static const struct super_operations gmem_sops = {
	.alloc_inode = gmem_mem_alloc_inode,
	.evict_inode = gmem_mem_evict_inode,
	.destroy_inode = gmem_mem_destroy_inode,
	.free_inode = gmem_mem_free_inode,
	.drop_inode = gmem_mem_drop_inode,
	.statfs = gmem_file_statfs,
};

static int gmem_fs_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, GMEM_MEM_MAGIC);

	if (!ctx)
		return -ENOMEM;
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	ctx->ops = &gmem_sops;
	return 0;
}

static struct file_system_type gmem_fs = {
	.owner = THIS_MODULE,
	.name = "gmem",
	.init_fs_context = gmem_fs_init_fs_context,
	.kill_sb = kill_anon_super,
};

static struct inode *gmem_mem_inode_create(u64 size, unsigned int order,
					   struct file *secret,
					   const char *name)
{
	struct inode *inode;
	int err;

	inode = new_inode(gmem_mnt->mnt_sb);
	if (!inode)
		return ERR_PTR(-ENOMEM);

	inode->i_mode = S_IFREG | 0600;
	inode->i_uid = current_fsuid();
	inode->i_gid = current_fsgid();
	inode->i_flags |= S_NOATIME | S_NOCMTIME;
	inode->i_op = &gmem_mem_iops;
	/* For an open of the file through /proc/PID/fd. */
	inode->i_fop = &gmem_mem_fops;
	inode->i_size = size;
	inode->i_mapping->a_ops = &gmem_mem_aops;
	/* At a memory limit the access fails, without the OOM killer. */
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER |
			     __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	mapping_set_large_folios(inode->i_mapping);
	mapping_set_unevictable(inode->i_mapping);
	mapping_set_release_always(inode->i_mapping);
	mapping_set_inaccessible(inode->i_mapping);
	simple_inode_init_ts(inode);
	/* The inode has no name, so inotify drops it with the last file. */
	clear_nlink(inode);

	if (secret)
		inode->i_mapping = secret->f_mapping;

	gmem_mem(inode)->order = order;
	memcpy(gmem_mem(inode)->name, name, GMEM_OBJECT_NAME_LEN);
	gmem_stat_add(GMEM_STAT_MEMS, 1);

	err = gmem_registry_add_mem(gmem_mem(inode));
	if (err) {
		iput(inode);
		return ERR_PTR(err);
	}
	if (secret)
		gmem_mem(inode)->secret = get_file(secret);
	gmem_event_mem_created(gmem_mem(inode));
	return inode;
}

/* A guestmem, with the page cache of @secret unless that is NULL. */
static struct file *gmem_mem_create(u64 size, unsigned int order,
				    struct file *secret, const char *name)
{
	struct inode *inode;
	struct file *file;
	int err;

	err = gmem_file_pin_fs(&gmem_fs, &gmem_mnt, &gmem_mnt_count);
	if (err)
		return ERR_PTR(err);
	inode = gmem_mem_inode_create(size, order, secret, name);
	if (IS_ERR(inode)) {
		file = ERR_CAST(inode);
	} else {
		file = gmem_file_create(inode, gmem_mnt, "[guestmem]", O_RDWR,
					&gmem_mem_fops);
		if (!IS_ERR(file)) {
			atomic_inc(&gmem_mem(inode)->users);
			inode->i_private = &gmem_mnt;
		}
		iput(inode);
	}
	if (IS_ERR(file))
		simple_release_fs(&gmem_mnt, &gmem_mnt_count);
	return file;
}

/* Check what both calls have. */
static int gmem_mem_check(u64 size, u64 flags, const u8 *from, char *name,
			  unsigned int *order)
{
	*order = 0;
	if (flags & ~(u64)(GMEM_MEM_CLOEXEC | GMEM_MEM_ALLOW_HUGEPAGE) ||
	    gmem_call_name(name, from))
		return -EINVAL;
	if (flags & GMEM_MEM_ALLOW_HUGEPAGE) {
		*order = gmem_huge_order();
		if (!*order)
			return -EOPNOTSUPP;
	}
	if (!size || size > MAX_LFS_FILESIZE ||
	    !IS_ALIGNED(size, PAGE_SIZE << *order))
		return -EINVAL;
	return 0;
}

int gmem_mem_create_default_call(void *obj, void *arg)
{
	const struct gmem_create_mem *create = arg;
	char name[GMEM_OBJECT_NAME_LEN];
	unsigned int order;
	struct file *file;
	int fd, err;

	if (memchr_inv(create->reserved, 0, sizeof(create->reserved)))
		return -EINVAL;
	err = gmem_mem_check(create->size, create->flags, create->name, name,
			     &order);
	if (err)
		return err;

	fd = get_unused_fd_flags(create->flags & GMEM_MEM_CLOEXEC ?
				 O_CLOEXEC : 0);
	if (fd < 0)
		return fd;
	file = gmem_mem_create(create->size, order, NULL, name);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}

/* The group that a creator has named, with a reference; NULL for none. */
static struct mem_cgroup *gmem_mem_memcg(const struct gmem_mem_create *create)
{
	if (create->flags & GMEM_MEM_CGROUP)
		return create->reserved ? ERR_PTR(-EINVAL) :
					  gmem_charge_open(create->cgroup_fd);
	return create->cgroup_fd || create->reserved ? ERR_PTR(-EINVAL) : NULL;
}

struct file *gmem_mem_create_call(void *obj, void *arg)
{
	const struct gmem_mem_create *create = arg;
	char name[GMEM_OBJECT_NAME_LEN];
	struct mem_cgroup *memcg;
	struct gmem_numa *numa;
	unsigned int order;
	struct file *file;
	int err;

	err = gmem_mem_check(create->length,
			     create->flags & ~(u32)GMEM_MEM_CGROUP,
			     create->name, name, &order);
	if (err)
		return ERR_PTR(err);
	memcg = gmem_mem_memcg(create);
	if (IS_ERR(memcg))
		return ERR_CAST(memcg);
	err = gmem_numa_create(create, &numa);
	if (err) {
		file = ERR_PTR(err);
		goto put_memcg;
	}

	file = gmem_mem_create(create->length, order, NULL, name);
	if (IS_ERR(file))
		goto free_numa;
	err = gmem_numa_begin(gmem_mem(file_inode(file)), numa);
	if (err) {
		fput(file);
		file = ERR_PTR(err);
		goto free_numa;
	}
	gmem_mem(file_inode(file))->memcg = memcg;
	return file;

free_numa:
	gmem_numa_free(numa);
put_memcg:
	mem_cgroup_put(memcg);
	return file;
}

int gmem_mem_from_secret_call(void *obj, void *arg)
{
	const struct gmem_mem_from_secret *from = arg;
	char name[GMEM_OBJECT_NAME_LEN];
	struct file *secret, *file;
	int fd;

	if (from->flags & ~(u32)GMEM_MEM_CLOEXEC || from->reserved ||
	    gmem_call_name(name, from->name))
		return -EINVAL;

	fd = get_unused_fd_flags(from->flags & GMEM_MEM_CLOEXEC ?
				 O_CLOEXEC : 0);
	if (fd < 0)
		return fd;
	secret = gmem_secret_take(from->secret_fd);
	if (IS_ERR(secret)) {
		put_unused_fd(fd);
		return PTR_ERR(secret);
	}
	file = gmem_mem_create(i_size_read(file_inode(secret)), 0, secret,
			       name);
	fput(secret);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}

static void gmem_mem_init_once(void *obj)
{
	struct gmem_mem *mem = obj;
	unsigned int i;

	inode_init_once(&mem->inode);
	mutex_init(&mem->numa_lock);
	init_rwsem(&mem->tree_rwsem);
	mutex_init(&mem->users_lock);
	for (i = 0; i < ARRAY_SIZE(mem->indexes); i++)
		mutex_init(&mem->indexes[i].lock);
}

int gmem_mem_init(void)
{
	int err;

	gmem_mem_cache = kmem_cache_create("gmem_mem", sizeof(struct gmem_mem),
					   0,
					   SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT,
					   gmem_mem_init_once);
	if (!gmem_mem_cache)
		return -ENOMEM;
	err = gmem_poison_init();
	if (err)
		kmem_cache_destroy(gmem_mem_cache);
	return err;
}

void gmem_mem_exit(void)
{
	gmem_poison_exit();
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	kmem_cache_destroy(gmem_mem_cache);
}
