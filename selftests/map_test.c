// SPDX-License-Identifier: GPL-2.0-only
/* Each rule for bindings, with the smallest input that breaks it. */
#include "lib/fixture.h"

#define PAGES 16

FIXTURE(map)
{
	struct gmem_stats before;
	int vm;
	int mem;
	/* The unit of all ranges, and the size of the file. */
	__u64 unit;
	__u64 size;
	/* The end of the guest's address space. */
	__u64 end;
	/* Bindings of the agent's memory. */
	int own;
};

FIXTURE_VARIANT(map)
{
	const char *provider;
	__u64 mem_flags;
	__u32 access;
};

EACH_PROVIDER_SIZE(VARIANTS_ACCESS, map);

/* The number of bindings that the test has made. */
static int nr_bindings(const FIXTURE_DATA(map) *self)
{
	struct gmem_binding_info entries[64];

	return query_vm_range(self->vm, 0, self->end, entries, 64) - self->own;
}

FIXTURE_SETUP(map)
{
	struct gmem_info info;

	SETUP_VM_AND_MEM(PAGES, GMEM_POLICY_ALLOW);
	ASSERT_TRUE(find_provider(variant->provider, &info));
	self->end = 1ULL << info.max_guest_addr_bits;
	self->own = nr_bindings(self);
}

FIXTURE_TEARDOWN(map)
{
	TEARDOWN_VM_AND_MEM();
}

/* Map with the variant's access, in units. */
#define MAP(gpa, offset, size)						\
	map_mem(self->vm, (gpa) * self->unit, self->mem,		\
		(offset) * self->unit, (size) * self->unit,		\
		variant->access | RWX)

TEST_F(map, flag_values)
{
	int i;

	for (i = 0; i < 32; i++) {
		if (i < 3 || (i >= 4 && i <= 6) || i == 8)
			continue;
		EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, self->mem, 0,
					   self->unit, RWX | 1U << i));
	}
	for (i = 3; i <= 7; i++)
		EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, self->mem, 0,
					   self->unit, RWX | i));
	for (i = 0; i <= 2; i++)
		EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, self->mem, 0,
					   self->unit, i));
	EXPECT_EQ(0, nr_bindings(self));
}

/*
 * The module refuses an access that the provider can't enforce, and keeps any
 * other exactly.
 */
TEST_F(map, access_combinations)
{
	struct gmem_binding_info b;
	struct gmem_info info;
	__u32 combination, flags;
	bool can;

	ASSERT_TRUE(find_provider(variant->provider, &info));
	for (combination = 1; combination < 8; combination++) {
		flags = combination << 4 | variant->access;
		can = info.map_access & 1 << combination;
		ASSERT_EQ(can ? 0 : -EOPNOTSUPP, map_mem(self->vm, 0, self->mem,
							 0, self->unit, flags));
		ASSERT_EQ(can, nr_bindings(self));
		if (!can)
			continue;
		ASSERT_EQ(1, query_guest(self->vm, &b, 1));
		EXPECT_EQ(flags, b.flags);
		ASSERT_EQ(0, unmap_mem(self->vm, 0, self->mem, 0, self->unit,
				       flags));
	}
}

/* The default is to lend, for a map and for an exact unmap. */
TEST_F(map, default_access)
{
	struct gmem_binding_info b;

	ASSERT_EQ(0, map_mem(self->vm, 0, self->mem, 0, self->unit,
			     GMEM_MAP_DEFAULT_ACCESS | RWX));
	ASSERT_EQ(1, query_guest(self->vm, &b, 1));
	EXPECT_EQ(LEND | RWX, b.flags);
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 0, self->mem, 0, self->unit,
				     SHARE | RWX));
	EXPECT_EQ(0, unmap_mem(self->vm, 0, self->mem, 0, self->unit,
			       GMEM_MAP_DEFAULT_ACCESS | RWX));
}

