// SPDX-License-Identifier: GPL-2.0-only
/*
 * The states of a guestmem's pages, as runs (GMEM_MEM_RUNS) and as holes and data
 * (lseek()).
 */
#include "lib/fixture.h"
#include "lib/pin.h"

#include <pthread.h>

#define UNITS 8
#define GPA GIB(1)

FIXTURE(runs)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u64 unit;
	__u64 size;
	__u8 *host;
};

FIXTURE_VARIANT(runs)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(runs);

FIXTURE_SETUP(runs)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
}

FIXTURE_TEARDOWN(runs)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

/* Units 0 and 1: lent; 2: shared; 3: the host's; 4 and 5: absent; 6: the host's. */
#define FILL_UNITS()							\
	do {								\
		ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0,	\
				     2 * self->unit, LEND | RWX));	\
		ASSERT_EQ(0, map_mem(self->vm, GPA + 2 * self->unit,	\
				     self->mem, 2 * self->unit,		\
				     self->unit, SHARE | RWX));		\
		ASSERT_EQ(0, populate_range(self->vm, GPA,		\
					    3 * self->unit, NULL));	\
		ASSERT_EQ(0, touch_write(self->host + 3 * self->unit, 1)); \
		ASSERT_EQ(0, touch_write(self->host + 6 * self->unit, 1)); \
	} while (0)

static const struct {
	__u64 first, count;
	__u32 state;
} filled[] = {
	{ 0, 2, GMEM_STATE_LENT },
	{ 2, 1, GMEM_STATE_SHARED },
	{ 3, 1, GMEM_STATE_HOST },
	{ 4, 2, GMEM_STATE_ABSENT },
	{ 6, 1, GMEM_STATE_HOST },
	{ 7, 1, GMEM_STATE_ABSENT },
};

TEST_F(runs, states)
{
	struct gmem_mem_run runs[10];
	struct gmem_mem_runs answer;
	unsigned int i;

	memset(runs, 0xff, sizeof(runs));
	ASSERT_EQ(1, get_runs(self->mem, 0, self->size, runs, 10, &answer));
	EXPECT_EQ(0, runs[0].offset);
	EXPECT_EQ(self->size, runs[0].length);
	EXPECT_EQ(GMEM_STATE_ABSENT, runs[0].state);
	EXPECT_EQ(0, runs[0].reserved);
	EXPECT_EQ(self->size, answer.offset);
	EXPECT_EQ(0, answer.length);
	EXPECT_EQ(sizeof(*runs), answer.entry_size);

	FILL_UNITS();
	ASSERT_EQ(ARRAY_SIZE(filled),
		  get_runs(self->mem, 0, self->size, runs, 10, NULL));
	for (i = 0; i < ARRAY_SIZE(filled); i++) {
		EXPECT_EQ(filled[i].first * self->unit, runs[i].offset);
		EXPECT_EQ(filled[i].count * self->unit, runs[i].length);
		EXPECT_EQ(filled[i].state, runs[i].state) {
			TH_LOG("run %u", i);
		}
	}
	/* The range cuts the runs; it may begin and end inside a huge page. */
	ASSERT_EQ(3, get_runs(self->mem, 2 * self->unit - PAGE,
			      self->unit + 2 * PAGE, runs, 10, NULL));
	EXPECT_EQ(2 * self->unit - PAGE, runs[0].offset);
	EXPECT_EQ(PAGE, runs[0].length);
	EXPECT_EQ(GMEM_STATE_LENT, runs[0].state);
	EXPECT_EQ(self->unit, runs[1].length);
	EXPECT_EQ(PAGE, runs[2].length);
	EXPECT_EQ(GMEM_STATE_HOST, runs[2].state);
	ASSERT_EQ(1, get_runs(self->mem, 5 * self->unit - PAGE, 2 * PAGE, runs,
			      10, NULL));
	EXPECT_EQ(GMEM_STATE_ABSENT, runs[0].state);
	EXPECT_EQ(2 * PAGE, runs[0].length);
}

