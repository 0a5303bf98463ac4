// SPDX-License-Identifier: GPL-2.0-only
/* Unbound pages: who waits for them, and whether an access waits. */
#include <linux/gmem.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "absent.h"
#include "call.h"
#include "objects.h"
#include "unmap.h"
#include "vm.h"
#include "wait.h"

/* At most this many requests are reported under a spinlock at a time. */
#define GMEM_WAITERS_BATCH 64
/* A reader that asks for no more needs no memory. */
#define GMEM_WAITERS_FEW 4

static int gmem_waiters_fill(struct gmem_vm *vm, struct gmem_vm_waiters *query,
			     unsigned long *gfn,
			     struct gmem_waiter_info *infos)
{
	u32 room, got, nr = 0;

	do {
		room = min_t(u32, query->nr_entries - nr, GMEM_WAITERS_BATCH);
		got = query->flags & GMEM_WAITERS_ALL ?
			      gmem_wait_list(vm, gfn, infos, room) :
			      gmem_wait_take(vm, infos, room);
		if (gmem_call_put_entries(query->entries, query->entry_size, nr,
					  infos, sizeof(*infos), got))
			return -EFAULT;
		nr += got;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	} while (got == room && nr < query->nr_entries);

	query->nr_entries = nr;
	return 0;
}

int gmem_vm_waiters_call(void *obj, void *arg)
{
	struct gmem_waiter_info few[GMEM_WAITERS_FEW], *infos = few;
	struct gmem_vm_waiters *query = arg;
	struct gmem_vm *vm = obj;
	unsigned long gfn;
	int err;

	if (!vm->wait.on)
		return -EOPNOTSUPP;
	if (query->flags & ~(u32)GMEM_WAITERS_ALL ||
	    !PAGE_ALIGNED(query->guest_addr))
		return -EINVAL;
	if (!(query->flags & GMEM_WAITERS_ALL) && query->guest_addr)
		return -EINVAL;
	if (!gmem_call_entry_size_ok(query->entry_size,
				     offsetofend(typeof(*infos), reserved)))
		return -EINVAL;

	if (query->nr_entries > GMEM_WAITERS_FEW)
		infos = kmalloc_array(GMEM_WAITERS_BATCH, sizeof(*infos),
				      GFP_KERNEL);
	if (!infos)
		return -ENOMEM;
	gfn = query->guest_addr >> PAGE_SHIFT;
	err = gmem_waiters_fill(vm, query, &gfn, infos);
	if (infos != few)
		kfree(infos);
	query->guest_addr = query->flags & GMEM_WAITERS_ALL ?
				    (u64)gfn << PAGE_SHIFT : 0;
	query->nr_threads = gmem_wait_count(vm);
	query->entry_size = min_t(u32, query->entry_size, sizeof(*infos));
	return err;
}

int gmem_vm_set_absent_call(void *obj, void *arg)
{
	const struct gmem_vm_set_absent *set = arg;
	unsigned long first, last;
	struct gmem_vm *vm = obj;
	int err;

	if (!vm->wait.on)
		return -EOPNOTSUPP;
	if (set->absent > GMEM_ABSENT_FAIL)
		return -EINVAL;
	err = gmem_vm_range(vm, set->guest_addr, set->length, &first, &last);
	if (err)
		return err;
	if (gmem_vm_lock_killable(vm))
		return -EINTR;
	if (set->absent == GMEM_ABSENT_FAIL)
		err = gmem_wait_set_failing(vm, first, last);
	else
		err = gmem_wait_set_waiting(vm, first, last);
	mutex_unlock(&vm->lock);
	return err;
}
