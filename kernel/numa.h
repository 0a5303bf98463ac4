/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_NUMA_H
#define _GMEM_NUMA_H

#include <linux/types.h>

struct folio;
struct gmem_mem;
struct gmem_mem_create;
struct gmem_numa;
struct mempolicy;
struct vm_area_struct;

void gmem_numa_init(struct gmem_mem *mem);
/* Free the policies. No mapping is left. */
void gmem_numa_destroy(struct gmem_mem *mem);

/*
 * The policy of a call; *numa is NULL for none. Then gmem_numa_begin() gives it
 * to a new guestmem, which frees it; on failure, or without a guestmem, free it
 * by gmem_numa_free().
 */
int gmem_numa_create(const struct gmem_mem_create *create,
		     struct gmem_numa **numa);
int gmem_numa_begin(struct gmem_mem *mem, struct gmem_numa *numa);
void gmem_numa_free(struct gmem_numa *numa);

/* A new folio for @index, by the policy there; NULL if there is no memory. */
struct folio *gmem_numa_alloc_folio(struct gmem_mem *mem, pgoff_t index,
				    gfp_t gfp, unsigned int order);

/*
 * mbind(): give the range of @vma a policy. The mapping's vm_pgoff is an index of
 * the guestmem.
 */
int gmem_numa_set_policy(struct gmem_mem *mem, struct vm_area_struct *vma,
			 struct mempolicy *policy);
/* mbind() of a mapping that can't have a policy. */
int gmem_numa_no_policy(struct vm_area_struct *vma, struct mempolicy *policy);
/* For NUMA balancing: no mapping has a policy. */
struct mempolicy *gmem_numa_get_policy(struct vm_area_struct *vma,
				       unsigned long addr, pgoff_t *index);

/* The NUMA methods of a mapping, by its own method for mbind(). */
#ifdef CONFIG_NUMA
#define GMEM_NUMA_VM_OPS(set)						\
	.set_policy = set,						\
	.get_policy = gmem_numa_get_policy,
#else
#define GMEM_NUMA_VM_OPS(...)
#endif

#endif /* _GMEM_NUMA_H */
