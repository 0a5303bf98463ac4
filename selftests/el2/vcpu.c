// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests. A vCPU runs on the CPU that calls vcpu_run, in place of the caller,
 * until it needs the host or an interrupt for the host arrives. The host's
 * vector registers stay in the CPU until the guest uses its own.
 */
#include "cap.h"
#include "cpu.h"
#include "control.h"
#include "public.h"
#include "rule.h"
#include "trap.h"
#include "vm.h"

/* The 64-bit form, in the flags of VM_EXITED */
#define EXIT_RESET_64		(1U << 15)

/* In the data of VCPU_SYSTEM_RESET: see guest_call.c */
#define RESET_1			(1UL << 63)
#define RESET_64		(1UL << 62)

#define GUEST_MPIDR		0x80000000

/* How to resume after MMIO_*, in x3 */
enum { RESUME_EMULATED, RESUME_RETRY, RESUME_FAULT };

void vcpu_init(struct vcpu *vcpu, u64 pc, u64 x0)
{
	struct vm *vm = vcpu->vm;
	u32 index = vcpu->index;

	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->regs.pc = pc;
	vcpu->regs.x[0] = x0;
	vcpu->regs.pstate = PSTATE_RESET;
	vcpu->el1.sctlr_el1 = SCTLR_EL1_RESET;
	vgic_cpu_init(&vcpu->gic);
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

void vcpu_kick(struct vcpu *vcpu)
{
	if (vcpu->running && vcpu->cpu != this_cpu() - cpus)
		vgic_kick_cpu(vcpu->cpu);
}

void vcpus_kick(struct vm *vm, const struct vcpu *except)
{
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		if (&vm->vcpus[i] != except)
			vcpu_kick(&vm->vcpus[i]);
	}
}

u64 esr_extend(u64 value, u64 esr)
{
	u32 unused = 64 - 8 * ESR_SIZE(esr);

	value <<= unused;
	value = esr & ESR_SIGNED ? (u64)((s64)value >> unused) :
				   value >> unused;
	return esr & ESR_64BIT ? value : (u32)value;
}

/* ---- the way in and out ---- */

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

/* The guest has trapped at its first use of them: swap them. */
static void swap_fpsimd(struct vcpu *vcpu)
{
	sysreg_write(cptr_el2, CPTR_GUEST & ~CPTR_FPSIMD);
	isb();
	fpsimd_save(&vcpu->host_fpsimd);
	fpsimd_load(&vcpu->fpsimd);
	vcpu->has_fpsimd = true;
}

static void enter(struct vcpu *vcpu, struct regs *regs)
{
	vcpu->host = *regs;
	save_el1(&vcpu->host_el1);

	*regs = vcpu->regs;
	load_el1(&vcpu->el1);
	sysreg_write(vmpidr_el2, GUEST_MPIDR | vcpu->index);
	sysreg_write(hcr_el2, HCR_GUEST);
	sysreg_write(cptr_el2, CPTR_GUEST);
	sysreg_write(mdcr_el2, sysreg_read(mdcr_el2) | MDCR_GUEST);
	stage2_load(&vcpu->vm->stage2);
	/*
	 * Another vCPU of the VM may have run here: its entries aren't for all.
	 */
	asm volatile("tlbi vmalle1\n"
		     "dsb nsh\n"
		     "isb" : : : "memory");
	vcpu->sleeps = false;
	vcpu->running = true;
	vcpu->cpu = this_cpu() - cpus;
	vcpu->state = VCPU_READY;
	this_cpu()->guest = vcpu;
	vtimer_enter(vcpu);
	vgic_enter(vcpu);
}

