// SPDX-License-Identifier: GPL-2.0
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
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "binding.h"
#include "fill.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"

/* A page that is bound has contents of a guest. Invalidate lock. */
static int gmem_fill_page(struct gmem_mem *mem, pgoff_t index, const void *from)
{
	struct folio *folio;
	int err;

	if (gmem_binding_of_page(mem, index, NULL))
		return -EEXIST;
	err = gmem_lend_host_get(mem, index, GMEM_LEND_RIGHT_WRITE, true,
				 &folio);
	if (err)
		return err == -EINPROGRESS ? -EBUSY : err;
	memcpy_to_page(folio_file_page(folio, index), 0, from, PAGE_SIZE);
	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

/* @page: a buffer. The source may be anything, so no lock is held for it. */
static int gmem_fill_pages(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			   u64 source, void *page)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t index;
	int err;

	for (index = first; index <= last; index++, source += PAGE_SIZE) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (copy_from_user(page, u64_to_user_ptr(source), PAGE_SIZE))
			return -EFAULT;
		if (down_read_killable(&mapping->invalidate_lock))
			return -EINTR;
		err = gmem_fill_page(mem, index, page);
		filemap_invalidate_unlock_shared(mapping);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

int gmem_fill(struct file *file, pgoff_t first, pgoff_t last, u64 source)
{
	struct gmem_mem *mem = gmem_mem(file_inode(file));
	void *page;
	int err;

	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	/* The kernel has no mapping of it. */
	if (mem->secret)
		return -EOPNOTSUPP;

	page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	err = gmem_fill_pages(mem, first, last, source, page);
	kfree(page);
	return err;
}
