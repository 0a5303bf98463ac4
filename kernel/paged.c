// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paged kind of window: ordinary mappings of the guestmems that are bound.
 *
 * KVM turns one memslot over a window into the guest's memory and follows it
 * through its MMU notifier. A window onto a binding is a mapping of the guestmem
 * file itself, with fault handling of its own. So it stands in the file's
 * reverse map: zapping a page's mappings, truncation and memory failure reach
 * windows like any mapping, and a huge folio is mapped by a PMD.
 *
 * Where nothing is bound, the window is a mapping of a file that never maps
 * anything. It has VM_IO: in other mappings, KVM with an in-kernel interrupt
 * controller treats a failing fault as one that needs I/O, and retries instead
 * of telling the VMM. Windows onto bindings can't have VM_IO: with it, KVM
 * looks for the page after the fault, and fails if the page has just been taken
 * back.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gmem_netlink.h>
#include <linux/interval_tree_generic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/path.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "binding.h"
#include "fault.h"
#include "file.h"
#include "folio.h"
#include "lend.h"
#include "live.h"
#include "numa.h"
#include "objects.h"
#include "paged.h"
#include "provider.h"
#include "touch.h"
#include "window.h"

/* Long enough to cost nothing; short, because a teardown waits for it. */
#define GMEM_WINDOW_PAUSE (HZ / 10)
/* More refusals in a second mean that a vCPU repeats its access. */
#define GMEM_WINDOW_OFTEN 100

/**
 * struct gmem_window - what a window onto a binding remembers of it
 * @vm_file: the VM, held for as long as the window stands
 * @mem_path: the guestmem, held, too
 * @gfn_delta: as in &struct gmem_binding
 * @refused: the number of refusals in a time
 *
 * Lifetime: that of a file which only the VMAs of one mmap() refer to. Were it the
 * binding's file, remap_file_pages() would map other parts of that, for the host.
 * Its f_mapping alone is that of the guestmem: inotify would report the end of a
 * file of the guestmem's inode to all who watch the guestmem.
 */
struct gmem_window {
	struct file *vm_file;
	struct path mem_path;
	unsigned long gfn_delta;
	struct ratelimit_state refused;
};

static vm_fault_t gmem_window_hole_fault(struct vm_fault *vmf)
{
	struct file *vm_file = vmf->vma->vm_file->private_data;
	struct gmem_vm *vm = vm_file->private_data;
	bool bound;

	rcu_read_lock();
	bound = mtree_load(&vm->bindings, vmf->pgoff);
	rcu_read_unlock();

	gmem_fault_refuse(vm, vmf->pgoff, gmem_window_access(vmf),
			  bound ? GMEM_FAULT_STALE : GMEM_FAULT_UNBOUND);
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct gmem_window_hole_vm_ops = {
	.mprotect = gmem_window_mprotect,
	.fault = gmem_window_hole_fault,
	GMEM_NUMA_VM_OPS(gmem_numa_no_policy)
};

/*
 * On x86 with an interrupt controller, KVM treats a refused page as one that
 * needs I/O. The vCPU waits; a kernel thread of KVM's, which has no memory of
 * its own, faults the page in for it; then the vCPU repeats its access. All
 * this goes on for as long as the page is refused.
 */
static bool gmem_window_kvm_worker(void)
{
	return (current->flags & PF_KTHREAD) && !current->mm;
}

/*
 * Is a refused access going to be repeated at once? KVM's kernel thread asks for
 * write access, so it never gets into a window without that. There, only the
 * number of refusals tells.
 */
static bool gmem_window_spins(const struct vm_fault *vmf,
			      struct gmem_window *window)
{
	if (gmem_window_kvm_worker())
		return true;
	return !(vmf->vma->vm_flags & VM_WRITE) &&
	       !(vmf->flags & FAULT_FLAG_USER) &&
	       !__ratelimit(&window->refused);
}

static bool gmem_window_may_pause(const struct vm_fault *vmf)
{
	return fault_flag_allow_retry_first(vmf->flags) &&
	       !(vmf->flags & FAULT_FLAG_RETRY_NOWAIT);
}

/* Let time pass before the next try, so that the tries don't take a CPU. */
static vm_fault_t gmem_window_pause(struct vm_fault *vmf)
{
	/* Without the lock, VMA and VM may go. This keeps the module. */
	struct file *file = get_file(vmf->vma->vm_file);

	release_fault_lock(vmf);
	schedule_timeout_interruptible(GMEM_WINDOW_PAUSE);
	fput(file);
	return VM_FAULT_RETRY;
}

static vm_fault_t gmem_window_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct gmem_window *window = vma->vm_file->private_data;
	struct gmem_guest_access access = {
		.vm = window->vm_file->private_data,
		.gfn = vmf->pgoff + window->gfn_delta,
		.access = gmem_window_access(vmf),
		.inode = d_inode(window->mem_path.dentry),
		.index = vmf->pgoff,
		.writable = vma->vm_flags & VM_WRITE,
		.recorded = gmem_window_kvm_worker() &&
			    (vmf->flags & FAULT_FLAG_ALLOW_RETRY),
		.patience = gmem_window_patience(vmf),
	};
	struct gmem_window_charge charge;
	struct folio *folio;
	vm_fault_t ret;
	int err;

	gmem_window_charge(&charge, vma->vm_mm);
	err = gmem_fault_guest(&access, &folio);
	gmem_window_uncharge(&charge);

	if (!err) {
		ret = gmem_touch_hand_over(vmf, gmem_mem(access.inode), folio);
		if (ret == VM_FAULT_SIGBUS)
			gmem_fault_refuse(access.vm, access.gfn, access.access,
					  GMEM_FAULT_HWPOISON);
		return ret;
	}
	if (err == -EAGAIN || err == -EINPROGRESS)
		return gmem_window_retry(vmf, &access, gmem_fault_wait);
	if (gmem_window_may_pause(vmf) && gmem_window_spins(vmf, window))
		return gmem_window_pause(vmf);
	return err == -EHWPOISON ? VM_FAULT_HWPOISON : VM_FAULT_SIGBUS;
}

