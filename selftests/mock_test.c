// SPDX-License-Identifier: GPL-2.0-only
/* The mock: it enforces every permission, and can fail at every point. */
#include "lib/fixture.h"

#include <pthread.h>

#define UNITS 8
#define GPA GIB(1)

FIXTURE(mock)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* Pages in a unit. */
	int nr;
};

FIXTURE_VARIANT(mock)
{
	const char *provider;
	__u64 mem_flags;
	__u32 policy;
};

VARIANT(mock, 4k_allow, .provider = "mock", .policy = GMEM_POLICY_ALLOW);
VARIANT(mock, 4k_scrub, .provider = "mock", .policy = GMEM_POLICY_SCRUB);
VARIANT(mock, 2m_allow, .provider = "mock", .policy = GMEM_POLICY_ALLOW,
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);
VARIANT(mock, 2m_scrub, .provider = "mock", .policy = GMEM_POLICY_SCRUB,
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(mock)
{
	SETUP_VM_AND_MEM(UNITS, variant->policy);
	SETUP_HOST();
	self->nr = self->unit / PAGE;
}

FIXTURE_TEARDOWN(mock)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

#define BIND(access)							\
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,	\
			     (access) | RWX))

#define AFTER_RECLAIM(byte)						\
	(variant->policy == GMEM_POLICY_SCRUB ? 0 : (byte))

/* Each combination of read, write and execute. */
TEST_F(mock, permissions)
{
	static const __u32 accesses[] = { GMEM_ACCESS_READ, GMEM_ACCESS_WRITE,
					  GMEM_ACCESS_EXEC };
	__u32 combination, provided;
	__u8 byte = 0;
	int i, expected;

	for (combination = 1; combination < 8; combination++) {
		ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->unit,
				     LEND | combination << 4));
		for (i = 0; i < 3; i++) {
			expected = combination & accesses[i] ? 0 : -EFAULT;
			EXPECT_EQ(expected, mock_access(self->vm, GPA,
							accesses[i], &byte, 1));
			if (expected)
				EXPECT_EQ(GMEM_FAULT_PERM,
					  last_reason(self->vm));
		}
		ASSERT_LT(0, mock_lookup(self->vm, GPA, &provided));
		EXPECT_EQ(combination | GMEM_TEST_PROVIDED_LENT, provided);
		ASSERT_EQ(0, unmap_range(self->vm, GPA, self->unit, NULL));
		ASSERT_EQ(0, mock_lookup(self->vm, GPA, &provided));
		EXPECT_EQ(0, provided);
	}
}

/*
 * If the provider refuses a reclaim, the page stays lent and the host reads
 * nothing.
 */
TEST_F(mock, provider_refuses_reclaim)
{
	BIND(LEND);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 0x33));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 2));
	EXPECT_EQ(SIGBUS, touch_read(self->host));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(0x33, guest_read(self->vm, GPA));
	EXPECT_EQ(-EIO, reclaim_range(self->vm, GPA, self->unit, NULL));
	EXPECT_EQ(0x33, guest_read(self->vm, GPA));
	EXPECT_EQ(AFTER_RECLAIM(0x33), peek(self->host));
}

/*
 * If the provider refuses to provide a page, the page stays the host's,
 * unchanged.
 */
TEST_F(mock, provider_refuses_provide)
{
	__u32 point;

	BIND(LEND);
	ASSERT_EQ(0, touch_write(self->host, 0x44));
	for (point = GMEM_TEST_DONATE; point <= GMEM_TEST_MAP; point++) {
		ASSERT_EQ(0, mock_fail(self->vm, point, 1, 1));
		EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
		EXPECT_EQ(GMEM_FAULT_PROVIDER, last_reason(self->vm));
		EXPECT_EQ('h', page_state(self->mem, 0));
		EXPECT_EQ(0x44, peek(self->host));
		EXPECT_EQ(0, mock_lookup(self->vm, GPA, NULL));
	}
	EXPECT_EQ(0x44, guest_read(self->vm, GPA));
}

/*
 * The frame number of a page in the host's mapping; 0 if the kernel doesn't
 * tell.
 */
static __u64 pfn_of(const volatile void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;

	if (pread(fd, &entry, sizeof(entry), ptr_u64(p) / PAGE * 8) !=
	    sizeof(entry))
		entry = 0;
	close(fd);
	return entry & ((1ULL << 55) - 1);
}

