// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest has ended and its VM stays open: under the public Resource Manager,
 * the host gets the memory back once the VM has been reset.
 */
#include "lib/gunyah_function.h"
#include "lib/gunyah_vm.h"

#define BELL 11
#define RM_BUSY 5
#define RM_VM_STATE 20

/* Start the guest, and let it write and switch itself off. */
static void live(struct __test_metadata *_metadata, self_t *self)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
}

/* The byte that the guest has left in its memory, or -signal after a while. */
static int what_is_left(self_t *self)
{
	__u8 *host = map_host(self->mem, 0, PAGE);
	double end = now() + 20;
	int byte;

	if (host == MAP_FAILED)
		return -errno;
	do {
		byte = peek(host + 5);
		usleep(10000);
	} while (byte < 0 && now() < end);
	munmap(host, PAGE);
	return byte;
}

/* How many interrupts the module has that wake vCPUs. */
static int nr_wake_interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[512];
	int nr = 0;

	while (file && fgets(line, sizeof(line), file))
		nr += !!strstr(line, "gmem-gunyah-vcpu");
	if (file)
		fclose(file);
	return nr;
}

/*
 * The Resource Manager may give a doorbell and an interrupt of a VM that it has
 * reset to another VM. By then, the module uses neither.
 */
TEST_F_TIMEOUT(gunyah, a_reset_ends_doorbells_and_interrupts, 60)
{
	const __u64 doorbell_send = 0x12, refused = 1;
	int fd = new_eventfd();
	__u64 hits;

	ONLY_MONITOR();
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "an open VM isn't reset");
	ASSERT_EQ(0, forget_bells(&self->el2));
	ASSERT_EQ(0, plan_bell(&self->el2, BELL, 0));
	ASSERT_EQ(0, add_irqfd(self->guest.vm, fd, BELL, 0));
	live(_metadata, self);
	EXPECT_EQ(1, nr_wake_interrupts());
	EXPECT_EQ(0x77, what_is_left(self));
	EXPECT_EQ(0, nr_wake_interrupts());

	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_HYPERCALL_ERROR, doorbell_send,
		1, refused, 100);
	hits = el2_stats(&self->el2).rule_hits;
	EXPECT_EQ(0, signal_eventfd(fd, 1));
	EXPECT_EQ(hits, el2_stats(&self->el2).rule_hits);
	EXPECT_EQ(-EEXIST, add_irqfd(self->guest.vm, fd, BELL, 0));
	EXPECT_EQ(0, remove_irqfd(self->guest.vm, BELL));
	EXPECT_EQ(-ENODEV, add_irqfd(self->guest.vm, fd, BELL, 0));
	end_guest(self);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	forget_bells(&self->el2);
	close(fd);
}

/* The Resource Manager can't reset the VM at that moment. */
TEST_F_TIMEOUT(gunyah, a_refused_reset_is_tried_again, 120)
{
	const __u64 errors[] = { RM_BUSY, RM_VM_STATE };
	size_t i;

	ONLY_MONITOR();
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "an open VM isn't reset");
	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		live(_metadata, self);
		el2_rule(&self->el2, EL2_RULE_RPC_ERROR, RM_VM_RESET, 1,
			 errors[i]);
		EXPECT_EQ(0x77, what_is_left(self)) {
			TH_LOG("error %llu", errors[i]);
		}
		gunyah_guest_close(&self->guest);
		ASSERT_EQ(0, open_guest(self));
	}
}

/* The same at the end of a VM. */
TEST_F_TIMEOUT(gunyah, a_busy_manager_resets_later, 60)
{
	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR, RM_VM_RESET, 1,
		RM_BUSY, 3);
	gunyah_guest_close(&self->guest);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	ASSERT_EQ(0, open_guest(self));
}

TEST_F_TIMEOUT(gunyah, the_report_of_a_reset_is_lost, 60)
{
	ONLY_MONITOR();
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "an open VM isn't reset");
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "300"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_LOSE_NOTIFICATION, RM_VM_STATUS,
		1, 0, 1000);
	live(_metadata, self);
	EXPECT_EQ(0x77, what_is_left(self));
}

/*
 * Each of many parcels would have to wait for the answer to its own request:
 * after the first wait, the module leaves the rest for later.
 */
TEST_F_TIMEOUT(gunyah, many_parcels_wait_together, 120)
{
	const __u64 parcels = 24, gpa = GIB(6);
	double start;
	__u64 i;
	int mem;

	ONLY_MONITOR();
	if (has_extents(&self->el2))
		SKIP(return, "extents: the hypervisor gives the memory back");
	mem = new_mem(parcels * PAGE, 0);
	ASSERT_LE(0, mem);
	for (i = 0; i < parcels; i++)
		ASSERT_EQ(0, map_mem(self->guest.vm, gpa + 2 * i * PAGE, mem,
				     i * PAGE, PAGE, LEND | RWX));
	live(_metadata, self);
	EXPECT_EQ(0x77, what_is_left(self));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "300"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_LOSE_REPLY, RM_MEM_RECLAIM,
		1, 0, 100000);
	start = now();
	EXPECT_NE(0, unmap_range(self->guest.vm, gpa, 2 * parcels * PAGE,
				 NULL));
	EXPECT_GT(5, now() - start);
	start = now();
	end_guest(self);
	EXPECT_GT(5, now() - start);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	close(mem);
}

TEST_HARNESS_MAIN