TEST_F(runs, leaked)
{
	struct gmem_mem_run runs[3];

	if (strcmp(variant->provider, "mock"))
		SKIP(return, "only the mock refuses to give pages back");
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, self->unit, self->unit,
			     LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, self->unit, NULL));
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, ~0U));
	close_guest(self->vm);
	self->vm = -1;
	EXPECT_TRUE(stats_settle(&(struct gmem_stats){
		.vms = self->before.vms,
		.mems = self->before.mems + 1,
		.bindings = self->before.bindings,
		.lent_pages = self->before.lent_pages,
	}));
	ASSERT_EQ(3, get_runs(self->mem, 0, self->size, runs, 3, NULL));
	EXPECT_EQ(GMEM_STATE_LEAKED, runs[1].state);
	EXPECT_EQ(self->unit, runs[1].offset);
	EXPECT_EQ(self->unit, runs[1].length);
}

TEST_F(runs, wrong_values)
{
	__u64 page[MAX_ENTRY / 8 + 1];
	struct gmem_mem_run runs[2];
	struct gmem_mem_runs call;
	__u32 entry_size;

	EXPECT_EQ(-EINVAL, get_runs(self->mem, 0, 0, runs, 2, NULL));
	EXPECT_EQ(-EINVAL, get_runs(self->mem, 1, PAGE, runs, 2, NULL));
	EXPECT_EQ(-EINVAL, get_runs(self->mem, 0, PAGE - 1, runs, 2, NULL));
	EXPECT_EQ(-EINVAL, get_runs(self->mem, self->size, PAGE, runs, 2,
				    NULL));
	EXPECT_EQ(-EINVAL, get_runs(self->mem, 0, self->size + PAGE, runs, 2,
				    NULL));
	EXPECT_EQ(-EOVERFLOW, get_runs(self->mem, -PAGE, 2 * PAGE, runs, 2,
				       NULL));
	EXPECT_EQ(-EFAULT, get_runs(self->mem, 0, PAGE, NULL, 2, NULL));
	EXPECT_EQ(-ENOTTY, get_runs(self->vm, 0, PAGE, runs, 2, NULL));

	/* Without room, the call comes nowhere. */
	EXPECT_EQ(0, get_runs(self->mem, PAGE, PAGE, NULL, 0, &call));
	EXPECT_EQ(PAGE, call.offset);
	EXPECT_EQ(PAGE, call.length);

	for (entry_size = 0; entry_size <= MAX_ENTRY + 8; entry_size += 4) {
		memset(page, 0xff, sizeof(page));
		call = (struct gmem_mem_runs){
			.size = sizeof(call),
			.length = PAGE,
			.entries = ptr_u64(page),
			.nr_entries = 1,
			.entry_size = entry_size,
		};
		if (entry_size < sizeof(*runs) || entry_size > MAX_ENTRY ||
		    entry_size % 8) {
			EXPECT_EQ(-EINVAL, err_of(ioctl(self->mem,
							GMEM_MEM_RUNS, &call)));
			continue;
		}
		ASSERT_EQ(0, ioctl(self->mem, GMEM_MEM_RUNS, &call));
		EXPECT_EQ(sizeof(*runs), call.entry_size);
		EXPECT_EQ(PAGE, page[1]);
		/* The kernel zeroes what it doesn't know, and nothing else. */
		if (entry_size > sizeof(*runs))
			EXPECT_EQ(0, page[3] | page[entry_size / 8 - 1]);
		EXPECT_EQ(~0ULL, page[entry_size / 8]);
	}
}