/* Does the kernel's allocator hand out one of the frames? */
static bool frames_in_use(__u64 first, __u64 nr, __u64 bytes)
{
	__u8 *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool found = false;
	__u64 i;

	if (p == MAP_FAILED)
		return false;
	for (i = 0; i < bytes; i += PAGE) {
		p[i] = 1;
		found |= pfn_of(p + i) - first < nr;
	}
	munmap(p, bytes);
	return found;
}

/*
 * B15: a page that the provider didn't give back went to the allocator while
 * the guest still owned it.
 */
TEST_F(mock, b15_leaked)
{
	struct gmem_stats s0, s1;
	__u64 frame, nr;
	int other;

	BIND(LEND);
	ASSERT_EQ(0, touch_write(self->host, 1));
	frame = pfn_of(self->host);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA + self->unit, 2));
	ASSERT_EQ(0, get_stats(&s0));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 1));
	ASSERT_EQ(0, close(self->vm));

	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.leaked_pages + self->nr, s1.leaked_pages);
	EXPECT_EQ(s0.lent_pages - 2 * self->nr, s1.lent_pages);
	EXPECT_EQ(s0.bindings - 1, s1.bindings);
	EXPECT_EQ('x', page_state(self->mem, 0));
	EXPECT_EQ('x', page_state(self->mem, self->unit - PAGE));
	EXPECT_EQ('h', page_state(self->mem, self->unit));
	EXPECT_EQ(AFTER_RECLAIM(2), peek(self->host + self->unit));

	/* Neither the host nor another guest can access it. */
	EXPECT_EQ(SIGBUS, touch_read(self->host));
	EXPECT_EQ(SIGBUS, touch_write(self->host + self->unit - 1, 1));
	other = new_vm("mock", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 0, self->size, LEND | RWX));
	EXPECT_EQ(-EFAULT, guest_read(other, 0));
	EXPECT_EQ(GMEM_FAULT_LEAKED, last_reason(other));
	EXPECT_EQ(-EIO, populate_range(other, 0, self->size, &nr));
	EXPECT_EQ(0, nr);
	EXPECT_EQ(0, guest_write(other, self->unit, 3));
	EXPECT_EQ(0, mem_alloc(self->mem, 0, 0, self->size));
	EXPECT_EQ('x', page_state(self->mem, 0));

	/*
	 * A punched hole makes room for a new page; the old frame isn't reused.
	 */
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
	EXPECT_EQ('a', page_state(self->mem, 0));
	EXPECT_EQ(0, peek(self->host));
	EXPECT_EQ(0, guest_write(other, 0, 4));
	EXPECT_EQ(4, peek(self->host));
	if (frame) {
		EXPECT_NE(frame, pfn_of(self->host));
		EXPECT_FALSE(frames_in_use(frame, self->nr,
					   scaled(MIB(256)) & ~(PAGE - 1)));
	}
	close(other);
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.leaked_pages + self->nr, s1.leaked_pages);
}

/* The host loses its access to a leaked page that was shared, too. */
TEST_F(mock, b15_leaked_shared)
{
	struct gmem_stats s0, s1;

	BIND(SHARE);
	ASSERT_EQ(0, touch_write(self->host, 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	ASSERT_EQ(0, get_stats(&s0));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 1));
	ASSERT_EQ(0, close(self->vm));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.leaked_pages + self->nr, s1.leaked_pages);
	EXPECT_EQ('x', page_state(self->mem, 0));
	EXPECT_EQ(SIGBUS, touch_read(self->host));
	EXPECT_EQ(SIGBUS, touch_write(self->host, 1));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
	EXPECT_EQ(0, peek(self->host));
}

/* A guestmem can be freed even if all its pages are leaked. */
TEST_F(mock, b15_leaked_all)
{
	struct gmem_stats s0, s1;

	BIND(LEND);
	ASSERT_EQ(0, populate_range(self->vm, GPA, self->size, NULL));
	ASSERT_EQ(0, get_stats(&s0));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, ~0U));
	ASSERT_EQ(0, close(self->vm));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.leaked_pages + self->size / PAGE, s1.leaked_pages);
	EXPECT_EQ(s0.lent_pages - self->size / PAGE, s1.lent_pages);
}

