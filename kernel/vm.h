/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_VM_H
#define _GMEM_VM_H

#include "objects.h"

/* The width of the address space. */
u32 gmem_vm_guest_addr_bits(const struct gmem_vm *vm);

/* Pages @addr, @length as GFNs; -EINVAL beyond the address space. */
int gmem_vm_range(const struct gmem_vm *vm, u64 addr, u64 length,
		  unsigned long *first, unsigned long *last);

int gmem_vm_create_default_call(void *obj, void *arg);
int gmem_vm_create_call(void *obj, void *arg);

#endif /* _GMEM_VM_H */
