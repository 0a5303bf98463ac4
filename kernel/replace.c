// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel exports no way to exchange a large folio of a file for another one,
 * or to charge a folio that no file has. So a prepared folio is in a file, too:
 * the spare one of the guestmem, at the same index. To replace a folio is to
 * exchange the two entries. The old one is then removed from the spare file like
 * any folio from any file. So charges and counts of pages are right at each time,
 * and nothing here can fail after the folio was prepared.
 *
 * Both folios are locked for the exchange. A task that has found one of them
 * locks it, sees that it belongs to another file, and looks again.
 */
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>

#include "compat.h"
#include "folio.h"
#include "numa.h"
#include "objects.h"
#include "replace.h"

/* A prepared folio stays whole, and stays in the spare file. */
static bool gmem_spare_release_folio(struct folio *folio, gfp_t gfp)
{
	return false;
}

/* It broke: then the file gets a broken page, as if it had broken there. */
static int gmem_spare_error_remove_folio(struct address_space *mapping,
					 struct folio *folio)
{
	return MF_DELAYED;
}

static const struct address_space_operations gmem_spare_aops = {
	.free_folio = gmem_folio_freed,
	.release_folio = gmem_spare_release_folio,
	.dirty_folio = gmem_folio_dirty,
	.error_remove_folio = gmem_spare_error_remove_folio,
};

/* The spare file; NULL if there is no memory for it. */
static struct address_space *gmem_spare_get(struct gmem_mem *mem)
{
	struct inode *spare = READ_ONCE(mem->spare), *other;
	struct address_space *mapping;

	if (spare)
		return spare->i_mapping;
	spare = new_inode(mem->inode.i_sb);
	if (!spare)
		return NULL;
	mapping = spare->i_mapping;
	mapping->a_ops = &gmem_spare_aops;
	mapping_set_large_folios(mapping);
	mapping_set_unevictable(mapping);
	mapping_set_release_always(mapping);
	mapping_set_inaccessible(mapping);
	other = cmpxchg(&mem->spare, NULL, spare);
	if (!other)
		return mapping;
	iput(spare);
	return other->i_mapping;
}

static void gmem_spare_drop(struct address_space *spare, struct folio *folio)
{
	loff_t pos = folio_pos(folio);

	truncate_inode_pages_range(spare, pos, pos + folio_size(folio) - 1);
}

bool gmem_replace_needed(const struct gmem_mem *mem, struct folio *folio)
{
	/* Nobody can pin secret memory. The kernel holds a broken page. */
	if (mem->secret ||
	    (folio_test_hwpoison(folio) && !folio_test_large(folio)))
		return false;
	return gmem_folio_pins(folio) != GMEM_FOLIO_FREE;
}

/* The group that pays for @folio, which is locked; with a reference. */
static struct mem_cgroup *gmem_replace_memcg(struct folio *folio)
{
	struct mem_cgroup *memcg;

	rcu_read_lock();
	memcg = folio_memcg(folio);
	if (!mem_cgroup_tryget(memcg))
		memcg = NULL;
	rcu_read_unlock();
	return memcg;
}

static int gmem_replace_add(struct address_space *spare, struct folio *new,
			    struct folio *old, gfp_t gfp)
{
	struct mem_cgroup *memcg = gmem_replace_memcg(old);
	struct mem_cgroup *old_memcg = set_active_memcg(memcg);
	int err;

	err = filemap_add_folio(spare, new, old->index, gfp);
	set_active_memcg(old_memcg);
	mem_cgroup_put(memcg);
	return err;
}

int gmem_replace_prepare(struct gmem_mem *mem, struct folio *folio)
{
	gfp_t gfp = mapping_gfp_mask(mem->inode.i_mapping);
	struct address_space *spare = gmem_spare_get(mem);
	struct folio *new;
	int err;

	if (!spare)
		return -ENOMEM;
	if (gmem_folio_broken(folio))
		return -EBUSY;
	new = gmem_numa_alloc_folio(mem, folio->index, gfp | __GFP_ZERO,
				    folio_order(folio));
	if (!new)
		return -ENOMEM;
	err = gmem_replace_add(spare, new, folio, gfp);
	if (!err) {
		/* drop_caches frees clean unmapped folios. */
		folio_mark_dirty(new);
		folio_unlock(new);
	}
	folio_put(new);
	/* A call that was interrupted has left one. */
	return err == -EEXIST ? 0 : err;
}

/* The prepared folio, locked and referenced, or NULL. */
static struct folio *gmem_replace_find(struct address_space *spare,
				       struct folio *folio)
{
	struct folio *new;

	new = filemap_lock_folio(spare, folio->index);
	if (IS_ERR(new))
		return NULL;
	/* The old one may have been split meanwhile. */
	if (new->index == folio->index &&
	    folio_order(new) == folio_order(folio))
		return new;
	folio_unlock(new);
	folio_put(new);
	return NULL;
}

static void gmem_replace_copy(struct folio *new, struct folio *old)
{
	long i;

	for (i = 0; i < folio_nr_pages(old); i++) {
		if (PageHWPoison(folio_page(old, i)) ||
		    PageHWPoison(folio_page(new, i)))
			continue;
		copy_highpage(folio_page(new, i), folio_page(old, i));
		cond_resched();
	}
}

/*
 * An entry of the same size is there already, so nothing needs memory, and the
 * marks stay.
 */
static void gmem_replace_entry(struct address_space *mapping,
			       struct folio *folio)
{
	XA_STATE_ORDER(xas, &mapping->i_pages, folio->index,
		       folio_order(folio));

	xas_lock_irq(&xas);
	xas_store(&xas, folio);
	folio->mapping = mapping;
	xas_unlock_irq(&xas);
}

bool gmem_replace(struct gmem_mem *mem, struct folio *folio, bool contents)
{
	struct address_space *mapping = folio->mapping;
	struct inode *spare_inode = READ_ONCE(mem->spare);
	struct address_space *spare;
	struct folio *new;

	if (!spare_inode)
		return false;
	spare = spare_inode->i_mapping;
	new = gmem_replace_find(spare, folio);
	if (!new)
		return false;
	if (contents)
		gmem_replace_copy(new, folio);
	folio_mark_uptodate(new);
	gmem_replace_entry(spare, folio);
	gmem_replace_entry(mapping, new);
	folio_unlock(new);
	folio_put(new);

	folio_unlock(folio);
	gmem_spare_drop(spare, folio);
	folio_lock(folio);
	return true;
}

void gmem_replace_by_hole(struct folio *folio)
{
	/* This removes the folio alone. For a regular file it can't fail. */
	generic_error_remove_folio(folio->mapping, folio);
}

void gmem_replace_forget(struct gmem_mem *mem, pgoff_t first, pgoff_t last)
{
	const struct inode *spare = READ_ONCE(mem->spare);

	if (spare)
		truncate_inode_pages_range(spare->i_mapping,
					   (loff_t)first << PAGE_SHIFT,
					   (((loff_t)last + 1) << PAGE_SHIFT) -
						   1);
}
