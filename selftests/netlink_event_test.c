// SPDX-License-Identifier: GPL-2.0-only
/* The events of the generic netlink family. */
#include "lib/fixture.h"
#include "lib/netlink_listener.h"
#include "lib/pin.h"
#include "lib/view.h"
#include "lib/window_desc.h"

#include <sys/syscall.h>

#define GPA GIB(1)
/* Longer than the module collects events: time to see that no event arrives. */
#define QUIET_MS 300

FIXTURE(events)
{
	struct listener *l;
	int vm;
	int mem;
	__u32 vm_id;
	__u64 mem_id;
};

FIXTURE_VARIANT(events)
{
	const char *provider;
};

VARIANTS_PROVIDER(events);

FIXTURE_SETUP(events)
{
	SKIP_UNLESS_PROVIDER(variant->provider);
	self->l = listener_open();
	ASSERT_EQ(0, listener_join(self->l));
	self->vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->vm);
	self->vm_id = vm_id(self->vm);
	self->mem = new_mem(64 * PAGE, 0);
	ASSERT_LE(0, self->mem);
	self->mem_id = mem_id(self->mem);
}

FIXTURE_TEARDOWN(events)
{
	listener_close(self->l);
	close_guest(self->vm);
	close(self->mem);
}

/* Read and forget all events so far. */
static void drain(struct listener *l)
{
	listener_sync(l);
	l->nr = 0;
}

/* Forget the events of a guestmem. */
static void forget_mem(struct listener *l, __u64 mem)
{
	int i, nr = 0;

	for (i = 0; i < l->nr; i++)
		if (l->events[i].mem != mem)
			l->events[nr++] = l->events[i];
	l->nr = nr;
}

/*
 * The only event of a type since the last drain(); NULL if there are more or
 * none.
 */
static struct event *only(struct listener *l, __u32 type)
{
	struct event *found = NULL;
	int i;

	for (i = 0; i < l->nr; i++) {
		if (l->events[i].type != type)
			continue;
		if (found)
			return NULL;
		found = &l->events[i];
	}
	return found;
}

static bool range_is(const struct event *e, __u64 gpa, __u64 offset,
		     __u64 length)
{
	return e && e->guest_addr == gpa && e->offset == offset &&
	       e->length == length;
}

TEST_F(events, life_of_a_vm)
{
	struct listener *l = self->l;
	struct event *e;
	int vm, mem;
	__u32 id;
	__u64 ino, own;

	drain(l);
	vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	mem = new_mem(PAGE, 0);
	id = vm_id(vm);
	own = guest_mem_id(vm);
	ino = mem_id(mem);
	ASSERT_EQ(0, map_mem(vm, GPA, mem, 0, PAGE, LEND | RWX));
	ASSERT_EQ(0, populate_range(vm, GPA, PAGE, NULL));
	close_guest(vm);
	close(mem);
	listener_sync(l);
	if (own)
		forget_mem(l, own);

	ASSERT_EQ(8, l->nr);
	e = l->events;
	EXPECT_EQ(GMEM_EVENT_VM_CREATED, e[0].type);
	EXPECT_EQ(id, e[0].vm);
	EXPECT_EQ(!strcmp(variant->provider, "window") ? GMEM_WINDOW_KIND_PAGED :
		  !strcmp(variant->provider, "live") ? GMEM_WINDOW_KIND_LIVE :
						       GMEM_WINDOW_KIND_NONE,
		  e[0].window_kind);
	EXPECT_EQ(GMEM_EVENT_MEM_CREATED, e[1].type);
	EXPECT_EQ(ino, e[1].mem);
	EXPECT_EQ(GMEM_EVENT_MAP, e[2].type);
	EXPECT_EQ(id, e[2].vm);
	EXPECT_EQ(ino, e[2].mem);
	EXPECT_EQ(LEND | RWX, e[2].flags);
	EXPECT_EQ(GMEM_EVENT_LEND, e[3].type);
	EXPECT_EQ(GMEM_EVENT_RECLAIM, e[4].type);
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_TEARDOWN, e[4].cause);
	EXPECT_EQ(GMEM_EVENT_UNMAP, e[5].type);
	EXPECT_EQ(GMEM_EVENT_VM_DESTROYED, e[6].type);
	EXPECT_EQ(id, e[6].vm);
	EXPECT_EQ(GMEM_EVENT_MEM_DESTROYED, e[7].type);
	EXPECT_EQ(ino, e[7].mem);
}

