// SPDX-License-Identifier: GPL-2.0-only
/*
 * PSCI for the host. QEMU implements it by SMC, so calls are passed on. But a
 * CPU that is switched on begins at EL2, so it begins in the monitor.
 */
#include "cpu.h"

#define PSCI_FEATURES		0x8400000a
#define PSCI_CPU_ON_32		0x84000003
#define PSCI_CPU_ON_64		0xc4000003
#define PSCI_SYSTEM_SUSPEND_32	0x8400000e
#define PSCI_SYSTEM_SUSPEND_64	0xc400000e
#define PSCI_INVALID_PARAMETERS	-2

#define SMCCC_VERSION		0x80000000
#define SMCCC_ARCH_FEATURES	0x80000001
#define SMCCC_1_2		0x10002

#define SMC64			0x40000000

bool is_psci(u64 function)
{
	u64 n = function & ~(u64)SMC64;

	return (n >= 0x84000000 && n <= 0x8400001f) ||
	       function == SMCCC_VERSION || function == SMCCC_ARCH_FEATURES;
}

static u64 cpu_on(u64 function, u64 mpidr, u64 entry, u64 context)
{
	/* There are up to 8 CPUs; QEMU numbers them in the lowest field. */
	if (mpidr >= MAX_CPUS)
		return PSCI_INVALID_PARAMETERS;
	cpus[mpidr].entry = entry;
	cpus[mpidr].context = context;
	return smc(function, mpidr, (u64)secondary_entry, mpidr);
}

void handle_psci(struct regs *regs)
{
	u64 *x = regs->x;

	switch (x[0]) {
	case SMCCC_VERSION:
		x[0] = SMCCC_1_2;
		break;
	case SMCCC_ARCH_FEATURES:
	case PSCI_SYSTEM_SUSPEND_32:
	case PSCI_SYSTEM_SUSPEND_64:
		x[0] = UNIMPLEMENTED;
		break;
	case PSCI_CPU_ON_32:
	case PSCI_CPU_ON_64:
		x[0] = cpu_on(x[0], x[1], x[2], x[3]);
		break;
	case PSCI_FEATURES:
		if (x[1] == SMCCC_VERSION) {
			x[0] = 0;
			break;
		}
		/* QEMU answers for the others. */
		__attribute__((__fallthrough__));
	default:
		x[0] = smc(x[0], x[1], x[2], x[3]);
	}
}