/* B9: size 0 at GFN 0 stood for the whole address space. */
TEST_F(map, b09_size_zero)
{
	__u64 at[] = { 0, self->unit, 5 * self->unit, self->end, -self->unit };
	unsigned int i;

	ASSERT_EQ(0, MAP(0, 0, 1));
	ASSERT_EQ(0, MAP(5, 5, 2));
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		EXPECT_EQ(-EINVAL, map_mem(self->vm, at[i], self->mem, 0, 0,
					   variant->access | RWX));
		EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, self->mem, at[i], 0,
					   variant->access | RWX));
		EXPECT_EQ(-EINVAL, unmap_mem(self->vm, at[i], self->mem, 0, 0,
					     variant->access | RWX));
		EXPECT_EQ(-EINVAL, unmap_range(self->vm, at[i], 0, NULL));
		EXPECT_EQ(-EINVAL, reclaim_range(self->vm, at[i], 0, NULL));
		EXPECT_EQ(-EINVAL, populate_range(self->vm, at[i], 0, NULL));
		EXPECT_EQ(-EINVAL, query_vm_range(self->vm, at[i], 0, NULL, 0));
		EXPECT_EQ(-EINVAL, mem_alloc(self->mem, 0, at[i], 0));
		EXPECT_EQ(-EINVAL, mem_alloc(self->mem, PUNCH, at[i], 0));
	}
	EXPECT_EQ(2, nr_bindings(self));
}

/*
 * B10: no check of offset + size against the file, of either sum against wrap.
 */
TEST_F(map, b10_limits)
{
	const __u64 u = self->unit, end = self->end;
	const struct {
		__u64 gpa, offset, size;
		int expected;
	} rows[] = {
		/* The file. */
		{ 0, 0, self->size, 0 },
		{ 0, self->size - u, u, 0 },
		{ 0, 0, self->size + u, -EINVAL },
		{ 0, u, self->size, -EINVAL },
		{ 0, self->size, u, -EINVAL },
		{ 0, self->size - u, 2 * u, -EINVAL },
		{ 0, 1ULL << 62, u, -EINVAL },
		{ 0, 1ULL << 63, u, -EINVAL },
		{ 0, (1ULL << 63) - u, 2 * u, -EINVAL },
		{ 0, -2 * u, u, -EINVAL },
		{ 0, -u, 2 * u, -EOVERFLOW },
		{ 0, -u, self->size, -EOVERFLOW },
		/* The address space. */
		{ end - u, 0, u, 0 },
		{ end - self->size, 0, self->size, 0 },
		{ end - u, 0, 2 * u, -EINVAL },
		{ end - self->size + u, 0, self->size, -EINVAL },
		{ end, 0, u, -EINVAL },
		{ 1ULL << 63, 0, u, -EINVAL },
		{ -2 * u, 0, u, -EINVAL },
		{ -u, 0, 2 * u, -EOVERFLOW },
		{ -self->size + u, 0, self->size, -EOVERFLOW },
		/* Both at once. */
		{ -u, -u, 2 * u, -EOVERFLOW },
		{ 0, 0, -u, -EINVAL },
		{ u, u, -u, -EINVAL },
		{ 2 * u, 0, -u, -EOVERFLOW },
		{ 0, 2 * u, -u, -EINVAL },
	};
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		ret = map_mem(self->vm, rows[i].gpa, self->mem, rows[i].offset,
			      rows[i].size, variant->access | RWX);
		EXPECT_EQ(rows[i].expected, ret) {
			TH_LOG("row %u", i);
		}
		EXPECT_EQ(!ret, nr_bindings(self));
		if (!ret) {
			EXPECT_EQ(0, unmap_mem(self->vm, rows[i].gpa, self->mem,
					       rows[i].offset, rows[i].size,
					       variant->access | RWX));
		}
	}

	/* 2^64 wraps to 0; either error will do. */
	ret = map_mem(self->vm, -u, self->mem, 0, u, variant->access | RWX);
	EXPECT_TRUE(ret == -EINVAL || ret == -EOVERFLOW);
	ret = map_mem(self->vm, 0, self->mem, -u, u, variant->access | RWX);
	EXPECT_TRUE(ret == -EINVAL || ret == -EOVERFLOW);
}