/* Only the event of an object's creation has its name. */
TEST_F(events, names)
{
	struct listener *l = self->l;
	int vm, mem, i;

	drain(l);
	vm = new_vm_named("window", "0123456789abcdef0123456789abcde");
	mem = new_mem_named(PAGE, 0, "ram of \"vm 1\"");
	ASSERT_EQ(0, map_mem(vm, GPA, mem, 0, PAGE, LEND | RWX));
	close(vm);
	close(mem);
	close(new_vm("window", GMEM_POLICY_ALLOW));
	listener_sync(l);

	ASSERT_EQ(8, l->nr);
	EXPECT_EQ(GMEM_EVENT_VM_CREATED, l->events[0].type);
	EXPECT_STREQ("0123456789abcdef0123456789abcde", l->events[0].name);
	EXPECT_EQ(GMEM_EVENT_MEM_CREATED, l->events[1].type);
	EXPECT_STREQ("ram of \"vm 1\"", l->events[1].name);
	for (i = 2; i < l->nr; i++)
		EXPECT_STREQ("absent", l->events[i].name);
}

TEST_F(events, views)
{
	struct listener *l = self->l;
	struct event *e = l->events;
	int mem, view, other, i;
	__u64 ino, id, other_id;

	drain(l);
	mem = new_mem(8 * PAGE, 0);
	ino = mem_id(mem);
	view = new_view_named(mem, PAGE, 2 * PAGE, 0, "disk", &id);
	ASSERT_LE(0, view);
	other = new_view(mem, 0, 8 * PAGE, GMEM_VIEW_READ_ONLY, &other_id);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, revoke_view(mem, id, NULL));
	EXPECT_EQ(-ENOENT, revoke_view(mem, id, NULL));
	close(view);
	close(mem);
	close(other);
	listener_sync(l);

	ASSERT_EQ(7, l->nr);
	EXPECT_EQ(GMEM_EVENT_MEM_CREATED, e[0].type);
	EXPECT_EQ(GMEM_EVENT_VIEW_CREATED, e[1].type);
	EXPECT_EQ(id, e[1].view);
	EXPECT_STREQ("disk", e[1].name);
	EXPECT_TRUE(range_is(&e[1], 0, PAGE, 2 * PAGE));
	EXPECT_EQ(GMEM_EVENT_VIEW_CREATED, e[2].type);
	EXPECT_EQ(other_id, e[2].view);
	EXPECT_STREQ("absent", e[2].name);
	EXPECT_EQ(GMEM_EVENT_VIEW_REVOKED, e[3].type);
	EXPECT_EQ(id, e[3].view);
	EXPECT_TRUE(range_is(&e[3], 0, PAGE, 2 * PAGE));
	EXPECT_EQ(GMEM_EVENT_VIEW_DESTROYED, e[4].type);
	EXPECT_EQ(id, e[4].view);
	EXPECT_STREQ("absent", e[4].name);
	EXPECT_EQ(GMEM_EVENT_VIEW_DESTROYED, e[5].type);
	EXPECT_EQ(other_id, e[5].view);
	/* The guestmem's end comes after those of its views. */
	EXPECT_EQ(GMEM_EVENT_MEM_DESTROYED, e[6].type);
	for (i = 0; i < l->nr; i++) {
		EXPECT_EQ(ino, e[i].mem);
		EXPECT_EQ(0, e[i].vm);
		EXPECT_EQ(0, e[i].window);
	}
}

