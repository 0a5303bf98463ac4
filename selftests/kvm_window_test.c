// SPDX-License-Identifier: GPL-2.0-only
/* A window is a KVM guest's memory: one memslot, whichever ranges are bound. */
#include "lib/kvm_guest.h"

/* Behind the code, in the guestmem. */
#define OFFSET (2 * HUGE_PAGE)

KVM_FIXTURE(kvm_window);

TEST_F(kvm_window, guest_reads_writes_and_executes)
{
	struct kvm_guest *guest = &self->guest;
	__u8 *host = guest->host + OFFSET;
	__u8 value = 0;

	memcpy(host + 0x100, kvm_agent_answer, sizeof(kvm_agent_answer));
	host[0x10] = 77;
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));

	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA + 0x10, &value));
	EXPECT_EQ(77, value);
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA + 0x20, 78));
	EXPECT_EQ(0, kvm_agent_command(&guest->agent, KVM_AGENT_EXEC,
				       DATA + 0x100, 0, &value));
	EXPECT_EQ(KVM_AGENT_ANSWER, value);
	EXPECT_EQ(78, peek(host + 0x20));
}

/*
 * An access to an unbound address exits and reports the address; once that is
 * bound, the access completes.
 */
TEST_F(kvm_window, unbound_page_is_bound_on_demand)
{
	struct kvm_guest *guest = &self->guest;
	struct gmem_fault_info fault;
	__u8 value = 0;

	guest->host[OFFSET + 0x123] = 55;
	ASSERT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA + 0x123, &value));
	fault = last_fault(guest->vm);
	EXPECT_EQ(GMEM_FAULT_UNBOUND, fault.reason);
	EXPECT_EQ(DATA, fault.guest_addr);
	EXPECT_EQ(GMEM_ACCESS_READ, fault.access);

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	EXPECT_EQ(0, kvm_agent_resume(&guest->agent, &value));
	EXPECT_EQ(55, value);
}

/*
 * A paged window refuses a range that was bound after its mmap(), until it is
 * mapped again. A live one shows the range at once.
 */
TEST_F(kvm_window, bound_without_a_second_mmap)
{
	struct kvm_guest *guest = &self->guest;
	__u8 value = 0;

	ASSERT_EQ(0, map_mem(guest->vm, DATA, guest->mem, OFFSET, self->page,
			     LEND | RWX));
	if (guest->live) {
		EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
		return;
	}
	ASSERT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(GMEM_FAULT_STALE, last_reason(guest->vm));
	ASSERT_EQ(0, kvm_refresh(guest, DATA, self->page, PROT_READ));
	EXPECT_EQ(0, kvm_agent_resume(&guest->agent, &value));
}

TEST_F(kvm_window, rebinding_takes_effect_at_the_next_access)
{
	struct kvm_guest *guest = &self->guest;
	__u64 offset;
	__u8 value = 0;
	int i;

	for (i = 1; i <= 4; i++) {
		offset = HUGE_PAGE + i * self->page;
		guest->host[offset] = i;
		ASSERT_EQ(0, kvm_map(guest, DATA, offset, self->page,
				     LEND | RWX));
		EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
		EXPECT_EQ(i, value);
		ASSERT_EQ(0, kvm_unmap(guest, DATA, self->page));
	}
	EXPECT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA, &value));
}

/* The same range bound again needs no new mmap(). */
TEST_F(kvm_window, window_survives_rebinding_of_the_same_range)
{
	struct kvm_guest *guest = &self->guest;
	__u8 value = 0;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, kvm_agent_write(&guest->agent, DATA, 9));
	ASSERT_EQ(0, unmap_range(guest->vm, DATA, self->page, NULL));
	ASSERT_EQ(0, map_mem(guest->vm, DATA, guest->mem, OFFSET, self->page,
			     SHARE | RWX));
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(9, value);
}

/* @object: a VM or a vCPU of KVM */
static __u64 kvm_stat(int object, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	__u64 value = ~0ULL;
	size_t desc_size;
	unsigned int i;
	int fd;

	fd = ioctl(object, KVM_GET_STATS_FD, NULL);
	if (fd < 0)
		return value;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		goto close_fd;
	desc_size = sizeof(*desc) + header.name_size;
	desc = malloc(desc_size);
	for (i = 0; i < header.num_desc; i++) {
		if (pread(fd, desc, desc_size, header.desc_offset +
			  i * desc_size) != (ssize_t)desc_size)
			break;
		if (strcmp(desc->name, name))
			continue;
		if (pread(fd, &value, sizeof(value), header.data_offset +
			  desc->offset) != sizeof(value))
			value = ~0ULL;
	}
	free(desc);
close_fd:
	close(fd);
	return value;
}

