// SPDX-License-Identifier: GPL-2.0
/*
 * NUMA balancing takes page table entries away from time to time, to learn from
 * the next fault which node uses a page. A guestmem's pages can't be moved, so
 * such faults would only cost time: each one takes a huge page from KVM, too.
 *
 * The kernel leaves out dirty pages of files, as those of a guestmem are; but not
 * in every version if the page is huge. So it needs to learn from the mapping
 * that there is no policy.
 *
 * Nothing is lost: a page is allocated by the policy of the task that first
 * touches it.
 */
#include <linux/mm.h>

#include "numa.h"

struct mempolicy *gmem_numa_get_policy(struct vm_area_struct *vma,
				       unsigned long addr, pgoff_t *index)
{
	*index = 0;
	return NULL;
}