#ifdef CONFIG_NUMA
/* Is the binding still there that the window was made for? */
static bool gmem_window_is_bound(const struct vm_area_struct *vma,
				 const struct gmem_mem *mem)
{
	const struct gmem_window *window = vma->vm_file->private_data;
	struct gmem_vm *vm = window->vm_file->private_data;
	const struct gmem_binding *b;
	bool bound;

	rcu_read_lock();
	b = mtree_load(&vm->bindings, vma->vm_pgoff + window->gfn_delta);
	bound = b && b->mem == mem && b->gfn_delta == window->gfn_delta;
	rcu_read_unlock();
	return bound;
}

static int gmem_window_set_policy(struct vm_area_struct *vma,
				  struct mempolicy *policy)
{
	struct gmem_window *window = vma->vm_file->private_data;
	struct gmem_mem *mem = gmem_mem(d_inode(window->mem_path.dentry));

	if (!gmem_window_is_bound(vma, mem))
		return -EACCES;
	return gmem_numa_set_policy(mem, vma, policy);
}
#endif

static const struct vm_operations_struct gmem_window_vm_ops = {
	.mprotect = gmem_window_mprotect,
	.fault = gmem_window_fault,
	GMEM_NUMA_VM_OPS(gmem_window_set_policy)
};

static int gmem_piece_release(struct inode *inode, struct file *file)
{
	struct gmem_window *window = file->private_data;

	fput(window->vm_file);
	path_put(&window->mem_path);
	kfree(window);
	return 0;
}

/*
 * No mmap and no fallocate: remap_file_pages() and MADV_REMOVE would use them, on
 * pages that aren't bound.
 */
static const struct file_operations gmem_piece_fops = {
	.owner = THIS_MODULE,
	.release = gmem_piece_release,
};

/* Turn a new mapping of the VM file into one that never maps anything. */
static int gmem_window_onto_nothing(struct gmem_vm *vm,
				    struct vm_area_struct *vma)
{
	struct file *file;