TEST_F(events, window_descriptors)
{
	struct listener *l = self->l;
	struct event *e = l->events;
	int window, vm, i;
	__u32 number;
	__u64 id;

	if (!is_live(variant->provider))
		SKIP(return, "no live windows");
	drain(l);
	vm = new_vm("live", GMEM_POLICY_ALLOW);
	number = vm_id(vm);
	window = new_window_named(vm, GPA, 4 * PAGE, 0, "for a VMM", &id);
	ASSERT_LE(0, window);
	close(vm);
	close(window);
	listener_sync(l);

	ASSERT_EQ(4, l->nr);
	EXPECT_EQ(GMEM_EVENT_VM_CREATED, e[0].type);
	EXPECT_EQ(GMEM_EVENT_WINDOW_CREATED, e[1].type);
	EXPECT_EQ(id, e[1].window);
	EXPECT_STREQ("for a VMM", e[1].name);
	EXPECT_TRUE(range_is(&e[1], GPA, 0, 4 * PAGE));
	EXPECT_EQ(GMEM_EVENT_WINDOW_DESTROYED, e[2].type);
	EXPECT_EQ(id, e[2].window);
	EXPECT_STREQ("absent", e[2].name);
	EXPECT_TRUE(range_is(&e[2], GPA, 0, 4 * PAGE));
	/* The VM's end comes after those of its descriptors. */
	EXPECT_EQ(GMEM_EVENT_VM_DESTROYED, e[3].type);
	for (i = 0; i < l->nr; i++) {
		EXPECT_EQ(number, e[i].vm);
		EXPECT_EQ(0, e[i].view);
	}
}

/* The guest gives pages back, by the holder of a window descriptor. */
TEST_F(events, discard)
{
	struct listener *l = self->l;
	struct event *e;
	int window;

	if (!is_live(variant->provider))
		SKIP(return, "no live windows");
	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 4 * PAGE, LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, 4 * PAGE, NULL));
	window = new_window(self->vm, GPA, 4 * PAGE, 0, NULL);
	ASSERT_LE(0, window);
	drain(l);
	ASSERT_EQ(0, err_of(fallocate(window, PUNCH, PAGE, 2 * PAGE)));
	listener_sync(l);
	e = only(l, GMEM_EVENT_RECLAIM);
	ASSERT_TRUE(range_is(e, GPA + PAGE, PAGE, 2 * PAGE));
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_DISCARD, e->cause);
	close(window);
}

TEST_F(events, map_unmap)
{
	struct listener *l = self->l;
	struct event *e;

	drain(l);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 8 * PAGE, 8 * PAGE,
			     SHARE | RX));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + 2 * PAGE, PAGE, NULL));
	listener_sync(l);

	e = only(l, GMEM_EVENT_MAP);
	ASSERT_TRUE(range_is(e, GPA, 8 * PAGE, 8 * PAGE));
	EXPECT_EQ(self->vm_id, e->vm);
	EXPECT_EQ(self->mem_id, e->mem);
	EXPECT_EQ(SHARE | RX, e->flags);
	e = only(l, GMEM_EVENT_UNMAP);
	ASSERT_TRUE(range_is(e, GPA + 2 * PAGE, 10 * PAGE, PAGE));
	EXPECT_EQ(SHARE | RX, e->flags);

	/* A failed call makes no event. */
	l->nr = 0;
	EXPECT_EQ(-EEXIST, map_mem(self->vm, GPA, self->mem, 0, PAGE,
				   LEND | RWX));
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 0, self->mem, 0, PAGE,
				     LEND | RWX));
	listener_sync(l);
	EXPECT_EQ(0, l->nr);
}

