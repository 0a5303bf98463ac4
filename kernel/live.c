// SPDX-License-Identifier: GPL-2.0-only
/*
 * The live kind of window: one PFN mapping of the guest's address space.
 *
 * Its fault handler looks up the binding and inserts the page frame, so binding
 * and unbinding need no second call. The mapping stands in the reverse map of
 * the VM's own inode, at the guest frame number. A zap there takes pages from
 * this guest alone; other guests that share them notice nothing. The kernel lets
 * nobody pin a page of a PFN mapping.
 *
 * A page table entry holds no reference to its page. A page is freed only after
 * its file lost it, and that needs the folio lock and the invalidate lock. So
 * the handler inserts under both, and everything that takes a page from the
 * guest zaps under one of them: a range under the invalidate lock, held for
 * writing, and a single folio under its lock.
 *
 * KVM looks for the entry, resolves a fault if there is none, and looks again. If
 * the host takes the page back in between, KVM_RUN would fail for no reason. So
 * the handler drops the mmap lock itself, and KVM then starts with the first
 * look again.
 *
 * That isn't enough for two vCPUs: the handler isn't called if another task
 * inserts the entry after the first look. KVM holds the mmap lock for reading from
 * the first look to the second. So where a page may go again at once, the handler
 * inserts with the mmap lock held for writing. This is slower where many vCPUs
 * have faults at once, so a VM does it only for a second after it has lost a page.
 * A VMM with a window descriptor doesn't see the VM's refused accesses, and
 * can't distinguish such a failure from a refusal. For such a VMM, the handler
 * always inserts in this way.
 *
 * KVM before 6.13 takes a reference to the very page, which fails for the tail
 * pages of a huge folio. There, a live VM takes only guestmems without huge
 * pages.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gmem_netlink.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/userfaultfd_k.h>

#include "compat.h"
#include "fault.h"
#include "file.h"
#include "folio.h"
#include "live.h"
#include "numa.h"
#include "objects.h"
#include "provider.h"
#include "wait.h"
#include "window.h"

/**
 * struct gmem_live - provider_data of a live VM
 * @lost: when the guest last lost a page, in jiffies
 * @no_memory: an insertion alone found no memory; see gmem_live_fault_again()
 */
struct gmem_live {
	unsigned long lost;
	bool no_memory;
};

/**
 * struct gmem_live_fault - a fault in a live window
 * @access: what the guest wants
 * @vmf: the fault
 * @huge: insert a PMD
 * @ret: what the insertion returned
 */
struct gmem_live_fault {
	struct gmem_guest_access access;
	struct vm_fault *vmf;
	bool huge;
	vm_fault_t ret;
};

static struct gmem_vm *gmem_live_vm(const struct vm_area_struct *vma)
{
	struct file *vm_file = vma->vm_file->private_data;

	return vm_file->private_data;
}

static unsigned long gmem_live_pfn(struct folio *folio, pgoff_t index)
{
	return page_to_pfn(folio_file_page(folio, index));
}

static vm_fault_t gmem_live_insert_page(struct vm_fault *vmf, unsigned long pfn,
					bool writable)
{
	vm_flags_t flags = vmf->vma->vm_flags;

	/* Another task was faster: the entry is a leaf by now. */
	if (pmd_leaf(pmdp_get_lockless(vmf->pmd)))
		return VM_FAULT_NOPAGE;
	if (!writable)
		flags &= ~VM_WRITE;
	return vmf_insert_pfn_prot(vmf->vma, vmf->address, pfn,
				   vm_get_page_prot(flags));
}

static vm_fault_t gmem_live_insert_huge(struct vm_fault *vmf,
					struct folio *folio, bool writable)
{
	pmd_t pmd = pmdp_get_lockless(vmf->pmd);

	if (folio_order(folio) != HPAGE_PMD_ORDER || gmem_folio_broken(folio))
		return VM_FAULT_FALLBACK;
	/* A page table stays where one is, even if it is empty. */
	if (!pmd_none(pmd) && !pmd_leaf(pmd))
		return VM_FAULT_FALLBACK;
	return gmem_insert_pfn_pmd(vmf, folio_pfn(folio), writable);
}

/* The folio lock orders this against all that take the page away. */
static void gmem_live_insert(struct gmem_guest_access *access,
			     const struct gmem_binding *b, struct folio *folio)
{
	struct gmem_live_fault *fault =
		container_of(access, struct gmem_live_fault, access);
	struct vm_fault *vmf = fault->vmf;
	bool writable = (vmf->vma->vm_flags & VM_WRITE) &&
			(b->flags & GMEM_MAP_ALLOW_WRITE);

	/* The first test drops the call where the kernel has no such entries. */
	if (gmem_live_takes_huge() && fault->huge)
		fault->ret = gmem_live_insert_huge(vmf, folio, writable);
	else
		fault->ret = gmem_live_insert_page(vmf,
						   gmem_live_pfn(folio,
								 access->index),
						   writable);
}

