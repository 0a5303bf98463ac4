// SPDX-License-Identifier: GPL-2.0-only
/* The state of a guest's interrupts. */
#include "vm.h"

/* ICC_SGI1R_EL1 */
#define SGI_TARGETS		0xffff
#define SGI_AFFINITY		0x00ff00ff00ff0000UL
#define SGI_NUMBER(value)	((value) >> 24 & 0xf)
#define SGI_RANGE(value)	((value) >> 44 & 0xf)
#define SGI_ALL_BUT_SELF	(1UL << 40)

#define SGIS			0xffff

void vgic_init(struct vm *vm, u64 dist, u64 redist)
{
	memset(&vm->gic, 0, sizeof(vm->gic));
	vm->gic.dist = dist;
	vm->gic.redist = redist;
}

void vgic_cpu_init(struct vgic_cpu *cpu)
{
	memset(cpu, 0, sizeof(*cpu));
	cpu->word.edge = SGIS;
}

void vgic_raise(struct vm *vm, u32 interrupt)
{
	struct vgic *gic = &vm->gic;

	if (!gic->dist || interrupt < VGIC_NR_PRIVATE ||
	    interrupt >= VGIC_NR_INTERRUPTS)
		return;
	gic->words[interrupt / 32].pending |= 1U << interrupt % 32;
	vcpu_wake(&vm->vcpus[gic->target[interrupt]]);
}

u32 vgic_deliverable(const struct vgic *gic, const struct vgic_word *word)
{
	u32 pending = word->pending & word->enabled;

	/* A guest has no use for group 0, so that group is never off. */
	return gic->group1 ? pending : pending & ~word->group;
}

bool vgic_has_interrupt(const struct vcpu *vcpu)
{
	const struct vgic *gic = &vcpu->vm->gic;
	u8 mask = vcpu->gic.vmcr >> 24;

	if (!gic->dist)
		return false;
	for (u32 n = 0; n < VGIC_NR_WORDS; n++) {
		const struct vgic_word *word =
			n ? &gic->words[n] : &vcpu->gic.word;
		const u8 *priority =
			n ? &gic->priority[n * 32] : vcpu->gic.priority;

		for (u32 bits = vgic_deliverable(gic, word); bits;
		     bits &= bits - 1) {
			u32 bit = __builtin_ctz(bits);

			if (priority[bit] < mask &&
			    (!n || gic->target[n * 32 + bit] == vcpu->index))
				return true;
		}
	}
	return false;
}

void vgic_send_sgi(struct vcpu *vcpu, u64 value)
{
	struct vm *vm = vcpu->vm;

	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *target = &vm->vcpus[i];
		bool named = value & SGI_ALL_BUT_SELF ?
				     target != vcpu :
				     !(value & SGI_AFFINITY) &&
				     !SGI_RANGE(value) &&
				     value & SGI_TARGETS & 1U << i;

		if (!named)
			continue;
		target->gic.word.pending |= 1U << SGI_NUMBER(value);
		vcpu_wake(target);
	}
}
