// SPDX-License-Identifier: GPL-2.0-only
/*
 * Views: ranges of a guestmem, for device back-ends.
 *
 * A mapping of a view stands in the reverse map of the guestmem, as any mapping
 * of that does. So lending, truncation and memory failure reach it, and users of
 * system calls can pin its pages.
 *
 * A view can be revoked. Its mappings stay, because a module can't remove them,
 * but their faults no longer get a page. A fault handler looks at
 * gmem_view.revoked under the invalidate lock. When it returns, it has dropped
 * that lock, but the folio is locked until the page table entry is in place. So
 * a revocation sets the flag, takes the invalidate lock for writing, waits
 * until each folio has been unlocked once, and zaps.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/path.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "call.h"
#include "compat.h"
#include "descriptor.h"
#include "event.h"
#include "folio.h"
#include "lend.h"
#include "numa.h"
#include "objects.h"
#include "registry.h"
#include "touch.h"
#include "user.h"
#include "view.h"

/*
 * A revocation looks at this many pages at a time, or at one huge page, while
 * faults wait.
 */
#define GMEM_VIEW_PIECE 1024UL

static struct gmem_view *gmem_view_of(const struct file *file)
{
	return container_of(gmem_descriptor_of(file), struct gmem_view, d);
}

static void gmem_view_put(struct gmem_view *view)
{
	if (!refcount_dec_and_test(&view->d.refs))
		return;
	path_put(&view->path);
	kfree_rcu(view, d.rcu);
}

/* ---- mappings ---- */

static int gmem_view_get_folio(struct vm_fault *vmf, bool wait,
			       struct folio **folio)
{
	struct gmem_view *view = gmem_view_of(vmf->vma->vm_file);

	if (READ_ONCE(view->revoked))
		return -EACCES;
	return gmem_lend_host_get(view->mem, vmf->pgoff, GMEM_LEND_RIGHT_NONE,
				  wait, folio);
}

static vm_fault_t gmem_view_fault(struct vm_fault *vmf)
{
	struct gmem_view *view = gmem_view_of(vmf->vma->vm_file);

	if (vmf->pgoff < view->d.first || vmf->pgoff > view->d.last)
		return VM_FAULT_SIGBUS;
	/* Don't wait while the last user's end frees the pages. */
	if (READ_ONCE(view->revoked))
		return VM_FAULT_SIGBUS;
	return gmem_touch(vmf, view->mem, gmem_view_get_folio);
}

static const struct vm_operations_struct gmem_view_vm_ops = {
	.fault = gmem_view_fault,
	GMEM_NUMA_VM_OPS(gmem_numa_no_policy)
};

static int gmem_view_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gmem_view *view = gmem_view_of(file);
	int err;

	err = gmem_descriptor_check_mmap(&view->d, vma);
	if (err)
		return err;
	/* A mapping that is made all the same reaches nothing. */
	if (READ_ONCE(view->revoked))
		return -EACCES;
	err = gmem_descriptor_map(vma, view->mem->inode.i_mapping);
	if (!err)
		vma->vm_ops = &gmem_view_vm_ops;
	return err;
}

static void gmem_view_show_fdinfo(struct seq_file *seq, struct file *file)
{
	const struct gmem_view *view = gmem_view_of(file);

	seq_printf(seq, "gmem-view:\t%u\n", view->d.id);
	seq_printf(seq, "gmem-view-mem:\t%llu\n",
		   (u64)view->mem->inode.i_ino);
	gmem_descriptor_show(seq, &view->d);
}

static const struct file_operations gmem_view_fops = {
	.owner = THIS_MODULE,
	.open = gmem_descriptor_open,
	.mmap = gmem_view_mmap,
	.get_unmapped_area = gmem_descriptor_get_unmapped_area,
	.llseek = generic_file_llseek,
	.show_fdinfo = gmem_view_show_fdinfo,
};

/* ---- the end ---- */

/* From now on no new fault gets a page. False if that was so already. */
static bool gmem_view_end(struct gmem_view *view)
{
	struct address_space *mapping = view->mem->inode.i_mapping;

	if (xchg(&view->revoked, true))
		return false;
	/*
	 * A fault that saw no revocation may be about to add a page to the file.
	 * From here on, the page is there, and locked until it is mapped.
	 */
	filemap_invalidate_lock(mapping);
	filemap_invalidate_unlock(mapping);
	gmem_user_put(view->mem);
	return true;
}