/* With any size of buffer, in several calls, the runs have neither gap nor overlap. */
TEST_F(runs, in_pieces)
{
	const int nr = 1200;
	struct gmem_mem_run runs[nr + 1];
	struct gmem_mem_runs answer;
	__u64 at, seen;
	int mem, i, got;
	__u32 room;

	mem = new_mem(nr * PAGE, 0);
	ASSERT_LE(0, mem);
	for (i = 1; i < nr; i += 2)
		ASSERT_EQ(0, mem_alloc(mem, 0, i * PAGE, PAGE));
	for (room = 1; room <= nr + 1U; room += 1 + room / 7) {
		seen = 0;
		for (at = 0; at < nr * PAGE; at = answer.offset) {
			memset(runs, 0xff, sizeof(runs));
			got = get_runs(mem, at, nr * PAGE - at, runs, room,
				       &answer);
			ASSERT_LT(0, got);
			ASSERT_GE(room, (__u32)got);
			ASSERT_EQ(nr * PAGE, answer.offset + answer.length);
			for (i = 0; i < got; i++, seen++) {
				ASSERT_EQ(seen * PAGE, runs[i].offset);
				ASSERT_EQ(PAGE, runs[i].length);
				ASSERT_EQ(seen % 2 ? GMEM_STATE_HOST :
						     GMEM_STATE_ABSENT,
					  runs[i].state);
			}
			if (got <= nr)
				ASSERT_EQ(~0ULL, runs[got].offset);
		}
		ASSERT_EQ(nr, seen);
	}
	/* A full array's last run is as long as it can be. */
	ASSERT_EQ(0, mem_alloc(mem, 0, 0, nr * PAGE));
	ASSERT_EQ(1, get_runs(mem, 0, nr * PAGE, runs, 1, &answer));
	EXPECT_EQ(nr * PAGE, runs[0].length);
	EXPECT_EQ(0, answer.length);
	close(mem);
}

#define SEEK(offset, whence) ((__s64)lseek(self->mem, offset, whence) < 0 ? \
			      -errno : (__s64)lseek(self->mem, 0, SEEK_CUR))

TEST_F(runs, seek)
{
	const __u64 u = self->unit;
	char path[64];
	int read_only;

	EXPECT_EQ(-ENXIO, SEEK(0, SEEK_DATA));
	EXPECT_EQ(0, SEEK(0, SEEK_HOLE));
	EXPECT_EQ(u + 1, SEEK(u + 1, SEEK_HOLE));

	FILL_UNITS();
	EXPECT_EQ(0, SEEK(0, SEEK_DATA));
	EXPECT_EQ(4 * u, SEEK(0, SEEK_HOLE));
	/* An offset needn't be aligned. */
	EXPECT_EQ(2 * u + 1, SEEK(2 * u + 1, SEEK_DATA));
	EXPECT_EQ(4 * u, SEEK(4 * u - 1, SEEK_HOLE));
	EXPECT_EQ(4 * u + 3, SEEK(4 * u + 3, SEEK_HOLE));
	EXPECT_EQ(6 * u, SEEK(4 * u, SEEK_DATA));
	EXPECT_EQ(6 * u, SEEK(6 * u - 1, SEEK_DATA));
	EXPECT_EQ(7 * u, SEEK(6 * u, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, SEEK(7 * u, SEEK_DATA));
	ASSERT_EQ(0, touch_write(self->host + 7 * u, 1));
	/* The end of the file counts as a hole. */
	EXPECT_EQ(self->size, (__u64)SEEK(6 * u, SEEK_HOLE));

	EXPECT_EQ(-ENXIO, SEEK(self->size, SEEK_HOLE));
	EXPECT_EQ(-ENXIO, SEEK(self->size, SEEK_DATA));
	EXPECT_EQ(-ENXIO, SEEK(-1, SEEK_DATA));
	EXPECT_EQ(self->size, (__u64)SEEK(0, SEEK_END));
	EXPECT_EQ(u, (__u64)SEEK(u, SEEK_SET));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->mem);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, read_only);
	EXPECT_EQ((off_t)(6 * u), lseek(read_only, 4 * u, SEEK_DATA));
	close(read_only);
}

