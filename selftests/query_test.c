// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls that report a state, and those that provide or take back a range.
 */
#include "lib/fixture.h"
#include <sys/vfs.h>

#define UNITS 8
#define GPA GIB(1)

FIXTURE(query)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u64 unit;
	__u64 size;
	__u64 nr;
};

FIXTURE_VARIANT(query)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(query);

FIXTURE_SETUP(query)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	self->nr = self->unit / PAGE;
}

FIXTURE_TEARDOWN(query)
{
	TEARDOWN_VM_AND_MEM();
}

#define BIND(gpa, first, count, access)					\
	ASSERT_EQ(0, map_mem(self->vm, GPA + (gpa) * self->unit,	\
			     self->mem, (first) * self->unit,		\
			     (count) * self->unit, (access) | RWX))

static __u64 inode_of(int fd)
{
	struct stat st = {};

	fstat(fd, &st);
	return st.st_ino;
}

TEST_F(query, bindings)
{
	struct gmem_binding_info b[3];
	int other = new_mem(self->unit, variant->mem_flags);

	ASSERT_LE(0, other);
	EXPECT_EQ(0, query_guest(self->vm, b, 3));
	BIND(4, 1, 3, SHARE);
	BIND(0, 6, 2, LEND);
	ASSERT_EQ(0, map_mem(self->vm, GPA + 7 * self->unit, other, 0,
			     self->unit, LEND | RX));
	memset(b, 0xff, sizeof(b));
	ASSERT_EQ(3, query_guest(self->vm, b, 3));
	EXPECT_EQ(GPA, b[0].guest_addr);
	EXPECT_EQ(2 * self->unit, b[0].length);
	EXPECT_EQ(6 * self->unit, b[0].offset);
	EXPECT_EQ(LEND | RWX, b[0].flags);
	EXPECT_EQ(inode_of(self->mem), b[0].mem_id);
	EXPECT_EQ(0, b[0].policy);
	EXPECT_EQ(GPA + 4 * self->unit, b[1].guest_addr);
	EXPECT_EQ(self->unit, b[1].offset);
	EXPECT_EQ(SHARE | RWX, b[1].flags);
	EXPECT_EQ(0, b[1].policy);
	EXPECT_EQ(GPA + 7 * self->unit, b[2].guest_addr);
	EXPECT_EQ(LEND | RX, b[2].flags);
	EXPECT_EQ(inode_of(other), b[2].mem_id);
	EXPECT_NE(b[2].mem_id, b[1].mem_id);
	close(other);
}

/* fstat() and fstatfs() tell a descriptor's receiver what it is. */
TEST_F(query, stat_tells_a_guestmem)
{
	struct statfs fs = {};
	struct stat st = {};

	ASSERT_EQ(0, fstat(self->mem, &st));
	EXPECT_EQ(self->size, (__u64)st.st_size);
	EXPECT_EQ(self->unit, (__u64)st.st_blksize);
	ASSERT_EQ(0, fstatfs(self->mem, &fs));
	EXPECT_EQ(GMEM_MEM_MAGIC, fs.f_type);
	ASSERT_EQ(0, fstatfs(self->vm, &fs));
	EXPECT_NE(GMEM_MEM_MAGIC, fs.f_type);
}

