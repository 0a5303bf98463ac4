// SPDX-License-Identifier: GPL-2.0
/*
 * NUMA balancing takes page table entries away from time to time, so that the
 * next touch tells it where a page is used. It can't move the pages of a
 * guestmem, so it must not take their entries.
 */
#include "lib/fixture.h"

#include <pthread.h>
#include <sys/resource.h>

#define SIZE MIB(32)
/* The size of memory whose pages the kernel can move. */
#define MOVABLE_SIZE MIB(4)
#define GPA GIB(1)

static const struct {
	const char *file;
	const char *value;
} settings[] = {
	{ "/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "10" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "10" },
	{ "/sys/kernel/debug/sched/numa_balancing/scan_period_max_ms", "20" },
	{ "/proc/sys/kernel/numa_balancing", "1" },
};

FIXTURE(numa)
{
	struct gmem_stats before;
	char saved[ARRAY_SIZE(settings)][32];
	int vm;
	int mem;
};

FIXTURE_VARIANT(numa)
{
	__u64 mem_flags;
	/* The guest's mapping; NULL for the host's. */
	const char *provider;
};

VARIANT(numa, host_4k, .mem_flags = 0);
VARIANT(numa, host_2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);
VARIANT(numa, window_4k, .provider = "window");
VARIANT(numa, window_2m, .provider = "window",
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);
VARIANT(numa, live_4k, .provider = "live");
VARIANT(numa, live_2m, .provider = "live",
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(numa)
{
	unsigned int i;

	ASSERT_LE(0, gmem_dev());
	if (variant->provider && !have_provider(variant->provider))
		SKIP(return, "no provider %s", variant->provider);
	if (variant->mem_flags && !takes_huge(variant->provider ?: "window"))
		SKIP(return, NO_HUGE, variant->provider ?: "window");
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		FILE *file = fopen(settings[i].file, "re");

		if (!file)
			SKIP(return, "no %s", settings[i].file);
		ASSERT_NE(NULL, fgets(self->saved[i], sizeof(self->saved[i]),
				      file));
		fclose(file);
	}
	ASSERT_EQ(0, get_stats(&self->before));
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		ASSERT_EQ(0, write_file(settings[i].file, settings[i].value));
	self->vm = new_vm(variant->provider ?: "window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->vm);
	self->mem = new_mem(SIZE, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, SIZE, LEND | RWX));
}

FIXTURE_TEARDOWN(numa)
{
	unsigned int i;

	for (i = ARRAY_SIZE(settings); i-- > 0;)
		EXPECT_EQ(0, write_file(settings[i].file, self->saved[i]));
	close(self->vm);
	close(self->mem);
	EXPECT_TRUE(stats_settle(&self->before));
}

/* Write to each page. Returns the number of page faults. */
static long touch_all(volatile __u8 *p, __u64 size)
{
	struct rusage before, after;
	__u64 i;

	getrusage(RUSAGE_THREAD, &before);
	for (i = 0; i < size; i += PAGE)
		p[i]++;
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_minflt - before.ru_minflt;
}

static void *sleeper(void *arg)
{
	return arg + pause();
}

TEST_F(numa, no_hint_faults)
{
	long movable_faults = 0, faults = 0;
	double end = now() + 60;
	__u8 *movable, *p;
	pthread_t thread;

	/* NUMA balancing leaves alone what only one thread can use. */
	ASSERT_EQ(0, pthread_create(&thread, NULL, sleeper, NULL));
	movable = mmap(NULL, MOVABLE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, movable);
	ASSERT_EQ(0, madvise(movable, MOVABLE_SIZE, MADV_NOHUGEPAGE));
	p = variant->provider ? map_window(self->vm, GPA, SIZE,
					   PROT_READ | PROT_WRITE) :
				map_host(self->mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, p);

	touch_all(movable, MOVABLE_SIZE);
	touch_all(p, SIZE);
	/* Each scan looks at all mappings of the process. */
	while (movable_faults < 3 * (long)(MOVABLE_SIZE / PAGE) && now() < end) {
		movable_faults += touch_all(movable, MOVABLE_SIZE);
		faults += touch_all(p, SIZE);
	}
	EXPECT_LE(3 * (long)(MOVABLE_SIZE / PAGE), movable_faults);
	/* A scan costs a fault each huge page; the stack has faults, too. */
	EXPECT_GT((long)(SIZE / HUGE_PAGE), faults);

	munmap(p, SIZE);
	munmap(movable, MOVABLE_SIZE);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}

TEST_HARNESS_MAIN
