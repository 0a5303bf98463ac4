// SPDX-License-Identifier: GPL-2.0-only
/* Which side has a page while a KVM guest runs. */
#include "lib/kvm_guest.h"

KVM_FIXTURE(kvm_lend);

/* The test's page in the file. */
#define OFFSET (2 * HUGE_PAGE)

TEST_F(kvm_lend, lent_page_leaves_the_host_and_comes_back)
{
	struct kvm_guest *guest = &self->guest;
	__u8 *host = guest->host + OFFSET;
	__u8 value = 0;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	/* Lending is lazy: until the guest comes, the host may use the page. */
	EXPECT_EQ(0, touch_write(host, 1));
	EXPECT_EQ(1, page_present(host));
	EXPECT_EQ('h', page_state(guest->mem, OFFSET));

	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(1, value);
	EXPECT_EQ(0, page_present(host));
	EXPECT_EQ('l', page_state(guest->mem, OFFSET));

	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA, 2));
	EXPECT_EQ(2, peek(host));
	EXPECT_EQ('h', page_state(guest->mem, OFFSET));
	EXPECT_EQ(0, page_present(guest->window + DATA));

	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA, 3));
	EXPECT_EQ(0, page_present(host));
	EXPECT_EQ('l', page_state(guest->mem, OFFSET));
}

TEST_F(kvm_lend, shared_page_stays_with_both)
{
	struct kvm_guest *guest = &self->guest;
	__u8 *host = guest->host + OFFSET;
	__u8 value = 0;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, SHARE | RWX));
	EXPECT_EQ(0, touch_write(host, 1));
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(1, value);
	EXPECT_EQ(1, page_present(host));
	EXPECT_EQ('s', page_state(guest->mem, OFFSET));
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA, 2));
	EXPECT_EQ(2, peek(host));
	EXPECT_EQ('s', page_state(guest->mem, OFFSET));
}

TEST_F(kvm_lend, policies)
{
	struct kvm_guest *guest = &self->guest;
	__u8 *host = guest->host + OFFSET;
	__u8 value = 0;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));

	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_DENY));
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA, 5));
	EXPECT_EQ(SIGBUS, touch_read(host));
	EXPECT_EQ(SIGBUS, touch_write(host, 6));
	EXPECT_EQ(-EACCES, reclaim_range(guest->vm, DATA, self->page, NULL));
	EXPECT_EQ(-EACCES, mem_alloc(guest->mem, PUNCH, OFFSET, self->page));
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(5, value);

	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_ALLOW));
	EXPECT_EQ(5, peek(host));

	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA + self->page - 1, 7));
	EXPECT_EQ(0, peek(host));
	EXPECT_EQ(0, peek(host + self->page - 1));
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(0, value);

	/* Unbinding under deny: the host gets zeroes. */
	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_DENY));
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA, 8));
	ASSERT_EQ(0, kvm_unmap(guest, DATA, self->page));
	EXPECT_EQ(0, peek(host));
}

static __u32 counter(const volatile __u8 *host)
{
	return *(const volatile __u32 *)host;
}

/*
 * Does the guest go on counting? Each read takes the page back; the guest's
 * next access takes it again.
 */
static bool counts(const volatile __u8 *host)
{
	double end = now() + 5;
	__u32 before = counter(host);

	while (now() < end) {
		if (counter(host) != before)
			return true;
		usleep(100);
	}
	return false;
}