/* A query returns the bindings that overlap the range, each in full. */
TEST_F(query, bindings_of_a_range)
{
	const struct {
		__u64 first, count;
		int expected, index;
	} rows[] = {
		{ 0, 1, 1, 0 }, { 1, 1, 1, 0 }, { 2, 2, 0, 0 }, { 1, 3, 1, 0 },
		{ 2, 3, 1, 1 }, { 5, 1, 1, 1 }, { 1, 4, 2, 0 }, { 6, 1, 0, 0 },
		{ 6, 2, 1, 2 }, { 0, 8, 3, 0 }, { 8, 90, 0, 0 },
	};
	struct gmem_binding_info all[3], b[3];
	unsigned int i;

	BIND(0, 0, 2, LEND);
	BIND(4, 2, 2, LEND);
	BIND(7, 4, 1, LEND);
	ASSERT_EQ(3, query_guest(self->vm, all, 3));
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		EXPECT_EQ(rows[i].expected,
			  query_vm_range(self->vm,
					 GPA + rows[i].first * self->unit,
					 rows[i].count * self->unit, b, 3)) {
			TH_LOG("row %u", i);
		}
		EXPECT_EQ(0, memcmp(b, all + rows[i].index,
				    rows[i].expected * sizeof(*b)));
	}
	/* A range may begin at any page, whatever the file's page size. */
	EXPECT_EQ(1, query_vm_range(self->vm, GPA + self->unit - PAGE, PAGE, b,
				    3));
	EXPECT_EQ(-EINVAL, query_vm_range(self->vm, GPA + 1, PAGE, b, 3));
	EXPECT_EQ(-EINVAL, query_vm_range(self->vm, GPA, PAGE - 1, b, 3));
	EXPECT_EQ(-EINVAL, query_vm_range(self->vm, 1ULL << 52, PAGE, b, 3));
	EXPECT_EQ(-EOVERFLOW, query_vm_range(self->vm, -PAGE, 2 * PAGE, b, 3));
	EXPECT_EQ(-EFAULT, query_vm_range(self->vm, GPA, self->size, NULL, 3));
	EXPECT_EQ(0, query_vm_range(self->vm, GPA, self->size, NULL, 0));
}

/* A query with any size of buffer, in pieces, returns each binding once. */
TEST_F(query, bindings_in_pieces)
{
	struct gmem_binding_info b[300];
	struct gmem_vm_query query;
	int mem, i, n = 250, seen;
	__u32 room;

	mem = new_mem(n * self->unit, variant->mem_flags);
	ASSERT_LE(0, mem);
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, map_mem(self->vm, (i * 2) * self->unit, mem,
				     i * self->unit, self->unit, LEND | RWX));
	for (room = 1; room <= 300; room += 1 + room / 7) {
		query = (struct gmem_vm_query){
			.size = sizeof(query),
			.length = n * 3 * self->unit,
			.entries = ptr_u64(b),
			.entry_size = sizeof(*b),
		};
		for (seen = 0; query.length; ) {
			query.nr_entries = room;
			memset(b, 0xff, sizeof(b));
			ASSERT_EQ(0, ioctl(self->vm, GMEM_VM_QUERY, &query));
			ASSERT_LE(query.nr_entries, room);
			for (i = 0; i < (int)query.nr_entries; i++, seen++) {
				ASSERT_EQ(seen * 2 * self->unit,
					  b[i].guest_addr);
				ASSERT_EQ(seen * self->unit, b[i].offset);
			}
			/*
			 * The kernel writes no entry behind the last one it
			 * reports.
			 */
			if (query.nr_entries < 300)
				ASSERT_EQ(~0ULL,
					  b[query.nr_entries].guest_addr);
			ASSERT_EQ(n * 3 * self->unit,
				  query.guest_addr + query.length);
			if (query.length)
				ASSERT_EQ(room, query.nr_entries);
		}
		ASSERT_EQ(n, seen);
	}
	close(mem);
}

