// SPDX-License-Identifier: GPL-2.0-only
/*
 * The index of bindings.
 *
 * A binding stands in two places: the VM's tree by GFN, which guest accesses
 * read under RCU, and one of the guestmem's interval trees by page, which host
 * accesses read under the invalidate lock.
 */
#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/interval_tree_generic.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "binding.h"
#include "event.h"
#include "objects.h"
#include "opener.h"
#include "piece.h"
#include "provider.h"
#include "stats.h"
#include "wait.h"

static struct kmem_cache *gmem_binding_cache;
static atomic_t gmem_bindings_gen;

#define GMEM_BINDING_FIRST(b) ((b)->first)
#define GMEM_BINDING_LAST(b) ((b)->last)

INTERVAL_TREE_DEFINE(struct gmem_binding, node, pgoff_t, subtree_last,
		     GMEM_BINDING_FIRST, GMEM_BINDING_LAST, static,
		     gmem_index)

int gmem_binding_cache_init(void)
{
	gmem_binding_cache = KMEM_CACHE(gmem_binding, SLAB_ACCOUNT);
	return gmem_binding_cache ? 0 : -ENOMEM;
}

void gmem_binding_cache_exit(void)
{
	/* Waits until kfree_rcu() has freed all objects. */
	kmem_cache_destroy(gmem_binding_cache);
}

static struct gmem_binding *gmem_binding_alloc(struct gmem_vm *vm,
					       struct file *file, u32 flags,
					       u8 policy, pgoff_t first,
					       pgoff_t last,
					       unsigned long gfn_delta)
{
	struct gmem_binding *b;
	int err;

	err = gmem_opener_add_binding(vm->opener);
	if (err)
		return ERR_PTR(err);
	b = kmem_cache_zalloc(gmem_binding_cache, GFP_KERNEL);
	if (!b) {
		gmem_opener_remove_binding(vm->opener);
		return ERR_PTR(-ENOMEM);
	}
	b->vm = vm;
	b->mem = gmem_mem(file_inode(file));
	b->file = get_file(file);
	b->flags = flags;
	b->policy = policy;
	b->first = first;
	b->last = last;
	b->gfn_delta = gfn_delta;
	return b;
}

void gmem_binding_free(struct gmem_binding *b)
{
	struct file *file = b->file;

	/*
	 * A fault may still see the binding, and the memory of a file is used
	 * for another file without a grace period. get_file_active() reads the
	 * pointer again after it has got a reference. So clear the pointer
	 * first; fput() orders that before it drops the reference.
	 */
	WRITE_ONCE(b->file, NULL);
	fput(file);
	gmem_opener_remove_binding(b->vm->opener);
	kfree_rcu(b, rcu);
}

void gmem_binding_changed(struct gmem_vm *vm, long nr)
{
	lockdep_assert_held(&vm->lock);

	gmem_stat_add(GMEM_STAT_BINDINGS, nr);
	atomic_long_add(nr, &vm->nr_bindings);
	/*
	 * A reader that sees the new generation sees the new tree; one that saw
	 * the old generation looks again later. Pairs with the readers'
	 * acquire.
	 */
	smp_store_release(&vm->generation, vm->generation + 1);
	/* Fully ordered, as wake_up_var() wants it. */
	atomic_inc_return(&gmem_bindings_gen);
	wake_up_var(&gmem_bindings_gen);
}

u32 gmem_bindings_generation(void)
{
	return atomic_read_acquire(&gmem_bindings_gen);
}

void gmem_binding_describe_policy(const struct gmem_binding *b,
				  struct gmem_binding_info *info)
{
	if (b->policy == GMEM_POLICY_OF_VM)
		return;
	info->flags |= GMEM_MAP_POLICY;
	info->policy = b->policy;
}

struct gmem_binding *gmem_binding_find_rcu(struct ma_state *mas,
					   unsigned long first,
					   unsigned long last)
{
	struct gmem_binding *b;

	for (;;) {
		mas_set(mas, first);
		b = mas_walk(mas);
		if (b || mas->last >= last)
			return b;
		first = mas->last + 1;
	}
}

