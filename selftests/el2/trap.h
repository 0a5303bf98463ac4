/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _TRAP_H
#define _TRAP_H

#include "el2.h"
#include "stage2.h"

enum { TRAP_SYNCHRONOUS, TRAP_IRQ, TRAP_FIQ, TRAP_SERROR };

/* Exception classes in ESR_EL2; from the same level they are one more. */
enum {
	EC_WFX = 0x01,
	EC_FPSIMD = 0x07,
	EC_HVC = 0x16,
	EC_SMC = 0x17,
	EC_SYSREG = 0x18,
	EC_FETCH_ABORT = 0x20,
	EC_DATA_ABORT = 0x24,
};

#define ESR_EC_SHIFT		26
#define ESR_IL			(1UL << 25)
/*
 * For aborts: is it a plain load or store? Then its size, register and
 * direction
 */
#define ESR_VALID		(1UL << 24)
#define ESR_SIZE(esr)		(1U << ((esr) >> 22 & 3))
#define ESR_SIGNED		(1UL << 21)
#define ESR_REGISTER(esr)	((esr) >> 16 & 0x1f)
#define ESR_64BIT		(1UL << 15)
#define ESR_CACHE_OP		(1UL << 8)
#define ESR_WALK		(1UL << 7)
#define ESR_WRITE		(1UL << 6)
#define FSC_EXTERNAL_ABORT	0x10
/* For system registers: a read; the other register; CRm and op2 */
#define ESR_SYSREG_READ		1
#define ESR_SYSREG_REGISTER(esr)	((esr) >> 5 & 0x1f)
#define ESR_SYSREG(esr)		((esr) & 0x3ffc1e)
#define SYSREG(op0, op1, n, m, op2)					\
	((op0) << 20 | (op2) << 17 | (op1) << 14 | (n) << 10 | (m) << 1)
/* WFE rather than WFI */
#define ESR_WFE			1

static inline u64 esr_class(u64 esr)
{
	return esr >> ESR_EC_SHIFT & 0x3f;
}

u64 abort_ipa(u64 far);
/* Do the tables allow the access by now, after another CPU has changed them? */
bool is_spurious_abort(const struct stage2 *s2, u64 esr, u64 ipa);

#endif /* _TRAP_H */
