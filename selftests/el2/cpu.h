/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _CPU_H
#define _CPU_H

#include "el2.h"

/* Bits of HCR_EL2 */
#define HCR_VM			(1UL << 0)
#define HCR_FMO			(1UL << 3)
#define HCR_IMO			(1UL << 4)
#define HCR_AMO			(1UL << 5)
#define HCR_FB			(1UL << 9)
#define HCR_BSU_INNER		(1UL << 10)
#define HCR_TWI			(1UL << 13)
#define HCR_TSC			(1UL << 19)
#define HCR_RW			(1UL << 31)

/* Interrupts go to the host, which owns their controller; SMC comes here. */
#define HCR_HOST		(HCR_RW | HCR_TSC | HCR_VM)
/*
 * The host's interrupts end a guest's turn. Its vCPUs move between CPUs, so
 * flushes of TLBs and barriers are for all CPUs.
 */
#define HCR_GUEST		(HCR_HOST | HCR_FMO | HCR_IMO | HCR_AMO | \
				 HCR_FB | HCR_BSU_INNER | HCR_TWI)

/* No trace; nothing else trapped. */
#define CPTR_HOST		0x33ff
/*
 * The vector registers have the host's values until the guest uses them: see
 * vcpu.c.
 */
#define CPTR_FPSIMD		(1 << 10)
#define CPTR_GUEST		(CPTR_HOST | CPTR_FPSIMD | 1 << 20)
/* Debug registers and counters are the host's, too. */
#define MDCR_GUEST		(1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11)

/* SCTLR_EL1 with all off; EL1h with all interrupts masked. */
#define SCTLR_EL1_RESET		0x30d00800
#define PSTATE_RESET		0x3c5

struct vcpu;

/* One physical CPU; TPIDR_EL2 points to it. */
struct cpu {
	/* The host's entry point and argument of PSCI's CPU_ON. */
	u64 entry, context;
	/* The guest that runs now; NULL if the host runs. */
	struct vcpu *guest;
};

extern struct cpu cpus[MAX_CPUS];

static inline struct cpu *this_cpu(void)
{
	return (struct cpu *)sysreg_read(tpidr_el2);
}

#endif /* _CPU_H */
