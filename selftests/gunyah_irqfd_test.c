// SPDX-License-Identifier: GPL-2.0-only
/* Eventfds that ring doorbells of a guest under Gunyah, and wake its vCPU. */
#include "lib/gunyah_function.h"

#include <pthread.h>

/* The doorbells of the guest: one whose masks only the guest may set, and... */
#define PLAIN 11
/* ...one whose masks the host may set, too. */
#define CLEARED 0xfffffff0
#define NO_BELL 12

/* Nothing is bound there. */
#define DEVICE 0x10000000ULL

#define EXPECTS_WAKEUP 1

FIXTURE(irqfd)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int fd;
};

typedef FIXTURE_DATA(irqfd) self_t;

FIXTURE_SETUP(irqfd)
{
	SETUP_GUNYAH();
	ONLY_MONITOR();
	ASSERT_EQ(0, forget_bells(&self->el2));
	ASSERT_EQ(0, plan_bell(&self->el2, PLAIN, 0));
	ASSERT_EQ(0, plan_bell(&self->el2, CLEARED, EL2_BELL_CAN_CLEAR));
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
	self->fd = new_eventfd();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(irqfd)
{
	forget_bells(&self->el2);
	gunyah_guest_close(&self->guest);
	close(self->fd);
	TEARDOWN_GUNYAH(false);
}

static struct bell_state state(self_t *self, __u32 label)
{
	return bell_state(&self->el2, fd_number(self->guest.vm, "gmem-vmid:"),
			  label);
}

static bool works(self_t *self)
{
	return gunyah_read(&self->guest, GUNYAH_AGENT) >= 0;
}

TEST_F(irqfd, arguments)
{
	struct gmem_gunyah_fn_irqfd_arg arg = { .fd = self->fd };
	int vm = self->guest.vm, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	EXPECT_EQ(-EINVAL, add_irqfd(vm, self->fd, PLAIN, 2));
	EXPECT_EQ(-EINVAL, add_irqfd(vm, self->fd, PLAIN, 1U << 31));
	EXPECT_EQ(-EBADF, add_irqfd(vm, -1, PLAIN, 0));
	EXPECT_EQ(-EINVAL, add_irqfd(vm, null, PLAIN, 0));
	EXPECT_EQ(-EINVAL, gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
					   GMEM_GUNYAH_FN_IRQFD, &arg,
					   sizeof(arg) - 1));
	EXPECT_EQ(-EINVAL, gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
					   GMEM_GUNYAH_FN_IRQFD, &arg,
					   sizeof(arg) + 1));
	EXPECT_EQ(-EFAULT, gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
					   GMEM_GUNYAH_FN_IRQFD, NULL,
					   sizeof(arg)));
	EXPECT_EQ(-ENOENT, remove_irqfd(vm, PLAIN));
	/* Nothing of that has taken the label. */
	EXPECT_EQ(0, add_irqfd(vm, self->fd, PLAIN, 0));
	EXPECT_EQ(-EEXIST, add_irqfd(vm, self->fd, PLAIN, 0));
	EXPECT_EQ(0, remove_irqfd(vm, PLAIN));
	EXPECT_EQ(-ENOENT, remove_irqfd(vm, PLAIN));
	close(null);
}

TEST_F(irqfd, each_write_rings)
{
	int other = new_eventfd();

	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, add_irqfd(self->guest.vm, other, CLEARED, 0));
	EXPECT_EQ(0, state(self, PLAIN).asserted);
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	EXPECT_EQ(1, state(self, PLAIN).flags);
	EXPECT_EQ(0, state(self, CLEARED).asserted);
	EXPECT_EQ(0, signal_eventfd(self->fd, 5));
	EXPECT_EQ(2, state(self, PLAIN).asserted);
	EXPECT_EQ(0, signal_eventfd(other, 1));
	EXPECT_EQ(1, state(self, CLEARED).asserted);
	EXPECT_EQ(2, state(self, PLAIN).asserted);
	EXPECT_TRUE(works(self));
	close(other);
}

/* Writes before the start ring once, also those before ADD_FUNCTION. */
TEST_F(irqfd, written_before_the_start)
{
	int other = new_eventfd();

	ASSERT_EQ(0, signal_eventfd(other, 1));
	ASSERT_EQ(0, add_irqfd(self->guest.vm, other, CLEARED, 0));
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	EXPECT_EQ(1, state(self, CLEARED).asserted);
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(2, state(self, PLAIN).asserted);
	close(other);
}

