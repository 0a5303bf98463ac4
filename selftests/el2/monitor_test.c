// SPDX-License-Identifier: GPL-2.0-only
/* The EL2 monitor's calls, message queues, RPC and rules, without a driver. */
#include <pthread.h>
#include <signal.h>

#include "rpc_util.h"

#define DEPTH		8
/* Long enough to check the state before it is over, even on a busy machine */
#define DELAY_MS	1000

FIXTURE(monitor) {
	struct el2 el2;
	struct rpc rpc;
};

FIXTURE_SETUP(monitor)
{
	ASSERT_TRUE(el2_open(&self->el2));
	self->rpc = (struct rpc){ .el2 = &self->el2 };
	rpc_drain(&self->rpc);
}

FIXTURE_TEARDOWN(monitor)
{
	el2_rule(&self->el2, EL2_RULE_CLEAR, 0, 0, 0);
	rpc_drain(&self->rpc);
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

TEST_F(monitor, identifies_itself)
{
	uint64_t uid[9] = { 0x8600ff01 }, identify[9] = { GUNYAH(0) };

	el2_call(&self->el2, uid);
	EXPECT_EQ(0xcd8fd5c1, uid[0]);
	EXPECT_EQ(0xdb5f53a4, uid[1]);
	EXPECT_EQ(0x36ce6592, uid[2]);
	EXPECT_EQ(0x145f3d67, uid[3]);
	EXPECT_EQ(0x5100000000008001, el2_call(&self->el2, identify));
	EXPECT_EQ(0x10000eff, identify[1]);
	EXPECT_EQ(0, identify[2]);
}

TEST_F(monitor, knows_no_other_call)
{
	EXPECT_EQ(-1, el2_hvc(&self->el2, GUNYAH(0x01)));
	EXPECT_EQ(-1, el2_hvc(&self->el2, GUNYAH(0x1ff)));
	EXPECT_EQ(-1, el2_hvc(&self->el2, EL2_CONTROL(0xff)));
	EXPECT_EQ(-1, el2_hvc(&self->el2, 0xc6000000));
	EXPECT_EQ(-1, el2_hvc(&self->el2, UINT64_MAX));
}

TEST_F(monitor, tells_bad_capabilities_apart)
{
	const uint64_t va = self->el2.buffer_va;

	/* No such number; wrong type; missing right */
	EXPECT_EQ(50, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, 77, 1, va));
	EXPECT_EQ(50,
		  el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, 1ULL << 32, 1, va));
	EXPECT_EQ(50,
		  el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, UINT64_MAX, 1, va));
	EXPECT_EQ(52, el2_hvc(&self->el2, GUNYAH(0x12), TX_CAP, 1));
	EXPECT_EQ(52, el2_hvc(&self->el2, GUNYAH(0x65), TX_CAP));
	EXPECT_EQ(53, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, RX_CAP, 1, va));
	EXPECT_EQ(53, el2_hvc(&self->el2, HYP_MSGQUEUE_RECEIVE, TX_CAP, va,
			      MESSAGE_SIZE));
}

TEST_F(monitor, checks_messages)
{
	const uint64_t va = self->el2.buffer_va;

	EXPECT_EQ(2, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP, 0, va));
	EXPECT_EQ(2, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP,
			     MESSAGE_SIZE + 1, va));
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP, 8, va, 2));
	EXPECT_EQ(1,
		  el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP, 8, va, 0, 1));
	EXPECT_EQ(60, el2_hvc(&self->el2, HYP_MSGQUEUE_RECEIVE, RX_CAP, va,
			      MESSAGE_SIZE));
	EXPECT_EQ(33, el2_hvc(&self->el2, GUNYAH(0x21), TX_CAP, 0));
	/* A reserved argument; a threshold above the depth */
	EXPECT_EQ(1, el2_hvc(&self->el2, GUNYAH(0x1f), TX_CAP, -1, -1, 0));
	EXPECT_EQ(1,
		  el2_hvc(&self->el2, GUNYAH(0x20), RX_CAP, DEPTH + 1, -1, -1));
	EXPECT_EQ(1, el2_hvc(&self->el2, GUNYAH(0x20), RX_CAP, 0, -1, -1));
}

