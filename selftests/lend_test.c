// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which side has a page, how the page changes hands, and what the policy does.
 */
#include "lib/fixture.h"

#define UNITS 8
/* The guest address of the file. */
#define GPA GIB(1)

FIXTURE(lend)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
};

FIXTURE_VARIANT(lend)
{
	const char *provider;
	__u64 mem_flags;
	__u32 policy;
};

#define VARIANTS_POLICY(fixture, name, ...)				\
	VARIANT(fixture, name##_allow, .policy = GMEM_POLICY_ALLOW, __VA_ARGS__); \
	VARIANT(fixture, name##_scrub, .policy = GMEM_POLICY_SCRUB, __VA_ARGS__); \
	VARIANT(fixture, name##_deny, .policy = GMEM_POLICY_DENY, __VA_ARGS__)

EACH_PROVIDER_SIZE(VARIANTS_POLICY, lend);

FIXTURE_SETUP(lend)
{
	SETUP_VM_AND_MEM(UNITS, variant->policy);
	SETUP_HOST();
}

FIXTURE_TEARDOWN(lend)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

#define BIND(access)							\
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,	\
			     (access) | RWX))

/*
 * For a test in which the host takes pages back unless the policy denies them.
 * With parcels, a guest keeps every page until its end.
 */
#define SKIP_UNLESS_RECLAIMABLE()					\
	do {								\
		if (variant->policy != GMEM_POLICY_DENY &&		\
		    has_parcels(self->vm))				\
			SKIP(return, "parcels: the guest keeps the page that the host touches"); \
	} while (0)

/* The host reads this from a page in which a guest has written @byte. */
#define AFTER_RECLAIM(byte)						\
	(variant->policy == GMEM_POLICY_DENY ? -SIGBUS :		\
	 variant->policy == GMEM_POLICY_SCRUB ? 0 : (byte))

static __u64 lent_pages(int mem, __u64 size)
{
	struct gmem_mem_query q;

	return query_mem(mem, 0, size, &q) ? ~0ULL : q.lent;
}

/* Until the guest's first access, the host may read and write the pages. */
TEST_F(lend, image_loaded_by_the_host)
{
	__u64 i;

	BIND(LEND);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(self->host + i * self->unit, i + 1));
	EXPECT_EQ('h', page_state(self->mem, 0));
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ((int)i + 1,
			  guest_read(self->vm, GPA + i * self->unit));
	EXPECT_EQ(self->size / PAGE, lent_pages(self->mem, self->size));
}

/* As soon as a guest has the page, every mapping of the host is gone. */
TEST_F(lend, host_mapping_goes)
{
	__u8 *second = map_host(self->mem, 0, self->unit);

	ASSERT_NE(MAP_FAILED, second);
	BIND(LEND);
	ASSERT_EQ(0, touch_write(self->host, 1));
	ASSERT_EQ(0, touch_write(self->host + self->unit - 1, 2));
	ASSERT_EQ(0, touch_read(second));
	if (page_present(self->host) < 0)
		SKIP(return, "no /proc/self/pagemap");
	ASSERT_EQ(1, page_present(self->host));
	ASSERT_EQ(1, page_present(second));

	ASSERT_EQ(1, guest_read(self->vm, GPA));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ('l', page_state(self->mem, self->unit - PAGE));
	EXPECT_EQ(0, page_present(self->host));
	EXPECT_EQ(0, page_present(self->host + self->unit - PAGE));
	EXPECT_EQ(0, page_present(second));
	munmap(second, self->unit);
}

TEST_F(lend, host_access)
{
	struct gmem_stats s0, s1;

	SKIP_UNLESS_RECLAIMABLE();
	BIND(LEND);
	ASSERT_EQ(0, touch_write(self->host, 1));
	ASSERT_EQ(0, get_stats(&s0));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.lent_pages + self->unit / PAGE, s1.lent_pages);
	EXPECT_EQ(s0.lends + self->unit / PAGE, s1.lends);
	EXPECT_EQ(s0.reclaims, s1.reclaims);

	/* A read and a write of the host give the same result. */
	EXPECT_EQ(AFTER_RECLAIM(2), peek(self->host));
	if (variant->policy == GMEM_POLICY_DENY) {
		EXPECT_EQ(SIGBUS, touch_write(self->host, 3));
		EXPECT_EQ('l', page_state(self->mem, 0));
		EXPECT_EQ(2, guest_read(self->vm, GPA));
		return;
	}
	EXPECT_EQ('h', page_state(self->mem, 0));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.lent_pages, s1.lent_pages);
	EXPECT_EQ(s0.reclaims + self->unit / PAGE, s1.reclaims);

	/* The page can change hands any number of times. */
	ASSERT_EQ(0, touch_write(self->host, 4));
	EXPECT_EQ(4, guest_read(self->vm, GPA));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(0, touch_write(self->host, 5));
	EXPECT_EQ(5, guest_read(self->vm, GPA));
}

