// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many VMs share the same pages. If one of them unbinds its share, no other VM's
 * window loses an entry.
 */
#include "lib/fixture.h"

#include <sys/resource.h>

#define NR_VMS 20
#define GPA GIB(1)

FIXTURE(live_share)
{
	struct gmem_stats before;
	int mem;
	int vm[NR_VMS];
	__u8 *window[NR_VMS];
	__u64 size;
};

FIXTURE_VARIANT(live_share)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANT(live_share, paged_4k, .provider = "window");
VARIANT(live_share, live_4k, .provider = "live");
VARIANT(live_share, live_2m, .provider = "live",
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_share)
{
	int i;

	SKIP_UNLESS_POSSIBLE(variant);
	SETUP_STATS();
	self->size = variant->mem_flags ? 2 * HUGE_PAGE : scaled(2048) * PAGE;
	self->mem = new_mem(self->size, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	for (i = 0; i < NR_VMS; i++) {
		self->vm[i] = new_vm(variant->provider, GMEM_POLICY_ALLOW);
		ASSERT_LE(0, self->vm[i]);
		ASSERT_EQ(0, map_mem(self->vm[i], GPA, self->mem, 0, self->size,
				     SHARE | RWX));
		self->window[i] = map_window(self->vm[i], GPA, self->size,
					     PROT_READ | PROT_WRITE);
		ASSERT_NE(MAP_FAILED, self->window[i]);
	}
}

FIXTURE_TEARDOWN(live_share)
{
	int i;

	for (i = 0; i < NR_VMS; i++) {
		munmap(self->window[i], self->size);
		close(self->vm[i]);
	}
	close(self->mem);
	TEARDOWN_STATS();
}

/* Touch the pages in the windows from @first on. Returns the page faults. */
static long touch_from(FIXTURE_DATA(live_share) *self, int first)
{
	struct rusage begin, end;
	__u64 offset;
	int i;

	getrusage(RUSAGE_SELF, &begin);
	for (i = first; i < NR_VMS; i++)
		for (offset = 0; offset < self->size; offset += PAGE)
			*(volatile __u8 *)(self->window[i] + offset) = i;
	getrusage(RUSAGE_SELF, &end);
	return end.ru_minflt + end.ru_majflt - begin.ru_minflt -
	       begin.ru_majflt;
}

TEST_F(live_share, unbinding_disturbs_no_other_vm)
{
	long nr_pages = self->size / PAGE, faults;

	faults = touch_from(self, 0);
	EXPECT_LT(0, faults);
	if (!variant->mem_flags)
		EXPECT_LE(NR_VMS * nr_pages, faults);

	ASSERT_EQ(0, unmap_range(self->vm[0], GPA, self->size, NULL));
	EXPECT_EQ(-SIGBUS, peek(self->window[0]));
	faults = touch_from(self, 1);
	printf("# %ld pages, %d other VMs: %ld faults\n", nr_pages, NR_VMS - 1,
	       faults);
	/* A fault or two may be of the program itself. */
	if (is_live(variant->provider))
		EXPECT_GE(2, faults);

	/* Neither does the end of a VM. */
	munmap(self->window[1], self->size);
	close(self->vm[1]);
	faults = touch_from(self, 2);
	if (is_live(variant->provider))
		EXPECT_GE(2, faults);
	self->window[1] = map_window(self->vm[0], GPA, self->size, PROT_READ);
	self->vm[1] = -1;
}

TEST_HARNESS_MAIN
