/* SPDX-License-Identifier: GPL-2.0-only */
/* The test call of the mock provider, which stands for a guest. */
#ifndef LIB_MOCK_H
#define LIB_MOCK_H

#include "test.h"

#include <linux/gmem_test.h>

static inline int mock_call(int vm, struct gmem_test *test)
{
	test->size = sizeof(*test);
	return err_of(ioctl(vm, GMEM_TEST, test));
}

static inline int mock_access(int vm, __u64 gpa, __u32 access, void *buf,
			      size_t length)
{
	struct gmem_test test = {
		.op = GMEM_TEST_ACCESS,
		.guest_addr = gpa,
		.length = length,
		.buffer = ptr_u64(buf),
		.access = access,
	};

	return mock_call(vm, &test);
}

static inline int mock_fail(int vm, __u32 point, __u32 nth, __u32 times)
{
	struct gmem_test test = {
		.op = GMEM_TEST_FAIL,
		.point = point,
		.nth = nth,
		.times = times,
	};

	return mock_call(vm, &test);
}

/* Needs no particular VM: it slows down the faults of all of them. */
static inline int mock_slow_fault(int vm, __u32 point, __u32 ms)
{
	struct gmem_test test = {
		.op = GMEM_TEST_SLOW_FAULT,
		.point = point,
		.nth = ms,
	};

	return mock_call(vm, &test);
}

/*
 * The number of pages in the second stage; *provided: the guest's access at
 * @gpa.
 */
static inline int mock_lookup(int vm, __u64 gpa, __u32 *provided)
{
	struct gmem_test test = {
		.op = GMEM_TEST_LOOKUP,
		.guest_addr = gpa,
	};
	int ret = mock_call(vm, &test);

	if (provided)
		*provided = test.provided;
	return ret ? ret : (int)test.length;
}

/* A reclaim of the page at @gpa waits, for so long at most. */
static inline int mock_hold_for(int vm, __u64 gpa, __u32 ms)
{
	struct gmem_test test = {
		.op = GMEM_TEST_HOLD_RECLAIM,
		.guest_addr = gpa,
		.nth = ms,
	};

	return mock_call(vm, &test);
}

/* It waits until this is off again; if the test dies, for a minute. */
static inline int mock_hold(int vm, __u64 gpa, bool on)
{
	return mock_hold_for(vm, gpa, on ? 60000 : 0);
}

#endif /* LIB_MOCK_H */
