// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page breaks, simulated by MADV_HWPOISON: an access to it fails, the pages
 * around it go on to work, and a hole punched there makes room for a new page.
 * Each test costs a page of the host's memory.
 */
#include "lib/fixture.h"
#include "lib/memory_failure.h"
#include "lib/pin.h"

#include <pthread.h>

#define UNITS 4
#define GPA GIB(1)

FIXTURE(hwpoison)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* Offset of the page to break: not the first of its unit. */
	__u64 at;
};

FIXTURE_VARIANT(hwpoison)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(hwpoison);

FIXTURE_SETUP(hwpoison)
{
	/*
	 * The result for an empty range shows whether the kernel knows the
	 * advice.
	 */
	if (madvise(NULL, 0, MADV_HWPOISON) && errno == EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	if (geteuid())
		SKIP(return, "needs root");
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
	self->at = 2 * self->unit - PAGE;
}

FIXTURE_TEARDOWN(hwpoison)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

static bool provided(const char *provider, int vm, __u64 gpa)
{
	__u32 access = 0;

	if (!strcmp(provider, "gunyah"))
		return guest_read(vm, gpa) >= 0;
	return mock_lookup(vm, gpa, &access) < 0 || access;
}

/* The second stage drops a broken page in the background. */
static bool unprovided_soon(const char *provider, int vm, __u64 gpa)
{
	double end = now() + 5;

	while (provided(provider, vm, gpa) && now() < end)
		usleep(1000);
	return !provided(provider, vm, gpa);
}

/*
 * Check the nearest neighbours of the broken page and a sample of the others.
 */
static bool sampled(const FIXTURE_DATA(hwpoison) *self, __u64 offset)
{
	__u64 distance = offset > self->at ? offset - self->at :
					     self->at - offset;

	return distance <= 2 * PAGE || offset / PAGE % 61 == 0;
}

/* One page is broken and all others work. */
static void check_broken(struct __test_metadata *_metadata,
			 FIXTURE_DATA(hwpoison) *self, __u32 access)
{
	__u64 i;

	EXPECT_EQ(SIGBUS, touch_read(self->host + self->at));
	EXPECT_EQ(BUS_MCEERR_AR, touch_code);
	EXPECT_EQ(SIGBUS, touch_write(self->host + self->at, 1));
	if (access) {
		EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + self->at));
		/*
		 * With parcels, guest_read() doesn't let the guest touch a page
		 * that can't be populated.
		 */
		if (!has_parcels(self->vm))
			EXPECT_EQ(GMEM_FAULT_HWPOISON, last_reason(self->vm));
		EXPECT_EQ(-EFAULT, guest_write(self->vm, GPA + self->at, 1));
	}
	for (i = 0; i < self->size; i += PAGE) {
		if (i == self->at || !sampled(self, i))
			continue;
		ASSERT_EQ((int)(i / PAGE % 251), peek(self->host + i));
		if (access)
			ASSERT_EQ((int)(i / PAGE % 251),
				  guest_read(self->vm, GPA + i));
	}
}

static void check_repaired(struct __test_metadata *_metadata,
			   FIXTURE_DATA(hwpoison) *self)
{
	__u64 first = self->at & ~(self->unit - 1);

	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, first, self->unit));
	EXPECT_EQ(0, touch_write(self->host + self->at, 0x5a));
	EXPECT_EQ(0x5a, peek(self->host + self->at));
	if (first != self->at)
		EXPECT_EQ(0, peek(self->host + first));
}

#define FILL()								\
	do {								\
		__u64 _i;						\
									\
		for (_i = 0; _i < self->size; _i += PAGE)		\
			if (_i == self->at || sampled(self, _i))	\
				ASSERT_EQ(0, touch_write(self->host + _i, \
							 _i / PAGE % 251)); \
	} while (0)

#define BIND(access)							\
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,	\
			     (access) | RWX))

/* The host has the page, and no guest is involved. */
TEST_F(hwpoison, unbound)
{
	FILL();
	ASSERT_EQ(0, poison(self->host + self->at));
	check_broken(_metadata, self, 0);
	EXPECT_NE('a', page_state(self->mem, self->at));
	check_repaired(_metadata, self);
}

/* The host has the page, which is bound but not lent yet. */
TEST_F(hwpoison, bound)
{
	if (self->unit != PAGE && has_parcels(self->vm))
		SKIP(return, "parcels: a huge page with a broken page can't be populated");
	FILL();
	BIND(LEND);
	ASSERT_EQ(0, poison(self->host + self->at));
	check_broken(_metadata, self, LEND);
	check_repaired(_metadata, self);
	EXPECT_EQ(0x5a, guest_read(self->vm, GPA + self->at));
}

