// SPDX-License-Identifier: GPL-2.0
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "batch.h"
#include "binding.h"
#include "call.h"
#include "guestmem.h"
#include "lend.h"
#include "map.h"
#include "objects.h"
#include "provider.h"
#include "unmap.h"
#include "vm.h"

/* A GMEM_VM_MAP_MEM whose numbers have been checked. */
struct gmem_map_request {
	struct file *file;
	u32 flags;
	bool unmap;
	unsigned long gfn_first;
	unsigned long gfn_last;
	pgoff_t first;
	pgoff_t last;
};

static int gmem_map_check_flags(struct gmem_map_request *req, u32 flags)
{
	u32 access = flags & GMEM_MAP_ACCESS_MASK;

	if (flags & ~(u32)(GMEM_MAP_ACCESS_MASK | GMEM_MAP_ALLOW_RWX |
			   GMEM_MAP_UNMAP))
		return -EINVAL;
	if (access > GMEM_MAP_FORCE_SHARE || !(flags & GMEM_MAP_ALLOW_RWX))
		return -EINVAL;

	if (access == GMEM_MAP_DEFAULT_ACCESS)
		flags |= GMEM_MAP_FORCE_LEND;
	req->unmap = flags & GMEM_MAP_UNMAP;
	req->flags = flags & ~(u32)GMEM_MAP_UNMAP;
	return 0;
}

static int gmem_map_check_file(const struct gmem_map_request *req)
{
	struct gmem_mem *mem = gmem_mem(file_inode(req->file));

	if (req->last >= i_size_read(&mem->inode) >> PAGE_SHIFT)
		return -EINVAL;
	if (!gmem_mem_aligned(mem, req->gfn_first) ||
	    !gmem_mem_aligned(mem, req->first) ||
	    !gmem_mem_aligned(mem, req->last + 1))
		return -EINVAL;
	return 0;
}

static int gmem_map_add(struct gmem_vm *vm, const struct gmem_map_request *req)
{
	fmode_t needed = FMODE_READ;
	int err;

	/* As for mmap(): every mapping can be read. */
	if (req->flags & GMEM_MAP_ALLOW_WRITE)
		needed |= FMODE_WRITE;
	if (!gmem_provider_can(vm->provider, req->flags))
		return -EOPNOTSUPP;
	if ((req->file->f_mode & needed) != needed)
		return -EACCES;
	if (gmem_mem(file_inode(req->file))->secret &&
	    !vm->provider->takes_secret)
		return -EOPNOTSUPP;
	if (vm->provider->bind) {
		err = vm->provider->bind(vm, gmem_mem(file_inode(req->file)),
					 req->flags);
		if (err)
			return err;
	}
	return gmem_binding_map(vm, req->file, req->flags, req->first,
				req->last, req->gfn_first);
}

/* Unbind a part of one binding; guestmem, offset and flags must be its own. */
static int gmem_map_remove(struct gmem_vm *vm,
			   const struct gmem_map_request *req)
{
	unsigned long gfn = req->gfn_first;
	struct gmem_binding *b;
	u64 nr_pages;

	b = gmem_binding_next(vm, &gfn, req->gfn_first);
	if (!b || b->mem != gmem_mem(file_inode(req->file)) ||
	    b->flags != req->flags ||
	    gmem_binding_gfn(b, req->first) != req->gfn_first ||
	    req->last > b->last)
		return -ENOENT;
	return gmem_binding_unmap(vm, req->gfn_first, req->gfn_last, &nr_pages);
}

int gmem_vm_map_call(void *obj, void *arg)
{
	const struct gmem_map_mem *map = arg;
	struct gmem_map_request req;
	struct gmem_vm *vm = obj;
	int err;

	err = gmem_map_check_flags(&req, map->flags);
	if (err)
		return err;
	err = gmem_vm_range(vm, map->guest_addr, map->size, &req.gfn_first,
			    &req.gfn_last);
	if (err)
		return err;
	err = gmem_call_range(map->offset, map->size, &req.first, &req.last);
	if (err)
		return err;
	req.file = gmem_mem_file_get(map->guest_mem_fd);
	if (IS_ERR(req.file))
		return PTR_ERR(req.file);
	err = gmem_map_check_file(&req);
	if (err)
		goto put_file;

	if (mutex_lock_killable(&vm->lock)) {
		err = -EINTR;
		goto put_file;
	}
	if (req.unmap)
		err = gmem_map_remove(vm, &req);
	else
		err = gmem_map_add(vm, &req);
	mutex_unlock(&vm->lock);
put_file:
	fput(req.file);
	return err;
}

static int gmem_range_check(const struct gmem_vm *vm,
			    const struct gmem_vm_range *range,
			    unsigned long *first, unsigned long *last)
{
	if (range->flags)
		return -EINVAL;
	return gmem_vm_range(vm, range->guest_addr, range->length, first, last);
}

int gmem_vm_unmap_call(void *obj, void *arg)
{
	struct gmem_vm_range *range = arg;
	unsigned long first, last;
	struct gmem_vm *vm = obj;
	int err;

	err = gmem_range_check(vm, range, &first, &last);
	if (err)
		return err;
	if (mutex_lock_killable(&vm->lock))
		return -EINTR;
	err = gmem_binding_unmap(vm, first, last, &range->nr_pages);
	mutex_unlock(&vm->lock);
	return err;
}

