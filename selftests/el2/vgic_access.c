// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registers of the distributor and the redistributors. An access of 64 bits
 * is one to each half; of a smaller one than 32 bits, only priorities know more
 * than how to be read.
 */
#include "trap.h"
#include "vm.h"

#define GICD_CTLR		0x0
#define GICD_TYPER		0x4
#define GICD_IROUTER		0x6000
#define GICR_TYPER		0x8
#define GIC_IIDR_DIST		0x8
#define GIC_IIDR_REDIST		0x4
#define GIC_PIDR2		0xffe8

/* The registers for interrupts: a bit, a byte or two bits for each */
#define GIC_IGROUPR		0x80
#define GIC_ISENABLER		0x100
#define GIC_ICENABLER		0x180
#define GIC_ISPENDR		0x200
#define GIC_ICPENDR		0x280
#define GIC_ISACTIVER		0x300
#define GIC_ICACTIVER		0x380
#define GIC_IPRIORITYR		0x400
#define GIC_IPRIORITYR_END	0x800
#define GIC_ICFGR		0xc00
#define GIC_ICFGR_END		0xd00

/* Where the private interrupts begin in a redistributor */
#define REDIST_PRIVATE		0x10000

/* GICD_CTLR: affinity routing, one security state */
#define CTLR_GROUP1		(1U << 1)
#define CTLR_FIXED		(1U << 4 | 1U << 6)
/* GICD_TYPER: 1020 interrupts, 10 bits, no routing to "any" */
#define TYPER			(31U | 9U << 19 | 1U << 25)
/* GICR_TYPER: the last redistributor; the CPU's number */
#define TYPER_LAST		(1U << 4)
#define TYPER_NUMBER_SHIFT	8
#define IIDR			0x43bU
#define PIDR2_GICV3		0x3bU

/* The interrupts that an access is about: 32 shared ones, or a vCPU's own. */
struct bank {
	struct vgic_word *word;
	u8 *priority;
};

static u32 word_bits(const struct vgic_word *word, u64 offset)
{
	switch (offset & ~0x7fUL) {
	case GIC_IGROUPR:
		return word->group;
	case GIC_ISENABLER:
	case GIC_ICENABLER:
		return word->enabled;
	case GIC_ISPENDR:
	case GIC_ICPENDR:
		return word->pending;
	default:
		return word->active;
	}
}

static void write_word(struct vgic_word *word, u64 offset, u32 value)
{
	switch (offset & ~0x7fUL) {
	case GIC_IGROUPR:
		word->group = value;
		break;
	case GIC_ISENABLER:
		word->enabled |= value;
		break;
	case GIC_ICENABLER:
		word->enabled &= ~value;
		break;
	case GIC_ISPENDR:
		word->pending |= value;
		break;
	case GIC_ICPENDR:
		word->pending &= ~value;
		break;
	case GIC_ISACTIVER:
		word->active |= value;
		break;
	case GIC_ICACTIVER:
		word->active &= ~value;
		break;
	}
}

static u32 read_config(const struct vgic_word *word, bool upper)
{
	u32 edge = upper ? word->edge >> 16 : word->edge, value = 0;

	for (u32 i = 0; i < 16; i++)
		value |= (edge >> i & 1) << (2 * i + 1);
	return value;
}

static void write_config(struct vgic_word *word, bool upper, u32 value)
{
	for (u32 i = 0; i < 16; i++) {
		u32 bit = 1U << (upper ? 16 + i : i);

		if (value >> (2 * i + 1) & 1)
			word->edge |= bit;
		else
			word->edge &= ~bit;
	}
}

/* ---- 32 bits of a bank ---- */

static bool in_bank(u64 offset)
{
	return (offset >= GIC_IGROUPR && offset < GIC_IPRIORITYR_END) ||
	       (offset >= GIC_ICFGR && offset < GIC_ICFGR_END);
}

/* The number of the bank of 32 interrupts that has the register */
static u32 bank_of(u64 offset)
{
	if (offset < GIC_IPRIORITYR)
		return (offset & 0x7f) / 4;
	if (offset < GIC_IPRIORITYR_END)
		return (offset - GIC_IPRIORITYR) / 32;
	return (offset - GIC_ICFGR) / 8;
}

static u32 read_bank(const struct bank *bank, u64 offset)
{
	u32 value;

	if (offset < GIC_IPRIORITYR)
		return word_bits(bank->word, offset);
	if (offset >= GIC_ICFGR)
		return read_config(bank->word, offset & 4);
	memcpy(&value, bank->priority + offset % 32, sizeof(value));
	return value;
}

static void write_bank(const struct bank *bank, u64 offset, u32 value,
		       u32 size)
{
	if (offset >= GIC_IPRIORITYR && offset < GIC_IPRIORITYR_END) {
		memcpy(bank->priority + offset % 32, &value, size);
		return;
	}
	if (size < sizeof(value))
		return;
	if (offset < GIC_IPRIORITYR)
		write_word(bank->word, offset, value);
	else
		write_config(bank->word, offset & 4, value);
}

/* ---- the distributor ---- */

/* Returns false if the distributor has no such interrupts. */
static bool shared_bank(struct vgic *gic, u64 offset, struct bank *bank)
{
	u32 n = bank_of(offset);

	if (!in_bank(offset) || !n || n >= VGIC_NR_WORDS)
		return false;
	bank->word = &gic->words[n];
	bank->priority = &gic->priority[n * 32];
	return true;
}