/* Scrub clears the whole page, and no other page. */
TEST_F(lend, scrub_all_of_it)
{
	const __u64 step = self->unit > PAGE && scaled(8) < 8 ? 16 * PAGE : PAGE;
	__u64 i;

	SKIP_UNLESS_RECLAIMABLE();
	BIND(LEND);
	for (i = 0; i < 2 * self->unit; i += step)
		ASSERT_EQ(0, guest_write(self->vm, GPA + i + i / PAGE % PAGE,
					 0x77));
	for (i = 0; i < self->unit; i += step)
		ASSERT_EQ(AFTER_RECLAIM(0x77),
			  peek(self->host + i + i / PAGE % PAGE));
	for (; i < 2 * self->unit; i += step)
		ASSERT_EQ(0x77,
			  guest_read(self->vm, GPA + i + i / PAGE % PAGE));
}

/* The policy may change at any time; an access obeys the current one. */
TEST_F(lend, policy_change)
{
	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest keeps the page under any policy");
	BIND(LEND);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	EXPECT_EQ(-SIGBUS, peek(self->host));
	EXPECT_EQ(-EACCES, reclaim_range(self->vm, GPA, self->unit, NULL));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_ALLOW));
	EXPECT_EQ(1, peek(self->host));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(0, peek(self->host));
}

/* Host and guest both keep a shared page, under every policy. */
TEST_F(lend, shared)
{
	struct gmem_stats s0, s1;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	BIND(SHARE);
	ASSERT_EQ(0, get_stats(&s0));
	ASSERT_EQ(0, touch_write(self->host, 1));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ(1, guest_read(self->vm, GPA));
	EXPECT_EQ('s', page_state(self->mem, 0));
	EXPECT_NE(0, page_present(self->host));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	EXPECT_EQ(2, peek(self->host));
	ASSERT_EQ(0, touch_write(self->host, 3));
	EXPECT_EQ(3, guest_read(self->vm, GPA));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.lent_pages, s1.lent_pages);
	EXPECT_EQ(s0.lends, s1.lends);

	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ('h', page_state(self->mem, 0));
	/* The host had the page all the time, so nothing is scrubbed. */
	EXPECT_EQ(3, peek(self->host));
}

/*
 * A page shared with several guests is in state shared until the last unbinds
 * it.
 */
TEST_F(lend, shared_by_several)
{
	struct gmem_info info;
	int other;

	ASSERT_TRUE(find_provider(variant->provider, &info));
	other = new_guest(variant->provider, variant->policy);
	ASSERT_LE(0, other);
	BIND(SHARE);
	if (!(info.provider_flags & GMEM_PROVIDER_SHARE_MULTI)) {
		ASSERT_EQ(-EEXIST, map_mem(other, 0, self->mem, 0, self->size,
					   SHARE | RWX));
		close_guest(other);
		return;
	}
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 0, self->size, SHARE | RWX));
	ASSERT_EQ(0, map_mem(other, 2 * GPA, self->mem, 0, self->unit,
			     SHARE | RX));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(1, guest_read(other, 0));
	ASSERT_EQ(1, guest_read(other, 2 * GPA));
	ASSERT_EQ(0, unmap_range(other, 0, self->size, NULL));
	EXPECT_EQ('s', page_state(self->mem, 0));
	ASSERT_EQ(1, guest_read(other, 2 * GPA));
	close_guest(other);
	EXPECT_EQ('s', page_state(self->mem, 0));
	ASSERT_EQ(1, guest_read(self->vm, GPA));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ('h', page_state(self->mem, 0));
}

