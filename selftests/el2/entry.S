/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The image's header, the first instructions of each CPU, and the way from a
 * lower exception level to C and back.
 */

#define REGS_SIZE	272
#define STACK_SHIFT	14

	.section .head, "ax"
	/*
	 * The header of arm64's boot protocol, which makes QEMU pass a device
	 * tree.
	 */
	b	primary_entry
	.long	0
	.quad	0			/* text offset */
	.quad	image_end - 0x40200000
	.quad	0xa			/* little-endian, 4 KiB, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

	.text
	.global	primary_entry
primary_entry:
	mov	x19, x0
	ldr	x0, =bss_start
	ldr	x1, =bss_end
1:	str	xzr, [x0], #8
	cmp	x0, x1
	b.lo	1b

	ldr	x0, =stacks + (1 << STACK_SHIFT) - REGS_SIZE
	mov	sp, x0
	mov	x0, x19
	mov	x1, sp
	bl	boot_primary
	b	return_to_lower

	/* x0 = CPU number, at EL2 with the MMU off. */
	.global	secondary_entry
secondary_entry:
	ldr	x1, =stacks
	add	x2, x0, #1
	add	x1, x1, x2, lsl #STACK_SHIFT
	sub	sp, x1, #REGS_SIZE
	mov	x1, sp
	bl	boot_secondary
	b	return_to_lower

	.macro	from_here kind
	.balign	128
	mov	x0, #\kind
	b	trap_here
	.endm

	.macro	from_lower kind
	.balign	128
	sub	sp, sp, #REGS_SIZE
	stp	x0, x1, [sp]
	mov	x1, #\kind
	b	trap_lower
	.endm

	/* Kinds: 0 synchronous, 1 IRQ, 2 FIQ, 3 SError. */
	.balign	2048
	.global	vectors
vectors:
	.irp	kind, 0, 1, 2, 3, 0, 1, 2, 3
	from_here \kind
	.endr
	/* The last four are AArch32's, which the host may run at EL0. */
	.irp	kind, 0, 1, 2, 3, 0, 1, 2, 3
	from_lower \kind
	.endr

trap_here:
	bl	handle_own_trap

trap_lower:
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	mrs	x2, elr_el2
	mrs	x3, spsr_el2
	stp	x30, x2, [sp, #240]
	str	x3, [sp, #256]
	mov	x0, sp
	bl	handle_trap

	/* The stack holds a struct regs and nothing else. */
return_to_lower:
	ldp	x30, x2, [sp, #240]
	ldr	x3, [sp, #256]
	msr	elr_el2, x2
	msr	spsr_el2, x3
	ldp	x28, x29, [sp, #224]
	ldp	x26, x27, [sp, #208]
	ldp	x24, x25, [sp, #192]
	ldp	x22, x23, [sp, #176]
	ldp	x20, x21, [sp, #160]
	ldp	x18, x19, [sp, #144]
	ldp	x16, x17, [sp, #128]
	ldp	x14, x15, [sp, #112]
	ldp	x12, x13, [sp, #96]
	ldp	x10, x11, [sp, #80]
	ldp	x8, x9, [sp, #64]
	ldp	x6, x7, [sp, #48]
	ldp	x4, x5, [sp, #32]
	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp]
	add	sp, sp, #REGS_SIZE
	eret

	.global	smc
smc:
	smc	#0
	ret

	.bss
	.balign	16
stacks:
	.skip	8 << STACK_SHIFT	/* MAX_CPUS */
