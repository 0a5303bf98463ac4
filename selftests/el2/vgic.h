/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VGIC_H
#define _VGIC_H

#include "el2.h"

struct exit;
struct vcpu;
struct vm;

/*
 * A guest's interrupt controller: a GICv3 without LPIs. The CPU itself has the
 * guest's CPU interface: its list registers hold the interrupts that the vCPU
 * may see next. The distributor and the redistributors are emulated: a guest
 * that accesses them takes an abort in stage 2.
 *
 * While a vCPU runs, an interrupt in its list registers isn't pending or active
 * here. At each exit it comes back.
 *
 * A VM has one if its device tree does, at the addresses there.
 */

#define VGIC_NR_PRIVATE		32U
#define VGIC_NR_INTERRUPTS	1020U
#define VGIC_NR_WORDS		32

#define VGIC_DIST_SIZE		0x10000UL
#define VGIC_REDIST_SIZE	0x20000UL

#define VGIC_NR_LRS		4

/* 32 interrupts, a bit for each */
struct vgic_word {
	u32 enabled, pending, active, group, edge;
};

/* A vCPU's redistributor and CPU interface */
struct vgic_cpu {
	struct vgic_word word;
	u8 priority[VGIC_NR_PRIVATE];
	/* ICH_VMCR_EL2, ICH_AP0R0_EL2, ICH_AP1R0_EL2 */
	u64 vmcr, active0, active1;
};

/* A VM's distributor. Word 0 and its priorities and targets aren't used. */
struct vgic {
	/* Guest addresses; 0: there is none. */
	u64 dist, redist;
	bool group1;
	struct vgic_word words[VGIC_NR_WORDS];
	u8 priority[VGIC_NR_WORDS * 32];
	/* The index of the vCPU */
	u8 target[VGIC_NR_WORDS * 32];
};

void vgic_init(struct vm *vm, u64 dist, u64 redist);
void vgic_cpu_init(struct vgic_cpu *cpu);

/*
 * Raise an edge of a shared interrupt, 32 and up; the vCPU is woken. Another
 * number, or a VM without a controller, does nothing.
 */
void vgic_raise(struct vm *vm, u32 interrupt);
/* Which interrupts of a word may go to a vCPU that isn't masking them? */
u32 vgic_deliverable(const struct vgic *gic, const struct vgic_word *word);
/* Is there an interrupt that ends a wait of the vCPU, which is loaded here? */
bool vgic_has_interrupt(const struct vcpu *vcpu);
/* The vCPU writes ICC_SGI1R_EL1. */
void vgic_send_sgi(struct vcpu *vcpu, u64 value);

/*
 * vgic_access.c: access a register. False: it isn't one of the controller's, or
 * the instruction can't be emulated.
 */
bool vgic_access(struct vcpu *vcpu, struct regs *regs, u64 esr, u64 gpa);

/*
 * vgic_cpu.c: take the CPU interface for a vCPU or give it back, and fill the
 * list registers or read them. The guest runs between vgic_fill() and
 * vgic_read().
 */
void vgic_enter(struct vcpu *vcpu);
void vgic_leave(struct vcpu *vcpu);
void vgic_fill(struct vcpu *vcpu);
void vgic_read(struct vcpu *vcpu);
/* An interrupt has ended the guest's turn: is it the monitor's own? */
bool vgic_is_own_interrupt(void);
/* Let the timer of EL2 end a WFI of the monitor, or no longer. */
void vgic_take_timer(bool take);
/* Make the guest on another CPU exit. */
void vgic_kick_cpu(u32 cpu);

#endif /* _VGIC_H */
