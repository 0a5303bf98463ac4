// SPDX-License-Identifier: GPL-2.0-only
/* Accesses to unbound pages that wait: see wait.h. */
#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/xarray.h>

#include "objects.h"
#include "reader.h"
#include "wait.h"

/* The longest wait of a kernel thread. */
#define GMEM_WAIT_KTHREAD HZ
/* The longest look of a woken task for the end of the bind that woke it. */
#define GMEM_WAIT_SPIN_NS (50 * NSEC_PER_USEC)

/**
 * struct gmem_waiter - a task that waits, on its own stack
 * @node: in gmem_wait.requests, if it is the first one at its page
 * @list: in gmem_wait.fresh or gmem_wait.reported, or among @followers of the
 *	first one
 * @followers: the others at the page, if it is the first one
 * @gfn: the page
 * @access: bits of &enum gmem_access; of all at the page, if it is the first one
 * @nr: how many wait at the page, if it is the first one
 * @task: the task
 * @pid: its number; NULL for a kernel thread
 * @announcer: the CPU of a bind that was announced; -1 before
 * @is_first: see @node
 * @done: it no longer is a waiter
 */
struct gmem_waiter {
	struct rb_node node;
	struct list_head list;
	struct list_head followers;
	unsigned long gfn;
	u32 access;
	u32 nr;
	struct task_struct *task;
	struct pid *pid;
	int announcer;
	bool is_first;
	bool done;
};

void gmem_wait_init(struct gmem_vm *vm)
{
	struct gmem_wait *wait = &vm->wait;

	mt_init_flags(&wait->failing, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU |
		      MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&wait->failing, &vm->lock);
	spin_lock_init(&wait->lock);
	wait->requests = RB_ROOT;
	INIT_LIST_HEAD(&wait->fresh);
	INIT_LIST_HEAD(&wait->reported);
}

void gmem_wait_destroy(struct gmem_vm *vm)
{
	mutex_lock(&vm->lock);
	mt_clear_in_rcu(&vm->wait.failing);
	__mt_destroy(&vm->wait.failing);
	mutex_unlock(&vm->lock);
}

/* ---- the tasks ---- */

/* The first request at @gfn or behind it. */
static struct gmem_waiter *gmem_wait_at(struct gmem_wait *wait,
					unsigned long gfn)
{
	struct rb_node *node = wait->requests.rb_node;
	struct gmem_waiter *waiter, *found = NULL;

	lockdep_assert_held(&wait->lock);
	while (node) {
		waiter = rb_entry(node, struct gmem_waiter, node);
		if (waiter->gfn < gfn) {
			node = node->rb_right;
		} else {
			found = waiter;
			node = node->rb_left;
		}
	}
	return found;
}

static bool gmem_waiter_less(struct rb_node *a, const struct rb_node *b)
{
	return rb_entry(a, struct gmem_waiter, node)->gfn <
	       rb_entry(b, struct gmem_waiter, node)->gfn;
}

/* True: it is a new request. */
static bool gmem_wait_add(struct gmem_wait *wait, struct gmem_waiter *waiter)
{
	struct gmem_waiter *first = gmem_wait_at(wait, waiter->gfn);

	wait->nr++;
	waiter->is_first = !first || first->gfn != waiter->gfn;
	if (!waiter->is_first) {
		first->nr++;
		first->access |= waiter->access;
		list_add_tail(&waiter->list, &first->followers);
		return false;
	}
	rb_add(&waiter->node, &wait->requests, gmem_waiter_less);
	list_add_tail(&waiter->list, &wait->fresh);
	return true;
}

static void gmem_wait_remove(struct gmem_wait *wait, struct gmem_waiter *waiter)
{
	struct gmem_waiter *next;

	wait->nr--;
	waiter->done = true;
	if (!waiter->is_first) {
		gmem_wait_at(wait, waiter->gfn)->nr--;
		list_del(&waiter->list);
		return;
	}
	next = list_first_entry_or_null(&waiter->followers, struct gmem_waiter,
					list);
	if (!next) {
		list_del(&waiter->list);
		rb_erase(&waiter->node, &wait->requests);
		return;
	}
	/* The request stays, with its place. */
	next->is_first = true;
	next->nr = waiter->nr - 1;
	next->access = waiter->access;
	list_del(&next->list);
	list_replace(&waiter->list, &next->list);
	list_splice_init(&waiter->followers, &next->followers);
	rb_replace_node(&waiter->node, &next->node, &wait->requests);
}

