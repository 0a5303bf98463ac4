// SPDX-License-Identifier: GPL-2.0-only
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "batch.h"
#include "binding.h"
#include "call.h"
#include "fault.h"
#include "fill.h"
#include "folio.h"
#include "guestmem.h"
#include "lend.h"
#include "map.h"
#include "objects.h"
#include "piece.h"
#include "provider.h"
#include "unmap.h"
#include "vm.h"

/*
 * A GMEM_VM_MAP_MEM, GMEM_VM_MAP or GMEM_VM_FILL whose numbers have been checked;
 * the last one has a source.
 */
struct gmem_map_request {
	struct file *file;
	u64 source;
	u32 flags;
	u8 policy;
	bool unmap;
	bool join;
	bool fill;
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
	req->policy = GMEM_POLICY_OF_VM;
	req->join = false;
	req->fill = false;
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

int gmem_map_check(struct gmem_vm *vm, struct file *file, u32 flags)
{
	struct gmem_mem *mem = gmem_mem(file_inode(file));
	fmode_t needed = FMODE_READ;

	/*
	 * As for mmap(): every mapping can be read. Lending excludes the host
	 * and may end in zeroed pages, so it is a kind of writing.
	 */
	if ((flags & GMEM_MAP_ALLOW_WRITE) ||
	    (flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND)
		needed |= FMODE_WRITE;
	if (!gmem_provider_can(vm->provider, flags))
		return -EOPNOTSUPP;
	if ((file->f_mode & needed) != needed)
		return -EACCES;
	if (mem->secret && !vm->provider->takes_secret)
		return -EOPNOTSUPP;
	return vm->provider->bind ? vm->provider->bind(vm, mem, flags) : 0;
}

static int gmem_map_add(struct gmem_vm *vm, const struct gmem_map_request *req)
{
	int err;

	if (req->gfn_first < vm->min_gfn)
		return -EINVAL;
	err = gmem_map_check(vm, req->file, req->flags);
	if (!err)
		err = gmem_binding_map(vm, req->file, req->flags, req->policy,
				       req->first, req->last, req->gfn_first);
	if (!err && req->join)
		gmem_binding_join_range(vm, req->gfn_first, req->gfn_last);
	return err;
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

/* @req has the flags; add the rest and carry it out. */
static int gmem_map_request(struct gmem_vm *vm, struct gmem_map_request *req,
			    u64 guest_addr, int fd, u64 offset, u64 length)
{
	int err;

	err = gmem_vm_range(vm, guest_addr, length, &req->gfn_first,
			    &req->gfn_last);
	if (err)
		return err;
	err = gmem_call_range(offset, length, &req->first, &req->last);
	if (err)
		return err;
	req->file = gmem_mem_file_get(fd);
	if (IS_ERR(req->file))
		return PTR_ERR(req->file);
	err = gmem_map_check_file(req);
	if (!err && req->fill)
		err = gmem_map_check(vm, req->file, req->flags) ?:
		      gmem_fill(vm, req->gfn_first, req->file, req->first,
				req->last, req->source);
	if (err)
		goto put_file;

	if (gmem_vm_lock_killable(vm)) {
		err = -EINTR;
		goto put_file;
	}
	if (req->unmap)
		err = gmem_map_remove(vm, req);
	else
		err = gmem_map_add(vm, req);
	mutex_unlock(&vm->lock);
put_file:
	fput(req->file);
	return err;
}

int gmem_vm_map_mem_call(void *obj, void *arg)
{
	const struct gmem_map_mem *map = arg;
	struct gmem_map_request req;

	return gmem_map_check_flags(&req, map->flags) ?:
	       gmem_map_request(obj, &req, map->guest_addr, map->guest_mem_fd,
				map->offset, map->size);
}

/* The flags and the policy of a GMEM_VM_MAP or GMEM_VM_FILL. */
static int gmem_map_check_options(struct gmem_map_request *req, u32 flags,
				  u32 policy)
{
	int err;

	err = gmem_map_check_flags(req, flags & ~(u32)(GMEM_MAP_POLICY |
						       GMEM_MAP_JOIN));
	if (err)
		return err;
	if (req->unmap || policy > GMEM_POLICY_DENY ||
	    (policy && !(flags & GMEM_MAP_POLICY)))
		return -EINVAL;
	if (flags & GMEM_MAP_POLICY)
		req->policy = policy;
	req->join = flags & GMEM_MAP_JOIN;
	return 0;
}

int gmem_vm_map_call(void *obj, void *arg)
{
	const struct gmem_vm_map *map = arg;
	struct gmem_map_request req;

	return gmem_map_check_options(&req, map->flags, map->policy) ?:
	       gmem_map_request(obj, &req, map->guest_addr, map->mem_fd,
				map->offset, map->length);
}

int gmem_vm_fill_call(void *obj, void *arg)
{
	const struct gmem_vm_fill *fill = arg;
	struct gmem_map_request req;
	int err;

	err = gmem_map_check_options(&req, fill->flags, fill->policy);
	if (err)
		return err;
	req.fill = true;
	req.source = fill->source;
	return gmem_map_request(obj, &req, fill->guest_addr, fill->guest_mem_fd,
				fill->offset, fill->length);
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
	if (gmem_vm_lock_killable(vm))
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
	struct gmem_vm *vm = b->vm;
	pgoff_t piece_last;
	int err = 0;

	/* The host has never lost a shared page. */
	while (!err && first <= last && gmem_binding_lent(b) &&
	       gmem_piece_find(b->mem, &first, last, GMEM_FOLIO_LENT)) {
		piece_last = gmem_provider_batches(vm) ? last :
				gmem_piece_last(b->mem, first, last);
		gmem_vm_begin_unmap(vm, gmem_binding_gfn(b, first),
				    gmem_binding_gfn(b, piece_last));
		err = gmem_lend_reclaim_piece(b, first, piece_last, nr_pages);
		if (err)
			gmem_batch_restore(b, first, piece_last);
		gmem_vm_end_unmap(vm);
		first = piece_last + 1;
	}
	return err;
}

/* Without a binding, the policy of the VM decides. */
static bool gmem_reclaim_denied(struct gmem_vm *vm, unsigned long first,
				unsigned long last)
{
	struct gmem_binding *b = gmem_binding_next(vm, &first, last);

	if (!b)
		return READ_ONCE(vm->policy) == GMEM_POLICY_DENY;
	do {
		if (gmem_binding_policy(b) == GMEM_POLICY_DENY)
			return true;
	} while ((b = gmem_binding_next(vm, &first, last)));
	return false;
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
	if (gmem_vm_lock_killable(vm))
		return -EINTR;
	if (gmem_reclaim_denied(vm, first, last))
		err = -EACCES;
	else
		err = gmem_range_for_each(vm, first, last, &range->nr_pages,
					  gmem_reclaim_part);
	mutex_unlock(&vm->lock);
	return err;
}

static int gmem_populate_folio(struct gmem_binding *b, pgoff_t index,
			       struct folio **folio)
{
	struct address_space *mapping = b->mem->inode.i_mapping;
	int err = -ERESTART;

	if (fatal_signal_pending(current) ||
	    down_read_killable(&mapping->invalidate_lock))
		return -EINTR;
	if (!gmem_mem_punching(b->mem, index, index))
		err = gmem_lend_get(b, index, true, folio);
	filemap_invalidate_unlock_shared(mapping);
	return err;
}

static int gmem_populate_folios(struct gmem_binding *b, pgoff_t *first,
				pgoff_t last, u64 *nr_pages)
{
	struct folio *folio;
	int err;

	while (*first <= last) {
		err = gmem_populate_folio(b, *first, &folio);
		if (err)
			return err;

		*nr_pages += folio_next_index(folio) - *first;
		*first = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
	return 0;
}

static int gmem_populate_part(struct gmem_binding *b, pgoff_t first,
			      pgoff_t last, u64 *nr_pages)
{
	int err;

	for (;;) {
		if (gmem_provider_batches(b->vm))
			err = gmem_batch_provide(b, first, last, nr_pages);
		else
			err = gmem_populate_folios(b, &first, last, nr_pages);
		if (err != -ERESTART)
			break;
		/* A page is being punched. */
		if (gmem_mem_wait_punch(b->mem, first, last))
			return -EINTR;
	}
	/* Core and providers use these among themselves. */
	return err == -ENOTRECOVERABLE || err == -EUCLEAN ? -EIO : err;
}

/* Wait for brief references, with the VM's lock held. */
static int gmem_populate_part_waiting(struct gmem_binding *b, pgoff_t first,
				      pgoff_t last, u64 *nr_pages)
{
	u64 nr = 0;
	int err;

	do {
		err = gmem_populate_part(b, first + nr, last, &nr);
	} while (err == -EINPROGRESS &&
		 !(err = gmem_folio_wait(b->mem, first + nr)));
	*nr_pages += nr;
	return err;
}

bool gmem_range_is_bound(struct gmem_vm *vm, unsigned long first,
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
				   gmem_populate_part_waiting);
}

int gmem_vm_populate_all(struct gmem_vm *vm)
{
	u64 nr_pages = 0;

	lockdep_assert_held(&vm->lock);
	return gmem_range_for_each(vm, 0, vm->max_gfn, &nr_pages,
				   gmem_populate_part_waiting);
}

/* The binding that has all of the range, or NULL. */
static struct gmem_binding *gmem_binding_around(struct gmem_vm *vm,
						unsigned long first,
						unsigned long last)
{
	unsigned long next = first;
	struct gmem_binding *b = gmem_binding_next(vm, &next, last);

	if (!b || gmem_binding_gfn(b, b->first) > first ||
	    gmem_binding_gfn(b, b->last) < last)
		return NULL;
	return b;
}

int gmem_vm_widen_to_binding(struct gmem_vm *vm, unsigned long *first,
			     unsigned long *last, u32 flags)
{
	struct gmem_binding *b = gmem_binding_around(vm, *first, *last);

	lockdep_assert_held(&vm->lock);
	if (!b)
		return -ENOENT;
	if (b->flags != flags)
		return -EINVAL;
	*first = gmem_binding_gfn(b, b->first);
	*last = gmem_binding_gfn(b, b->last);
	return 0;
}

int gmem_vm_widen_lent(struct gmem_vm *vm, unsigned long *first,
		       unsigned long *last)
{
	struct gmem_binding *b = gmem_binding_around(vm, *first, *last);
	unsigned long pages;

	lockdep_assert_held(&vm->lock);
	if (!b)
		return -ENOENT;
	if (!gmem_binding_lent(b))
		return -EINVAL;
	pages = 1UL << b->mem->order;
	*first = round_down(*first, pages);
	*last = round_up(*last + 1, pages) - 1;
	return 0;
}

/* A huge page may have small folios: the next try begins with its first page. */
static void gmem_populate_align(struct gmem_vm *vm, unsigned long first,
				u64 *nr_pages)
{
	unsigned long next = first + *nr_pages, gfn = next;
	struct gmem_binding *b = gmem_binding_next(vm, &gfn, next);
	u64 before;

	if (!b)
		return;
	before = gmem_binding_index(b, next) & ((1UL << b->mem->order) - 1);
	*nr_pages -= min(before, *nr_pages);
}

/* On failure, the page at @first + *nr_pages is the one that failed. */
static int gmem_populate_rest(struct gmem_vm *vm, unsigned long first,
			      unsigned long last, u64 *nr_pages)
{
	int err;

	if (gmem_vm_lock_killable(vm))
		return -EINTR;
	gmem_populate_align(vm, first, nr_pages);
	first += *nr_pages;
	if (!gmem_range_is_bound(vm, first, last))
		err = -ENOENT;
	else
		err = gmem_range_for_each(vm, first, last, nr_pages,
					  gmem_populate_part);
	mutex_unlock(&vm->lock);
	return err;
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
	do {
		err = gmem_populate_rest(vm, first, last, &range->nr_pages);
	} while (err == -EINPROGRESS &&
		 !(err = gmem_fault_wait_at(vm, first + range->nr_pages)));
	return err;
}
