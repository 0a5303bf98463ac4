// SPDX-License-Identifier: GPL-2.0-only
/* A guest's accesses to what it doesn't have: devices, and memory to come. */
#include "control.h"
#include "trap.h"
#include "vm.h"

/* A vector and its 32 instructions */
#define VECTOR_SIZE		0x80UL
#define VECTOR_SYNC_EL1H	0x200UL
#define PSTATE_EL1H		5

static bool is_permission_fault(u64 esr)
{
	return (esr & 0x3c) == 0xc;
}

static bool is_mmio(const struct vm *vm, u64 esr, u64 gpa)
{
	if (esr_class(esr) != EC_DATA_ABORT || !(esr & ESR_VALID) ||
	    esr & ESR_WALK)
		return false;
	if (rm_is_public())
		return gpa < GUEST_MMIO_END;
	return !vm_demand_paged(vm, gpa) && !is_permission_fault(esr);
}

/*
 * The public hypervisor gives the guest its aborts. An abort at the vector for
 * aborts would go on for ever, so it ends the guest.
 */
static bool inject_into_guest(struct regs *regs, u64 esr, u64 far,
			      struct exit *exit)
{
	u64 vector = sysreg_read(vbar_el1) + VECTOR_SYNC_EL1H;

	if ((regs->pstate & 0x1f) == PSTATE_EL1H &&
	    (regs->pc & ~(VECTOR_SIZE - 1)) == vector) {
		exit->state = VCPU_FAULT;
		return true;
	}
	inject_abort(regs, esr & ~ESR_WRITE, far);
	return false;
}

bool guest_abort(struct vcpu *vcpu, struct regs *regs, u64 esr,
		 struct exit *exit)
{
	u64 far = sysreg_read(far_el2), gpa = abort_ipa(far);
	u32 source = ESR_REGISTER(esr);
	bool write = esr_class(esr) == EC_DATA_ABORT && esr & ESR_WRITE;
	bool ends = true;

	if (is_spurious_abort(&vcpu->vm->stage2, esr, gpa) ||
	    (esr_class(esr) == EC_DATA_ABORT &&
	     vgic_access(vcpu, regs, esr, gpa)))
		return false;
	exit->data[0] = gpa;
	if (is_mmio(vcpu->vm, esr, gpa)) {
		vcpu->esr = esr;
		vcpu->far = far;
		exit->state = write ? VCPU_MMIO_WRITE : VCPU_MMIO_READ;
		exit->data[1] = ESR_SIZE(esr);
		if (write && source < ARRAY_SIZE(regs->x))
			exit->data[2] =
				esr_extend(regs->x[source],
					   (esr & ~ESR_SIGNED) | ESR_64BIT);
	} else if (rm_is_public()) {
		exit->data[0] = 0;
		ends = inject_into_guest(regs, esr, far, exit);
	} else {
		exit->state = VCPU_PAGE_FAULT;
		exit->data[1] = write;
	}
	return ends;
}
