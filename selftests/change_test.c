// SPDX-License-Identifier: GPL-2.0-only
/* GMEM_VM_CHANGE: lent to shared, shared to lent, other rights, in place. */
#include "lib/fixture.h"
#include "lib/pin.h"

#include <pthread.h>

#define UNITS 8
#define GPA GIB(1)

FIXTURE(change)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
};

FIXTURE_VARIANT(change)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(change);

FIXTURE_SETUP(change)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
}

FIXTURE_TEARDOWN(change)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

/* All in units. */
#define MAP(gpa, offset, nr, flags)					\
	map_mem(self->vm, GPA + (gpa) * self->unit, self->mem,		\
		(offset) * self->unit, (nr) * self->unit, flags)
#define CHANGE(gpa, nr, flags)						\
	change_range(self->vm, GPA + (gpa) * self->unit,		\
		     (nr) * self->unit, flags)
#define WRITE(gpa, byte)						\
	guest_write(self->vm, GPA + (gpa) * self->unit, byte)
#define READ(gpa) guest_read(self->vm, GPA + (gpa) * self->unit)
#define PEEK(offset) peek(self->host + (offset) * self->unit)
#define STATE(offset) page_state(self->mem, (offset) * self->unit)

#define SKIP_PARCELS()							\
	do {								\
		if (has_parcels(self->vm))				\
			SKIP(return, "parcels: nothing of a running guest changes"); \
	} while (0)

/* A failed call must leave all of this alone. */
struct state {
	struct gmem_binding_info b[UNITS];
	struct gmem_mem_query pages;
	int nr;
};

static struct state get_state(const FIXTURE_DATA(change) *self)
{
	struct state s = {};

	s.nr = query_guest(self->vm, s.b, UNITS);
	query_mem(self->mem, 0, self->size, &s.pages);
	return s;
}

#define EXPECT_SAME(before)						\
	do {								\
		struct state after = get_state(self);			\
									\
		EXPECT_EQ(0, memcmp(&(before), &after, sizeof(after))); \
	} while (0)

TEST_F(change, values)
{
	const __u64 u = self->unit;
	struct state before;
	int i;

	ASSERT_EQ(0, MAP(0, 0, 4, SHARE | RWX));
	ASSERT_EQ(0, MAP(5, 5, 1, SHARE | RWX));
	before = get_state(self);
	EXPECT_EQ(-EINVAL, CHANGE(0, 1, 0));
	for (i = 0; i < 32; i++)
		if (i > 2 && (i < 4 || i > 6))
			EXPECT_EQ(-EINVAL, CHANGE(0, 1, LEND | 1U << i));
	for (i = 3; i < 8; i++)
		EXPECT_EQ(-EINVAL, CHANGE(0, 1, RWX | i));
	EXPECT_EQ(-EINVAL, CHANGE(0, 0, LEND));
	EXPECT_EQ(-EINVAL, change_range(self->vm, GPA + 1, u, LEND));
	EXPECT_EQ(-EINVAL, change_range(self->vm, GPA, u - 1, LEND));
	EXPECT_EQ(-EINVAL, change_range(self->vm, 1ULL << 63, u, LEND));
	EXPECT_EQ(-EOVERFLOW, change_range(self->vm, -u, 2 * u, LEND));
	/* A hole in it, before it, behind it, or nothing else. */
	EXPECT_EQ(-ENOENT, CHANGE(0, 6, LEND));
	EXPECT_EQ(-ENOENT, CHANGE(4, 2, LEND));
	EXPECT_EQ(-ENOENT, CHANGE(3, 2, LEND));
	EXPECT_EQ(-ENOENT, CHANGE(6, 1, LEND));
	if (u == HUGE_PAGE) {
		EXPECT_EQ(-EINVAL, change_range(self->vm, GPA, PAGE, LEND));
		EXPECT_EQ(-EINVAL, change_range(self->vm, GPA + PAGE,
						u - PAGE, LEND));
	}
	EXPECT_SAME(before);
	if (has_parcels(self->vm))
		EXPECT_EQ(-EOPNOTSUPP, CHANGE(0, 1, LEND));
	/* Nothing to change. */
	EXPECT_EQ(0, CHANGE(0, 2, SHARE));
	EXPECT_EQ(0, CHANGE(0, 2, RWX));
	EXPECT_EQ(0, CHANGE(1, 2, SHARE | RWX));
	EXPECT_SAME(before);
}

