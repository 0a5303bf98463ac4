/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_BINDING_H
#define _GMEM_BINDING_H

#include "objects.h"

int gmem_binding_cache_init(void);
void gmem_binding_cache_exit(void);

/*
 * The first binding that touches [*gfn, @last], or NULL; *gfn moves on to behind
 * it. Under gmem_vm.lock.
 */
struct gmem_binding *gmem_binding_next(struct gmem_vm *vm, unsigned long *gfn,
				       unsigned long last);
/*
 * One binding after the other that holds a guestmem page: the first one if @prev
 * is NULL; NULL past the last. Invalidate lock.
 */
struct gmem_binding *gmem_binding_of_page(struct gmem_mem *mem, pgoff_t index,
					  struct gmem_binding *prev);
/*
 * Narrow [*first, *last], part of @b, to the first part that no other binding holds;
 * false if there is none. Invalidate lock.
 */
bool gmem_binding_alone(const struct gmem_binding *b, pgoff_t *first,
			pgoff_t *last);
/* May other bindings hold the same pages? No for all that are lent. */
bool gmem_binding_exclusive(const struct gmem_binding *b);

/*
 * The part of @b in the guest range, as pages of the guestmem; false if that
 * would cut a huge page.
 */
bool gmem_binding_clip(const struct gmem_binding *b, unsigned long gfn_first,
		       unsigned long gfn_last, pgoff_t *first, pgoff_t *last);
/*
 * The first binding that touches @gfn or comes behind it. For those who hold the VM
 * by the registry's lock, which keeps nobody from changing the bindings.
 */
bool gmem_binding_peek(struct gmem_vm *vm, unsigned long gfn,
		       struct gmem_binding_info *info);
/* Changes with the bindings of any VM. */
u32 gmem_bindings_generation(void);

/* Bind; -EEXIST on an overlap. Under gmem_vm.lock. */
int gmem_binding_map(struct gmem_vm *vm, struct file *file, u32 flags,
		     pgoff_t first, pgoff_t last, unsigned long gfn);
/* Unbind [@first, @last], all or nothing. Under gmem_vm.lock. */
int gmem_binding_unmap(struct gmem_vm *vm, unsigned long first,
		       unsigned long last, u64 *nr_pages);
/* The end of a VM. Can't fail: what doesn't come back is leaked. */
void gmem_binding_remove_all(struct gmem_vm *vm);

#endif /* _GMEM_BINDING_H */