/* Host and guest both have the page. */
TEST_F(hwpoison, shared)
{
	__u64 i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest keeps a page that breaks");
	FILL();
	BIND(SHARE);
	for (i = 0; i < self->size; i += PAGE)
		if (sampled(self, i))
			ASSERT_EQ((int)(i / PAGE % 251),
				  guest_read(self->vm, GPA + i));
	ASSERT_EQ(0, poison(self->host + self->at));
	/* A window loses its mapping at once. */
	if (!has_window(variant->provider))
		EXPECT_TRUE(unprovided_soon(variant->provider, self->vm,
					    GPA + self->at));
	check_broken(_metadata, self, SHARE);
	check_repaired(_metadata, self);
	EXPECT_EQ(0x5a, guest_read(self->vm, GPA + self->at));
}

/* The physical address of a mapped page; 0 if the kernel doesn't tell. */
static __u64 physical_address(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), ptr_u64(p) / PAGE * 8) < 0)
		entry = 0;
	close(fd);
	return entry >> 63 ? (entry & ((1ULL << 55) - 1)) * PAGE : 0;
}

/* As poison(), for a page that no process may map. */
static int poison_address(__u64 address)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%#llx", address);
	ret = write_file("/sys/devices/system/memory/hard_offline_page", text);
	return ret == -EBUSY ? 0 : ret;
}

/*
 * The guest has the page: it loses the page at once, if it is behind a window.
 */
TEST_F(hwpoison, lent)
{
	__u8 *window = NULL;
	__u64 i, address;

	if (!strcmp(variant->provider, "gunyah"))
		SKIP(return, "the hypervisor keeps a broken page");
	if (access("/sys/devices/system/memory/hard_offline_page", W_OK))
		SKIP(return, "the kernel breaks no page by its address");
	FILL();
	address = physical_address(self->host + self->at);
	ASSERT_NE(0, address);
	BIND(LEND);
	if (has_window(variant->provider)) {
		window = map_window(self->vm, GPA, self->size,
				    PROT_READ | PROT_WRITE);
		ASSERT_NE(MAP_FAILED, window);
	}
	for (i = 0; i < self->size; i += PAGE) {
		if (!sampled(self, i))
			continue;
		ASSERT_EQ((int)(i / PAGE % 251),
			  guest_read(self->vm, GPA + i));
		if (window)
			ASSERT_EQ((int)(i / PAGE % 251), peek(window + i));
	}

	ASSERT_EQ(0, poison_address(address));
	if (window) {
		EXPECT_EQ(SIGBUS, touch_read(window + self->at));
		EXPECT_EQ(BUS_MCEERR_AR, touch_code);
		EXPECT_EQ((int)((self->at + PAGE) / PAGE % 251),
			  peek(window + self->at + PAGE));
		munmap(window, self->size);
	} else {
		EXPECT_TRUE(unprovided_soon(variant->provider, self->vm,
					    GPA + self->at));
	}
	/* The guest keeps the pages around it. */
	EXPECT_EQ('l', page_state(self->mem, self->at - self->unit));
	EXPECT_EQ(SIGBUS, touch_read(self->host + self->at));
	check_broken(_metadata, self, LEND);
	check_repaired(_metadata, self);
}

/* A broken page can be unbound and bound again, and its VM and file can go. */
TEST_F(hwpoison, broken_page_can_be_unbound)
{
	__u64 nr;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	FILL();
	BIND(SHARE);
	ASSERT_EQ((int)(self->at / PAGE % 251),
		  guest_read(self->vm, GPA + self->at));
	ASSERT_EQ(0, poison(self->host + self->at));
	EXPECT_EQ(0, unmap_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(self->size / PAGE, nr);
	BIND(LEND);
	EXPECT_EQ(-EHWPOISON, populate_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(self->unit == PAGE ? self->at / PAGE : nr, nr);
	/* The teardown gets the broken page. */
}

/*
 * A reference keeps the huge page whole, so memory_failure() can't split it
 * ("unsplit thp"). The page is split when the reference goes.
 */
#define HOLD_AND_BREAK(access)						\
	do {								\
		if (self->unit == PAGE)					\
			SKIP(return, "needs a huge page");		\
		if (has_parcels(self->vm))				\
			SKIP(return, "parcels: the guest keeps its pages"); \
		FILL();							\
		BIND(access);						\
		pfn = pfn_of(self->host + self->at);			\
		ASSERT_NE(0, pfn);					\
		ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));			\
		ASSERT_EQ(0, pin(fd, PIN_SPLICE, self->host + self->unit)); \
		if ((access) == SHARE)					\
			ASSERT_EQ((int)(self->at / PAGE % 251),		\
				  guest_read(self->vm, GPA + self->at)); \
		ASSERT_EQ(0, poison(self->host + self->at));		\
		EXPECT_EQ(PAGE_HWPOISON, page_flags(pfn) & PAGE_HWPOISON); \
		EXPECT_NE(0, page_flags(pfn) & PAGE_COMPOUND);		\
	} while (0)