/*
 * The entry is in place, or the host has taken the page away again. If the mmap
 * lock was dropped, the caller looks for the entry once more, instead of failing
 * where it finds none. Without the lock, the VMA and the VM may go at any time.
 */
static vm_fault_t gmem_live_done(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY) ||
	    (vmf->flags & (FAULT_FLAG_RETRY_NOWAIT | FAULT_FLAG_VMA_LOCK)))
		return VM_FAULT_NOPAGE;
	mmap_read_unlock(vmf->vma->vm_mm);
	return VM_FAULT_COMPLETED | VM_FAULT_NOPAGE;
}

/*
 * The flags of the fault that gmem_live_insert_alone() makes. No other caller
 * combines them so.
 */
#define GMEM_LIVE_ALONE FAULT_FLAG_RETRY_NOWAIT

static bool gmem_live_is_alone(const struct vm_fault *vmf)
{
	return (vmf->flags & (FAULT_FLAG_ALLOW_RETRY |
			      FAULT_FLAG_RETRY_NOWAIT)) == GMEM_LIVE_ALONE;
}

/* May another task's entry go before a task that has found it looks again? */
static bool gmem_live_must_be_alone(const struct vm_fault *vmf)
{
	const struct file *file = vmf->vma->vm_file;
	struct gmem_live *live = gmem_live_vm(vmf->vma)->provider_data;

	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY) ||
	    (vmf->flags & FAULT_FLAG_RETRY_NOWAIT))
		return false;
	/* A window descriptor has other operations. */
	if (file->f_op == &gmem_window_fops &&
	    !time_before(jiffies, READ_ONCE(live->lost) + HZ))
		return false;
	return !xchg(&live->no_memory, false);
}

/*
 * Afterwards no TLB has the pages, even if munmap() by another thread of the VMM
 * has cleared the entries and not flushed yet. munmap() flushes PFN mappings
 * before it takes them from the reverse map. So the zap either finds the mapping,
 * and flushes since munmap() has announced a flush (mm_tlb_flush_nested()), or
 * munmap() has flushed.
 */
static void gmem_live_zap(struct gmem_vm *vm, unsigned long gfn,
			  unsigned long nr)
{
	struct gmem_live *live = vm->provider_data;

	WRITE_ONCE(live->lost, jiffies);
	gmem_unmap_pages(vm->inode->i_mapping, gfn, nr, false);
}

/* The mmap lock is held for writing, and the mapping may have changed. */
static void gmem_live_fault_again(struct mm_struct *mm, const struct file *file,
				  unsigned long address, unsigned int flags)
{
	struct vm_area_struct *vma = vma_lookup(mm, address);

	/* No other mapping understands these flags. */
	if (!vma || vma->vm_file != file || userfaultfd_wp(vma))
		return;
	if (fixup_user_fault(mm, address, flags, NULL) == -ENOMEM) {
		struct gmem_live *live = gmem_live_vm(vma)->provider_data;

		/* The next fault isn't alone, so that it can report the error. */
		WRITE_ONCE(live->no_memory, true);
	}
}

/*
 * Insert while no other task is between its two looks at the page tables. The
 * page has been provided. Without the mmap lock no error can be returned: the
 * caller meets it when it looks again. The file keeps the VM and this code.
 */
static vm_fault_t gmem_live_insert_alone(struct vm_fault *vmf)
{
	unsigned int flags = GMEM_LIVE_ALONE |
			     (vmf->flags & (FAULT_FLAG_WRITE |
					    FAULT_FLAG_INSTRUCTION |
					    FAULT_FLAG_REMOTE));
	struct file *file = get_file(vmf->vma->vm_file);
	struct mm_struct *mm = vmf->vma->vm_mm;
	unsigned long address = vmf->address;
	vm_fault_t ret = VM_FAULT_RETRY;

	mmap_read_unlock(mm);
	if (!mmap_write_lock_killable(mm)) {
		gmem_live_fault_again(mm, file, address, flags);
		mmap_write_unlock(mm);
		ret = VM_FAULT_COMPLETED | VM_FAULT_NOPAGE;
	}
	fput(file);
	return ret;
}

/*
 * If a try dropped the mmap lock, fixup_user_fault() reports that, even if a later
 * try failed. KVM then begins with its first look. So a refusal doesn't count there.
 */
static bool gmem_live_starts_anew(const struct vm_fault *vmf)
{
	return (vmf->flags & FAULT_FLAG_TRIED) &&
	       !(vmf->flags & (FAULT_FLAG_USER | FAULT_FLAG_INTERRUPTIBLE));
}

static int gmem_live_wait(struct gmem_guest_access *access)
{
	gmem_wait(access->vm, access->gfn, access->access,
		  access->interruptible);
	return 0;
}

