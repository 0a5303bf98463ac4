// SPDX-License-Identifier: GPL-2.0
/* vCPUs that come and go while the VM's start is under way. */
#include "lib/gunyah_vm.h"

#include <pthread.h>

static void *start(void *arg)
{
	return (void *)(long)gunyah_guest_start(arg);
}

static int result(pthread_t thread)
{
	void *ret = (void *)(long)-ESRCH;

	pthread_join(thread, &ret);
	return (long)ret;
}

/* Has a rule acted more often than this? False after 20 seconds. */
static bool has_hits(self_t *self, __u64 before)
{
	double end = now() + 20;

	while (el2_stats(&self->el2).rule_hits == before && now() < end)
		usleep(1000);
	return el2_stats(&self->el2).rule_hits != before;
}

/* vCPUs can be closed and added while the Resource Manager starts the guest. */
TEST_F_TIMEOUT(gunyah, closed_during_the_start, 60)
{
	__u64 hits = el2_stats(&self->el2).rule_hits;
	pthread_t starter;
	double began;

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
