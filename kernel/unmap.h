/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_UNMAP_H
#define _GMEM_UNMAP_H

#include <linux/types.h>

struct gmem_vm;

/*
 * Unbind [@first, @last], all or nothing. Under gmem_vm.lock: after it, release
 * the lock without a further change.
 */
int gmem_binding_unmap(struct gmem_vm *vm, unsigned long first,
		       unsigned long last, u64 *nr_pages);
/* In a work item: the rest of an unmap whose task was killed. */
void gmem_binding_finish_unmap(struct gmem_vm *vm);
/*
 * The end of a VM. Can't fail: a page that doesn't come back is leaked. False: it
 * has stopped early, because the task was killed, and goes on with the next call.
 */
bool gmem_binding_remove_all(struct gmem_vm *vm);

/*
 * gmem_vm.lock, for a change. -EINTR on a fatal signal. mutex_unlock() releases
 * it.
 */
int gmem_vm_lock_killable(struct gmem_vm *vm);

/*
 * Keep the guest from a range, from now on or until now; see piece.h. "end" is
 * for a new VM, too. Under gmem_vm.lock.
 */
void gmem_vm_begin_unmap(struct gmem_vm *vm, unsigned long first,
			 unsigned long last);
void gmem_vm_end_unmap(struct gmem_vm *vm);
/* Is the guest kept from @gfn? */
bool gmem_vm_unmapping(const struct gmem_vm *vm, unsigned long gfn);
/* Wait for the end of that. -EINTR on a fatal signal. */
int gmem_vm_wait_unmap(struct gmem_vm *vm, unsigned long gfn);

#endif /* _GMEM_UNMAP_H */
