/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VCPU_H
#define _VCPU_H

#include "el2.h"
#include "vgic.h"

struct vm;

/* The results of vcpu_run in x1. */
enum vcpu_state {
	VCPU_READY = 0,
	/* Public: it waits for an interrupt. */
	VCPU_EXPECTS_WAKEUP = 1,
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

/* The vector registers, FPSR and FPCR, as fpsimd.S stores them */
struct fpsimd {
	u64 v[64], fpsr, fpcr;
};

/* CNTV_CTL_EL0 and CNTV_CVAL_EL0 */
struct timer {
	u64 control, value;
};

struct vcpu {
	struct vm *vm;
	/* Its label, and its affinity */
	u32 index;
	struct regs regs;
	struct el1 el1;
	struct timer timer;
	struct fpsimd fpsimd;
	struct vgic_cpu gic;
	/* The result of the last run; READY: there is nothing to resume. */
	u16 state;
	/* By PSCI: another vCPU may turn it on. */
	bool off;
	/* It waits for an interrupt: its timer will wake it. */
	bool sleeps;
	/* It runs, on that CPU. */
	bool running;
	u32 cpu;
	/* The syndrome and address of the access of MMIO_* */
	u64 esr, far;
	/* The host's registers while the guest runs in its place */
	struct regs host;
	struct el1 host_el1;
	struct timer host_timer;
	/* The CPU has the guest's vector registers; the host's are here. */
	bool has_fpsimd;
	struct fpsimd host_fpsimd;
};

/* The report of an exit to the host. */
struct exit {
	enum vcpu_state state;
	u64 data[3];
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
/* bell.c: give a vCPU a reason to run, whether it runs or not. */
void vcpu_wake(struct vcpu *vcpu);
/* Make a vCPU that runs on another CPU look at its interrupts and its VM. */
void vcpu_kick(struct vcpu *vcpu);
void vcpus_kick(struct vm *vm, const struct vcpu *except);

/* The value of a load of the size in @esr, as its register gets it */
u64 esr_extend(u64 value, u64 esr);

/*
 * Reasons of an exit. Each returns false if the guest can go on.
 *
 * guest_call.c: PSCI and other calls, by HVC or SMC
 */
bool guest_call(struct vcpu *vcpu, struct regs *regs, struct exit *exit);
/* guest_abort.c */
bool guest_abort(struct vcpu *vcpu, struct regs *regs, u64 esr,
		 struct exit *exit);
/* guest_register.c: a system register */
void guest_register(struct vcpu *vcpu, struct regs *regs, u64 esr);

/* vtimer.c: the guest's timer, in place of the host's */
void vtimer_enter(struct vcpu *vcpu);
void vtimer_leave(struct vcpu *vcpu);
/*
 * The vCPU waits. Wake those whose time has come; will there be others; and
 * wait for that time, or an interrupt of the host's, without the lock.
 */
void vtimer_sleep(const struct vcpu *vcpu);
void vtimer_poll(void);
bool vtimer_has_sleepers(void);
void vtimer_wait(void);
/* Does the timer of the vCPU that runs here ask for an interrupt? */
bool vtimer_is_due(void);

/* fpsimd.S */
void fpsimd_save(struct fpsimd *to);
void fpsimd_load(const struct fpsimd *from);

#endif /* _VCPU_H */