TEST_F(map, b10_narrow_address_space)
{
	const __u64 u = self->unit, end = 1ULL << 32;
	int vm = new_vm_bits(variant->provider, GMEM_POLICY_ALLOW, 32);

	ASSERT_LE(0, vm);
	EXPECT_EQ(-EINVAL, map_mem(vm, end, self->mem, 0, u, LEND | RWX));
	EXPECT_EQ(-EINVAL, map_mem(vm, end - u, self->mem, 0, 2 * u,
				   LEND | RWX));
	EXPECT_EQ(0, map_mem(vm, end - u, self->mem, 0, u, LEND | RWX));
	/* Gunyah's agent lives above this address space. */
	if (strcmp(variant->provider, "gunyah"))
		EXPECT_EQ(0, guest_write(vm, end - 1, 1));
	EXPECT_EQ(-EINVAL, unmap_range(vm, end - u, 2 * u, NULL));
	EXPECT_EQ(-EINVAL, reclaim_range(vm, end, u, NULL));
	EXPECT_EQ(-EINVAL, populate_range(vm, end, u, NULL));
	EXPECT_EQ(-EINVAL, query_vm_range(vm, 0, end + PAGE, NULL, 0));
	EXPECT_EQ(-EOVERFLOW, unmap_range(vm, end - u, -u, NULL));
	EXPECT_EQ(0, unmap_range(vm, 0, end, NULL));
	close(vm);
}

TEST_F(map, alignment)
{
	const __u64 u = self->unit;
	__u64 wrong[] = { 1, 512, u / 2, u - 1, u + 1, u + 512 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		EXPECT_EQ(-EINVAL, map_mem(self->vm, wrong[i], self->mem, 0, u,
					   variant->access | RWX));
		EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, self->mem, wrong[i], u,
					   variant->access | RWX));
		EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, self->mem, 0, wrong[i],
					   variant->access | RWX));
		EXPECT_EQ(-EINVAL, mem_alloc(self->mem, 0, wrong[i], u));
		EXPECT_EQ(-EINVAL, mem_alloc(self->mem, PUNCH, 0, wrong[i]));
	}
	EXPECT_EQ(0, nr_bindings(self));

	/*
	 * A range must not end inside a huge page, but it may end inside a
	 * hole.
	 */
	ASSERT_EQ(0, MAP(4, 0, 2));
	if (u == HUGE_PAGE) {
		EXPECT_EQ(-EINVAL, unmap_range(self->vm, 4 * u, PAGE, NULL));
		EXPECT_EQ(-EINVAL,
			  unmap_range(self->vm, 5 * u + PAGE, u, NULL));
		EXPECT_EQ(-EINVAL,
			  unmap_range(self->vm, 3 * u, u + PAGE, NULL));
		EXPECT_EQ(-EINVAL, reclaim_range(self->vm, 4 * u, PAGE, NULL));
		EXPECT_EQ(-EINVAL, populate_range(self->vm, 4 * u, PAGE, NULL));
		EXPECT_EQ(1, nr_bindings(self));
		EXPECT_EQ(0, unmap_range(self->vm, 3 * u + PAGE, 4 * u, NULL));
		EXPECT_EQ(0, nr_bindings(self));
	} else {
		EXPECT_EQ(-EINVAL, unmap_range(self->vm, 4 * u + 1, u, NULL));
		EXPECT_EQ(-EINVAL, unmap_range(self->vm, 4 * u, u - 1, NULL));
		EXPECT_EQ(1, nr_bindings(self));
	}
}

static bool overlap(int first, int nr, int other_first, int other_nr)
{
	return first < other_first + other_nr && other_first < first + nr;
}

/*
 * Every way in which two ranges of the guest can overlap, at different file
 * ranges.
 */
TEST_F(map, guest_overlap)
{
	int first, nr, ret;

	ASSERT_EQ(0, MAP(4, 0, 4));
	for (first = 0; first <= 9; first++)
		for (nr = 1; nr <= 10; nr++) {
			if (nr > PAGES - 4)
				continue;
			ret = MAP(first, 4, nr);
			ASSERT_EQ(overlap(first, nr, 4, 4) ? -EEXIST : 0, ret) {
				TH_LOG("%d pages at %d", nr, first);
			}
			if (!ret)
				ASSERT_EQ(0,
					  unmap_range(self->vm,
						      first * self->unit,
						      nr * self->unit, NULL));
			ASSERT_EQ(1, nr_bindings(self));
		}
}

/*
 * Every way in which two ranges of the file can overlap, for each pair of
 * accesses.
 */
