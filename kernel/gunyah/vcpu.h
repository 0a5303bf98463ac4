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
 * @vm_file: the VM, held
 * @g: its data
 * @label: which vCPU it is
 * @run: shared with the VMM, which may change it at any time
 * @run_lock: one at a time runs it; outermost. Protects what follows.
 * @resume: what Gunyah gets to know with the next run
 * @answer: the exit whose answer has yet to be read from @run
 * @mmio: Gunyah took the access for one outside of memory, and wants to know what
 *	becomes of it
 * @mmio_write: and it was a write
 * @fault_addr: address of the last page fault, if nothing else came since
 * @nr_faults: how many there were
 * @gone: it was removed from the VM; under gunyah_vm.life_lock
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

/*
 * An entry of gunyah_vm.vcpus: what there is of a label. Under gunyah_vm.life_lock; goes
 * with the VM.
 */
struct gunyah_vcpu_slot {
	struct gunyah_vcpu *vcpu;
	u64 cap;
	bool found;
};

int gunyah_vcpu_run_call(struct gunyah_vcpu *vcpu);

#endif /* _GMEM_GUNYAH_VCPU_H */
