// SPDX-License-Identifier: GPL-2.0-only
/* The VM object and its life; vm_file.c has its descriptor. */
#include <linux/bitops.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "call.h"
#include "event.h"
#include "fault.h"
#include "objects.h"
#include "opener.h"
#include "piece.h"
#include "provider.h"
#include "registry.h"
#include "stats.h"
#include "unmap.h"
#include "vm.h"
#include "wait.h"
#include "work.h"

u32 gmem_vm_guest_addr_bits(const struct gmem_vm *vm)
{
	return fls64(vm->max_gfn) + PAGE_SHIFT;
}

int gmem_vm_range(const struct gmem_vm *vm, u64 addr, u64 length,
		  unsigned long *first, unsigned long *last)
{
	int err;

	err = gmem_call_range(addr, length, first, last);
	if (err)
		return err;
	return *last > vm->max_gfn ? -EINVAL : 0;
}

static void gmem_vm_free(struct gmem_vm *vm)
{
	gmem_fault_log_destroy(&vm->faults);
	gmem_opener_put(vm->opener);
	gmem_wait_destroy(vm);
	mutex_destroy(&vm->lock);
	kvfree(vm);
	gmem_stat_add(GMEM_STAT_VMS, -1);
}

/*
 * False: the task was killed, or the provider needs more time; call it again in
 * a work item, with @wait.
 */
static bool gmem_vm_end(struct gmem_vm *vm, bool wait)
{
	const struct gmem_provider *provider = vm->provider;

	if (!vm->stopped && provider->vm_stop && !provider->vm_stop(vm, wait))
		return false;
	vm->stopped = true;
	if (!vm->unbound && !gmem_binding_remove_all(vm))
		return false;
	vm->unbound = true;
	if (provider->vm_release && !provider->vm_release(vm, wait))
		return false;
	gmem_event_vm_destroyed(vm);
	iput(vm->inode);
	gmem_vm_free(vm);
	return true;
}

static void gmem_vm_work(struct work_struct *work)
{
	struct gmem_vm *vm = container_of(work, struct gmem_vm, work);
	struct file *file = vm->file;

	if (vm->ending) {
		gmem_vm_end(vm, true);
		/* The module's end waits for this function. */
		module_put(THIS_MODULE);
	} else {
		gmem_binding_finish_unmap(vm);
		fput(file);
	}
}

void gmem_vm_destroy(struct gmem_vm *vm)
{
	gmem_registry_remove_vm(vm);
	WRITE_ONCE(vm->ending, true);
	/*
	 * A kernel thread that drops the last reference to a file is a worker of
	 * all: garbage collection of sockets, for one.
	 */
	if (gmem_killed() || (current->flags & PF_KTHREAD) ||
	    !gmem_vm_end(vm, false)) {
		/* The provider may need long. */
		__module_get(THIS_MODULE);
		gmem_work_queue(&vm->work);
	}
}

struct gmem_vm *gmem_vm_alloc(struct gmem_opener *opener,
			      const struct gmem_provider *provider, u32 policy,
			      u32 guest_addr_bits, u32 flags, const char *name)
{
	struct gmem_provider_limits limits;
	struct gmem_vm *vm;
	int err;

	vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);

	mutex_init(&vm->lock);
	INIT_WORK(&vm->work, gmem_vm_work);
	/*
	 * ALLOC_RANGE selects a node type. In a node of the other type,
	 * mt_free_walk() of 6.12 mistakes the metadata for a child when a large
	 * range is cleared.
	 */
	mt_init_flags(&vm->bindings, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU |
		      MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&vm->bindings, &vm->lock);
	gmem_vm_end_unmap(vm);
	gmem_fault_log_init(&vm->faults);
	init_waitqueue_head(&vm->pollers);
	vm->opener = gmem_opener_hold(opener);
	gmem_wait_init(vm);
	vm->provider = provider;
	vm->policy = policy;
	vm->flags = flags;
	gmem_provider_limits(provider, &limits);
	vm->min_gfn = PHYS_PFN(limits.min_guest_addr);
	vm->max_gfn = (1UL << (guest_addr_bits - PAGE_SHIFT)) - 1;
	vm->pid = task_tgid_nr(current);
	get_task_comm(vm->comm, current->group_leader);
	memcpy(vm->name, name, sizeof(vm->name));
	gmem_stat_add(GMEM_STAT_VMS, 1);

	if (provider->vm_init) {
		err = provider->vm_init(vm);
		if (err)
			goto free_vm;
	}
	err = gmem_registry_add_vm(vm);
	if (err)
		goto release_provider;
	gmem_event_vm_created(vm);
	return vm;

release_provider:
	if (provider->vm_release)
		provider->vm_release(vm, true);
free_vm:
	gmem_vm_free(vm);
	return ERR_PTR(err);
}
