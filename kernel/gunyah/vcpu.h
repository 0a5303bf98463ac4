/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_VCPU_H
#define _GMEM_GUNYAH_VCPU_H

#include <linux/mutex.h>
#include <linux/types.h>

struct file;
struct gmem_gunyah_vcpu_run;
struct gunyah_vm;

/**
 * struct gunyah_vcpu - a vCPU descriptor
 * @vm_file: a reference to the file of the VM
 * @g: the VM
 * @label: the name of the vCPU in its VM
 * @run: a page shared with the VMM, which may change it at any time
 * @run_lock: held while the vCPU runs; outermost. Protects the fields from here
 *	to @nr_faults.
 * @resume: values for Gunyah at the next run
 * @answer: the exit for which the VMM's answer is still to be read from @run
 * @mmio: Gunyah reported the last access as one to a device, and needs a result
 *	for it
 * @mmio_write: that access was a write
 * @fault_addr: address of the last page fault
 * @nr_faults: number of page faults in a row at @fault_addr
 * @gone: the VMM has removed the vCPU; under gunyah_vm.life_lock
 *
 * Lifetime: from ADD_FUNCTION to the end of the descriptor and its mappings.
 */
struct gunyah_vcpu {
	struct file *vm_file;
	struct gunyah_vm *g;
	u32 label;
	struct gmem_gunyah_vcpu_run *run;
	struct mutex run_lock;
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
 *
 * Under gunyah_vm.life_lock. Freed with the VM, or with the descriptor if
 * Gunyah has no vCPU of this label.
 */
struct gunyah_vcpu_slot {
	struct gunyah_vcpu *vcpu;
	u64 cap;
	bool found;
};

/* GMEM_GUNYAH_VCPU_RUN */
int gunyah_vcpu_run_call(struct gunyah_vcpu *vcpu);

#endif /* _GMEM_GUNYAH_VCPU_H */
