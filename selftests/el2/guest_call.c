// SPDX-License-Identifier: GPL-2.0-only
/* A guest's calls: PSCI, and those of guest_rpc.c. */
#include "guest_rpc.h"
#include "vm.h"

#define PSCI_VERSION		0x84000000
#define PSCI_CPU_OFF		0x84000002
#define PSCI_CPU_ON		0x84000003
#define PSCI_CPU_ON_64		0xc4000003
#define PSCI_AFFINITY_INFO	0x84000004
#define PSCI_AFFINITY_INFO_64	0xc4000004
#define PSCI_MIGRATE_INFO_TYPE	0x84000006
#define PSCI_SYSTEM_OFF		0x84000008
#define PSCI_SYSTEM_RESET	0x84000009
#define PSCI_FEATURES		0x8400000a
#define PSCI_SYSTEM_RESET2	0x84000012
#define PSCI_SYSTEM_RESET2_64	0xc4000012
#define PSCI_1_1		0x10001
#define PSCI_INVALID_PARAMETERS	-2
#define PSCI_DENIED		-3
#define PSCI_ALREADY_ON		-4
#define PSCI_AFFINITY_ON	0
#define PSCI_AFFINITY_OFF	1
/* No system of the secure side must be moved before its CPU is turned off. */
#define PSCI_NO_MIGRATION	2

#define SMCCC_VERSION		0x80000000
#define SMCCC_1_2		0x10002

/* The data of VCPU_SYSTEM_RESET: not PSCI_SYSTEM_RESET2; of its 64-bit form */
#define RESET_1			(1UL << 63)
#define RESET_64		(1UL << 62)

/* The affinity fields of a register, which PSCI's callers pass */
#define AFFINITY		0xff00ffffffUL

/* NULL: there is no such vCPU. */
static struct vcpu *find(struct vm *vm, u64 affinity)
{
	affinity &= AFFINITY;
	return affinity < vm->nr_vcpus ? &vm->vcpus[affinity] : NULL;
}

static bool is_last(const struct vcpu *vcpu)
{
	const struct vm *vm = vcpu->vm;

	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		if (i != vcpu->index && !vm->vcpus[i].off)
			return false;
	}
	return true;
}

static s64 cpu_on(struct vm *vm, const u64 *x)
{
	struct vcpu *vcpu = find(vm, x[1]);

	if (!vcpu)
		return PSCI_INVALID_PARAMETERS;
	if (!vcpu->off)
		return PSCI_ALREADY_ON;
	vcpu_init(vcpu, x[2], x[3]);
	vcpu_wake(vcpu);
	return OK;
}

static s64 affinity_info(struct vm *vm, const u64 *x)
{
	const struct vcpu *vcpu = find(vm, x[1]);

	if (!vcpu || x[2])
		return PSCI_INVALID_PARAMETERS;
	return vcpu->off ? PSCI_AFFINITY_OFF : PSCI_AFFINITY_ON;
}

static s64 features(u32 function)
{
	switch (function) {
	case SMCCC_VERSION:
	case PSCI_VERSION:
	case PSCI_CPU_OFF:
	case PSCI_CPU_ON:
	case PSCI_CPU_ON_64:
	case PSCI_AFFINITY_INFO:
	case PSCI_AFFINITY_INFO_64:
	case PSCI_MIGRATE_INFO_TYPE:
	case PSCI_SYSTEM_OFF:
	case PSCI_SYSTEM_RESET:
	case PSCI_FEATURES:
		return OK;
	case PSCI_SYSTEM_RESET2:
	case PSCI_SYSTEM_RESET2_64:
		return rm_is_public() ? OK : UNIMPLEMENTED;
	default:
		return UNIMPLEMENTED;
	}
}

/* x1 type, x2 cookie */
static bool reset2(const struct regs *regs, struct exit *exit)
{
	bool wide = (u32)regs->x[0] == PSCI_SYSTEM_RESET2_64;

	exit->state = VCPU_SYSTEM_RESET;
	exit->data[0] = (u32)regs->x[1] | (wide ? RESET_64 : 0);
	exit->data[1] = wide ? regs->x[2] : (u32)regs->x[2];
	return true;
}

/* The guest goes on, except if the last CPU of another platform is off. */
static bool cpu_off(struct vcpu *vcpu, u64 *x, struct exit *exit)
{
	bool last = is_last(vcpu);

	if (last && rm_is_public()) {
		x[0] = PSCI_DENIED;
		return false;
	}
	vcpu->off = !last;
	exit->state = VCPU_POWERED_OFF;
	return true;
}

bool guest_call(struct vcpu *vcpu, struct regs *regs, struct exit *exit)
{
	struct vm *vm = vcpu->vm;
	u64 *x = regs->x;

	switch ((u32)x[0]) {
	case PSCI_VERSION:
		x[0] = PSCI_1_1;
		return false;
	case SMCCC_VERSION:
		x[0] = SMCCC_1_2;
		return false;
	case PSCI_FEATURES:
		x[0] = features(x[1]);
		return false;
	case PSCI_MIGRATE_INFO_TYPE:
		x[0] = PSCI_NO_MIGRATION;
		return false;
	case PSCI_CPU_ON:
	case PSCI_CPU_ON_64:
		x[0] = cpu_on(vm, x);
		return false;
	case PSCI_AFFINITY_INFO:
	case PSCI_AFFINITY_INFO_64:
		x[0] = affinity_info(vm, x);
		return false;
	case PSCI_CPU_OFF:
		return cpu_off(vcpu, x, exit);
	case PSCI_SYSTEM_OFF:
		exit->state = VCPU_POWERED_OFF;
		return true;
	case PSCI_SYSTEM_RESET:
		exit->state = VCPU_SYSTEM_RESET;
		if (rm_is_public())
			exit->data[0] = RESET_1;
		return true;
	case PSCI_SYSTEM_RESET2:
	case PSCI_SYSTEM_RESET2_64:
		if (rm_is_public())
			return reset2(regs, exit);
		__attribute__((__fallthrough__));
	default:
		if (!rm_is_public() || !guest_rpc_call(vm, x))
			x[0] = UNIMPLEMENTED;
		return false;
	}
}