	file = anon_inode_getfile("[gmem-window]", &gmem_window_fops,
				  vm->file, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	get_file(vm->file);

	vm_flags_set(vma, VM_IO);
	vma->vm_ops = &gmem_window_hole_vm_ops;
	vma_set_file(vma, file);
	fput(file);
	return 0;
}

/**
 * struct gmem_paged_bound - what is bound where a window shall be
 * @file: as in &struct gmem_binding, with a reference; NULL for nothing
 * @flags: the same
 * @gfn_delta: the same
 */
struct gmem_paged_bound {
	struct file *file;
	u32 flags;
	unsigned long gfn_delta;
};

/*
 * May one window show both? They are neighbours in the guest. A window depends on
 * write access alone; the other flags count when a fault looks up its page. An
 * unmap or a change in place cuts its binding for a moment, and nobody may notice
 * that.
 */
static bool gmem_paged_continues(const struct gmem_binding *b,
				 const struct gmem_binding *next)
{
	return next && next->mem == b->mem && next->gfn_delta == b->gfn_delta &&
	       !((READ_ONCE(next->flags) ^ READ_ONCE(b->flags)) &
		 GMEM_MAP_ALLOW_WRITE);
}

/*
 * Find what is bound at [@first, @last]; -EINVAL if only a part of it is bound,
 * or to bindings that don't continue each other; -EAGAIN if it is being unbound.
 * mmap() holds mmap_lock, and the owner of gmem_vm.lock may have it for long, so
 * RCU must do. A binding that goes by now leaves a window as one that goes a
 * moment later.
 */
static int gmem_paged_find(struct gmem_vm *vm, unsigned long first,
			   unsigned long last, struct gmem_paged_bound *bound)
{
	MA_STATE(mas, &vm->bindings, first, first);
	struct gmem_binding *b;
	int err = 0;

	bound->file = NULL;
	rcu_read_lock();
	b = gmem_binding_find_rcu(&mas, first, last);
	if (b && mas.index > first)
		err = -EINVAL;
	while (b && !err && mas.last < last)
		if (!gmem_paged_continues(b,
				gmem_binding_find_rcu(&mas, mas.last + 1,
						      mas.last + 1)))
			err = -EINVAL;
	if (b && !err) {
		bound->flags = READ_ONCE(b->flags);
		bound->gfn_delta = b->gfn_delta;
		bound->file = get_file_active(&b->file);
		if (!bound->file)
			err = -EAGAIN;
	}
	rcu_read_unlock();
	return err;
}

/* Turn a new mapping of the VM file into one of the guestmem that is bound. */
static int gmem_window_onto(struct gmem_vm *vm, struct vm_area_struct *vma,
			    const struct gmem_paged_bound *bound)
{
	struct gmem_window *window;
	struct file *file;

	if (!(bound->flags & GMEM_MAP_ALLOW_WRITE) &&
	    (vma->vm_flags & VM_WRITE))
		return -EACCES;

	window = kmalloc(sizeof(*window), GFP_KERNEL_ACCOUNT);
	if (!window)
		return -ENOMEM;
	file = gmem_file_create(file_inode(vma->vm_file),
				vma->vm_file->f_path.mnt, "[gmem-window]",
				O_RDWR, &gmem_piece_fops);
	if (IS_ERR(file)) {
		kfree(window);
		return PTR_ERR(file);
	}
	file->private_data = window;
	file->f_mapping = file_inode(bound->file)->i_mapping;
	window->vm_file = get_file(vm->file);
	window->mem_path = bound->file->f_path;
	path_get(&window->mem_path);
	window->gfn_delta = bound->gfn_delta;
	ratelimit_state_init(&window->refused, HZ, GMEM_WINDOW_OFTEN);
	ratelimit_set_flags(&window->refused, RATELIMIT_MSG_ON_RELEASE);

	vma->vm_ops = &gmem_window_vm_ops;
	vma->vm_pgoff -= bound->gfn_delta;
	vma_set_file(vma, file);
	fput(file);
	return 0;
}

static int gmem_paged_mmap(struct gmem_vm *vm, struct vm_area_struct *vma)
{
	unsigned long last = vma->vm_pgoff + vma_pages(vma) - 1;
	struct gmem_paged_bound bound;
	int err;

	err = gmem_window_check(vm, vma);
	if (err)
		return err;

	vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);

