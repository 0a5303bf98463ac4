// SPDX-License-Identifier: GPL-2.0-only
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/workqueue.h>

#include "folio.h"
#include "objects.h"
#include "piece.h"
#include "poison.h"
#include "user.h"
#include "work.h"

int gmem_user_get(struct gmem_mem *mem)
{
	if (atomic_inc_not_zero(&mem->users))
		return 0;
	/*
	 * The first user of a new guestmem, or an open of an O_PATH descriptor.
	 * Its pages must not be freed by the last user before it.
	 */
	if (mutex_lock_killable(&mem->users_lock))
		return -EINTR;
	atomic_inc(&mem->users);
	mutex_unlock(&mem->users_lock);
	return 0;
}

/* No binding is left, so no guest has a page. */
static void gmem_user_free_pages(struct gmem_mem *mem)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t first = 0, last = (i_size_read(&mem->inode) >> PAGE_SHIFT) - 1;
	pgoff_t piece_last;

	while (first <= last &&
	       gmem_piece_find(mem, &first, last, XA_PRESENT)) {
		piece_last = gmem_piece_last(mem, first, last);
		filemap_invalidate_lock(mapping);
		gmem_poison_remove(mem, first, piece_last);
		filemap_invalidate_unlock(mapping);
		cond_resched();
		first = piece_last + 1;
	}
}

static void gmem_user_end(struct gmem_mem *mem)
{
	mutex_lock(&mem->users_lock);
	if (!atomic_read(&mem->users))
		gmem_user_free_pages(mem);
	mutex_unlock(&mem->users_lock);
}

static void gmem_user_work(struct work_struct *work)
{
	struct gmem_mem *mem = container_of(work, struct gmem_mem, users_work);

	struct super_block *sb = mem->inode.i_sb;

	gmem_user_end(mem);
	iput(&mem->inode);
	deactivate_super(sb);
}

void gmem_user_init(struct gmem_mem *mem)
{
	atomic_set(&mem->users, 0);
	INIT_WORK(&mem->users_work, gmem_user_work);
}

void gmem_user_put(struct gmem_mem *mem)
{
	/* The pages of a secret file go with it. */
	if (!atomic_dec_and_test(&mem->users) || mem->secret)
		return;
	if (!(current->flags & PF_KTHREAD)) {
		gmem_user_end(mem);
		return;
	}
	/*
	 * Also if it runs already: then it sees that there is no user. The mount
	 * may go before the inode.
	 */
	atomic_inc(&mem->inode.i_sb->s_active);
	ihold(&mem->inode);
	if (!gmem_work_queue(&mem->users_work)) {
		iput(&mem->inode);
		deactivate_super(mem->inode.i_sb);
	}
}
