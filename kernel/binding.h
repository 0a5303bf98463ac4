/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_BINDING_H
#define _GMEM_BINDING_H

#include <linux/types.h>

struct file;
struct gmem_binding;
struct gmem_binding_info;
struct gmem_mem;
struct gmem_vm;

int gmem_binding_cache_init(void);
void gmem_binding_cache_exit(void);

/*
 * The first binding that touches [*gfn, @last], or NULL; *gfn moves to the GFN
 * behind it. Under gmem_vm.lock.
 */
struct gmem_binding *gmem_binding_next(struct gmem_vm *vm, unsigned long *gfn,
				       unsigned long last);
/*
 * Iterate over the bindings that hold a guestmem page: return the one after
 * @prev, the first one if @prev is NULL, or NULL after the last one. Invalidate
 * lock or gmem_mem.tree_rwsem.
 */
struct gmem_binding *gmem_binding_of_page(struct gmem_mem *mem, pgoff_t index,
					  struct gmem_binding *prev);
/*
 * Iterate over the exclusive bindings, or the others, that hold one of the pages
 * [@first, @last] of a guestmem. Invalidate lock.
 */
struct gmem_binding *gmem_binding_next_exclusive(struct gmem_mem *mem,
						 pgoff_t first, pgoff_t last,
						 struct gmem_binding *prev);
struct gmem_binding *gmem_binding_next_shared(struct gmem_mem *mem,
					      pgoff_t first, pgoff_t last,
					      struct gmem_binding *prev);
/*
 * Narrow [*first, *last], part of @b, to the first part that no other binding
 * holds; false if there is none. Invalidate lock.
 */
bool gmem_binding_alone(const struct gmem_binding *b, pgoff_t *first,
			pgoff_t *last);
/*
 * Will @b have pages [@first, @last] alone, if it excludes others? -EEXIST; waits
 * as gmem_binding_map() does.
 */
int gmem_binding_wait_alone(const struct gmem_binding *b, pgoff_t first,
			    pgoff_t last);
/* Does @b exclude other bindings of its pages? A lent one always does. */
bool gmem_binding_exclusive(const struct gmem_binding *b);

/*
 * The part of @b in the guest range, as pages of the guestmem; false if that
 * would cut a huge page.
 */
bool gmem_binding_clip(const struct gmem_binding *b, unsigned long gfn_first,
		       unsigned long gfn_last, pgoff_t *first, pgoff_t *last);
/*
 * The first binding at [@first, @last], for a reader with RCU alone; the range is in
 * @mas. mas_find() isn't for such readers: it follows a NULL pointer if the tree
 * becomes empty meanwhile.
 */
struct gmem_binding *gmem_binding_find_rcu(struct ma_state *mas,
					   unsigned long first,
					   unsigned long last);
/*
 * Describe the first binding that touches @gfn or comes behind it; false if
 * there is none. The registry's lock is enough to keep @vm; the bindings may
 * change meanwhile.
 */
bool gmem_binding_peek(struct gmem_vm *vm, unsigned long gfn,
		       struct gmem_binding_info *info);
/* Add the policy of @b, if it has one of its own. */
void gmem_binding_describe_policy(const struct gmem_binding *b,
				  struct gmem_binding_info *info);
/* Changes with the bindings of any VM. */
u32 gmem_bindings_generation(void);

/*
 * Bind; -EEXIST on an overlap, -EINTR on a fatal signal. Waits for bindings whose
 * VM is at its end, or whose unmap goes on without the task that began it. Under
 * gmem_vm.lock.
 */
int gmem_binding_map(struct gmem_vm *vm, struct file *file, u32 flags,
		     u8 policy, pgoff_t first, pgoff_t last,
		     unsigned long gfn);
/*
 * An unmap from the middle of @b will leave two pieces. "split" puts a second
 * binding, which every reader takes for @b, at the place of the right piece:
 * from GFN @last + 1 on. "unsplit" removes it again. Under gmem_vm.lock.
 */
struct gmem_binding *gmem_binding_split(struct gmem_binding *b,
					unsigned long last);
void gmem_binding_unsplit(struct gmem_binding *b, struct gmem_binding *right);
/*
 * "divide" cuts @b in two: it keeps the pages up to GFN @last. "join" undoes that:
 * @left gets the pages of @right, which continues it. "join_range" joins the
 * neighbours in [@first, @last] and at its ends that continue each other with equal
 * flags and policies. Under gmem_vm.lock.
 */
struct gmem_binding *gmem_binding_divide(struct gmem_binding *b,
					 unsigned long last);
void gmem_binding_join(struct gmem_binding *left, struct gmem_binding *right);
void gmem_binding_join_range(struct gmem_vm *vm, unsigned long first,
			     unsigned long last);
/*
 * Change the flags. -EEXIST if another binding that @b would exclude has one of
 * the pages. Under gmem_vm.lock.
 */
int gmem_binding_set_flags(struct gmem_binding *b, u32 flags);
/*
 * Take pages [@first, @last], which the VM's tree no longer shows, out of @b in
 * the guestmem's tree, and put @right there, unless that is NULL. False if
 * nothing of @b is left. Under gmem_vm.lock.
 */
bool gmem_binding_cut(struct gmem_binding *b, struct gmem_binding *right,
		      pgoff_t first, pgoff_t last);
/* The tree of @vm has changed; it has @nr bindings more. Under gmem_vm.lock. */
void gmem_binding_changed(struct gmem_vm *vm, long nr);
/* Free a binding that is in neither tree. */
void gmem_binding_free(struct gmem_binding *b);

#endif /* _GMEM_BINDING_H */
