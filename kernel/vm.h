/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_VM_H
#define _GMEM_VM_H

#include <linux/types.h>

struct gmem_provider;
struct gmem_vm;

/*
 * Allocate and register a VM. The caller sets gmem_vm.file before user space
 * gets the VM. Hold no lock.
 */
struct gmem_vm *gmem_vm_alloc(const struct gmem_provider *provider, u32 policy,
			      u32 guest_addr_bits, const char *name);
/* Undo gmem_vm_alloc(), and unbind everything. Can't fail. Hold no lock. */
void gmem_vm_destroy(struct gmem_vm *vm);

/* The width of the address space. */
u32 gmem_vm_guest_addr_bits(const struct gmem_vm *vm);

/* Pages @addr, @length as GFNs; -EINVAL beyond the address space. */
int gmem_vm_range(const struct gmem_vm *vm, u64 addr, u64 length,
		  unsigned long *first, unsigned long *last);

#endif /* _GMEM_VM_H */