/* The last descriptor and the last mapping are gone. */
static void gmem_view_release(struct gmem_descriptor *d)
{
	struct gmem_view *view = container_of(d, struct gmem_view, d);

	gmem_registry_remove_view(view);
	/* A revocation under way reports itself first. */
	mutex_lock(&view->revoking);
	gmem_view_end(view);
	gmem_event_view_destroyed(view);
	mutex_unlock(&view->revoking);
	gmem_view_put(view);
}

static struct gmem_descriptor_kind gmem_view_kind = {
	.fs = {
		.owner = THIS_MODULE,
		.name = "gmem_view",
		.init_fs_context = gmem_descriptor_init_fs_context,
		.kill_sb = kill_anon_super,
	},
	.magic = GMEM_VIEW_MAGIC,
	.name = "[gmem-view]",
	.fops = &gmem_view_fops,
	.release = gmem_view_release,
};

/* ---- creation ---- */

static int gmem_view_check(const struct file *file,
			   const struct gmem_mem_view *arg,
			   unsigned long *first, unsigned long *last)
{
	const struct gmem_mem *mem = gmem_mem(file_inode(file));
	fmode_t needed = FMODE_READ;
	int err;

	if (arg->flags & ~(u32)GMEM_VIEW_READ_ONLY)
		return -EINVAL;
	err = gmem_call_range(arg->offset, arg->length, first, last);
	if (err)
		return err;
	if (*last >= i_size_read(&mem->inode) >> PAGE_SHIFT ||
	    !gmem_mem_aligned(mem, *first) || !gmem_mem_aligned(mem, *last + 1))
		return -EINVAL;

	if (!(arg->flags & GMEM_VIEW_READ_ONLY))
		needed |= FMODE_WRITE;
	if ((file->f_mode & needed) != needed)
		return -EACCES;
	return mem->secret ? -EOPNOTSUPP : 0;
}

/* A view without a file and a number. */
static struct gmem_view *gmem_view_alloc(struct file *file,
					 const struct gmem_mem_view *arg)
{
	struct gmem_view *view;
	int err;

	view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);
	if (!view)
		return ERR_PTR(-ENOMEM);
	err = gmem_view_check(file, arg, &view->d.first, &view->d.last);
	if (!err)
		err = gmem_call_name(view->d.name, arg->name);
	if (err) {
		kfree(view);
		return ERR_PTR(err);
	}

	gmem_descriptor_init(&view->d);
	mutex_init(&view->revoking);
	view->d.flags = arg->flags;
	view->path = file->f_path;
	path_get(&view->path);
	view->mem = gmem_mem(file_inode(file));
	/* The file is a user, so this neither waits nor fails. */
	gmem_user_get(view->mem);
	return view;
}

struct file *gmem_mem_view_call(void *obj, void *arg)
{
	struct gmem_mem_view *call = arg;
	struct gmem_view *view;
	struct file *file;
	int err;

	view = gmem_view_alloc(obj, call);
	if (IS_ERR(view))
		return ERR_CAST(view);
	err = gmem_registry_add_view(view);
	if (err) {
		file = ERR_PTR(err);
		goto end_view;
	}
	file = gmem_descriptor_file(&gmem_view_kind, &view->d,
				    call->flags & GMEM_VIEW_READ_ONLY,
				    view->mem->order);
	if (IS_ERR(file))
		goto remove_view;
	call->id = view->d.id;
	gmem_event_view_created(view);
	return file;

remove_view:
	gmem_registry_remove_view(view);
end_view:
	gmem_view_end(view);
	gmem_view_put(view);
	return file;
}

/* ---- revocation ---- */

/* Call @fn for the folios of [@first, @last]; returns the sum of its results. */
static u64 gmem_view_for_each(struct gmem_view *view, pgoff_t first,
			      pgoff_t last, u64 (*fn)(struct folio *folio))
{
	struct folio_batch batch;
	unsigned int i;
	u64 sum = 0;

	folio_batch_init(&batch);
	while (filemap_get_folios(view->mem->inode.i_mapping, &first, last,
				  &batch)) {
		for (i = 0; i < folio_batch_count(&batch); i++)
			sum += fn(batch.folios[i]);
		folio_batch_release(&batch);
	}
	return sum;
}

