// SPDX-License-Identifier: GPL-2.0-only
/* A KVM guest's accesses that the module refuses. */
#include "lib/kvm_guest.h"

#include <sys/uio.h>

KVM_FIXTURE(kvm_refuse);

/* The test's page in the file. */
#define OFFSET (2 * HUGE_PAGE)

static __u64 refusals(int vm)
{
	return last_fault(vm).seq;
}

/* Wait until the guest's access is refused. */
static bool refused(int vm)
{
	int i;

	for (i = 0; i < 10000 && !refusals(vm); i++)
		usleep(1000);
	return refusals(vm);
}

/*
 * Refusals in a second, of an access that KVM retries; each retry costs CPU
 * time of a vCPU and of a kernel thread.
 */
static double refusals_per_second(int vm)
{
	double begin = now();
	__u64 before = refusals(vm);

	sleep(2);
	return (refusals(vm) - before) / (now() - begin);
}

/*
 * With an interrupt controller and a paged window, KVM tries a refused access
 * again by itself. Else KVM_RUN fails at once.
 */
#define WAITS(variant) ((variant)->irqchip && !is_live((variant)->provider))

/* KVM tries ten times a second, and asks up to four times for each try. */
#define SLOW 50
/* In a window without write access, waits begin after the first hundred tries. */
#define SLOW_READ_ONLY 500

/* Another process unbinds: a paged window still has the piece. */
static void unbound_behind_the_window(struct __test_metadata *_metadata,
				      struct kvm_guest *guest, __u64 page,
				      bool waits, __u32 flags)
{
	struct kvm_thread reader = {
		.guest = guest,
		.command = KVM_AGENT_READ,
		.addr = DATA,
	};

	guest->host[OFFSET] = 44;
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, page, flags));
	ASSERT_EQ(0, unmap_range(guest->vm, DATA, page, NULL));

	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(refused(guest->vm));
	if (waits) {
		EXPECT_GT(flags & GMEM_MAP_ALLOW_WRITE ? SLOW : SLOW_READ_ONLY,
			  refusals_per_second(guest->vm));
	} else {
		ASSERT_EQ(-EFAULT, kvm_thread_join(&reader));
		reader.resume = true;
	}
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(guest->vm));
	EXPECT_EQ(DATA, last_fault(guest->vm).guest_addr);

	ASSERT_EQ(0, map_mem(guest->vm, DATA, guest->mem, OFFSET, page, flags));
	if (!waits)
		ASSERT_EQ(0, kvm_thread_start(&reader));
	EXPECT_EQ(0, kvm_thread_join(&reader));
	EXPECT_EQ(44, reader.report);
}

TEST_F(kvm_refuse, unbound_behind_the_window)
{
	unbound_behind_the_window(_metadata, &self->guest, self->page,
				  WAITS(variant), LEND | RWX);
}

TEST_F(kvm_refuse, unbound_behind_a_read_only_window)
{
	unbound_behind_the_window(_metadata, &self->guest, self->page,
				  WAITS(variant), LEND | RX);
}

/*
 * The first row tells the guest's own access. KVM's kernel thread, which always
 * asks for write access, adds none. KVM up to 6.12 asks again, for write access,
 * whether the page is broken.
 */
TEST_F(kvm_refuse, row_tells_the_access_of_the_guest)
{
	struct kvm_guest *guest = &self->guest;
	struct gmem_fault_info rows[GMEM_NR_FAULTS];
	struct kvm_thread reader = {
		.guest = guest,
		.command = KVM_AGENT_READ,
		.addr = DATA,
	};
	int nr;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, unmap_range(guest->vm, DATA, self->page, NULL));
	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(refused(guest->vm));
	usleep(500000);
	nr = get_faults(guest->vm, 0, rows, GMEM_NR_FAULTS, NULL);
	ASSERT_LT(0, nr);
	EXPECT_EQ(GMEM_ACCESS_READ, rows[0].access);
	if (guest->live || kernel_since("6.13"))
		EXPECT_EQ(1, nr);
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	kvm_thread_join(&reader);
}

