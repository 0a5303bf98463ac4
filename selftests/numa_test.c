// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NUMA policy of a guestmem, and NUMA balancing. That takes page table
 * entries away from time to time, so that the next touch tells it where a page
 * is used. It can't move the pages of a guestmem, so it must not take their
 * entries.
 */
#include "lib/fixture.h"
#include "lib/random.h"
#include "lib/view.h"
#include "lib/wait.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/resource.h>

#define SIZE (16 * HUGE_PAGE)
/* The size of memory whose pages the kernel can move. */
#define MOVABLE_SIZE (2 * HUGE_PAGE)
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

#define NR 8

FIXTURE(policy)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* Two nodes with memory. */
	int node[2];
};

FIXTURE_VARIANT(policy)
{
	const char *provider;
	__u64 mem_flags;
};

EACH_SIZE(VARIANT, policy, window, .provider = "window");
EACH_SIZE(VARIANT, policy, live, .provider = "live");

/* Nodes with memory; returns their number. */
static int find_nodes(int *nodes, int max)
{
	FILE *file = fopen("/sys/devices/system/node/has_normal_memory", "re");
	int nr = 0, first, last;
	char comma = ',';

	while (file && comma == ',' && fscanf(file, "%d", &first) == 1) {
		last = first;
		comma = fgetc(file);
		if (comma == '-' && fscanf(file, "%d", &last) == 1)
			comma = fgetc(file);
		for (; first <= last && nr < max; first++)
			nodes[nr++] = first;
	}
	if (file)
		fclose(file);
	return nr;
}

static int set_policy_of(void *at, __u64 size, int mode, __u64 nodes)
{
	return err_of(syscall(SYS_mbind, at, size, mode, &nodes,
			      65, 0));
}

static int set_task_policy(int mode, __u64 nodes)
{
	return err_of(syscall(SYS_set_mempolicy, mode, &nodes,
			      65));
}

/* The node of a page that is mapped; -errno. */
static int node_of(void *page)
{
	int status = -EINVAL;
	int ret = err_of(syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status,
				 0));

	return ret ?: status;
}

/* Touch a page, and return its node. */
static int touch_node(__u8 *page)
{
	return touch_write(page, 1) ? -EFAULT : node_of(page);
}

FIXTURE_SETUP(policy)
{
	if (find_nodes(self->node, 2) < 2)
		SKIP(return, "one node has all the memory");
	SETUP_VM_AND_MEM(NR, GMEM_POLICY_ALLOW);
	SETUP_HOST();
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
}

FIXTURE_TEARDOWN(policy)
{
	set_task_policy(MPOL_DEFAULT, 0);
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

#define AT(i) (self->host + (i) * self->unit)
#define ON(i) (1ULL << self->node[i])
#define EMPTY() ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size))

/* mbind() of a part: the file keeps it, for the touches of all. */
TEST_F(policy, of_a_range)
{
	__u8 *window;
	int i;

	ASSERT_EQ(0, set_policy_of(AT(0), 2 * self->unit, MPOL_BIND, ON(1)));
	ASSERT_EQ(0, set_policy_of(AT(2), 2 * self->unit, MPOL_BIND, ON(0)));
	ASSERT_EQ(0, set_policy_of(AT(4), 2 * self->unit, MPOL_PREFERRED,
				   ON(1)));
	ASSERT_EQ(0, set_policy_of(AT(6), 2 * self->unit, MPOL_PREFERRED_MANY,
				   ON(0)));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(self->node[i / 2 % 2 == 0], touch_node(AT(i)));

	EMPTY();
	munmap(self->host, self->size);
	self->host = map_host(self->mem, 0, self->size);
	ASSERT_NE(MAP_FAILED, self->host);
	window = map_window(self->vm, GPA, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, touch_write(window + i * self->unit, 1));
		EXPECT_EQ(self->node[i / 2 % 2 == 0], touch_node(AT(i)));
	}
	munmap(window, self->size);

	/* Without a policy of the file, that of the task counts. */
	EMPTY();
	ASSERT_EQ(0, set_policy_of(AT(0), self->size, MPOL_LOCAL, 0));
	ASSERT_EQ(0, set_policy_of(AT(0), self->size, MPOL_DEFAULT, 0));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, set_task_policy(MPOL_BIND, ON(i % 2)));
		EXPECT_EQ(self->node[i % 2], touch_node(AT(i)));
	}
}