TEST_F(map, file_overlap)
{
	static const __u32 accesses[] = { LEND, SHARE };
	int first, nr, ret, expected, vm, i, other;
	bool multi, clash;
	struct gmem_info info;

	ASSERT_TRUE(find_provider(variant->provider, &info));
	ASSERT_EQ(0, MAP(0, 4, 4));
	other = new_vm(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, other);

	for (i = 0; i < 4; i++) {
		__u32 access = accesses[i & 1];

		/*
		 * The second binding belongs to another VM or to the same one.
		 */
		vm = i & 2 ? other : self->vm;
		multi = (info.provider_flags & GMEM_PROVIDER_SHARE_MULTI) &&
			access == SHARE && variant->access == SHARE;
		for (first = 1; first <= 9; first++)
			for (nr = 1; nr <= 7; nr++) {
				clash = overlap(first, nr, 4, 4) && !multi;
				expected = clash ? -EEXIST : 0;
				ret = map_mem(vm, 100 * self->unit, self->mem,
					      first * self->unit,
					      nr * self->unit, access | RWX);
				ASSERT_EQ(expected, ret) {
					TH_LOG("%d pages at %d", nr, first);
				}
				if (!ret)
					ASSERT_EQ(0, unmap_range(vm,
						100 * self->unit,
						nr * self->unit, NULL));
			}
	}
	close(other);
}

/* B18: because of an inclusive upper bound, a neighbour seemed to overlap. */
TEST_F(map, b18_neighbours)
{
	const __u64 u = self->unit;
	__u64 nr;
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	/* Back to back in the guest, and in the file in the other direction. */
	for (i = 0; i < PAGES; i++)
		ASSERT_EQ(0, MAP(i, PAGES - 1 - i, 1));
	for (i = 0; i < PAGES; i++)
		ASSERT_EQ(0, guest_write(self->vm, i * u, i));
	/* Unbinding some units leaves the units around them. */
	ASSERT_EQ(0, unmap_range(self->vm, 4 * u, 2 * u, &nr));
	EXPECT_EQ(2 * u / PAGE, nr);
	EXPECT_EQ(PAGES - 2, nr_bindings(self));
	for (i = 0; i < PAGES; i++) {
		EXPECT_EQ(i == 4 || i == 5 ? -EFAULT : i,
			  guest_read(self->vm, i * u));
		EXPECT_EQ(variant->access == LEND && i != 4 && i != 5  ? 'l' :
			  variant->access == SHARE && i != 4 && i != 5 ? 's' :
									 'h',
			  page_state(self->mem, (PAGES - 1 - i) * u));
	}
	/* So does taking one back. */
	ASSERT_EQ(0, reclaim_range(self->vm, 8 * u, u, &nr));
	EXPECT_EQ(variant->access == LEND ? u / PAGE : 0, nr);
	EXPECT_EQ(variant->access == LEND ? 'l' : 's',
		  page_state(self->mem, (PAGES - 1 - 7) * u));
	EXPECT_EQ(variant->access == LEND ? 'l' : 's',
		  page_state(self->mem, (PAGES - 1 - 9) * u));
}

/* A read-only descriptor can't lend, and gives no guest write access. */
TEST_F(map, read_only_descriptor)
{
	int ro = reopen(self->mem, O_RDONLY);

	ASSERT_LE(0, ro);
	EXPECT_EQ(-EACCES, map_mem(self->vm, 0, ro, 0, self->unit,
				   variant->access | RWX));
	/*
	 * If a call has several errors, it returns the first in the documented
	 * order.
	 */
	EXPECT_EQ(-EINVAL, map_mem(self->vm, 0, ro, self->size, self->unit,
				   variant->access | RWX));
	if (has_window(variant->provider))
		EXPECT_EQ(-EOPNOTSUPP, map_mem(self->vm, 0, ro, 0, self->unit,
					       GMEM_MAP_ALLOW_WRITE));
	if (variant->access == LEND) {
		EXPECT_EQ(-EACCES, map_mem(self->vm, 0, ro, 0, self->unit,
					   LEND | RX));
		close(ro);
		return;
	}
	EXPECT_EQ(0, map_mem(self->vm, 0, ro, 0, self->unit,
			     variant->access | RX));
	EXPECT_EQ(-EACCES, map_mem(self->vm, 0, ro, 0, self->unit,
				   variant->access | RWX));
	EXPECT_EQ(0, guest_read(self->vm, 0));
	close(ro);
	/* The binding keeps its right to read, and gets no other. */
	EXPECT_EQ(0, guest_read(self->vm, self->unit - 1));
	EXPECT_GT(0, guest_write(self->vm, 0, 1));
}

