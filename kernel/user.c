// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "folio.h"
#include "objects.h"
#include "user.h"

/* Free all pages. No binding is left, so none is lent or shared. */
static void gmem_user_free_pages(struct gmem_mem *mem)
{
	struct address_space *mapping = mem->inode.i_mapping;

	gmem_folio_forget(mem, 0, ULONG_MAX);
	/* Truncation doesn't zap the hwpoison entries of page tables. */
	unmap_mapping_pages(mapping, 0, 0, true);
	truncate_inode_pages(mapping, 0);
}

void gmem_user_get(struct gmem_mem *mem)
{
	struct address_space *mapping = mem->inode.i_mapping;

	if (atomic_inc_not_zero(&mem->users))
		return;
	/*
	 * The first user of a new guestmem, or an open of an O_PATH descriptor.
	 * Its pages must not be freed by the last user before it.
	 */
	filemap_invalidate_lock_shared(mapping);
	atomic_inc(&mem->users);
	filemap_invalidate_unlock_shared(mapping);
}

void gmem_user_put(struct gmem_mem *mem)
{
	struct address_space *mapping = mem->inode.i_mapping;

	/* The pages of a secret file go with it. */
	if (!atomic_dec_and_test(&mem->users) || mem->secret)
		return;
	filemap_invalidate_lock(mapping);
	if (!atomic_read(&mem->users))
		gmem_user_free_pages(mem);
	filemap_invalidate_unlock(mapping);
}