bool gmem_binding_peek(struct gmem_vm *vm, unsigned long gfn,
		       struct gmem_binding_info *info)
{
	MA_STATE(mas, &vm->bindings, gfn, gfn);
	const struct gmem_binding *b;
	unsigned long first, last;

	rcu_read_lock();
	b = gmem_binding_find_rcu(&mas, gfn, ULONG_MAX);
	if (b) {
		/* Take the tree's range: a trim changes b->first and last. */
		first = mas.index;
		last = mas.last;
		/* An undone split leaves the binding in two places. */
		while (last < ULONG_MAX &&
		       gmem_binding_find_rcu(&mas, last + 1, last + 1) == b)
			last = mas.last;
		*info = (struct gmem_binding_info) {
			.guest_addr = (u64)first << PAGE_SHIFT,
			.length = (u64)(last - first + 1) << PAGE_SHIFT,
			.offset = (u64)gmem_binding_index(b, first)
				  << PAGE_SHIFT,
			/* Like b, the inode outlives the RCU section. */
			.mem_id = b->mem->inode.i_ino,
			.flags = READ_ONCE(b->flags),
		};
		gmem_binding_describe_policy(b, info);
	}
	rcu_read_unlock();
	return b;
}

struct gmem_binding *gmem_binding_next(struct gmem_vm *vm, unsigned long *gfn,
				       unsigned long last)
{
	MA_STATE(mas, &vm->bindings, *gfn, *gfn);
	struct gmem_binding *b;

	/* A caller may walk any number of bindings. */
	cond_resched();
	if (*gfn > last)
		return NULL;
	b = mas_find(&mas, last);
	if (b)
		*gfn = gmem_binding_gfn(b, b->last) + 1;
	return b;
}

