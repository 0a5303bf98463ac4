/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_NUMA_H
#define _GMEM_NUMA_H

#include <linux/types.h>

struct mempolicy;
struct vm_area_struct;

/*
 * For the operations of every mapping with pages of a guestmem: it has no NUMA
 * policy.
 */
struct mempolicy *gmem_numa_get_policy(struct vm_area_struct *vma,
				       unsigned long addr, pgoff_t *index);

#ifdef CONFIG_NUMA
#define GMEM_NUMA_VM_OPS .get_policy = gmem_numa_get_policy,
#else
#define GMEM_NUMA_VM_OPS
#endif

#endif /* _GMEM_NUMA_H */
