// SPDX-License-Identifier: GPL-2.0-only
/*
 * The NUMA policy of a guestmem: which nodes its pages come from.
 *
 * A policy belongs to a range of the file, as it does for shmem: it is set at
 * creation for the whole file, or by mbind() of a mapping, and all tasks allocate
 * pages by it. Where there is none, the policy of the task that first touches a
 * page counts.
 *
 * A module can't keep a struct mempolicy, because it can't drop a reference to
 * one. So this copies the mode and the nodes of a policy, and allocates by
 * these.
 *
 * NUMA balancing takes page table entries away from time to time, to learn from
 * the next fault which node uses a page. A guestmem's pages can't be moved, so
 * such faults would only cost time: each one takes a huge page from KVM, too.
 * The kernel leaves out dirty pages of files, as those of a guestmem are; but not
 * in every version if the page is huge. So the mappings say that there is no
 * policy, whatever mbind() has set.
 */
#include <linux/cpuset.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/maple_tree.h>
#include <linux/mempolicy.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "numa.h"
#include "objects.h"

/*
 * Some kernels charge the nodes of a maple tree to no cgroup. So the number of
 * ranges with policies in a guestmem has this limit.
 */
#define GMEM_NUMA_MAX_RANGES 65536

void gmem_numa_init(struct gmem_mem *mem)
{
	mem->nr_numa = 0;
	/* Flags as for gmem_vm.bindings. */
	mt_init_flags(&mem->numa, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU |
		      MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&mem->numa, &mem->numa_lock);
}

#ifdef CONFIG_NUMA

/**
 * struct gmem_numa - a policy, and an entry of &gmem_mem.numa
 * @mode: MPOL_PREFERRED, _PREFERRED_MANY, _BIND, _INTERLEAVE or _LOCAL
 * @home_node: where to look first, or NUMA_NO_NODE
 * @nodes: not empty, except for MPOL_LOCAL
 * @pieces: ranges of the file that have it
 * @next: chains entries that are to be freed
 * @rcu: frees it
 *
 * All other fields than @pieces and @next are constant.
 */
struct gmem_numa {
	unsigned short mode;
	int home_node;
	nodemask_t nodes;
	unsigned long pieces;
	union {
		struct gmem_numa *next;
		struct rcu_head rcu;
	};
};

static bool gmem_numa_serves(unsigned int mode)
{
	switch (mode) {
	case MPOL_PREFERRED:
	case MPOL_BIND:
	case MPOL_INTERLEAVE:
	case MPOL_LOCAL:
	case MPOL_PREFERRED_MANY:
		return true;
	default:
		/* The weights of MPOL_WEIGHTED_INTERLEAVE are the kernel's. */
		return false;
	}
}

static struct gmem_numa *gmem_numa_alloc(unsigned short mode, int home_node,
					 const nodemask_t *nodes)
{
	struct gmem_numa *numa;

	numa = kmalloc(sizeof(*numa), GFP_KERNEL_ACCOUNT);
	if (!numa)
		return NULL;
	numa->mode = mode;
	numa->home_node = home_node;
	numa->nodes = *nodes;
	numa->pieces = 1;
	return numa;
}

/*
 * Count the pieces that are left when [@first, @last] gets another entry; returns
 * the entries that have none left.
 */
static struct gmem_numa *gmem_numa_cut(struct gmem_mem *mem, pgoff_t first,
				       pgoff_t last)
{
	MA_STATE(mas, &mem->numa, first, first);
	struct gmem_numa *numa, *gone = NULL;

	mas_for_each(&mas, numa, last) {
		bool left = mas.index < first, right = mas.last > last;

		if (left && right)
			numa->pieces++;
		else if (!left && !right && !--numa->pieces) {
			numa->next = gone;
			gone = numa;
		}
	}
	return gone;
}

/* How many more ranges have a policy when [@first, @last] gets the policy @numa. */
static long gmem_numa_more(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			   const struct gmem_numa *numa)
{
	MA_STATE(mas, &mem->numa, first, first);
	const struct gmem_numa *old;
	long more = numa ? 1 : 0;

	mas_for_each(&mas, old, last)
		more += (mas.index < first) + (mas.last > last) - 1;
	return more;
}

