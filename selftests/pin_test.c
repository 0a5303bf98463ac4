// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pinned page can't be lent: a device could still write to it, or read the
 * guest's data.
 */
#include "lib/fixture.h"
#include "lib/pin.h"
#include "lib/threads.h"

#include <pthread.h>

#define UNITS 4
#define GPA GIB(1)

FIXTURE(pin)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* The holder of the pin: both ends of a pipe, or a ring. */
	int fd[2];
};

FIXTURE_VARIANT(pin)
{
	const char *provider;
	__u64 mem_flags;
	enum pin_kind kind;
};

#define VARIANTS_KIND(fixture, name, ...)				\
	VARIANT(fixture, name##_splice, .kind = PIN_SPLICE, __VA_ARGS__); \
	VARIANT(fixture, name##_uring, .kind = PIN_URING, __VA_ARGS__)

EACH_PROVIDER_SIZE(VARIANTS_KIND, pin);

FIXTURE_SETUP(pin)
{
	if (pin_open(self->fd, variant->kind))
		SKIP(return, "no io_uring");
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
}

FIXTURE_TEARDOWN(pin)
{
	pin_close(self->fd);
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

/* A released pin may end in the background. */
static int guest_write_soon(int vm, __u64 gpa, __u8 byte)
{
	double end = now() + 5;
	int ret;

	do {
		ret = guest_write(vm, gpa, byte);
		if (ret != -EFAULT || last_reason(vm) != GMEM_FAULT_PINNED)
			return ret;
		usleep(1000);
	} while (now() < end);
	return ret;
}

TEST_F(pin, pinned_page_is_not_lent)
{
	struct gmem_fault_info f;
	struct gmem_stats s0, s1;
	double since, waited;
	__u64 nr;
	int byte, i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest doesn't touch a page that populate refuses");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0,
			  touch_write(self->host + i * self->unit, 0x50 + i));
	ASSERT_EQ(0, pin(self->fd, variant->kind, self->host + self->unit));
	ASSERT_EQ(0, get_stats(&s0));

	since = now();
	EXPECT_EQ(-EFAULT, guest_write(self->vm, GPA + self->unit, 0x99));
	waited = now() - since;
	/* A ring pins the page. A pipe's reference might be brief. */
	if (variant->kind == PIN_URING) {
		EXPECT_GT(2, waited);
	} else {
		EXPECT_LT(1.9, waited);
	}
	f = last_fault(self->vm);
	EXPECT_EQ(GMEM_FAULT_PINNED, f.reason);
	EXPECT_EQ(GPA + self->unit, f.guest_addr);
	EXPECT_EQ(GMEM_ACCESS_WRITE, f.access);
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + self->unit));
	EXPECT_EQ(GMEM_ACCESS_READ, last_fault(self->vm).access);
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.refused + 2, s1.refused);
	EXPECT_EQ(s0.lent_pages, s1.lent_pages);

	/*
	 * The neighbours of a pinned page can be lent, and populate reports its
	 * progress.
	 */
	EXPECT_EQ(-EBUSY, populate_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(self->unit / PAGE, nr);
	EXPECT_EQ(0x52, guest_read(self->vm, GPA + 2 * self->unit));
	EXPECT_EQ('h', page_state(self->mem, self->unit));
	EXPECT_EQ(0x51, peek(self->host + self->unit));
	ASSERT_EQ(0, touch_write(self->host + self->unit, 0x61));

	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	if (variant->kind == PIN_SPLICE)
		EXPECT_EQ(0x61, byte);
	EXPECT_EQ(0, guest_write_soon(self->vm, GPA + self->unit, 0x99));
	EXPECT_EQ('l', page_state(self->mem, self->unit));
	EXPECT_EQ(0x99, peek(self->host + self->unit));
}

/* The page is the second of the range. */
struct lender {
	int vm;
	__u64 unit;
	__u64 size;
	int populated;
	int written;
	enum gmem_fault_reason reason;
};

static void *lend_held_page(void *arg)
{
	struct lender *l = arg;

	l->populated = populate_range(l->vm, GPA, l->size, NULL);
	l->written = guest_write(l->vm, GPA + l->unit, 0x99);
	l->reason = last_reason(l->vm);
	return NULL;
}

/*
 * The guest can't have a page that a pipe holds, even if a thread touches it,
 * with pauses of @pause_us.
 */