/* Nobody needs to read from the eventfd: it never gets full. */
TEST_F(irqfd, empties_the_eventfd)
{
	const __u64 full = ~0ULL - 1;

	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	EXPECT_EQ(0, signal_eventfd(self->fd, full));
	EXPECT_EQ(0, signal_eventfd(self->fd, full));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	EXPECT_EQ(0, signal_eventfd(self->fd, full));
	EXPECT_EQ(0, signal_eventfd(self->fd, full));
	EXPECT_EQ(3, state(self, PLAIN).asserted);
	EXPECT_EQ(0, eventfd_count(self->fd));
}

TEST_F(irqfd, label_without_a_doorbell)
{
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, NO_BELL, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(0, remove_irqfd(self->guest.vm, NO_BELL));
	EXPECT_EQ(-ENODEV, add_irqfd(self->guest.vm, self->fd, NO_BELL, 0));
	EXPECT_EQ(0, state(self, PLAIN).asserted);
	EXPECT_TRUE(works(self));
}

TEST_F(irqfd, level_and_edge)
{
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, CLEARED,
			       GMEM_GUNYAH_IRQFD_LEVEL));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(1, state(self, CLEARED).enable);
	EXPECT_EQ(1, state(self, CLEARED).ack);
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(0, state(self, CLEARED).flags);
	EXPECT_EQ(1, state(self, CLEARED).asserted);

	/* The next irqfd finds the doorbell as it was. */
	EXPECT_EQ(0, remove_irqfd(self->guest.vm, CLEARED));
	EXPECT_EQ(0, add_irqfd(self->guest.vm, self->fd, CLEARED, 0));
	EXPECT_EQ(~0ULL, state(self, CLEARED).enable);
	EXPECT_EQ(0, state(self, CLEARED).ack);
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(1, state(self, CLEARED).flags);
	EXPECT_EQ(2, state(self, CLEARED).asserted);

	/* The hypervisor refuses: the doorbell rings nevertheless. */
	EXPECT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN,
			       GMEM_GUNYAH_IRQFD_LEVEL));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(0, state(self, PLAIN).ack);
	EXPECT_LT(0, state(self, PLAIN).asserted);
}

TEST_F(irqfd, removal)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(0, remove_irqfd(self->guest.vm, PLAIN));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	/* The write in between counts, the one that has rung doesn't. */
	EXPECT_EQ(1, eventfd_count(self->fd));
	EXPECT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(2, state(self, PLAIN).asserted);
}

/* An eventfd without descriptors leaves its label to another one. */
TEST_F(irqfd, eventfd_goes_away)
{
	int copy, vm = self->guest.vm, i;

	ASSERT_EQ(0, add_irqfd(vm, self->fd, PLAIN, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	copy = dup(self->fd);
	close(self->fd);
	self->fd = new_eventfd();
	EXPECT_EQ(-EEXIST, add_irqfd(vm, self->fd, PLAIN, 0));
	EXPECT_EQ(0, signal_eventfd(copy, 1));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	close(copy);
	EXPECT_EQ(0, add_irqfd(vm, self->fd, PLAIN, 0));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(2, state(self, PLAIN).asserted);

	for (i = 0; i < 100; i++) {
		close(self->fd);
		self->fd = new_eventfd();
		ASSERT_EQ(0, add_irqfd(vm, self->fd, PLAIN, 0));
	}
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(-ENOENT, remove_irqfd(vm, PLAIN));
	EXPECT_TRUE(works(self));
}

/* The kernel may still signal an eventfd that has no descriptor left. */
TEST_F(irqfd, signal_after_the_last_close)
{
	struct gmem_gunyah_fn_ioeventfd_arg arg = {
		.addr = DEVICE, .len = 1, .fd = self->fd,
	};

	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	ASSERT_EQ(0, add_ioeventfd(self->guest.vm, &arg));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, gunyah_write(&self->guest, DEVICE, 1));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, gunyah_write(&self->guest, DEVICE, 1));
	EXPECT_EQ(1, state(self, PLAIN).asserted);
}

