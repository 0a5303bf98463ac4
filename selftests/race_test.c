// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls and accesses race, for GMEM_RACE_SECONDS each. The kernel's own checks
 * (lockdep, KASAN) and the teardown, which finds leftovers, report errors.
 *
 * B8 (map without the bindings lock), B12 (fault against unmap of the same
 * page), B13 (punch against fault; hwpoison is in hwpoison_test.c) and B14 (the
 * end of a VM against faults and maps on the same file).
 */
#include "lib/fixture.h"
#include "lib/random.h"

#include <pthread.h>

#define UNITS 8
#define GPA GIB(1)
#define NR_VMS 2

struct arena {
	const char *provider;
	__u64 unit;
	__u64 size;
	int mem;
	/* A thread may replace these while others use them. */
	int vm[NR_VMS];
	__u8 *host;
	/* The guests keep their pages, see has_parcels(). */
	bool parcels;
	volatile bool stop;
	/* The number of results that no race explains. */
	volatile int wrong;
	volatile unsigned long rounds;
};

FIXTURE(race)
{
	struct gmem_stats before;
	struct arena arena;
};

FIXTURE_VARIANT(race)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(race);

FIXTURE_SETUP(race)
{
	struct arena *a = &self->arena;
	int i;

	SKIP_UNLESS_POSSIBLE(variant);
	SETUP_STATS();
	a->provider = variant->provider;
	a->unit = variant->mem_flags & GMEM_MEM_ALLOW_HUGEPAGE ? HUGE_PAGE :
								 PAGE;
	a->size = UNITS * a->unit;
	a->mem = new_mem(a->size, variant->mem_flags);
	ASSERT_LE(0, a->mem);
	for (i = 0; i < NR_VMS; i++) {
		a->vm[i] = new_guest(a->provider, GMEM_POLICY_ALLOW);
		ASSERT_LE(0, a->vm[i]);
	}
	a->parcels = has_parcels(a->vm[0]);
	a->host = map_host(a->mem, 0, a->size);
	ASSERT_NE(MAP_FAILED, a->host);
}

FIXTURE_TEARDOWN(race)
{
	int i;

	EXPECT_EQ(0, self->arena.wrong);
	munmap(self->arena.host, self->arena.size);
	for (i = 0; i < NR_VMS; i++)
		close_guest(self->arena.vm[i]);
	close(self->arena.mem);
	TEARDOWN_STATS();
}

/* A result is wrong if it is an error that isn't in the list. */
static void expect(struct arena *a, const char *what, int ret,
		   const int *errors)
{
	if (ret >= 0 || (ret == -EBUSY && a->parcels))
		return;
	for (; *errors; errors++)
		if (ret == *errors)
			return;
	if (!__sync_fetch_and_add(&a->wrong, 1))
		printf("# %s: %d\n", what, ret);
}

#define EXPECT_ANY(what, call, ...)					\
	expect(a, what, call, (const int[]){ __VA_ARGS__, 0 })

#define THREAD(name, ...)						\
	static void *name(void *arg)					\
	{								\
		struct arena *a = arg;					\
		__u64 state = ptr_u64(&state) ^ time(NULL);		\
									\
		while (!a->stop) {					\
			__u64 at = roll(&state, UNITS) * a->unit;	\
			__u64 size = (1 + roll(&state, UNITS)) * a->unit; \
			int vm = a->vm[roll(&state, NR_VMS)];		\
									\
			(void)at;					\
			(void)size;					\
			(void)vm;					\
			__VA_ARGS__					\
			__sync_fetch_and_add(&a->rounds, 1);		\
		}							\
		return NULL;						\
	}

/*
 * A thread that uses a closed VM gets EBADF or, once the number is another
 * file, ENOTTY or ENODEV.
 */
#define GONE -EBADF, -ENOTTY, -ENODEV

THREAD(do_map, {
	EXPECT_ANY("map", map_mem(vm, GPA + roll(&state, UNITS) * a->unit, a->mem,
				  at, a->unit, (roll(&state, 2) ? LEND : SHARE) |
				  RWX), -EEXIST, GONE);
})

THREAD(do_unmap, {
	EXPECT_ANY("unmap", unmap_range(vm, GPA + at, size, NULL), GONE);
})

THREAD(do_unmap_exact, {
	EXPECT_ANY("unmap", unmap_mem(vm, GPA + at, a->mem, at, a->unit,
				      LEND | RWX), -ENOENT, GONE);
})

