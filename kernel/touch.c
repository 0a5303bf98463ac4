// SPDX-License-Identifier: GPL-2.0-only
/* A touch by the host: the fault of a mapping of a guestmem or a view. */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "compat.h"
#include "folio.h"
#include "objects.h"
#include "piece.h"
#include "poison.h"
#include "slow.h"
#include "touch.h"

/*
 * May the handler sleep with the mmap lock, or the lock of the VMA? A second try
 * does, for a piece of a long operation, so that each fault comes to its end.
 */
static bool gmem_touch_may_wait(const struct vm_fault *vmf)
{
	return !(vmf->flags & FAULT_FLAG_ALLOW_RETRY) ||
	       ((vmf->flags & FAULT_FLAG_TRIED) &&
		!(vmf->flags & FAULT_FLAG_RETRY_NOWAIT));
}

/*
 * Drop the lock and sleep until another try makes sense after @err. The file of the
 * VMA keeps @mem.
 */
static vm_fault_t gmem_touch_retry(struct vm_fault *vmf, struct gmem_mem *mem,
				   int err, int changes)
{
	struct address_space *mapping = mem->inode.i_mapping;
	pgoff_t index = vmf->pgoff;
	struct file *file;

	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	file = get_file(vmf->vma->vm_file);
	release_fault_lock(vmf);
	/* The caller looks for a fatal signal itself. */
	if (err == -EALREADY) {
		gmem_mem_wait_change(mem, changes);
	} else if (err == -EINPROGRESS) {
		gmem_folio_wait(mem, index);
	} else if (!down_read_killable(&mapping->invalidate_lock)) {
		if (!gmem_folio_lock_index(mem, index, true))
			gmem_folio_unlock_index(mem, index);
		filemap_invalidate_unlock_shared(mapping);
	}
	fput(file);
	return VM_FAULT_RETRY;
}

/* From now on, a reference to the page isn't taken for a brief one. */
static void gmem_touch_give_up(struct vm_fault *vmf, struct gmem_mem *mem)
{
	struct folio *folio = filemap_get_folio(mem->inode.i_mapping,
						vmf->pgoff);

	if (IS_ERR(folio))
		return;
	gmem_folio_give_up(mem, folio);
	folio_put(folio);
}

vm_fault_t gmem_touch_hand_over(struct vm_fault *vmf, struct gmem_mem *mem,
				struct folio *folio)
{
	pgoff_t index = vmf->pgoff;
	struct file *file;

	if (!GMEM_FAULT_MAPS_FOLIO || !folio_test_large(folio) ||
	    !gmem_folio_broken(folio)) {
		gmem_slow_at(GMEM_TEST_FAULT_LOCKED);
		vmf->page = folio_file_page(folio, index);
		return VM_FAULT_LOCKED;
	}
	folio_unlock(folio);
	folio_put(folio);
	if (!fault_flag_allow_retry_first(vmf->flags))
		return VM_FAULT_SIGBUS;
	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	file = get_file(vmf->vma->vm_file);
	release_fault_lock(vmf);
	gmem_poison_wait_page(mem, index);
	fput(file);
	return VM_FAULT_RETRY;
}

vm_fault_t gmem_touch(struct vm_fault *vmf, struct gmem_mem *mem,
		      int (*get)(struct vm_fault *vmf, bool wait,
				 struct folio **folio))
{
	struct address_space *mapping = mem->inode.i_mapping;
	bool wait = gmem_touch_may_wait(vmf);
	struct folio *folio;
	int changes, err;

again:
	/* Before the look at the page: so no end of a change is missed. */
	changes = atomic_read_acquire(&mem->changes);
	if (!filemap_invalidate_trylock_shared(mapping)) {
		if (!wait)
			return gmem_touch_retry(vmf, mem, -EAGAIN, changes);
		if (down_read_killable(&mapping->invalidate_lock))
			return VM_FAULT_SIGBUS;
	}
	err = get(vmf, wait, &folio);
	/*
	 * A second try doesn't wait for a brief reference to a lent page: a guest
	 * that uses the page meanwhile could prolong that for ever.
	 */
	if (err == -EINPROGRESS && wait) {
		gmem_touch_give_up(vmf, mem);
		err = get(vmf, wait, &folio);
	}
	filemap_invalidate_unlock_shared(mapping);

	if (!err)
		return gmem_touch_hand_over(vmf, mem, folio);
	if (((err == -EAGAIN || err == -EINPROGRESS) && !wait) ||
	    (err == -EALREADY && (vmf->flags & FAULT_FLAG_ALLOW_RETRY)))
		return gmem_touch_retry(vmf, mem, err, changes);
	/* A change takes no lock of this task's mm. */
	if (err == -EALREADY && !gmem_mem_wait_change(mem, changes))
		goto again;
	return err == -EHWPOISON ? VM_FAULT_HWPOISON : VM_FAULT_SIGBUS;
}