/* The contents stay under every policy, and host and guest have them. */
TEST_F(change, lent_to_shared)
{
	struct gmem_binding_info b;
	struct gmem_stats s;
	__u32 policy;
	int i;

	SKIP_PARCELS();
	for (policy = 0; policy <= GMEM_POLICY_DENY; policy++) {
		ASSERT_EQ(0, set_policy(self->vm, policy));
		ASSERT_EQ(0, MAP(0, 0, UNITS, LEND | RWX));
		for (i = 0; i < UNITS - 1; i++)
			ASSERT_EQ(0, WRITE(i, 0x10 * policy + i));
		ASSERT_EQ('l', STATE(0));
		ASSERT_EQ(0, CHANGE(0, UNITS, SHARE));
		ASSERT_EQ(1, query_guest(self->vm, &b, 1));
		EXPECT_EQ(SHARE | RWX, b.flags);
		ASSERT_EQ(0, get_stats(&s));
		EXPECT_EQ(self->before.lent_pages, s.lent_pages);
		for (i = 0; i < UNITS - 1; i++) {
			EXPECT_EQ('s', STATE(i));
			EXPECT_EQ(0x10 * (int)policy + i, PEEK(i));
			EXPECT_EQ(0x10 * (int)policy + i, READ(i));
		}
		/* A page that the guest hasn't used is the host's. */
		EXPECT_NE('s', STATE(UNITS - 1));
		ASSERT_EQ(0, touch_write(self->host, 0x77));
		EXPECT_EQ(0x77, READ(0));
		ASSERT_EQ(0, WRITE(1, 0x78));
		EXPECT_EQ(0x78, PEEK(1));
		ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
		ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size));
	}
}

/* The host loses what the guest has used; the rest is lent at its first use. */
TEST_F(change, shared_to_lent)
{
	struct gmem_binding_info b;
	int i;

	SKIP_PARCELS();
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	ASSERT_EQ(0, MAP(0, 0, UNITS, SHARE | RWX));
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(self->host + i * self->unit,
					 0x30 + i));
	for (i = 0; i < UNITS - 1; i++)
		ASSERT_EQ(0x30 + i, READ(i));
	ASSERT_EQ('s', STATE(0));
	ASSERT_EQ(0, CHANGE(0, UNITS, LEND));
	ASSERT_EQ(1, query_guest(self->vm, &b, 1));
	EXPECT_EQ(LEND | RWX, b.flags);
	for (i = 0; i < UNITS - 1; i++) {
		EXPECT_EQ('l', STATE(i));
		EXPECT_EQ(-SIGBUS, PEEK(i));
		EXPECT_EQ(0x30 + i, READ(i));
	}
	EXPECT_EQ('h', STATE(UNITS - 1));
	EXPECT_EQ(0x30 + UNITS - 1, PEEK(UNITS - 1));
	ASSERT_EQ(0, WRITE(UNITS - 1, 0x55));
	EXPECT_EQ('l', STATE(UNITS - 1));
	EXPECT_EQ(-SIGBUS, PEEK(UNITS - 1));
	/* And back, with what the guest has written since. */
	ASSERT_EQ(0, WRITE(0, 0x66));
	ASSERT_EQ(0, CHANGE(0, UNITS, SHARE));
	EXPECT_EQ(0x66, PEEK(0));
	EXPECT_EQ(0x55, PEEK(UNITS - 1));
	EXPECT_EQ(0x31, READ(1));
}

