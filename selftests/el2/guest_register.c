// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest's accesses to system registers that trap. SGIs are sent by one. Those
 * of debugging and of counters read as zero and ignore writes: a guest has
 * neither, but Linux resets them at its start.
 */
#include "trap.h"
#include "vm.h"

#define SYSREG_OP0(esr)		((esr) >> 20 & 3)
#define SYSREG_CRN(esr)		((esr) >> 10 & 0xf)
#define SYSREG_CRM(esr)		((esr) >> 1 & 0xf)

#define ICC_ASGI1R_EL1		SYSREG(3, 0, 12, 11, 6)
#define ICC_SGI0R_EL1		SYSREG(3, 0, 12, 11, 7)
#define ICC_SGI1R_EL1		SYSREG(3, 0, 12, 11, 5)

static bool is_debug(u64 esr)
{
	return SYSREG_OP0(esr) == 2;
}

static bool is_counter(u64 esr)
{
	return SYSREG_OP0(esr) == 3 &&
	       ((SYSREG_CRN(esr) == 9 && SYSREG_CRM(esr) >= 12) ||
		(SYSREG_CRN(esr) == 14 && SYSREG_CRM(esr) >= 8));
}

void guest_register(struct vcpu *vcpu, struct regs *regs, u64 esr)
{
	u32 number = ESR_SYSREG_REGISTER(esr);
	bool read = esr & ESR_SYSREG_READ;
	u64 value = number < ARRAY_SIZE(regs->x) ? regs->x[number] : 0;

	switch (ESR_SYSREG(esr)) {
	case ICC_SGI1R_EL1:
		vgic_send_sgi(vcpu, value);
		break;
	case ICC_SGI0R_EL1:
	case ICC_ASGI1R_EL1:
		/* There is no other security state, and nobody uses group 0. */
		break;
	default:
		if (!is_debug(esr) && !is_counter(esr)) {
			inject_undefined(regs);
			return;
		}
		if (read && number < ARRAY_SIZE(regs->x))
			regs->x[number] = 0;
	}
	regs->pc += 4;
}