THREAD(do_guest, {
	EXPECT_ANY("guest read", guest_read(vm, GPA + at), -EFAULT, GONE);
	EXPECT_ANY("guest write", guest_write(vm, GPA + at, 1), -EFAULT, GONE);
	EXPECT_ANY("guest touch", guest_touch(vm, GPA, UNITS, a->unit), -EFAULT,
		   GONE);
})

THREAD(do_host, {
	volatile __u8 *p = a->host + at + roll(&state, a->unit);

	if (roll(&state, 2))
		touch_write(p, 1);
	else
		touch_read(p);
})

THREAD(do_punch, {
	if (at + size > a->size)
		size = a->size - at;
	EXPECT_ANY("punch", mem_alloc(a->mem, PUNCH, at, size), -EACCES);
})

THREAD(do_allocate, {
	EXPECT_ANY("allocate", mem_alloc(a->mem, 0, at, a->unit), -EINTR);
})

THREAD(do_reclaim, {
	/* Busy: the host has just touched a page, too. */
	EXPECT_ANY("reclaim", reclaim_range(vm, GPA + at, size, NULL), -EACCES,
		   -EBUSY, GONE);
})

THREAD(do_populate, {
	EXPECT_ANY("populate", populate_range(vm, GPA + at, size, NULL), -ENOENT,
		   -EBUSY, GONE);
})

THREAD(do_policy, {
	EXPECT_ANY("policy", set_policy(vm, roll(&state, 3)), GONE);
	usleep(1000);
})

THREAD(do_query, {
	struct gmem_binding_info b[4];
	struct gmem_fault_info f[4];
	struct gmem_mem_query q;

	EXPECT_ANY("query", query_guest(vm, b, 4), GONE);
	EXPECT_ANY("faults", get_faults(vm, 0, f, 4, NULL), GONE);
	EXPECT_ANY("mem query", query_mem(a->mem, 0, a->size, &q), -EBADF);
	if (q.absent + q.host + q.lent + q.shared + q.leaked != a->size / PAGE)
		EXPECT_ANY("sum of pages", -1, 1);
})

THREAD(do_mmap, {
	bool host = roll(&state, 2);
	__u64 length = host ? a->unit : size;
	__u8 *p = host ? map_host(a->mem, at, length) :
			 map_window(vm, GPA + at, length, PROT_READ | PROT_WRITE);

	if (p != MAP_FAILED) {
		touch_write(p, 1);
		touch_read(p + length - 1);
		munmap(p, length);
	}
})

/* A window that several accesses use. */
THREAD(do_window, {
	__u8 *p = map_window(vm, GPA + at, a->unit, PROT_READ | PROT_WRITE);
	int i;

	if (p == MAP_FAILED) {
		/* Without windows, leave the CPUs to the other threads. */
		usleep(1000);
		continue;
	}
	for (i = 0; i < 20; i++)
		touch_write(p + roll(&state, a->unit), 1);
	munmap(p, a->unit);
})

/* The only binding of a VM comes and goes: its tree of bindings is empty in between. */
THREAD(do_blink, {
	EXPECT_ANY("map", map_mem(a->vm[0], GPA, a->mem, 0, a->unit, SHARE | RWX),
		   0);
	EXPECT_ANY("unmap", unmap_range(a->vm[0], GPA, a->unit, NULL), 0);
})

/* Look for bindings from an address on at which there are none. */
THREAD(do_mmap_before, {
	__u8 *p = map_window(a->vm[0], GPA - a->unit, a->unit, PROT_READ);

	if (p != MAP_FAILED)
		munmap(p, a->unit);
	else
		usleep(1000);
})

/* End a VM, and create another one with the same descriptor number. */
THREAD(do_restart, {
	EXPECT_ANY("new VM", renew_guest(vm, a->provider, GMEM_POLICY_ALLOW),
		   -ENOMEM);
	usleep(2000);
})

#define RACE(...)							\
	run(_metadata, &self->arena, (void *(*[])(void *)){ __VA_ARGS__, NULL })

static void run(struct __test_metadata *_metadata, struct arena *a,
		void *(**threads)(void *))
{
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	pthread_t ids[32];
	int i, nr;

	for (nr = 0; threads[nr]; nr++)
		ASSERT_EQ(0, pthread_create(&ids[nr], NULL, threads[nr], a));
	while (now() < end && !a->wrong)
		usleep(50000);
	a->stop = true;
	for (i = 0; i < nr; i++)
		pthread_join(ids[i], NULL);
	EXPECT_LT(nr, a->rounds);
}

