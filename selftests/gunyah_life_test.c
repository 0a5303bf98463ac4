// SPDX-License-Identifier: GPL-2.0-only
/*
 * The start and the end of a VM under Gunyah, with a Resource Manager that is
 * slow, or fails at any step.
 */
#include "lib/gunyah_vm.h"

#define GIVE_UP "/sys/module/gmem/parameters/gunyah_give_up_s"

/*
 * The messages of a start, the platforms that have them, and the errno if the
 * Resource Manager has no resources.
 */
static const struct {
	__u32 message;
	bool extents;
	bool parcels;
	int error;
} starts[] = {
	{ RM_VM_ALLOC_VMID, true, true, -ENOSPC },
	{ RM_MEM_LEND, true, true, -ENODEV },
	{ RM_VM_CONFIG_IMAGE, true, true, -ENODEV },
	{ RM_VM_SET_DEMAND_PAGING, true, false, -ENODEV },
	{ RM_VM_SET_ADDRESS_LAYOUT, true, false, -ENODEV },
	{ RM_MEM_SHARE, false, true, -ENODEV },
	{ RM_VM_INIT, true, true, -ENODEV },
	{ RM_VM_GET_RESOURCES, true, true, -ENODEV },
	{ RM_VM_SET_BOOT_CONTEXT, true, false, -ENODEV },
	{ RM_VM_START, true, true, -EADDRNOTAVAIL },
};

static const __u32 end_messages[] = {
	RM_VM_STOP, RM_VM_RESET, RM_MEM_RECLAIM, RM_VM_DEALLOC_VMID,
};

/* Is @start's message sent on this platform? */
static bool is_sent(self_t *self, size_t start)
{
	return has_extents(&self->el2) ? starts[start].extents :
					 starts[start].parcels;
}

/* The first byte of a guestmem, or -signal. */
static int peek_mem(int mem)
{
	__u8 *host = map_host(mem, 0, PAGE);
	int ret = host == MAP_FAILED ? -errno : peek(host);

	munmap(host, PAGE);
	return ret;
}

/* Does the number of VMs come down to this? */
static bool ends_with_vms(__u64 vms, double seconds)
{
	double end = now() + seconds;
	struct gmem_stats stats;

	do {
		if (!get_stats(&stats) && stats.vms == vms)
			return true;
		usleep(10000);
	} while (now() < end);
	return false;
}

/* The VM of the fixture is closed: does it end, and is no page lost? */
static bool ends_without_loss(self_t *self)
{
	struct gmem_stats stats;

	return ends_with_vms(self->before.vms, 30) && !get_stats(&stats) &&
	       stats.leaked_pages == self->before.leaked_pages;
}

/* ---- a Resource Manager that is slow ---- */

/*
 * It maps and releases piece by piece, and needs longer than the module waits
 * for a reply. The start waits for that, and at the end close() doesn't;
 * nothing is lost.
 */
TEST_F_TIMEOUT(gunyah, slow_pieces, 120)
{
	const __u64 pages = 1024, gpa = GIB(6);
	struct gmem_stats stats;
	double start;
	__u8 *host;
	__u64 i;
	int mem;

	ONLY_MONITOR();
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "only the public Resource Manager is slow");
	mem = new_mem(pages * PAGE, 0);
	host = map_host(mem, 0, pages * PAGE);
	ASSERT_NE(MAP_FAILED, host);
	number_pages(host, pages);
	ASSERT_EQ(0, map_mem(self->guest.vm, gpa, mem, 0, pages * PAGE,
			     LEND | RWX));
	el2_setting(&self->el2, EL2_START_PIECE_US, 1000);
	el2_setting(&self->el2, EL2_RESET_PIECE_US, 4000);
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_LT(pages / 4, fd_number(self->guest.vm, "gmem-pieces:"));
	EXPECT_EQ(7, gunyah_read(&self->guest, gpa + 7 * PAGE));

	start = now();
	end_guest(self);
	EXPECT_GT(3, now() - start);
	ASSERT_EQ(0, get_stats(&stats));
	EXPECT_LT(self->before.lent_pages, stats.lent_pages);
	EXPECT_EQ('l', page_state(mem, 0));
	EXPECT_EQ(-SIGBUS, peek(host));
	EXPECT_TRUE(ends_without_loss(self));
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	for (i = 0; i < pages; i++)
		EXPECT_EQ(i, *(__u16 *)(host + i * PAGE));
	munmap(host, pages * PAGE);
	close(mem);
}

