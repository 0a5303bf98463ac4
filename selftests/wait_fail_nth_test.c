// SPDX-License-Identifier: GPL-2.0-only
/*
 * Let the n-th allocation of a call fail, where pages fail or wait. A failed call
 * has changed nothing. Needs what fail_nth_test.c needs.
 */
#include "lib/fail_nth.h"
#include "lib/wait.h"

#define MAX_NTH 1000

FIXTURE(wait_fail_nth)
{
	struct gmem_stats before;
	int vm;
	int mem;
	int nth_fd;
	__u8 *window;
};

FIXTURE_SETUP(wait_fail_nth)
{
	if (!(get_features() & GMEM_FEATURE_WAIT))
		SKIP(return, "no waiting");
	self->nth_fd = fail_nth_open();
	if (self->nth_fd < 0)
		SKIP(return, "no CONFIG_FAULT_INJECTION");
	ASSERT_EQ(0, get_stats(&self->before));
	self->vm = new_wait_vm(0);
	ASSERT_LE(0, self->vm);
	self->mem = new_mem(4 * PAGE, 0);
	ASSERT_LE(0, self->mem);
	self->window = map_window(self->vm, 0, 4 * PAGE, PROT_READ);
	ASSERT_NE(MAP_FAILED, self->window);
}

FIXTURE_TEARDOWN(wait_fail_nth)
{
	munmap(self->window, 4 * PAGE);
	close(self->vm);
	close(self->mem);
	close(self->nth_fd);
	EXPECT_TRUE(stats_settle(&self->before));
}

/* A bind that fails leaves the pages failing, or else peek() would wait for ever. */
TEST_F(wait_fail_nth, bind)
{
	__u8 source[ANY_PAGE] = { 33 };
	int nth, ret, fills;

	for (fills = 0; fills < 2; fills++) {
		for (nth = 1, ret = -ENOMEM; ret && nth < MAX_NTH; nth++) {
			ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, 0,
						3 * PAGE));
			fail_nth_arm(self->nth_fd, nth);
			if (fills)
				ret = fill_mem(self->vm, PAGE, self->mem, PAGE,
					       PAGE, SHARE | RWX, source);
			else
				ret = map_mem(self->vm, PAGE, self->mem, 0,
					      PAGE, SHARE | RWX);
			fail_nth_disarm(self->nth_fd);
			if (!ret)
				break;
			ASSERT_EQ(-ENOMEM, ret);
			EXPECT_EQ(-SIGBUS, peek(self->window + PAGE));
		}
		EXPECT_EQ(0, ret);
		EXPECT_LT(1, nth);
		EXPECT_EQ(fills ? 33 : 0, peek(self->window + PAGE));
		EXPECT_EQ(-SIGBUS, peek(self->window));
		EXPECT_EQ(-SIGBUS, peek(self->window + 2 * PAGE));
		ASSERT_EQ(0, unmap_range(self->vm, 0, 4 * PAGE, NULL));
	}
}

TEST_F(wait_fail_nth, set_absent)
{
	int nth, ret = -ENOMEM;

	for (nth = 1; ret && nth < MAX_NTH; nth++) {
		ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, 0,
					3 * PAGE));
		fail_nth_arm(self->nth_fd, nth);
		ret = set_absent(self->vm, GMEM_ABSENT_WAIT, PAGE, PAGE);
		fail_nth_disarm(self->nth_fd);
		if (!ret)
			break;
		ASSERT_EQ(-ENOMEM, ret);
		EXPECT_EQ(-SIGBUS, peek(self->window + PAGE));
	}
	EXPECT_EQ(0, ret);
	for (nth = 1, ret = -ENOMEM; ret && nth < MAX_NTH; nth++) {
		fail_nth_arm(self->nth_fd, nth);
		ret = set_absent(self->vm, GMEM_ABSENT_FAIL, PAGE, PAGE);
		fail_nth_disarm(self->nth_fd);
		if (ret)
			ASSERT_EQ(-ENOMEM, ret);
	}
	EXPECT_EQ(0, ret);
	EXPECT_EQ(-SIGBUS, peek(self->window + PAGE));
}

/* The making of a VM, with its two files. */
TEST_F(wait_fail_nth, create)
{
	int nth, vm = -ENOMEM;

	for (nth = 1; vm < 0 && nth < MAX_NTH; nth++) {
		fail_nth_arm(self->nth_fd, nth);
		vm = new_wait_vm(0);
		fail_nth_disarm(self->nth_fd);
		if (vm < 0)
			ASSERT_TRUE(vm == -ENOMEM || vm == -ENFILE);
	}
	EXPECT_LE(0, vm);
	EXPECT_LT(2, nth);
	close(vm);
}

TEST_HARNESS_MAIN