/* B16: a failed provide whose rollback failed, too, forgot the page. */
TEST_F(mock, b16_rollback_fails)
{
	struct gmem_stats s0, s1;
	__u32 provided;
	__u64 nr;
	int round;

	BIND(LEND);
	ASSERT_EQ(0, get_stats(&s0));
	for (round = 0; round < 4; round++) {
		ASSERT_EQ(0, touch_write(self->host, 0x55));
		ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_MAP, 1, 1));
		ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 1));
		if (round & 1) {
			EXPECT_EQ(-EIO, populate_range(self->vm, GPA,
						       self->unit, &nr));
			EXPECT_EQ(0, nr);
		} else {
			EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
			EXPECT_EQ(GMEM_FAULT_PROVIDER, last_reason(self->vm));
		}
		/* The guest owns the page, but can't access it. */
		EXPECT_EQ('l', page_state(self->mem, 0));
		EXPECT_EQ(self->nr, mock_lookup(self->vm, GPA, &provided));
		EXPECT_EQ(0, provided);
		ASSERT_EQ(0, get_stats(&s1));
		EXPECT_EQ(s0.lent_pages + self->nr, s1.lent_pages);

		/* The guest's next access may complete the provide. */
		if (round & 1)
			EXPECT_EQ(0x55, guest_read(self->vm, GPA));
		/* The page comes back like any other. */
		if (round < 2) {
			EXPECT_EQ(AFTER_RECLAIM(0x55), peek(self->host));
		} else {
			EXPECT_EQ(0, unmap_range(self->vm, GPA, self->unit,
						 &nr));
			EXPECT_EQ(self->nr, nr);
			ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0,
					     self->unit, LEND | RWX));
			EXPECT_EQ(AFTER_RECLAIM(0x55), peek(self->host));
		}
		EXPECT_EQ(0, mock_lookup(self->vm, GPA, NULL));
		EXPECT_EQ(0, guest_write(self->vm, GPA, 1));
		EXPECT_EQ(AFTER_RECLAIM(1), peek(self->host));
	}

	/* If the page never comes back, it is leaked. */
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_MAP, 1, 1));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 2));
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
	ASSERT_EQ(0, close(self->vm));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.leaked_pages + self->nr, s1.leaked_pages);
	EXPECT_EQ('x', page_state(self->mem, 0));
}

/* Populate, and let the @n-th page fail. The pages before it stay provided. */
static int populate_failing(int vm, __u64 size, __u32 point, __u32 n, __u64 *nr)
{
	int ret = mock_fail(vm, point, n, 1);

	return ret ? ret : populate_range(vm, GPA, size, nr);
}

/*
 * B17: a provide that failed at the n-th page left one page behind in its
 * rollback.
 */
TEST_F(mock, b17_fails_at_the_nth_page)
{
	unsigned int n, total = self->size / PAGE, skip = 1000 / scaled(1000);
	__u32 point;
	__u64 nr;

	BIND(LEND);
	for (point = GMEM_TEST_DONATE; point <= GMEM_TEST_MAP; point++)
		for (n = 1; n <= total; n++) {
			/*
			 * Try all pages of the first unit, then the edges of
			 * the others.
			 */
			if (n > 1 && n % self->nr > 1 &&
			    (n > (unsigned int)self->nr || n % skip))
				continue;
			ASSERT_EQ(0, touch_write(self->host, 0x66));
			ASSERT_EQ(-EIO, populate_failing(self->vm, self->size,
							 point, n, &nr));
			/* Whole units before the failing one are provided. */
			ASSERT_EQ((n - 1) / self->nr * self->nr, nr);
			ASSERT_EQ(nr, mock_lookup(self->vm, GPA, NULL));
			ASSERT_EQ('h', page_state(self->mem, nr * PAGE));
			ASSERT_EQ(0, reclaim_range(self->vm, GPA, self->size,
						   NULL));
			ASSERT_EQ(0, mock_lookup(self->vm, GPA, NULL));
			ASSERT_EQ(nr ? AFTER_RECLAIM(0x66) : 0x66,
				  peek(self->host));
		}
	ASSERT_EQ(0, populate_range(self->vm, GPA, self->size, &nr));
	ASSERT_EQ(total, nr);
}

/*
 * An unmap that can't take a page back changes nothing (B4 and B5 were about
 * the tree; this test is about the pages).
 */
