// SPDX-License-Identifier: GPL-2.0-only
/*
 * Let the n-th allocation of a call fail, for n = 1, 2, 3 ... until the call
 * succeeds without a failed allocation. A failed call has changed nothing.
 *
 * Needs CONFIG_FAULT_INJECTION with FAILSLAB or FAIL_PAGE_ALLOC, and debugfs.
 */
#include "lib/fail_nth.h"
#include "lib/fixture.h"
#include "lib/pin.h"
#include "lib/view.h"
#include "lib/window_desc.h"

#define UNITS 4
#define GPA GIB(1)
#define MAX_NTH 20000

FIXTURE(fail_nth)
{
	struct gmem_stats before;
	const char *provider;
	__u64 mem_flags;
	__u64 unit;
	__u64 size;
	int vm;
	int mem;
	__u8 *host;
	/* /proc/thread-self/fail-nth */
	int nth_fd;
	/* A paged window, and the pipe that pins a page of it. */
	__u8 *window;
	int pipe[2];
};

FIXTURE_VARIANT(fail_nth)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(fail_nth);

FIXTURE_SETUP(fail_nth)
{
	self->nth_fd = fail_nth_open();
	if (self->nth_fd < 0)
		SKIP(return, "no CONFIG_FAULT_INJECTION");
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
	/* Each access gets a mapping of its own, with new page tables. */
	close_live_slot(self->vm);
	self->provider = variant->provider;
	self->mem_flags = variant->mem_flags;
}

FIXTURE_TEARDOWN(fail_nth)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

typedef FIXTURE_DATA(fail_nth) data_t;

/* The state that a call could change. */
struct state {
	struct gmem_stats stats;
	struct gmem_mem_query pages;
	struct gmem_binding_info b[8];
	int nr;
};

static void get_state(const data_t *self, struct state *s)
{
	memset(s, 0, sizeof(*s));
	get_stats(&s->stats);
	query_mem(self->mem, 0, self->size, &s->pages);
	s->nr = query_vm(self->vm, s->b, 8);
	/* These count attempts. */
	s->stats.refused = 0;
	s->stats.lends = 0;
	s->stats.reclaims = 0;
}

static void arm(const data_t *self, int nth)
{
	fail_nth_arm(self->nth_fd, nth);
}

static bool disarm(const data_t *self)
{
	return fail_nth_disarm(self->nth_fd);
}

/*
 * One sweep: run @prepare, then @act with the fault armed. @act returns a
 * number >= 0 or an error. Then @undo reverts it, given that result.
 */
struct sweep {
	int (*prepare)(const data_t *self);
	int (*act)(const data_t *self);
	void (*undo)(const data_t *self, int result);
	/* May a failure leave more pages allocated or provided than before? */
	bool pages_may_stay;
};

static void sweep(struct __test_metadata *_metadata, const data_t *self,
		  const struct sweep *s)
{
	struct state before, after;
	const int part = scaled(8) == 8 ? 8 : 2;
	int nth, ret, failures = 0;
	bool injected = true;

	/* The mock allocates something for each small page of a huge one. */
	for (nth = 1; injected && nth < MAX_NTH;
	     nth += self->unit > PAGE ? 1 + nth / part : 1) {
		ASSERT_LE(0, s->prepare ? s->prepare(self) : 0);
		get_state(self, &before);
		arm(self, nth);
		ret = s->act(self);
		injected = disarm(self);
		if (ret < 0) {
			failures++;
			/* A call fails only by the injected fault. */
			ASSERT_TRUE(injected) {
				TH_LOG("nth %d: %d", nth, ret);
			}
			ASSERT_TRUE(ret == -ENOMEM || ret == -EFAULT ||
				    ret == -SIGBUS || ret == -EIO) {
				TH_LOG("nth %d: %d", nth, ret);
			}
			get_state(self, &after);
			if (s->pages_may_stay) {
				after.pages = before.pages;
				after.stats.lent_pages =
					before.stats.lent_pages;
			}
			ASSERT_EQ(0, memcmp(&before, &after, sizeof(before))) {
				TH_LOG("nth %d: failed with %d and changed something",
				       nth, ret);
			}
			/* The next try succeeds. */
			ret = s->act(self);
			ASSERT_LE(0, ret);
		}
		if (s->undo)
			s->undo(self, ret);
	}
	ASSERT_GT(MAX_NTH, nth);
	/*
	 * Every path here allocates memory; the variants with small pages prove
	 * that.
	 */
	if (self->unit == PAGE)
		EXPECT_LT(0, failures) {
			TH_LOG("%d faults injected, none made a call fail",
			       nth - 2);
		}
}