TEST_F(irqfd, many_and_the_limit)
{
	const __u32 first = 1000;
	int vm = self->guest.vm;
	__u32 i;

	ASSERT_EQ(0, forget_bells(&self->el2));
	for (i = 0; i < EL2_MAX_BELLS; i++)
		ASSERT_EQ(0, plan_bell(&self->el2, first + i, 0));
	/* One eventfd may ring many doorbells. */
	for (i = 0; i < GMEM_GUNYAH_MAX_IRQFDS; i++)
		ASSERT_EQ(0, add_irqfd(vm, self->fd, first + i, 0));
	EXPECT_EQ(-ENOSPC, add_irqfd(vm, self->fd, first + i, 0));
	EXPECT_EQ(0, remove_irqfd(vm, first + i - 1));
	EXPECT_EQ(0, add_irqfd(vm, self->fd, first + i, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	for (i = 0; i < EL2_MAX_BELLS; i++)
		EXPECT_EQ(1, state(self, first + i).asserted);
}

struct writer {
	pthread_t thread;
	int fd;
	volatile bool stop;
};

static void *write_loop(void *arg)
{
	struct writer *writer = arg;

	while (!writer->stop)
		signal_eventfd(writer->fd, 1);
	return NULL;
}

/* Somebody writes while irqfds come and go, and while the VM ends. */
TEST_F(irqfd, writes_at_any_time)
{
	struct writer writer = { .fd = self->fd };
	int i;

	ASSERT_EQ(0, pthread_create(&writer.thread, NULL, write_loop, &writer));
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, CLEARED,
			       GMEM_GUNYAH_IRQFD_LEVEL));
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	for (i = 0; i < 200; i++) {
		EXPECT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
		EXPECT_EQ(0, remove_irqfd(self->guest.vm, PLAIN));
	}
	EXPECT_LT(0, state(self, CLEARED).asserted);
	gunyah_guest_close(&self->guest);
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
	writer.stop = true;
	pthread_join(writer.thread, NULL);
}

TEST_F(irqfd, guest_that_has_ended)
{
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	EXPECT_EQ(0, remove_irqfd(self->guest.vm, PLAIN));
}

/* ---- waking a vCPU ---- */

static void *run_vcpu(void *arg)
{
	struct gunyah_guest *guest = arg;

	gunyah_read(guest, GUNYAH_AGENT);
	return NULL;
}

/* Wait until a rule has acted @n times. False after a minute. */
static bool wait_hits(self_t *self, __u64 n)
{
	double end = now() + 60;

	while (el2_stats(&self->el2).rule_hits < n) {
		if (now() > end)
			return false;
		usleep(500);
	}
	return true;
}

/* How often the interrupts that wake vCPUs have come, on all CPUs. */
static unsigned long count_wakes(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	unsigned long count = 0, n;
	char line[512], *at, *end;

	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(line, "gmem-gunyah-vcpu"))
			continue;
		at = strchr(line, ':') + 1;
		for (n = strtoul(at, &end, 10); end != at;
		     n = strtoul(at, &end, 10)) {
			count += n;
			at = end;
		}
	}
	if (file)
		fclose(file);
	return count;
}

/*
 * The vCPU waits for an interrupt, as Gunyah reports. The provider runs it again
 * when the doorbell rings, and in between seldom: not every millisecond.
 */
TEST_F(irqfd, wakes_a_vcpu)
{
	const int rings = 30;
	double start, took, fastest = 1000;
	unsigned long wakes;
	pthread_t thread;
	__u64 before;
	int i;

	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, PLAIN, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	before = el2_stats(&self->el2).rule_hits;
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_VCPU_STATE,
		fd_number(self->guest.vm, "gmem-vmid:"), 1, EXPECTS_WAKEUP,
		1000000);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_vcpu, &self->guest));
	EXPECT_TRUE(wait_hits(self, before + 1));

	start = now();
	usleep(1000000);
	EXPECT_GT(10 + 20 * (now() - start),
		  el2_stats(&self->el2).rule_hits - before);

	/* With polling alone, a ring would take up to a tenth of a second. */
	wakes = count_wakes();
	for (i = 0; i < rings; i++) {
		before = el2_stats(&self->el2).rule_hits;
		start = now();
		EXPECT_EQ(0, signal_eventfd(self->fd, 1));
		EXPECT_TRUE(wait_hits(self, before + 1));
		took = now() - start;
		if (took < fastest)
			fastest = took;
	}
	EXPECT_GT(0.05, fastest);
	EXPECT_EQ(rings, count_wakes() - wakes);
	TH_LOG("the fastest of %d rings took %.1f ms", rings, 1000 * fastest);

	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_EQ(0, signal_eventfd(self->fd, 1));
	pthread_join(thread, NULL);
}

TEST_HARNESS_MAIN