/* A write-only descriptor can't be bound: every binding allows reading. */
TEST_F(map, write_only_descriptor)
{
	int wo = reopen(self->mem, O_WRONLY);

	ASSERT_LE(0, wo);
	EXPECT_EQ(-EACCES, map_mem(self->vm, 0, wo, 0, self->unit,
				   variant->access | RX));
	EXPECT_EQ(-EACCES, map_mem(self->vm, 0, wo, 0, self->unit,
				   variant->access | RWX));
	close(wo);
}

/* GMEM_MAP_UNMAP needs an exact match. */
TEST_F(map, unmap_must_match)
{
	const __u64 u = self->unit;
	const __u32 flags = variant->access | RWX;
	int other = new_mem(self->size, variant->mem_flags);
	int again = reopen(self->mem, O_RDWR);

	ASSERT_LE(0, other);
	ASSERT_LE(0, again);
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 0, self->mem, 0, u, flags));
	ASSERT_EQ(0, MAP(4, 4, 4));
	ASSERT_EQ(0, MAP(8, 8, 4));
	EXPECT_EQ(-ENOENT,
		  unmap_mem(self->vm, 4 * u, self->mem, 5 * u, u, flags));
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 4 * u, other, 4 * u, u, flags));
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 4 * u, self->mem, 4 * u, u,
				     variant->access | RX));
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 4 * u, self->mem, 4 * u, u,
				     (variant->access ^ 3) | RWX));
	/*
	 * The range exceeds the binding, although the next binding continues
	 * it.
	 */
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 4 * u, self->mem, 4 * u, 5 * u,
				     flags));
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 3 * u, self->mem, 3 * u, 2 * u,
				     flags));
	EXPECT_EQ(-ENOENT, unmap_mem(self->vm, 11 * u, self->mem, 11 * u, 2 * u,
				     flags));
	EXPECT_EQ(2, nr_bindings(self));
	/*
	 * A part of a binding matches, and so does another descriptor of the
	 * same file.
	 */
	EXPECT_EQ(0, unmap_mem(self->vm, 5 * u, again, 5 * u, 2 * u, flags));
	EXPECT_EQ(3, nr_bindings(self));
	EXPECT_EQ(-ENOENT,
		  unmap_mem(self->vm, 5 * u, again, 5 * u, 2 * u, flags));
	EXPECT_EQ(0, unmap_mem(self->vm, 4 * u, self->mem, 4 * u, u, flags));
	EXPECT_EQ(0, unmap_mem(self->vm, 7 * u, self->mem, 7 * u, u, flags));
	EXPECT_EQ(0,
		  unmap_mem(self->vm, 8 * u, self->mem, 8 * u, 4 * u, flags));
	EXPECT_EQ(0, nr_bindings(self));
	close(other);
	close(again);
}

/*
 * B7: every error path of a map leaked the binding and with it the guestmem.
 * kmemleak finds the binding, the teardown finds the guestmem.
 */
TEST_F(map, b07_failing_maps_leak_nothing)
{
	unsigned long n = scaled(20000);
	int other = new_vm(variant->provider, GMEM_POLICY_ALLOW);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 4 * self->unit, self->unit,
			     LEND | RWX));
	ASSERT_EQ(0, MAP(0, 0, 1));
	while (n--) {
		ASSERT_EQ(-EEXIST, MAP(0, 8, 1));
		ASSERT_EQ(-EEXIST, MAP(8, 4, 1));
		ASSERT_EQ(-EEXIST, MAP(8, 2, 8));
		ASSERT_EQ(-EINVAL, MAP(8, PAGES, 1));
	}
	ASSERT_EQ(1, nr_bindings(self));
	close(other);
}

/* ---- GMEM_VM_MAP ---- */

/* It takes what GMEM_VM_MAP_MEM takes, without UNMAP, and its own flags. */
TEST_F(map, new_call_values)
{
	const __u32 flags = variant->access | RWX;
	const __u64 u = self->unit;
	int i;

	for (i = 0; i < 32; i++) {
		if (i < 3 || (i >= 4 && i <= 6) || i == 9 || i == 10)
			continue;
		EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->mem, 0, u,
					   RWX | 1U << i, 0));
	}
	EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->mem, 0, u,
				   variant->access, 0));
	EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->mem, 0, u, flags,
				   GMEM_POLICY_SCRUB));
	EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->mem, 0, u,
				   flags | GMEM_MAP_POLICY,
				   GMEM_POLICY_DENY + 1));
	EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->mem, 0, 0, flags, 0));
	EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->mem, u, self->size,
				   flags, 0));
	EXPECT_EQ(-EOVERFLOW, new_map(self->vm, -u, self->mem, 0, 2 * u, flags,
				      0));
	EXPECT_EQ(-EBADF, new_map(self->vm, 0, -1, 0, u, flags, 0));
	EXPECT_EQ(-EINVAL, new_map(self->vm, 0, self->vm, 0, u, flags, 0));
	EXPECT_EQ(0, nr_bindings(self));
	EXPECT_EQ(0, new_map(self->vm, 0, self->mem, 0, u, flags, 0));
	EXPECT_EQ(-EEXIST, new_map(self->vm, 0, self->mem, u, u, flags, 0));
	EXPECT_EQ(0, unmap_mem(self->vm, 0, self->mem, 0, u, flags));
}

