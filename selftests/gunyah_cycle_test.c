// SPDX-License-Identifier: GPL-2.0-only
/* A hundred thousand pages go to guests and come back; none is lost. */
#include "lib/gunyah_fixture.h"

#define GPA GIB(4)
#define NR_PAGES 2048
#define SIZE (NR_PAGES * PAGE)

FIXTURE(cycle)
{
	struct gmem_stats before;
	struct gunyah_guest guest;
	struct el2 el2;
	__u64 nr;
	int mem;
};

FIXTURE_VARIANT(cycle)
{
	__u64 mem_flags;
	__u32 access;
};

VARIANT(cycle, 4k_lend, .access = LEND);
VARIANT(cycle, 4k_share, .access = SHARE);
VARIANT(cycle, 2m_lend, .access = LEND, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(cycle)
{
	ASSERT_LE(0, gmem_dev());
	if (!have_provider("gunyah"))
		SKIP(return, "no provider gunyah");
	gunyah_open_monitor(&self->el2);
	ASSERT_EQ(0, get_stats(&self->before));
	self->mem = new_mem(SIZE, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	/* From here on, only a lost page changes the amount of free memory. */
	ASSERT_EQ(0, mem_alloc(self->mem, 0, 0, SIZE));
}

FIXTURE_TEARDOWN(cycle)
{
	struct gmem_stats after;

	close(self->mem);
	el2_close(&self->el2);
	EXPECT_TRUE(stats_settle(&self->before));
	EXPECT_EQ(0, get_stats(&after));
	EXPECT_EQ(self->before.leaked_pages, after.leaked_pages);
}

/* Provide and take back while the VM runs, which extents allow. */
static int take_turns(FIXTURE_DATA(cycle) *self, __u32 access)
{
	__u64 nr = 0;
	int err;

	err = map_mem(self->guest.vm, GPA, self->mem, 0, SIZE, access | RWX);
	if (!err)
		err = populate_range(self->guest.vm, GPA, SIZE, &nr);
	if (!err && access == LEND) {
		self->nr += nr;
		err = reclaim_range(self->guest.vm, GPA, SIZE, NULL);
		if (!err)
			err = populate_range(self->guest.vm, GPA, SIZE, &nr);
	}
	self->nr += nr;
	return err ?: unmap_range(self->guest.vm, GPA, SIZE, NULL);
}

/* A VM's life, from bind to close. */
static int live(FIXTURE_DATA(cycle) *self, __u32 access, bool turns)
{
	int i, err;

	err = gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW);
	if (!err && !turns)
		err = map_mem(self->guest.vm, GPA, self->mem, 0, SIZE,
			      access | RWX);
	if (!err)
		err = gunyah_guest_start(&self->guest);
	if (!err && !turns)
		self->nr += NR_PAGES;
	for (i = 0; !err && turns && i < 4; i++)
		err = take_turns(self, access);
	gunyah_guest_close(&self->guest);
	return err;
}

TEST_F_TIMEOUT(cycle, nothing_is_lost, 240)
{
	const __u64 nr = scaled(100000);
	bool turns = has_extents(&self->el2);
	struct el2_stats before;
	long kib;

	/*
	 * The first life makes one-time allocations and splits blocks of the
	 * host's tables.
	 */
	ASSERT_EQ(0, live(self, variant->access, turns));
	before = el2_stats(&self->el2);
	kib = mem_available();

	for (self->nr = 0; self->nr < nr;) {
		ASSERT_EQ(0, live(self, variant->access, turns));
	}

	EXPECT_TRUE(el2_settles(&self->el2, &before));
	/*
	 * A page in a block of the host that has been whole splits it for good.
	 */
	EXPECT_LE(before.free_tables, el2_stats(&self->el2).free_tables + 8);
	/* A leak of ten bytes a page would be as much. */
	kib = mem_missing(kib, 1024);
	EXPECT_GT(1024, kib);
	TH_LOG("%llu pages, %ld KiB less than before", self->nr, kib);
}

TEST_HARNESS_MAIN
