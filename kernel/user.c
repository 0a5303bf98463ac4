// SPDX-License-Identifier: GPL-2.0
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/pagemap.h>

#include "folio.h"
#include "objects.h"
#include "user.h"

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
	/* No binding is left, so no guest has a page. */
	if (!atomic_read(&mem->users))
		gmem_folio_remove(mem, 0,
				  (i_size_read(&mem->inode) >> PAGE_SHIFT) - 1);
	filemap_invalidate_unlock(mapping);
}
