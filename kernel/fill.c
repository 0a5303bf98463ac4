// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fill pages of a guestmem and bind them, in one call: for the process that serves
 * accesses that wait. A write through a mapping costs a fault of the host, and the
 * end of that mapping when the page is lent.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rwsem.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "binding.h"
#include "fill.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "wait.h"

/*
 * Copy the contents into a folio that is nobody's yet. No cgroup pays for it before
 * the file gets it, and a fault of the source may take as long as its owner likes. So
 * the copy into a huge folio makes no faults.
 */
static int gmem_fill_copy(struct folio *folio, u64 source)
{
	bool is_huge = folio_test_large(folio);
	unsigned long left;
	void *to;
	long i;

	for (i = 0; i < folio_nr_pages(folio); i++, source += PAGE_SIZE) {
		to = kmap_local_folio(folio, i * PAGE_SIZE);
		if (is_huge)
			pagefault_disable();
		left = copy_from_user(to, u64_to_user_ptr(source), PAGE_SIZE);
		if (is_huge)
			pagefault_enable();
		kunmap_local(to);
		if (left)
			return -EFAULT;
		if (fatal_signal_pending(current))
			return -EINTR;
		flush_dcache_page(folio_page(folio, i));
		cond_resched();
	}
	return 0;
}

/* A folio of this order with the contents; NULL without memory. */
static struct folio *gmem_fill_read_order(struct gmem_mem *mem, pgoff_t index,
					  unsigned int order, u64 source)
{
	struct folio *folio = gmem_folio_alloc(mem, index, order);
	int err;

	if (!folio)
		return NULL;
	err = gmem_fill_copy(folio, source);
	if (!err)
		return folio;
	folio_put(folio);
	return ERR_PTR(err);
}

/*
 * The file gets this folio as it is, so nothing is zeroed or copied twice. The source
 * may be anything, so no lock is held. A huge folio for a huge page, if there is
 * the memory, and if the source stays in memory during the copy.
 */
static struct folio *gmem_fill_read(struct gmem_mem *mem, pgoff_t index,
				    u64 source)
{
	struct folio *folio;

	if (mem->order && gmem_mem_aligned(mem, index) &&
	    !fault_in_readable(u64_to_user_ptr(source),
			       PAGE_SIZE << mem->order)) {
		folio = gmem_fill_read_order(mem, index, mem->order, source);
		if (folio && folio != ERR_PTR(-EFAULT))
			return folio;
	}
	folio = gmem_fill_read_order(mem, index, 0, source);
	return folio ?: ERR_PTR(-ENOMEM);
}

/* The file has a page at @index, or gets a zeroed one. */
static int gmem_fill_page(struct gmem_mem *mem, pgoff_t index,
			  struct page *from)
{
	struct folio *folio;
	int err;

	err = gmem_lend_host_get(mem, index, GMEM_LEND_RIGHT_WRITE, true,
				 &folio);
	if (err)
		return err == -EINPROGRESS ? -EBUSY : err;
	memcpy_page(folio_file_page(folio, index), 0, from, 0, PAGE_SIZE);
	flush_dcache_page(folio_file_page(folio, index));
	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

/* A page that is bound has contents of a guest. Invalidate lock. */
static int gmem_fill_folio(struct gmem_mem *mem, pgoff_t index,
			   struct folio *from)
{
	long i;
	int err;

	if (gmem_binding_of_page(mem, index, NULL))
		return -EEXIST;
	err = gmem_folio_add_filled(mem, index, from);
	/* Where no huge folio can be, small ones may. */
	if (!err || (err != -EEXIST && !folio_test_large(from)))
		return err;
	for (err = 0, i = 0; !err && i < folio_nr_pages(from); i++) {
		err = fatal_signal_pending(current) ? -EINTR :
		      gmem_fill_page(mem, index + i, folio_page(from, i));
		cond_resched();
	}
	return err;
}

static int gmem_fill_pages(struct gmem_vm *vm, unsigned long gfn,
			   struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			   u64 source)
{
	struct address_space *mapping = mem->inode.i_mapping;
	struct folio *folio;
	unsigned long nr;
	pgoff_t index;
	int err;

	for (index = first; index <= last; index += nr) {
		/* If the source is in memory, the bind follows soon. */
		if (index == last &&
		    !fault_in_readable(u64_to_user_ptr(source), PAGE_SIZE))
			gmem_wait_announce(vm, gfn, gfn + (last - first));
		folio = gmem_fill_read(mem, index, source);
		if (IS_ERR(folio))
			return PTR_ERR(folio);
		nr = folio_nr_pages(folio);
		source += nr << PAGE_SHIFT;
		err = down_read_killable(&mapping->invalidate_lock);
		if (err) {
			folio_put(folio);
			return err;
		}
		err = gmem_fill_folio(mem, index, folio);
		/* Before the unlock: the next holder of the lock may count references. */
		folio_put(folio);
		filemap_invalidate_unlock_shared(mapping);
		if (err)
			return err;
	}
	return 0;
}

int gmem_fill(struct gmem_vm *vm, unsigned long gfn, struct file *file,
	      pgoff_t first, pgoff_t last, u64 source)
{
	struct gmem_mem *mem = gmem_mem(file_inode(file));

	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	/* The kernel has no mapping of it. */
	if (mem->secret)
		return -EOPNOTSUPP;
	return gmem_fill_pages(vm, gfn, mem, first, last, source);
}