/* Pages in a row make one event, whether one call provides them or several. */
TEST_F(events, lend_reclaim)
{
	struct listener *l = self->l;
	struct event *e;
	__u8 *host;
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be reclaimed");
	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 32 * PAGE, LEND | RWX));
	drain(l);
	ASSERT_EQ(0, populate_range(self->vm, GPA, 32 * PAGE, NULL));
	listener_sync(l);
	for (i = 1; i < l->nr; i++) {
		EXPECT_EQ(l->events[i - 1].guest_addr + l->events[i - 1].length,
			  l->events[i].guest_addr);
		EXPECT_EQ(l->events[i - 1].seq + 1, l->events[i].seq);
	}
	/* The module may have sent some in between. */
	EXPECT_GE(16, l->nr);
	EXPECT_EQ(GMEM_EVENT_LEND, l->events[0].type);
	EXPECT_EQ(GPA, l->events[0].guest_addr);
	EXPECT_EQ(GPA + 32 * PAGE, l->events[l->nr - 1].guest_addr +
				   l->events[l->nr - 1].length);

	/* The page is lent already. */
	drain(l);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	listener_sync(l);
	EXPECT_EQ(0, l->nr);

	host = map_host(self->mem, 0, 32 * PAGE);
	EXPECT_EQ(1, peek(host));
	listener_sync(l);
	e = only(l, GMEM_EVENT_RECLAIM);
	ASSERT_TRUE(range_is(e, GPA, 0, PAGE));
	EXPECT_EQ(self->vm_id, e->vm);
	EXPECT_EQ(self->mem_id, e->mem);
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_HOST, e->cause);

	/* The guest takes the page, then the host. */
	drain(l);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	EXPECT_EQ(2, peek(host));
	listener_sync(l);
	ASSERT_EQ(2, l->nr);
	EXPECT_EQ(GMEM_EVENT_LEND, l->events[0].type);
	EXPECT_EQ(GMEM_EVENT_RECLAIM, l->events[1].type);
	munmap(host, 32 * PAGE);

	drain(l);
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 8 * PAGE, PAGE));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + 16 * PAGE, PAGE, NULL));
	listener_sync(l);
	ASSERT_EQ(3, l->nr);
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_PUNCH, l->events[0].cause);
	EXPECT_EQ(8 * PAGE, l->events[0].offset);
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_UNBIND, l->events[1].cause);
	EXPECT_EQ(16 * PAGE, l->events[1].offset);
	EXPECT_EQ(GMEM_EVENT_UNMAP, l->events[2].type);
}

TEST_F(events, huge)
{
	struct listener *l = self->l;
	int mem;

	if (!takes_huge(variant->provider))
		SKIP(return, NO_HUGE, variant->provider);
	mem = new_mem(2 * HUGE_PAGE, GMEM_MEM_ALLOW_HUGEPAGE);
	ASSERT_EQ(0, map_mem(self->vm, GPA, mem, 0, 2 * HUGE_PAGE, LEND | RWX));
	drain(l);
	ASSERT_EQ(0, guest_write(self->vm, GPA + HUGE_PAGE + PAGE, 1));
	listener_sync(l);
	EXPECT_TRUE(range_is(only(l, GMEM_EVENT_LEND), GPA + HUGE_PAGE,
			     HUGE_PAGE, HUGE_PAGE));
	close(mem);
}

TEST_F(events, share)
{
	struct listener *l = self->l;
	struct event *e;

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, PAGE, SHARE | RWX));
	drain(l);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 2));
	listener_sync(l);
	ASSERT_EQ(1, l->nr);
	e = only(l, GMEM_EVENT_SHARE);
	EXPECT_TRUE(range_is(e, GPA, 0, PAGE));
}

