/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory cgroup that pays for the pages of a guestmem. The kernel charges a
 * page to the task that adds it to the file, or to the group that the task has set
 * for that moment.
 */
#ifndef _GMEM_CHARGE_H
#define _GMEM_CHARGE_H

#include <linux/cgroup.h>
#include <linux/err.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/types.h>

#include "objects.h"

#ifdef CONFIG_MEMCG
/* Can a creator name a group? */
bool gmem_charge_present(void);
/*
 * The group that pays for a directory of the cgroup2 filesystem, with a reference.
 * -EBADF if @fd isn't one; -EACCES if the caller may not charge it.
 */
struct mem_cgroup *gmem_charge_open(int fd);

/* Has the group been removed? The kernel may still be about to notice. */
static inline bool gmem_charge_is_gone(struct mem_cgroup *memcg)
{
	return css_is_dying(&memcg->css);
}
#else
static inline bool gmem_charge_present(void)
{
	return false;
}

static inline struct mem_cgroup *gmem_charge_open(int fd)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline bool gmem_charge_is_gone(struct mem_cgroup *memcg)
{
	return false;
}
#endif

/*
 * Between the two, pages are charged to the group of @mem, if it has one, or to
 * its nearest ancestor that hasn't been removed. The kernel uncharges the pages of
 * a removed group from its parent, so a charge to the group would stay for good.
 */
static inline struct mem_cgroup *gmem_charge_begin(const struct gmem_mem *mem)
{
	struct mem_cgroup *memcg = mem->memcg;

	if (!memcg)
		return NULL;
	while (gmem_charge_is_gone(memcg))
		memcg = parent_mem_cgroup(memcg);
	return set_active_memcg(memcg);
}

static inline void gmem_charge_end(const struct gmem_mem *mem,
				   struct mem_cgroup *before)
{
	if (mem->memcg)
		set_active_memcg(before);
}

#endif /* _GMEM_CHARGE_H */