/* B8 */
TEST_F(race, b08_map_map_unmap)
{
	RACE(do_map, do_map, do_unmap, do_unmap_exact, do_query);
}

/* B12 */
TEST_F(race, b12_fault_unmap)
{
	RACE(do_map, do_unmap, do_guest, do_host, do_window);
}

/* B13 */
TEST_F(race, b13_fault_punch)
{
	RACE(do_map, do_punch, do_guest, do_host, do_allocate, do_reclaim);
}

/* B14 */
TEST_F(race, b14_fault_map_teardown)
{
	RACE(do_map, do_guest, do_host, do_restart, do_restart, do_window);
}

/* mmap() of a paged window looks for bindings without a lock. */
TEST_F(race, mmap_beside_the_only_binding)
{
	RACE(do_blink, do_mmap_before, do_mmap_before);
}

TEST_F(race, all)
{
	RACE(do_map, do_map, do_unmap, do_unmap_exact, do_guest, do_guest,
	     do_host, do_host, do_punch, do_allocate, do_reclaim, do_populate,
	     do_policy, do_query, do_mmap, do_window, do_restart);
}

/*
 * Host and guest take turns to raise a counter: no increment is lost while the
 * page changes hands, and neither side reads an old value.
 */
struct turns {
	struct arena *a;
	volatile __u64 *page;
	int vm;
	__u64 mine;
	volatile __u64 *turn;
	__u64 parity;
};

static int get_counter(struct turns *t, __u64 *value)
{
	if (t->page)
		return touch_copy(value, t->page, sizeof(*value));
	return guest_access(t->vm, GPA, GMEM_ACCESS_READ, value,
			    sizeof(*value));
}

static int put_counter(struct turns *t, __u64 value)
{
	if (t->page)
		return touch_copy(t->page, &value, sizeof(value));
	return guest_access(t->vm, GPA, GMEM_ACCESS_WRITE, &value,
			    sizeof(value));
}

static void *take_turns(void *arg)
{
	struct turns *t = arg;
	__u64 value;

	while (!t->a->stop) {
		if (*t->turn % 2 != t->parity)
			continue;
		if (get_counter(t, &value) || value != *t->turn ||
		    put_counter(t, value + 1)) {
			t->a->wrong++;
			break;
		}
		__sync_fetch_and_add(t->turn, 1);
	}
	return NULL;
}

TEST_F(race, ping_pong)
{
	struct arena *a = &self->arena;
	volatile __u64 turn = 0;
	struct turns host = { .a = a, .page = (void *)a->host, .turn = &turn };
	struct turns guest = {
		.a = a, .vm = a->vm[0], .turn = &turn, .parity = 1
	};
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3) / 2;
	double limit = now() + 60;
	pthread_t ids[3];

	if (a->parcels)
		SKIP(return, "parcels: the page doesn't come back to the host");
	ASSERT_EQ(0, map_mem(a->vm[0], GPA, a->mem, 0, a->unit, LEND | RWX));
	ASSERT_EQ(0, pthread_create(&ids[0], NULL, take_turns, &host));
	ASSERT_EQ(0, pthread_create(&ids[1], NULL, take_turns, &guest));
	ASSERT_EQ(0, pthread_create(&ids[2], NULL, do_reclaim, a));
	/* Huge pages are slow on a debug kernel. */
	while ((now() < end || (turn <= 10 && now() < limit)) && !a->wrong)
		usleep(50000);
	a->stop = true;
	pthread_join(ids[0], NULL);
	pthread_join(ids[1], NULL);
	pthread_join(ids[2], NULL);
	EXPECT_LT(10, turn);
}

/*
 * Faults that wait between two looks: a mock VM makes them slow. Only these
 * providers find a binding without a lock.
 */
static int slow_faults(struct __test_metadata *_metadata, __u32 point, __u32 ms)
{
	int knob = new_vm("mock", GMEM_POLICY_ALLOW);

	ASSERT_LE(0, knob);
	ASSERT_EQ(0, mock_slow_fault(knob, point, ms));
	return knob;
}