/* Return to the host. */
static void leave(struct vcpu *vcpu, struct regs *regs)
{
	vgic_leave(vcpu);
	vtimer_leave(vcpu);
	this_cpu()->guest = NULL;
	vcpu->running = false;
	vcpu->regs = *regs;
	save_el1(&vcpu->el1);
	if (vcpu->has_fpsimd) {
		fpsimd_save(&vcpu->fpsimd);
		fpsimd_load(&vcpu->host_fpsimd);
		vcpu->has_fpsimd = false;
	}

	*regs = vcpu->host;
	load_el1(&vcpu->host_el1);
	sysreg_write(vmpidr_el2, sysreg_read(mpidr_el1));
	stage2_load(&host_stage2);
}

/* Resume the guest, which is loaded and stands at the access. */
static void resume(struct vcpu *vcpu, struct regs *regs, u64 value, u64 action)
{
	u32 target = ESR_REGISTER(vcpu->esr);

	switch (action) {
	case RESUME_EMULATED:
		if (!(vcpu->esr & ESR_WRITE) && target < ARRAY_SIZE(regs->x))
			regs->x[target] = esr_extend(value, vcpu->esr);
		regs->pc += 4;
		break;
	case RESUME_FAULT:
		inject_abort(regs, vcpu->esr, vcpu->far);
		break;
	}
}

static bool is_resumable(const struct vcpu *vcpu)
{
	return vcpu->state == VCPU_MMIO_READ || vcpu->state == VCPU_MMIO_WRITE;
}

static void report(u64 *x, u64 state, const u64 *data)
{
	x[0] = OK;
	x[1] = state;
	memcpy(x + 2, data, 3 * sizeof(*x));
}

/* Answer in place of running the guest. Returns false if it may run. */
static bool refuses_run(struct vcpu *vcpu, u64 *x)
{
	static const u64 no_data[3];
	struct vm *vm = vcpu->vm;
	u64 state;

	if (vcpu->running) {
		x[0] = BUSY;
		return true;
	}
	if (rm_is_public() && public_refuses_run(vm, x))
		return true;
	state = vm->state == VM_READY || vcpu->off || vm->end ?
			VCPU_POWERED_OFF :
			vcpu->state;
	if (vm->state == VM_RUNNING && !vcpu->off && !vm->end &&
	    !rule_hits(EL2_RULE_VCPU_STATE, vm->vmid, &state))
		return false;
	report(x, state, no_data);
	return true;
}

void vcpu_run(struct regs *regs)
{
	u64 *x = regs->x, value = x[2], action = x[3];
	struct vcpu *vcpu;
	struct cap *cap;
	bool mmio;
	s64 error = cap_find(x[1], CAP_VCPU, VCPU_RUN, &cap);

	if (!error && x[5])
		error = ARG_INVALID;
	/* Only the platform of the Linux v17 series has ways to resume. */
	if (!error &&
	    (x[4] || action > (rm_is_public() ? 0 : RESUME_FAULT)))
		error = ARG_INVALID;
	/* Only MMIO can be resumed. */
	if (!error && !is_resumable(cap->object) && (value || action))
		error = ARG_INVALID;
	if (error) {
		x[0] = error;
		return;
	}
	vcpu = cap->object;
	if (refuses_run(vcpu, x))
		return;
	mmio = is_resumable(vcpu);
	enter(vcpu, regs);
	if (mmio)
		resume(vcpu, regs, value, action);
	vgic_fill(vcpu);
}

/* ---- exits ---- */

/* Returns false: go on with the guest. */
static bool guest_wait(struct vcpu *vcpu, struct regs *regs, struct exit *exit)
{
	regs->pc += 4;
	if (vgic_has_interrupt(vcpu))
		return false;
	exit->state = rm_is_public() ? VCPU_EXPECTS_WAKEUP : VCPU_BLOCKED;
	vcpu->sleeps = true;
	return true;
}