/* A part of a binding changes; the opposite change leaves one binding again. */
TEST_F(change, cut_and_join)
{
	const __u32 flags = LEND | RWX;
	struct gmem_binding_info b[4];
	int i;

	SKIP_PARCELS();
	ASSERT_EQ(0, MAP(0, 0, UNITS, flags));
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, WRITE(i, 0x20 + i));
	ASSERT_EQ(0, CHANGE(2, 3, SHARE));
	ASSERT_EQ(3, query_guest(self->vm, b, 4));
	EXPECT_EQ(2 * self->unit, b[0].length);
	EXPECT_EQ(flags, b[0].flags);
	EXPECT_EQ(GPA + 2 * self->unit, b[1].guest_addr);
	EXPECT_EQ(2 * self->unit, b[1].offset);
	EXPECT_EQ(3 * self->unit, b[1].length);
	EXPECT_EQ(SHARE | RWX, b[1].flags);
	EXPECT_EQ(3 * self->unit, b[2].length);
	for (i = 0; i < UNITS; i++) {
		EXPECT_EQ(i >= 2 && i < 5 ? 's' : 'l', STATE(i));
		EXPECT_EQ(0x20 + i, READ(i));
	}
	/* One that is shared already belongs to the range. */
	ASSERT_EQ(0, CHANGE(4, 2, SHARE));
	ASSERT_EQ(3, query_guest(self->vm, b, 4));
	EXPECT_EQ(4 * self->unit, b[1].length);
	ASSERT_EQ(0, CHANGE(2, 1, LEND));
	ASSERT_EQ(3, query_guest(self->vm, b, 4));
	EXPECT_EQ(3 * self->unit, b[0].length);
	ASSERT_EQ(0, CHANGE(0, UNITS, LEND));
	ASSERT_EQ(1, query_guest(self->vm, b, 4));
	EXPECT_EQ(self->size, b[0].length);
	for (i = 0; i < UNITS; i++) {
		EXPECT_EQ('l', STATE(i));
		EXPECT_EQ(0x20 + i, READ(i));
	}
}

/* If one binding can't change, none does. */
TEST_F(change, all_or_nothing)
{
	struct gmem_info info;
	struct state before;
	int other, i;

	SKIP_PARCELS();
	ASSERT_TRUE(find_provider(variant->provider, &info));
	if (!(info.provider_flags & GMEM_PROVIDER_SHARE_MULTI))
		SKIP(return, "a shared page has one binding");
	other = new_vm(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, MAP(0, 0, 3, SHARE | RWX));
	ASSERT_EQ(0, MAP(3, 3, 3, SHARE | RWX));
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 5 * self->unit, self->unit,
			     SHARE | RWX));
	for (i = 0; i < 6; i++)
		ASSERT_EQ(0, WRITE(i, 0x40 + i));
	before = get_state(self);
	EXPECT_EQ(-EEXIST, CHANGE(0, 6, LEND));
	EXPECT_EQ(-EEXIST, CHANGE(1, 5, LEND));
	EXPECT_EQ(-EEXIST, CHANGE(1, 5, LEND | RX));
	EXPECT_SAME(before);
	for (i = 0; i < 6; i++) {
		EXPECT_EQ(0x40 + i, PEEK(i));
		EXPECT_EQ(0x40 + i, READ(i));
	}
	/* The neighbours may change, and another right of the page. */
	EXPECT_EQ(0, CHANGE(1, 4, LEND));
	EXPECT_EQ(0, CHANGE(1, 4, SHARE));
	EXPECT_EQ(0, CHANGE(5, 1, RX));
	close(other);
	EXPECT_EQ(0, CHANGE(0, 6, LEND));

	/* Another binding of the same VM. */
	ASSERT_EQ(0, CHANGE(0, 1, SHARE));
	ASSERT_EQ(0, MAP(7, 0, 1, SHARE | RWX));
	EXPECT_EQ(-EEXIST, CHANGE(0, 1, LEND));
	EXPECT_EQ(-EEXIST, CHANGE(7, 1, LEND));
}

/* A pin of the host is a failure, whether the guest has used the page or not. */
TEST_F(change, pinned_by_the_host)
{
	struct state before;
	int fd[2], byte, i;

	SKIP_PARCELS();
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_EQ(0, MAP(0, 0, UNITS, SHARE | RWX));
	for (i = 0; i < UNITS - 1; i++)
		ASSERT_EQ(0, WRITE(i, 0x50 + i));
	ASSERT_EQ(0, touch_write(self->host + self->size - self->unit, 0x57));
	for (i = UNITS - 2; i < UNITS; i++) {
		ASSERT_EQ(0, pin(fd, PIN_SPLICE, self->host + i * self->unit));
		before = get_state(self);
		EXPECT_EQ(-EBUSY, CHANGE(0, UNITS, LEND));
		EXPECT_EQ(-EBUSY, CHANGE(i, 1, LEND));
		EXPECT_SAME(before);
		EXPECT_EQ(0x50 + i, READ(i));
		EXPECT_EQ(0x50, PEEK(0));
		EXPECT_EQ(0, CHANGE(0, UNITS - 2, LEND));
		EXPECT_EQ(0, CHANGE(0, UNITS - 2, SHARE));
		ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
		EXPECT_EQ(0x50 + i, byte);
	}
	EXPECT_EQ(0, CHANGE(0, UNITS, LEND));
	pin_close(fd);
}

