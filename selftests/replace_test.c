// SPDX-License-Identifier: GPL-2.0-only
/*
 * Revoked is revoked: the holder of a pin that was taken through a paged window
 * doesn't share the page with a later owner. While the page is lent, the host
 * can't have it; when its binding goes, another page takes its place in the file.
 */
#include "lib/fixture.h"
#include "lib/memory_failure.h"
#include "lib/pin.h"

#define UNITS 4
#define GPA GIB(1)
/* The bytes that the guest writes, and a later owner. */
#define GUEST 0x11
#define LATER 0x22

FIXTURE(replace)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u8 *window;
	/* The pinned page; the second of the guestmem's. */
	__u8 *page;
	__u64 unit;
	__u64 size;
	__u64 pfn;
	int fd[2];
};

FIXTURE_VARIANT(replace)
{
	const char *provider;
	__u64 mem_flags;
	enum pin_kind kind;
	__u32 policy;
};

#define VARIANTS_POLICY(fixture, name, ...)				\
	VARIANT(fixture, name##_allow, .policy = GMEM_POLICY_ALLOW,	\
		__VA_ARGS__);						\
	VARIANT(fixture, name##_scrub, .policy = GMEM_POLICY_SCRUB,	\
		__VA_ARGS__);						\
	VARIANT(fixture, name##_deny, .policy = GMEM_POLICY_DENY, __VA_ARGS__)

#define VARIANTS_KIND(fixture, name, ...)				\
	VARIANTS_POLICY(fixture, name##_splice, .kind = PIN_SPLICE,	\
			__VA_ARGS__);					\
	VARIANTS_POLICY(fixture, name##_uring, .kind = PIN_URING, __VA_ARGS__)

EACH_SIZE(VARIANTS_KIND, replace, window, .provider = "window");

/* Lend everything, and pin a page through the window. */
FIXTURE_SETUP(replace)
{
	__u64 at;

	if (pin_open(self->fd, variant->kind))
		SKIP(return, "no io_uring");
	SETUP_VM_AND_MEM(UNITS, variant->policy);
	SETUP_HOST();
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	self->window = map_window(self->vm, GPA, self->size,
				  PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->window);
	for (at = 0; at < self->size; at += self->unit)
		ASSERT_EQ(0, touch_write(self->window + at, GUEST));
	self->page = self->window + self->unit;
	self->pfn = pfn_of(self->page);
	ASSERT_EQ(0, pin(self->fd, variant->kind, self->page));
}

FIXTURE_TEARDOWN(replace)
{
	pin_close(self->fd);
	if (self->window)
		munmap(self->window, self->size);
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

/* The byte that the host finds in a page that came back. */
static int back(__u32 policy)
{
	return policy == GMEM_POLICY_ALLOW ? GUEST : 0;
}

/* The holder of the pin still has what the guest wrote. */
#define EXPECT_HELD()							\
	do {								\
		int _byte;						\
									\
		ASSERT_EQ(0, unpin(self->fd, variant->kind, &_byte));	\
		if (variant->kind == PIN_SPLICE)			\
			EXPECT_EQ(GUEST, _byte);			\
	} while (0)

/* A page that came back is another one than the guest had. */
#define EXPECT_REPLACED()						\
	do {								\
		EXPECT_EQ(back(variant->policy),			\
			  peek(self->host + self->unit));		\
		EXPECT_EQ('h', page_state(self->mem, self->unit));	\
		if (self->pfn)						\
			EXPECT_NE(self->pfn,				\
				  pfn_of(self->host + self->unit));	\
	} while (0)

TEST_F(replace, pinned_page_stays_lent)
{
	const bool denied = variant->policy == GMEM_POLICY_DENY;
	struct gmem_stats s0, s1;
	__u64 nr;

	ASSERT_EQ(0, get_stats(&s0));
	EXPECT_EQ(-SIGBUS, peek(self->host + self->unit));
	EXPECT_EQ(SIGBUS, touch_write(self->host + self->unit, 1));
	EXPECT_EQ(denied ? -EACCES : -EBUSY,
		  mem_alloc(self->mem, PUNCH, self->unit, self->unit));
	EXPECT_EQ(denied ? -EACCES : -EBUSY,
		  mem_alloc(self->mem, PUNCH, 0, self->size));
	EXPECT_EQ(denied ? -EACCES : -EBUSY,
		  reclaim_range(self->vm, GPA + self->unit, self->unit, &nr));
	EXPECT_EQ(0, nr);
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.lent_pages, s1.lent_pages);
	EXPECT_EQ('l', page_state(self->mem, self->unit));

	/* The guest notices nothing; the holder of the pin has its page. */
	EXPECT_EQ(GUEST, peek(self->page));
	ASSERT_EQ(0, touch_write(self->page, GUEST + 1));
	if (self->pfn)
		EXPECT_EQ(self->pfn, pfn_of(self->page));
	ASSERT_EQ(0, touch_write(self->page, GUEST));
	EXPECT_HELD();

	/* A released pin may end in the background. */
	usleep(200 * 1000);
	EXPECT_EQ(denied ? -SIGBUS : back(variant->policy),
		  peek(self->host + self->unit));
}

/* RECLAIM reports the pages that came back before. */
TEST_F(replace, reclaim_is_partial)
{
	__u64 nr;

	if (variant->policy == GMEM_POLICY_DENY)
		SKIP(return, "the policy denies it");
	EXPECT_EQ(-EBUSY, reclaim_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(self->unit / PAGE, nr);
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ('l', page_state(self->mem, 2 * self->unit));
	EXPECT_EQ(GUEST, peek(self->window + 2 * self->unit));
}

TEST_F(replace, unmap)
{
	__u64 first = pfn_of(self->window), nr;
	int other = new_vm("window", GMEM_POLICY_ALLOW);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(self->size / PAGE, nr);
	EXPECT_EQ(-SIGBUS, peek(self->page));
	EXPECT_REPLACED();
	/* Its neighbours stay the same. */
	EXPECT_EQ(back(variant->policy), peek(self->host));
	if (first)
		EXPECT_EQ(first, pfn_of(self->host));

	/* A later VM has another page, lent or shared. */
	ASSERT_EQ(0, map_mem(other, GPA, self->mem, 0, self->size,
			     SHARE | RWX));
	EXPECT_EQ(0, guest_write(other, GPA + self->unit, LATER));
	ASSERT_EQ(0, unmap_range(other, GPA, self->size, NULL));
	ASSERT_EQ(0, map_mem(other, GPA, self->mem, 0, self->size, LEND | RWX));
	EXPECT_EQ(0, guest_write(other, GPA + self->unit, LATER));
	EXPECT_HELD();
	EXPECT_EQ(LATER, guest_read(other, GPA + self->unit));
	close(other);
}

/* The binding is split around the pinned page. */
TEST_F(replace, split)
{
	ASSERT_EQ(0, unmap_mem(self->vm, GPA + self->unit, self->mem,
			       self->unit, self->unit, LEND | RWX));
	EXPECT_REPLACED();
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(GUEST, peek(self->window));
	EXPECT_EQ(GUEST, peek(self->window + 2 * self->unit));
	ASSERT_EQ(0, touch_write(self->host + self->unit, LATER));
	EXPECT_HELD();
}

TEST_F(replace, end_of_vm)
{
	munmap(self->window, self->size);
	self->window = NULL;
	close(self->vm);
	EXPECT_REPLACED();
	ASSERT_EQ(0, touch_write(self->host + self->unit, LATER));
	EXPECT_HELD();
	EXPECT_EQ(LATER, peek(self->host + self->unit));
}

/* The pin was released in time. */
TEST_F(replace, not_needed)
{
	int byte;

	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	usleep(200 * 1000);
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(back(variant->policy), peek(self->host + self->unit));
	if (self->pfn)
		EXPECT_EQ(self->pfn, pfn_of(self->host + self->unit));
}

/* In KiB. */
static long page_cache(void)
{
	return sum_of("/proc/meminfo", "Cached: %ld");
}

/* Each page counts once, and goes when its last user goes. */
TEST_F(replace, accounting)
{
	unsigned long rounds = scaled(64), i;
	long before;
	int byte;

	before = page_cache();
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, unmap_range(self->vm, GPA + self->unit, self->unit,
					 NULL));
		EXPECT_EQ(0, touch_write(self->host + self->unit, LATER));
		ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
		ASSERT_EQ(0, map_mem(self->vm, GPA + self->unit, self->mem,
				     self->unit, self->unit, LEND | RWX));
		ASSERT_EQ(0, touch_write(self->page, GUEST));
		ASSERT_EQ(0, pin(self->fd, variant->kind, self->page));
	}
	/* Other programs use memory, too. */
	EXPECT_GT((long)(rounds * self->unit / 4096 + 2048),
		  labs(page_cache() - before));
	EXPECT_EQ('l', page_state(self->mem, self->unit));
}

/* A broken part of a huge page can't be replaced. */
TEST_F(replace, broken)
{
	int byte, ret;

	if (!self->pfn || !can_break_pages())
		SKIP(return, "the kernel can't break a page by its number");
	ASSERT_EQ(0, break_page(self->pfn + self->unit / PAGE - 1));
	ret = unmap_range(self->vm, GPA, self->size, NULL);
	if (self->unit == PAGE) {
		EXPECT_EQ(0, ret);
		EXPECT_EQ(-SIGBUS, peek(self->host + self->unit));
	} else {
		EXPECT_EQ(-EBUSY, ret);
		EXPECT_EQ('l', page_state(self->mem, self->unit));
		ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
		usleep(200 * 1000);
		EXPECT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	}
}

TEST_HARNESS_MAIN
