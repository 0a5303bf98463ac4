/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_VM_H
#define _GMEM_VM_H

#include <linux/types.h>

struct gmem_opener;
struct gmem_provider;
struct gmem_vm;

/*
 * Allocate and register a VM. The caller sets gmem_vm.file before user space
 * gets the VM. Hold no lock.
 */
struct gmem_vm *gmem_vm_alloc(struct gmem_opener *opener,
			      const struct gmem_provider *provider, u32 policy,
			      u32 guest_addr_bits, u32 flags, const char *name);
/*
 * Undo gmem_vm_alloc(), and unbind everything. Can't fail. Hold no lock. A work
 * item does it, or the rest of it, for a task that was killed, so that the task
 * dies at once; for the kernel's shared threads; and if the provider needs
 * long. It holds the module until then.
 */
void gmem_vm_destroy(struct gmem_vm *vm);

/* The width of the address space. */
u32 gmem_vm_guest_addr_bits(const struct gmem_vm *vm);

/* Pages @addr, @length as GFNs; -EINVAL beyond the address space. */
int gmem_vm_range(const struct gmem_vm *vm, u64 addr, u64 length,
		  unsigned long *first, unsigned long *last);

#endif /* _GMEM_VM_H */
