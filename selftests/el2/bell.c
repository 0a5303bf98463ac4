// SPDX-License-Identifier: GPL-2.0-only
/*
 * Doorbells. The interrupt of one wakes a vCPU of the guest, even if the guest
 * has no interrupt controller.
 */
#include "bell.h"
#include "cap.h"
#include "control.h"
#include "vm.h"

#define NR_BELLS		256

/*
 * Interrupts of the host that no device of the machine uses, see TX_SPI: for
 * two vCPUs of each of the first VMs.
 */
#define WAKE_SPI		202
#define NR_WAKE_VMS		25
#define NR_WAKE_VCPUS		2
#define FIRST_SPI		32

static struct bell bells[NR_BELLS];

static struct {
	u32 label;
	u64 flags;
} plans[EL2_MAX_BELLS];
static u32 nr_plans;

s64 bell_plan(u64 label, u64 flags)
{
	if (label == EL2_ANY) {
		nr_plans = 0;
		return OK;
	}
	if (label > (u32)-1 || flags & ~(EL2_BELL_TO_HOST | EL2_BELL_CAN_CLEAR))
		return ARG_INVALID;
	if (nr_plans == ARRAY_SIZE(plans))
		return NORESOURCES;
	plans[nr_plans].label = label;
	plans[nr_plans++].flags = flags;
	return OK;
}

struct bell *bell_add(struct vm *vm, u32 label, bool to_host, bool can_clear)
{
	u8 rights = to_host ? BELL_RECEIVE : BELL_SEND;

	if (can_clear && !to_host)
		rights |= BELL_RECEIVE;
	for (struct bell *bell = bells; bell < bells + NR_BELLS; bell++) {
		if (bell->vmid)
			continue;
		if (!cap_create(CAP_DOORBELL, rights, 0, bell, &bell->cap))
			return NULL;
		bell->vmid = vm->vmid;
		bell->label = label;
		bell->to_host = to_host;
		bell->interrupt = 0;
		bell->flags = 0;
		bell->enable = ~0UL;
		bell->ack = 0;
		bell->asserted = 0;
		return bell;
	}
	return NULL;
}

bool bells_add(struct vm *vm)
{
	for (u32 i = 0; i < vm->config.nr_bells; i++) {
		const struct bell_config *config = &vm->config.bells[i];
		struct bell *bell = bell_add(vm, config->label, config->source,
					     config->source_can_clear);

		if (!bell)
			return false;
		bell->interrupt = config->interrupt;
	}
	for (u32 i = 0; i < nr_plans; i++) {
		if (!bell_add(vm, plans[i].label,
			      plans[i].flags & EL2_BELL_TO_HOST,
			      plans[i].flags & EL2_BELL_CAN_CLEAR))
			return false;
	}
	return true;
}

void bells_remove(struct vm *vm)
{
	for (struct bell *bell = bells; bell < bells + NR_BELLS; bell++) {
		if (bell->vmid != vm->vmid)
			continue;
		cap_revoke(bell->cap);
		bell->vmid = 0;
	}
}

struct bell *bell_at(u16 vmid, u32 i)
{
	for (struct bell *bell = bells; bell < bells + NR_BELLS; bell++) {
		if (bell->vmid == vmid && !i--)
			return bell;
	}
	return NULL;
}

struct bell *bell_labelled(u16 vmid, u32 label)
{
	for (struct bell *bell = bells; bell < bells + NR_BELLS; bell++) {
		if (vmid && bell->vmid == vmid && bell->label == label)
			return bell;
	}
	return NULL;
}

u32 wake_virq(const struct vcpu *vcpu)
{
	u32 vm = vcpu->vm->vmid - VMID_FIRST;

	if (vm >= NR_WAKE_VMS || vcpu->index >= NR_WAKE_VCPUS)
		return 0;
	return FIRST_SPI + WAKE_SPI + vm + vcpu->index * NR_WAKE_VMS;
}

void vcpu_wake(struct vcpu *vcpu)
{
	u32 virq = wake_virq(vcpu);

	vcpu->sleeps = false;
	if (vcpu->running)
		vcpu_kick(vcpu);
	else if (virq)
		raise_spi(virq - FIRST_SPI);
}

/*
 * The interrupt is asserted, and flags that acknowledge themselves are cleared.
 */
static void assert_bell(struct bell *bell)
{
	struct vm *vm = vm_find(bell->vmid);

	bell->asserted++;
	bell->flags &= ~bell->ack;
	if (bell->to_host || !vm)
		return;
	if (vm->gic.dist && bell->interrupt)
		vgic_raise(vm, bell->interrupt);
	else
		vcpu_wake(&vm->vcpus[0]);
}

/* ---- hypercalls of the host ---- */

static s64 find(u64 id, u8 rights, struct bell **bell)
{
	struct cap *cap;
	s64 error = cap_find(id, CAP_DOORBELL, rights, &cap);

	if (!error)
		*bell = cap->object;
	return error;
}

s64 call_doorbell_send(u64 *x)
{
	struct bell *bell;
	s64 error = find(x[1], BELL_SEND, &bell);

	if (!error && (!x[2] || x[3]))
		error = ARG_INVALID;
	if (error)
		return error;
	x[1] = bell->flags;
	bell->flags |= x[2];
	if (bell->flags & bell->enable)
		assert_bell(bell);
	return OK;
}

s64 call_doorbell_receive(u64 *x)
{
	struct bell *bell;
	s64 error = find(x[1], BELL_RECEIVE, &bell);

	if (!error && (!x[2] || x[3]))
		error = ARG_INVALID;
	if (error)
		return error;
	x[1] = bell->flags;
	bell->flags &= ~x[2];
	return OK;
}

s64 call_doorbell_mask(u64 *x)
{
	struct bell *bell;
	s64 error = find(x[1], BELL_RECEIVE, &bell);
	bool was_asserted;

	if (!error && x[4])
		error = ARG_INVALID;
	if (error)
		return error;
	was_asserted = bell->flags & bell->enable;
	bell->enable = x[2];
	bell->ack = x[3];
	if (!was_asserted && bell->flags & bell->enable)
		assert_bell(bell);
	else if (was_asserted && bell->flags & bell->enable)
		bell->flags &= ~bell->ack;
	return OK;
}
