/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_MAP_H
#define _GMEM_MAP_H

/* The calls that change a VM's bindings, or the owner of their pages. */
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

int gmem_vm_map_call(void *obj, void *arg);
int gmem_vm_unmap_call(void *obj, void *arg);
int gmem_vm_reclaim_call(void *obj, void *arg);
int gmem_vm_populate_call(void *obj, void *arg);

#endif /* _GMEM_MAP_H */