/*
 * Each mapping that KVM makes costs the guest that touches each small page an
 * exit.
 */
TEST_F(kvm_window, huge_pages_are_huge_for_kvm)
{
	struct kvm_guest *guest = &self->guest;
	__u64 exits;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, 4 * HUGE_PAGE, LEND | RWX));
	exits = kvm_stat(guest->agent.vcpu, "exits");
	ASSERT_NE(~0ULL, exits);
	ASSERT_EQ(0, kvm_agent_touch(&guest->agent, DATA, 4 * HUGE_PAGE / PAGE, PAGE));
	exits = kvm_stat(guest->agent.vcpu, "exits") - exits;
	/*
	 * Interrupts exit, too. KVM may map up to 8 neighbours of a small page.
	 */
	if (self->page == PMD_PAGE) {
		EXPECT_GT(4 * HUGE_PAGE / PAGE / 16, exits);
	} else {
		EXPECT_LE(4 * HUGE_PAGE / PAGE / 8, exits);
	}
}

/*
 * A guest of another VM on the guestmem of @guest; its code is in the second huge
 * page. 0 or -errno.
 */
static int open_neighbour(struct kvm_guest *neighbour,
			  const struct kvm_guest *guest, const char *provider,
			  bool irqchip)
{
	int err;

	*neighbour = (struct kvm_guest){
		.mem = guest->mem,
		.host = guest->host,
		.vm = new_vm(provider, GMEM_POLICY_ALLOW),
		.live = is_live(provider),
	};
	if (neighbour->vm < 0)
		return neighbour->vm;
	memcpy(guest->host + HUGE_PAGE + CODE, kvm_agent_code,
	       sizeof(kvm_agent_code));
	err = kvm_guest_attach(neighbour, irqchip);
	return err ? err : kvm_map(neighbour, 0, HUGE_PAGE, HUGE_PAGE,
				   LEND | RWX);
}

static void close_neighbour(struct kvm_guest *neighbour)
{
	kvm_agent_close(&neighbour->agent);
	munmap(neighbour->window, GUEST_SIZE);
	close(neighbour->vm);
}

TEST_F(kvm_window, two_guests_share_pages)
{
	struct kvm_guest *guest = &self->guest, other;
	__u8 value = 0;

	ASSERT_EQ(0, open_neighbour(&other, guest, "window", variant->irqchip));
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, SHARE | RWX));
	ASSERT_EQ(0, kvm_map(&other, 8 * HUGE_PAGE, OFFSET, self->page, SHARE | RWX));
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA + 5, 11));
	EXPECT_EQ(0, kvm_agent_read(&other.agent, 8 * HUGE_PAGE + 5, &value));
	EXPECT_EQ(11, value);
	EXPECT_EQ(0, kvm_agent_write(&other.agent, 8 * HUGE_PAGE + 5, 12));
	EXPECT_EQ(12, peek(guest->host + OFFSET + 5));

	/* After one guest unbinds, the other one and the host keep the page. */
	ASSERT_EQ(0, kvm_unmap(guest, DATA, self->page));
	EXPECT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA + 5, &value));
	EXPECT_EQ(0, kvm_agent_read(&other.agent, 8 * HUGE_PAGE + 5, &value));
	EXPECT_EQ(12, value);
	close_neighbour(&other);
}

/*
 * A guest gives a page back: its VMM advises the kernel on the window, or punches
 * a hole. Neither guest sees a page that it hadn't, or loses another one: not the
 * neighbours of the page, and not those of another VM on the same guestmem.
 */