/* After the guest's end, the host gets its memory when the reset is done. */
TEST_F_TIMEOUT(gunyah, slow_reset_of_an_open_vm, 60)
{
	double end;
	__u8 *host;
	int byte;

	ONLY_MONITOR();
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "only the public Resource Manager is slow");
	host = map_host(self->mem, 0, MIB(1));
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	el2_setting(&self->el2, EL2_REPLY_US, 1000000);
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "1300"));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(-SIGBUS, peek(host + 5));
	for (end = now() + 30, byte = -1; byte < 0 && now() < end;)
		byte = peek(host + 5);
	EXPECT_EQ(0x77, byte);
	munmap(host, MIB(1));
}

/* ---- a Resource Manager that misbehaves ---- */

TEST_F(gunyah, start_refused)
{
	size_t i;
	int ret;

	ONLY_MONITOR();
	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		if (!is_sent(self, i))
			continue;
		el2_rule(&self->el2, EL2_RULE_RPC_ERROR, starts[i].message, 1,
			 RM_NORESOURCE);
		ret = gunyah_guest_start(&self->guest);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		EXPECT_EQ(starts[i].error, ret) {
			TH_LOG("message %#x", starts[i].message);
		}
		EXPECT_EQ(-EALREADY, gunyah_guest_start(&self->guest));
		EXPECT_EQ(-ESHUTDOWN, gunyah_run(&self->guest, NULL, 0, NULL));
		EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_LOAD_FAILED,
			  self->guest.run->status.status);
		gunyah_guest_close(&self->guest);
		EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before)) {
			TH_LOG("message %#x", starts[i].message);
		}
		ASSERT_EQ(0, open_guest(self));
	}
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
}

/*
 * There are 63 VMIDs. A start that is given up where the Resource Manager
 * neither resets the VM nor frees its VMID doesn't use one up.
 */
TEST_F_TIMEOUT(gunyah, no_vmid_is_lost, 240)
{
	unsigned int i;

	ONLY_MONITOR();
	for (i = 0; i < 70; i++) {
		el2_rule(&self->el2, EL2_RULE_RPC_ERROR, RM_VM_INIT, 1,
			 RM_NORESOURCE);
		ASSERT_EQ(-ENODEV, gunyah_guest_start(&self->guest));
		gunyah_guest_close(&self->guest);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		ASSERT_EQ(0, open_guest(self));
	}
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
}

/* Replies arrive late, or with a notification between their fragments. */
TEST_F(gunyah, slow_replies)
{
	ONLY_MONITOR();
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_DELAY, EL2_ANY, 1, 30, 100);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_INTERLEAVE, EL2_ANY, 1, 0,
		100);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	end_guest(self);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
}

/* Replies arrive after the module's timeout. */
TEST_F(gunyah, late_replies)
{
	size_t i;
	int ret;

	ONLY_MONITOR();
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "100"));
	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		if (!is_sent(self, i))
			continue;
		/* For VM_START, the module waits longer. */
		el2_rule(&self->el2, EL2_RULE_RPC_DELAY, starts[i].message, 1,
			 starts[i].message == RM_VM_START ? 4000 : 1000);
		ret = gunyah_guest_start(&self->guest);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		EXPECT_EQ(-EIO, ret) {
			TH_LOG("message %#x", starts[i].message);
		}
		/* The VM ends while the reply is still missing. */
		gunyah_guest_close(&self->guest);
		EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before)) {
			TH_LOG("message %#x", starts[i].message);
		}
		ASSERT_EQ(0, open_guest(self));
	}
}

/* A VM ends while @rule changes the replies to @message: nothing is lost. */
static void end_under(struct __test_metadata *_metadata, self_t *self,
		      __u64 rule, __u32 message, __u64 value, __u64 times)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "100"));
	el2_hvc(&self->el2, EL2_RULE, rule, message, 1, value, times);
	gunyah_guest_close(&self->guest);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before)) {
		TH_LOG("message %#x", message);
	}
	EXPECT_TRUE(ends_without_loss(self));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "5000"));
	ASSERT_EQ(0, open_guest(self));
}

