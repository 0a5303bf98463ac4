/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The program of a guest under Gunyah: it reads, writes or runs code at an
 * address. Its few instructions, at EL1 with the MMU off, ask a port of its
 * machine for a command, and report there.
 */
#ifndef LIB_GUNYAH_AGENT_H
#define LIB_GUNYAH_AGENT_H

#include "test.h"

/* The agent's memory: its code, and a page for a device tree. */
#define GUNYAH_AGENT GIB(256)
#define GUNYAH_AGENT_SIZE (2 * PAGE)
/* The port; no test binds its page. */
#define GUNYAH_PORT 0x1f000000ULL
#define GUNYAH_PORT_FAILED (GUNYAH_PORT + 8)

enum gunyah_command {
	GUNYAH_READ = 0,
	GUNYAH_WRITE = 1,
	/*
	 * Count in the 32-bit word at the address until the next word isn't 0.
	 */
	GUNYAH_SPIN = 2,
	/*
	 * Jump to the address. gunyah_answer returns, and reports
	 * GUNYAH_ANSWER.
	 */
	GUNYAH_EXEC = 3,
	/* Write to the address and to more behind it, a stride apart. */
	GUNYAH_TOUCH = 4,
	/* Make the PSCI call whose number is the address. */
	GUNYAH_PSCI = 5,
};

#define GUNYAH_PSCI_OFF 0x84000008ULL
#define GUNYAH_PSCI_RESET 0x84000009ULL

/* X28 holds the port. */
static const __u32 gunyah_code[] = {
	/* 00 start: */ 0x10004009,	/* adr x9, vectors */
	/* 04 */ 0xd518c009,		/* msr vbar_el1, x9 */
	/* 08 */ 0xd5033fdf,		/* isb */
	/* 0c ask: */ 0xf9400381,	/* ldr x1, [x28] */
	/* 10 */ 0xf9400380,		/* ldr x0, [x28] */
	/* 14 */ 0xf100043f,		/* cmp x1, #1 */
	/* 18 */ 0x54000180,		/* b.eq write */
	/* 1c */ 0xf100083f,		/* cmp x1, #2 */
	/* 20 */ 0x540001a0,		/* b.eq spin */
	/* 24 */ 0xf1000c3f,		/* cmp x1, #3 */
	/* 28 */ 0x54000220,		/* b.eq exec */
	/* 2c */ 0xf100103f,		/* cmp x1, #4 */
	/* 30 */ 0x54000220,		/* b.eq touch */
	/* 34 */ 0xf100143f,		/* cmp x1, #5 */
	/* 38 */ 0x540002e0,		/* b.eq psci */
	/* 3c */ 0x39400002,		/* ldrb w2, [x0] */
	/* 40 report: */ 0x39000382,	/* strb w2, [x28] */
	/* 44 */ 0x17fffff2,		/* b ask */
	/* 48 write: */ 0xf9400382,	/* ldr x2, [x28] */
	/* 4c */ 0x39000002,		/* strb w2, [x0] */
	/* 50 */ 0x17fffffc,		/* b report */
	/* 54 spin: */ 0xb9400003,	/* ldr w3, [x0] */
	/* 58 */ 0x11000463,		/* add w3, w3, #1 */
	/* 5c */ 0xb9000003,		/* str w3, [x0] */
	/* 60 */ 0xb9400404,		/* ldr w4, [x0, #4] */
	/* 64 */ 0x34ffff84,		/* cbz w4, spin */
	/* 68 */ 0x17fffff6,		/* b report */
	/* 6c exec: */ 0x10fffebd,	/* adr x29, report */
	/* 70 */ 0xd61f0000,		/* br x0 */
	/* 74 touch: */ 0xf9400385,	/* ldr x5, [x28] */
	/* 78 */ 0xf9400386,		/* ldr x6, [x28] */
	/* 7c */ 0x52800022,		/* mov w2, #1 */
	/* 80 next: */ 0x39000002,	/* strb w2, [x0] */
	/* 84 */ 0x8b060000,		/* add x0, x0, x6 */
	/* 88 */ 0xf10004a5,		/* subs x5, x5, #1 */
	/* 8c */ 0x54ffffa1,		/* b.ne next */
	/* 90 */ 0x17ffffec,		/* b report */
	/* 94 psci: */ 0xd4000002,	/* hvc #0 */
	/* 98 */ 0x2a0003e2,		/* mov w2, w0 */
	/* 9c */ 0x17ffffe9,		/* b report */
};

/* The vector for exceptions of EL1: an access has failed. */
#define GUNYAH_VECTOR 0xa00
static const __u32 gunyah_vector_code[] = {
	/* a00 */ 0x39002382,	/* strb w2, [x28, #8] */
	/* a04 */ 0x17fffd82,	/* b ask */
};

#define GUNYAH_ANSWER 0x5a
static const __u32 gunyah_answer[] = {
	0x52800002 | GUNYAH_ANSWER << 5,	/* mov w2, #GUNYAH_ANSWER */
	0xd61f03a0,				/* br x29 */
};

/* The device tree has only a magic number: the guest doesn't read it. */
static const __u64 gunyah_dtb_magic = 0xedfe0dd0;

#endif /* LIB_GUNYAH_AGENT_H */