/* So is a pin of a lent page, which only a paged window allows. */
TEST_F(change, pinned_by_the_guest)
{
	struct state before;
	int fd[2], byte;
	__u8 *window;

	if (strcmp(variant->provider, "window"))
		SKIP(return, "nobody pins a lent page");
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_EQ(0, MAP(0, 0, UNITS, LEND | RWX));
	window = map_window(self->vm, GPA, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 0x60));
	ASSERT_EQ(0, touch_write(window + self->unit, 0x61));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, window + self->unit));
	before = get_state(self);
	EXPECT_EQ(-EBUSY, CHANGE(0, UNITS, SHARE));
	EXPECT_SAME(before);
	EXPECT_EQ(0x61, peek(window + self->unit));
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	EXPECT_EQ(0x61, byte);
	EXPECT_EQ(0, CHANGE(0, UNITS, SHARE));
	/* The window is the same, and shows the same page as the host's mapping. */
	ASSERT_EQ(0, touch_write(window, 0x62));
	EXPECT_EQ(0x62, PEEK(0));
	munmap(window, self->size);
	pin_close(fd);
}

TEST_F(change, rights)
{
	static const __u32 accesses[] = { LEND, SHARE };
	int i;

	SKIP_PARCELS();
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, MAP(0, 0, 4, accesses[i] | RWX));
		ASSERT_EQ(0, WRITE(0, 0x11));
		ASSERT_EQ(0, WRITE(1, 0x12));
		ASSERT_EQ(0, CHANGE(0, 4, RX));
		EXPECT_EQ(0x11, READ(0));
		EXPECT_GT(0, WRITE(0, 0x21));
		EXPECT_GT(0, WRITE(1, 0x21));
		EXPECT_GT(0, WRITE(2, 0x21));
		EXPECT_EQ(0x11, READ(0));
		EXPECT_EQ(accesses[i] == LEND ? 'l' : 's', STATE(0));
		ASSERT_EQ(0, CHANGE(0, 4, RWX));
		EXPECT_EQ(0x12, READ(1));
		EXPECT_EQ(0, WRITE(1, 0x22));
		EXPECT_EQ(0x22, READ(1));
		EXPECT_EQ(0, WRITE(2, 0x23));
		/* Both at once. */
		ASSERT_EQ(0, CHANGE(0, 4, (accesses[i] ^ 3) | RX));
		EXPECT_GT(0, WRITE(1, 0x24));
		EXPECT_EQ(0x22, READ(1));
		ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	}
	if (has_window(variant->provider)) {
		ASSERT_EQ(0, MAP(0, 0, 4, SHARE | RWX));
		EXPECT_EQ(-EOPNOTSUPP, CHANGE(0, 4, GMEM_MAP_ALLOW_READ));
	}
}

/* The mapping of a paged window keeps the rights with which it was made. */
TEST_F(change, rights_of_a_paged_window)
{
	__u8 *window;

	if (strcmp(variant->provider, "window"))
		SKIP(return, "the window follows by itself");
	ASSERT_EQ(0, MAP(0, 0, UNITS, LEND | RWX));
	window = map_window(self->vm, GPA + self->unit, 2 * self->unit,
			    PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 1));
	EXPECT_EQ(-EOPNOTSUPP, CHANGE(0, UNITS, RX));
	EXPECT_EQ(-EOPNOTSUPP, CHANGE(2, 1, SHARE | RX));
	EXPECT_EQ(0, touch_write(window, 2));
	/* Beside it, or under a part that is no longer mapped. */
	EXPECT_EQ(0, CHANGE(3, 2, RX));
	munmap(window + self->unit, self->unit);
	EXPECT_EQ(0, CHANGE(2, 1, RX));
	EXPECT_EQ(-EOPNOTSUPP, CHANGE(1, 1, RX));
	munmap(window, self->unit);
	EXPECT_EQ(0, CHANGE(0, UNITS, RX));

	window = map_window(self->vm, GPA, self->size, PROT_READ);
	ASSERT_NE(MAP_FAILED, window);
	EXPECT_EQ(2, peek(window + self->unit));
	EXPECT_EQ(0, CHANGE(0, UNITS, RWX));
	EXPECT_EQ(2, peek(window + self->unit));
	EXPECT_EQ(SIGSEGV, touch_write(window, 1));
	EXPECT_EQ(-EACCES, err_of(mprotect(window, PAGE,
					   PROT_READ | PROT_WRITE)));
	/* A window without write access doesn't prevent that it goes. */
	EXPECT_EQ(0, CHANGE(0, UNITS, RX));
	EXPECT_EQ(0, CHANGE(0, UNITS, RWX));
	munmap(window, self->size);
	window = map_window(self->vm, GPA, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	EXPECT_EQ(0, touch_write(window, 1));
	munmap(window, self->size);
}