/* A policy of the binding counts in place of the VM's. */
TEST_F(map, policy_of_a_binding)
{
	static const __u32 policies[] = { GMEM_POLICY_ALLOW, GMEM_POLICY_SCRUB,
					  GMEM_POLICY_DENY };
	const __u32 flags = variant->access | RWX;
	const __u64 u = self->unit;
	struct gmem_binding_info b[4];
	__u8 *host;
	int i, vm_policy;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: a running guest keeps its pages");
	host = map_host(self->mem, 0, self->size);
	ASSERT_NE(MAP_FAILED, host);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, new_map(self->vm, i * u, self->mem, i * u, u,
				     flags | GMEM_MAP_POLICY, policies[i]));
	ASSERT_EQ(0, MAP(3, 3, 1));
	ASSERT_EQ(4, query_guest(self->vm, b, 4));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(flags | GMEM_MAP_POLICY, b[i].flags);
		EXPECT_EQ(policies[i], b[i].policy);
	}
	EXPECT_EQ(flags, b[3].flags);
	EXPECT_EQ(0, b[3].policy);

	for (vm_policy = 0; vm_policy <= GMEM_POLICY_DENY; vm_policy++) {
		ASSERT_EQ(0, set_policy(self->vm, vm_policy));
		for (i = 0; i < 4; i++) {
			__u32 policy = i < 3 ? policies[i] : (__u32)vm_policy;
			bool lent = variant->access == LEND;

			ASSERT_EQ(0, guest_write(self->vm, i * u, 0x40 + i));
			EXPECT_EQ(policy == GMEM_POLICY_DENY ? -EACCES : 0,
				  reclaim_range(self->vm, i * u, u, NULL));
			EXPECT_EQ(lent && policy == GMEM_POLICY_SCRUB ? 0 :
				  0x40 + i, guest_read(self->vm, i * u));
			ASSERT_EQ(0, guest_write(self->vm, i * u, 0x50 + i));
			EXPECT_EQ(!lent || policy == GMEM_POLICY_ALLOW ?
				  0x50 + i : policy == GMEM_POLICY_SCRUB ?
				  0 : -SIGBUS, peek(host + i * u));
		}
	}
	/* One binding that denies is enough. */
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_ALLOW));
	EXPECT_EQ(-EACCES, reclaim_range(self->vm, 0, 4 * u, NULL));
	/* A split keeps the policy on both sides. */
	ASSERT_EQ(0, unmap_range(self->vm, 0, 4 * u, NULL));
	ASSERT_EQ(0, new_map(self->vm, 0, self->mem, 0, 3 * u,
			     flags | GMEM_MAP_POLICY, GMEM_POLICY_SCRUB));
	ASSERT_EQ(0, unmap_range(self->vm, u, u, NULL));
	ASSERT_EQ(2, query_guest(self->vm, b, 4));
	EXPECT_EQ(GMEM_POLICY_SCRUB, b[0].policy);
	EXPECT_EQ(GMEM_POLICY_SCRUB, b[1].policy);
	munmap(host, self->size);
}

#define JOIN(gpa, offset, size, extra)					\
	new_map(self->vm, (gpa) * self->unit, self->mem,		\
		(offset) * self->unit, (size) * self->unit,		\
		variant->access | RWX | GMEM_MAP_JOIN | (extra),	\
		GMEM_POLICY_ALLOW)