/* Call @fn for the part of every binding that lies in the range. */
static int gmem_range_for_each(struct gmem_vm *vm, unsigned long first,
			       unsigned long last, u64 *nr_pages,
			       int (*fn)(struct gmem_binding *b, pgoff_t first,
					 pgoff_t last, u64 *nr_pages))
{
	pgoff_t part_first, part_last;
	struct gmem_binding *b;
	unsigned long gfn;
	int err;

	gfn = first;
	while ((b = gmem_binding_next(vm, &gfn, last)))
		if (!gmem_binding_clip(b, first, last, &part_first, &part_last))
			return -EINVAL;

	gfn = first;
	while ((b = gmem_binding_next(vm, &gfn, last))) {
		gmem_binding_clip(b, first, last, &part_first, &part_last);
		err = fn(b, part_first, part_last, nr_pages);
		if (err)
			return err;
	}
	return 0;
}

static int gmem_reclaim_part(struct gmem_binding *b, pgoff_t first,
			     pgoff_t last, u64 *nr_pages)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	int err;

	filemap_invalidate_lock(mapping);
	err = gmem_lend_reclaim_range(b, first, last, GMEM_RECLAIM_HOST,
				      nr_pages);
	if (err)
		gmem_batch_restore(b, first, last);
	filemap_invalidate_unlock(mapping);
	return err;
}

int gmem_vm_reclaim_call(void *obj, void *arg)
{
	struct gmem_vm_range *range = arg;
	unsigned long first, last;
	struct gmem_vm *vm = obj;
	int err;

	range->nr_pages = 0;
	err = gmem_range_check(vm, range, &first, &last);
	if (err)
		return err;
	if (READ_ONCE(vm->policy) == GMEM_POLICY_DENY)
		return -EACCES;

	if (mutex_lock_killable(&vm->lock))
		return -EINTR;
	err = gmem_range_for_each(vm, first, last, &range->nr_pages,
				  gmem_reclaim_part);
	mutex_unlock(&vm->lock);
	return err;
}

static int gmem_populate_folios(struct gmem_binding *b, pgoff_t first,
				pgoff_t last, u64 *nr_pages)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	pgoff_t index = first;
	struct folio *folio;
	int err;

	while (index <= last) {
		if (fatal_signal_pending(current))
			return -EINTR;
		filemap_invalidate_lock_shared(mapping);
		err = gmem_lend_get(b, index, &folio);
		filemap_invalidate_unlock_shared(mapping);
		if (err)
			return err;

		*nr_pages += folio_next_index(folio) - index;
		index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
	return 0;
}

static int gmem_populate_part(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, u64 *nr_pages)
{
	const struct gmem_provider *provider = b->vm->provider;
	int err;

	if (provider->batches && provider->batches(b->vm))
		err = gmem_batch_provide(b, first, last, nr_pages);
	else
		err = gmem_populate_folios(b, first, last, nr_pages);
	/* Core and providers use these among themselves. */
	return err == -ENOTRECOVERABLE || err == -EUCLEAN ? -EIO : err;
}

static bool gmem_range_is_bound(struct gmem_vm *vm, unsigned long first,
				unsigned long last)
{
	unsigned long gfn = first, next = first;
	struct gmem_binding *b;

	while (next <= last) {
		b = gmem_binding_next(vm, &gfn, last);
		if (!b || gmem_binding_gfn(b, b->first) > next)
			return false;
		next = gfn;
	}
	return true;
}

int gmem_vm_populate(struct gmem_vm *vm, unsigned long first,
		     unsigned long last, u64 *nr_pages)
{
	lockdep_assert_held(&vm->lock);

	if (!gmem_range_is_bound(vm, first, last))
		return -ENOENT;
	return gmem_range_for_each(vm, first, last, nr_pages,
				   gmem_populate_part);
}

int gmem_vm_populate_all(struct gmem_vm *vm)
{
	u64 nr_pages = 0;

	lockdep_assert_held(&vm->lock);
	return gmem_range_for_each(vm, 0, vm->max_gfn, &nr_pages,
				   gmem_populate_part);
}

int gmem_vm_widen_lent(struct gmem_vm *vm, unsigned long *first,
		       unsigned long *last)
{
	unsigned long next = *first;
	struct gmem_binding *b;
	unsigned long pages;

	lockdep_assert_held(&vm->lock);

	b = gmem_binding_next(vm, &next, *last);
	if (!b || gmem_binding_gfn(b, b->first) > *first || next <= *last)
		return -ENOENT;
	if (!gmem_binding_lent(b))
		return -EINVAL;
	pages = 1UL << b->mem->order;
	*first = round_down(*first, pages);
	*last = round_up(*last + 1, pages) - 1;
	return 0;
}

int gmem_vm_populate_call(void *obj, void *arg)
{
	struct gmem_vm_range *range = arg;
	unsigned long first, last;
	struct gmem_vm *vm = obj;
	int err;

	range->nr_pages = 0;
	err = gmem_range_check(vm, range, &first, &last);
	if (err)
		return err;
	if (mutex_lock_killable(&vm->lock))
		return -EINTR;
	err = gmem_vm_populate(vm, first, last, &range->nr_pages);
	mutex_unlock(&vm->lock);
	return err;
}