/* A window of another VM doesn't matter, nor does a mapping of the guestmem. */
TEST_F(change, rights_beside_other_mappings)
{
	__u8 *window;
	int other;

	if (strcmp(variant->provider, "window"))
		SKIP(return, "the window follows by itself");
	other = new_vm("window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, MAP(0, 0, UNITS, SHARE | RWX));
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 0, self->size, SHARE | RWX));
	window = map_window(other, 0, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 3));
	EXPECT_EQ(0, CHANGE(0, UNITS, RX));
	EXPECT_EQ(0, touch_write(window, 4));
	EXPECT_EQ(4, READ(0));
	munmap(window, self->size);
	close(other);
}

/* Lending and write access need a descriptor that can write. */
TEST_F(change, read_only_descriptor)
{
	int ro = reopen(self->mem, O_RDONLY);

	SKIP_PARCELS();
	ASSERT_LE(0, ro);
	ASSERT_EQ(0, MAP(0, 0, 2, SHARE | RX));
	ASSERT_EQ(0, map_mem(self->vm, GPA + 2 * self->unit, ro,
			     2 * self->unit, 2 * self->unit, SHARE | RX));
	close(ro);
	EXPECT_EQ(-EACCES, CHANGE(0, 4, LEND));
	EXPECT_EQ(-EACCES, CHANGE(0, 4, RWX));
	EXPECT_EQ(-EACCES, CHANGE(2, 2, LEND));
	EXPECT_EQ(0, CHANGE(0, 2, LEND | RWX));
	EXPECT_EQ(0, CHANGE(0, 4, SHARE | RX));
}

/* A provider that doesn't give a page back: everything is as before. */
TEST_F(change, provider_refuses)
{
	struct state before;
	int i;

	if (strcmp(variant->provider, "mock"))
		SKIP(return, "the provider never refuses");
	for (i = 0; i < 2; i++) {
		__u32 access = i ? LEND : SHARE;

		ASSERT_EQ(0, MAP(0, 0, 4, access | RWX));
		ASSERT_EQ(0, MAP(4, 4, 4, access | RX));
		ASSERT_EQ(0, populate_range(self->vm, GPA, self->size, NULL));
		before = get_state(self);
		ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM,
				       5 * self->unit / PAGE + 1, 1));
		EXPECT_EQ(-EIO, CHANGE(0, UNITS, access ^ 3));
		EXPECT_SAME(before);
		EXPECT_EQ((int)(self->size / PAGE),
			  mock_lookup(self->vm, GPA, NULL));
		/* A page that it doesn't take again comes at the next use. */
		ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_DONATE, 1, 1));
		EXPECT_EQ(0, CHANGE(0, UNITS, access ^ 3));
		EXPECT_EQ(0, READ(0));
		ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	}
}

/* Pages that were freed don't stop a change. */
TEST_F(change, hole_and_new_page)
{
	SKIP_PARCELS();
	ASSERT_EQ(0, MAP(0, 0, UNITS, SHARE | RWX));
	ASSERT_EQ(0, WRITE(1, 1));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, self->unit, self->unit));
	ASSERT_EQ(0, CHANGE(0, UNITS, LEND));
	EXPECT_EQ('a', STATE(1));
	EXPECT_EQ(0, READ(1));
	EXPECT_EQ('l', STATE(1));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, self->unit, self->unit));
	ASSERT_EQ(0, CHANGE(0, UNITS, SHARE));
	EXPECT_EQ('a', STATE(1));
	EXPECT_EQ(0, READ(1));
	EXPECT_EQ('s', STATE(1));
}

/* ---- who waits ---- */

struct waiter {
	pthread_t thread;
	int vm;
	__u64 gpa;
	__u64 length;
	__u32 flags;
	const __u8 *host;
	volatile int result;
	volatile bool done;
};

