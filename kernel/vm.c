// SPDX-License-Identifier: GPL-2.0
/* The VM object and its life; vm_file.c has its descriptor. */
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "call.h"
#include "event.h"
#include "fault.h"
#include "objects.h"
#include "provider.h"
#include "registry.h"
#include "stats.h"
#include "unmap.h"
#include "vm.h"

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
	mutex_destroy(&vm->lock);
	kvfree(vm);
	gmem_stat_add(GMEM_STAT_VMS, -1);
}

void gmem_vm_destroy(struct gmem_vm *vm)
{
	gmem_registry_remove_vm(vm);
	if (vm->provider->vm_stop)
		vm->provider->vm_stop(vm);
	gmem_binding_remove_all(vm);
	if (vm->provider->vm_release)
		vm->provider->vm_release(vm);
	gmem_event_vm_destroyed(vm);
	gmem_vm_free(vm);
}

struct gmem_vm *gmem_vm_alloc(const struct gmem_provider *provider, u32 policy,
			      u32 guest_addr_bits, const char *name)
{
	struct gmem_vm *vm;
	int err;

	vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);

	mutex_init(&vm->lock);
	/*
	 * ALLOC_RANGE selects a node type. In a node of the other type,
	 * mt_free_walk() of 6.12 takes the metadata for a child when a large
	 * range is cleared.
	 */
	mt_init_flags(&vm->bindings, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU |
		      MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&vm->bindings, &vm->lock);
	gmem_vm_end_unmap(vm);
	gmem_fault_log_init(&vm->faults);
	vm->provider = provider;
	vm->policy = policy;
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
		provider->vm_release(vm);
free_vm:
	gmem_vm_free(vm);
	return ERR_PTR(err);
}