static int bind_all(const data_t *self)
{
	return map_mem(self->vm, GPA, self->mem, 0, self->size, LEND | RWX);
}

static void unbind_all(const data_t *self, int result)
{
	(void)result;
	unmap_range(self->vm, GPA, self->size, NULL);
	mem_alloc(self->mem, PUNCH, 0, self->size);
}

static int bind_populate(const data_t *self)
{
	int ret = bind_all(self);

	return ret ? ret : populate_range(self->vm, GPA, self->size, NULL);
}

static void close_it(const data_t *self, int fd)
{
	(void)self;
	close(fd);
}

static int act_new_vm(const data_t *self)
{
	return new_vm(self->provider, GMEM_POLICY_ALLOW);
}

static int act_new_mem(const data_t *self)
{
	return new_mem(self->size, self->mem_flags);
}

TEST_F(fail_nth, create)
{
	sweep(_metadata, self, &(struct sweep){ .act = act_new_vm,
						.undo = close_it });
	sweep(_metadata, self, &(struct sweep){ .act = act_new_mem,
						.undo = close_it });
}

static int prepare_map(const data_t *self)
{
	(void)self;
	return 0;
}

/* B4: a failing allocation in a map or a trim lost the binding. */
TEST_F(fail_nth, b04_map)
{
	sweep(_metadata, self, &(struct sweep){ .prepare = prepare_map,
						.act = bind_all,
						.undo = unbind_all });
}

static int act_trim(const data_t *self)
{
	return unmap_range(self->vm, GPA + self->unit, 2 * self->unit, NULL);
}

static int act_cut(const data_t *self)
{
	return unmap_mem(self->vm, GPA + self->unit, self->mem, self->unit,
			 self->unit, LEND | RWX);
}

static int act_unmap(const data_t *self)
{
	return unmap_range(self->vm, GPA, self->size, NULL);
}

TEST_F(fail_nth, b04_unmap)
{
	/*
	 * The guest gets pages that came back before the failure at its next
	 * access.
	 */
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_populate,
						.act = act_trim,
						.undo = unbind_all });
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_all,
						.act = act_cut,
						.undo = unbind_all });
}

/* Two bindings of the file, of which the change cuts both. */
static int bind_shared(const data_t *self)
{
	int ret = map_mem(self->vm, GPA, self->mem, 0, 2 * self->unit,
			  SHARE | RWX);

	if (!ret)
		ret = map_mem(self->vm, GPA + 2 * self->unit, self->mem,
			      2 * self->unit, 2 * self->unit,
			      SHARE | RX);
	return ret ? ret : populate_range(self->vm, GPA, self->size, NULL);
}

static int act_lend(const data_t *self)
{
	return change_range(self->vm, GPA + self->unit, 2 * self->unit, LEND);
}

static int act_open(const data_t *self)
{
	return change_range(self->vm, GPA + self->unit, self->unit, SHARE);
}

static int map_first(const data_t *self)
{
	return new_map(self->vm, GPA, self->mem, 0, self->unit, LEND | RWX, 0);
}

static int act_join(const data_t *self)
{
	return new_map(self->vm, GPA + self->unit, self->mem, self->unit,
		       self->unit, LEND | RWX | GMEM_MAP_JOIN, 0);
}

TEST_F(fail_nth, change_and_join)
{
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_shared,
						.act = act_lend,
						.undo = unbind_all });
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_populate,
						.act = act_open,
						.undo = unbind_all });
	sweep(_metadata, self, &(struct sweep){ .prepare = map_first,
						.act = act_join,
						.undo = unbind_all });
}

/* Bind, and pin two lent pages. */
static int bind_and_pin(const data_t *self)
{
	int ret = bind_all(self);
	__u64 at;

	for (at = 0; !ret && at < self->size; at += self->unit)
		ret = -touch_write(self->window + at, 1);
	if (!ret)
		ret = pin(self->pipe, PIN_SPLICE, self->window + self->unit);
	if (!ret)
		ret = pin(self->pipe, PIN_SPLICE,
			  self->window + 2 * self->unit);
	return ret;
}