/* Give [@first, @last] the policy @numa; NULL for none. */
static int gmem_numa_store(struct gmem_mem *mem, pgoff_t first, pgoff_t last,
			   struct gmem_numa *numa)
{
	MA_STATE(mas, &mem->numa, first, last);
	struct gmem_numa *gone;
	long more;
	int err;

	mutex_lock(&mem->numa_lock);
	more = gmem_numa_more(mem, first, last, numa);
	if (more > 0 && mem->nr_numa + more > GMEM_NUMA_MAX_RANGES)
		err = -ENOSPC;
	else
		err = mas_preallocate(&mas, numa, GFP_KERNEL_ACCOUNT);
	if (!err) {
		gone = gmem_numa_cut(mem, first, last);
		mas_store_prealloc(&mas, numa);
		mem->nr_numa += more;
	}
	mutex_unlock(&mem->numa_lock);
	if (err)
		return err;

	while (gone) {
		numa = gone;
		gone = numa->next;
		kfree_rcu(numa, rcu);
	}
	return 0;
}

int gmem_numa_set_policy(struct gmem_mem *mem, struct vm_area_struct *vma,
			 struct mempolicy *policy)
{
	pgoff_t first = vma->vm_pgoff, last = first + vma_pages(vma) - 1;
	pgoff_t nr_pages = i_size_read(&mem->inode) >> PAGE_SHIFT;
	struct gmem_numa *numa = NULL;
	int err;

	/* All its pages are there. */
	if (mem->secret)
		return -EOPNOTSUPP;
	/* Where memory comes from is for those who may write. */
	if (!(vma->vm_flags & VM_MAYWRITE))
		return -EACCES;
	if (first >= nr_pages)
		return 0;
	last = min(last, nr_pages - 1);
	if (policy && policy->mode != MPOL_DEFAULT) {
		if (!gmem_numa_serves(policy->mode) ||
		    (policy->flags & MPOL_F_NUMA_BALANCING))
			return -EOPNOTSUPP;
		numa = gmem_numa_alloc(policy->mode, policy->home_node,
				       &policy->nodes);
		if (!numa)
			return -ENOMEM;
	}
	err = gmem_numa_store(mem, first, last, numa);
	if (err)
		kfree(numa);
	return err;
}

int gmem_numa_no_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	return -EOPNOTSUPP;
}

/* Copy the nodes of a call. */
static int gmem_numa_copy_nodes(const struct gmem_mem_create *create,
				nodemask_t *nodes)
{
	const u64 __user *from = u64_to_user_ptr(create->nodes);
	unsigned int nr = create->nr_nodes, nid, i;
	u64 word = 0;

	nodes_clear(*nodes);
	if (nr > GMEM_NUMA_MAX_NODES)
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		if (i % 64 == 0 && get_user(word, from + i / 64))
			return -EFAULT;
		if (!(word & BIT_ULL(i % 64)))
			continue;
		if (i >= MAX_NUMNODES)
			return -EINVAL;
		node_set(i, *nodes);
	}
	for_each_node_mask(nid, *nodes)
		if (!node_state(nid, N_MEMORY) ||
		    !node_isset(nid, cpuset_current_mems_allowed))
			return -EINVAL;
	return 0;
}

static bool gmem_numa_nodes_fit(unsigned int mode, const nodemask_t *nodes)
{
	switch (mode) {
	case MPOL_DEFAULT:
	case MPOL_LOCAL:
		return nodes_empty(*nodes);
	case MPOL_PREFERRED:
		return nodes_weight(*nodes) == 1;
	default:
		return !nodes_empty(*nodes);
	}
}

int gmem_numa_create(const struct gmem_mem_create *create,
		     struct gmem_numa **numa)
{
	unsigned int mode = create->numa_mode;
	nodemask_t nodes;
	int err;

	*numa = NULL;
	if (mode != MPOL_DEFAULT && !gmem_numa_serves(mode))
		return -EOPNOTSUPP;
	err = gmem_numa_copy_nodes(create, &nodes);
	if (err)
		return err;
	if (!gmem_numa_nodes_fit(mode, &nodes))
		return -EINVAL;
	if (mode == MPOL_DEFAULT)
		return 0;
	*numa = gmem_numa_alloc(mode, NUMA_NO_NODE, &nodes);
	return *numa ? 0 : -ENOMEM;
}

