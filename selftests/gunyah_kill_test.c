// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process with a guest under Gunyah is killed in every state of the guest's
 * life: its memory comes back, and the hypervisor keeps nothing of it.
 */
#include "lib/gunyah_fixture.h"

#define LENT GIB(4)
#define SHARED GIB(5)
#define SIZE MIB(1)

enum stage {
	CREATED,
	BOUND,
	STARTING,
	STARTED,
	RUNNING,
	POPULATING,
	RECLAIMING,
	ENDED,
};

FIXTURE(kill)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct el2 el2;
	/* A pipe: the child reports that it has reached its stage. */
	int there[2];
};

FIXTURE_VARIANT(kill)
{
	enum stage stage;
	/*
	 * Kill the child after a random time up to this; 0: as soon as it
	 * reports.
	 */
	unsigned int within_us;
	unsigned int times;
};

VARIANT(kill, created, .stage = CREATED, .times = 3);
VARIANT(kill, bound, .stage = BOUND, .times = 3);
VARIANT(kill, starting, .stage = STARTING, .within_us = 60000, .times = 40);
VARIANT(kill, started, .stage = STARTED, .times = 3);
VARIANT(kill, running, .stage = RUNNING, .within_us = 20000, .times = 10);
VARIANT(kill, populating, .stage = POPULATING, .within_us = 20000, .times = 10);
VARIANT(kill, reclaiming, .stage = RECLAIMING, .within_us = 20000, .times = 10);
VARIANT(kill, ended, .stage = ENDED, .times = 3);

FIXTURE_SETUP(kill)
{
	SETUP_GUNYAH();
}

FIXTURE_TEARDOWN(kill)
{
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	el2_close(&self->el2);
}

static void say(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(2);
}

/* Act as a VMM up to @stage, report, and stay in that stage until killed. */
static void live(enum stage stage, int there)
{
	struct gunyah_guest guest;
	int mem = new_mem(SIZE, 0);

	if (mem < 0 || gunyah_guest_open(&guest, GMEM_POLICY_ALLOW))
		_exit(1);
	if (stage >= BOUND &&
	    (map_mem(guest.vm, LENT, mem, 0, SIZE / 2, LEND | RWX) ||
	     map_mem(guest.vm, SHARED, mem, SIZE / 2, SIZE / 2, SHARE | RWX)))
		_exit(1);
	if (stage == STARTING)
		say(there);
	if (stage >= STARTING && gunyah_guest_start(&guest))
		_exit(1);
	if (stage > STARTED && gunyah_write(&guest, LENT, 1))
		_exit(1);
	if (stage == ENDED)
		gunyah_command(&guest, GUNYAH_PSCI, GUNYAH_PSCI_OFF, 0, 0,
			       NULL);
	if (stage != STARTING)
		say(there);
	if (stage == RUNNING)
		gunyah_command(&guest, GUNYAH_SPIN, SHARED, 0, 0, NULL);
	while (stage == POPULATING || stage == RECLAIMING) {
		populate_range(guest.vm, LENT, SIZE / 2, NULL);
		populate_range(guest.vm, SHARED, SIZE / 2, NULL);
		reclaim_range(guest.vm, LENT, SIZE / 2, NULL);
		if (stage == RECLAIMING)
			unmap_range(guest.vm, SHARED, SIZE / 2, NULL);
		map_mem(guest.vm, SHARED, mem, SIZE / 2, SIZE / 2, SHARE | RWX);
	}
	for (;;)
		pause();
}

TEST_F(kill, memory_comes_back)
{
	struct gmem_stats stats;
	unsigned int i;
	int status;
	pid_t pid;
	char byte;

	ONLY_MONITOR();
	srand(time(NULL));
	/* Slow replies leave time to kill the child between two calls. */
	if (variant->stage == STARTING)
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_DELAY, EL2_ANY, 1, 4,
			1000000);
	for (i = 0; i < variant->times; i++) {
		ASSERT_EQ(0, pipe(self->there));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			live(variant->stage, self->there[1]);
		close(self->there[1]);
		ASSERT_EQ(1, read(self->there[0], &byte, 1));
		close(self->there[0]);
		if (variant->within_us)
			usleep(rand() % variant->within_us);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));

		EXPECT_TRUE(stats_settle(&self->before));
		ASSERT_EQ(0, get_stats(&stats));
		EXPECT_EQ(self->before.leaked_pages, stats.leaked_pages);
		EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	}
}

FIXTURE(lives)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct el2 el2;
};

FIXTURE_SETUP(lives)
{
	SETUP_GUNYAH();
}

FIXTURE_TEARDOWN(lives)
{
	TEARDOWN_GUNYAH(false);
}

/* Live and be killed at any time. True if the child was killed. */
static bool live_and_die(void)
{
	enum stage stage = rand() % (ENDED + 1);
	int status, there[2];
	pid_t pid;

	if (pipe(there))
		return false;
	pid = fork();
	if (!pid)
		live(stage, there[1]);
	close(there[1]);
	usleep(rand() % 80000);
	close(there[0]);
	return pid > 0 && !kill(pid, SIGKILL) &&
	       waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

/*
 * There are 63 VMIDs, so VMs that end late make others wait, but a thousand
 * lives lose no VMID and no page.
 */
TEST_F_TIMEOUT(lives, nothing_is_lost, 900)
{
	const unsigned long nr = scaled(1000);
	unsigned long i, killed = 0;

	signal(SIGPIPE, SIG_IGN);
	srand(time(NULL));
	for (i = 0; i < nr; i++) {
		killed += live_and_die();
		if (!(i % 32))
			ASSERT_TRUE(el2_settles(&self->el2, &self->el2_before));
	}
	TH_LOG("%lu of %lu were killed", killed, nr);
	EXPECT_LT(nr / 2, killed);
}

TEST_HARNESS_MAIN