/*
 * Nothing is bound there, and the VM waits instead of refusing. Once the mmap lock is
 * dropped, a handler can't return an error. So a wait ends in another fault, and
 * each refusal is decided here, before a wait.
 *
 * A signal that is handled ends the wait of a user instruction, which then runs
 * again. The kernel's own user copies go on where they were, so only a fatal signal
 * ends these. fixup_user_fault(), which KVM_RUN uses, looks for no other signal
 * either, but comes to its end with an error.
 */
static vm_fault_t gmem_live_absent(struct vm_fault *vmf,
				   struct gmem_guest_access *access)
{
	bool is_user = vmf->flags & FAULT_FLAG_USER;
	bool is_fixup = !is_user && !(vmf->flags & FAULT_FLAG_INTERRUPTIBLE);
	struct gmem_vm *vm = access->vm;
	enum gmem_fault_reason reason = 0;

	access->interruptible = is_user || (is_fixup && vm->wait.signals);
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY) ||
	    gmem_wait_refuses(vm, access->gfn))
		reason = GMEM_FAULT_UNBOUND;
	else if (is_fixup && access->interruptible && signal_pending(current))
		reason = GMEM_FAULT_INTERRUPTED;
	if (!reason)
		return gmem_window_retry(vmf, access, gmem_live_wait);
	if (!access->recorded)
		gmem_fault_refuse(vm, access->gfn, access->access, reason);
	return VM_FAULT_SIGBUS;
}

static vm_fault_t gmem_live_resolve(struct vm_fault *vmf, bool huge)
{
	struct gmem_vm *vm = gmem_live_vm(vmf->vma);
	bool must_be_alone = gmem_live_must_be_alone(vmf);
	bool is_alone = gmem_live_is_alone(vmf);
	struct gmem_live_fault fault = {
		.access = {
			.vm = vm,
			.gfn = vmf->pgoff,
			.access = gmem_window_access(vmf),
			.recorded = is_alone || gmem_live_starts_anew(vmf),
			.defers = vm->wait.on,
			.patience = is_alone ? GMEM_WAIT_PIECE :
					       gmem_window_patience(vmf),
			.map = must_be_alone ? NULL : gmem_live_insert,
		},
		.vmf = vmf,
		.huge = huge,
	};
	struct gmem_window_charge charge;
	int err;

	/*
	 * Write protection by userfaultfd leaves markers, over which no entry is
	 * inserted: the fault would repeat for ever.
	 */
	if (userfaultfd_wp(vmf->vma)) {
		gmem_fault_refuse(vm, vmf->pgoff, fault.access.access,
				  GMEM_FAULT_PROVIDER);
		return VM_FAULT_SIGBUS;
	}
	if (must_be_alone && (vmf->flags & FAULT_FLAG_VMA_LOCK)) {
		vma_end_read(vmf->vma);
		return VM_FAULT_RETRY;
	}
	gmem_window_charge(&charge, vmf->vma->vm_mm);
	err = gmem_fault_resolve(&fault.access);
	gmem_window_uncharge(&charge);
	if (!err && (fault.ret & VM_FAULT_OOM) && !fault.access.recorded)
		err = gmem_fault_refuse(vm, vmf->pgoff, fault.access.access,
					GMEM_FAULT_NOMEM);
	if (err == -EHWPOISON)
		return VM_FAULT_HWPOISON;
	if (err == -ENOENT && fault.access.defers)
		return gmem_live_absent(vmf, &fault.access);
	if ((err == -EAGAIN || err == -EINPROGRESS) && !is_alone)
		return gmem_window_retry(vmf, &fault.access,
					 gmem_fault_resolve_wait);
	if (err)
		return VM_FAULT_SIGBUS;
	if (must_be_alone)
		return gmem_live_insert_alone(vmf);
	if (fault.ret == VM_FAULT_NOPAGE)
		return gmem_live_done(vmf);
	return fault.ret;
}

static vm_fault_t gmem_live_fault(struct vm_fault *vmf)
{
	return gmem_live_resolve(vmf, false);
}

/* May a PMD stand where the fault is? */
static bool gmem_live_suits_huge(struct vm_fault *vmf)
{
	unsigned long addr = vmf->address & HPAGE_PMD_MASK;
	struct gmem_vm *vm = gmem_live_vm(vmf->vma);
	struct gmem_binding *b;
	bool huge;

	/* The frame numbers of host and guest are equal modulo a huge page. */
	if (((vmf->address >> PAGE_SHIFT) ^ vmf->pgoff) & (HPAGE_PMD_NR - 1))
		return false;
	if (addr < vmf->vma->vm_start ||
	    addr + HPAGE_PMD_SIZE > vmf->vma->vm_end)
		return false;

	rcu_read_lock();
	b = mtree_load(&vm->bindings, vmf->pgoff);
	huge = b && b->mem->order == HPAGE_PMD_ORDER;
	rcu_read_unlock();
	return huge;
}

