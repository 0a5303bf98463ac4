// SPDX-License-Identifier: GPL-2.0
/*
 * Guests. A guest runs on the CPU that calls vcpu_run, in place of the caller,
 * until it needs the host or an interrupt for the host arrives. It has no
 * vector registers, no interrupts and no timer: the timer's registers are the
 * host's, and are restored after each run.
 */
#include "cap.h"
#include "control.h"
#include "cpu.h"
#include "rule.h"
#include "trap.h"
#include "vm.h"

#define PSCI_VERSION		0x84000000
#define PSCI_CPU_OFF		0x84000002
#define PSCI_SYSTEM_OFF		0x84000008
#define PSCI_SYSTEM_RESET	0x84000009
#define PSCI_1_1		0x10001

#define GUEST_MPIDR		0x80000000

/* How to resume after MMIO_*, in x3 */
enum { RESUME_EMULATED, RESUME_RETRY, RESUME_FAULT };

void vcpu_init(struct vcpu *vcpu, u64 pc, u64 x0)
{
	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->regs.pc = pc;
	vcpu->regs.x[0] = x0;
	vcpu->regs.pstate = PSTATE_RESET;
	vcpu->el1.sctlr_el1 = SCTLR_EL1_RESET;
}

bool vcpu_set_register(struct vcpu *vcpu, u8 set, u8 index, u64 value)
{
	if (set == 0 && index < ARRAY_SIZE(vcpu->regs.x))
		vcpu->regs.x[index] = value;
	else if (set == 1 && index == 0)
		vcpu->regs.pc = value;
	else if (set == 2 && index == 0)
		vcpu->el1.sp_el0 = value;
	else if (set == 2 && index == 1)
		vcpu->el1.sp_el1 = value;
	else
		return false;
	return true;
}

static void save_el1(struct el1 *el1)
{
#define X(reg) el1->reg = sysreg_read(reg)
	EL1_REGISTERS(X);
#undef X
}

static void load_el1(const struct el1 *el1)
{
#define X(reg) sysreg_write(reg, el1->reg)
	EL1_REGISTERS(X);
#undef X
}

static void enter(struct vm *vm, struct regs *regs)
{
	struct vcpu *vcpu = &vm->vcpu;

	vcpu->host = *regs;
	save_el1(&vcpu->host_el1);
	vcpu->host_timer_control = sysreg_read(cntv_ctl_el0);
	vcpu->host_timer_value = sysreg_read(cntv_cval_el0);

	*regs = vcpu->regs;
	load_el1(&vcpu->el1);
	sysreg_write(vmpidr_el2, GUEST_MPIDR);
	sysreg_write(hcr_el2, HCR_GUEST);
	sysreg_write(cptr_el2, CPTR_GUEST);
	sysreg_write(mdcr_el2, sysreg_read(mdcr_el2) | MDCR_GUEST);
	stage2_load(&vm->stage2);
	vcpu->running = true;
	vcpu->state = VCPU_READY;
	this_cpu()->guest = vm;
}

/* Return to the host. */
static void leave(struct vcpu *vcpu, struct regs *regs)
{
	this_cpu()->guest = NULL;
	vcpu->running = false;
	vcpu->regs = *regs;
	save_el1(&vcpu->el1);

	*regs = vcpu->host;
	load_el1(&vcpu->host_el1);
	sysreg_write(cntv_ctl_el0, vcpu->host_timer_control);
	sysreg_write(cntv_cval_el0, vcpu->host_timer_value);
	sysreg_write(vmpidr_el2, sysreg_read(mpidr_el1));
	stage2_load(&host_stage2);
}

static u64 extend(u64 value, u64 esr)
{
	u32 unused = 64 - 8 * ESR_SIZE(esr);

	value <<= unused;
	value = esr & ESR_SIGNED ? (u64)((s64)value >> unused) :
				   value >> unused;
	return esr & ESR_64BIT ? value : (u32)value;
}

/* Resume the guest, which is loaded and stands at the access. */
static void resume(struct vcpu *vcpu, struct regs *regs, u64 value, u64 action)
{
	u32 target = ESR_REGISTER(vcpu->esr);

	switch (action) {
	case RESUME_EMULATED:
		if (!(vcpu->esr & ESR_WRITE) && target < ARRAY_SIZE(regs->x))
			regs->x[target] = extend(value, vcpu->esr);
		regs->pc += 4;
		break;
	case RESUME_FAULT:
		inject_abort(regs, vcpu->esr, vcpu->far);
		break;
	}
}

static bool is_resumable(const struct vm *vm)
{
	return vm->vcpu.state == VCPU_MMIO_READ ||
	       vm->vcpu.state == VCPU_MMIO_WRITE;
}

