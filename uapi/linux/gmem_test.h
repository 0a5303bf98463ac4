/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The call that drives the mock provider, and other means of tests. Only a module
 * built with GMEM_TEST=1 has them. They are not part of the ABI.
 */
#ifndef _UAPI_LINUX_GMEM_TEST_H
#define _UAPI_LINUX_GMEM_TEST_H

#include <linux/gmem.h>

/**
 * enum gmem_test_op - operations of GMEM_TEST
 * @GMEM_TEST_ACCESS: access memory as the guest: @length bytes at @guest_addr,
 *	not across a page boundary, to or from @buffer. -EFAULT if the access is
 *	refused (GMEM_VM_FAULTS has the reason).
 * @GMEM_TEST_FAIL: fail @times passes of @point in a row, beginning with the
 *	@nth next one. @nth 0 switches the point off.
 * @GMEM_TEST_LOOKUP: report in @provided the guest's rights at @guest_addr in
 *	the second stage, and in @length the number of pages in it
 * @GMEM_TEST_HOLD_EVENTS: @nth not 0: keep events in the module; 0: send them
 *	again
 * @GMEM_TEST_HOLD_RECLAIM: @nth not 0: a reclaim of the page at @guest_addr
 *	waits, for @nth milliseconds at most; 0: it continues
 * @GMEM_TEST_SLOW_FAULT: every access that needs a page, of any VM and any host,
 *	spends @nth milliseconds at @point
 */
enum gmem_test_op {
	GMEM_TEST_ACCESS = 1,
	GMEM_TEST_FAIL = 2,
	GMEM_TEST_LOOKUP = 3,
	GMEM_TEST_HOLD_EVENTS = 4,
	GMEM_TEST_HOLD_RECLAIM = 5,
	GMEM_TEST_SLOW_FAULT = 6,
};

/**
 * enum gmem_test_point - points where the mock can fail
 * @GMEM_TEST_DONATE: first half of providing a page: the host gives it away
 * @GMEM_TEST_MAP: second half: the page appears in the guest. A failure here
 *	hands the page back, which is a pass of GMEM_TEST_RECLAIM.
 * @GMEM_TEST_RECLAIM: the host takes a page back
 */
enum gmem_test_point {
	GMEM_TEST_DONATE = 0,
	GMEM_TEST_MAP = 1,
	GMEM_TEST_RECLAIM = 2,
#define GMEM_TEST_NR_POINTS 3
};

/**
 * enum gmem_test_fault_point - points of an access that needs a page
 * @GMEM_TEST_FAULT_FOUND: by a guest: the binding is found, without a lock; no
 *	reference to its file is taken yet
 * @GMEM_TEST_FAULT_HELD: by a guest: the file of the binding is held; the lock
 *	that keeps the binding isn't taken yet
 * @GMEM_TEST_FAULT_LOCKED: through a mapping of ordinary pages: the page is locked;
 *	the page table doesn't have it yet
 */
enum gmem_test_fault_point {
	GMEM_TEST_FAULT_FOUND = 0,
	GMEM_TEST_FAULT_HELD = 1,
	GMEM_TEST_FAULT_LOCKED = 2,
#define GMEM_TEST_NR_FAULT_POINTS 3
};

/* Bits of gmem_test.provided, besides those of enum gmem_access. */
#define GMEM_TEST_PROVIDED_LENT (1UL << 8)

/**
 * struct gmem_test - argument of GMEM_TEST
 * @size: sizeof(struct gmem_test)
 * @op: one of &enum gmem_test_op
 * @guest_addr: ACCESS, LOOKUP, HOLD_RECLAIM: guest address
 * @length: ACCESS: bytes; LOOKUP, out: pages in the second stage
 * @buffer: ACCESS: address of the caller's bytes
 * @access: ACCESS: one bit of &enum gmem_access; EXEC reads
 * @point: FAIL: one of &enum gmem_test_point; SLOW_FAULT: one of &enum
 *	gmem_test_fault_point
 * @nth: FAIL: number of the pass that fails, from 1; HOLD_EVENTS: on or off;
 *	HOLD_RECLAIM: milliseconds; SLOW_FAULT: milliseconds, below 1000
 * @times: FAIL: number of passes that fail in a row
 * @provided: LOOKUP, out: 0 if nothing is provided there, else the guest's
 *	rights, and GMEM_TEST_PROVIDED_LENT for lent memory
 * @reserved: 0
 */
struct gmem_test {
	__u32 size;
	__u32 op;
	__u64 guest_addr;
	__u64 length;
	__u64 buffer;
	__u32 access;
	__u32 point;
	__u32 nth;
	__u32 times;
	__u32 provided;
	__u32 reserved;
};

/*
 * Pages that a guestmem frees are full of this word, unless somebody holds them
 * pinned: a guest that reads it reaches a freed page.
 */
#define GMEM_TEST_FREED 0xf2eedbad

/** GMEM_TEST - ioctl on a VM of the mock provider; -ENOTTY on any other */
#define GMEM_TEST _IO(GMEM_IOCTL_TYPE, 0xf0)

#endif /* _UAPI_LINUX_GMEM_TEST_H */
