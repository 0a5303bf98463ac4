/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_STATS_H
#define _GMEM_STATS_H

#include <linux/gmem.h>

enum gmem_stat {
	GMEM_STAT_VMS,
	GMEM_STAT_MEMS,
	GMEM_STAT_BINDINGS,
	GMEM_STAT_LENT_PAGES,
	GMEM_STAT_LEAKED_PAGES,
	GMEM_STAT_LENDS,
	GMEM_STAT_RECLAIMS,
	GMEM_STAT_REFUSED,
	GMEM_NR_STATS,
};

/* Counters of the whole module, for GMEM_STATS. */
void gmem_stat_add(enum gmem_stat stat, long n);
u64 gmem_stat_read(enum gmem_stat stat);
int gmem_stats_call(void *obj, void *arg);

#endif /* _GMEM_STATS_H */
