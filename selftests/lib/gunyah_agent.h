/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The program of a guest under Gunyah: it reads, writes or runs code at an
 * address. Its few instructions, at EL1 with the MMU off, ask a port of its
 * machine for a command, and report there.
 */
#ifndef LIB_GUNYAH_AGENT_H
#define LIB_GUNYAH_AGENT_H

#include "gmem.h"

/*
 * The agent's memory: a page of code, and a device tree with spare room. No
 * test binds there, nor above.
 */
static inline __u64 gunyah_agent_addr(void)
{
	static __u64 addr;
	struct gmem_info info;

	/* A guest may have only 36 bits of addresses. */
	if (!addr)
		addr = !get_info(0, &info) && info.max_guest_addr_bits > 40 ?
			       GIB(256) : GIB(48);
	return addr;
}

#define GUNYAH_AGENT gunyah_agent_addr()
#define GUNYAH_DTB (GUNYAH_AGENT + PAGE)
#define GUNYAH_DTB_PAGES 8
#define GUNYAH_DTB_SIZE (GUNYAH_DTB_PAGES * PAGE)
#define GUNYAH_AGENT_PAGES (1 + GUNYAH_DTB_PAGES)
#define GUNYAH_AGENT_SIZE (GUNYAH_AGENT_PAGES * PAGE)
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
	/* Call the hypervisor with X0 to X4 from the address; X0 goes there. */
	GUNYAH_CALL = 6,
};

#define GUNYAH_PSCI_OFF 0x84000008ULL
#define GUNYAH_PSCI_RESET 0x84000009ULL

/* X28 holds the port. */
static const __u32 gunyah_code[] = {
	/* 00 start: */ 0x10004009,	/* adr x9, vectors */
	/* 04 */ 0xd518c009,		/* msr vbar_el1, x9 */
	/* 08 */ 0xd2a3e01c,		/* mov x28, #GUNYAH_PORT */
	/* 0c */ 0xd5033fdf,		/* isb */
	/* 10 ask: */ 0xf9400381,	/* ldr x1, [x28] */
	/* 14 */ 0xf9400380,		/* ldr x0, [x28] */
	/* 18 */ 0xf100043f,		/* cmp x1, #1 */
	/* 1c */ 0x540001c0,		/* b.eq write */
	/* 20 */ 0xf100083f,		/* cmp x1, #2 */
	/* 24 */ 0x540001e0,		/* b.eq spin */
	/* 28 */ 0xf1000c3f,		/* cmp x1, #3 */
	/* 2c */ 0x54000260,		/* b.eq exec */
	/* 30 */ 0xf100103f,		/* cmp x1, #4 */
	/* 34 */ 0x54000260,		/* b.eq touch */
	/* 38 */ 0xf100143f,		/* cmp x1, #5 */
	/* 3c */ 0x54000320,		/* b.eq psci */
	/* 40 */ 0xf100183f,		/* cmp x1, #6 */
	/* 44 */ 0x54000340,		/* b.eq call */
	/* 48 */ 0x39400002,		/* ldrb w2, [x0] */
	/* 4c report: */ 0x39000382,	/* strb w2, [x28] */
	/* 50 */ 0x17fffff0,		/* b ask */
	/* 54 write: */ 0xf9400382,	/* ldr x2, [x28] */
	/* 58 */ 0x39000002,		/* strb w2, [x0] */
	/* 5c */ 0x17fffffc,		/* b report */
	/* 60 spin: */ 0xb9400003,	/* ldr w3, [x0] */
	/* 64 */ 0x11000463,		/* add w3, w3, #1 */
	/* 68 */ 0xb9000003,		/* str w3, [x0] */
	/* 6c */ 0xb9400404,		/* ldr w4, [x0, #4] */
	/* 70 */ 0x34ffff84,		/* cbz w4, spin */
	/* 74 */ 0x17fffff6,		/* b report */
	/* 78 exec: */ 0x10fffebd,	/* adr x29, report */
	/* 7c */ 0xd61f0000,		/* br x0 */
	/* 80 touch: */ 0xf9400385,	/* ldr x5, [x28] */
	/* 84 */ 0xf9400386,		/* ldr x6, [x28] */
	/* 88 */ 0x52800022,		/* mov w2, #1 */
	/* 8c next: */ 0x39000002,	/* strb w2, [x0] */
	/* 90 */ 0x8b060000,		/* add x0, x0, x6 */
	/* 94 */ 0xf10004a5,		/* subs x5, x5, #1 */
	/* 98 */ 0x54ffffa1,		/* b.ne next */
	/* 9c */ 0x17ffffec,		/* b report */
	/* a0 psci: */ 0xd4000002,	/* hvc #0 */
	/* a4 */ 0x2a0003e2,		/* mov w2, w0 */
	/* a8 */ 0x17ffffe9,		/* b report */
	/* ac call: */ 0xaa0003f5,	/* mov x21, x0 */
	/* b0 */ 0xa94006a0,		/* ldp x0, x1, [x21] */
	/* b4 */ 0xa9410ea2,		/* ldp x2, x3, [x21, #16] */
	/* b8 */ 0xf94012a4,		/* ldr x4, [x21, #32] */
	/* bc */ 0xd4000002,		/* hvc #0 */
	/* c0 */ 0xf90002a0,		/* str x0, [x21] */
	/* c4 */ 0x2a0003e2,		/* mov w2, w0 */
	/* c8 */ 0x17ffffe1,		/* b report */
};

/* The vector for exceptions of EL1: an access has failed. */
#define GUNYAH_VECTOR 0xa00
static const __u32 gunyah_vector_code[] = {
	/* a00 */ 0x39002382,		/* strb w2, [x28, #8] */
	/* a04 */ 0x17fffd83,		/* b ask */
};

#define GUNYAH_ANSWER 0x5a
static const __u32 gunyah_answer[] = {
	0x52800002 | GUNYAH_ANSWER << 5,	/* mov w2, #GUNYAH_ANSWER */
	0xd61f03a0,				/* br x29 */
};

#endif /* LIB_GUNYAH_AGENT_H */