TEST_F(mock, unmap_refused)
{
	const struct {
		__u64 first, nr;
	} rows[] = { { 0, 1 }, { 0, UNITS }, { 2, 3 }, { UNITS - 1, 1 } };
	struct gmem_binding_info b0[2], b1[2];
	/* On a slow kernel, the first page and the last. */
	const unsigned int step = scaled(2) > 1 ? 1 : UNITS - 1;
	unsigned int i, nth, page;
	__u64 nr, gpa, length;

	BIND(LEND);
	ASSERT_EQ(1, query_vm(self->vm, b0, 2));
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		for (nth = 1; nth <= rows[i].nr; nth += step) {
			gpa = GPA + rows[i].first * self->unit;
			length = rows[i].nr * self->unit;
			for (page = 0; page < UNITS; page++)
				ASSERT_EQ(0, guest_write(self->vm, GPA +
							 page * self->unit,
							 0x70 + page));
			/* In each round, a page of another unit refuses. */
			ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM,
					       nth * self->nr, 1));
			ASSERT_EQ(-EIO, i & 1 ?
				  unmap_range(self->vm, gpa, length, NULL) :
				  unmap_mem(self->vm, gpa, self->mem, gpa - GPA,
					    length, LEND | RWX));
			ASSERT_EQ(1, query_vm(self->vm, b1, 2));
			ASSERT_EQ(0, memcmp(b0, b1, sizeof(b0[0])));
			/* The guest notices nothing. */
			for (page = 0; page < UNITS; page++)
				ASSERT_EQ((int)(0x70 + page),
					  guest_read(self->vm, GPA +
						     page * self->unit));
		}
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(self->size / PAGE, nr);
	EXPECT_EQ(0, mock_lookup(self->vm, GPA, NULL));
}

/* B22: a punch failed half-way, with half of the pages gone. */
TEST_F(mock, b22_punch_refused)
{
	unsigned int nth, page;

	BIND(LEND);
	for (nth = 1; nth <= UNITS; nth++) {
		for (page = 0; page < UNITS; page++)
			ASSERT_EQ(0, guest_write(self->vm,
						 GPA + page * self->unit,
						 0x70 + page));
		ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM,
				       nth * self->nr, 1));
		ASSERT_EQ(-EIO, mem_alloc(self->mem, PUNCH, 0, self->size));
		for (page = 0; page < UNITS; page++)
			EXPECT_NE('a',
				  page_state(self->mem, page * self->unit));
		for (page = 0; page < UNITS; page++)
			EXPECT_EQ((int)(0x70 + page),
				  guest_read(self->vm,
					     GPA + page * self->unit));
	}

	/* Under "scrub", the host doesn't see what the guest wrote. */
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 2 * self->nr, 1));
	ASSERT_EQ(-EIO, mem_alloc(self->mem, PUNCH, 0, self->size));
	EXPECT_EQ(AFTER_RECLAIM(0x70), peek(self->host));

	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size));
	for (page = 0; page < UNITS; page++)
		EXPECT_EQ(0, guest_read(self->vm, GPA + page * self->unit));
}

struct unmap {
	int vm;
	__u64 length;
	int ret;
};

static void *unmap_thread(void *arg)
{
	struct unmap *unmap = arg;

	unmap->ret = unmap_range(unmap->vm, GPA, unmap->length, NULL);
	return NULL;
}

/*
 * A punch that another VM refused gave pages back to a guest while an unmap was
 * taking them from it. After the unmap, the module didn't know that the guest
 * had the pages.
 */
TEST_F(mock, punch_refused_during_unmap)
{
	struct unmap unmap = { self->vm, 2 * self->size, -1 };
	int other = new_vm("mock", GMEM_POLICY_DENY);
	int behind = new_mem(self->size, variant->mem_flags);
	__u64 half = self->size / 2;
	double end = now() + 60;
	pthread_t thread;

	/*
	 * The unmap covers half of the range to be punched; the other VM has
	 * the other half.
	 */
	ASSERT_LE(0, other);
	ASSERT_LE(0, behind);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, half, LEND | RWX));
	ASSERT_EQ(0, map_mem(other, GPA, self->mem, half, half, LEND | RWX));
	ASSERT_EQ(0, map_mem(self->vm, GPA + self->size, behind, 0, self->size,
			     LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, half, NULL));
	ASSERT_EQ(0, populate_range(other, GPA, half, NULL));
	ASSERT_EQ(0, guest_write(self->vm, GPA + self->size, 1));

	/*
	 * The guest has lost the first binding's pages, but not yet the
	 * second's.
	 */
	ASSERT_EQ(0, mock_hold(self->vm, GPA + self->size, true));
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap_thread, &unmap));
	while (mock_lookup(self->vm, GPA, NULL) > self->nr && now() < end)
		usleep(1000);
	EXPECT_EQ(self->nr, mock_lookup(self->vm, GPA, NULL));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(-EACCES, mem_alloc(self->mem, PUNCH, 0, self->size));
	EXPECT_EQ(self->nr, mock_lookup(self->vm, GPA, NULL));
	ASSERT_EQ(0, mock_hold(self->vm, 0, false));
	ASSERT_EQ(0, pthread_join(thread, NULL));

	EXPECT_EQ(0, unmap.ret);
	EXPECT_EQ(0, mock_lookup(self->vm, GPA, NULL));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ('l', page_state(self->mem, half));
	close(other);
	close(behind);
}