static void *wait_changing(void *arg)
{
	struct waiter *w = arg;

	w->result = change_range(w->vm, w->gpa, w->length, w->flags);
	w->done = true;
	return NULL;
}

static void *wait_host(void *arg)
{
	struct waiter *w = arg;

	w->result = peek(w->host);
	w->done = true;
	return NULL;
}

static void *wait_guest(void *arg)
{
	struct waiter *w = arg;

	w->result = guest_read(w->vm, w->gpa);
	w->done = true;
	return NULL;
}

/*
 * Lend the guestmem, bind a page of @other behind it with @access, and begin to
 * change all of it. The change stops in @other, so it holds no lock of the
 * guestmem.
 */
static void begin_change(struct __test_metadata *_metadata,
			 FIXTURE_DATA(change) *self, int other, __u32 access,
			 __u32 flags, struct waiter *change)
{
	ASSERT_EQ(0, MAP(0, 0, UNITS, LEND | RWX));
	ASSERT_EQ(0, map_mem(self->vm, GPA + self->size, other, 0, self->unit,
			     access | RWX));
	ASSERT_EQ(0, WRITE(0, 0x70));
	ASSERT_EQ(0, WRITE(UNITS, 0x75));
	ASSERT_EQ(0, mock_hold(self->vm, GPA + self->size, true));
	change->vm = self->vm;
	change->gpa = GPA;
	change->length = self->size + self->unit;
	change->flags = flags;
	ASSERT_EQ(0, pthread_create(&change->thread, NULL, wait_changing,
				    change));
	usleep(200000);
	EXPECT_FALSE(change->done);
}

/*
 * While a change is under way, both sides wait, and meet the new state: here the
 * old one would be SIGBUS for the host.
 */
TEST_F(change, both_sides_wait)
{
	struct waiter change = {}, host = {}, guest = {};
	int other;

	if (strcmp(variant->provider, "mock"))
		SKIP(return, "only the mock can stop in the middle");
	other = new_mem(self->unit, variant->mem_flags);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	begin_change(_metadata, self, other, LEND, SHARE, &change);
	guest.vm = self->vm;
	guest.gpa = GPA;
	host.host = self->host;
	ASSERT_EQ(0, pthread_create(&host.thread, NULL, wait_host, &host));
	ASSERT_EQ(0, pthread_create(&guest.thread, NULL, wait_guest, &guest));
	usleep(200000);
	EXPECT_FALSE(host.done);
	EXPECT_FALSE(guest.done);
	ASSERT_EQ(0, mock_hold(self->vm, 0, false));
	pthread_join(change.thread, NULL);
	pthread_join(host.thread, NULL);
	pthread_join(guest.thread, NULL);
	EXPECT_EQ(0, change.result);
	EXPECT_EQ(0x70, host.result);
	EXPECT_EQ(0x70, guest.result);
	close(other);
}

/* A host waits for a page of the range whose binding doesn't change, and goes on. */
TEST_F(change, host_waits_for_an_equal_binding)
{
	struct waiter change = {}, host = {};
	int other;

	if (strcmp(variant->provider, "mock"))
		SKIP(return, "only the mock can stop in the middle");
	other = new_mem(self->unit, variant->mem_flags);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_ALLOW));
	begin_change(_metadata, self, other, SHARE, LEND, &change);
	host.host = self->host;
	ASSERT_EQ(0, pthread_create(&host.thread, NULL, wait_host, &host));
	usleep(200000);
	EXPECT_FALSE(host.done);
	ASSERT_EQ(0, mock_hold(self->vm, 0, false));
	pthread_join(change.thread, NULL);
	pthread_join(host.thread, NULL);
	EXPECT_EQ(0, change.result);
	EXPECT_EQ(0x70, host.result);
	close(other);
}

/* A task that is killed in the middle undoes the change and dies. */
TEST_F(change, killed)
{
	struct state before;
	int status;
	pid_t pid;

	if (strcmp(variant->provider, "mock"))
		SKIP(return, "only the mock can stop in the middle");
	ASSERT_EQ(0, MAP(0, 0, 4, LEND | RWX));
	ASSERT_EQ(0, MAP(4, 4, 4, LEND | RX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, self->size, NULL));
	before = get_state(self);
	ASSERT_EQ(0, mock_hold(self->vm, GPA + 3 * self->unit, true));
	pid = fork();
	if (!pid)
		_exit(CHANGE(0, UNITS, SHARE) ? 1 : 0);
	ASSERT_LT(0, pid);
	usleep(200000);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(0, mock_hold(self->vm, 0, false));
	EXPECT_SAME(before);
	EXPECT_EQ(0, READ(0));
	EXPECT_EQ(0, CHANGE(0, UNITS, SHARE));
}