static vm_fault_t gmem_live_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	if (!gmem_live_takes_huge() || order != HPAGE_PMD_ORDER ||
	    !gmem_live_suits_huge(vmf))
		return VM_FAULT_FALLBACK;
	return gmem_live_resolve(vmf, true);
}

/*
 * A write to an entry without write access. With this method the kernel makes no
 * entry writable by itself. The next fault decides.
 */
static vm_fault_t gmem_live_pfn_mkwrite(struct vm_fault *vmf)
{
	gmem_live_zap(gmem_live_vm(vmf->vma), vmf->pgoff, 1);
	return gmem_live_done(vmf);
}

/* With this method, the kernel calls ->fault under the lock of the VMA alone. */
static vm_fault_t gmem_live_map_pages(struct vm_fault *vmf, pgoff_t first,
				      pgoff_t last)
{
	return 0;
}

static const struct vm_operations_struct gmem_live_vm_ops = {
	.mprotect = gmem_window_mprotect,
	.fault = gmem_live_fault,
	.huge_fault = gmem_live_huge_fault,
	.map_pages = gmem_live_map_pages,
	.pfn_mkwrite = gmem_live_pfn_mkwrite,
	GMEM_NUMA_VM_OPS(gmem_numa_no_policy)
};

static void gmem_live_set_window(struct vm_area_struct *vma)
{
	/* A child that had the mapping could get frames that it never loses. */
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND |
		     VM_DONTDUMP);
	vma->vm_ops = &gmem_live_vm_ops;
}

static int gmem_live_mmap(struct gmem_vm *vm, struct vm_area_struct *vma)
{
	struct file *file;
	int err;

	err = gmem_window_check(vm, vma);
	if (err)
		return err;
	file = gmem_file_create(file_inode(vm->file), vm->file->f_path.mnt,
				"[gmem-window]", O_RDWR, &gmem_window_fops);
	if (IS_ERR(file))
		return PTR_ERR(file);
	file->private_data = get_file(vm->file);

	gmem_live_set_window(vma);
	vma_set_file(vma, file);
	fput(file);
	return 0;
}

static int gmem_live_vm_init(struct gmem_vm *vm)
{
	struct gmem_live *live;

	live = kzalloc(sizeof(*live), GFP_KERNEL_ACCOUNT);
	if (!live)
		return -ENOMEM;
	live->lost = jiffies - HZ;
	vm->provider_data = live;
	return 0;
}

static bool gmem_live_vm_release(struct gmem_vm *vm, bool wait)
{
	kfree(vm->provider_data);
	return true;
}

static bool gmem_live_vm_detail(struct gmem_vm *vm, unsigned int index,
				struct gmem_vm_detail *detail)
{
	if (index || !vm->wait.on)
		return false;
	*detail = (struct gmem_vm_detail){ "waiters", gmem_wait_count(vm) };
	return true;
}

static int gmem_live_bind(struct gmem_vm *vm, const struct gmem_mem *mem,
			  u32 flags)
{
	return mem->order && !gmem_live_takes_huge() ? -EOPNOTSUPP : 0;
}

static int gmem_live_reclaim(struct gmem_vm *vm, unsigned long gfn,
			     struct folio *folio, bool sanitize)
{
	gmem_live_zap(vm, gfn, folio_nr_pages(folio));
	return 0;
}

/* Faults insert under the invalidate lock, so this zap is final. */
static bool gmem_live_reclaim_begin(struct gmem_vm *vm, unsigned long gfn,
				    struct address_space *mapping,
				    pgoff_t first, pgoff_t last, bool sanitize)
{
	gmem_live_zap(vm, gfn, last - first + 1);
	return true;
}

const struct gmem_provider gmem_live_provider = {
	.name = "window",
	.flags = GMEM_PROVIDER_SHARE_MULTI | GMEM_PROVIDER_WINDOW,
	.window_kind = GMEM_WINDOW_KIND_LIVE,
	.max_guest_addr_bits = GMEM_WINDOW_ADDR_BITS,
	.map_access = GMEM_WINDOW_MAP_ACCESS,
	/* Windows hold the VM. */
	.ends_with_vm = true,
	.on_demand = true,
	.vm_detail = gmem_live_vm_detail,
	.vm_init = gmem_live_vm_init,
	.vm_release = gmem_live_vm_release,
	.mmap = gmem_live_mmap,
	.set_window = gmem_live_set_window,
	.bind = gmem_live_bind,
	.provide = gmem_window_provide,
	.reclaim = gmem_live_reclaim,
	.reclaim_begin = gmem_live_reclaim_begin,
	.zap = gmem_live_zap,
};