/* Take the first task that waits at [@first, @last] off; with a reference, or NULL. */
static struct task_struct *gmem_wait_pop(struct gmem_wait *wait,
					 unsigned long first,
					 unsigned long last)
{
	struct task_struct *task = NULL;
	struct gmem_waiter *waiter;

	spin_lock(&wait->lock);
	waiter = gmem_wait_at(wait, first);
	if (waiter && waiter->gfn <= last) {
		task = get_task_struct(waiter->task);
		gmem_wait_remove(wait, waiter);
	}
	spin_unlock(&wait->lock);
	return task;
}

/* A reason to wake those who wait at [@first, @last] has become true. */
static void gmem_wait_wake(struct gmem_vm *vm, unsigned long first,
			   unsigned long last)
{
	struct task_struct *task;

	/* The task may be awake, and takes the lock next: don't keep it. */
	while ((task = gmem_wait_pop(&vm->wait, first, last))) {
		wake_up_process(task);
		put_task_struct(task);
		cond_resched();
	}
}

/*
 * The time of a kernel thread has ended. Others may wait for that thread, so it
 * doesn't wait again at the next page, until something has been bound. For a second
 * a bind doesn't count: the access that has waited is made again, to be refused.
 */
static bool gmem_wait_tired(const struct gmem_wait *wait)
{
	return READ_ONCE(wait->tired) &&
	       (time_before(jiffies, READ_ONCE(wait->tired_at) + HZ) ||
		READ_ONCE(wait->tired_binds) == READ_ONCE(wait->binds));
}

bool gmem_wait_refuses(struct gmem_vm *vm, unsigned long gfn)
{
	/*
	 * The kernel writes to user memory at the end of a task. A killed worker of
	 * vhost runs what it still has to do before it ends, and no signal reaches it.
	 */
	if (current->flags & (PF_EXITING | PF_DUMPCORE | PF_SIGNALED))
		return true;
	return READ_ONCE(vm->wait.shut) || mtree_load(&vm->wait.failing, gfn) ||
	       ((current->flags & PF_KTHREAD) && gmem_wait_tired(&vm->wait));
}

void gmem_wait_announce(struct gmem_vm *vm, unsigned long first,
			unsigned long last)
{
	struct gmem_wait *wait = &vm->wait;
	struct gmem_waiter *waiter;

	/* It would only keep the caller from the bind. */
	if (!wait->on || num_online_cpus() == 1)
		return;
	spin_lock(&wait->lock);
	waiter = gmem_wait_at(wait, first);
	if (waiter && waiter->gfn <= last) {
		WRITE_ONCE(waiter->announcer, raw_smp_processor_id());
		wake_up_process(waiter->task);
	}
	spin_unlock(&wait->lock);
}

/* After a wakeup: the bind that was announced, if any, may end at once. */
static void gmem_wait_spin(const struct gmem_waiter *waiter)
{
	u64 end;

	if (READ_ONCE(waiter->done) || READ_ONCE(waiter->announcer) < 0 ||
	    READ_ONCE(waiter->announcer) == raw_smp_processor_id())
		return;
	end = ktime_get_ns() + GMEM_WAIT_SPIN_NS;
	while (!READ_ONCE(waiter->done) && !need_resched() &&
	       !signal_pending(current) && ktime_get_ns() < end)
		cpu_relax();
}

