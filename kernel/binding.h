/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_BINDING_H
#define _GMEM_BINDING_H

#include <linux/gmem.h>
#include <linux/rbtree.h>
#include <linux/types.h>

struct file;
struct gmem_mem;
struct gmem_vm;

/**
 * struct gmem_binding - a guest range bound to a guestmem range
 * @node: in &gmem_mem.exclusive or &gmem_mem.shared
 * @subtree_last: for the interval tree
 * @first: first page of the guestmem range
 * @last: its last page. @node to @last are written under gmem_vm.lock and the
 *	invalidate lock, read under either.
 * @gfn_delta: page index + @gfn_delta (wrapping) is the GFN; constant, so that a
 *	reader under RCU translates right whatever is trimmed meanwhile
 * @vm: the guest; outlives the binding
 * @mem: the guestmem, held by @file
 * @file: a reference; the file that it was bound with
 * @flags: FORCE_LEND or FORCE_SHARE, and the ALLOW bits
 * @unmap_next: chains the bindings that an unmap touches, under gmem_vm.lock
 * @rcu: frees it
 *
 * Lifetime: from map to unmap or the end of its VM, then an RCU grace period.
 */
struct gmem_binding {
	struct rb_node node;
	pgoff_t subtree_last;
	pgoff_t first;
	pgoff_t last;
	unsigned long gfn_delta;
	struct gmem_vm *vm;
	struct gmem_mem *mem;
	struct file *file;
	u32 flags;
	union {
		struct gmem_binding *unmap_next;
		struct rcu_head rcu;
	};
};

static inline unsigned long gmem_binding_gfn(const struct gmem_binding *b,
					     pgoff_t index)
{
	return index + b->gfn_delta;
}

static inline pgoff_t gmem_binding_index(const struct gmem_binding *b,
					 unsigned long gfn)
{
	return gfn - b->gfn_delta;
}

static inline bool gmem_binding_lent(const struct gmem_binding *b)
{
	return (b->flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND;
}

/* What the guest may do, in bits of enum gmem_access. */
static inline u32 gmem_binding_access(const struct gmem_binding *b)
{
	return (b->flags & GMEM_MAP_ALLOW_READ ? GMEM_ACCESS_READ : 0) |
	       (b->flags & GMEM_MAP_ALLOW_WRITE ? GMEM_ACCESS_WRITE : 0) |
	       (b->flags & GMEM_MAP_ALLOW_EXEC ? GMEM_ACCESS_EXEC : 0);
}

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
