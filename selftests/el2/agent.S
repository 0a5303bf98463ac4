/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tests' guest. Tests copy it to the start of a page, which has a mailbox
 * at 0x800: operation, address and value of 8 bytes each. When it has finished
 * an operation, the agent sets the operation to 0 and waits for an interrupt
 * that never comes, which returns to the host. vm_util.h lists the operations;
 * an unknown one spins for ever.
 */
	.section .rodata, "a"
	.balign	8
	.global	agent_start, agent_write, agent_end
	.hidden	agent_start, agent_write, agent_end
agent_start:
	adr	x19, agent_start + 0x800
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
agent_end:

	.section .note.GNU-stack, "", %progbits