static void unpin_and_unbind(const data_t *self, int result)
{
	int byte;

	unpin(self->pipe, PIN_SPLICE, &byte);
	unpin(self->pipe, PIN_SPLICE, &byte);
	unbind_all(self, result);
}

/* Each pinned page needs another one in its place. */
TEST_F(fail_nth, unmap_pinned)
{
	if (!has_window(self->provider) || is_live(self->provider))
		SKIP(return, "only pages of paged windows can be pinned");
	ASSERT_EQ(0, pipe(self->pipe));
	ASSERT_EQ(0, bind_all(self));
	self->window = map_window(self->vm, GPA, self->size,
				  PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->window);
	unbind_all(self, 0);
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_and_pin,
						.act = act_unmap,
						.undo = unpin_and_unbind });
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_and_pin,
						.act = act_trim,
						.undo = unpin_and_unbind });
	munmap(self->window, self->size);
	close(self->pipe[0]);
	close(self->pipe[1]);
}

/* At the end of a VM, a page without one in its place leaves a hole. */
TEST_F(fail_nth, end_with_pinned_pages)
{
	bool injected = true;
	int nth, vm, byte, holes = 0;
	const __u64 u = self->unit;
	__u8 *window;

	if (!has_window(self->provider) || is_live(self->provider))
		SKIP(return, "only pages of paged windows can be pinned");
	ASSERT_EQ(0, pipe(self->pipe));
	for (nth = 1; injected && nth < MAX_NTH; nth++) {
		vm = new_vm(self->provider, GMEM_POLICY_ALLOW);
		ASSERT_LE(0, vm);
		ASSERT_EQ(0, map_mem(vm, GPA, self->mem, 0, self->size,
				     LEND | RWX));
		window = map_window(vm, GPA, self->size,
				    PROT_READ | PROT_WRITE);
		ASSERT_NE(MAP_FAILED, window);
		close(vm);
		ASSERT_EQ(0, touch_write(window, 1));
		ASSERT_EQ(0, touch_write(window + u, 2));
		ASSERT_EQ(0, pin(self->pipe, PIN_SPLICE, window + u));

		/* The window is the last that holds the VM. */
		arm(self, nth);
		if (munmap(window, self->size))
			injected = disarm(self) && !munmap(window, self->size);
		else
			injected = disarm(self);
		EXPECT_EQ(1, peek(self->host));
		holes += page_state(self->mem, u) == 'a';
		EXPECT_EQ(page_state(self->mem, u) == 'a' ? 0 : 2,
			  peek(self->host + u));

		/* The holder of the pin doesn't see what comes later. */
		ASSERT_EQ(0, touch_write(self->host + u, 3));
		ASSERT_EQ(0, unpin(self->pipe, PIN_SPLICE, &byte));
		EXPECT_EQ(2, byte);
		ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size));
	}
	EXPECT_LT(0, holes);
	close(self->pipe[0]);
	close(self->pipe[1]);
}

static int act_populate(const data_t *self)
{
	return populate_range(self->vm, GPA, self->size, NULL);
}

static int act_allocate(const data_t *self)
{
	return mem_alloc(self->mem, 0, 0, self->size);
}

static int act_punch(const data_t *self)
{
	return mem_alloc(self->mem, PUNCH, 0, self->size);
}

TEST_F(fail_nth, populate_and_allocate)
{
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_all,
						.act = act_populate,
						.undo = unbind_all,
						.pages_may_stay = true });
	/* fallocate() is all or nothing. */
	sweep(_metadata, self, &(struct sweep){ .act = act_allocate,
						.undo = unbind_all });
}

static int act_host(const data_t *self)
{
	return -touch_write(self->host, 1);
}

static int act_guest(const data_t *self)
{
	return guest_write(self->vm, GPA, 1);
}

TEST_F(fail_nth, faults)
{
	/* A page that was allocated, but not mapped or provided, may stay. */
	sweep(_metadata, self, &(struct sweep){ .act = act_host,
						.undo = unbind_all,
						.pages_may_stay = true });
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_all,
						.act = act_guest,
						.undo = unbind_all,
						.pages_may_stay = true });
}