TEST_F(query, pages_by_state)
{
	struct gmem_mem_query q;
	__u8 *host = map_host(self->mem, 0, self->size);

	ASSERT_NE(MAP_FAILED, host);
	/* Units 0 and 1: lent; 2: shared; 3: the host's; 4 to 7: absent. */
	BIND(0, 0, 2, LEND);
	BIND(2, 2, 1, SHARE);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA + self->unit, 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA + 2 * self->unit, 1));
	ASSERT_EQ(0, touch_write(host + 3 * self->unit, 1));

	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(2 * self->nr, q.lent);
	EXPECT_EQ(self->nr, q.shared);
	EXPECT_EQ(self->nr, q.host);
	EXPECT_EQ(4 * self->nr, q.absent);
	EXPECT_EQ(0, q.leaked);
	/* A range may end inside a huge page. */
	ASSERT_EQ(0, query_mem(self->mem, 2 * self->unit - PAGE, 2 * PAGE, &q));
	EXPECT_EQ(1, q.lent);
	EXPECT_EQ(1, q.shared);
	EXPECT_EQ(0, q.host + q.absent + q.leaked);
	ASSERT_EQ(0, query_mem(self->mem, 4 * self->unit - PAGE,
			       self->unit + PAGE, &q));
	EXPECT_EQ(1, q.host);
	EXPECT_EQ(self->nr, q.absent);

	EXPECT_EQ(-EINVAL, query_mem(self->mem, 0, 0, &q));
	EXPECT_EQ(-EINVAL, query_mem(self->mem, 1, PAGE, &q));
	EXPECT_EQ(-EINVAL, query_mem(self->mem, 0, PAGE - 1, &q));
	EXPECT_EQ(-EINVAL, query_mem(self->mem, self->size, PAGE, &q));
	EXPECT_EQ(-EINVAL, query_mem(self->mem, 0, self->size + PAGE, &q));
	EXPECT_EQ(-EOVERFLOW, query_mem(self->mem, -PAGE, 2 * PAGE, &q));
	munmap(host, self->size);
}

TEST_F(query, faults)
{
	struct gmem_fault_info f[GMEM_NR_FAULTS + 1];
	struct gmem_vm_faults a;
	int i, nr;

	if (!strcmp(variant->provider, "gunyah"))
		SKIP(return, "an unbound address is a device, whose accesses the VMM answers");
	/* There is no fault yet. */
	EXPECT_EQ(0, get_faults(self->vm, 0, f, GMEM_NR_FAULTS, &a));
	EXPECT_EQ(0, a.seq);
	EXPECT_EQ(0, a.lost);

	/* Equal faults in a row make one entry. */
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + i));
	EXPECT_EQ(-EFAULT, guest_write(self->vm, GPA, 1));
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
	ASSERT_EQ(3, get_faults(self->vm, 0, f, GMEM_NR_FAULTS, &a));
	EXPECT_EQ(5, a.seq);
	EXPECT_EQ(0, a.lost);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(GPA, f[i].guest_addr);
		EXPECT_EQ(GMEM_FAULT_UNBOUND, f[i].reason);
		EXPECT_EQ(i == 1 ? GMEM_ACCESS_WRITE : GMEM_ACCESS_READ,
			  f[i].access);
		EXPECT_EQ(i ? 1 : 3, f[i].count);
		EXPECT_EQ(3 + i, f[i].seq);
	}

	/* A query returns newer entries only; an entry that grew is newer. */
	EXPECT_EQ(0, get_faults(self->vm, 5, f, GMEM_NR_FAULTS, &a));
	EXPECT_EQ(5, a.seq);
	EXPECT_EQ(2, get_faults(self->vm, 3, f, GMEM_NR_FAULTS, &a));
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
	ASSERT_EQ(1, get_faults(self->vm, 5, f, GMEM_NR_FAULTS, &a));
	EXPECT_EQ(6, f[0].seq);
	EXPECT_EQ(2, f[0].count);

	/*
	 * A small buffer gets the oldest entries; the next query goes on from
	 * there.
	 */
	ASSERT_EQ(1, get_faults(self->vm, 0, f, 1, &a));
	EXPECT_EQ(3, f[0].seq);
	EXPECT_EQ(3, a.seq);
	ASSERT_EQ(1, get_faults(self->vm, 3, f, 1, &a));
	EXPECT_EQ(4, f[0].seq);
	EXPECT_EQ(0, get_faults(self->vm, 0, NULL, 0, &a));
	EXPECT_EQ(-EFAULT, get_faults(self->vm, 0, NULL, 1, &a));

	/* Fill the log. */
	for (i = 0; i < GMEM_NR_FAULTS - 3; i++)
		EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + (i + 1) * PAGE));
	nr = get_faults(self->vm, 0, f, GMEM_NR_FAULTS + 1, &a);
	ASSERT_EQ(GMEM_NR_FAULTS, nr);
	EXPECT_EQ(0, a.lost);
	EXPECT_EQ(6 + GMEM_NR_FAULTS - 3, a.seq);
	for (i = 1; i < nr; i++)
		EXPECT_LT(f[i - 1].seq, f[i].seq);

	/*
	 * One more fault pushes out the first entry, which counts three
	 * accesses.
	 */
	EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
	ASSERT_EQ(GMEM_NR_FAULTS,
		  get_faults(self->vm, 0, f, GMEM_NR_FAULTS, &a));
	EXPECT_EQ(3, a.lost);
	EXPECT_EQ(4, f[0].seq);
	/*
	 * A reader who has seen a part of the entry lost less, one who has seen
	 * it all lost nothing.
	 */
	get_faults(self->vm, 2, f, GMEM_NR_FAULTS, &a);
	EXPECT_EQ(1, a.lost);
	get_faults(self->vm, 3, f, GMEM_NR_FAULTS, &a);
	EXPECT_EQ(0, a.lost);
}