/* GMEM_VM_FILL allocates by the policy, too. */
TEST_F(policy, of_a_fill)
{
	__u8 *source = calloc(1, self->unit);
	int i;

	ASSERT_NE(NULL, source);
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	ASSERT_EQ(0, set_policy_of(AT(0), 4 * self->unit, MPOL_BIND, ON(1)));
	ASSERT_EQ(0, set_policy_of(AT(4), 4 * self->unit, MPOL_BIND, ON(0)));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, fill_mem(self->vm, GPA + i * self->unit, self->mem,
				      i * self->unit, self->unit, LEND | RWX,
				      source));
		EXPECT_EQ(self->node[i < 4], touch_node(AT(i)));
	}
	free(source);
}

/* set_mempolicy() of the task that touches a page, as the host or the guest. */
TEST_F(policy, of_the_task)
{
	__u8 *window;
	int i;

	window = map_window(self->vm, GPA, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, set_task_policy(MPOL_BIND, ON(i % 2)));
		ASSERT_EQ(0, i < NR / 2 ?
				     touch_write(window + i * self->unit, 1) :
				     touch_write(AT(i), 1));
	}
	for (i = 0; i < NR; i++)
		EXPECT_EQ(self->node[i % 2], touch_node(AT(i)));
	munmap(window, self->size);
}

/* A policy at creation holds for all pages; mbind() changes it for some. */
TEST_F(policy, at_creation)
{
	const struct {
		int mode;
		__u64 nodes;
		int even;
		int odd;
	} cases[] = {
		{ MPOL_BIND, ON(1), 1, 1 },
		{ MPOL_BIND, ON(0), 0, 0 },
		{ MPOL_PREFERRED, ON(1), 1, 1 },
		{ MPOL_PREFERRED_MANY, ON(1), 1, 1 },
		{ MPOL_INTERLEAVE, ON(0) | ON(1), 0, 1 },
		{ MPOL_INTERLEAVE, ON(1), 1, 1 },
	};
	unsigned int c, i;
	__u8 *host;
	int mem;

	/* The file's policy comes first. */
	ASSERT_EQ(0, set_task_policy(MPOL_BIND, ON(0)));
	for (c = 0; c < ARRAY_SIZE(cases); c++) {
		mem = new_mem_numa(self->size, variant->mem_flags,
				   cases[c].mode, cases[c].nodes);
		ASSERT_LE(0, mem);
		EXPECT_EQ(FD_CLOEXEC, fcntl(mem, F_GETFD));
		host = map_host(mem, 0, self->size);
		ASSERT_NE(MAP_FAILED, host);
		ASSERT_EQ(0, mem_alloc(mem, 0, 0, 4 * self->unit));
		for (i = 0; i < NR; i++)
			EXPECT_EQ(self->node[i % 2 ? cases[c].odd :
						     cases[c].even],
				  touch_node(host + i * self->unit)) {
				TH_LOG("case %u, page %u", c, i);
			}
		ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, self->size));
		ASSERT_EQ(0, set_policy_of(host + self->unit, self->unit,
					   MPOL_BIND, ON(0)));
		EXPECT_EQ(self->node[0], touch_node(host + self->unit));
		EXPECT_EQ(self->node[cases[c].even], touch_node(host));
		munmap(host, self->size);
		close(mem);
	}
}