static void lend_touched(struct __test_metadata *_metadata, FIXTURE_DATA(pin) *self,
			 enum pin_kind kind, unsigned int pause_us)
{
	struct lender l = { .vm = self->vm, .unit = self->unit,
			    .size = self->size };
	struct toucher t = { .page = self->host + self->unit,
			     .pause_us = pause_us };
	pthread_t lender, toucher;
	int byte, late;

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	ASSERT_EQ(0, touch_write(self->host + self->unit, 0x51));
	ASSERT_EQ(0, pin(self->fd, kind, self->host + self->unit));
	ASSERT_EQ(0, pthread_create(&toucher, NULL, touch_on, &t));
	ASSERT_EQ(0, pthread_create(&lender, NULL, lend_held_page, &l));
	late = join_until(lender, time(NULL) + 20);
	EXPECT_EQ(0, late);
	t.stop = true;
	pthread_join(toucher, NULL);
	if (late)
		pthread_join(lender, NULL);
	EXPECT_EQ(-EBUSY, l.populated);
	EXPECT_EQ(-EFAULT, l.written);
	EXPECT_EQ(GMEM_FAULT_PINNED, l.reason);
	EXPECT_EQ(0x51, peek(self->host + self->unit));
	ASSERT_EQ(0, unpin(self->fd, kind, &byte));
	EXPECT_EQ(0, guest_write_soon(self->vm, GPA + self->unit, 0x99));
}

/*
 * A touch by the host looks like the end of a brief reference. A back-end that holds
 * a page and touches it all the time makes nobody wait for ever.
 */
TEST_F(pin, held_page_is_touched_all_the_time)
{
	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest doesn't touch a page that populate refuses");
	lend_touched(_metadata, self, variant->kind, 0);
}

/* Nor does one that touches it before each wait for it is over. */
TEST_F(pin, held_page_is_touched_now_and_then)
{
	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest doesn't touch a page that populate refuses");
	if (variant->kind != PIN_SPLICE || variant->mem_flags)
		SKIP(return, "once for each provider: it takes some seconds");
	lend_touched(_metadata, self, variant->kind, 900000);
}

static void *unpin_soon(void *arg)
{
	int byte;

	usleep(300000);
	unpin(arg, PIN_SPLICE, &byte);
	return NULL;
}

/* Another page that takes the place of a held one isn't held: its reference is waited for. */
TEST_F(pin, page_in_the_place_of_a_held_one)
{
	pthread_t thread;
	int fd[2];

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be punched");
	if (variant->kind != PIN_SPLICE || variant->mem_flags)
		SKIP(return, "once for each provider: it takes some seconds");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	ASSERT_EQ(0, touch_write(self->host, 1));
	ASSERT_EQ(0, pin(self->fd, PIN_SPLICE, self->host));
	ASSERT_EQ(-EFAULT, guest_write(self->vm, GPA, 2));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
	ASSERT_EQ(0, touch_write(self->host, 3));
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, self->host));
	ASSERT_EQ(0, pthread_create(&thread, NULL, unpin_soon, fd));
	EXPECT_EQ(0, guest_write(self->vm, GPA, 4));
	pthread_join(thread, NULL);
	pin_close(fd);
}

/* A shared page may be pinned. */
TEST_F(pin, pinned_page_can_be_shared)
{
	int byte;

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     SHARE | RWX));
	ASSERT_EQ(0, touch_write(self->host, 1));
	ASSERT_EQ(0, pin(self->fd, variant->kind, self->host));
	EXPECT_EQ(1, guest_read(self->vm, GPA));
	EXPECT_EQ(0, guest_write(self->vm, GPA, 2));
	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	if (variant->kind == PIN_SPLICE)
		EXPECT_EQ(2, byte);
}

TEST_F(pin, pinned_page_can_be_unbound)
{
	int byte;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     SHARE | RWX));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 3));
	ASSERT_EQ(0, pin(self->fd, variant->kind, self->host));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	if (variant->kind == PIN_SPLICE)
		EXPECT_EQ(3, byte);
}

/* A lent page must be touched before it can be pinned. */
TEST_F(pin, touch_before_pin)
{
	int byte;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest keeps the page that the host touches");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 0x77));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(-EFAULT, pin(self->fd, variant->kind, self->host));
	EXPECT_EQ('l', page_state(self->mem, 0));

	ASSERT_EQ(0, peek(self->host));
	ASSERT_EQ(0, pin(self->fd, variant->kind, self->host));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ(-EFAULT, guest_write(self->vm, GPA, 0x78));
	EXPECT_EQ(GMEM_FAULT_PINNED, last_reason(self->vm));
	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	if (variant->kind == PIN_SPLICE)
		EXPECT_EQ(0, byte);
	EXPECT_EQ(0, guest_write_soon(self->vm, GPA, 0x78));
}