TEST_F(monitor, survives_bad_buffers)
{
	/*
	 * Null; a small address; not canonical; the last bytes; the monitor's
	 * address; the first one of the kernel.
	 */
	const uint64_t bad[] = {
		0, 8, 1ULL << 55, UINT64_MAX - 7, 0x40200000,
		0xffff000000000000,
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		EXPECT_EQ(22, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP, 64,
				      bad[i]));
		EXPECT_EQ(22, el2_hvc(&self->el2, EL2_INJECT, bad[i], 64));
	}
	/* A message that can't be delivered stays in the queue. */
	ASSERT_EQ(0, rpc_request(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	/* On the public platform, it comes a little later. */
	usleep(20000);
	EXPECT_EQ(22, el2_hvc(&self->el2, HYP_MSGQUEUE_RECEIVE, RX_CAP, bad[0],
			      MESSAGE_SIZE));
	EXPECT_EQ(20, el2_hvc(&self->el2, HYP_MSGQUEUE_RECEIVE, RX_CAP,
			      self->el2.buffer_va, 11));
	EXPECT_EQ(0, rpc_reply(&self->rpc, RM_VM_GET_VMID));
}

TEST_F(monitor, host_is_vmid_3)
{
	const uint8_t want[] = { 3, 0, 0, 0 };

	ASSERT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	ASSERT_EQ(sizeof(want), self->rpc.reply_size);
	EXPECT_EQ(0, memcmp(want, self->rpc.reply, sizeof(want)));
	/* The message takes no payload. */
	EXPECT_EQ(4, rpc_vmid(&self->rpc, RM_VM_GET_VMID, 0));
	EXPECT_EQ(0xffffffff, rpc(&self->rpc, 0x51000010, NULL, 0));
}

TEST_F(monitor, gives_64_vmids)
{
	if (self->el2.platform == EL2_PLATFORM_PUBLIC)
		SKIP(return, "the public one has 63, see r18");
	for (int i = 0; i < 64; i++)
		ASSERT_EQ(0x80 + i, rpc_alloc(&self->rpc));
	EXPECT_EQ(2, rpc_vmid(&self->rpc, RM_VM_ALLOC_VMID, 0));
	EXPECT_EQ(0xd, rpc_vmid(&self->rpc, RM_VM_ALLOC_VMID, 0x80));
	for (int i = 0; i < 64; i++)
		ASSERT_EQ(0,
			  rpc_vmid(&self->rpc, RM_VM_DEALLOC_VMID, 0x80 + i));
	EXPECT_EQ(0xd, rpc_vmid(&self->rpc, RM_VM_DEALLOC_VMID, 0x80));
	/* Ask for a certain VMID. */
	EXPECT_EQ(0, rpc_vmid(&self->rpc, RM_VM_ALLOC_VMID, 0x90));
	EXPECT_EQ(0, rpc_vmid(&self->rpc, RM_VM_DEALLOC_VMID, 0x90));
	EXPECT_EQ(0xd, rpc_vmid(&self->rpc, RM_VM_ALLOC_VMID, 3));
}

static struct gmem_el2_irqs irqs(const struct el2 *el2)
{
	struct gmem_el2_irqs irqs = { };

	ioctl(el2->fd, EL2_IOC_IRQS, &irqs);
	return irqs;
}

/* Count interrupts from 0, since some may have been pending. */
static bool watch_irqs(const struct el2 *el2)
{
	if (ioctl(el2->fd, EL2_IOC_WATCH))
		return false;
	usleep(20000);
	return !ioctl(el2->fd, EL2_IOC_WATCH);
}

/* Wait up to 10 s for @want interrupts. Returns their number. */
static uint32_t wait_irqs(const struct el2 *el2, uint32_t want)
{
	uint64_t end = clock_ms() + 10000;
	struct gmem_el2_irqs n;

	do {
		n = irqs(el2);
		usleep(1000);
	} while (n.rx + n.tx < want && clock_ms() < end);
	return n.rx + n.tx;
}

TEST_F(monitor, interrupts_for_a_reply)
{
	ASSERT_TRUE(watch_irqs(&self->el2));
	for (uint32_t i = 1; i < 10; i++) {
		ASSERT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
		EXPECT_EQ(i, wait_irqs(&self->el2, i));
	}
	EXPECT_EQ(0, irqs(&self->el2).tx);
}

TEST_F(monitor, interrupts_at_the_threshold_or_in_time)
{
	const uint64_t va = self->el2.buffer_va;

	ASSERT_TRUE(watch_irqs(&self->el2));
	ASSERT_EQ(0, el2_hvc(&self->el2, GUNYAH(0x20), RX_CAP, DEPTH,
			     DELAY_MS * 1000, -1));
	/* A pushed message interrupts at once. */
	EXPECT_EQ(0, el2_hvc(&self->el2, EL2_INJECT, va, 1, 1));
	EXPECT_EQ(1, wait_irqs(&self->el2, 1));
	/* Another message interrupts after the delay. */
	EXPECT_EQ(0, el2_hvc(&self->el2, EL2_INJECT, va, 1, 0));
	EXPECT_EQ(1, irqs(&self->el2).rx);
	EXPECT_EQ(2, wait_irqs(&self->el2, 2));
	/*
	 * Without a delay, the interrupt comes when the threshold is reached.
	 */
	ASSERT_EQ(0, el2_hvc(&self->el2, GUNYAH(0x20), RX_CAP, -1, 0, -1));
	for (int n = 3; n <= DEPTH; n++) {
		usleep(10000);
		EXPECT_EQ(2, irqs(&self->el2).rx);
		EXPECT_EQ(0, el2_hvc(&self->el2, EL2_INJECT, va, 1, 0));
	}
	EXPECT_EQ(3, wait_irqs(&self->el2, 3));

	EXPECT_EQ(0, el2_hvc(&self->el2, GUNYAH(0x20), RX_CAP, 1, 0, -1));
	EXPECT_EQ(0, el2_hvc(&self->el2, GUNYAH(0x1d), RX_CAP));
	EXPECT_EQ(60, el2_hvc(&self->el2, HYP_MSGQUEUE_RECEIVE, RX_CAP, va,
			      MESSAGE_SIZE));
}

TEST_F(monitor, full_queue_stops_a_sender)
{
	const struct rpc_header header = { 0x21, 1, 0, RM_VM_GET_VMID };
	uint64_t x[9];
	int n;

	ASSERT_TRUE(watch_irqs(&self->el2));
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_STALL, RM_VM_GET_VMID, 1,
			      DELAY_MS));
	memcpy(self->el2.buffer, &header, sizeof(header));
	/*
	 * The monitor takes the first request at once; the others stay in the
	 * queue.
	 */
	for (n = 0; n <= DEPTH; n++) {
		memcpy(x,
		       (uint64_t[9]){ HYP_MSGQUEUE_SEND, TX_CAP, sizeof(header),
				      self->el2.buffer_va, 1 },
		       sizeof(x));
		ASSERT_EQ(0, el2_call(&self->el2, x));
		EXPECT_EQ(n < DEPTH, x[1]);
	}
	EXPECT_EQ(61, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP,
			      sizeof(header), self->el2.buffer_va, 1));
	EXPECT_EQ(0, irqs(&self->el2).tx);
	wait_irqs(&self->el2, 2);
	EXPECT_EQ(1, irqs(&self->el2).tx);
	/* On the public platform, the last replies come a little later. */
	usleep(20000);
	/* Nine requests have nine replies, and the queue holds eight. */
	for (n = 0; n <= DEPTH; n++)
		EXPECT_EQ(0, rpc_receive(&self->rpc, x));
	EXPECT_EQ(60, rpc_receive(&self->rpc, x));
}