/* Sleep; false if the time of a kernel thread has ended. */
static bool gmem_wait_sleep(const struct gmem_waiter *waiter,
			    unsigned int state)
{
	bool is_kthread = current->flags & PF_KTHREAD;
	unsigned long end = jiffies + GMEM_WAIT_KTHREAD;
	long timeout = is_kthread ? GMEM_WAIT_KTHREAD : MAX_SCHEDULE_TIMEOUT;

	for (;;) {
		set_current_state(state);
		if (READ_ONCE(waiter->done) ||
		    signal_pending_state(state, current) || !timeout)
			break;
		timeout = schedule_timeout(timeout);
		gmem_wait_spin(waiter);
		/* The time counts in which it looked and didn't sleep, too. */
		if (is_kthread)
			timeout = max((long)(end - jiffies), 0L);
	}
	__set_current_state(TASK_RUNNING);
	return timeout;
}

void gmem_wait(struct gmem_vm *vm, unsigned long gfn, u32 access,
	       bool interruptible)
{
	/*
	 * The caller may have locks of KVM or vhost, so a suspend has to be allowed
	 * here explicitly.
	 */
	unsigned int state = TASK_FREEZABLE_UNSAFE |
			     (interruptible ? TASK_INTERRUPTIBLE :
					      TASK_KILLABLE);
	struct gmem_waiter waiter = {
		.followers = LIST_HEAD_INIT(waiter.followers),
		.gfn = gfn,
		.access = access,
		.nr = 1,
		.task = current,
		.announcer = -1,
		.pid = current->flags & PF_KTHREAD ? NULL : task_pid(current),
	};
	struct gmem_wait *wait = &vm->wait;
	bool is_new = false, in_time;

	/* Look and add under one lock: a later bind wakes the waiter. */
	spin_lock(&wait->lock);
	waiter.done = gmem_wait_refuses(vm, gfn) ||
		      mtree_load(&vm->bindings, gfn);
	if (!waiter.done)
		is_new = gmem_wait_add(wait, &waiter);
	spin_unlock(&wait->lock);

	if (is_new)
		wake_up_poll(&vm->pollers, EPOLLIN | EPOLLRDNORM);
	in_time = gmem_wait_sleep(&waiter, state);

	spin_lock(&wait->lock);
	if (!waiter.done) {
		gmem_wait_remove(wait, &waiter);
		if (!in_time) {
			WRITE_ONCE(wait->tired_at, jiffies);
			WRITE_ONCE(wait->tired_binds, wait->binds);
			WRITE_ONCE(wait->tired, true);
		}
	}
	spin_unlock(&wait->lock);
}

void gmem_wait_shut(struct gmem_vm *vm)
{
	if (!vm->wait.on)
		return;
	spin_lock(&vm->wait.lock);
	WRITE_ONCE(vm->wait.shut, true);
	spin_unlock(&vm->wait.lock);
	gmem_wait_wake(vm, 0, ULONG_MAX);
}

/* ---- ranges that fail ---- */

/*
 * How many more ranges fail if [@first, @last] no longer does? @any: does a page of
 * it fail now?
 */
static long gmem_wait_more(struct gmem_vm *vm, unsigned long first,
			   unsigned long last, bool *any)
{
	MA_STATE(mas, &vm->wait.failing, first, first);
	long more = 0;

	*any = false;
	while (mas_find(&mas, last)) {
		more += (mas.index < first) + (mas.last > last) - 1;
		*any = true;
		cond_resched();
	}
	return more;
}

int gmem_wait_prepare(struct gmem_vm *vm, struct gmem_wait_bind *bind,
		      unsigned long first, unsigned long last)
{
	lockdep_assert_held(&vm->lock);

	bind->first = first;
	bind->last = last;
	bind->more = gmem_wait_more(vm, first, last, &bind->clear);
	mas_init(&bind->mas, &vm->wait.failing, first);
	if (!bind->clear)
		return 0;
	if (bind->more > 0 && vm->wait.nr_failing >= GMEM_MAX_FAILING)
		return -ENOSPC;
	mas_set_range(&bind->mas, first, last);
	return mas_preallocate(&bind->mas, NULL, GFP_KERNEL_ACCOUNT);
}

void gmem_wait_cancel(struct gmem_wait_bind *bind)
{
	mas_destroy(&bind->mas);
}