/* A change in place reports the pages that changed hands, then the bindings. */
TEST_F(events, change)
{
	struct listener *l = self->l;
	struct event *e = l->events;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: nothing of a running guest changes");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, 8 * PAGE,
			     LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, 6 * PAGE, NULL));
	drain(l);
	ASSERT_EQ(0, change_range(self->vm, GPA + PAGE, 7 * PAGE, SHARE | RX));
	listener_sync(l);
	ASSERT_EQ(2, l->nr);
	EXPECT_TRUE(range_is(only(l, GMEM_EVENT_SHARE), GPA + PAGE, PAGE,
			     5 * PAGE));
	EXPECT_TRUE(range_is(only(l, GMEM_EVENT_CHANGE), GPA + PAGE, PAGE,
			     7 * PAGE));
	EXPECT_EQ(SHARE | RX, only(l, GMEM_EVENT_CHANGE)->flags);
	drain(l);
	ASSERT_EQ(0, change_range(self->vm, GPA, 8 * PAGE, LEND));
	listener_sync(l);
	ASSERT_EQ(2, l->nr);
	EXPECT_EQ(GMEM_EVENT_LEND, e[0].type);
	EXPECT_TRUE(range_is(&e[0], GPA + PAGE, PAGE, 5 * PAGE));
	EXPECT_EQ(GMEM_EVENT_CHANGE, e[1].type);
	EXPECT_TRUE(range_is(&e[1], GPA + PAGE, PAGE, 7 * PAGE));
	EXPECT_EQ(LEND | RX, e[1].flags);
	drain(l);
	/* A change that fails reports nothing of a change. */
	EXPECT_EQ(-ENOENT, change_range(self->vm, GPA, 9 * PAGE, SHARE));
	listener_sync(l);
	EXPECT_EQ(0, l->nr);
}

TEST_F(events, reclaim_refused)
{
	struct listener *l = self->l;
	struct event *e;
	__u8 *host;

	host = map_host(self->mem, 0, PAGE);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, PAGE, LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, PAGE, NULL));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	drain(l);
	EXPECT_EQ(-SIGBUS, peek(host));
	EXPECT_EQ(-SIGBUS, peek(host));
	listener_sync(l);
	ASSERT_LE(1, l->nr);
	e = &l->events[0];
	EXPECT_EQ(GMEM_EVENT_RECLAIM_REFUSED, e->type);
	EXPECT_TRUE(range_is(e, GPA, 0, PAGE));
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_HOST, e->cause);
	EXPECT_EQ(EACCES, e->error);
	EXPECT_EQ(2, e->count + (l->nr > 1 ? l->events[1].count : 0));
	munmap(host, PAGE);
}

/* The holder of a pin keeps the page with the guest. */
TEST_F(events, reclaim_refused_for_a_pin)
{
	struct listener *l = self->l;
	struct event *e;
	__u8 *window;
	int fd[2];

	if (strcmp(variant->provider, "window"))
		SKIP(return, "only pages of a paged window can be pinned");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, PAGE, LEND | RWX));
	window = map_window(self->vm, GPA, PAGE, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 1));
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, window));
	drain(l);
	EXPECT_EQ(-EBUSY, reclaim_range(self->vm, GPA, PAGE, NULL));
	listener_sync(l);
	e = only(l, GMEM_EVENT_RECLAIM_REFUSED);
	EXPECT_TRUE(range_is(e, GPA, 0, PAGE));
	ASSERT_NE(NULL, e);
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_HOST, e->cause);
	EXPECT_EQ(EBUSY, e->error);
	pin_close(fd);
	munmap(window, PAGE);
}