/* Page by page, in any order: one binding. */
TEST_F(map, join_in_any_order)
{
	static const int order[] = { 5, 3, 4, 0, 15, 1, 2, 14, 12, 13, 7, 6, 9,
				     11, 10, 8 };
	struct gmem_binding_info b;
	struct gmem_stats s;
	int i;

	for (i = 0; i < PAGES; i++) {
		ASSERT_EQ(0, JOIN(order[i] + 3, order[i], 1, 0));
		ASSERT_EQ(-EEXIST, JOIN(order[i] + 3, order[i], 1, 0));
		/* The guest is beside it all the time. */
		ASSERT_EQ(0, guest_write(self->vm, (order[i] + 3) * self->unit,
					 order[i]));
	}
	ASSERT_EQ(1, query_guest(self->vm, &b, 1));
	EXPECT_EQ(1, nr_bindings(self));
	EXPECT_EQ(3 * self->unit, b.guest_addr);
	EXPECT_EQ(0, b.offset);
	EXPECT_EQ(self->size, b.length);
	ASSERT_EQ(0, get_stats(&s));
	EXPECT_EQ(self->before.bindings + 1 + self->own, s.bindings);
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i, guest_read(self->vm, (i + 3) * self->unit));
	if (has_parcels(self->vm))
		return;
	/* It is a binding like any other. */
	ASSERT_EQ(0, unmap_mem(self->vm, 7 * self->unit, self->mem,
			       4 * self->unit, 2 * self->unit,
			       variant->access | RWX));
	EXPECT_EQ(2, nr_bindings(self));
	EXPECT_EQ(3, guest_read(self->vm, 6 * self->unit));
	EXPECT_EQ(-EFAULT, guest_read(self->vm, 7 * self->unit));
	EXPECT_EQ(0, JOIN(7, 4, 2, 0));
	EXPECT_EQ(1, nr_bindings(self));
}

/* Each way not to continue a neighbour. */
TEST_F(map, join_needs_an_equal_neighbour)
{
	const __u64 u = self->unit;
	int other = new_mem(self->size, variant->mem_flags);
	int ro = reopen(self->mem, O_RDONLY);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, MAP(4, 4, 2));
	/* Without the flag. */
	ASSERT_EQ(0, MAP(6, 6, 1));
	EXPECT_EQ(2, nr_bindings(self));
	ASSERT_EQ(0, unmap_range(self->vm, 6 * u, u, NULL));
	/* In the guest alone, or in the file alone. */
	ASSERT_EQ(0, JOIN(6, 7, 1, 0));
	ASSERT_EQ(0, JOIN(9, 6, 1, 0));
	EXPECT_EQ(3, nr_bindings(self));
	ASSERT_EQ(0, unmap_range(self->vm, 6 * u, 4 * u, NULL));
	/* Another file, or other flags. */
	ASSERT_EQ(0, new_map(self->vm, 6 * u, other, 6 * u, u, variant->access |
			     RWX | GMEM_MAP_JOIN, 0));
	ASSERT_EQ(0, new_map(self->vm, 3 * u, self->mem, 3 * u, u,
			     (variant->access ^ 3) | RWX | GMEM_MAP_JOIN, 0));
	EXPECT_EQ(3, nr_bindings(self));
	ASSERT_EQ(0, unmap_range(self->vm, 3 * u, u, NULL));
	ASSERT_EQ(0, new_map(self->vm, 3 * u, self->mem, 3 * u, u,
			     variant->access | RX | GMEM_MAP_JOIN, 0));
	EXPECT_EQ(3, nr_bindings(self));
	ASSERT_EQ(0, unmap_range(self->vm, 3 * u, u, NULL));
	/* Another policy, or one of its own. */
	ASSERT_EQ(0, JOIN(3, 3, 1, GMEM_MAP_POLICY));
	EXPECT_EQ(3, nr_bindings(self));
	/* The same policy. */
	ASSERT_EQ(0, JOIN(2, 2, 1, GMEM_MAP_POLICY));
	EXPECT_EQ(3, nr_bindings(self));
	ASSERT_EQ(0, unmap_range(self->vm, 0, 10 * u, NULL));
	/* A descriptor with other rights. */
	if (variant->access == SHARE) {
		ASSERT_EQ(0, new_map(self->vm, 0, self->mem, 0, u, SHARE | RX,
				     0));
		ASSERT_EQ(0, new_map(self->vm, u, ro, u, u, SHARE | RX |
				     GMEM_MAP_JOIN, 0));
		EXPECT_EQ(2, nr_bindings(self));
	}
	close(other);
	close(ro);
}

TEST_HARNESS_MAIN
