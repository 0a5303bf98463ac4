// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page cache of a memfd_secret() file as that of a guestmem.
 *
 * Its pages leave the linear map when they are allocated, by a fault in a
 * mapping of the file, and come back when they are freed. So the file must come
 * with all its pages; and from then on only gmem may map them, or the owner of
 * the file would reach lent pages. The size of such a file, once set, is fixed,
 * nobody can punch a hole into it, and nobody can open it again through /proc.
 * So a task that holds the only reference to the file, which nobody maps, has
 * it alone.
 */
#include <linux/cpu.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "secret.h"

bool gmem_folio_is_secret(const struct folio *folio)
{
	return folio->mapping->host->i_sb->s_magic == SECRETMEM_MAGIC;
}

void *gmem_secret_map(struct folio *folio)
{
	struct page *page = folio_page(folio, 0);

	/* Secret memory has only small folios. */
	return vmap(&page, 1, VM_MAP, PAGE_KERNEL);
}

void gmem_secret_unmap(const void *addr)
{
	vunmap(addr);
}

/*
 * Check that a page is there and out of the linear map, where a read of it
 * fails, and keep the kernel from dropping it as a clean one.
 */
static int gmem_secret_check_page(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio;
	int err = 0;
	u8 byte;

	if (fatal_signal_pending(current))
		return -EINTR;
	folio = filemap_lock_folio(mapping, index);
	if (IS_ERR(folio))
		return -ENODATA;
	folio_mark_dirty(folio);
	if (folio_test_large(folio) ||
	    !copy_from_kernel_nofault(&byte, folio_address(folio), 1))
		err = -EOPNOTSUPP;
	folio_unlock(folio);
	folio_put(folio);
	cond_resched();
	return err;
}

static int gmem_secret_check(struct file *file)
{
	struct address_space *mapping = file->f_mapping;
	pgoff_t index, nr = i_size_read(mapping->host) >> PAGE_SHIFT;
	int err;

	if (!nr || !PAGE_ALIGNED(i_size_read(mapping->host)))
		return -EINVAL;
	for (index = 0; index < nr; index++) {
		err = gmem_secret_check_page(mapping, index);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Let this CPU drop the pages that it has batched for the LRU lists and
 * munlock().
 */
static long gmem_secret_drain(void *data)
{
	struct folio *folio = data;
	struct folio_batch batch;

	folio_batch_init(&batch);
	folio_get(folio);
	folio_batch_add(&batch, folio);
	folio_batch_release(&batch);
	return 0;
}

/*
 * Mappings of secret files are locked. munlock() of a page takes a reference
 * that stays with the CPU until its batch is full: until then the page would
 * look pinned.
 */
static void gmem_secret_drain_all(struct file *file)
{
	struct folio *folio = filemap_get_folio(file->f_mapping, 0);
	unsigned int cpu;

	if (IS_ERR(folio))
		return;
	cpus_read_lock();
	for_each_online_cpu(cpu)
		work_on_cpu(cpu, gmem_secret_drain, folio);
	cpus_read_unlock();
	folio_put(folio);
}

/* Has the file more than @refs references, or a mapping? */
static bool gmem_secret_in_use(struct file *file, unsigned long refs)
{
	return file_count(file) > refs || mapping_mapped(file->f_mapping);
}

struct file *gmem_secret_take(int fd)
{
	struct file *file = fget(fd);
	int err;

	if (!file)
		return ERR_PTR(-EBADF);
	if (file_inode(file)->i_sb->s_magic != SECRETMEM_MAGIC) {
		err = -EINVAL;
		goto put_file;
	}
	/*
	 * Two references: the descriptor's, and that of fget(). This is only a
	 * first look: both counts may change until close_fd().
	 */
	if (gmem_secret_in_use(file, 2)) {
		err = -EBUSY;
		goto put_file;
	}
	err = gmem_secret_check(file);
	if (err)
		goto put_file;

	err = close_fd(fd);
	if (err)
		goto put_file;
	/*
	 * From here on no other task can get the file. Does another task have
	 * it already?
	 */
	if (gmem_secret_in_use(file, 1)) {
		err = -EBUSY;
		goto put_file;
	}
	gmem_secret_drain_all(file);
	return file;

put_file:
	fput(file);
	return ERR_PTR(err);
}