/*
 * From 6.18 on, the kernel maps a folio as a whole. So the neighbours of a broken
 * page can't be reached before the folio is split.
 */
static int peek_neighbour(const FIXTURE_DATA(hwpoison) *self)
{
	const __u8 *p = self->host + self->at - PAGE;

	if (kernel_since("6.18") && touch_read(p) == SIGBUS)
		return (self->at - PAGE) / PAGE % 251;
	return peek(p);
}

TEST_F(hwpoison, huge_page_held_for_a_while)
{
	int fd[2], byte;
	__u64 pfn;

	HOLD_AND_BREAK(SHARE);
	/* Nobody reaches the broken page meanwhile. */
	EXPECT_EQ(SIGBUS, touch_read(self->host + self->at));
	EXPECT_EQ(BUS_MCEERR_AR, touch_code);
	if (!has_window(variant->provider))
		EXPECT_TRUE(unprovided_soon(variant->provider, self->vm,
					    GPA + self->at));
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + self->at));
	/* No touch of a neighbour maps it. */
	EXPECT_EQ((int)((self->at - PAGE) / PAGE % 251), peek_neighbour(self));
	EXPECT_EQ(0, pfn_of(self->host + self->at));
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	EXPECT_TRUE(split_soon(pfn));
	check_broken(_metadata, self, SHARE);
	check_repaired(_metadata, self);
	EXPECT_EQ(0x5a, guest_read(self->vm, GPA + self->at));
	pin_close(fd);
}

/* The hole isn't punched before the huge page can be split. */
TEST_F(hwpoison, punch_of_a_huge_page_that_is_held)
{
	int fd[2], byte;
	__u64 pfn;

	HOLD_AND_BREAK(LEND);
	EXPECT_EQ(-EBUSY, mem_alloc(self->mem, PUNCH, 0, self->size));
	EXPECT_EQ((int)((self->at - PAGE) / PAGE % 251), peek_neighbour(self));
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	check_repaired(_metadata, self);
	EXPECT_EQ(PAGE_HWPOISON,
		  page_flags(pfn) & (PAGE_HWPOISON | PAGE_COMPOUND));
	pin_close(fd);
}

/* A huge page that is held to the end of its file never becomes free. */
TEST_F(hwpoison, huge_page_held_to_the_end)
{
	int fd[2], byte;
	__u64 pfn;

	HOLD_AND_BREAK(SHARE);
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	munmap(self->host, self->size);
	close(self->mem);
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	pin_close(fd);
	usleep(100000);
	EXPECT_EQ(PAGE_HWPOISON, page_flags(pfn) & PAGE_HWPOISON);
	EXPECT_NE(0, page_flags(pfn) & PAGE_COMPOUND);
	self->mem = new_mem(self->size, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	SETUP_HOST();
}

struct race {
	int vm, mem;
	__u32 access;
	__u64 unit, at;
	volatile bool stop;
};

static void *unmap_and_map(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		unmap_range(race->vm, GPA, UNITS * race->unit, NULL);
		map_mem(race->vm, GPA, race->mem, 0, UNITS * race->unit,
			race->access | RWX);
		guest_read(race->vm, GPA + race->at);
	}
	return NULL;
}

static void against_unmap_and_punch(struct __test_metadata *_metadata,
				    FIXTURE_DATA(hwpoison) *self, __u32 access)
{
	struct race race = {
		self->vm, self->mem, access, self->unit, self->at, false
	};
	pthread_t thread;
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be punched");
	BIND(access);
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap_and_map, &race));
	for (i = 0; i < 10; i++) {
		touch_write(self->host + self->at, 1);
		usleep(1000 * i);
		poison(self->host + self->at);
		EXPECT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size));
		EXPECT_EQ(0, peek(self->host + self->at));
	}
	race.stop = true;
	pthread_join(thread, NULL);
}

/*
 * B13: memory failure took the folio's lock, then the invalidate lock; unmap
 * and punch took them in the other order.
 */
TEST_F(hwpoison, b13_against_unmap_and_punch)
{
	against_unmap_and_punch(_metadata, self, SHARE);
}

/* B13 once more, with pages that change hands meanwhile. */
TEST_F(hwpoison, b13_against_lending)
{
	against_unmap_and_punch(_metadata, self, LEND);
}

TEST_HARNESS_MAIN