TEST_F(query, stats)
{
	/* Under Gunyah, an unbound address belongs to a device of the VMM. */
	bool refuses = strcmp(variant->provider, "gunyah");
	struct gmem_stats first, s0, s1;
	int vm, mem;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be reclaimed");
	ASSERT_EQ(0, get_stats(&first));
	vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_EQ(0, get_stats(&s0));
	EXPECT_EQ(first.vms + 1, s0.vms);
	mem = new_mem(self->size, variant->mem_flags);
	ASSERT_EQ(0, map_mem(vm, 0, mem, 0, 4 * self->unit, LEND | RWX));
	ASSERT_EQ(0, map_mem(vm, GPA, mem, 4 * self->unit, 2 * self->unit,
			     SHARE | RWX));
	ASSERT_EQ(0, unmap_range(vm, self->unit, self->unit, NULL));
	ASSERT_EQ(0, guest_write(vm, 0, 1));
	ASSERT_EQ(0, guest_write(vm, 0, 2));
	ASSERT_EQ(0, guest_write(vm, GPA, 2));
	ASSERT_EQ(0, reclaim_range(vm, 0, self->unit, NULL));
	ASSERT_EQ(0, guest_write(vm, 0, 2));
	ASSERT_EQ(-EFAULT, guest_write(vm, self->unit, 2));
	ASSERT_EQ(0, get_stats(&s1));
	EXPECT_EQ(s0.vms, s1.vms);
	EXPECT_EQ(s0.mems + 1, s1.mems);
	EXPECT_EQ(s0.bindings + 3, s1.bindings);
	EXPECT_EQ(s0.lent_pages + self->nr, s1.lent_pages);
	EXPECT_EQ(s0.leaked_pages, s1.leaked_pages);
	EXPECT_EQ(s0.lends + 2 * self->nr, s1.lends);
	EXPECT_EQ(s0.reclaims + self->nr, s1.reclaims);
	EXPECT_EQ(s0.refused + refuses, s1.refused);
	close_guest(vm);
	close(mem);
	EXPECT_TRUE(stats_settle(&first));
	ASSERT_EQ(0, get_stats(&s1));
	/* The memory of the guest's agent came back, too. */
	EXPECT_EQ(s0.reclaims + 2 * self->nr + s0.lent_pages - first.lent_pages,
		  s1.reclaims);
}