/* No guest and no host reads what another guest has left in a page. */
TEST_F(lend, zeroing)
{
	int i, expected = variant->policy == GMEM_POLICY_ALLOW ? 0x5a : 0;
	int other;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	other = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, other);
	BIND(LEND);
	/* A new page is all zeroes for host and guest. */
	for (i = 0; i < (int)PAGE; i += 64)
		ASSERT_EQ(0, guest_read(self->vm, GPA + i));
	for (i = 0; i < (int)PAGE; i += 64)
		ASSERT_EQ(0, self->host[self->unit + i]);

	/* An unbound page is zeroed, except under the policy "allow". */
	ASSERT_EQ(0, guest_write(self->vm, GPA + 2 * self->unit, 0x5a));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + 2 * self->unit, self->unit,
				 NULL));
	EXPECT_EQ('h', page_state(self->mem, 2 * self->unit));
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 2 * self->unit, self->unit,
			     LEND | RWX));
	EXPECT_EQ(expected, guest_read(other, 0));
	ASSERT_EQ(0, unmap_range(other, 0, self->unit, NULL));
	EXPECT_EQ(expected, peek(self->host + 2 * self->unit));

	/* The end of a VM has the same effect. */
	ASSERT_EQ(0, guest_write(self->vm, GPA + 3 * self->unit, 0x5a));
	close_guest(self->vm);
	EXPECT_EQ('h', page_state(self->mem, 3 * self->unit));
	EXPECT_EQ(expected, peek(self->host + 3 * self->unit));

	/* A punched page is zeroed under every policy. */
	ASSERT_EQ(0, touch_write(self->host, 0x5a));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
	EXPECT_EQ('a', page_state(self->mem, 0));
	EXPECT_EQ(0, peek(self->host));
	close_guest(other);
}

/*
 * B1: `index > i_off + nr` treated the page behind a binding as one of its
 * pages.
 */
TEST_F(lend, b01_page_behind_a_binding)
{
	const __u64 u = self->unit;

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 2 * u, 3 * u,
			     LEND | RWX));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	ASSERT_EQ(0, guest_write(self->vm, GPA + 2 * u, 4));
	ASSERT_EQ(3 * u / PAGE - u / PAGE, lent_pages(self->mem, self->size));
	/* The host's accesses next to the binding take nothing back. */
	EXPECT_EQ(0, touch_write(self->host + 2 * u - 1, 1));
	EXPECT_EQ(0, touch_write(self->host + 5 * u, 5));
	EXPECT_EQ('h', page_state(self->mem, 2 * u - PAGE));
	EXPECT_EQ('h', page_state(self->mem, 5 * u));
	EXPECT_EQ(2 * u / PAGE, lent_pages(self->mem, self->size));
	/* The guest can access neither of these pages. */
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA - 1));
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + 3 * u));
	EXPECT_EQ(5, peek(self->host + 5 * u));
}

/*
 * B2: mmap() took back the wrong pages. Here mmap() takes back none; an access
 * takes back the accessed page.
 */
TEST_F(lend, b02_mmap_around_a_binding)
{
	const __u64 u = self->unit;
	const struct {
		__u64 first, nr;
	} rows[] = { { 0, 3 }, { 0, 2 }, { 1, 2 }, { 2, 3 }, { 3, 1 },
		     { 4, 2 }, { 5, 2 }, { 0, 8 }, { 2, 1 }, { 4, 1 } };
	unsigned int i, page;
	__u8 *map;
	int got;

	SKIP_UNLESS_RECLAIMABLE();
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 2 * u, 3 * u,
			     LEND | RWX));
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		for (page = 0; page < 3; page++)
			ASSERT_EQ(0, guest_write(self->vm, GPA + page * u, 9));
		ASSERT_EQ(3 * u / PAGE, lent_pages(self->mem, self->size));
		map = map_host(self->mem, rows[i].first * u, rows[i].nr * u);
		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(3 * u / PAGE, lent_pages(self->mem, self->size));

		/* An access to the first page takes back at most that page. */
		got = peek(map);
		if (rows[i].first < 2 || rows[i].first > 4) {
			EXPECT_EQ(0, got);
			EXPECT_EQ(3 * u / PAGE,
				  lent_pages(self->mem, self->size));
		} else {
			EXPECT_EQ(AFTER_RECLAIM(9), got);
			EXPECT_EQ(variant->policy == GMEM_POLICY_DENY ? 'l' :
									'h',
				  page_state(self->mem, rows[i].first * u));
			EXPECT_LE(2 * u / PAGE,
				  lent_pages(self->mem, self->size));
		}
		munmap(map, rows[i].nr * u);
	}
}