static void fast_faults(struct __test_metadata *_metadata, int knob)
{
	EXPECT_EQ(0, mock_slow_fault(knob, GMEM_TEST_FAULT_FOUND, 0));
	EXPECT_EQ(0, mock_slow_fault(knob, GMEM_TEST_FAULT_HELD, 0));
	close(knob);
}

#define SKIP_UNLESS_FOUND_WITHOUT_LOCK(a)				\
	do {								\
		if (!strcmp((a)->provider, "window"))			\
			SKIP(return, "a paged window knows its guestmem"); \
		if ((a)->parcels)					\
			SKIP(return, "parcels: the guest keeps its pages"); \
	} while (0)

/*
 * Bind a guestmem whose only file is the binding's, and unbind it. The kernel
 * reuses the memory of the file at once: an open() of a long path has a file
 * without an inode nearly all the time.
 */
static void *bind_unbind_open(void *arg)
{
	static char path[PATH_MAX];
	struct arena *a = arg;
	size_t i;
	int mem;

	for (i = 0; i + 8 < sizeof(path); i += 2)
		memcpy(path + i, "./", 2);
	memcpy(path + i, "none", 5);
	while (!a->stop) {
		__u64 flags = a->unit == PAGE ? 0 : GMEM_MEM_ALLOW_HUGEPAGE;

		mem = new_mem(a->unit, flags);
		if (mem < 0)
			continue;
		expect(a, "map", map_mem(a->vm[0], GPA, mem, 0, a->unit,
					 LEND | RWX), (const int[]){ 0 });
		close(mem);
		usleep(1000);
		expect(a, "unmap", unmap_range(a->vm[0], GPA, a->unit, NULL),
		       (const int[]){ 0 });
		for (i = 0; i < 4; i++)
			close(open(path, O_RDONLY | O_CLOEXEC));
		__sync_fetch_and_add(&a->rounds, 1);
	}
	return NULL;
}

static void *read_as_guest(void *arg)
{
	struct arena *a = arg;

	while (!a->stop) {
		expect(a, "guest read", guest_read(a->vm[0], GPA),
		       (const int[]){ -EFAULT, 0 });
		__sync_fetch_and_add(&a->rounds, 1);
	}
	return NULL;
}

/*
 * A fault finds a binding, whose unmap drops the last reference to its file; by
 * the time the fault takes a reference, the memory is another file.
 */
TEST_F(race, recycled_file)
{
	struct arena *a = &self->arena;
	int knob;

	SKIP_UNLESS_FOUND_WITHOUT_LOCK(a);
	knob = slow_faults(_metadata, GMEM_TEST_FAULT_FOUND, 2);
	RACE(bind_unbind_open, read_as_guest, read_as_guest);
	fast_faults(_metadata, knob);
}

struct slow_read {
	int vm;
	int result;
};

static void *read_slowly(void *arg)
{
	struct slow_read *r = arg;

	r->result = guest_read(r->vm, GPA);
	return NULL;
}

/*
 * A fault finds a binding. Before it takes the lock, another guestmem is bound
 * there: the fault gets a page of that.
 */
TEST_F(race, other_guestmem_between_two_looks)
{
	struct arena *a = &self->arena;
	struct slow_read r = { .vm = a->vm[0] };
	__u64 flags = a->unit == PAGE ? 0 : GMEM_MEM_ALLOW_HUGEPAGE;
	__u64 before;
	pthread_t thread;
	int knob, other;
	__u8 *host;

	SKIP_UNLESS_FOUND_WITHOUT_LOCK(a);
	other = new_mem(a->unit, flags);
	ASSERT_LE(0, other);
	host = map_host(other, 0, a->unit);
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, touch_write(host, 0x5a));
	ASSERT_EQ(0, map_mem(r.vm, GPA, a->mem, 0, a->unit, LEND | RWX));
	before = last_fault(r.vm).seq;

	knob = slow_faults(_metadata, GMEM_TEST_FAULT_HELD, 500);
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_slowly, &r));
	usleep(200000);
	EXPECT_EQ(0, unmap_range(r.vm, GPA, a->unit, NULL));
	EXPECT_EQ(0, map_mem(r.vm, GPA, other, 0, a->unit, LEND | RWX));
	fast_faults(_metadata, knob);
	pthread_join(thread, NULL);
	EXPECT_EQ(0x5a, r.result);
	EXPECT_EQ(before, last_fault(r.vm).seq);
	munmap(host, a->unit);
	close(other);
}

TEST_HARNESS_MAIN