TEST_F(kvm_lend, reclaim_and_policy_change_under_a_running_vcpu)
{
	struct kvm_guest *guest = &self->guest;
	volatile __u8 *host = guest->host + OFFSET;
	struct kvm_thread spin = {
		.guest = guest,
		.command = KVM_AGENT_SPIN,
		.addr = DATA,
	};
	__u64 nr;
	int i;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, kvm_thread_start(&spin));
	for (i = 0; i < 20; i++)
		ASSERT_TRUE(counts(host));
	for (i = 0; i < 20; i++) {
		usleep(1000);
		ASSERT_EQ(0, reclaim_range(guest->vm, DATA, self->page, &nr));
	}

	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_DENY));
	while (page_state(guest->mem, OFFSET) != 'l')
		usleep(1000);
	for (i = 0; i < 20; i++)
		EXPECT_EQ(SIGBUS, touch_read(host));

	/* The guest went on meanwhile. */
	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_ALLOW));
	EXPECT_TRUE(counts(host));

	/* Each read of the host sets the counter to 0, so it stays small. */
	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_SCRUB));
	while (page_state(guest->mem, OFFSET) != 'l')
		usleep(1000);
	EXPECT_EQ(0, counter(host));

	ASSERT_EQ(0, set_policy(guest->vm, GMEM_POLICY_ALLOW));
	EXPECT_EQ(0, touch_write((__u8 *)host + 4, 1));
	EXPECT_EQ(0, kvm_thread_join(&spin));
}

TEST_F(kvm_lend, trim_and_split_under_a_running_vcpu)
{
	struct kvm_guest *guest = &self->guest;
	volatile __u8 *host = guest->host + OFFSET;
	struct gmem_binding_info info[4];
	__u64 p = self->page;
	/* Counts in the second of five pages. */
	struct kvm_thread spin = {
		.guest = guest,
		.command = KVM_AGENT_SPIN,
		.addr = DATA + p,
	};

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, 5 * p, LEND | RWX));
	ASSERT_EQ(0, kvm_thread_start(&spin));
	ASSERT_TRUE(counts(host + p));

	ASSERT_EQ(0, kvm_unmap(guest, DATA, p));
	ASSERT_TRUE(counts(host + p));
	ASSERT_EQ(0, kvm_unmap(guest, DATA + 4 * p, p));
	ASSERT_TRUE(counts(host + p));
	ASSERT_EQ(0, kvm_unmap(guest, DATA + 2 * p, p));
	ASSERT_TRUE(counts(host + p));

	ASSERT_EQ(3, query_vm(guest->vm, info, 4));
	EXPECT_EQ(DATA + p, info[1].guest_addr);
	EXPECT_EQ(p, info[1].length);
	EXPECT_EQ(DATA + 3 * p, info[2].guest_addr);
	EXPECT_EQ(p, info[2].length);

	/*
	 * Unbind the page in which the guest counts: KVM_RUN fails, for this
	 * address only.
	 */
	ASSERT_EQ(0, kvm_unmap(guest, DATA + p, p));
	EXPECT_EQ(-EFAULT, kvm_thread_join(&spin));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(guest->vm));
	EXPECT_EQ(DATA + p, last_fault(guest->vm).guest_addr);

	/* Once the page is bound again, the guest goes on. */
	ASSERT_EQ(0, kvm_map(guest, DATA + p, OFFSET + p, p, LEND | RWX));
	spin.resume = true;
	ASSERT_EQ(0, kvm_thread_start(&spin));
	EXPECT_TRUE(counts(host + p));
	EXPECT_EQ(0, touch_write((__u8 *)host + p + 4, 1));
	EXPECT_EQ(0, kvm_thread_join(&spin));
}

/* After a punch, guest and host read zeroes. */
TEST_F(kvm_lend, punch_hole_under_a_running_vcpu)
{
	struct kvm_guest *guest = &self->guest;
	volatile __u8 *host = guest->host + OFFSET;
	struct kvm_thread spin = {
		.guest = guest,
		.command = KVM_AGENT_SPIN,
		.addr = DATA,
	};
	int i;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, touch_write((__u8 *)host + 100, 42));
	ASSERT_EQ(0, kvm_thread_start(&spin));
	for (i = 0; i < 20; i++) {
		usleep(1000);
		ASSERT_EQ(0, mem_alloc(guest->mem, PUNCH, OFFSET, self->page));
	}
	EXPECT_TRUE(counts(host));
	EXPECT_EQ(0, peek(host + 100));
	EXPECT_EQ(0, touch_write((__u8 *)host + 4, 1));
	EXPECT_EQ(0, kvm_thread_join(&spin));
}

TEST_HARNESS_MAIN
