// SPDX-License-Identifier: GPL-2.0
/*
 * The index of bindings.
 *
 * A binding stands in two places: the VM's tree by GFN, which guest accesses
 * read under RCU, and one of the guestmem's interval trees by page, which host
 * accesses read under the invalidate lock.
 */
#include <linux/atomic.h>
#include <linux/file.h>
#include <linux/interval_tree_generic.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "binding.h"
#include "event.h"
#include "objects.h"
#include "provider.h"
#include "stats.h"

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
					       pgoff_t first, pgoff_t last,
					       unsigned long gfn_delta)
{
	struct gmem_binding *b;

	b = kmem_cache_zalloc(gmem_binding_cache, GFP_KERNEL);
	if (!b)
		return NULL;
	b->vm = vm;
	b->mem = gmem_mem(file_inode(file));
	b->file = get_file(file);
	b->flags = flags;
	b->first = first;
	b->last = last;
	b->gfn_delta = gfn_delta;
	return b;
}

void gmem_binding_free(struct gmem_binding *b)
{
	fput(b->file);
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
	atomic_inc_return_release(&gmem_bindings_gen);
}

u32 gmem_bindings_generation(void)
{
	return atomic_read_acquire(&gmem_bindings_gen);
}

bool gmem_binding_peek(struct gmem_vm *vm, unsigned long gfn,
		       struct gmem_binding_info *info)
{
	MA_STATE(mas, &vm->bindings, gfn, gfn);
	const struct gmem_binding *b;
	unsigned long first, last;

	rcu_read_lock();
	b = mas_find(&mas, ULONG_MAX);
	if (b) {
		/* Take the tree's range: a trim changes b->first and last. */
		first = mas.index;
		last = mas.last;
		/* An undone split leaves the binding in two places. */
		while (mas_find(&mas, last + 1) == b)
			last = mas.last;
		*info = (struct gmem_binding_info) {
			.guest_addr = (u64)first << PAGE_SHIFT,
			.length = (u64)(last - first + 1) << PAGE_SHIFT,
			.offset = (u64)gmem_binding_index(b, first)
				  << PAGE_SHIFT,
			/* Like b, the inode outlives the RCU section. */
			.mem_id = b->mem->inode.i_ino,
			.flags = b->flags,
		};
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

bool gmem_binding_exclusive(const struct gmem_binding *b)
{
	return gmem_binding_lent(b) ||
	       !gmem_provider_shares_again(b->vm->provider);
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

/* Does another binding of the same pages exclude @b? */
static bool gmem_binding_excluded(const struct gmem_binding *b)
{
	if (gmem_index_iter_first(&b->mem->exclusive, b->first, b->last))
		return true;
	return gmem_binding_exclusive(b) &&
	       gmem_index_iter_first(&b->mem->shared, b->first, b->last);
}

int gmem_binding_map(struct gmem_vm *vm, struct file *file, u32 flags,
		     pgoff_t first, pgoff_t last, unsigned long gfn)
{
	MA_STATE(mas, &vm->bindings, gfn, gfn);
	unsigned long gfn_last = gfn + (last - first);
	struct inode *inode = file_inode(file);
	struct gmem_binding *b;
	int err;

	lockdep_assert_held(&vm->lock);

	if (mas_find(&mas, gfn_last))
		return -EEXIST;
	if (atomic_long_read(&vm->nr_bindings) >= GMEM_MAX_BINDINGS)
		return -ENOSPC;
	b = gmem_binding_alloc(vm, file, flags, first, last, gfn - first);
	if (!b)
		return -ENOMEM;
	mas_set_range(&mas, gfn, gfn_last);
	err = mas_preallocate(&mas, b, GFP_KERNEL_ACCOUNT);
	if (err)
		goto free_binding;

	filemap_invalidate_lock(inode->i_mapping);
	if (gmem_binding_excluded(b)) {
		err = -EEXIST;
	} else {
		down_write(&b->mem->tree_rwsem);
		gmem_index_insert(b, gmem_binding_index_of(b));
		up_write(&b->mem->tree_rwsem);
		mas_store_prealloc(&mas, b);
		gmem_event_map(b);
	}
	filemap_invalidate_unlock(inode->i_mapping);
	if (err)
		goto destroy_mas;

	gmem_binding_changed(vm, 1);
	return 0;

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
	right = gmem_binding_alloc(b->vm, b->file, b->flags,
				   gmem_binding_index(b, last + 1), b->last,
				   b->gfn_delta);
	if (!right)
		return ERR_PTR(-ENOMEM);
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
	return left;
}