TEST_F(kvm_window, giving_memory_back_beside_another_guest)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_COLD, MADV_PAGEOUT,
	};
	struct kvm_guest *guest = &self->guest, other;
	const __u64 u = self->page;
	__u8 value = 0;
	__u64 i, j;

	ASSERT_EQ(0, open_neighbour(&other, guest, variant->provider,
				    variant->irqchip));
	/* The guests have three units each, which lie behind one another. */
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, 3 * u, LEND | RWX));
	ASSERT_EQ(0, kvm_map(&other, DATA, OFFSET + 3 * u, 3 * u, LEND | RWX));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, kvm_agent_write(&guest->agent, DATA + i * u,
					     0x10 + i));
		ASSERT_EQ(0, kvm_agent_write(&other.agent, DATA + i * u,
					     0x20 + i));
	}
	for (i = 0; i < ARRAY_SIZE(advices); i++) {
		madvise(guest->window + DATA + u, u, advices[i]);
		madvise(guest->window + DATA, 3 * u, advices[i]);
		for (j = 0; j < 3; j++) {
			EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA + j * u,
						    &value));
			EXPECT_EQ(0x10 + j, value);
			EXPECT_EQ(0, kvm_agent_read(&other.agent, DATA + j * u,
						    &value));
			EXPECT_EQ(0x20 + j, value);
		}
	}

	ASSERT_EQ(0, mem_alloc(guest->mem, PUNCH, OFFSET + u, u));
	EXPECT_EQ('a', page_state(guest->mem, OFFSET + u));
	for (j = 0; j < 3; j++) {
		EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA + j * u,
					    &value));
		EXPECT_EQ(j == 1 ? 0 : 0x10 + j, value);
		EXPECT_EQ(0, kvm_agent_read(&other.agent, DATA + j * u,
					    &value));
		EXPECT_EQ(0x20 + j, value);
	}
	close_neighbour(&other);
}

/* Another process maps the VM's window, and has a KVM of its own. */
TEST_F(kvm_window, window_and_vcpu_in_another_process)
{
	struct kvm_guest *guest = &self->guest, child;
	int status;
	__u8 value = 0;
	pid_t pid;

	guest->host[OFFSET] = 21;
	ASSERT_EQ(0, map_mem(guest->vm, DATA, guest->mem, OFFSET, self->page,
			     LEND | RWX));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* The parent's window isn't inherited. */
		if (!touch_read(guest->window))
			_exit(1);
		child = *guest;
		if (kvm_guest_attach(&child, variant->irqchip))
			_exit(2);
		if (kvm_agent_read(&child.agent, DATA, &value) || value != 21)
			_exit(3);
		_exit(kvm_agent_write(&child.agent, DATA, 22) ? 4 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ('l', page_state(guest->mem, OFFSET));
	EXPECT_EQ(22, peek(guest->host + OFFSET));
}

/*
 * The window keeps the VM, and the VM the guestmem, so the guest runs without
 * descriptors.
 */
TEST_F(kvm_window, guest_runs_after_all_descriptors_are_closed)
{
	struct kvm_guest *guest = &self->guest;
	__u8 value = 0;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	munmap(guest->host, MEM_SIZE);
	close(guest->mem);
	close(guest->vm);
	EXPECT_EQ(0, kvm_agent_write(&guest->agent, DATA, 1));
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_EQ(1, value);
	/* KVM keeps its memslot, which is empty now. */
	munmap(guest->window, GUEST_SIZE);
	EXPECT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA, &value));
	EXPECT_TRUE(stats_settle(&self->before));
	guest->vm = guest->mem = -1;
}

TEST_F(kvm_window, kvm_goes_first)
{
	struct kvm_guest *guest = &self->guest;

	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, kvm_agent_write(&guest->agent, DATA, 3));
	kvm_agent_close(&guest->agent);
	guest->agent.run = NULL;
	guest->agent.kvm = guest->agent.vm = guest->agent.vcpu = -1;
	EXPECT_EQ('l', page_state(guest->mem, OFFSET));
	EXPECT_EQ(3, peek(guest->host + OFFSET));
}

/* B24 with KVM: the memory of a killed VMM is free again. */
TEST_F(kvm_window, vmm_is_killed_while_its_guest_runs)
{
	struct gmem_stats before;
	struct kvm_guest child;
	int i, status;
	pid_t pid;

	ASSERT_EQ(0, get_stats(&before));
	for (i = 0; i < 5; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			if (kvm_guest_open(&child, variant->provider, variant->mem_flags,
					   variant->irqchip) ||
			    kvm_map(&child, DATA, OFFSET, self->page,
				    LEND | RWX))
				_exit(1);
			kvm_agent_command(&child.agent, KVM_AGENT_SPIN, DATA, 0,
					  NULL);
			_exit(2);
		}
		usleep(100000 + i * 50000);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_TRUE(stats_settle(&before));
	}
}

TEST_HARNESS_MAIN
