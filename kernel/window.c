// SPDX-License-Identifier: GPL-2.0-only
/* The parts that both kinds of window need. */
#include <linux/file.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>

#include "fault.h"
#include "objects.h"
#include "window.h"

u32 gmem_window_access(const struct vm_fault *vmf)
{
	if (vmf->flags & FAULT_FLAG_WRITE)
		return GMEM_ACCESS_WRITE;
	if (vmf->flags & FAULT_FLAG_INSTRUCTION)
		return GMEM_ACCESS_EXEC;
	return GMEM_ACCESS_READ;
}

enum gmem_patience gmem_window_patience(const struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return GMEM_WAIT_END;
	if ((vmf->flags & FAULT_FLAG_RETRY_NOWAIT) ||
	    !(vmf->flags & FAULT_FLAG_TRIED))
		return GMEM_WAIT_NOT;
	return GMEM_WAIT_PIECE;
}

vm_fault_t gmem_window_retry(struct vm_fault *vmf,
			     struct gmem_guest_access *access,
			     int (*wait)(struct gmem_guest_access *access))
{
	struct file *file;

	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	file = get_file(vmf->vma->vm_file);
	release_fault_lock(vmf);
	/* The caller looks for a fatal signal itself. */
	wait(access);
	fput(file);
	return VM_FAULT_RETRY;
}

int gmem_window_check(const struct gmem_vm *vm, struct vm_area_struct *vma)
{
	unsigned long last;

	/* SHARED is off where a read-only descriptor is mapped. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (check_add_overflow(vma->vm_pgoff, vma_pages(vma) - 1, &last))
		return -EOVERFLOW;
	return last > vm->max_gfn ? -EINVAL : 0;
}

void gmem_window_charge(struct gmem_window_charge *charge, struct mm_struct *mm)
{
	charge->memcg = get_mem_cgroup_from_mm(mm);
	charge->old_memcg = set_active_memcg(charge->memcg);
}

void gmem_window_uncharge(struct gmem_window_charge *charge)
{
	set_active_memcg(charge->old_memcg);
	mem_cgroup_put(charge->memcg);
}

int gmem_window_mprotect(struct vm_area_struct *vma, unsigned long start,
			 unsigned long end, unsigned long newflags)
{
	return newflags & ~vma->vm_flags & VM_WRITE ? -EACCES : 0;
}

int gmem_window_provide(struct gmem_vm *vm, unsigned long gfn,
			struct folio *folio, u32 map_flags)
{
	return 0;
}

static int gmem_window_release(struct inode *inode, struct file *file)
{
	fput(file->private_data);
	return 0;
}

const struct file_operations gmem_window_fops = {
	.owner = THIS_MODULE,
	.release = gmem_window_release,
};
