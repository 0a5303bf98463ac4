// SPDX-License-Identifier: GPL-2.0-only
/*
 * The CPU's interrupt controller while a guest runs there.
 *
 * The host owns the controller. While a guest runs, the monitor has some
 * private interrupts that the host doesn't use: the timer of EL2, the
 * maintenance interrupt of the list registers, and an SGI by which CPUs kick
 * each other. The virtual timer's interrupt is the host's or the guest's, as
 * the timer is. A list register with the guest's names the physical interrupt,
 * which the guest ends with its own. Until then the physical one is active, so
 * that it doesn't end the guest's turn at once.
 */
#include "cpu.h"
#include "vm.h"

#define ICC_HPPIR1_EL1		S3_0_C12_C12_2
#define ICC_SGI1R_EL1		S3_0_C12_C11_5
#define ICH_AP0R0_EL2		S3_4_C12_C8_0
#define ICH_AP1R0_EL2		S3_4_C12_C9_0
#define ICH_HCR_EL2		S3_4_C12_C11_0
#define ICH_VMCR_EL2		S3_4_C12_C11_7

/* ICH_HCR_EL2: on; an interrupt when all list registers but one are free */
#define ICH_HCR_ON		1UL
#define ICH_HCR_UNDERFLOW	2UL

#define LR_PENDING		(1UL << 62)
#define LR_ACTIVE		(1UL << 63)
#define LR_HARDWARE		(1UL << 61)
#define LR_GROUP1		(1UL << 60)
#define LR_PRIORITY_SHIFT	48
#define LR_PHYSICAL_SHIFT	32

/* Of QEMU's virt machine: the frame of a CPU's private interrupts */
#define GICR_BASE		0x080a0000UL
#define GICR_STRIDE		0x20000UL
#define GICR_PRIVATE		0x10000UL
#define GICR_ISENABLER0		0x100
#define GICR_ICENABLER0		0x180
#define GICR_ICPENDR0		0x280
#define GICR_ISACTIVER0		0x300
#define GICR_ICACTIVER0		0x380

enum {
	INTERRUPT_KICK = 15,
	INTERRUPT_MAINTENANCE = 25,
	INTERRUPT_EL2_TIMER = 26,
	INTERRUPT_VTIMER = 27,
};

#define OWN_INTERRUPTS							\
	(1U << INTERRUPT_KICK | 1U << INTERRUPT_MAINTENANCE |		\
	 1U << INTERRUPT_EL2_TIMER)

static void write_gicr(u64 offset, u32 value)
{
	u64 cpu = this_cpu() - cpus;

	*(volatile u32 *)(GICR_BASE + cpu * GICR_STRIDE + GICR_PRIVATE +
			  offset) = value;
}

static u64 read_lr(u32 n)
{
	switch (n) {
	case 0:
		return sysreg_read(S3_4_C12_C12_0);
	case 1:
		return sysreg_read(S3_4_C12_C12_1);
	case 2:
		return sysreg_read(S3_4_C12_C12_2);
	default:
		return sysreg_read(S3_4_C12_C12_3);
	}
}

static void write_lr(u32 n, u64 value)
{
	switch (n) {
	case 0:
		sysreg_write(S3_4_C12_C12_0, value);
		break;
	case 1:
		sysreg_write(S3_4_C12_C12_1, value);
		break;
	case 2:
		sysreg_write(S3_4_C12_C12_2, value);
		break;
	default:
		sysreg_write(S3_4_C12_C12_3, value);
		break;
	}
}

/* ---- the list registers ---- */

/* Interrupts for the list registers, the most urgent first */
struct choice {
	u64 lrs[VGIC_NR_LRS];
	u32 n;
	/* There were more. */
	bool full;
};

/* Active ones come first: the guest must be able to end them. */
static bool is_before(u64 a, u64 b)
{
	if ((a ^ b) & LR_ACTIVE)
		return a & LR_ACTIVE;
	return (u8)(a >> LR_PRIORITY_SHIFT) < (u8)(b >> LR_PRIORITY_SHIFT);
}

static void choose(struct choice *choice, u64 lr)
{
	u32 at = choice->n;

	while (at && is_before(lr, choice->lrs[at - 1]))
		at--;
	if (choice->n == VGIC_NR_LRS)
		choice->full = true;
	else
		choice->n++;
	for (u32 i = choice->n - 1; i > at; i--)
		choice->lrs[i] = choice->lrs[i - 1];
	if (at < choice->n)
		choice->lrs[at] = lr;
}

static void choose_word(struct choice *choice, const struct vcpu *vcpu, u32 n)
{
	const struct vgic *gic = &vcpu->vm->gic;
	const struct vgic_word *word = n ? &gic->words[n] : &vcpu->gic.word;
	const u8 *priority = n ? &gic->priority[n * 32] : vcpu->gic.priority;
	u32 pending = vgic_deliverable(gic, word);

	for (u32 bits = pending | word->active; bits; bits &= bits - 1) {
		u32 bit = __builtin_ctz(bits);
		u64 lr = n * 32 + bit;

		if (n && gic->target[lr] != vcpu->index)
			continue;
		lr |= (u64)priority[bit] << LR_PRIORITY_SHIFT;
		if (word->group & 1U << bit)
			lr |= LR_GROUP1;
		if (word->active & 1U << bit)
			lr |= LR_ACTIVE;
		if (pending & 1U << bit)
			lr |= LR_PENDING;
		choose(choice, lr);
	}
}