/*
 * Slow isn't lost: replies at the end of a VM arrive after the module's
 * timeout.
 */
TEST_F_TIMEOUT(gunyah, late_replies_at_the_end, 120)
{
	size_t i;

	ONLY_MONITOR();
	for (i = 0; i < ARRAY_SIZE(end_messages); i++)
		end_under(_metadata, self, EL2_RULE_RPC_DELAY, end_messages[i],
			  1500, 2);
}

/* Nor is memory lost if a reply never comes, except that of MEM_LEND. */
TEST_F_TIMEOUT(gunyah, lost_replies_at_the_end, 120)
{
	size_t i;

	ONLY_MONITOR();
	for (i = 0; i < ARRAY_SIZE(end_messages); i++) {
		/*
		 * It is known to be carried out when another VM has the VMID.
		 */
		if (end_messages[i] == RM_VM_DEALLOC_VMID)
			continue;
		end_under(_metadata, self, EL2_RULE_RPC_LOSE_REPLY,
			  end_messages[i], 0, 1);
	}
}

/*
 * The Resource Manager doesn't answer at all: the memory stays lent, and the
 * module can't be unloaded, until the operator gives up. Then it is lost.
 */
TEST_F_TIMEOUT(gunyah, operator_gives_up, 120)
{
	struct gmem_stats stats;

	ONLY_MONITOR();
	if (has_extents(&self->el2))
		SKIP(return, "extents: the hypervisor gives the memory back");
	self->lossy = true;
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_STALL, EL2_ANY, 1, 4000, 1);
	gunyah_guest_close(&self->guest);
	ASSERT_EQ(0, get_stats(&stats));
	EXPECT_EQ(self->before.leaked_pages, stats.leaked_pages);
	EXPECT_LT(self->before.lent_pages, stats.lent_pages);
	EXPECT_EQ(-SIGBUS, peek_mem(self->mem));
	ASSERT_EQ(0, write_file(GIVE_UP, "1"));
	EXPECT_TRUE(ends_with_vms(self->before.vms, 3));
	ASSERT_EQ(0, write_file(GIVE_UP, "0"));
	ASSERT_EQ(0, get_stats(&stats));
	EXPECT_LT(self->before.leaked_pages, stats.leaked_pages);
	close(self->mem);
	self->mem = new_mem(MIB(1), 0);
	ASSERT_LE(0, self->mem);
	ASSERT_EQ(0, open_guest(self));
}

/*
 * The end of a VM can't report an error: a page that it doesn't get back is
 * lost and counted.
 */
TEST_F(gunyah, end_refused)
{
	struct gmem_stats stats;
	struct el2_stats now;
	size_t i;

	ONLY_MONITOR();
	self->lossy = true;
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	for (i = 0; i < ARRAY_SIZE(end_messages); i++) {
		ASSERT_EQ(0, gunyah_guest_start(&self->guest));
		EXPECT_EQ(0, guest_works(self));
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR,
			end_messages[i], 1, 3, 10000);
		gunyah_guest_close(&self->guest);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		ASSERT_EQ(0, get_stats(&stats));
		now = el2_stats(&self->el2);
		TH_LOG("message %#x: %lld pages leaked, %lld not the host's",
		       end_messages[i],
		       (long long)(stats.leaked_pages -
				   self->before.leaked_pages),
		       (long long)(now.pages - self->el2_before.pages));
		EXPECT_EQ(EL2_PAGES(stats.leaked_pages -
				    self->before.leaked_pages),
			  now.pages - self->el2_before.pages);
		close(self->mem);
		self->mem = new_mem(MIB(1), 0);
		ASSERT_LE(0, self->mem);
		ASSERT_EQ(0,
			  gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
		ASSERT_EQ(0, map_mem(self->guest.vm, GIB(4), self->mem, 0,
				     KIB(512), LEND | RWX));
		ASSERT_EQ(0, map_mem(self->guest.vm, GIB(5), self->mem,
				     KIB(512), KIB(512), SHARE | RWX));
	}
}