/* A provider refuses to give a page back, and finally leaks it. */
TEST_F(events, leak)
{
	struct listener *l = self->l;
	struct event *e;

	if (!strcmp(variant->provider, "gunyah"))
		SKIP(return, "needs the mock; gunyah_memory_test covers Gunyah's leaks");
	/* The provider "window" refuses nothing, so use the mock. */
	close(self->vm);
	self->vm = new_vm("mock", GMEM_POLICY_ALLOW);
	self->vm_id = vm_id(self->vm);
	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 2 * PAGE, LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, PAGE, NULL));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 2));
	drain(l);
	EXPECT_EQ(-EIO, unmap_range(self->vm, GPA, PAGE, NULL));
	listener_sync(l);
	ASSERT_EQ(1, l->nr);
	e = only(l, GMEM_EVENT_RECLAIM_REFUSED);
	EXPECT_TRUE(range_is(e, GPA, 0, PAGE));
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_UNBIND, e->cause);
	EXPECT_EQ(EIO, e->error);

	l->nr = 0;
	close(self->vm);
	self->vm = -1;
	listener_sync(l);
	e = only(l, GMEM_EVENT_LEAK);
	EXPECT_TRUE(range_is(e, GPA, 0, PAGE));
	EXPECT_EQ(self->vm_id, e->vm);
	EXPECT_EQ(NULL, only(l, GMEM_EVENT_RECLAIM));
	e = only(l, GMEM_EVENT_RECLAIM_REFUSED);
	EXPECT_EQ(GMEM_RECLAIM_CAUSE_TEARDOWN, e->cause);
	EXPECT_NE(NULL, only(l, GMEM_EVENT_VM_DESTROYED));
}

TEST_F(events, refused)
{
	struct listener *l = self->l;
	struct event *e;
	__u64 count = 0;
	int i;

	if (!strcmp(variant->provider, "gunyah"))
		SKIP(return, "an unbound address is a device, whose accesses the VMM answers");
	drain(l);
	for (i = 0; i < 5; i++)
		EXPECT_EQ(-EFAULT, guest_write(self->vm, GPA + 3 * PAGE, 1));
	listener_sync(l);
	for (i = 0; i < l->nr; i++)
		count += l->events[i].count;
	EXPECT_EQ(5, count);
	e = &l->events[0];
	EXPECT_EQ(GMEM_EVENT_REFUSED, e->type);
	EXPECT_EQ(self->vm_id, e->vm);
	EXPECT_EQ(0, e->mem);
	EXPECT_EQ(GPA + 3 * PAGE, e->guest_addr);
	EXPECT_EQ(GMEM_ACCESS_WRITE, e->access);
	EXPECT_EQ(GMEM_FAULT_UNBOUND, e->reason);
}

TEST_F(events, hwpoison)
{
	struct listener *l = self->l;
	struct event *e;
	__u8 *host;

	host = map_host(self->mem, 0, 4 * PAGE);
	ASSERT_EQ(0, touch_write(host + PAGE, 1));
	drain(l);
	/* EBUSY is no failure: it means that the page is still in the file. */
	if (madvise(host + PAGE, PAGE, MADV_HWPOISON) && errno == EINVAL)
		SKIP(return, "the kernel has no memory failure");
	listener_sync(l);
	ASSERT_EQ(1, l->nr);
	e = only(l, GMEM_EVENT_HWPOISON);
	EXPECT_TRUE(range_is(e, 0, PAGE, PAGE));
	EXPECT_EQ(self->mem_id, e->mem);
	EXPECT_EQ(0, e->vm);
	munmap(host, 4 * PAGE);
}

/* ---- nothing is lost without a word ---- */

static int hold_events(int mock_vm, bool hold)
{
	struct gmem_test test = { .op = GMEM_TEST_HOLD_EVENTS, .nth = hold };

	return mock_call(mock_vm, &test);
}

/* Make @nr events, none of which can be merged with the previous event. */
static void make_events(int vm, int mem, int nr)
{
	int i;

	for (i = 0; i < nr; i += 2)
		if (map_mem(vm, GPA, mem, 0, PAGE, SHARE | RWX) ||
		    unmap_range(vm, GPA, PAGE, NULL))
			abort();
}

/*
 * For tests of the queue between module and listener: one provider is enough,
 * since none touches the queue.
 */
#define SKIP_FOR_GUNYAH()						\
	do {								\
		if (!strcmp(variant->provider, "gunyah"))		\
			SKIP(return, "the queue is tested with the other providers"); \
	} while (0)

/* The most events that the module queues while it can't send. */
#define CAPACITY 2048