/* The interrupt whose IROUTER that is, or 0 */
static u32 routed(u64 offset)
{
	u64 n = (offset - GICD_IROUTER) / 8;

	return offset >= GICD_IROUTER + 8 * VGIC_NR_PRIVATE &&
	       n < VGIC_NR_INTERRUPTS ? n : 0;
}

static u32 read_dist(struct vgic *gic, u64 offset)
{
	struct bank bank;
	u32 interrupt = routed(offset);

	if (shared_bank(gic, offset, &bank))
		return read_bank(&bank, offset);
	if (interrupt)
		return offset & 4 ? 0 : gic->target[interrupt];
	switch (offset) {
	case GICD_CTLR:
		return CTLR_FIXED | (gic->group1 ? CTLR_GROUP1 : 0);
	case GICD_TYPER:
		return TYPER;
	case GIC_IIDR_DIST:
		return IIDR;
	case GIC_PIDR2:
		return PIDR2_GICV3;
	default:
		return 0;
	}
}

static void write_dist(struct vm *vm, u64 offset, u32 value, u32 size)
{
	struct vgic *gic = &vm->gic;
	struct bank bank;
	u32 interrupt = routed(offset);

	if (shared_bank(gic, offset, &bank))
		write_bank(&bank, offset, value, size);
	else if (interrupt && !(offset & 4))
		gic->target[interrupt] = value < vm->nr_vcpus ? value : 0;
	else if (offset == GICD_CTLR)
		gic->group1 = value & CTLR_GROUP1;
}

/* ---- the redistributors ---- */

static bool private_bank(struct vcpu *vcpu, u64 offset, struct bank *bank)
{
	offset -= REDIST_PRIVATE;
	if (offset >= REDIST_PRIVATE || !in_bank(offset) || bank_of(offset))
		return false;
	bank->word = &vcpu->gic.word;
	bank->priority = vcpu->gic.priority;
	return true;
}

static u32 read_redist(struct vcpu *vcpu, u64 offset)
{
	struct bank bank;

	if (private_bank(vcpu, offset, &bank))
		return read_bank(&bank, offset - REDIST_PRIVATE);
	switch (offset) {
	case GICR_TYPER:
		return vcpu->index << TYPER_NUMBER_SHIFT |
		       (vcpu->index == vcpu->vm->nr_vcpus - 1 ? TYPER_LAST : 0);
	case GICR_TYPER + 4:
		return vcpu->index;
	case GIC_IIDR_REDIST:
		return IIDR;
	case GIC_PIDR2:
		return PIDR2_GICV3;
	default:
		/* GICR_WAKER, too: a redistributor never sleeps. */
		return 0;
	}
}

static void write_redist(struct vcpu *vcpu, u64 offset, u32 value, u32 size)
{
	struct bank bank;

	if (private_bank(vcpu, offset, &bank))
		write_bank(&bank, offset - REDIST_PRIVATE, value, size);
}

/* ---- accesses ---- */

/* Offset in the distributor, or in a vCPU's redistributor */
struct place {
	struct vm *vm;
	struct vcpu *redist;
	u64 offset;
};

static bool find_place(struct vm *vm, u64 gpa, struct place *place)
{
	u64 redist = gpa - vm->gic.redist;

	place->vm = vm;
	place->redist = NULL;
	place->offset = gpa - vm->gic.dist;
	if (!vm->gic.dist)
		return false;
	if (place->offset < VGIC_DIST_SIZE)
		return true;
	if (redist / VGIC_REDIST_SIZE >= vm->nr_vcpus)
		return false;
	place->redist = &vm->vcpus[redist / VGIC_REDIST_SIZE];
	place->offset = redist % VGIC_REDIST_SIZE;
	return true;
}

static u32 read_half(const struct place *place, u64 offset)
{
	return place->redist ? read_redist(place->redist, offset) :
			       read_dist(&place->vm->gic, offset);
}

static void write_half(const struct place *place, u64 offset, u32 value,
		       u32 size)
{
	if (place->redist)
		write_redist(place->redist, offset, value, size);
	else
		write_dist(place->vm, offset, value, size);
}

static u64 read_register(const struct place *place, u32 size)
{
	u64 value = read_half(place, place->offset & ~3UL);

	if (size == 8)
		value |= (u64)read_half(place, place->offset + 4) << 32;
	return value >> 8 * (place->offset & 3);
}

static void write_register(const struct place *place, u64 value, u32 size)
{
	write_half(place, place->offset, value, size < 4 ? size : 4);
	if (size == 8)
		write_half(place, place->offset + 4, value >> 32, 4);
}

bool vgic_access(struct vcpu *vcpu, struct regs *regs, u64 esr, u64 gpa)
{
	u32 size = ESR_SIZE(esr), number = ESR_REGISTER(esr);
	struct place place;

	if (!(esr & ESR_VALID) || esr & (ESR_WALK | ESR_CACHE_OP) ||
	    !ALIGNED(gpa, size) || !find_place(vcpu->vm, gpa, &place))
		return false;
	if (!(esr & ESR_WRITE)) {
		u64 value = esr_extend(read_register(&place, size), esr);

		if (number < ARRAY_SIZE(regs->x))
			regs->x[number] = value;
	} else {
		write_register(&place,
			       number < ARRAY_SIZE(regs->x) ? regs->x[number] :
							      0,
			       size);
		/* The change may be about an interrupt that another one has. */
		vcpus_kick(vcpu->vm, vcpu);
	}
	regs->pc += 4;
	return true;
}
