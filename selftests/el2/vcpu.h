/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _VCPU_H
#define _VCPU_H

#include "el2.h"

/* The results of vcpu_run in x1. */
enum vcpu_state {
	VCPU_READY = 0,
	VCPU_POWERED_OFF = 2,
	VCPU_BLOCKED = 3,
	VCPU_MMIO_READ = 4,
	VCPU_MMIO_WRITE = 5,
	VCPU_FAULT = 6,
	VCPU_PAGE_FAULT = 7,
	VCPU_SYSTEM_RESET = 0x100,
};

/* The EL1 registers that each guest has for itself. */
#define EL1_REGISTERS(X)						\
	X(sctlr_el1); X(cpacr_el1); X(ttbr0_el1); X(ttbr1_el1);		\
	X(tcr_el1); X(esr_el1); X(afsr0_el1); X(afsr1_el1);		\
	X(far_el1); X(mair_el1); X(amair_el1); X(vbar_el1);		\
	X(contextidr_el1); X(tpidr_el0); X(tpidrro_el0);		\
	X(tpidr_el1); X(cntkctl_el1); X(par_el1); X(mdscr_el1);		\
	X(sp_el0); X(sp_el1); X(elr_el1); X(spsr_el1);			\
	X(csselr_el1)

struct el1 {
#define X(reg) u64 reg
	EL1_REGISTERS(X);
#undef X
};

struct vcpu {
	struct regs regs;
	struct el1 el1;
	/* The result of the last run; READY: there is nothing to resume. */
	u16 state;
	bool running;
	/* The syndrome and address of the access of MMIO_* */
	u64 esr, far;
	/* The host's registers while the guest runs in its place */
	struct regs host;
	struct el1 host_el1;
	u64 host_timer_control, host_timer_value;
};

/* Prepare the vCPU to run at @pc with @x0. */
void vcpu_init(struct vcpu *vcpu, u64 pc, u64 x0);
/* Set 0: X, 1: PC, 2: SP of EL0, of EL1. False: there is no such register. */
bool vcpu_set_register(struct vcpu *vcpu, u8 set, u8 index, u64 value);

/*
 * The hypercall: x1 cap, x2 to x4 resume -> x1 state, x2 to x4 data. Changes
 * @regs to the guest's; at its exit they become the host's again, with the
 * results.
 */
void vcpu_run(struct regs *regs);
void vcpu_exit(struct regs *regs, u64 kind);

#endif /* _VCPU_H */
