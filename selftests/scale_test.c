// SPDX-License-Identifier: GPL-2.0-only
/* Large files, many bindings, many VMs. */
#include "lib/fixture.h"

#define GPA GIB(1)

FIXTURE(scale)
{
	struct gmem_stats before;
};

FIXTURE_VARIANT(scale)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(scale);

FIXTURE_SETUP(scale)
{
	SKIP_UNLESS_POSSIBLE(variant);
	SETUP_STATS();
}

FIXTURE_TEARDOWN(scale)
{
	TEARDOWN_STATS();
}

/* B23: contiguous helper arrays fail for large VMs. */
TEST_F(scale, b23_sparse_file)
{
	const __u64 size = GIB(64), at[] = { 0, GIB(32), size - HUGE_PAGE };
	int vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	int mem = new_mem(size, variant->mem_flags);
	struct gmem_mem_query q;
	unsigned int i;
	__u8 *host;
	__u64 nr;

	ASSERT_LE(0, vm);
	ASSERT_LE(0, mem);
	if (has_parcels(vm))
		SKIP(goto out, "parcels: no page of a running guest can be punched");
	host = map_host(mem, 0, size);
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, map_mem(vm, GPA, mem, 0, size, LEND | RWX));
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_EQ(0, touch_write(host + at[i], i + 1));
		EXPECT_EQ((int)i + 1, guest_read(vm, GPA + at[i]));
		EXPECT_EQ('l', page_state(mem, at[i]));
	}
	ASSERT_EQ(0, query_mem(mem, 0, size, &q));
	EXPECT_EQ(size / PAGE, q.absent + q.lent);
	ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, size));
	ASSERT_EQ(0, query_mem(mem, 0, size, &q));
	EXPECT_EQ(size / PAGE, q.absent);
	for (i = 0; i < ARRAY_SIZE(at); i++)
		EXPECT_EQ(0, guest_read(vm, GPA + at[i]));
	ASSERT_EQ(0, reclaim_range(vm, 0, size + GPA, &nr));
	EXPECT_LE(ARRAY_SIZE(at), nr);
	ASSERT_EQ(0, unmap_range(vm, 0, size + GPA, &nr));
	EXPECT_EQ(size / PAGE, nr);
	munmap(host, size);
out:
	close_guest(vm);
	close(mem);
}

/* B23: a hundred thousand bindings, no two of which could be merged. */
TEST_F(scale, b23_many_bindings)
{
	const __u64 unit = variant->mem_flags & GMEM_MEM_ALLOW_HUGEPAGE ?
				   HUGE_PAGE : PAGE;
	unsigned long i, n = scaled(100000);
	int vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	int mem = new_mem(n * unit, variant->mem_flags);
	struct gmem_binding_info *b;
	__u64 nr, bindings;
	struct gmem_stats s;

	ASSERT_LE(0, vm);
	ASSERT_LE(0, mem);
	if (has_parcels(vm))
		SKIP(goto out, "parcels: no page of a running guest can be unbound");
	ASSERT_EQ(0, get_stats(&s));
	bindings = s.bindings;
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, map_mem(vm, GPA + i * unit, mem,
				     (n - 1 - i) * unit, unit,
				     (i & 1 ? LEND : SHARE) | RWX));
	ASSERT_EQ(0, get_stats(&s));
	EXPECT_EQ(bindings + n, s.bindings);
	for (i = 0; i < n; i += n / 10)
		EXPECT_EQ(0, guest_write(vm, GPA + i * unit, 1));

	b = calloc(n, sizeof(*b));
	ASSERT_NE(NULL, b);
	ASSERT_EQ((int)n, query_guest(vm, b, n));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(GPA + i * unit, b[i].guest_addr);
		ASSERT_EQ((n - 1 - i) * unit, b[i].offset);
		ASSERT_EQ(unit, b[i].length);
	}
	free(b);

	/* Unbind the first half by a call, the second by the end of the VM. */
	ASSERT_EQ(0, unmap_range(vm, GPA, n / 2 * unit, &nr));
	EXPECT_EQ(n / 2 * unit / PAGE, nr);
	ASSERT_EQ(0, get_stats(&s));
	EXPECT_EQ(bindings + n - n / 2, s.bindings);
out:
	close_guest(vm);
	close(mem);
}

static void vm_life(const char *provider, __u64 mem_flags, int stop)
{
	int vm = new_guest(provider, GMEM_POLICY_ALLOW);
	int mem = new_mem(HUGE_PAGE, mem_flags);

	map_mem(vm, GPA, mem, 0, HUGE_PAGE, LEND | RWX);
	populate_range(vm, GPA, HUGE_PAGE, NULL);
	guest_write(vm, GPA, 1);
	if (stop)
		raise(SIGKILL);
	_exit(0);
}

