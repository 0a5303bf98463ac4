/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For Gunyah: the common parts of fixtures that have before, el2_before and
 * el2.
 */
#ifndef LIB_GUNYAH_FIXTURE_H
#define LIB_GUNYAH_FIXTURE_H

#include "gunyah_guest.h"

#include "el2/el2_util.h"
#include "el2/rm_messages.h"

#define RM_TIMEOUT "/sys/module/gmem/parameters/gunyah_rm_timeout_ms"

#define RM_NORESOURCE 2
#define RM_DENIED 3

/* The number of the monitor's pages, of 4 KiB, in @nr of this kernel's. */
#define EL2_PAGES(nr) ((nr) * (PAGE / EL2_PAGE_SIZE))

static inline bool has_extents(const struct el2 *el2)
{
	return el2->platform == EL2_PLATFORM_EXTENTS;
}

/*
 * Wait until the monitor's counts are those of @before: the end of a VM may go
 * on behind close().
 */
static inline bool el2_settles(const struct el2 *el2,
			       const struct el2_stats *before)
{
	double end = now() + 60;
	struct el2_stats after;

	do {
		after = el2_stats(el2);
		if (after.pages == before->pages &&
		    after.parcels == before->parcels &&
		    after.vms == before->vms)
			return true;
		usleep(10000);
	} while (now() < end);
	printf("# left over: %lld pages, %lld parcels, %lld VMs\n",
	       (long long)(after.pages - before->pages),
	       (long long)(after.parcels - before->parcels),
	       (long long)(after.vms - before->vms));
	return false;
}

/* Open the monitor. On another hypervisor there are no counts: all are 0. */
static inline void gunyah_open_monitor(struct el2 *el2)
{
	*el2 = (struct el2){ .fd = -1 };
	if (!el2_open(el2))
		el2->platform = binds_first("gunyah") ? EL2_PLATFORM_PUBLIC :
							EL2_PLATFORM_EXTENTS;
}

/* For a test that asks the monitor to do or to show something. */
#define ONLY_MONITOR()							\
	do {								\
		if (self->el2.fd < 0)					\
			SKIP(return, "only the monitor can show this");	\
	} while (0)

/* Open the monitor, allow lending, and note the counts before the test. */
#define SETUP_GUNYAH()							\
	do {								\
		ASSERT_LE(0, gmem_dev());				\
		if (!have_provider("gunyah"))				\
			SKIP(return, "no provider gunyah");		\
		gunyah_open_monitor(&self->el2);			\
		ASSERT_EQ(0, gunyah_allow_mapped(true));		\
		ASSERT_EQ(0, get_stats(&self->before));			\
		self->el2_before = el2_stats(&self->el2);		\
	} while (0)

/*
 * Once the test has closed its objects: check that the counts are the same,
 * unless the test may have lost pages.
 */
#define TEARDOWN_GUNYAH(lossy)						\
	do {								\
		struct gmem_stats _stats;				\
									\
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);		\
		write_file(RM_TIMEOUT, "5000");				\
		EXPECT_TRUE(stats_settle(&self->before));		\
		if (!(lossy)) {						\
			EXPECT_EQ(0, get_stats(&_stats));		\
			EXPECT_EQ(self->before.leaked_pages,		\
				  _stats.leaked_pages);			\
			EXPECT_EL2_AS(self->el2_before, &self->el2);	\
		}							\
		el2_close(&self->el2);					\
	} while (0)

#endif /* LIB_GUNYAH_FIXTURE_H */
