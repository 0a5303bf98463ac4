// SPDX-License-Identifier: GPL-2.0
/*
 * Exceptions from EL1 and EL0: the host's calls and faults, the guests' exits.
 */
#include "cpu.h"
#include "hypercall.h"
#include "memdb.h"
#include "rm.h"
#include "trap.h"
#include "vcpu.h"

#define PSTATE_NZCV		0xf0000000
#define PSTATE_MODE		0xf
#define PSTATE_MODE_EL1T	4
#define PSTATE_MODE_EL1H	5
#define PSTATE_AARCH32		0x10

#define VECTOR_EL1T		0
#define VECTOR_EL1H		0x200
#define VECTOR_EL0		0x400
#define VECTOR_EL0_AARCH32	0x600

static u32 big_lock;

void lock(void)
{
	while (__atomic_exchange_n(&big_lock, 1, __ATOMIC_ACQUIRE))
		asm volatile("yield");
}

void unlock(void)
{
	__atomic_store_n(&big_lock, 0, __ATOMIC_RELEASE);
}

void set_host_traps(void)
{
	/* While work is due later, an idle CPU polls for it. */
	sysreg_write(hcr_el2, HCR_HOST | (rm_is_waiting() ? HCR_TWI : 0));
	sysreg_write(cptr_el2, CPTR_HOST);
	/* The number of counters the host may use, here all: PMCR_EL0.N */
	sysreg_write(mdcr_el2, sysreg_read(pmcr_el0) >> 11 & 0x1f);
}

/* Enter EL1 as the CPU would. */
void inject_abort(struct regs *regs, u64 esr, u64 far)
{
	bool fetch = esr_class(esr) == EC_FETCH_ABORT;
	u64 class = fetch ? EC_FETCH_ABORT : EC_DATA_ABORT;
	u64 mode = regs->pstate & PSTATE_MODE, vector = VECTOR_EL0;

	if (regs->pstate & PSTATE_AARCH32) {
		vector = VECTOR_EL0_AARCH32;
	} else if (mode == PSTATE_MODE_EL1T || mode == PSTATE_MODE_EL1H) {
		vector = mode == PSTATE_MODE_EL1T ? VECTOR_EL1T : VECTOR_EL1H;
		/* The exception comes from the same level. */
		class++;
	}
	sysreg_write(esr_el1, class << ESR_EC_SHIFT | ESR_IL |
				      FSC_EXTERNAL_ABORT |
				      (fetch ? 0 : esr & ESR_WRITE));
	sysreg_write(far_el1, far);
	sysreg_write(elr_el1, regs->pc);
	sysreg_write(spsr_el1, regs->pstate);
	regs->pc = sysreg_read(vbar_el1) + vector;
	regs->pstate = (regs->pstate & PSTATE_NZCV) | PSTATE_RESET;
}

static u8 abort_access(u64 esr)
{
	if (esr_class(esr) == EC_FETCH_ABORT)
		return ACCESS_X;
	return esr & ESR_WRITE && !(esr & ESR_CACHE_OP) ? ACCESS_W : ACCESS_R;
}

bool is_spurious_abort(const struct stage2 *s2, u64 esr, u64 ipa)
{
	u8 access = stage2_access(stage2_get(s2, ipa));

	/* A walk of stage-1 tables is a read. */
	if (esr & ESR_WALK)
		return access & ACCESS_R;
	return access & abort_access(esr);
}

u64 abort_ipa(u64 far)
{
	/* HPFAR_EL2 has bits 12 and up in bits 4 and up. */
	return (sysreg_read(hpfar_el2) & ~0xfUL) << 8 | (far & (PAGE_SIZE - 1));
}

static void host_abort(struct regs *regs, u64 esr)
{
	u64 far = sysreg_read(far_el2);

	if (!is_spurious_abort(&host_stage2, esr, abort_ipa(far)))
		inject_abort(regs, esr, far);
}

static void host_trap(struct regs *regs)
{
	u64 esr = sysreg_read(esr_el2);

	switch (esr_class(esr)) {
	case EC_HVC:
		/*
		 * Other immediates are Gunyah's native calls, which the monitor
		 * doesn't have.
		 */
		if (esr & 0xffff)
			regs->x[0] = UNIMPLEMENTED;
		else
			handle_hypercall(regs);
		break;
	case EC_SMC:
		regs->x[0] = UNIMPLEMENTED;
		regs->pc += 4;
		break;
	case EC_WFX:
		/* WFI may return at once. AArch32 has short instructions. */
		regs->pc += esr & ESR_IL ? 4 : 2;
		break;
	case EC_FETCH_ABORT:
	case EC_DATA_ABORT:
		host_abort(regs, esr);
		break;
	default:
		fatal("the host trapped: ESR, PC, FAR", esr, regs->pc,
		      sysreg_read(far_el2));
	}
}

void handle_trap(struct regs *regs, u64 kind)
{
	u64 class = esr_class(sysreg_read(esr_el2));
	bool call = kind == TRAP_SYNCHRONOUS &&
		    (class == EC_HVC || class == EC_SMC);

	if (!this_cpu()->guest && call && is_psci(regs->x[0])) {
		/* The call may not return, so don't hold the lock. */
		if (class == EC_SMC)
			regs->pc += 4;
		handle_psci(regs);
		return;
	}
	lock();
	if (this_cpu()->guest)
		vcpu_exit(regs, kind);
	else if (kind == TRAP_SYNCHRONOUS)
		host_trap(regs);
	else
		fatal("the host trapped: kind, PC", kind, regs->pc, 0);
	rm_poll();
	if (!this_cpu()->guest)
		set_host_traps();
	unlock();
}

void handle_own_trap(u64 kind)
{
	(void)kind;
	fatal("a bug of the monitor: ESR, PC, FAR", sysreg_read(esr_el2),
	      sysreg_read(elr_el2), sysreg_read(far_el2));
}