/* A file without memory is as large as it likes. */
TEST_F(runs, sparse)
{
	const __u64 size = GIB(1) << 12;
	struct gmem_mem_run runs[3];
	struct gmem_mem_query q;
	double since = now();
	int mem;

	mem = new_mem(size, variant->mem_flags);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, mem_alloc(mem, 0, size / 2, self->unit));
	ASSERT_EQ(3, get_runs(mem, 0, size, runs, 3, NULL));
	EXPECT_EQ(size / 2, runs[1].offset);
	EXPECT_EQ(self->unit, runs[1].length);
	ASSERT_EQ(0, query_mem(mem, 0, size, &q));
	EXPECT_EQ(self->unit / PAGE, q.host);
	EXPECT_EQ((size - self->unit) / PAGE, q.absent);
	EXPECT_EQ((off_t)size / 2, lseek(mem, 0, SEEK_DATA));
	EXPECT_GT(2, now() - since);
	close(mem);
}

struct remap {
	int vm;
	int mem;
	__u64 size;
	__u64 unit;
	/* Pin a page through the window, so that another replaces it. */
	bool pins;
	volatile bool stop;
};

static bool remap_once(struct remap *r, const int *fd)
{
	__u8 *window = NULL;
	bool ok;
	int byte;

	if (map_mem(r->vm, GPA, r->mem, 0, r->size, LEND | RWX) ||
	    populate_range(r->vm, GPA, r->size, NULL))
		return false;
	if (r->pins) {
		window = map_window(r->vm, GPA, r->size, PROT_READ);
		if (window == MAP_FAILED ||
		    pin(fd, PIN_SPLICE, window + r->unit))
			return false;
	}
	ok = !unmap_range(r->vm, GPA, r->size, NULL);
	if (r->pins) {
		ok &= !unpin(fd, PIN_SPLICE, &byte);
		munmap(window, r->size);
	}
	return ok;
}

/* Each round takes the pages away from the guest, and gives them to it again. */
static void *remap(void *arg)
{
	struct remap *r = arg;
	bool ok = true;
	int fd[2];

	if (pin_open(fd, PIN_SPLICE))
		return arg;
	while (ok && !r->stop)
		ok = remap_once(r, fd);
	pin_close(fd);
	return ok ? NULL : arg;
}

/* A page that has memory is never reported as absent, whatever its owner does. */
TEST_F(runs, race)
{
	struct remap r = {
		.vm = self->vm,
		.mem = self->mem,
		.size = self->size,
		.unit = self->unit,
		.pins = !strcmp(variant->provider, "window"),
	};
	double end = now() + env_uint("GMEM_RACE_SECONDS", 2);
	struct gmem_mem_run runs[3 * UNITS];
	struct gmem_mem_query q;
	pthread_t thread;
	void *failed;
	int i, got;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be reclaimed");
	ASSERT_EQ(0, mem_alloc(self->mem, 0, 0, self->size));
	ASSERT_EQ(0, pthread_create(&thread, NULL, remap, &r));
	do {
		got = get_runs(self->mem, 0, self->size, runs, ARRAY_SIZE(runs),
			       NULL);
		EXPECT_LT(0, got);
		for (i = 0; i < got; i++)
			EXPECT_NE(GMEM_STATE_ABSENT, runs[i].state);
		EXPECT_EQ(0, query_mem(self->mem, 0, self->size, &q));
		EXPECT_EQ(0, q.absent);
		EXPECT_EQ(-ENXIO, SEEK(self->size, SEEK_DATA));
		EXPECT_EQ(self->size, (__u64)SEEK(0, SEEK_HOLE));
	} while (now() < end);
	r.stop = true;
	pthread_join(thread, &failed);
	EXPECT_EQ(NULL, failed);
}

TEST_HARNESS_MAIN