/* B24: memory didn't come back after a VM's end until the host was rebooted. */
TEST_F(scale, b24_a_thousand_lives)
{
	const unsigned long lives = scaled(1000), warm = 1 + scaled(20);
	unsigned long i;
	long before = 0;
	int status;
	pid_t pid;

	/* The first ones warm up caches. */
	for (i = 0; i < lives + warm; i++) {
		if (i == warm)
			before = mem_available();
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			vm_life(variant->provider, variant->mem_flags, i & 1);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	EXPECT_TRUE(stats_settle(&self->before));

	/* A life uses 2 MiB; a hundredth of that may be noise. */
	EXPECT_LT(mem_missing(before, lives * 20 + 8192),
		  (long)(lives * 20 + 8192));
}

/* Ending N bindings of the same M pages doesn't cost N * M. */
TEST_F(scale, shares_of_the_same_pages)
{
	const unsigned long n = scaled(2000);
	unsigned long i;
	double start;
	int vm, mem;

	if (!has_window(variant->provider) || variant->mem_flags)
		SKIP(return, "needs pages of 4 KiB that may have several shared bindings");
	vm = new_vm(variant->provider, GMEM_POLICY_ALLOW);
	mem = new_mem(n * PAGE, 0);
	/* Each binding begins at another page, the last one in the middle. */
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, map_mem(vm, i * n * PAGE, mem, i / 2 * PAGE,
				     (n - i / 2) * PAGE, SHARE | RWX));
	ASSERT_EQ(0, populate_range(vm, 0, n * PAGE, NULL));
	start = now();
	close(vm);
	/* On a slow machine, 2 us for each pair would be 8 s. */
	EXPECT_GT(2, now() - start);
	EXPECT_EQ('h', page_state(mem, 0));
	EXPECT_EQ('h', page_state(mem, (n - 1) * PAGE));
	close(mem);
}

/* How long does it take to punch @pages pages, each with @n shared bindings? */
static double punch_shared(const char *provider, unsigned long n,
			   unsigned long pages)
{
	int vm = new_vm(provider, GMEM_POLICY_ALLOW);
	int mem = new_mem(pages * PAGE, 0);
	double start, time = -1;
	unsigned long i;

	for (i = 0; i < n; i++)
		if (map_mem(vm, i * pages * PAGE, mem, 0, pages * PAGE,
			    SHARE | RWX))
			goto out;
	if (populate_range(vm, 0, pages * PAGE, NULL))
		goto out;
	start = now();
	if (!mem_alloc(mem, PUNCH, 0, pages * PAGE))
		time = now() - start;
	if (page_state(mem, 0) != 'a')
		time = -1;
out:
	close(vm);
	close(mem);
	return time;
}

/* Punching M pages, each with the same N bindings, doesn't cost N * M. */
TEST_F(scale, punch_of_shared_pages)
{
	const unsigned long n = 100 + scaled(3900);
	double bindings, pages, both;

	if (!has_window(variant->provider) || variant->mem_flags)
		SKIP(return, "needs pages of 4 KiB that may have several shared bindings");
	bindings = punch_shared(variant->provider, n, 1);
	pages = punch_shared(variant->provider, 1, n);
	both = punch_shared(variant->provider, n, n);
	ASSERT_LT(0, bindings);
	ASSERT_LT(0, pages);
	ASSERT_LT(0, both);
	TH_LOG("%lu bindings %.1f ms, %lu pages %.1f ms, both %.1f ms", n,
	       bindings * 1e3, n, pages * 1e3, both * 1e3);
	/* A piece has 8 MiB: each of them looks at all bindings. */
	EXPECT_GT((1 + n * PAGE / MIB(8)) * 3 * (bindings + pages) + 0.1, both);
}

/* The task that punches a page with many bindings can be killed. */
TEST_F(scale, punch_of_a_page_with_many_shares)
{
	const unsigned long n = scaled(300000);
	int vm, mem, status;
	unsigned long i;
	double since;
	pid_t pid;

	if (!has_window(variant->provider) || variant->mem_flags)
		SKIP(return, "needs pages of 4 KiB that may have several shared bindings");
	vm = new_vm(variant->provider, GMEM_POLICY_ALLOW);
	mem = new_mem(PAGE, 0);
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, map_mem(vm, i * PAGE, mem, 0, PAGE, SHARE | RWX));
	ASSERT_EQ(0, populate_range(vm, 0, PAGE, NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	while (!pid) {
		mem_alloc(mem, PUNCH, 0, PAGE);
		populate_range(vm, 0, PAGE, NULL);
	}
	usleep(10000);
	since = now();
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_GT(0.5, now() - since);
	close(vm);
	close(mem);
}

TEST_HARNESS_MAIN