/* The hypervisor says that the vCPU is busy: the VMM doesn't see that. */
TEST_F(gunyah, busy_vcpu)
{
	const __u64 vcpu_run = 0x65, busy = 31;

	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_HYPERCALL_ERROR, vcpu_run, 1,
		busy, 20);
	EXPECT_EQ(0, guest_works(self));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_HYPERCALL_ERROR, vcpu_run, 2,
		busy, 20);
	EXPECT_EQ(0, guest_works(self));
}

static void nothing(int sig)
{
	(void)sig;
}

/* Have the hypervisor lose the halt of a guest that has started. */
static void lose_halt(struct __test_metadata *_metadata, self_t *self)
{
	const __u64 off = 2;
	__u64 vmid;

	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "500"));
	vmid = fd_number(self->guest.vm, "gmem-vmid:");
	if (self->el2.platform == EL2_PLATFORM_PUBLIC)
		el2_rule(&self->el2, EL2_RULE_LOSE_HALT, vmid, 1, 0);
	else
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_VCPU_STATE, vmid, 1, off,
			1000000);
}

/*
 * The hypervisor has lost the guest's halt: its only vCPU is off, and the
 * Resource Manager doesn't know. The module stops the VM.
 */
TEST_F(gunyah, lost_halt)
{
	ONLY_MONITOR();
	lose_halt(_metadata, self);
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_EXITED, self->guest.run->status.status);
	EXPECT_EQ(GMEM_GUNYAH_EXIT_STOPPED,
		  self->guest.run->status.exit_info.type);
}

/* Also if signals end VCPU_RUN again and again meanwhile. */
TEST_F(gunyah, lost_halt_under_signals)
{
	const struct sigaction action = { .sa_handler = nothing };
	double end = now() + 30;
	int ret;

	ONLY_MONITOR();
	lose_halt(_metadata, self);
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ualarm(200000, 200000);
	ret = gunyah_command(&self->guest, GUNYAH_PSCI, GUNYAH_PSCI_OFF, 0, 0,
			     NULL);
	while (ret == -EINTR && now() < end)
		ret = gunyah_run(&self->guest, NULL, 0, NULL);
	ualarm(0, 0);
	EXPECT_EQ(-ESHUTDOWN, ret);
	EXPECT_EQ(GMEM_GUNYAH_EXIT_STOPPED,
		  self->guest.run->status.exit_info.type);
}

TEST_F(gunyah, lost_notifications)
{
	const struct sigaction action = { .sa_handler = nothing };

	ONLY_MONITOR();
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_LOSE_NOTIFICATION, EL2_ANY, 1, 0,
		1000);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	/*
	 * The vCPU is off, but the notification that the VM has ended is lost.
	 * A signal ends the wait; else the module finds out.
	 */
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ualarm(100000, 0);
	EXPECT_EQ(-EINTR, gunyah_command(&self->guest, GUNYAH_PSCI,
					 GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(-ESHUTDOWN, gunyah_run(&self->guest, NULL, 0, NULL));
	EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_EXITED, self->guest.run->status.status);
	EXPECT_EQ(GMEM_GUNYAH_EXIT_OFF,
		  self->guest.run->status.exit_info.type);
}

/* The module survives messages that no Resource Manager sends. */
TEST_F(gunyah, survives_garbage_messages)
{
	__u8 *message = self->el2.buffer;
	unsigned int i, j;

	ONLY_MONITOR();
	srand(1);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	for (i = 0; i < scaled(400); i++) {
		for (j = 0; j < 240; j++)
			message[j] = rand();
		/* Most get a valid header, to get further. */
		if (i % 4)
			message[0] = 0x21;
		if (i % 8 == 1)
			message[1] = 2 | (rand() % 3) << 2;
		if (i % 8 == 2)
			message[1] = 3;
		if (i % 8 == 3)
			message[1] = rand() % 4 << 2;
		if (i % 16 == 2)
			*(__u32 *)(message + 4) = RM_VM_STATUS;
		el2_hvc(&self->el2, EL2_INJECT, self->el2.buffer_va,
			1 + rand() % 240, 1);
		if (!(i % 8))
			EXPECT_EQ(0, guest_works(self));
	}
	EXPECT_EQ(0, guest_works(self));
}

TEST_HARNESS_MAIN