	while ((err = gmem_paged_find(vm, vma->vm_pgoff, last, &bound)) ==
	       -EAGAIN)
		cond_resched();
	if (err)
		return err;
	if (!bound.file)
		return gmem_window_onto_nothing(vm, vma);
	err = gmem_window_onto(vm, vma, &bound);
	fput(bound.file);
	return err;
}

/* The tree of the kernel's, whose own functions it doesn't export. */
#define GMEM_VMA_FIRST(vma) ((vma)->vm_pgoff)
#define GMEM_VMA_LAST(vma) ((vma)->vm_pgoff + vma_pages(vma) - 1)

INTERVAL_TREE_DEFINE(struct vm_area_struct, shared.rb, unsigned long,
		     shared.rb_subtree_last, GMEM_VMA_FIRST, GMEM_VMA_LAST,
		     static inline, gmem_vma)

/* Is a writable mapping a window of @vm onto pages [@first, @last]? */
static bool gmem_paged_is_writable(const struct gmem_vm *vm,
				   struct address_space *mapping, pgoff_t first,
				   pgoff_t last)
{
	const struct gmem_window *window;
	struct vm_area_struct *vma;
	bool found = false;

	i_mmap_lock_read(mapping);
	for (vma = gmem_vma_iter_first(&mapping->i_mmap, first, last);
	     vma && !found; vma = gmem_vma_iter_next(vma, first, last)) {
		if (vma->vm_ops != &gmem_window_vm_ops ||
		    !(vma->vm_flags & VM_WRITE))
			continue;
		window = vma->vm_file->private_data;
		found = window->vm_file->private_data == vm;
	}
	i_mmap_unlock_read(mapping);
	return found;
}

/*
 * Without write access in the mapping, KVM maps the page read-only. No module can
 * change a mapping of another process.
 */
static int gmem_paged_change(const struct gmem_binding *b, pgoff_t first,
			     pgoff_t last, u32 flags)
{
	if ((b->flags & ~flags & GMEM_MAP_ALLOW_WRITE) &&
	    gmem_paged_is_writable(b->vm, b->mem->inode.i_mapping, first, last))
		return -EOPNOTSUPP;
	return 0;
}

/*
 * A folio that isn't mapped may still be in a TLB: munmap() by another thread of
 * the VMM takes the mapping from the reverse map before it flushes. A zap doesn't
 * help, because that mapping is no longer there to be found. But munmap() holds a
 * reference to the folio until it has flushed. So wait until there is none, as
 * lending does. This isn't needed for KVM's guest: munmap() has taken the page
 * from KVM first of all. A pin holds a reference, too, and for long: munmap() has
 * flushed meanwhile.
 */
static int gmem_paged_reclaim(struct gmem_vm *vm, unsigned long gfn,
			      struct folio *folio, bool sanitize)
{
	if (folio_mapped(folio))
		gmem_unmap_pages(folio->mapping, folio->index,
				 folio_nr_pages(folio), false);
	if (gmem_folio_is(folio, GMEM_FOLIO_LENT))
		gmem_folio_settle(folio);
	return 0;
}

/*
 * One zap instead of many. Reclaim finds the pages that a fault maps after the
 * zap, because it has provided them before.
 */
static bool gmem_paged_reclaim_begin(struct gmem_vm *vm, unsigned long gfn,
				      struct address_space *mapping,
				      pgoff_t first, pgoff_t last,
				      bool sanitize)
{
	gmem_unmap_pages(mapping, first, last - first + 1, false);
	return false;
}

const struct gmem_provider gmem_paged_provider = {
	.name = "window",
	.flags = GMEM_PROVIDER_SHARE_MULTI | GMEM_PROVIDER_WINDOW,
	.window_kind = GMEM_WINDOW_KIND_PAGED,
	.max_guest_addr_bits = GMEM_WINDOW_ADDR_BITS,
	.map_access = GMEM_WINDOW_MAP_ACCESS,
	/* Windows hold the VM. */
	.ends_with_vm = true,
	.on_demand = true,
	.reclaims_all = true,
#ifdef CONFIG_X86_64
	.live = &gmem_live_provider,
#endif
	.mmap = gmem_paged_mmap,
	.change = gmem_paged_change,
	.provide = gmem_window_provide,
	.reclaim = gmem_paged_reclaim,
	.reclaim_begin = gmem_paged_reclaim_begin,
};