int gmem_numa_begin(struct gmem_mem *mem, struct gmem_numa *numa)
{
	if (!numa)
		return 0;
	return gmem_numa_store(mem, 0,
			       (i_size_read(&mem->inode) >> PAGE_SHIFT) - 1,
			       numa);
}

void gmem_numa_free(struct gmem_numa *numa)
{
	kfree(numa);
}

void gmem_numa_destroy(struct gmem_mem *mem)
{
	struct gmem_numa *numa, *gone;

	mutex_lock(&mem->numa_lock);
	gone = gmem_numa_cut(mem, 0, ULONG_MAX);
	/* No reader is left, so nodes need no grace period. */
	mt_clear_in_rcu(&mem->numa);
	__mt_destroy(&mem->numa);
	mutex_unlock(&mem->numa_lock);
	while (gone) {
		numa = gone;
		gone = numa->next;
		kfree(numa);
	}
}

/* A copy of the policy at @index; false if there is none. */
static bool gmem_numa_find(struct gmem_mem *mem, pgoff_t index,
			   struct gmem_numa *copy)
{
	const struct gmem_numa *numa;

	rcu_read_lock();
	numa = mtree_load(&mem->numa, index);
	if (numa)
		*copy = *numa;
	rcu_read_unlock();
	return numa;
}

static int gmem_numa_interleave(const struct gmem_numa *numa,
				unsigned long turn)
{
	unsigned int nr = turn % nodes_weight(numa->nodes);
	int nid = first_node(numa->nodes);

	while (nr--)
		nid = next_node(nid, numa->nodes);
	return nid;
}

static struct folio *gmem_numa_folio(gfp_t gfp, unsigned int order, int nid,
				     nodemask_t *nodes)
{
	/* The node may have lost its memory since the policy was set. */
	if (nid == NUMA_NO_NODE || !node_state(nid, N_MEMORY))
		nid = numa_mem_id();
	return __folio_alloc(gfp, order, nid, nodes);
}

struct folio *gmem_numa_alloc_folio(struct gmem_mem *mem, pgoff_t index,
				    gfp_t gfp, unsigned int order)
{
	struct gmem_numa numa;
	struct folio *folio;

	if (!gmem_numa_find(mem, index, &numa))
		return gmem_filemap_alloc_folio(gfp, order);

	switch (numa.mode) {
	case MPOL_BIND:
		/* A task that may use none of the nodes isn't bound by them. */
		if (!nodes_intersects(numa.nodes, cpuset_current_mems_allowed))
			break;
		return gmem_numa_folio(gfp, order, numa.home_node, &numa.nodes);
	case MPOL_PREFERRED_MANY:
		folio = gmem_numa_folio((gfp | __GFP_NOWARN) &
					~__GFP_DIRECT_RECLAIM, order,
					numa.home_node, &numa.nodes);
		if (folio)
			return folio;
		break;
	case MPOL_PREFERRED:
		numa.home_node = first_node(numa.nodes);
		break;
	case MPOL_INTERLEAVE:
		numa.home_node = gmem_numa_interleave(&numa,
						      index >> mem->order);
		break;
	}
	return gmem_numa_folio(gfp, order, numa.home_node, NULL);
}

struct mempolicy *gmem_numa_get_policy(struct vm_area_struct *vma,
				       unsigned long addr, pgoff_t *index)
{
	*index = 0;
	return NULL;
}

#else /* CONFIG_NUMA */

int gmem_numa_create(const struct gmem_mem_create *create,
		     struct gmem_numa **numa)
{
	*numa = NULL;
	if (create->numa_mode != MPOL_DEFAULT)
		return -EOPNOTSUPP;
	return create->nr_nodes ? -EINVAL : 0;
}

int gmem_numa_begin(struct gmem_mem *mem, struct gmem_numa *numa)
{
	return 0;
}

void gmem_numa_free(struct gmem_numa *numa)
{
}

void gmem_numa_destroy(struct gmem_mem *mem)
{
}

struct folio *gmem_numa_alloc_folio(struct gmem_mem *mem, pgoff_t index,
				    gfp_t gfp, unsigned int order)
{
	return gmem_filemap_alloc_folio(gfp, order);
}

#endif /* CONFIG_NUMA */
