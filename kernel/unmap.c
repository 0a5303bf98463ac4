// SPDX-License-Identifier: GPL-2.0-only
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
 *
 * Steps 1 and 3 go in pieces: see piece.h. If the task is killed in step 3, a
 * work item does the rest of it; until then, gmem_vm.unmap_list keeps others from
 * gmem_vm.lock, in place of the task. The last step at the end of a VM goes on in
 * this way, too.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/wait_bit.h>

#include "batch.h"
#include "binding.h"
#include "event.h"
#include "lend.h"
#include "objects.h"
#include "piece.h"
#include "provider.h"
#include "replace.h"
#include "unmap.h"
#include "work.h"

void gmem_vm_begin_unmap(struct gmem_vm *vm, unsigned long first,
			 unsigned long last)
{
	WRITE_ONCE(vm->unmap_first, first);
	WRITE_ONCE(vm->unmap_last, last);
}

void gmem_vm_end_unmap(struct gmem_vm *vm)
{
	WRITE_ONCE(vm->unmap_last, 0);
	WRITE_ONCE(vm->unmap_first, ULONG_MAX);
	smp_mb(); /* the range, then a look for tasks that wait */
	wake_up_var(&vm->unmap_first);
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

int gmem_vm_wait_unmap(struct gmem_vm *vm, unsigned long gfn)
{
	return wait_var_event_killable(&vm->unmap_first,
				       !gmem_vm_unmapping(vm, gfn)) ?
		       -EINTR : 0;
}

int gmem_vm_lock_killable(struct gmem_vm *vm)
{
	for (;;) {
		if (mutex_lock_killable(&vm->lock))
			return -EINTR;
		if (!vm->unmap_list)
			return 0;
		mutex_unlock(&vm->lock);
		if (wait_var_event_killable(&vm->unmap_list,
					    !READ_ONCE(vm->unmap_list)))
			return -EINTR;
	}
}

/*
 * Put the bindings that touch the range on @list. -EINVAL if the range would
 * cut one of them inside a huge page.
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

/* A failure in step 1, at @failed: the guest gets the pages again. */
static void gmem_unmap_undo(struct gmem_binding *b,
			    const struct gmem_binding *failed,
			    unsigned long first, unsigned long last)
{
	pgoff_t cut_first, cut_last;

	for (;; b = b->unmap_next) {
		gmem_binding_clip(b, first, last, &cut_first, &cut_last);
		gmem_replace_forget(b->mem, cut_first, cut_last);
		gmem_batch_restore(b, cut_first, cut_last);
		if (b == failed)
			return;
	}
}

/*
 * Begin step 3 for one binding: pages [@first, @last] become the host's. The
 * binding keeps its pages outside of the range, or goes if it has none.
 */
static void gmem_unmap_begin_cut(struct gmem_vm *vm, struct gmem_binding *b,
				 pgoff_t first, pgoff_t last)
{
	vm->cut = (struct gmem_cut){
		.b = b,
		.first = first,
		.last = last,
	};
}

/*
 * False: it has stopped early, because the task was killed. It can go on later.
 *
 * An exclusive binding stays in the file's index until none of the pages has a
 * state, so nobody else can bind them. Others that share pages need not be seen
 * there: the last one to leave the index ends the state.
 */
static bool gmem_unmap_cut(struct gmem_vm *vm, enum gmem_reclaim_reason reason)
{
	struct gmem_cut *cut = &vm->cut;
	struct gmem_binding *b = cut->b;
	bool exclusive = gmem_binding_exclusive(b);

	if (!cut->done) {
		if (exclusive &&
		    !gmem_lend_finish_reclaim(b, cut->first, cut->last, reason))
			return false;
		gmem_replace_forget(b->mem, cut->first, cut->last);
		gmem_event_unmap(b, cut->first, cut->last);
		cut->left = gmem_binding_cut(b, vm->unmap_right, cut->first,
					     cut->last);
		cut->done = true;
	}
	if (!exclusive &&
	    !gmem_lend_unshare(b, cut->first, cut->last))
		return false;

	gmem_binding_changed(vm, cut->left ? 0 : -1);
	if (!cut->left)
		gmem_binding_free(b);
	cut->b = NULL;
	return true;
}

/* Step 3. False as above. */
static bool gmem_unmap_finish(struct gmem_vm *vm)
{
	struct gmem_binding *b, *next;
	pgoff_t first, last;

	while ((b = vm->unmap_list)) {
		if (!vm->cut.b) {
			gmem_binding_clip(b, vm->unmap_first, vm->unmap_last,
					  &first, &last);
			gmem_unmap_begin_cut(vm, b, first, last);
		}
		next = b->unmap_next;
		if (!gmem_unmap_cut(vm, GMEM_RECLAIM_UNBIND))
			return false;
		if (vm->unmap_right)
			gmem_binding_changed(vm, 1);
		vm->unmap_right = NULL;
		WRITE_ONCE(vm->unmap_list, next);
		if (next && gmem_killed())
			return false;
	}
	/* A bind that waits looks at the list once more. */
	gmem_binding_changed(vm, 0);
	gmem_vm_end_unmap(vm);
	return true;
}

void gmem_binding_finish_unmap(struct gmem_vm *vm)
{
	mutex_lock(&vm->lock);
	gmem_unmap_finish(vm);
	mutex_unlock(&vm->lock);
	smp_mb(); /* the list, then a look for tasks that wait */
	wake_up_var(&vm->unmap_list);
}

int gmem_binding_unmap(struct gmem_vm *vm, unsigned long first,
		       unsigned long last, u64 *nr_pages)
{
	MA_STATE(mas, &vm->bindings, first, last);
	struct gmem_binding *list, *b, *right = NULL;
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
		err = gmem_lend_begin_reclaim(b, cut_first, cut_last,
					      GMEM_RECLAIM_UNBIND);
		if (err)
			goto end_unmap;
	}

	mas_store_prealloc(&mas, NULL);
	gmem_binding_changed(vm, 0);
	vm->unmap_right = right;
	WRITE_ONCE(vm->unmap_list, list);
	if (!gmem_unmap_finish(vm)) {
		get_file(vm->file);
		gmem_work_queue(&vm->work);
	}
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

/* The end of a VM, for one binding. False as above. */
static bool gmem_unmap_end_binding(struct gmem_vm *vm, struct gmem_binding *b)
{
	if (!vm->cut.b) {
		/* Fails only if the task was killed. */
		if ((gmem_binding_lent(b) || !vm->provider->ends_with_vm) &&
		    gmem_lend_begin_reclaim(b, b->first, b->last,
					    GMEM_RECLAIM_TEARDOWN))
			return false;
		gmem_unmap_begin_cut(vm, b, b->first, b->last);
	}
	return gmem_unmap_cut(vm, GMEM_RECLAIM_TEARDOWN);
}

bool gmem_binding_remove_all(struct gmem_vm *vm)
{
	struct gmem_binding *b;
	unsigned long gfn;
	bool all = true;

	mutex_lock(&vm->lock);
	gfn = vm->end_gfn;
	while (all && (b = gmem_binding_next(vm, &gfn, ULONG_MAX))) {
		/*
		 * Afterwards the tree still points at the binding, but has no
		 * reader left.
		 */
		all = gmem_unmap_end_binding(vm, b);
		if (all)
			vm->end_gfn = gfn;
		if (gmem_killed())
			all = false;
	}
	if (all) {
		/* No reader is left, so nodes need no grace period. */
		mt_clear_in_rcu(&vm->bindings);
		__mt_destroy(&vm->bindings);
	}
	mutex_unlock(&vm->lock);
	return all;
}