typedef FIXTURE_DATA(mock) data_t;

static int wait_in_touch(const data_t *self)
{
	return touch_write(self->host, 1);
}

/* The guest hasn't lost the first page yet. */
static int wait_in_guest(const data_t *self)
{
	return guest_write(self->vm, GPA + self->unit, 1);
}

static int wait_in_map(const data_t *self)
{
	return map_mem(self->vm, 2 * GPA, self->mem, 0, self->unit,
		       LEND | RWX);
}

static int wait_in_map_of_another(const data_t *self)
{
	int other = new_vm("mock", GMEM_POLICY_ALLOW);

	return map_mem(other, GPA, self->mem, 0, self->unit, LEND | RWX);
}

static int wait_in_unmap(const data_t *self)
{
	return unmap_range(self->vm, 0, 2 * GPA, NULL);
}

static int wait_in_reclaim(const data_t *self)
{
	return reclaim_range(self->vm, GPA, self->size, NULL);
}

static int wait_in_populate(const data_t *self)
{
	return populate_range(self->vm, GPA, self->size, NULL);
}

static int wait_in_punch(const data_t *self)
{
	return mem_alloc(self->mem, PUNCH, 0, self->size);
}

static int wait_in_allocate(const data_t *self)
{
	return mem_alloc(self->mem, 0, 0, self->size);
}

static int wait_in_system_call(const data_t *self)
{
	return read(open("/dev/zero", O_RDONLY), self->host, 1);
}

/* SIGKILL ends each wait for another task's operation at once. */
TEST_F(mock, waiters_can_be_killed)
{
	static const struct {
		const char *name;
		int (*wait)(const data_t *self);
	} waits[] = {
		{ "touch", wait_in_touch },
		{ "system call", wait_in_system_call },
		{ "guest", wait_in_guest },
		{ "map", wait_in_map },
		{ "map of another VM", wait_in_map_of_another },
		{ "unmap", wait_in_unmap },
		{ "reclaim", wait_in_reclaim },
		{ "populate", wait_in_populate },
		{ "punch", wait_in_punch },
		{ "allocate", wait_in_allocate },
	};
	struct unmap unmap = { self->vm, self->size, -1 };
	pthread_t thread;
	bool is_waiting;
	unsigned int i;
	int status;
	double since;
	pid_t pid;

	BIND(LEND);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, mock_hold(self->vm, GPA, true));
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap_thread, &unmap));
	usleep(200000);
	for (i = 0; i < ARRAY_SIZE(waits); i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(waits[i].wait(self) != 0);
		usleep(200000);
		is_waiting = !waitpid(pid, &status, WNOHANG);
		EXPECT_TRUE(is_waiting) {
			TH_LOG("%s didn't wait", waits[i].name);
		}
		if (!is_waiting)
			continue;
		since = now();
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_GT(1, now() - since) {
			TH_LOG("%s didn't end", waits[i].name);
		}
	}
	ASSERT_EQ(0, mock_hold(self->vm, 0, false));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, unmap.ret);
}

/* Pages that stay bound stay provided: the second stage never loses them. */
TEST_F(mock, b03_second_stage_follows_a_trim)
{
	__u32 provided;
	int i;

	BIND(LEND);
	ASSERT_EQ(0, populate_range(self->vm, GPA, self->size, NULL));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + 2 * self->unit, 2 * self->unit,
				 NULL));
	EXPECT_EQ((UNITS - 2) * self->nr, mock_lookup(self->vm, GPA, NULL));
	for (i = 0; i < UNITS; i++) {
		mock_lookup(self->vm, GPA + i * self->unit, &provided);
		EXPECT_EQ(i == 2 || i == 3 ? 0 : 7 | GMEM_TEST_PROVIDED_LENT,
			  provided);
	}
}

TEST_HARNESS_MAIN
