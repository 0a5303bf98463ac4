// SPDX-License-Identifier: GPL-2.0-only
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "objects.h"
#include "registry.h"

/*
 * A reader that holds this lock waits for nothing, so a writer, at the end of a
 * VM, doesn't wait for long.
 */
static DECLARE_RWSEM(gmem_registry_rwsem);

static DEFINE_XARRAY_FLAGS(gmem_registry_vms, XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
static u32 gmem_registry_next_vm_id;
/*
 * Generations: writers release after a change, readers acquire before a look.
 */
static atomic_t gmem_registry_vms_gen;

static DEFINE_XARRAY_FLAGS(gmem_registry_mems,
			   XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
static u32 gmem_registry_next_ino;
static atomic_t gmem_registry_mems_gen;

/* Views, or window descriptors; their numbers begin with 1. */
struct gmem_registry_descriptors {
	struct xarray all;
	u32 next_id;
	atomic_t gen;
};

#define GMEM_REGISTRY_DESCRIPTORS(name)					\
	struct gmem_registry_descriptors name = {			\
		.all = XARRAY_INIT(name.all,				\
				   XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT),	\
	}

static GMEM_REGISTRY_DESCRIPTORS(gmem_registry_views);
static GMEM_REGISTRY_DESCRIPTORS(gmem_registry_windows);

/*
 * Cyclic: a number that somebody remembers shouldn't soon stand for another VM.
 */
int gmem_registry_add_vm(struct gmem_vm *vm)
{
	int err;

	/* The id must be there before others see the VM. */
	err = xa_alloc_cyclic(&gmem_registry_vms, &vm->id, NULL,
			      XA_LIMIT(1, INT_MAX), &gmem_registry_next_vm_id,
			      GFP_KERNEL);
	if (err < 0)
		return err;
	xa_store(&gmem_registry_vms, vm->id, vm, GFP_KERNEL);
	atomic_inc_return_release(&gmem_registry_vms_gen);
	return 0;
}

void gmem_registry_remove_vm(struct gmem_vm *vm)
{
	down_write(&gmem_registry_rwsem);
	xa_erase(&gmem_registry_vms, vm->id);
	atomic_inc_return_release(&gmem_registry_vms_gen);
	up_write(&gmem_registry_rwsem);
}

void gmem_registry_lock_vms(void)
{
	down_read(&gmem_registry_rwsem);
}

void gmem_registry_unlock_vms(void)
{
	up_read(&gmem_registry_rwsem);
}

struct gmem_vm *gmem_registry_next_vm(u32 id)
{
	unsigned long index = id;

	lockdep_assert_held(&gmem_registry_rwsem);
	return xa_find(&gmem_registry_vms, &index, ULONG_MAX, XA_PRESENT);
}

struct gmem_vm *gmem_registry_find_vm(u32 id)
{
	lockdep_assert_held(&gmem_registry_rwsem);
	return xa_load(&gmem_registry_vms, id);
}

int gmem_registry_add_mem(struct gmem_mem *mem)
{
	u32 ino;
	int err;

	/* The root directory is number 1. */
	err = xa_alloc_cyclic(&gmem_registry_mems, &ino, NULL,
			      XA_LIMIT(2, UINT_MAX), &gmem_registry_next_ino,
			      GFP_KERNEL);
	if (err < 0)
		return err;
	mem->inode.i_ino = ino;
	xa_store(&gmem_registry_mems, ino, mem, GFP_KERNEL);
	atomic_inc_return_release(&gmem_registry_mems_gen);
	return 0;
}

void gmem_registry_remove_mem(struct gmem_mem *mem)
{
	xa_erase(&gmem_registry_mems, mem->inode.i_ino);
	atomic_inc_return_release(&gmem_registry_mems_gen);
}

/*
 * Fill @info from the counts, not from the pages. RCU is enough to keep @mem.
 */
static void gmem_mem_peek(const struct gmem_mem *mem,
			  struct gmem_mem_info *info)
{
	loff_t size = i_size_read(&mem->inode);
	u64 present = READ_ONCE(mem->inode.i_mapping->nrpages);

	/*
	 * The counts are read one after the other. A page that changes its
	 * state meanwhile must not count twice.
	 */
	present = min_t(u64, present, size >> PAGE_SHIFT);
	info->absent = (size >> PAGE_SHIFT) - present;
	info->leaked = min_t(u64, READ_ONCE(mem->nr_leaked), present);
	present -= info->leaked;
	info->lent = min_t(u64, READ_ONCE(mem->nr_lent), present);
	present -= info->lent;
	info->shared = min_t(u64, READ_ONCE(mem->nr_shared), present);
	info->host = present - info->shared;
	info->id = mem->inode.i_ino;
	info->size = size;
	info->page_size = PAGE_SIZE << mem->order;
	memcpy(info->name, mem->name, sizeof(info->name));
}

bool gmem_registry_next_mem(u64 id, struct gmem_mem_info *info)
{
	unsigned long index = id;
	struct gmem_mem *mem;

	rcu_read_lock();
	mem = xa_find(&gmem_registry_mems, &index, ULONG_MAX, XA_PRESENT);
	if (mem)
		gmem_mem_peek(mem, info);
	rcu_read_unlock();
	return mem;
}

static int gmem_registry_add(struct gmem_registry_descriptors *r,
			     struct gmem_descriptor *d)
{
	u32 id;
	int err;

	err = xa_alloc_cyclic(&r->all, &id, NULL, XA_LIMIT(1, INT_MAX),
			      &r->next_id, GFP_KERNEL);
	if (err < 0)
		return err;
	d->id = id;
	xa_store(&r->all, id, d, GFP_KERNEL);
	atomic_inc_return_release(&r->gen);
	return 0;
}

static void gmem_registry_remove(struct gmem_registry_descriptors *r,
				 struct gmem_descriptor *d)
{
	xa_erase(&r->all, d->id);
	atomic_inc_return_release(&r->gen);
}

static const struct gmem_descriptor *
gmem_registry_next(struct gmem_registry_descriptors *r, u32 id)
{
	unsigned long index = id;

	return xa_find(&r->all, &index, ULONG_MAX, XA_PRESENT);
}

int gmem_registry_add_view(struct gmem_view *view)
{
	return gmem_registry_add(&gmem_registry_views, &view->d);
}

void gmem_registry_remove_view(struct gmem_view *view)
{
	gmem_registry_remove(&gmem_registry_views, &view->d);
}

struct gmem_view *gmem_registry_get_view(u32 id)
{
	struct gmem_descriptor *d;

	rcu_read_lock();
	d = xa_load(&gmem_registry_views.all, id);
	if (d && !refcount_inc_not_zero(&d->refs))
		d = NULL;
	rcu_read_unlock();
	return d ? container_of(d, struct gmem_view, d) : NULL;
}

bool gmem_registry_next_view(u32 id, struct gmem_view_info *info)
{
	const struct gmem_descriptor *d;
	const struct gmem_view *view;

	rcu_read_lock();
	d = gmem_registry_next(&gmem_registry_views, id);
	if (d) {
		view = container_of(d, struct gmem_view, d);
		info->id = d->id;
		/* Like the view, the inode outlives the RCU section. */
		info->mem_id = view->mem->inode.i_ino;
		info->offset = (u64)d->first << PAGE_SHIFT;
		info->length = gmem_descriptor_length(d);
		info->flags = d->flags;
		info->revoked = READ_ONCE(view->revoked);
		info->pid = d->pid;
		strscpy(info->name, d->name, sizeof(info->name));
	}
	rcu_read_unlock();
	return d;
}

int gmem_registry_add_window(struct gmem_window_desc *window)
{
	return gmem_registry_add(&gmem_registry_windows, &window->d);
}

void gmem_registry_remove_window(struct gmem_window_desc *window)
{
	gmem_registry_remove(&gmem_registry_windows, &window->d);
}

bool gmem_registry_next_window(u32 id, struct gmem_window_info *info)
{
	const struct gmem_descriptor *d;
	const struct gmem_window_desc *window;

	rcu_read_lock();
	d = gmem_registry_next(&gmem_registry_windows, id);
	if (d) {
		window = container_of(d, struct gmem_window_desc, d);
		info->id = d->id;
		info->vm_id = window->vm_id;
		info->guest_addr = (u64)d->first << PAGE_SHIFT;
		info->length = gmem_descriptor_length(d);
		info->flags = d->flags;
		info->pid = d->pid;
		strscpy(info->name, d->name, sizeof(info->name));
	}
	rcu_read_unlock();
	return d;
}

u32 gmem_registry_vms_generation(void)
{
	return atomic_read_acquire(&gmem_registry_vms_gen);
}

u32 gmem_registry_mems_generation(void)
{
	return atomic_read_acquire(&gmem_registry_mems_gen);
}

u32 gmem_registry_views_generation(void)
{
	return atomic_read_acquire(&gmem_registry_views.gen);
}

u32 gmem_registry_windows_generation(void)
{
	return atomic_read_acquire(&gmem_registry_windows.gen);
}