TEST_F(query, populate)
{
	struct gmem_mem_query q;
	__u64 nr;

	BIND(0, 0, 2, LEND);
	BIND(2, 4, 2, SHARE);
	BIND(5, 2, 1, LEND);
	ASSERT_EQ(0, populate_range(self->vm, GPA, 4 * self->unit, &nr));
	EXPECT_EQ(4 * self->nr, nr);
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(2 * self->nr, q.lent);
	EXPECT_EQ(2 * self->nr, q.shared);
	EXPECT_EQ(4 * self->nr, q.absent);
	/* Populate the provided pages again. */
	ASSERT_EQ(0, populate_range(self->vm, GPA, 4 * self->unit, &nr));
	EXPECT_EQ(4 * self->nr, nr);
	EXPECT_EQ(0, guest_read(self->vm, GPA + 3 * self->unit));

	/* A range with a hole changes nothing. */
	EXPECT_EQ(-ENOENT, populate_range(self->vm, GPA + 3 * self->unit,
					  3 * self->unit, &nr));
	EXPECT_EQ(0, nr);
	EXPECT_EQ(-ENOENT, populate_range(self->vm, GPA + 4 * self->unit,
					  2 * self->unit, &nr));
	EXPECT_EQ(-ENOENT, populate_range(self->vm, GPA + 5 * self->unit,
					  2 * self->unit, &nr));
	EXPECT_EQ('a', page_state(self->mem, 2 * self->unit));
	EXPECT_EQ(0, populate_range(self->vm, GPA + 5 * self->unit, self->unit,
				    &nr));
	EXPECT_EQ('l', page_state(self->mem, 2 * self->unit));
}

TEST_F(query, reclaim)
{
	__u8 *host;
	__u64 nr;
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be reclaimed");
	host = map_host(self->mem, 0, self->size);
	ASSERT_NE(MAP_FAILED, host);
	BIND(0, 0, 4, LEND);
	BIND(6, 4, 2, SHARE);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0,
			  guest_write(self->vm, GPA + i * self->unit, i + 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA + 6 * self->unit, 7));

	ASSERT_EQ(0,
		  reclaim_range(self->vm, GPA + self->unit, self->unit, &nr));
	EXPECT_EQ(self->nr, nr);
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ('h', page_state(self->mem, self->unit));
	EXPECT_EQ('l', page_state(self->mem, 2 * self->unit));
	/* Neither the host's own pages nor shared ones are counted. */
	ASSERT_EQ(0, reclaim_range(self->vm, 0, GPA + 100 * self->unit, &nr));
	EXPECT_EQ(3 * self->nr, nr);
	EXPECT_EQ('s', page_state(self->mem, 4 * self->unit));
	ASSERT_EQ(0, reclaim_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(0, nr);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(i + 1, guest_read(self->vm, GPA + i * self->unit));

	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	EXPECT_EQ(-EACCES, reclaim_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(0, nr);
	EXPECT_EQ(1, guest_read(self->vm, GPA));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	ASSERT_EQ(0, reclaim_range(self->vm, GPA, self->unit, &nr));
	EXPECT_EQ(self->nr, nr);
	EXPECT_EQ(0, guest_read(self->vm, GPA));
	EXPECT_EQ(2, guest_read(self->vm, GPA + self->unit));
	munmap(host, self->size);
}

/* A call that fails half-way reports its progress and keeps it. */
TEST_F(query, partial_progress)
{
	__u64 nr;
	int i;

	if (strcmp(variant->provider, "mock"))
		SKIP(return, "only the mock fails half-way on request");
	BIND(0, 0, UNITS, LEND);
	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_MAP, 3 * self->nr, 1));
	EXPECT_EQ(-EIO, populate_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(2 * self->nr, nr);
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(i < 2 ? 'l' : i == 2 ? 'h' : 'a',
			  page_state(self->mem, i * self->unit));
	ASSERT_EQ(0, populate_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(UNITS * self->nr, nr);

	ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 4 * self->nr, 1));
	EXPECT_EQ(-EIO, reclaim_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ(3 * self->nr, nr);
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(i < 3 ? 'h' : 'l',
			  page_state(self->mem, i * self->unit));
	ASSERT_EQ(0, reclaim_range(self->vm, GPA, self->size, &nr));
	EXPECT_EQ((UNITS - 3) * self->nr, nr);
}

TEST_HARNESS_MAIN
