/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_VM_H
#define _GMEM_VM_H

#include <linux/atomic.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include "fault.h"

struct file;
struct gmem_provider;

/**
 * struct gmem_vm - an address space of guest frame numbers
 * @lock: serialises all that changes @bindings
 * @bindings: GFN ranges -> &struct gmem_binding. Written under @lock (the tree's
 *	external lock), read under it or RCU.
 * @unmap_first: first GFN of the range whose unmap is under way
 * @unmap_last: its last GFN; below @unmap_first when there is none. Both written
 *	under @lock.
 * @file: its file; who needs the VM to stay takes a reference
 * @provider: what puts pages before this guest
 * @provider_data: for the provider alone
 * @policy: one of &enum gmem_policy; READ_ONCE() and WRITE_ONCE()
 * @max_gfn: last GFN of the address space
 * @faults: refused accesses
 * @id: number, from 1; constant while the VM is registered
 * @pid: the process that made it, as the initial PID namespace counts
 * @comm: and its name
 * @nr_bindings: entries of @bindings
 * @lent_pages: base pages that the guest has alone
 * @generation: changes with @bindings. Written under @lock, after them.
 *
 * Lifetime: a VM is its file. Descriptors and windows hold the file; when the
 * last is gone, release unbinds everything and frees the VM.
 *
 * Lock order, outermost first: mmap_lock or an inode lock, gmem_vm.lock, the
 * invalidate lock of a guestmem (one at a time), the lock of an index (see
 * folio.h), folio lock, i_mmap_rwsem, the provider's own. No user memory is touched
 * under any of them.
 */
struct gmem_vm {
	struct mutex lock;
	struct maple_tree bindings;
	unsigned long unmap_first;
	unsigned long unmap_last;
	struct file *file;
	const struct gmem_provider *provider;
	void *provider_data;
	u32 policy;
	unsigned long max_gfn;
	struct gmem_fault_log faults;
	u32 id;
	pid_t pid;
	char comm[TASK_COMM_LEN];
	atomic_long_t nr_bindings;
	atomic_long_t lent_pages;
	u32 generation;
};

/* Guest accesses to the range wait from here on. Under gmem_vm.lock. */
void gmem_vm_begin_unmap(struct gmem_vm *vm, unsigned long first,
			 unsigned long last);
void gmem_vm_end_unmap(struct gmem_vm *vm);
bool gmem_vm_unmapping(const struct gmem_vm *vm, unsigned long gfn);
/* Until the unmap that was under way has ended; -EINTR on a fatal signal. */
int gmem_vm_wait_unmap(struct gmem_vm *vm);

/* The width of the address space. */
u32 gmem_vm_guest_addr_bits(const struct gmem_vm *vm);

/* Pages @addr, @length as GFNs; -EINVAL beyond the address space. */
int gmem_vm_range(const struct gmem_vm *vm, u64 addr, u64 length,
		  unsigned long *first, unsigned long *last);

int gmem_vm_create_default_call(void *obj, void *arg);
int gmem_vm_create_call(void *obj, void *arg);

#endif /* _GMEM_VM_H */