static bool gmem_binding_excludes(const struct gmem_binding *b, u32 flags)
{
	return (flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND ||
	       !gmem_provider_shares_again(b->vm->provider);
}

bool gmem_binding_exclusive(const struct gmem_binding *b)
{
	return gmem_binding_excludes(b, b->flags);
}

static struct rb_root_cached *gmem_binding_index_of(struct gmem_binding *b)
{
	return gmem_binding_exclusive(b) ? &b->mem->exclusive :
					   &b->mem->shared;
}

struct gmem_binding *gmem_binding_of_page(struct gmem_mem *mem, pgoff_t index,
					  struct gmem_binding *prev)
{
	struct gmem_binding *b;

	if (prev)
		return gmem_index_iter_next(prev, index, index);
	b = gmem_index_iter_first(&mem->exclusive, index, index);
	if (!b)
		b = gmem_index_iter_first(&mem->shared, index, index);
	return b;
}

static struct gmem_binding *gmem_binding_iter(struct rb_root_cached *index,
					      pgoff_t first, pgoff_t last,
					      struct gmem_binding *prev)
{
	return prev ? gmem_index_iter_next(prev, first, last) :
		      gmem_index_iter_first(index, first, last);
}

struct gmem_binding *gmem_binding_next_exclusive(struct gmem_mem *mem,
						 pgoff_t first, pgoff_t last,
						 struct gmem_binding *prev)
{
	return gmem_binding_iter(&mem->exclusive, first, last, prev);
}

struct gmem_binding *gmem_binding_next_shared(struct gmem_mem *mem,
					      pgoff_t first, pgoff_t last,
					      struct gmem_binding *prev)
{
	return gmem_binding_iter(&mem->shared, first, last, prev);
}

bool gmem_binding_alone(const struct gmem_binding *b, pgoff_t *first,
			pgoff_t *last)
{
	struct gmem_binding *other;

	/*
	 * This tree has no pages of an exclusive binding. It iterates in order
	 * of gmem_binding.first.
	 */
	other = gmem_index_iter_first(&b->mem->shared, *first, *last);
	while (other) {
		if (other != b && other->first > *first) {
			*last = other->first - 1;
			return true;
		}
		if (other != b && other->last >= *last)
			return false;
		if (other != b)
			*first = other->last + 1;
		other = gmem_index_iter_next(other, *first, *last);
		cond_resched();
	}
	return true;
}

/* Another binding of the same pages that excludes @b. */
static struct gmem_binding *gmem_binding_excluding(const struct gmem_binding *b)
{
	struct gmem_binding *other;

	other = gmem_index_iter_first(&b->mem->exclusive, b->first, b->last);
	if (!other && gmem_binding_exclusive(b))
		other = gmem_index_iter_first(&b->mem->shared, b->first,
					      b->last);
	return other;
}

/* Will the VM lose bindings soon, whatever its owner does? */
static bool gmem_binding_vm_hands_back(const struct gmem_vm *vm)
{
	return READ_ONCE(vm->ending) || READ_ONCE(vm->unmap_list);
}

/*
 * Put @b into the indexes. -EEXIST if another binding excludes it; -EAGAIN if
 * that will go soon.
 */
static int gmem_binding_insert(struct gmem_binding *b, struct ma_state *mas)
{
	struct gmem_binding *other;
	int err = 0;

	if (down_write_killable(&b->mem->inode.i_mapping->invalidate_lock))
		return -EINTR;
	other = gmem_binding_excluding(b);
	if (other) {
		err = gmem_binding_vm_hands_back(other->vm) ? -EAGAIN : -EEXIST;
	} else {
		down_write(&b->mem->tree_rwsem);
		gmem_index_insert(b, gmem_binding_index_of(b));
		up_write(&b->mem->tree_rwsem);
		mas_store_prealloc(mas, b);
		gmem_event_map(b);
	}
	filemap_invalidate_unlock(b->mem->inode.i_mapping);
	return err;
}

/* Wait for a change of any binding since @generation. -EINTR */
static int gmem_bindings_wait(u32 generation)
{
	return wait_var_event_killable(&gmem_bindings_gen,
				       gmem_bindings_generation() !=
					       generation) ? -EINTR : 0;
}

int gmem_binding_map(struct gmem_vm *vm, struct file *file, u32 flags,
		     u8 policy, pgoff_t first, pgoff_t last, unsigned long gfn)
{
	MA_STATE(mas, &vm->bindings, gfn, gfn);
	unsigned long gfn_last = gfn + (last - first);
	struct gmem_wait_bind wait;
	struct gmem_binding *b;
	u32 generation;
	int err;

	lockdep_assert_held(&vm->lock);

	if (mas_find(&mas, gfn_last))
		return -EEXIST;
	if (atomic_long_read(&vm->nr_bindings) >= GMEM_MAX_BINDINGS)
		return -ENOSPC;
	b = gmem_binding_alloc(vm, file, flags, policy, first, last,
			       gfn - first);
	if (IS_ERR(b))
		return PTR_ERR(b);
	mas_set_range(&mas, gfn, gfn_last);
	err = mas_preallocate(&mas, b, GFP_KERNEL_ACCOUNT);
	if (err)
		goto free_binding;
	err = gmem_wait_prepare(vm, &wait, gfn, gfn_last);
	if (err)
		goto destroy_mas;

	do {
		generation = gmem_bindings_generation();
		err = gmem_binding_insert(b, &mas);
	} while (err == -EAGAIN && !(err = gmem_bindings_wait(generation)));
	if (err)
		goto cancel_wait;

	/* First wake the tasks that wait. */
	gmem_wait_bound(vm, &wait);
	gmem_binding_changed(vm, 1);
	return 0;

cancel_wait:
	gmem_wait_cancel(&wait);
destroy_mas:
	mas_destroy(&mas);
free_binding:
	gmem_binding_free(b);
	return err;
}

bool gmem_binding_clip(const struct gmem_binding *b, unsigned long gfn_first,
		       unsigned long gfn_last, pgoff_t *first, pgoff_t *last)
{
	*first = b->first;
	*last = b->last;
	if (gmem_binding_gfn(b, b->first) < gfn_first)
		*first = gmem_binding_index(b, gfn_first);
	if (gmem_binding_gfn(b, b->last) > gfn_last)
		*last = gmem_binding_index(b, gfn_last);
	return gmem_mem_aligned(b->mem, *first) &&
	       gmem_mem_aligned(b->mem, *last + 1);
}

struct gmem_binding *gmem_binding_split(struct gmem_binding *b,
					unsigned long last)
{
	MA_STATE(mas, &b->vm->bindings, last + 1, gmem_binding_gfn(b, b->last));
	struct gmem_binding *right;
	int err;

	if (atomic_long_read(&b->vm->nr_bindings) >= GMEM_MAX_BINDINGS)
		return ERR_PTR(-ENOSPC);
	right = gmem_binding_alloc(b->vm, b->file, b->flags, b->policy,
				   gmem_binding_index(b, last + 1), b->last,
				   b->gfn_delta);
	if (IS_ERR(right))
		return right;
	err = mas_store_gfp(&mas, right, GFP_KERNEL_ACCOUNT);
	if (err) {
		gmem_binding_free(right);
		return ERR_PTR(err);
	}
	return right;
}

void gmem_binding_unsplit(struct gmem_binding *b, struct gmem_binding *right)
{
	MA_STATE(mas, &b->vm->bindings, gmem_binding_gfn(right, right->first),
		 gmem_binding_gfn(right, right->last));
	struct address_space *mapping = b->mem->inode.i_mapping;

	/* Replacing the entry of a slot needs no memory, so can't fail. */
	mas_store_gfp(&mas, b, GFP_KERNEL);
	/*
	 * A fault that has found the right piece uses it under this lock: wait
	 * until no fault does.
	 */
	filemap_invalidate_lock(mapping);
	filemap_invalidate_unlock(mapping);
	gmem_binding_free(right);
}

bool gmem_binding_cut(struct gmem_binding *b, struct gmem_binding *right,
		      pgoff_t first, pgoff_t last)
{
	bool left = true;

	filemap_invalidate_lock(b->mem->inode.i_mapping);
	down_write(&b->mem->tree_rwsem);
	gmem_index_remove(b, gmem_binding_index_of(b));
	if (right) {
		b->last = first - 1;
		gmem_index_insert(right, gmem_binding_index_of(right));
	} else if (first > b->first) {
		b->last = first - 1;
	} else if (last < b->last) {
		b->first = last + 1;
	} else {
		left = false;
	}
	if (left)
		gmem_index_insert(b, gmem_binding_index_of(b));
	up_write(&b->mem->tree_rwsem);
	filemap_invalidate_unlock(b->mem->inode.i_mapping);
	return left;
}

struct gmem_binding *gmem_binding_divide(struct gmem_binding *b,
					 unsigned long last)
{
	struct gmem_binding *right = gmem_binding_split(b, last);

	if (IS_ERR(right))
		return right;
	filemap_invalidate_lock(b->mem->inode.i_mapping);
	down_write(&b->mem->tree_rwsem);
	gmem_index_remove(b, gmem_binding_index_of(b));
	b->last = right->first - 1;
	gmem_index_insert(b, gmem_binding_index_of(b));
	gmem_index_insert(right, gmem_binding_index_of(right));
	up_write(&b->mem->tree_rwsem);
	filemap_invalidate_unlock(b->mem->inode.i_mapping);
	gmem_binding_changed(b->vm, 1);
	return right;
}

/* Let the VM's tree show @left in the place of @right. */
static int gmem_binding_extend(struct gmem_binding *left,
			       const struct gmem_binding *right)
{
	MA_STATE(mas, &left->vm->bindings, gmem_binding_gfn(left, left->first),
		 gmem_binding_gfn(right, right->last));

	if (!mas_store_gfp(&mas, left, GFP_KERNEL_ACCOUNT))
		return 0;
	/* Two places, then: replacing the entry of a slot needs no memory. */
	mas_set_range(&mas, gmem_binding_gfn(right, right->first),
		      gmem_binding_gfn(right, right->last));
	return mas_store_gfp(&mas, left, GFP_KERNEL);
}

void gmem_binding_join(struct gmem_binding *left, struct gmem_binding *right)
{
	struct address_space *mapping = left->mem->inode.i_mapping;

	/* If the tree gets no memory, both bindings stay: no harm. */
	if (gmem_binding_extend(left, right))
		return;
	/* A fault that has found the right piece uses it under this lock. */
	filemap_invalidate_lock(mapping);
	down_write(&left->mem->tree_rwsem);
	gmem_index_remove(right, gmem_binding_index_of(right));
	gmem_index_remove(left, gmem_binding_index_of(left));
	left->last = right->last;
	gmem_index_insert(left, gmem_binding_index_of(left));
	up_write(&left->mem->tree_rwsem);
	filemap_invalidate_unlock(mapping);
	gmem_binding_changed(left->vm, -1);
	gmem_binding_free(right);
}

static bool gmem_binding_continues(const struct gmem_binding *left,
				   const struct gmem_binding *right)
{
	return left->mem == right->mem && left->last + 1 == right->first &&
	       left->gfn_delta == right->gfn_delta &&
	       left->flags == right->flags && left->policy == right->policy &&
	       !((left->file->f_mode ^ right->file->f_mode) & FMODE_WRITE);
}

void gmem_binding_join_range(struct gmem_vm *vm, unsigned long first,
			     unsigned long last)
{
	struct gmem_binding *prev = NULL, *b;
	unsigned long gfn = first ? first - 1 : 0;

	lockdep_assert_held(&vm->lock);

	/* Neighbours may stay apart, so a killed task leaves the rest. */
	while (!gmem_killed() &&
	       (b = gmem_binding_next(vm, &gfn, last + 1))) {
		if (prev && gmem_binding_continues(prev, b))
			gmem_binding_join(prev, b);
		else
			prev = b;
	}
}

/* 0, or as gmem_binding_insert(). Invalidate lock. */
static int gmem_binding_check_alone(const struct gmem_binding *b, pgoff_t first,
				    pgoff_t last)
{
	struct gmem_binding *other = NULL;

	while ((other = gmem_binding_next_shared(b->mem, first, last, other)))
		if (other != b)
			return gmem_binding_vm_hands_back(other->vm) ?
				       -EAGAIN : -EEXIST;
	return 0;
}

int gmem_binding_wait_alone(const struct gmem_binding *b, pgoff_t first,
			    pgoff_t last)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	u32 generation;
	int err;

	lockdep_assert_held(&b->vm->lock);

	do {
		generation = gmem_bindings_generation();
		if (down_read_killable(&mapping->invalidate_lock))
			return -EINTR;
		err = gmem_binding_check_alone(b, first, last);
		filemap_invalidate_unlock_shared(mapping);
	} while (err == -EAGAIN && !(err = gmem_bindings_wait(generation)));
	return err;
}

int gmem_binding_set_flags(struct gmem_binding *b, u32 flags)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	int err = 0;

	lockdep_assert_held(&b->vm->lock);

	filemap_invalidate_lock(mapping);
	if (gmem_binding_excludes(b, flags) && !gmem_binding_exclusive(b))
		err = gmem_binding_check_alone(b, b->first, b->last);
	if (!err) {
		down_write(&b->mem->tree_rwsem);
		gmem_index_remove(b, gmem_binding_index_of(b));
		WRITE_ONCE(b->flags, flags);
		gmem_index_insert(b, gmem_binding_index_of(b));
		up_write(&b->mem->tree_rwsem);
	}
	filemap_invalidate_unlock(mapping);
	return err == -EAGAIN ? -EEXIST : err;
}