/* If a pinned page is punched, only the holder of the pin keeps it. */
TEST_F(pin, punched_while_pinned)
{
	int byte;

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	ASSERT_EQ(0, touch_write(self->host, 0x31));
	ASSERT_EQ(0, pin(self->fd, variant->kind, self->host));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
	EXPECT_EQ(0, guest_read(self->vm, GPA));
	EXPECT_EQ(0, guest_write(self->vm, GPA, 0x32));
	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	if (variant->kind == PIN_SPLICE)
		EXPECT_EQ(0x31, byte);
	EXPECT_EQ(0x32, guest_read(self->vm, GPA));
}

/*
 * A page pinned through a paged window stays the guest's; replace_test.c has the
 * rest. Through a live window no page can be pinned.
 */
TEST_F(pin, pinned_through_a_window)
{
	__u8 *window;
	int byte;

	if (!has_window(variant->provider))
		SKIP(return, "provider %s has no window", variant->provider);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	window = map_window(self->vm, GPA, self->size, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 0x11));
	if (is_live(variant->provider)) {
		EXPECT_EQ(-EFAULT, pin(self->fd, variant->kind, window));
		/* A system call copies, though. */
		EXPECT_EQ(self->fd[1] < 0 ? -EBADF : 1,
			  err_of(write(self->fd[1], window, 1)));
		EXPECT_EQ('l', page_state(self->mem, 0));
		EXPECT_EQ(0x11, peek(self->host));
		EXPECT_EQ(0x11, peek(window));
		munmap(window, self->size);
		return;
	}
	ASSERT_EQ(0, pin(self->fd, variant->kind, window));
	EXPECT_EQ(0x11, peek(window));
	EXPECT_EQ(-SIGBUS, peek(self->host));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(0x11, peek(window));
	ASSERT_EQ(0, unpin(self->fd, variant->kind, &byte));
	EXPECT_EQ(0, guest_write_soon(self->vm, GPA, 0x12));
	munmap(window, self->size);
}

/*
 * References that aren't pins don't count: those of pages on their way to the
 * LRU lists, and those of the kernel's batches.
 */
TEST_F(pin, fresh_pages_are_free)
{
	unsigned long rounds = scaled(self->unit == PAGE ? 100 : 10);
	__u64 size = 2 * HUGE_PAGE, i;
	__u8 *host;
	int mem;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be punched");
	mem = new_mem(size, variant->mem_flags);
	host = map_host(mem, 0, size);
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, map_mem(self->vm, GPA, mem, 0, size, LEND | RWX));
	while (rounds--) {
		for (i = 0; i < size; i += 37 * PAGE) {
			ASSERT_EQ(0, touch_write(host + i, 1));
			ASSERT_EQ(0, guest_write(self->vm, GPA + i, 2));
		}
		ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, size));
	}
	munmap(host, size);
	close(mem);
	ASSERT_EQ(0, unmap_range(self->vm, GPA, size, NULL));
}

struct loader {
	int mem;
	__u64 size;
	__u64 unit;
	unsigned long rounds;
	volatile int started;
	pthread_t thread;
};

/* As the loader of an image does: look at the file, and unmap it. */
static void *load(void *arg)
{
	struct loader *loader = arg;

	while (loader->rounds--) {
		__u8 *map = mmap(NULL, loader->size, PROT_READ, MAP_SHARED,
				 loader->mem, 0);
		__u64 i;

		if (map == MAP_FAILED)
			return (void *)1L;
		for (i = 0; i < loader->size; i += loader->unit)
			touch_read(map + i);
		loader->started = 1;
		munmap(map, loader->size);
	}
	return NULL;
}

/*
 * munmap() refers to pages for a moment longer than they are mapped. Such a page
 * isn't pinned.
 */
TEST_F(pin, unmapping_is_no_pin)
{
	unsigned long nr = scaled(variant->mem_flags ? 64 : 16384), i;
	struct loader loader = {
		.size = nr * self->unit,
		.unit = self->unit,
		.rounds = scaled(20),
	};
	unsigned long refused = 0;
	void *failed;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest doesn't touch a page that populate refuses");
	if (variant->kind != PIN_SPLICE)
		SKIP(return, "no pin is needed");
	loader.mem = new_mem(loader.size, variant->mem_flags);
	ASSERT_LE(0, loader.mem);
	ASSERT_EQ(0, map_mem(self->vm, GPA, loader.mem, 0, loader.size,
			     LEND | RWX));
	ASSERT_EQ(0, pthread_create(&loader.thread, NULL, load, &loader));
	while (!loader.started)
		usleep(100);
	while (pthread_tryjoin_np(loader.thread, &failed))
		for (i = 0; i < nr; i += 1 + i % 3)
			refused += guest_write(self->vm, GPA + i * self->unit,
					       1) < 0;
	EXPECT_EQ(NULL, failed);
	EXPECT_EQ(0, refused);
	close(loader.mem);
	ASSERT_EQ(0, unmap_range(self->vm, GPA, loader.size, NULL));
}

TEST_HARNESS_MAIN