/* Through a paged window, mbind() is that of the guestmem. */
TEST_F(policy, of_a_window)
{
	__u8 *window;
	int view, i;

	window = map_window(self->vm, GPA, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	if (is_live(variant->provider)) {
		EXPECT_EQ(-EOPNOTSUPP, set_policy_of(window, self->size,
						     MPOL_BIND, ON(1)));
		EXPECT_EQ(-EOPNOTSUPP, set_policy_of(window, self->unit,
						     MPOL_LOCAL, 0));
	} else {
		ASSERT_EQ(0, set_policy_of(window, self->size / 2, MPOL_BIND,
					   ON(1)));
		ASSERT_EQ(0, set_policy_of(window + self->size / 2,
					   self->size / 2, MPOL_BIND, ON(0)));
		for (i = 0; i < NR; i++)
			EXPECT_EQ(self->node[i < NR / 2], touch_node(AT(i)));
	}
	munmap(window, self->size);
	/* Where nothing is bound. */
	window = map_window(self->vm, GPA + self->size, self->size, PROT_READ);
	ASSERT_NE(MAP_FAILED, window);
	EXPECT_EQ(-EOPNOTSUPP, set_policy_of(window, self->size, MPOL_BIND,
					     ON(1)));
	munmap(window, self->size);

	view = new_view(self->mem, 0, self->size, 0, NULL);
	ASSERT_LE(0, view);
	window = map_host(view, 0, self->size);
	ASSERT_NE(MAP_FAILED, window);
	EXPECT_EQ(-EOPNOTSUPP, set_policy_of(window, self->size, MPOL_BIND,
					     ON(1)));
	munmap(window, self->size);
	close(view);
}

/* A policy that can't be served is refused, and the old one stays. */
TEST_F(policy, refused)
{
	const __u64 size = self->size;
	struct gmem_mem_create create = {
		.size = sizeof(create),
		.length = size,
		.numa_mode = MPOL_BIND,
		.nr_nodes = 64,
		.nodes = 8,
	};
	__u64 far[65] = { ON(0) };
	int mem;

	ASSERT_EQ(0, set_policy_of(AT(0), size, MPOL_BIND, ON(1)));
	EXPECT_EQ(-EOPNOTSUPP, set_policy_of(AT(0), size, 6, ON(0)));
	EXPECT_EQ(-EOPNOTSUPP,
		  set_policy_of(AT(0), size, MPOL_BIND | MPOL_F_NUMA_BALANCING,
				ON(0)));
	EXPECT_EQ(self->node[1], touch_node(AT(0)));

#define CREATE(mode, nodes) new_mem_numa(size, variant->mem_flags, mode, nodes)
	EXPECT_EQ(-EOPNOTSUPP, CREATE(6, ON(0)));
	EXPECT_EQ(-EOPNOTSUPP, CREATE(7, ON(0)));
	EXPECT_EQ(-EOPNOTSUPP, CREATE(~0U, ON(0)));
	EXPECT_EQ(-EOPNOTSUPP, CREATE(MPOL_BIND | MPOL_F_STATIC_NODES, ON(0)));
	EXPECT_EQ(-EINVAL, CREATE(MPOL_DEFAULT, ON(0)));
	EXPECT_EQ(-EINVAL, CREATE(MPOL_LOCAL, ON(0)));
	EXPECT_EQ(-EINVAL, CREATE(MPOL_BIND, 0));
	EXPECT_EQ(-EINVAL, CREATE(MPOL_INTERLEAVE, 0));
	EXPECT_EQ(-EINVAL, CREATE(MPOL_PREFERRED, 0));
	EXPECT_EQ(-EINVAL, CREATE(MPOL_PREFERRED, ON(0) | ON(1)));
	/* A node that isn't there. */
	EXPECT_EQ(-EINVAL, CREATE(MPOL_BIND, ON(0) | 1ULL << 63));
	EXPECT_EQ(-EFAULT, err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create)));
	create.nodes = ptr_u64(far);
	create.nr_nodes = GMEM_NUMA_MAX_NODES + 1;
	EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create)));
	create.nr_nodes = GMEM_NUMA_MAX_NODES;
	far[63] = 1ULL << 63;
	EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create)));
	far[63] = 0;
	mem = err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create));
	EXPECT_LE(0, mem);
	close(mem);
	mem = CREATE(MPOL_LOCAL, 0);
	EXPECT_LE(0, mem);
	close(mem);
}

/* Policies of random ranges, one over another. */
TEST_F(policy, many_ranges)
{
	const int nr = 256 / (self->unit / PAGE > 1 ? 16 : 1);
	int mem = new_mem(nr * self->unit, variant->mem_flags);
	__u8 *host = map_host(mem, 0, nr * self->unit);
	int i, first, last, round, mode;
	__u64 random = 1;
	__u8 want[256];

	ASSERT_NE(MAP_FAILED, host);
	memset(want, 2, sizeof(want));
	ASSERT_EQ(0, set_task_policy(MPOL_BIND, ON(0)));
	for (round = 0; round < 300; round++) {
		first = roll(&random, nr);
		last = first + roll(&random, nr - first);
		mode = roll(&random, 3);
		ASSERT_EQ(0, set_policy_of(host + first * self->unit,
					   (last - first + 1) * self->unit,
					   mode == 2 ? MPOL_DEFAULT : MPOL_BIND,
					   mode == 2 ? 0 : ON(mode)));
		for (i = first; i <= last; i++)
			want[i] = mode;
	}
	for (i = 0; i < nr; i++)
		EXPECT_EQ(self->node[want[i] == 1],
			  touch_node(host + i * self->unit));
	munmap(host, nr * self->unit);
	close(mem);
}

TEST_HARNESS_MAIN
