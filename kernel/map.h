/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_MAP_H
#define _GMEM_MAP_H

#include <linux/types.h>

/* The calls that change a VM's bindings, or the owner of their pages. */
struct file;
struct gmem_vm;

/*
 * GMEM_VM_POPULATE for a provider that needs pages ahead of the guest: of a
 * range, or of all bindings. Both call the provider back. Under gmem_vm.lock.
 */
int gmem_vm_populate(struct gmem_vm *vm, unsigned long first,
		     unsigned long last, u64 *nr_pages);
int gmem_vm_populate_all(struct gmem_vm *vm);
/*
 * Widen a range of GFNs to whole pages of the guestmem; -ENOENT unless it lies
 * within one binding, -EINVAL if that isn't a lent one. Under gmem_vm.lock.
 */
int gmem_vm_widen_lent(struct gmem_vm *vm, unsigned long *first,
		       unsigned long *last);
/*
 * Widen a range of GFNs to the whole binding; -ENOENT unless it lies within
 * one,
 * -EINVAL if that has other flags than @flags. Under gmem_vm.lock.
 */
int gmem_vm_widen_to_binding(struct gmem_vm *vm, unsigned long *first,
			     unsigned long *last, u32 flags);

/* Is all of the range bound? Under gmem_vm.lock. */
bool gmem_range_is_bound(struct gmem_vm *vm, unsigned long first,
			 unsigned long last);
/* May @file be bound to the VM with these flags? 0 or an errno. */
int gmem_map_check(struct gmem_vm *vm, struct file *file, u32 flags);

int gmem_vm_map_mem_call(void *obj, void *arg);
int gmem_vm_map_call(void *obj, void *arg);
int gmem_vm_fill_call(void *obj, void *arg);
int gmem_vm_unmap_call(void *obj, void *arg);
int gmem_vm_reclaim_call(void *obj, void *arg);
int gmem_vm_populate_call(void *obj, void *arg);

#endif /* _GMEM_MAP_H */