/* ---- races ---- */

struct race {
	FIXTURE_DATA(change) *self;
	volatile bool stop;
	volatile long refused;
	volatile long wrong;
	volatile long touches;
	/* Bytes that the guest's threads own, one each. */
	int index;
	bool punch;
};

/* No access of the guest's is refused, and each reads what it wrote. */
static void *race_guest(void *arg)
{
	struct race *race = arg;
	FIXTURE_DATA(change) *self = race->self;
	int at = race->index, byte, expected;
	unsigned int n = 0;

	while (!race->stop) {
		expected = ++n & 0x7f;
		if (WRITE(at, expected))
			race->refused++;
		byte = READ(at);
		if (byte < 0)
			race->refused++;
		else if (byte != expected)
			race->wrong++;
		race->touches++;
		at = (at + 2) % UNITS;
	}
	return NULL;
}

/* The host either has the page or gets a signal; it never waits for ever. */
static void *race_host(void *arg)
{
	struct race *race = arg;
	FIXTURE_DATA(change) *self = race->self;
	int at = 0;

	while (!race->stop) {
		if (race->punch && !(at % 16))
			mem_alloc(self->mem, PUNCH, at % UNITS * self->unit,
				  self->unit);
		else
			PEEK(at % UNITS);
		race->touches++;
		at++;
	}
	return NULL;
}

TEST_F_TIMEOUT(change, race, 120)
{
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	struct race guest[2] = {}, host = {};
	pthread_t threads[3];
	long changes = 0;
	int i;

	SKIP_PARCELS();
	if (strcmp(variant->provider, "gunyah") == 0)
		SKIP(return, "one guest runs one command at a time");
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	ASSERT_EQ(0, MAP(0, 0, UNITS, LEND | RWX));
	for (i = 0; i < 2; i++) {
		guest[i].self = self;
		guest[i].index = i;
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_guest,
					    &guest[i]));
	}
	host.self = self;
	ASSERT_EQ(0, pthread_create(&threads[2], NULL, race_host, &host));
	while (now() < end) {
		int first = changes % UNITS, nr = 1 + changes % 3;
		int ret;

		if (first + nr > UNITS)
			nr = UNITS - first;
		ret = CHANGE(first, nr, changes / 7 & 1 ? LEND : SHARE);
		/* A reference of a fault or an unmap under way lasts. */
		ASSERT_TRUE(!ret || ret == -EBUSY) {
			TH_LOG("change %ld: %d", changes, ret);
		}
		changes++;
	}
	guest[0].stop = guest[1].stop = host.stop = true;
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	TH_LOG("%ld changes, %ld and %ld touches by the guest, %ld by the host",
	       changes, guest[0].touches, guest[1].touches, host.touches);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, guest[i].refused);
		EXPECT_EQ(0, guest[i].wrong);
	}
	ASSERT_EQ(0, CHANGE(0, UNITS, LEND));
	EXPECT_EQ(1, query_guest(self->vm, (struct gmem_binding_info[2]){}, 2));
}

/* Beside holes that are punched, and under every policy: the counts stay right. */
TEST_F_TIMEOUT(change, race_with_punch, 120)
{
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	struct race guest = { .self = self }, host = { .self = self };
	pthread_t threads[2];
	struct gmem_mem_query q;
	long changes = 0;
	int i;

	SKIP_PARCELS();
	if (strcmp(variant->provider, "gunyah") == 0)
		SKIP(return, "one guest runs one command at a time");
	host.punch = true;
	ASSERT_EQ(0, MAP(0, 0, UNITS, LEND | RWX));
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, race_guest, &guest));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, race_host, &host));
	while (now() < end) {
		ASSERT_EQ(0, set_policy(self->vm, changes / 5 % 3));
		CHANGE(changes % UNITS, 1, changes / 3 & 1 ? LEND : SHARE);
		changes++;
	}
	guest.stop = host.stop = true;
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, guest.refused);
	/* Nothing is counted twice or forgotten: see the teardown, too. */
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(0, q.lent);
	EXPECT_EQ(0, q.shared);
}

TEST_HARNESS_MAIN