/* System calls of the host obey the policy, too. */
TEST_F(lend, system_calls_on_a_lent_page)
{
	int pipes[2], ret;
	char c = 1;

	SKIP_UNLESS_RECLAIMABLE();
	BIND(LEND);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 0x21));
	/* The kernel reads the mapping for the process. */
	ret = err_of(write(pipes[1], self->host, 1));
	if (variant->policy == GMEM_POLICY_DENY) {
		EXPECT_EQ(-EFAULT, ret);
		EXPECT_EQ(-EACCES, mem_alloc(self->mem, PUNCH, 0, self->unit));
		EXPECT_EQ(0, mem_alloc(self->mem, 0, 0, self->unit));
		EXPECT_EQ('l', page_state(self->mem, 0));
		EXPECT_EQ(0x21, guest_read(self->vm, GPA));
	} else {
		EXPECT_EQ(1, ret);
		ASSERT_EQ(1, read(pipes[0], &c, 1));
		EXPECT_EQ(AFTER_RECLAIM(0x21), c);
		ASSERT_EQ(0, guest_write(self->vm, GPA, 0x22));
		EXPECT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
		EXPECT_EQ('a', page_state(self->mem, 0));
		EXPECT_EQ(0, guest_read(self->vm, GPA));
	}
	close(pipes[0]);
	close(pipes[1]);
}

/* A guest can't write to a page that is bound without GMEM_MAP_ALLOW_WRITE. */
TEST_F(lend, guest_permissions)
{
	__u8 *window;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: an access that isn't allowed ends the guest");
	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, self->unit, LEND | RX));
	ASSERT_EQ(0, touch_write(self->host, 0x11));
	EXPECT_EQ(0x11, guest_read(self->vm, GPA));
	if (strcmp(variant->provider, "window")) {
		EXPECT_EQ(-EFAULT, guest_write(self->vm, GPA, 1));
		EXPECT_EQ(GMEM_FAULT_PERM, last_reason(self->vm));
		EXPECT_EQ(GMEM_ACCESS_WRITE, last_fault(self->vm).access);
		/*
		 * With Gunyah, the vCPU repeats the access until the access is
		 * allowed.
		 */
		if (!strcmp(variant->provider, "gunyah"))
			return;
	} else {
		EXPECT_EQ(-EACCES, guest_write(self->vm, GPA, 1));
		window = map_window(self->vm, GPA, self->unit, PROT_READ);
		ASSERT_NE(MAP_FAILED, window);
		EXPECT_EQ(0, touch_read(window));
		EXPECT_EQ(SIGSEGV, touch_write(window, 1));
		EXPECT_EQ(-1, mprotect(window, self->unit,
				       PROT_READ | PROT_WRITE));
		EXPECT_EQ(EACCES, errno);
		munmap(window, self->unit);
	}
	EXPECT_EQ(0x11, guest_read(self->vm, GPA));
}

/* To the kernel, guest pages look like cached pages that no process maps. */
TEST_F(lend, drop_caches_takes_no_page)
{
	__u64 lent = UNITS / 2 * self->unit;
	struct gmem_mem_query q;
	FILE *drop;
	int other;

	BIND(LEND);
	ASSERT_EQ(0, populate_range(self->vm, GPA, lent, NULL));
	ASSERT_EQ(0, mem_alloc(self->mem, 0, lent, self->size - lent));
	/*
	 * Further allocations flush these pages out of the kernel's per-CPU
	 * batches of new pages.
	 */
	other = new_mem(64 * PAGE, 0);
	ASSERT_EQ(0, mem_alloc(other, 0, 0, 64 * PAGE));
	close(other);

	drop = fopen("/proc/sys/vm/drop_caches", "we");
	ASSERT_NE(NULL, drop);
	ASSERT_LT(0, fputs("1", drop));
	ASSERT_EQ(0, fclose(drop));

	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(lent / PAGE, q.lent);
	EXPECT_EQ((self->size - lent) / PAGE, q.host);
}

TEST_HARNESS_MAIN
