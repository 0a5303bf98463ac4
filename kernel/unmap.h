/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_UNMAP_H
#define _GMEM_UNMAP_H

#include <linux/types.h>

struct gmem_vm;

/* Unbind [@first, @last], all or nothing. Under gmem_vm.lock. */
int gmem_binding_unmap(struct gmem_vm *vm, unsigned long first,
		       unsigned long last, u64 *nr_pages);
/* The end of a VM. Can't fail: a page that doesn't come back is leaked. */
void gmem_binding_remove_all(struct gmem_vm *vm);

/* No unmap is under way. For the end of one, and for a new VM. */
void gmem_vm_end_unmap(struct gmem_vm *vm);
/* Is an unmap of @gfn under way? */
bool gmem_vm_unmapping(const struct gmem_vm *vm, unsigned long gfn);
/* Wait for the end of an unmap that is under way. -EINTR on a fatal signal. */
int gmem_vm_wait_unmap(struct gmem_vm *vm);

#endif /* _GMEM_UNMAP_H */