/* The pages of the range no longer fail. */
static void gmem_wait_clear(struct gmem_vm *vm, struct gmem_wait_bind *bind)
{
	if (bind->clear)
		mas_store_prealloc(&bind->mas, NULL);
	vm->wait.nr_failing += bind->more;
}

void gmem_wait_bound(struct gmem_vm *vm, struct gmem_wait_bind *bind)
{
	struct gmem_wait *wait = &vm->wait;

	lockdep_assert_held(&vm->lock);

	if (!wait->on)
		return;
	gmem_wait_clear(vm, bind);
	spin_lock(&wait->lock);
	WRITE_ONCE(wait->binds, wait->binds + 1);
	spin_unlock(&wait->lock);
	gmem_wait_wake(vm, bind->first, bind->last);
}

int gmem_wait_set_waiting(struct gmem_vm *vm, unsigned long first,
			  unsigned long last)
{
	struct gmem_wait_bind bind;
	int err;

	err = gmem_wait_prepare(vm, &bind, first, last);
	if (err)
		return err;
	gmem_wait_clear(vm, &bind);
	return 0;
}

int gmem_wait_set_failing(struct gmem_vm *vm, unsigned long first,
			  unsigned long last)
{
	MA_STATE(mas, &vm->wait.failing, first ? first - 1 : 0, 0);
	unsigned long whole_first = first, whole_last = last;
	long joined = 0;
	int err;

	lockdep_assert_held(&vm->lock);

	/* Neighbours become one range with it. */
	while (mas_find(&mas, last + 1)) {
		whole_first = min(whole_first, mas.index);
		whole_last = max(whole_last, mas.last);
		joined++;
		cond_resched();
	}
	if (!joined && vm->wait.nr_failing >= GMEM_MAX_FAILING)
		return -ENOSPC;
	mas_set_range(&mas, whole_first, whole_last);
	err = mas_store_gfp(&mas, xa_mk_value(1), GFP_KERNEL_ACCOUNT);
	if (err)
		return err;
	vm->wait.nr_failing += 1 - joined;
	gmem_wait_wake(vm, first, last);
	return 0;
}

/* ---- the requests ---- */

bool gmem_wait_pending(const struct gmem_vm *vm)
{
	return !list_empty_careful(&vm->wait.fresh);
}

unsigned long gmem_wait_count(const struct gmem_vm *vm)
{
	return READ_ONCE(vm->wait.nr);
}

static void gmem_wait_describe(const struct gmem_waiter *first,
			       struct gmem_waiter_info *info)
{
	*info = (struct gmem_waiter_info) {
		.guest_addr = (u64)first->gfn << PAGE_SHIFT,
		.access = first->access,
		.nr_threads = first->nr,
		.pid = gmem_reader_pid(first->pid),
	};
}

u32 gmem_wait_take(struct gmem_vm *vm, struct gmem_waiter_info *infos, u32 max)
{
	struct gmem_wait *wait = &vm->wait;
	struct gmem_waiter *first;
	u32 nr;

	spin_lock(&wait->lock);
	for (nr = 0; nr < max && !list_empty(&wait->fresh); nr++) {
		first = list_first_entry(&wait->fresh, struct gmem_waiter,
					 list);
		gmem_wait_describe(first, &infos[nr]);
		list_move_tail(&first->list, &wait->reported);
	}
	spin_unlock(&wait->lock);
	return nr;
}

u32 gmem_wait_list(struct gmem_vm *vm, unsigned long *gfn,
		   struct gmem_waiter_info *infos, u32 max)
{
	struct gmem_wait *wait = &vm->wait;
	struct gmem_waiter *first;
	u32 nr;

	spin_lock(&wait->lock);
	for (nr = 0; nr < max; nr++) {
		first = gmem_wait_at(wait, *gfn);
		if (!first)
			break;
		gmem_wait_describe(first, &infos[nr]);
		*gfn = first->gfn + 1;
	}
	spin_unlock(&wait->lock);
	return nr;
}
