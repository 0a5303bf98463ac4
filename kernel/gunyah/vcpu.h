/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_VCPU_H
#define _GMEM_GUNYAH_VCPU_H

#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/wait.h>

struct file;
struct gmem_gunyah_vcpu_run;
struct gunyah_vcpu_slot;
struct gunyah_vm;

/**
 * struct gunyah_vcpu - a vCPU descriptor
 * @vm_file: a reference to the file of the VM
 * @g: the VM
 * @label: the name of the vCPU in its VM
 * @run: a page shared with the VMM, which may change it at any time
 * @run_lock: held while the vCPU runs; outermost. Protects the fields from here
 *	to @nr_faults.
 * @slot: its entry of gunyah_vm.vcpus; valid while the vCPU runs
 * @resume: values for Gunyah at the next run
 * @answer: the exit for which the VMM's answer is still to be read from @run
 * @mmio: Gunyah reported the last access as one to a device, and needs a result
 *	for it
 * @mmio_write: that access was a write
 * @fault_addr: address of the last page fault
 * @nr_faults: number of page faults in a row at @fault_addr
 * @gone: the VMM has removed the vCPU; written under gunyah_vm.functions_lock
 *
 * Lifetime: from ADD_FUNCTION to the end of the descriptor and its mappings.
 */
struct gunyah_vcpu {
	struct file *vm_file;
	struct gunyah_vm *g;
	u32 label;
	struct gmem_gunyah_vcpu_run *run;
	struct mutex run_lock;
	struct gunyah_vcpu_slot *slot;
	u64 resume[3];
	u32 answer;
	bool mmio;
	bool mmio_write;
	u64 fault_addr;
	unsigned int nr_faults;
	bool gone;
};

/**
 * struct gunyah_vcpu_slot - an entry of gunyah_vm.vcpus
 * @vcpu: the descriptor, or NULL
 * @cap: Gunyah's capability of the vCPU
 * @found: @cap is valid
 * @irq: comes when the vCPU should run again; 0: there is none, and it polls.
 *	Doesn't change while a vCPU runs.
 * @woken: @irq has come since the vCPU was last run
 * @wake: gunyah_vm.wake, for the handler of @irq
 * @on: the vCPU has run, and wasn't off then. This and the next two are written
 *	by the task that runs it, without a lock.
 * @off_since: since when the vCPU has been off at each run, in jiffies; 0: it
 *	isn't off, or hasn't run
 * @off_last: when it was last found off, in jiffies
 *
 * Under gunyah_vm.functions_lock. Freed with the VM, or with the descriptor if
 * Gunyah has no vCPU of this label.
 */
struct gunyah_vcpu_slot {
	struct gunyah_vcpu *vcpu;
	u64 cap;
	bool found;
	int irq;
	bool woken;
	wait_queue_head_t *wake;
	bool on;
	unsigned long off_since;
	unsigned long off_last;
};

/* GMEM_GUNYAH_VCPU_RUN */
int gunyah_vcpu_run_call(struct gunyah_vcpu *vcpu);

#endif /* _GMEM_GUNYAH_VCPU_H */