void vcpu_run(struct regs *regs)
{
	u64 *x = regs->x, value = x[2], action = x[3], state;
	struct vcpu *vcpu;
	struct cap *cap;
	struct vm *vm;
	bool mmio;
	s64 error = cap_find(x[1], CAP_VCPU, VCPU_RUN, &cap);

	if (!error && x[5])
		error = ARG_INVALID;
	/* Only the platform of the Linux v17 series has ways to resume. */
	if (!error &&
	    (x[4] || action > (platform_extents() ? RESUME_FAULT : 0)))
		error = ARG_INVALID;
	/* Only MMIO can be resumed. */
	if (!error && !is_resumable(cap->object) && (value || action))
		error = ARG_INVALID;
	if (error) {
		x[0] = error;
		return;
	}
	vm = cap->object;
	vcpu = &vm->vcpu;
	if (vcpu->running) {
		x[0] = BUSY;
		return;
	}
	state = vm->state == VM_READY ? VCPU_POWERED_OFF : vcpu->state;
	if (vm->state != VM_RUNNING ||
	    rule_hits(EL2_RULE_VCPU_STATE, vm->vmid, &state)) {
		x[0] = OK;
		x[1] = state;
		memset(x + 2, 0, 3 * sizeof(*x));
		return;
	}
	mmio = is_resumable(vm);
	enter(vm, regs);
	if (mmio)
		resume(vcpu, regs, value, action);
}

/* The report of an exit to the host. */
struct exit {
	enum vcpu_state state;
	u64 data[3];
};

static bool is_permission_fault(u64 esr)
{
	return (esr & 0x3c) == 0xc;
}

static bool is_mmio(const struct vm *vm, u64 esr, u64 gpa)
{
	if (esr_class(esr) != EC_DATA_ABORT || !(esr & ESR_VALID) ||
	    esr & ESR_WALK)
		return false;
	if (!platform_extents())
		return gpa - EL2_MMIO_BASE < EL2_MMIO_SIZE;
	return !vm_demand_paged(vm, gpa) && !is_permission_fault(esr);
}

/* Returns false if the fault is spurious: go on with the guest. */
static bool guest_abort(struct vm *vm, const struct regs *regs, u64 esr,
			struct exit *exit)
{
	u64 far = sysreg_read(far_el2), gpa = abort_ipa(far);
	u32 source = ESR_REGISTER(esr);
	bool write = esr_class(esr) == EC_DATA_ABORT && esr & ESR_WRITE;

	if (is_spurious_abort(&vm->stage2, esr, gpa))
		return false;
	exit->data[0] = gpa;
	if (is_mmio(vm, esr, gpa)) {
		vm->vcpu.esr = esr;
		vm->vcpu.far = far;
		exit->state = write ? VCPU_MMIO_WRITE : VCPU_MMIO_READ;
		exit->data[1] = ESR_SIZE(esr);
		if (write && source < ARRAY_SIZE(regs->x))
			exit->data[2] = extend(regs->x[source],
					       (esr & ~ESR_SIGNED) | ESR_64BIT);
	} else if (platform_extents()) {
		exit->state = VCPU_PAGE_FAULT;
		exit->data[1] = write;
	} else {
		exit->state = VCPU_FAULT;
		exit->data[0] = 0;
	}
	return true;
}

/* Handle a PSCI call. Returns false: go on with the guest. */
static bool guest_call(struct regs *regs, struct exit *exit)
{
	switch ((u32)regs->x[0]) {
	case PSCI_VERSION:
		regs->x[0] = PSCI_1_1;
		return false;
	case PSCI_SYSTEM_OFF:
	case PSCI_CPU_OFF:
		exit->state = VCPU_POWERED_OFF;
		return true;
	case PSCI_SYSTEM_RESET:
		exit->state = VCPU_SYSTEM_RESET;
		return true;
	default:
		regs->x[0] = UNIMPLEMENTED;
		return false;
	}
}

static bool guest_trap(struct vm *vm, struct regs *regs, struct exit *exit)
{
	u64 esr = sysreg_read(esr_el2);

	switch (esr_class(esr)) {
	case EC_SMC:
		/* The PC is behind an HVC, but at an SMC. */
		regs->pc += 4;
		__attribute__((__fallthrough__));
	case EC_HVC:
		return guest_call(regs, exit);
	case EC_WFX:
		regs->pc += 4;
		exit->state = VCPU_BLOCKED;
		return true;
	case EC_FETCH_ABORT:
	case EC_DATA_ABORT:
		return guest_abort(vm, regs, esr, exit);
	default:
		exit->state = VCPU_FAULT;
		return true;
	}
}

void vcpu_exit(struct regs *regs, u64 kind)
{
	struct vm *vm = this_cpu()->guest;
	struct exit exit = { .state = VCPU_READY };

	if (kind == TRAP_SYNCHRONOUS && !guest_trap(vm, regs, &exit) &&
	    !vm->stopping)
		return;
	leave(&vm->vcpu, regs);
	vm->vcpu.state = exit.state;
	if (exit.state == VCPU_POWERED_OFF)
		vm_exited(vm, EXIT_OFF);
	else if (exit.state == VCPU_SYSTEM_RESET)
		vm_exited(vm, EXIT_RESET);
	else if (vm->stopping)
		vm_exited(vm, EXIT_FORCED);
	regs->x[0] = OK;
	regs->x[1] = vm->vcpu.state;
	memcpy(regs->x + 2, exit.data, sizeof(exit.data));
}
