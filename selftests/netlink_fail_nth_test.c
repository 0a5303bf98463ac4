// SPDX-License-Identifier: GPL-2.0-only
/*
 * Let the n-th allocation of a netlink request fail, for n = 1, 2, 3 ... until
 * the request succeeds without a failed allocation.
 */
#include "lib/fail_nth.h"
#include "lib/gmem.h"
#include "lib/netlink_client.h"
#include "lib/view.h"

#define GPA GIB(1)
#define MANY 100

FIXTURE(netlink_fail_nth)
{
	int nth_fd;
	int vm;
	int mem;
};

FIXTURE_SETUP(netlink_fail_nth)
{
	int i;

	self->nth_fd = fail_nth_open();
	if (self->nth_fd < 0)
		SKIP(return, "no CONFIG_FAULT_INJECTION");
	self->vm = new_vm("window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->vm);
	self->mem = new_mem(MANY * PAGE, 0);
	ASSERT_LE(0, self->mem);
	for (i = 0; i < MANY; i++)
		ASSERT_EQ(0, map_mem(self->vm, GPA + 2 * i * PAGE, self->mem,
				     i * PAGE, PAGE, LEND | RWX));
}

FIXTURE_TEARDOWN(netlink_fail_nth)
{
	close(self->vm);
	close(self->mem);
}

static int get_vm(struct client *c, int vm, int mem)
{
	(void)mem;
	return request_u32(c, GMEM_CMD_VM_GET, NLM_F_ACK, GMEM_A_VM_ID,
			   vm_id(vm), NULL, NULL);
}

static int get_mem(struct client *c, int vm, int mem)
{
	(void)vm;
	return request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK, GMEM_A_MEM_ID,
			   mem_id(mem), NULL, NULL);
}

static int get_stats_nl(struct client *c, int vm, int mem)
{
	(void)vm;
	(void)mem;
	return request_do(c, GMEM_CMD_STATS_GET, NULL, NULL);
}

static int dump_bindings(struct client *c, int vm, int mem)
{
	(void)mem;
	return request_u32(c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
			   GMEM_A_BINDING_VM_ID, vm_id(vm), NULL, NULL);
}

static int dump_mems(struct client *c, int vm, int mem)
{
	(void)vm;
	(void)mem;
	return request_dump(c, GMEM_CMD_MEM_GET, NULL, NULL);
}

static int get_view(struct client *c, int vm, int mem)
{
	__u64 id;
	int view, ret;

	(void)vm;
	/* The call itself may fail, too. */
	view = new_view(mem, 0, PAGE, 0, &id);
	if (view < 0)
		return view;
	ret = request_u32(c, GMEM_CMD_VIEW_GET, NLM_F_ACK, GMEM_A_VIEW_ID, id,
			  NULL, NULL);
	close(view);
	return ret;
}

static int dump_views(struct client *c, int vm, int mem)
{
	(void)vm;
	(void)mem;
	return request_dump(c, GMEM_CMD_VIEW_GET, NULL, NULL);
}

static int dump_windows(struct client *c, int vm, int mem)
{
	(void)vm;
	(void)mem;
	return request_dump(c, GMEM_CMD_WINDOW_GET, NULL, NULL);
}

static int dump_faults(struct client *c, int vm, int mem)
{
	(void)mem;
	return request_u32(c, GMEM_CMD_FAULT_GET, NLM_F_DUMP,
			   GMEM_A_FAULT_VM_ID, vm_id(vm), NULL, NULL);
}

TEST_F(netlink_fail_nth, requests)
{
	int (*const requests[])(struct client *c, int vm, int mem) = {
		get_vm, get_mem, get_stats_nl, dump_bindings, dump_mems,
		get_view, dump_views, dump_windows, dump_faults,
	};
	int failures = 0, nth, ret;
	bool injected;
	unsigned int i;
	struct client c;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		injected = true;
		for (nth = 1; injected; nth++) {
			ASSERT_GT(500, nth);
			/*
			 * A new socket drops the leftovers of a failed request.
			 */
			ASSERT_EQ(0, client_open(&c));
			struct timeval timeout = { .tv_sec = 2 };

			ASSERT_EQ(0, setsockopt(nl_socket_get_fd(c.sk),
						SOL_SOCKET, SO_RCVTIMEO,
						&timeout, sizeof(timeout)));
			fail_nth_arm(self->nth_fd, nth);
			ret = requests[i](&c, self->vm, self->mem);
			injected = fail_nth_disarm(self->nth_fd);
			if (ret < 0) {
				failures++;
				ASSERT_TRUE(injected) {
					TH_LOG("request %u, nth %d: %d", i, nth,
					       ret);
				}
			}
			client_close(&c);
			ASSERT_EQ(0, client_open(&c));
			ASSERT_EQ(0, requests[i](&c, self->vm, self->mem));
			client_close(&c);
		}
	}
	EXPECT_LT(0, failures);
}

TEST_HARNESS_MAIN
