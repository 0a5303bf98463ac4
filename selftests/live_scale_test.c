// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many scattered bindings behind one live window: their cost, and who pays it.
 * No sysctl limits them. GMEM_BINDINGS says how many; a million takes minutes.
 */
#include "lib/fixture.h"

#include <sys/mount.h>

#define CGROUPS "/sys/fs/cgroup"
#define CGROUP CGROUPS "/gmem_live_scale"
#define GPA GIB(1)

FIXTURE(live_scale)
{
	struct gmem_stats before;
	struct gmem_info info;
	int vm;
	int mem;
	unsigned long nr;
	bool group;
	/* The child's report. */
	volatile int *result;
};

/* Each second page of the guest has a binding of its own, of each second page. */
static __u64 place(unsigned long i)
{
	return 2 * i * PAGE;
}

FIXTURE_SETUP(live_scale)
{
	ASSERT_LE(0, gmem_dev());
	if (!have_provider("live"))
		SKIP(return, "no live windows");
	SETUP_STATS();
	self->nr = scaled(env_uint("GMEM_BINDINGS", 50000));
	self->vm = new_vm("live", GMEM_POLICY_ALLOW);
	ASSERT_EQ(0, get_info(0, &self->info));
	self->mem = new_mem(place(self->info.max_bindings + 1), 0);
	ASSERT_LE(0, self->vm);
	ASSERT_LE(0, self->mem);
	self->result = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->result);
	mount("cgroup2", CGROUPS, "cgroup2", 0, NULL);
	write_file(CGROUPS "/cgroup.subtree_control", "+memory");
	rmdir(CGROUP);
	self->group = !mkdir(CGROUP, 0755) &&
		      !access(CGROUP "/memory.stat", R_OK);
}

FIXTURE_TEARDOWN(live_scale)
{
	double end = now() + 5;

	close(self->vm);
	close(self->mem);
	while (rmdir(CGROUP) && errno == EBUSY && now() < end)
		usleep(10000);
	TEARDOWN_STATS();
}

static int bind_nth(FIXTURE_DATA(live_scale) *self, unsigned long i)
{
	return map_mem(self->vm, GPA + place(i), self->mem, place(i), PAGE,
		       LEND | RWX);
}

/* Join the group, and bind. */
static void child(FIXTURE_DATA(live_scale) *self)
{
	unsigned long i;

	if (self->group && write_file(CGROUP "/cgroup.procs", "0"))
		_exit(2);
	for (i = 0; i < self->nr && !*self->result; i++)
		*self->result = bind_nth(self, i);
	_exit(0);
}

static long slab_bytes(void)
{
	return 1024 * sum_of("/proc/meminfo", "SUnreclaim: %ld");
}

static long charged_bytes(void)
{
	return sum_of(CGROUP "/memory.stat", "slab_unreclaimable %ld");
}

/* From 6.18 on, maple nodes come from stocks that are charged to nobody. */
static bool charges_all(void)
{
	return !kernel_since("6.18");
}

TEST_F(live_scale, scattered_bindings)
{
	const long nr = self->nr;
	long slab = slab_bytes(), charged = 0;
	unsigned long i;
	__u8 *window;
	double begin;
	int status;
	__u64 gone;
	pid_t pid;

	begin = now();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		child(self);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, *self->result);
	if (self->group)
		charged = charged_bytes();
	slab = slab_bytes() - slab;
	printf("# %ld bindings: %.1f us, %ld bytes each, of which %ld charged\n",
	       nr, 1e6 * (now() - begin) / nr, slab / nr, charged / nr);
	/* Other users of slabs are noise in a small run; slabs have gaps. */
	if (nr >= 50000) {
		EXPECT_GE(200, slab / nr);
		if (self->group && charges_all())
			EXPECT_LE(slab * 9 / 10, charged);
	}
	if (self->group)
		EXPECT_LE(100, charged / nr);

	/* One mapping shows them all. */
	window = map_window(self->vm, GPA, place(nr), PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	for (i = 0; i < self->nr; i += 1 + self->nr / 1000) {
		ASSERT_EQ(0, touch_write(window + place(i), i));
		ASSERT_EQ(-SIGBUS, peek(window + place(i) + PAGE));
		ASSERT_EQ('l', page_state(self->mem, place(i)));
	}
	munmap(window, place(nr));

	begin = now();
	ASSERT_EQ(0, unmap_range(self->vm, GPA, place(nr), &gone));
	EXPECT_EQ(self->nr, gone);
	printf("# unbound: %.1f us each\n", 1e6 * (now() - begin) / nr);
}

/* The limit bounds the memory that is charged to nobody. */
TEST_F(live_scale, limit)
{
	unsigned long i;

	ASSERT_LE(1000000, self->info.max_bindings);
	if (self->nr < 1000000)
		SKIP(return, "takes GMEM_BINDINGS=1000000");
	for (i = 0; i < self->info.max_bindings; i++)
		ASSERT_EQ(0, bind_nth(self, i));
	EXPECT_EQ(-ENOSPC, bind_nth(self, i));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, PAGE, NULL));
	EXPECT_EQ(0, map_mem(self->vm, GPA + place(i), self->mem, place(i),
			     2 * PAGE, LEND | RWX));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + place(i) + PAGE, PAGE, NULL));

	/* A split needs another binding. */
	ASSERT_EQ(0, unmap_range(self->vm, GPA + place(1), PAGE, NULL));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + place(2), PAGE, NULL));
	ASSERT_EQ(0, map_mem(self->vm, GPA + place(1), self->mem, place(1),
			     3 * PAGE, LEND | RWX));
	ASSERT_EQ(0, bind_nth(self, 0));
	EXPECT_EQ(-ENOSPC, unmap_range(self->vm, GPA + place(1) + PAGE, PAGE,
				       NULL));
	EXPECT_EQ(0, unmap_range(self->vm, GPA + place(1), PAGE, NULL));
}

TEST_HARNESS_MAIN
