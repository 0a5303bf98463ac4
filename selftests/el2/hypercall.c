// SPDX-License-Identifier: GPL-2.0-only
/* The table of hypercalls. */
#include "bell.h"
#include "control.h"
#include "cpu.h"
#include "hypercall.h"
#include "rule.h"
#include "vcpu.h"

#define FUNCTION_BASE		0xc6008000
#define FUNCTION_UID		0x8600ff01
#define FUNCTION_REVISION	0x8600ff03

/* Version 1, 64 bits, variant 'Q', and the flags of the public snapshot. */
#define API_INFO		0x5100000000008001
#define API_FLAGS		0x10000eff

#define N_VCPU_RUN		0x65

static u64 calls;

u64 nr_hypercalls(void)
{
	return calls;
}

static s64 call_identify(u64 *x)
{
	x[1] = API_FLAGS;
	x[2] = 0;
	x[3] = 0;
	return API_INFO;
}

static const hypercall_fn hypercalls[] = {
	[0x00] = call_identify,
	[0x12] = call_doorbell_send,
	[0x13] = call_doorbell_receive,
	[0x15] = call_doorbell_mask,
	[0x1b] = call_msgqueue_send,
	[0x1c] = call_msgqueue_receive,
	[0x1d] = call_msgqueue_flush,
	[0x1f] = call_msgqueue_configure_send,
	[0x20] = call_msgqueue_configure_receive,
	[0x21] = call_msgqueue_configure,
	[0x2b] = call_addrspace_map,
	[0x2c] = call_addrspace_unmap,
	[0x2d] = call_addrspace_update_access,
	[0x30] = call_memextent_modify,
	[0x5a] = call_addrspace_lookup,
	[0x61] = call_memextent_donate,
};

static void gunyah_call(struct regs *regs, u64 n)
{
	s64 error;

	calls++;
	if (rule_hits(EL2_RULE_HYPERCALL_ERROR, n, (u64 *)&error))
		regs->x[0] = error;
	else if (n == N_VCPU_RUN)
		vcpu_run(regs);
	else if (n < ARRAY_SIZE(hypercalls) && hypercalls[n])
		regs->x[0] = hypercalls[n](regs->x);
	else
		regs->x[0] = UNIMPLEMENTED;
}

void handle_hypercall(struct regs *regs)
{
	static const u32 uid[] = { 0xcd8fd5c1, 0xdb5f53a4, 0x36ce6592,
				   0x145f3d67 };
	u64 function = regs->x[0];

	if (function == FUNCTION_UID) {
		for (u32 i = 0; i < ARRAY_SIZE(uid); i++)
			regs->x[i] = uid[i];
	} else if (function == FUNCTION_REVISION) {
		regs->x[0] = API_INFO;
	} else if (function >= FUNCTION_BASE &&
		   function < FUNCTION_BASE + 0x200) {
		gunyah_call(regs, function - FUNCTION_BASE);
	} else if (function >= EL2_CONTROL_BASE &&
		   function < EL2_CONTROL_BASE + 0x100) {
		regs->x[0] = handle_control(function, regs->x);
	} else {
		regs->x[0] = UNIMPLEMENTED;
	}
}
