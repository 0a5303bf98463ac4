// SPDX-License-Identifier: GPL-2.0-only
#include <linux/atomic.h>
#include <linux/errno.h>

#include "stats.h"

static atomic_long_t gmem_stats[GMEM_NR_STATS];

void gmem_stat_add(enum gmem_stat stat, long n)
{
	atomic_long_add(n, &gmem_stats[stat]);
}

u64 gmem_stat_read(enum gmem_stat stat)
{
	return atomic_long_read(&gmem_stats[stat]);
}

int gmem_stats_call(void *obj, void *arg)
{
	struct gmem_stats *stats = arg;

	if (stats->flags)
		return -EINVAL;

	stats->vms = gmem_stat_read(GMEM_STAT_VMS);
	stats->mems = gmem_stat_read(GMEM_STAT_MEMS);
	stats->bindings = gmem_stat_read(GMEM_STAT_BINDINGS);
	stats->lent_pages = gmem_stat_read(GMEM_STAT_LENT_PAGES);
	stats->leaked_pages = gmem_stat_read(GMEM_STAT_LEAKED_PAGES);
	stats->lends = gmem_stat_read(GMEM_STAT_LENDS);
	stats->reclaims = gmem_stat_read(GMEM_STAT_RECLAIMS);
	stats->refused = gmem_stat_read(GMEM_STAT_REFUSED);
	return 0;
}