static struct vgic_word *word_of(struct vcpu *vcpu, u32 interrupt)
{
	return interrupt < VGIC_NR_PRIVATE ?
		       &vcpu->gic.word :
		       &vcpu->vm->gic.words[interrupt / 32];
}

/* It has the level of the timer's output. */
static void update_vtimer(struct vcpu *vcpu)
{
	struct vgic_word *word = &vcpu->gic.word;
	u32 bit = 1U << INTERRUPT_VTIMER;

	if (vtimer_is_due() && !(word->active & bit))
		word->pending |= bit;
	else
		word->pending &= ~bit;
}

void vgic_fill(struct vcpu *vcpu)
{
	const struct vgic_word *private = &vcpu->gic.word;
	struct choice choice = { };
	bool vtimer = false;

	if (!vcpu->vm->gic.dist) {
		/* The guest polls its timer, if at all. */
		write_gicr(GICR_ISACTIVER0, 1U << INTERRUPT_VTIMER);
		return;
	}
	update_vtimer(vcpu);
	for (u32 i = 0; i < VGIC_NR_WORDS; i++)
		choose_word(&choice, vcpu, i);
	for (u32 i = 0; i < VGIC_NR_LRS; i++) {
		u64 lr = i < choice.n ? choice.lrs[i] : 0;
		struct vgic_word *word = word_of(vcpu, (u32)lr);
		u32 bit = 1U << (u32)lr % 32;

		if (lr & LR_PENDING)
			word->pending &= ~bit;
		if (lr & LR_ACTIVE)
			word->active &= ~bit;
		if (lr && (u32)lr == INTERRUPT_VTIMER) {
			vtimer = true;
			lr |= LR_HARDWARE |
			      (u64)INTERRUPT_VTIMER << LR_PHYSICAL_SHIFT;
		}
		write_lr(i, lr);
	}
	/* The guest masks it, or there is no room: it must wait. */
	vtimer |= private->pending & 1U << INTERRUPT_VTIMER;
	write_gicr(vtimer ? GICR_ISACTIVER0 : GICR_ICACTIVER0,
		   1U << INTERRUPT_VTIMER);
	sysreg_write(ICH_HCR_EL2,
		     ICH_HCR_ON | (choice.full ? ICH_HCR_UNDERFLOW : 0));
}

void vgic_read(struct vcpu *vcpu)
{
	if (!vcpu->vm->gic.dist)
		return;
	for (u32 i = 0; i < VGIC_NR_LRS; i++) {
		u64 lr = read_lr(i);
		struct vgic_word *word = word_of(vcpu, (u32)lr);
		u32 bit = 1U << (u32)lr % 32;

		if (lr & LR_PENDING)
			word->pending |= bit;
		if (lr & LR_ACTIVE)
			word->active |= bit;
	}
	vcpu->gic.vmcr = sysreg_read(ICH_VMCR_EL2);
	update_vtimer(vcpu);
}

/* ---- the CPU ---- */

void vgic_enter(struct vcpu *vcpu)
{
	sysreg_write(ICH_VMCR_EL2, vcpu->gic.vmcr);
	sysreg_write(ICH_AP0R0_EL2, vcpu->gic.active0);
	sysreg_write(ICH_AP1R0_EL2, vcpu->gic.active1);
	write_gicr(GICR_ISENABLER0, OWN_INTERRUPTS);
}

void vgic_leave(struct vcpu *vcpu)
{
	vcpu->gic.active0 = sysreg_read(ICH_AP0R0_EL2);
	vcpu->gic.active1 = sysreg_read(ICH_AP1R0_EL2);
	for (u32 i = 0; i < VGIC_NR_LRS; i++)
		write_lr(i, 0);
	/* Its traps are the host's: set_host_traps() sets them. */
	sysreg_write(ICH_HCR_EL2, 0);
	write_gicr(GICR_ICENABLER0, OWN_INTERRUPTS);
	write_gicr(GICR_ICPENDR0, 1U << INTERRUPT_KICK);
	write_gicr(GICR_ICACTIVER0, 1U << INTERRUPT_VTIMER);
}

bool vgic_is_own_interrupt(void)
{
	switch (sysreg_read(ICC_HPPIR1_EL1)) {
	case INTERRUPT_KICK:
		write_gicr(GICR_ICPENDR0, 1U << INTERRUPT_KICK);
		return true;
	case INTERRUPT_MAINTENANCE:
	case INTERRUPT_VTIMER:
		return true;
	default:
		return false;
	}
}

void vgic_take_timer(bool take)
{
	write_gicr(take ? GICR_ISENABLER0 : GICR_ICENABLER0,
		   1U << INTERRUPT_EL2_TIMER);
}

void vgic_kick_cpu(u32 cpu)
{
	asm volatile("dsb ish" : : : "memory");
	sysreg_write(ICC_SGI1R_EL1, (u64)INTERRUPT_KICK << 24 | 1UL << cpu);
	isb();
}
