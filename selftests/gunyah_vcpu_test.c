// SPDX-License-Identifier: GPL-2.0-only
/* vCPUs that come and go while others, or the VM's start, are under way. */
#include "lib/gunyah_vm.h"

#include <pthread.h>

#define SHARED GIB(5)

static void *start(void *arg)
{
	return (void *)(long)gunyah_guest_start(arg);
}

/* Let the guest count in its shared memory until the next word isn't 0. */
static void *count(void *arg)
{
	return (void *)(long)gunyah_command(arg, GUNYAH_SPIN, SHARED, 0, 0,
					    NULL);
}

static void *run(void *arg)
{
	return (void *)(long)err_of(ioctl(*(int *)arg, GMEM_GUNYAH_VCPU_RUN,
					  0));
}

static int result(pthread_t thread)
{
	void *ret = (void *)(long)-ESRCH;

	pthread_join(thread, &ret);
	return (long)ret;
}

static int remove_vcpu(int vm, __u32 id)
{
	struct gmem_gunyah_fn_vcpu_arg arg = { .id = id };
	struct gmem_gunyah_fn_desc desc = {
		.type = GMEM_GUNYAH_FN_VCPU,
		.arg_size = sizeof(arg),
		.arg = ptr_u64(&arg),
	};

	return err_of(ioctl(vm, GMEM_GUNYAH_REMOVE_FUNCTION, &desc));
}

/* Does the number grow, within 20 seconds? */
static bool grows(const volatile __u32 *number)
{
	double end = now() + 20;
	__u32 before = *number;

	while (*number == before && now() < end)
		usleep(1000);
	return *number != before;
}

/* Has a rule acted more often than this? False after 20 seconds. */
static bool has_hits(self_t *self, __u64 before)
{
	double end = now() + 20;

	while (el2_stats(&self->el2).rule_hits == before && now() < end)
		usleep(1000);
	return el2_stats(&self->el2).rule_hits != before;
}

/*
 * A vCPU is removed while it runs. That ends the run, but not the guest: when
 * the vCPU is added again, it goes on. Meanwhile the other one is off; with
 * extents, the monitor's guest has no other one.
 */
TEST_F_TIMEOUT(gunyah, removed_while_it_runs, 120)
{
	volatile __u32 *words;
	pthread_t first, second;
	int vm, vcpu;

	words = (void *)map_host(self->mem, KIB(512), PAGE);
	ASSERT_NE(MAP_FAILED, words);
	self->guest.nr_cpus = 2;
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "300"));
	vm = self->guest.vm;
	vcpu = gunyah_add_vcpu(vm, 1);
	ASSERT_LE(0, vcpu);
	ASSERT_EQ(0, pthread_create(&second, NULL, run, &vcpu));
	ASSERT_EQ(0, pthread_create(&first, NULL, count, &self->guest));
	EXPECT_TRUE(grows(words));
	/* Until the second one has been off for long. */
	usleep(1500000);

	EXPECT_EQ(0, remove_vcpu(vm, 0));
	EXPECT_EQ(-ENODEV, result(first));
	usleep(1500000);
	EXPECT_EQ(0, fd_number(vm, "gmem-exited:"));

	gunyah_close_vcpu(&self->guest);
	ASSERT_EQ(0, gunyah_open_vcpu(&self->guest));
	words[1] = 1;
	EXPECT_EQ(0, gunyah_run(&self->guest, NULL, 0, NULL));
	EXPECT_EQ(0, guest_works(self));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(has_extents(&self->el2) ? -ENODEV : 0, result(second));
	munmap((void *)words, PAGE);
	close(vcpu);
}

/* vCPUs can be closed and added while the Resource Manager starts the guest. */
TEST_F_TIMEOUT(gunyah, closed_during_the_start, 60)
{
	__u64 hits = el2_stats(&self->el2).rule_hits;
	pthread_t starter;
	double began;

	ONLY_MONITOR();
	el2_rule(&self->el2, EL2_RULE_RPC_DELAY, RM_VM_START, 1, 4000);
	ASSERT_EQ(0, pthread_create(&starter, NULL, start, &self->guest));
	EXPECT_TRUE(has_hits(self, hits));
	began = now();
	gunyah_close_vcpu(&self->guest);
	EXPECT_EQ(0, gunyah_open_vcpu(&self->guest));
	EXPECT_GT(2, now() - began);
	EXPECT_EQ(0, result(starter));
	EXPECT_EQ(0, guest_works(self));
	end_guest(self);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
}

TEST_HARNESS_MAIN