static bool guest_trap(struct vcpu *vcpu, struct regs *regs, struct exit *exit)
{
	u64 esr = sysreg_read(esr_el2);

	switch (esr_class(esr)) {
	case EC_SMC:
		/* The PC is behind an HVC, but at an SMC. */
		regs->pc += 4;
		__attribute__((__fallthrough__));
	case EC_HVC:
		return guest_call(vcpu, regs, exit);
	case EC_WFX:
		return guest_wait(vcpu, regs, exit);
	case EC_FPSIMD:
		swap_fpsimd(vcpu);
		return false;
	case EC_SYSREG:
		guest_register(vcpu, regs, esr);
		return false;
	case EC_FETCH_ABORT:
	case EC_DATA_ABORT:
		return guest_abort(vcpu, regs, esr, exit);
	default:
		exit->state = VCPU_FAULT;
		return true;
	}
}

/* Has the guest ended with this exit? A CPU that is off is not the end. */
static bool is_end(const struct vcpu *vcpu, const struct exit *exit)
{
	return exit->state == VCPU_SYSTEM_RESET ||
	       (exit->state == VCPU_POWERED_OFF && !vcpu->off);
}

/* Public: tell the Resource Manager if the guest has ended. */
static void note_public_end(struct vcpu *vcpu, struct exit *exit)
{
	struct vm *vm = vcpu->vm;
	struct halt halt = {
		.state = exit->state, .data = { exit->data[0], exit->data[1] },
	};

	if (exit->state == VCPU_FAULT) {
		halt.type = EXIT_SW_ERROR;
	} else if (!is_end(vcpu, exit)) {
		/* A killed guest runs no more. */
		if (vm->stopping)
			exit->state = VCPU_BLOCKED;
		return;
	} else if (exit->state == VCPU_POWERED_OFF) {
		halt.type = EXIT_OFF;
	} else if (exit->data[0] & RESET_1) {
		halt.type = EXIT_RESET;
	} else {
		halt.type = EXIT_RESET2;
		halt.flags = exit->data[0] & RESET_64 ? EXIT_RESET_64 : 0;
		halt.words[0] = exit->data[0];
		halt.words[1] = exit->data[1];
		halt.words[2] = exit->data[1] >> 32;
	}
	/* Another vCPU may have ended it before. */
	if (!vm->halt.state)
		public_halted(vm, &halt);
}

/* On other platforms, the guest has ended once all its vCPUs have left it. */
static void note_end(struct vcpu *vcpu, struct exit *exit)
{
	struct vm *vm = vcpu->vm;

	if (!vm->end && is_end(vcpu, exit))
		vm->end = exit->state == VCPU_SYSTEM_RESET ? EXIT_RESET :
							     EXIT_OFF;
	else if (!vm->end && vm->stopping)
		vm->end = EXIT_FORCED;
	if (!vm->end)
		return;
	if (!is_end(vcpu, exit))
		exit->state = VCPU_POWERED_OFF;
	if (!vm_is_running(vm))
		vm_exited(vm, vm->end);
}

static bool may_go_on(const struct vm *vm)
{
	return vm->state == VM_RUNNING && !vm->stopping && !vm->end &&
	       !vm->halt.state;
}

void vcpu_exit(struct regs *regs, u64 kind)
{
	struct vcpu *vcpu = this_cpu()->guest;
	struct exit exit = { .state = VCPU_READY };
	bool stays;

	vgic_read(vcpu);
	stays = kind == TRAP_SYNCHRONOUS ? !guest_trap(vcpu, regs, &exit) :
		kind == TRAP_IRQ	 ? vgic_is_own_interrupt() :
					   false;
	if (stays && may_go_on(vcpu->vm)) {
		vgic_fill(vcpu);
		return;
	}
	leave(vcpu, regs);
	if (vcpu->sleeps)
		vtimer_sleep(vcpu);
	vcpu->state = exit.state;
	if (rm_is_public())
		note_public_end(vcpu, &exit);
	else
		note_end(vcpu, &exit);
	if (is_end(vcpu, &exit))
		vcpus_kick(vcpu->vm, vcpu);
	report(regs->x, exit.state, exit.data);
}
