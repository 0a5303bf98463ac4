/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Accesses to unbound pages that wait, in a VM with GMEM_VM_WAIT.
 *
 * A task that waits has a &struct gmem_waiter on its stack, so that a wait needs
 * no memory. The first one at a page stands for a request; the others at that page
 * follow it. If the first one leaves, the next one takes its place.
 *
 * No event is lost: a task looks for a reason not to sleep, and adds itself, under
 * gmem_wait.lock. Another task first makes such a reason true, and then takes the lock
 * and looks for waiters.
 */
#ifndef _GMEM_WAIT_H
#define _GMEM_WAIT_H

#include <linux/maple_tree.h>
#include <linux/types.h>

struct gmem_vm;
struct gmem_waiter_info;

/* The ranges of a VM whose pages fail: see GMEM_VM_SET_ABSENT. */
#define GMEM_MAX_FAILING 65536

void gmem_wait_init(struct gmem_vm *vm);
/* Without readers. */
void gmem_wait_destroy(struct gmem_vm *vm);

/* Must an access to an unbound page at @gfn, by this task, be refused now? */
bool gmem_wait_refuses(struct gmem_vm *vm, unsigned long gfn);

/*
 * Sleep until something is bound at @gfn, or an access there must be refused, or a
 * fatal signal comes; with @interruptible, any signal. A kernel thread sleeps for
 * a second at most, and then doesn't wait again for some time. @access: bits of
 * &enum gmem_access. Hold no lock that the end of the wait may need.
 */
void gmem_wait(struct gmem_vm *vm, unsigned long gfn, u32 access,
	       bool interruptible);

/*
 * Something is about to be bound at [@first, @last]. To wake a task takes as long as
 * a bind, so let the task that has waited longest at the first page for which any
 * waits wake up meanwhile. If the bind fails, or takes longer, the task goes on
 * waiting.
 */
void gmem_wait_announce(struct gmem_vm *vm, unsigned long first,
			unsigned long last);

/**
 * struct gmem_wait_bind - a bind in a VM whose accesses may wait
 * @mas: with the memory to end the state "fails" of pages of the range
 * @first: first GFN of the range
 * @last: its last GFN
 * @more: how many more ranges fail then
 * @clear: some of the pages fail
 */
struct gmem_wait_bind {
	struct ma_state mas;
	unsigned long first;
	unsigned long last;
	long more;
	bool clear;
};

/*
 * Before a bind: 0, -ENOMEM, or -ENOSPC if too many ranges would fail. Then one of
 * "bound", which can't fail, or "cancel". "bound" also wakes the tasks that wait
 * in the range. All under gmem_vm.lock.
 */
int gmem_wait_prepare(struct gmem_vm *vm, struct gmem_wait_bind *bind,
		      unsigned long first, unsigned long last);
void gmem_wait_bound(struct gmem_vm *vm, struct gmem_wait_bind *bind);
void gmem_wait_cancel(struct gmem_wait_bind *bind);

/*
 * From now on, accesses to unbound pages of [@first, @last] fail, or wait. Under
 * gmem_vm.lock.
 */
int gmem_wait_set_failing(struct gmem_vm *vm, unsigned long first,
			  unsigned long last);
int gmem_wait_set_waiting(struct gmem_vm *vm, unsigned long first,
			  unsigned long last);

/* For good: accesses no longer wait. */
void gmem_wait_shut(struct gmem_vm *vm);

/* Is there a request that gmem_wait_take() hasn't returned? */
bool gmem_wait_pending(const struct gmem_vm *vm);
/* Tasks that wait now. */
unsigned long gmem_wait_count(const struct gmem_vm *vm);
/* Fill @infos with up to @max requests that no call has returned, oldest first. */
u32 gmem_wait_take(struct gmem_vm *vm, struct gmem_waiter_info *infos, u32 max);
/*
 * Fill @infos with up to @max of all requests, from *gfn on; *gfn moves behind the
 * last one.
 */
u32 gmem_wait_list(struct gmem_vm *vm, unsigned long *gfn,
		   struct gmem_waiter_info *infos, u32 max);

#endif /* _GMEM_WAIT_H */