TEST_F(events, overrun)
{
	struct listener *l = self->l;
	int rcvbuf = 1 << 24, extra = 500, mock, i;

	SKIP_FOR_GUNYAH();
	ASSERT_EQ(0, setsockopt(nl_socket_get_fd(l->client.sk), SOL_SOCKET,
				SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)));
	mock = new_vm("mock", GMEM_POLICY_ALLOW);
	drain(l);
	ASSERT_EQ(0, hold_events(mock, true));
	make_events(self->vm, self->mem, CAPACITY + extra);
	ASSERT_EQ(0, hold_events(mock, false));
	/*
	 * The overrun event gets room once some of the others have been sent.
	 */
	for (i = 0; i < 100 && l->nr <= CAPACITY; i++)
		listener_read(l, 100);

	EXPECT_FALSE(l->enobufs);
	ASSERT_EQ(CAPACITY + 1, l->nr);
	for (i = 1; i < l->nr; i++)
		ASSERT_EQ(l->events[i - 1].seq + 1, l->events[i].seq);
	for (i = 0; i < CAPACITY; i++)
		ASSERT_EQ(i % 2 ? GMEM_EVENT_UNMAP : GMEM_EVENT_MAP,
			  l->events[i].type);
	EXPECT_EQ(GMEM_EVENT_OVERRUN, l->events[CAPACITY].type);
	EXPECT_EQ(extra, l->events[CAPACITY].lost);

	/* After the overrun, events arrive as before. */
	l->nr = 0;
	make_events(self->vm, self->mem, 2);
	listener_sync(l);
	EXPECT_EQ(2, l->nr);
	EXPECT_EQ(l->events[0].seq + 1, l->events[1].seq);
	close(mock);
}

/* The module holds events back, so that neighbours can be merged. */
TEST_F(events, coalesce)
{
	struct listener *l = self->l;
	int mock, other, mem, i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: there are not as many as the test has pages");
	mock = new_vm("mock", GMEM_POLICY_ALLOW);
	other = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	mem = new_mem(64 * PAGE, 0);
	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 64 * PAGE, LEND | RWX));
	ASSERT_EQ(0, map_mem(other, 0, mem, 0, 64 * PAGE, LEND | RWX));
	drain(l);
	ASSERT_EQ(0, hold_events(mock, true));
	/* Two guests take turns. */
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(0,
			  populate_range(self->vm, GPA + i * PAGE, PAGE, NULL));
		ASSERT_EQ(0, populate_range(other, i * PAGE, PAGE, NULL));
	}
	ASSERT_EQ(0, hold_events(mock, false));
	listener_sync(l);
	ASSERT_EQ(2, l->nr);
	EXPECT_TRUE(range_is(&l->events[0], GPA, 0, 64 * PAGE));
	EXPECT_EQ(self->vm_id, l->events[0].vm);
	EXPECT_TRUE(range_is(&l->events[1], 0, 0, 64 * PAGE));

	/*
	 * Merging keeps the order: the host takes page 1 back between its two
	 * lends.
	 */
	l->nr = 0;
	ASSERT_EQ(0, reclaim_range(self->vm, GPA, 2 * PAGE, NULL));
	drain(l);
	ASSERT_EQ(0, hold_events(mock, true));
	ASSERT_EQ(0, populate_range(self->vm, GPA, PAGE, NULL));
	ASSERT_EQ(0, populate_range(self->vm, GPA + PAGE, PAGE, NULL));
	ASSERT_EQ(0, reclaim_range(self->vm, GPA + PAGE, PAGE, NULL));
	ASSERT_EQ(0, populate_range(self->vm, GPA + PAGE, PAGE, NULL));
	ASSERT_EQ(0, hold_events(mock, false));
	listener_sync(l);
	ASSERT_EQ(3, l->nr);
	EXPECT_EQ(GMEM_EVENT_LEND, l->events[0].type);
	EXPECT_EQ(2 * PAGE, l->events[0].length);
	EXPECT_EQ(GMEM_EVENT_RECLAIM, l->events[1].type);
	EXPECT_EQ(GMEM_EVENT_LEND, l->events[2].type);
	EXPECT_EQ(PAGE, l->events[2].length);
	close_guest(other);
	close(mem);
	close(mock);
}

