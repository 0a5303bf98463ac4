/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tests' guest. Tests copy it to the start of a page, which has a mailbox
 * at 0x800: operation, address, value, the first X0, the number of interrupts
 * and the last eight of them, of 8 bytes each. When it has finished an
 * operation, the agent sets the operation to 0 and waits for an interrupt,
 * which returns to the host. vm_util.h lists the operations; an unknown one
 * spins for ever.
 */
	.section .rodata, "a"
	.balign	8
	.global	agent_start, agent_write, agent_end
	.hidden	agent_start, agent_write, agent_end
agent_start:
	adr	x19, agent_start + 0x800
	str	x0, [x19, #24]
1:	ldr	x20, [x19]
	cbz	x20, 9f
	ldr	x1, [x19, #8]
	ldr	x2, [x19, #16]
	cmp	x20, #1
	b.eq	2f
	cmp	x20, #2
	b.eq	3f
	cmp	x20, #3
	b.eq	4f
	cmp	x20, #4
	b.eq	5f
	cmp	x20, #5
	b.eq	6f
	cmp	x20, #6
	b.eq	7f
	cmp	x20, #8
	b.eq	10f
	cmp	x20, #9
	b.eq	11f
	cmp	x20, #11
	b.eq	12f
	cmp	x20, #12
	b.eq	13f
	cmp	x20, #13
	b.eq	14f
	cmp	x20, #14
	b.eq	15f
	b	.
2:	ldr	x2, [x1]
	b	8f
agent_write:
3:	str	x2, [x1]
	b	8f
4:	ldrsh	x2, [x1]
	b	8f
5:	blr	x1
	mov	x2, x0
	b	8f
6:	mov	x0, x1
	hvc	#0
	mov	x2, x0
8:	str	x2, [x19, #16]
	str	xzr, [x19]
9:	wfi
	b	1b
7:	ldr	x2, [x1]
	add	x2, x2, #1
	str	x2, [x1]
	b	7b
10:	adr	x3, agent_start
	msr	vbar_el1, x3
	isb
	ldr	x2, [x1]
	b	8b

11:	mov	x21, x1
	ldp	x0, x1, [x21]
	ldp	x2, x3, [x21, #16]
	ldr	x4, [x21, #32]
	hvc	#0
	stp	x0, x1, [x21]
	stp	x2, x3, [x21, #16]
	mov	x2, x0
	b	8b

	/* ICC_SRE_EL1, ICC_PMR_EL1, ICC_IGRPEN1_EL1 */
12:	adr	x3, agent_start
	msr	vbar_el1, x3
	mov	x3, #7
	msr	s3_0_c12_c12_5, x3
	isb
	msr	s3_0_c4_c6_0, x2
	mov	x3, #1
	msr	s3_0_c12_c12_7, x3
	isb
	msr	daifclr, #2
	b	8b
	/* ICC_SGI1R_EL1 */
13:	msr	s3_0_c12_c11_5, x2
	isb
	b	8b
14:	msr	cntv_tval_el0, x2
	mov	x3, #1
	msr	cntv_ctl_el0, x3
	isb
	b	8b
	/* CPACR_EL1: no traps */
15:	mov	x3, #3 << 20
	msr	cpacr_el1, x3
	isb
	fmov	d8, x2
	ldr	x3, [x1]
	fmov	x2, d8
	b	8b

	/* The vector for an exception at EL1 */
	.org	agent_start + 0x200
	mrs	x2, esr_el1
	b	8b

	/*
	 * The vector for an interrupt: ICC_IAR1_EL1, ICC_EOIR1_EL1. The timer
	 * would ask again, so turn it off.
	 */
	.org	agent_start + 0x280
	mrs	x9, s3_0_c12_c12_0
	cmp	x9, #27
	b.ne	16f
	msr	cntv_ctl_el0, xzr
16:	ldr	x10, [x19, #32]
	and	x11, x10, #7
	add	x11, x19, x11, lsl #3
	str	x9, [x11, #40]
	add	x10, x10, #1
	str	x10, [x19, #32]
	msr	s3_0_c12_c12_1, x9
	eret
agent_end:

	.section .note.GNU-stack, "", %progbits