TEST_F(monitor, ignores_nonsense)
{
	uint8_t junk[MESSAGE_SIZE];
	uint32_t seed = 1;

	for (int i = 0; i < 2000; i++) {
		for (unsigned int j = 0; j < sizeof(junk); j++) {
			seed = seed * 1664525 + 1013904223;
			junk[j] = seed >> 24;
		}
		/* Give half of the messages a valid header. */
		if (i & 1)
			memcpy(junk, (uint8_t []){ 0x21, seed >> 30, 1, 0 }, 4);
		ASSERT_EQ(0, rpc_send(&self->rpc, junk, 1 + seed % MESSAGE_SIZE,
				      true));
		if (i % 16 == 0)
			rpc_drain(&self->rpc);
	}
	rpc_drain(&self->rpc);
	EXPECT_EQ(0, el2_hvc(&self->el2, GUNYAH(0x1d), RX_CAP));
	rpc_drain(&self->rpc);
	EXPECT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
}

TEST_F(monitor, fails_the_nth_hypercall)
{
	uint64_t before = el2_stats(&self->el2).rule_hits;

	ASSERT_EQ(0,
		  el2_rule(&self->el2, EL2_RULE_HYPERCALL_ERROR, 0x21, 3, 31));
	EXPECT_EQ(33, el2_hvc(&self->el2, GUNYAH(0x21), TX_CAP));
	EXPECT_EQ(33, el2_hvc(&self->el2, GUNYAH(0x21), TX_CAP));
	EXPECT_EQ(31, el2_hvc(&self->el2, GUNYAH(0x21), TX_CAP));
	EXPECT_EQ(33, el2_hvc(&self->el2, GUNYAH(0x21), TX_CAP));
	EXPECT_EQ(before + 1, el2_stats(&self->el2).rule_hits);
	for (int i = 0; i < EL2_MAX_RULES; i++)
		EXPECT_EQ(0, el2_rule(&self->el2, EL2_RULE_HYPERCALL_ERROR,
				      0x21, 1, 31));
	EXPECT_EQ(11,
		  el2_rule(&self->el2, EL2_RULE_HYPERCALL_ERROR, 0x21, 1, 31));
	EXPECT_EQ(1, el2_rule(&self->el2, 99, 0, 1, 0));
}