/* A receiver that doesn't read gets ENOBUFS and a gap in the numbers. */
TEST_F(events, socket_full)
{
	struct listener *l = self->l, *keen = listener_open();
	int rcvbuf = 8192, i, gaps = 0;
	__u64 last;

	SKIP_FOR_GUNYAH();
	ASSERT_EQ(0, listener_join(keen));
	ASSERT_EQ(0, setsockopt(nl_socket_get_fd(l->client.sk), SOL_SOCKET,
				SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)));
	drain(l);
	drain(keen);
	/* A full socket doesn't affect another receiver. */
	for (i = 0; i < 20; i++) {
		make_events(self->vm, self->mem, 100);
		listener_sync(keen);
	}
	EXPECT_EQ(2000, keen->nr);
	EXPECT_FALSE(keen->enobufs);

	listener_read(l, QUIET_MS);
	EXPECT_TRUE(l->enobufs);
	ASSERT_LT(0, l->nr);
	EXPECT_GT(2000, l->nr);
	last = l->events[l->nr - 1].seq;
	make_events(self->vm, self->mem, 2);
	listener_sync(l);
	EXPECT_LT(last, l->events[l->nr - 1].seq);
	for (i = 1; i < l->nr; i++)
		gaps += l->events[i].seq != l->events[i - 1].seq + 1;
	EXPECT_LT(0, gaps);
	listener_close(keen);
}

/* Without a listener, the module counts, queues and sends nothing. */
TEST_F(events, no_listener)
{
	struct listener *l;
	__u64 seq;

	make_events(self->vm, self->mem, 2);
	listener_sync(self->l);
	seq = self->l->last_seq;
	client_close(&self->l->client);
	make_events(self->vm, self->mem, 100);
	usleep(QUIET_MS * 1000);

	l = listener_open();
	ASSERT_EQ(0, listener_join(l));
	make_events(self->vm, self->mem, 2);
	listener_sync(l);
	ASSERT_EQ(2, l->nr);
	EXPECT_EQ(seq + 1, l->events[0].seq);
	free(self->l);
	self->l = l;
}

/* ---- the module goes and comes while somebody listens ---- */

TEST(unload)
{
	struct listener *l = listener_open();
	struct client c;
	int module, fd;

	ASSERT_EQ(0, listener_join(l));
	module = open("gmem.ko", O_RDONLY | O_CLOEXEC);
	if (module < 0)
		SKIP(return, "no gmem.ko here");
	ASSERT_EQ(0, syscall(SYS_delete_module, "gmem", O_NONBLOCK));
	EXPECT_NE(0, access("/sys/kernel/debug/gmem", F_OK));
	EXPECT_NE(0, access("/sys/kernel/tracing/events/gmem", F_OK));
	EXPECT_EQ(-ENOENT, client_open(&c));
	client_close(&c);
	/* The family's old number is unknown now. */
	EXPECT_NE(0, request_do(&l->client, GMEM_CMD_STATS_GET, NULL, NULL));
	ASSERT_EQ(0, syscall(SYS_finit_module, module, "", 0));
	close(module);
	listener_close(l);

	l = listener_open();
	ASSERT_EQ(0, listener_join(l));
	fd = new_mem(PAGE, 0);
	EXPECT_LE(0, fd);
	/* Restore the parameter that the tests expect. */
	if (have_provider("gunyah"))
		EXPECT_EQ(0, gunyah_allow_mapped(true));
	listener_sync(l);
	ASSERT_EQ(1, l->nr);
	EXPECT_EQ(GMEM_EVENT_MEM_CREATED, l->events[0].type);
	EXPECT_EQ(1, l->events[0].seq);
	close(fd);
	listener_close(l);
}

TEST_HARNESS_MAIN