static int act_window(const data_t *self)
{
	__u8 *window = map_window(self->vm, GPA, self->size, PROT_READ);

	if (window == MAP_FAILED)
		return -errno;
	munmap(window, self->size);
	return 0;
}

static int act_query(const data_t *self)
{
	struct gmem_binding_info b[2];

	return query_vm(self->vm, b, 2);
}

static int act_get_faults(const data_t *self)
{
	struct gmem_fault_info f[2];

	return get_faults(self->vm, 0, f, 2, NULL);
}

static int act_get_runs(const data_t *self)
{
	struct gmem_mem_run runs[2];

	return get_runs(self->mem, 0, self->size, runs, 2, NULL);
}

TEST_F(fail_nth, queries_and_windows)
{
	sweep(_metadata, self, &(struct sweep){ .prepare = bind_all,
						.act = act_query,
						.undo = unbind_all });
	sweep(_metadata, self, &(struct sweep){ .act = act_get_faults });
	sweep(_metadata, self, &(struct sweep){ .act = act_get_runs });
	if (has_window(self->provider))
		sweep(_metadata, self, &(struct sweep){ .prepare = bind_all,
							.act = act_window,
							.undo = unbind_all });
}

static int act_view(const data_t *self)
{
	return new_view(self->mem, 0, self->size, 0, NULL);
}

static int act_map_view(const data_t *self)
{
	int view = act_view(self), ret = 0;
	__u8 *map;

	if (view < 0)
		return view;
	map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, view, 0);
	if (map == MAP_FAILED)
		ret = -errno;
	else
		munmap(map, self->size);
	close(view);
	return ret;
}

TEST_F(fail_nth, views)
{
	__u64 id;
	int view, nth;

	sweep(_metadata, self, &(struct sweep){ .act = act_view,
						.undo = close_it });
	sweep(_metadata, self, &(struct sweep){ .act = act_map_view });
	/* Revocation never fails. */
	for (nth = 1; nth < 20; nth++) {
		view = new_view(self->mem, 0, self->size, 0, &id);
		ASSERT_LE(0, view);
		arm(self, nth);
		ASSERT_EQ(0, revoke_view(self->mem, id, NULL));
		disarm(self);
		close(view);
	}
}

static int act_window_desc(const data_t *self)
{
	return new_window(self->vm, GPA, self->size, 0, NULL);
}

static int act_map_window_desc(const data_t *self)
{
	int window = act_window_desc(self), ret = 0;
	__u8 *map;

	if (window < 0)
		return window;
	map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, window, 0);
	if (map == MAP_FAILED)
		ret = -errno;
	else
		munmap(map, self->size);
	close(window);
	return ret;
}

/* A discard allocates no memory, so it is in no sweep. */
TEST_F(fail_nth, window_descriptors)
{
	if (strcmp(self->provider, "live"))
		SKIP(return, "only a live VM has window descriptors");
	sweep(_metadata, self, &(struct sweep){ .act = act_window_desc,
						.undo = close_it });
	sweep(_metadata, self, &(struct sweep){ .act = act_map_window_desc });
}

/* These calls may fail only by an injected fault. */
TEST_F(fail_nth, punch_unmap_and_close)
{
	int nth, ret;
	bool injected;

	for (nth = 1; nth < 20; nth++) {
		ASSERT_EQ(0, bind_populate(self));
		arm(self, nth);
		ret = act_punch(self);
		injected = disarm(self);
		ASSERT_TRUE(!ret || (injected && ret == -ENOMEM));
		arm(self, nth);
		ret = act_unmap(self);
		injected = disarm(self);
		ASSERT_TRUE(!ret || (injected && ret == -ENOMEM));
		unbind_all(self, 0);
	}
	/* The end of a VM never fails. */
	for (nth = 1; nth < 20; nth++) {
		int vm = new_vm(self->provider, GMEM_POLICY_SCRUB);

		ASSERT_EQ(0,
			  map_mem(vm, 0, self->mem, 0, self->size, LEND | RWX));
		ASSERT_EQ(0, populate_range(vm, 0, self->size, NULL));
		arm(self, nth);
		close(vm);
		disarm(self);
		EXPECT_EQ('h', page_state(self->mem, 0));
	}
}

TEST_HARNESS_MAIN
