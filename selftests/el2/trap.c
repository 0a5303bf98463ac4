// SPDX-License-Identifier: GPL-2.0-only
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

/* ICH_HCR_EL2: trap the host's accesses to interrupts of group 1. */
#define ICH_HCR_TALL1		(1UL << 12)

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
	bool waiting = rm_is_waiting() || vtimer_has_sleepers();

	/*
	 * While work is due later, a CPU polls for it: an idle one all the
	 * time, a busy one at each interrupt.
	 */
	sysreg_write(hcr_el2, HCR_HOST | (waiting ? HCR_TWI : 0));
	sysreg_write(S3_4_C12_C11_0, waiting ? ICH_HCR_TALL1 : 0);
	sysreg_write(cptr_el2, CPTR_HOST);
	/* The number of counters the host may use, here all: PMCR_EL0.N */
	sysreg_write(mdcr_el2, sysreg_read(pmcr_el0) >> 11 & 0x1f);
}

/* Enter EL1 as the CPU would, with that syndrome. */
static void enter_el1(struct regs *regs, u64 vector, u64 esr)
{
	sysreg_write(esr_el1, esr);
	sysreg_write(elr_el1, regs->pc);
	sysreg_write(spsr_el1, regs->pstate);
	regs->pc = sysreg_read(vbar_el1) + vector;
	regs->pstate = (regs->pstate & PSTATE_NZCV) | PSTATE_RESET;
}

/* The vector of EL1; @same: the exception comes from that level. */
static u64 vector_of(const struct regs *regs, bool *same)
{
	u64 mode = regs->pstate & PSTATE_MODE;

	*same = false;
	if (regs->pstate & PSTATE_AARCH32)
		return VECTOR_EL0_AARCH32;
	if (mode != PSTATE_MODE_EL1T && mode != PSTATE_MODE_EL1H)
		return VECTOR_EL0;
	*same = true;
	return mode == PSTATE_MODE_EL1T ? VECTOR_EL1T : VECTOR_EL1H;
}

void inject_abort(struct regs *regs, u64 esr, u64 far)
{
	bool fetch = esr_class(esr) == EC_FETCH_ABORT, same;
	u64 vector = vector_of(regs, &same);
	u64 class = (fetch ? EC_FETCH_ABORT : EC_DATA_ABORT) + same;

	sysreg_write(far_el1, far);
	enter_el1(regs, vector,
		  class << ESR_EC_SHIFT | ESR_IL | FSC_EXTERNAL_ABORT |
			  (fetch ? 0 : esr & ESR_WRITE));
}

void inject_undefined(struct regs *regs)
{
	bool same;

	enter_el1(regs, vector_of(regs, &same), ESR_IL);
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

/* Access the interrupt controller for the host. */
static void host_gic(struct regs *regs, u64 esr)
{
	u32 target = ESR_SYSREG_REGISTER(esr);
	bool read = esr & ESR_SYSREG_READ;
	u64 value = target < ARRAY_SIZE(regs->x) ? regs->x[target] : 0;

#define X(reg) do {							\
	if (read)							\
		value = sysreg_read(reg);				\
	else								\
		sysreg_write(reg, value);				\
} while (0)
	switch (ESR_SYSREG(esr)) {
	case SYSREG(3, 0, 12, 12, 0):	/* ICC_IAR1_EL1 */
		X(S3_0_C12_C12_0);
		break;
	case SYSREG(3, 0, 12, 12, 1):	/* ICC_EOIR1_EL1 */
		X(S3_0_C12_C12_1);
		break;
	case SYSREG(3, 0, 12, 12, 2):	/* ICC_HPPIR1_EL1 */
		X(S3_0_C12_C12_2);
		break;
	case SYSREG(3, 0, 12, 12, 3):	/* ICC_BPR1_EL1 */
		X(S3_0_C12_C12_3);
		break;
	case SYSREG(3, 0, 12, 12, 7):	/* ICC_IGRPEN1_EL1 */
		X(S3_0_C12_C12_7);
		break;
	case SYSREG(3, 0, 12, 9, 0):	/* ICC_AP1R0_EL1 */
		X(S3_0_C12_C9_0);
		break;
	default:
		fatal("the host's system register: ESR, PC", esr, regs->pc, 0);
	}
#undef X
	if (read && target < ARRAY_SIZE(regs->x))
		regs->x[target] = value;
	regs->pc += 4;
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
		/*
		 * WFI may return at once, and must while work is due later:
		 * nobody knows when. AArch32 has short instructions.
		 */
		if (!rm_is_waiting() && !(esr & ESR_WFE))
			vtimer_wait();
		regs->pc += esr & ESR_IL ? 4 : 2;
		break;
	case EC_SYSREG:
		host_gic(regs, esr);
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
	vtimer_poll();
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
