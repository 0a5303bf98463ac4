/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_WINDOW_H
#define _GMEM_WINDOW_H

#include <linux/bits.h>
#include <linux/fs.h>
#include <linux/gmem.h>
#include <linux/mm_types.h>
#include <linux/types.h>

#include "fault.h"

struct folio;
struct gmem_vm;
struct mem_cgroup;
struct mm_struct;
struct vm_area_struct;
struct vm_fault;

#define GMEM_WINDOW_ADDR_BITS 52
/* KVM can withhold write access, but neither read nor execute. */
#define GMEM_WINDOW_MAP_ACCESS						\
	(BIT(GMEM_ACCESS_READ | GMEM_ACCESS_EXEC) |			\
	 BIT(GMEM_ACCESS_READ | GMEM_ACCESS_WRITE | GMEM_ACCESS_EXEC))

/* The access that a fault stands for: a bit of &enum gmem_access. */
u32 gmem_window_access(const struct vm_fault *vmf);

/* May the new mapping be a window of guest pages? 0 or an errno. */
int gmem_window_check(const struct gmem_vm *vm, struct vm_area_struct *vma);

/*
 * mprotect() can't give write access. A page may be mapped by now whose binding
 * allows none; and KVM can't resolve an entry that stays read-only because it
 * was made before.
 */
int gmem_window_mprotect(struct vm_area_struct *vma, unsigned long start,
			 unsigned long end, unsigned long newflags);

/* The fault that called provides: the window's page table entry comes next. */
int gmem_window_provide(struct gmem_vm *vm, unsigned long gfn,
			struct folio *folio, u32 map_flags);

/*
 * For the file of a mapping that keeps nothing but the VM's file: that is its
 * private data. Without mmap: with that of the VM's file, remap_file_pages()
 * would map other parts of the guest, without the VM's descriptor.
 */
extern const struct file_operations gmem_window_fops;

/*
 * How long may the handler of a window sleep with the mmap lock or the lock of the
 * VMA, for which others of the process wait? A second try waits for a piece, so
 * that each fault comes to its end beside a long operation.
 */
enum gmem_patience gmem_window_patience(const struct vm_fault *vmf);
/*
 * A handler got -EAGAIN or -EINPROGRESS: drop the lock, sleep by @wait, and let the fault be made
 * again. Neither VMA nor VM may be touched after that. @access refers to what the
 * file of the VMA holds.
 */
vm_fault_t gmem_window_retry(struct vm_fault *vmf,
			     struct gmem_guest_access *access,
			     int (*wait)(struct gmem_guest_access *access));

struct gmem_window_charge {
	struct mem_cgroup *memcg;
	struct mem_cgroup *old_memcg;
};

/*
 * Between the two, allocations are charged to the VMM. A thread of the kernel
 * may have the fault: a vhost worker, or an asynchronous fault of KVM.
 */
void gmem_window_charge(struct gmem_window_charge *charge,
			struct mm_struct *mm);
void gmem_window_uncharge(struct gmem_window_charge *charge);

#endif /* _GMEM_WINDOW_H */