TEST_F(monitor, rules_fail_delay_and_lose_rpcs)
{
	uint64_t start;

	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_ERROR, EL2_ANY, 2, 5));
	EXPECT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_EQ(5, rpc_vmid(&self->rpc, RM_VM_ALLOC_VMID, 0));

	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_DELAY, RM_VM_GET_VMID, 1,
			      200));
	start = clock_ms();
	EXPECT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_LE(199, clock_ms() - start);

	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_LOSE_REPLY,
			      RM_VM_GET_VMID, 1, 0));
	self->rpc.timeout_ms = 100;
	EXPECT_EQ(RPC_TIMEOUT, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	self->rpc.timeout_ms = 0;
	EXPECT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));

	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_ANSWER, RM_VM_GET_VMID,
			      1, 0x1234));
	EXPECT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_EQ(4, self->rpc.reply_size);
	EXPECT_EQ(0x34, self->rpc.reply[0]);
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_ANSWER, RM_VM_GET_VMID,
			      1, EL2_ANY));
	EXPECT_EQ(0, rpc(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_EQ(0, self->rpc.reply_size);
}

/*
 * Without a poll by the host, an idle CPU must deliver the reply and its
 * interrupt.
 */
TEST_F(monitor, delivers_a_late_reply_without_a_poll)
{
	ASSERT_TRUE(watch_irqs(&self->el2));
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_DELAY, RM_VM_GET_VMID, 1,
			      DELAY_MS));
	ASSERT_EQ(0, rpc_request(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_EQ(0, irqs(&self->el2).rx);
	EXPECT_EQ(1, wait_irqs(&self->el2, 1));
	EXPECT_EQ(0, rpc_reply(&self->rpc, RM_VM_GET_VMID));
}

static void *be_busy(void *arg)
{
	const volatile bool *stop = arg;

	while (!*stop)
		;
	return NULL;
}

/* No CPU is idle, and no one calls the monitor: it must find the time. */
TEST_F(monitor, delivers_a_late_reply_to_busy_cpus)
{
	const int nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	volatile bool stop = false;
	pthread_t threads[16];

	ASSERT_GE(16, nr_cpus);
	ASSERT_TRUE(watch_irqs(&self->el2));
	for (int i = 0; i < nr_cpus; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, be_busy,
					    (void *)&stop));
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_DELAY, RM_VM_GET_VMID, 1,
			      DELAY_MS));
	ASSERT_EQ(0, rpc_request(&self->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_EQ(1, wait_irqs(&self->el2, 1));
	stop = true;
	for (int i = 0; i < nr_cpus; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, rpc_reply(&self->rpc, RM_VM_GET_VMID));
}

TEST_HARNESS_MAIN