static u64 gmem_view_wait_folio(struct folio *folio)
{
	folio_wait_locked(folio);
	return 0;
}

static u64 gmem_view_count_pinned(struct folio *folio)
{
	u64 nr = 0;

	folio_lock(folio);
	/*
	 * The module holds leaked folios, and the kernel broken ones. A lent folio
	 * may have been replaced meanwhile.
	 */
	if (folio->mapping && gmem_folio_pins(folio) != GMEM_FOLIO_FREE &&
	    !gmem_folio_broken(folio) &&
	    !gmem_folio_is(folio, GMEM_FOLIO_LEAKED))
		nr = folio_nr_pages(folio);
	folio_unlock(folio);
	return nr;
}

/*
 * Zap a piece, and count its pinned pages. With the invalidate lock held for
 * writing, no folio leaves the file, none gets a mapping again, and nobody else
 * in the module refers to one.
 *
 * Without the wait, the zap would miss an entry that a fault is about to make. Its
 * folio would mostly look pinned, and be zapped at the second try. But a broken
 * folio never does, and a huge one that can't be split has sound pages.
 */
static u64 gmem_view_zap_piece(struct gmem_view *view, pgoff_t first,
			       pgoff_t last)
{
	gmem_view_for_each(view, first, last, gmem_view_wait_folio);
	gmem_unmap_pages(view->mem->inode.i_mapping, first, last - first + 1,
			 false);
	return gmem_view_for_each(view, first, last, gmem_view_count_pinned);
}

/*
 * Zap [*first, *last] of the file, and narrow it to the pieces with pinned pages.
 * The revocation must be complete, so no signal ends it.
 */
static u64 gmem_view_zap(struct gmem_view *view, pgoff_t *first, pgoff_t *last)
{
	struct address_space *mapping = view->mem->inode.i_mapping;
	unsigned long piece = max(GMEM_VIEW_PIECE, 1UL << view->mem->order);
	pgoff_t index = *first, end = *last, piece_last;
	u64 pinned = 0, nr;

	while (xa_find(&mapping->i_pages, &index, end, XA_PRESENT)) {
		piece_last = min(round_down(index, piece) + piece - 1, end);
		filemap_invalidate_lock(mapping);
		nr = gmem_view_zap_piece(view, index, piece_last);
		filemap_invalidate_unlock(mapping);
		if (nr && !pinned)
			*first = index;
		if (nr)
			*last = piece_last;
		pinned += nr;
		if (piece_last == end)
			break;
		index = piece_last + 1;
		cond_resched();
	}
	return pinned;
}

/* The number of pinned pages; -ENOENT if the view was revoked before. */
static int gmem_view_revoke(struct gmem_view *view, u64 *pinned)
{
	pgoff_t first = view->d.first, last = view->d.last;

	if (!gmem_view_end(view))
		return -ENOENT;
	*pinned = gmem_view_zap(view, &first, &last);
	/* A brief reference isn't a pin. */
	if (*pinned) {
		usleep_range(1000, 2000);
		*pinned = gmem_view_zap(view, &first, &last);
	}
	gmem_event_view_revoked(view);
	return 0;
}

int gmem_mem_revoke_call(void *obj, void *arg)
{
	struct gmem_mem_revoke *call = arg;
	const struct file *file = obj;
	struct gmem_view *view;
	int err = -ENOENT;

	if (call->flags)
		return -EINVAL;
	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	view = call->id <= UINT_MAX ? gmem_registry_get_view(call->id) : NULL;
	if (!view)
		return -ENOENT;
	if (view->mem == gmem_mem(file_inode(file))) {
		/* -ENOENT says that the other call has done all of it. */
		err = mutex_lock_killable(&view->revoking);
		if (!err) {
			err = gmem_view_revoke(view, &call->pinned);
			mutex_unlock(&view->revoking);
		}
	}
	gmem_view_put(view);
	return err;
}