/* A pinned page isn't lent. The guest gets it once the pin is gone. */
TEST_F(kvm_refuse, pinned)
{
	struct kvm_guest *guest = &self->guest;
	__u8 *host = guest->host + OFFSET;
	struct iovec iov = { .iov_base = host, .iov_len = 1 };
	struct kvm_thread reader = {
		.guest = guest,
		.command = KVM_AGENT_READ,
		.addr = DATA,
	};
	int pipe_fds[2];

	ASSERT_EQ(0, pipe(pipe_fds));
	ASSERT_EQ(0, touch_write(host, 66));
	ASSERT_EQ(1, vmsplice(pipe_fds[1], &iov, 1, 0));
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));

	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(refused(guest->vm));
	if (WAITS(variant)) {
		EXPECT_GT(SLOW, refusals_per_second(guest->vm));
	} else {
		ASSERT_EQ(-EFAULT, kvm_thread_join(&reader));
	}
	EXPECT_EQ(GMEM_FAULT_PINNED, last_reason(guest->vm));
	EXPECT_EQ(DATA, last_fault(guest->vm).guest_addr);
	EXPECT_EQ('h', page_state(guest->mem, OFFSET));

	close(pipe_fds[0]);
	close(pipe_fds[1]);
	if (!WAITS(variant)) {
		reader.resume = true;
		ASSERT_EQ(0, kvm_thread_start(&reader));
	}
	EXPECT_EQ(0, kvm_thread_join(&reader));
	EXPECT_EQ(66, reader.report);
	EXPECT_EQ('l', page_state(guest->mem, OFFSET));
}

static void nothing(int sig)
{
	(void)sig;
}

/* A VMM gets its vCPU back by a signal. */
TEST_F(kvm_refuse, signal_ends_the_wait)
{
	const struct sigaction action = { .sa_handler = nothing };
	struct kvm_guest *guest = &self->guest;
	struct kvm_thread reader = {
		.guest = guest,
		.command = KVM_AGENT_READ,
		.addr = DATA,
	};

	if (!WAITS(variant))
		SKIP(return, "the vCPU doesn't wait");
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, unmap_range(guest->vm, DATA, self->page, NULL));
	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(refused(guest->vm));
	usleep(200000);
	ASSERT_EQ(0, pthread_kill(reader.thread, SIGUSR1));
	EXPECT_EQ(-EINTR, kvm_thread_join(&reader));
}

/* A hole fails KVM_RUN in the thread of the vCPU, without a wait. */
TEST_F(kvm_refuse, hole_takes_no_time)
{
	struct kvm_guest *guest = &self->guest;
	double begin, least = 1;
	__u8 value;
	int i;

	for (i = 0; i < 20; i++) {
		begin = now();
		ASSERT_EQ(0, kvm_agent_reset(&guest->agent));
		ASSERT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA, &value));
		if (now() - begin < least)
			least = now() - begin;
	}
	EXPECT_GT(0.05, least);
	EXPECT_EQ(20, refusals(guest->vm));
}

/* Neither does a refusal in a bound piece, if KVM doesn't retry by itself. */
TEST_F(kvm_refuse, refusal_takes_no_time)
{
	struct kvm_guest *guest = &self->guest;
	double begin, least = 1;
	__u8 value;
	int i;

	if (WAITS(variant))
		SKIP(return, "the vCPU waits for the page");
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, unmap_range(guest->vm, DATA, self->page, NULL));
	for (i = 0; i < 20; i++) {
		begin = now();
		ASSERT_EQ(0, kvm_agent_reset(&guest->agent));
		ASSERT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA, &value));
		if (now() - begin < least)
			least = now() - begin;
	}
	EXPECT_GT(0.05, least);
}

/* A vCPU that waits for a page doesn't keep its VMM from ending. */
TEST_F(kvm_refuse, vmm_is_killed_while_its_vcpu_waits)
{
	struct kvm_guest *guest = &self->guest, child;
	struct gmem_stats before;
	double begin;
	int status;
	pid_t pid;

	ASSERT_EQ(0, get_stats(&before));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (kvm_guest_open(&child, variant->provider,
				   variant->mem_flags, variant->irqchip) ||
		    kvm_map(&child, DATA, OFFSET, self->page, LEND | RWX) ||
		    unmap_range(child.vm, DATA, self->page, NULL))
			_exit(1);
		/* Perhaps it doesn't wait. */
		for (;;)
			kvm_agent_read(&child.agent, DATA, NULL);
	}
	sleep(1);
	begin = now();
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TRUE(stats_settle(&before));
	EXPECT_GT(2, now() - begin);
	EXPECT_EQ(0, refusals(guest->vm));
}

TEST_HARNESS_MAIN
