// SPDX-License-Identifier: GPL-2.0
/*
 * The unmap: a range of a VM is unbound as a whole or not at all.
 *
 * The range may lie in several bindings and guestmems, so the unmap goes in
 * three steps under gmem_vm.lock:
 *
 * 1. everything that can fail: allocate memory for the change, and take every
 *    page from the guest. From here on, guest accesses to the range wait, so no
 *    page is provided again;
 * 2. one store into the VM's tree: the range is unbound;
 * 3. the pages become the host's, and the guestmems' interval trees follow.
 *
 * A failure in step 1 changes neither the bindings nor the owner of any page:
 * the pages that the guest had lost are provided again. A page that fails there
 * is provided when the guest next uses it.
 */
#include <linux/fs.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include "batch.h"
#include "binding.h"
#include "event.h"
#include "lend.h"
#include "objects.h"
#include "unmap.h"

/* Guest accesses to the range wait from here on. */
static void gmem_vm_begin_unmap(struct gmem_vm *vm, unsigned long first,
				unsigned long last)
{
	WRITE_ONCE(vm->unmap_first, first);
	WRITE_ONCE(vm->unmap_last, last);
}

void gmem_vm_end_unmap(struct gmem_vm *vm)
{
	WRITE_ONCE(vm->unmap_last, 0);
	WRITE_ONCE(vm->unmap_first, ULONG_MAX);
}

/*
 * A reader that sees half of an update may wait for nothing, which is harmless,
 * or not wait: then it holds an invalidate lock that the unmap still has to
 * take.
 */
bool gmem_vm_unmapping(const struct gmem_vm *vm, unsigned long gfn)
{
	return gfn >= READ_ONCE(vm->unmap_first) &&
	       gfn <= READ_ONCE(vm->unmap_last);
}

int gmem_vm_wait_unmap(struct gmem_vm *vm)
{
	if (mutex_lock_killable(&vm->lock))
		return -EINTR;
	mutex_unlock(&vm->lock);
	return 0;
}

/*
 * Chain the bindings that touch the range at @list; -EINVAL where one would be
 * cut inside a huge page.
 */
static int gmem_unmap_collect(struct gmem_vm *vm, unsigned long first,
			      unsigned long last, struct gmem_binding **list,
			      u64 *nr_pages)
{
	struct gmem_binding **tail = list;
	unsigned long gfn = first;
	pgoff_t cut_first, cut_last;
	struct gmem_binding *b;

	*list = NULL;
	*nr_pages = 0;
	while ((b = gmem_binding_next(vm, &gfn, last))) {
		if (!gmem_binding_clip(b, first, last, &cut_first, &cut_last))
			return -EINVAL;
		*nr_pages += cut_last - cut_first + 1;
		b->unmap_next = NULL;
		*tail = b;
		tail = &b->unmap_next;
	}
	return 0;
}

/* Step 1 for one binding: the guest loses the pages. */
static int gmem_unmap_begin(struct gmem_binding *b, pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	int err;

	filemap_invalidate_lock(mapping);
	err = gmem_lend_begin_reclaim(b, first, last, GMEM_RECLAIM_UNBIND);
	filemap_invalidate_unlock(mapping);
	return err;
}

/* A failure in step 1, at @failed: the guest gets the pages again. */
static void gmem_unmap_undo(struct gmem_binding *b,
			    const struct gmem_binding *failed,
			    unsigned long first, unsigned long last)
{
	pgoff_t cut_first, cut_last;

	for (;; b = b->unmap_next) {
		struct address_space *mapping = b->mem->inode.i_mapping;

		gmem_binding_clip(b, first, last, &cut_first, &cut_last);
		filemap_invalidate_lock(mapping);
		gmem_batch_restore(b, cut_first, cut_last);
		filemap_invalidate_unlock(mapping);
		if (b == failed)
			return;
	}
}

/*
 * Step 3 for one binding: the pages become the host's. The binding keeps its
 * pages outside of the range, or goes if it has none.
 */
static void gmem_unmap_finish(struct gmem_binding *b, struct gmem_binding *right,
			      pgoff_t first, pgoff_t last)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	bool left;

	filemap_invalidate_lock(mapping);
	gmem_lend_finish_reclaim(b, first, last, GMEM_RECLAIM_UNBIND);
	gmem_event_unmap(b, first, last);
	left = gmem_binding_cut(b, right, first, last);
	filemap_invalidate_unlock(mapping);

	gmem_binding_changed(b->vm, left ? 0 : -1);
	if (!left)
		gmem_binding_free(b);
}

int gmem_binding_unmap(struct gmem_vm *vm, unsigned long first,
		       unsigned long last, u64 *nr_pages)
{
	MA_STATE(mas, &vm->bindings, first, last);
	struct gmem_binding *list, *b, *next, *right = NULL;
	pgoff_t cut_first, cut_last;
	int err;

	lockdep_assert_held(&vm->lock);

	err = gmem_unmap_collect(vm, first, last, &list, nr_pages);
	if (err || !list)
		return err;

	if (gmem_binding_gfn(list, list->first) < first &&
	    gmem_binding_gfn(list, list->last) > last) {
		right = gmem_binding_split(list, last);
		if (IS_ERR(right))
			return PTR_ERR(right);
	}
	err = mas_preallocate(&mas, NULL, GFP_KERNEL_ACCOUNT);
	if (err)
		goto unsplit;

	gmem_vm_begin_unmap(vm, first, last);
	for (b = list; b; b = b->unmap_next) {
		gmem_binding_clip(b, first, last, &cut_first, &cut_last);
		err = gmem_unmap_begin(b, cut_first, cut_last);
		if (err)
			goto end_unmap;
	}

	mas_store_prealloc(&mas, NULL);
	gmem_binding_changed(vm, 0);
	for (b = list; b; b = next) {
		next = b->unmap_next;
		gmem_binding_clip(b, first, last, &cut_first, &cut_last);
		gmem_unmap_finish(b, right, cut_first, cut_last);
	}
	if (right)
		gmem_binding_changed(vm, 1);
	gmem_vm_end_unmap(vm);
	return 0;

end_unmap:
	gmem_unmap_undo(list, b, first, last);
	gmem_vm_end_unmap(vm);
	mas_destroy(&mas);
unsplit:
	if (right)
		gmem_binding_unsplit(list, right);
	return err;
}

void gmem_binding_remove_all(struct gmem_vm *vm)
{
	struct gmem_binding *b;
	unsigned long gfn = 0;

	mutex_lock(&vm->lock);
	while ((b = gmem_binding_next(vm, &gfn, ULONG_MAX))) {
		struct address_space *mapping = b->mem->inode.i_mapping;

		filemap_invalidate_lock(mapping);
		gmem_lend_reclaim_range(b, b->first, b->last,
					GMEM_RECLAIM_TEARDOWN, NULL);
		gmem_event_unmap(b, b->first, b->last);
		gmem_binding_cut(b, NULL, b->first, b->last);
		filemap_invalidate_unlock(mapping);

		gmem_binding_changed(vm, -1);
		/*
		 * The tree still points at the binding, but has no reader left.
		 */
		gmem_binding_free(b);
		cond_resched();
	}
	/* No reader is left, so nodes need no grace period. */
	mt_clear_in_rcu(&vm->bindings);
	__mt_destroy(&vm->bindings);
	mutex_unlock(&vm->lock);
}
