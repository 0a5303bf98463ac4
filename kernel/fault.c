// SPDX-License-Identifier: GPL-2.0
/* A guest's access: resolved, or refused and remembered. */
#include <linux/file.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "event.h"
#include "fault.h"
#include "lend.h"
#include "objects.h"
#include "stats.h"
#include "unmap.h"

void gmem_fault_log_init(struct gmem_fault_log *log)
{
	spin_lock_init(&log->lock);
}

u64 gmem_fault_count(struct gmem_fault_log *log)
{
	u64 seq;

	spin_lock(&log->lock);
	seq = log->seq;
	spin_unlock(&log->lock);
	return seq;
}

static int gmem_fault_errno(enum gmem_fault_reason reason)
{
	switch (reason) {
	case GMEM_FAULT_UNBOUND:
		return -ENOENT;
	case GMEM_FAULT_STALE:
		return -ESTALE;
	case GMEM_FAULT_PERM:
		return -EACCES;
	case GMEM_FAULT_PINNED:
		return -EBUSY;
	case GMEM_FAULT_NOMEM:
		return -ENOMEM;
	case GMEM_FAULT_HWPOISON:
		return -EHWPOISON;
	case GMEM_FAULT_PROVIDER:
	case GMEM_FAULT_LEAKED:
		break;
	}
	return -EIO;
}

int gmem_fault_refuse(struct gmem_vm *vm, unsigned long gfn, u32 access,
		      enum gmem_fault_reason reason)
{
	struct gmem_fault_log *log = &vm->faults;
	u64 addr = (u64)gfn << PAGE_SHIFT;
	struct gmem_fault_info *entry;

	spin_lock(&log->lock);
	entry = &log->entries[log->head];
	if (!entry->seq || entry->guest_addr != addr ||
	    entry->access != access || entry->reason != reason) {
		log->head = (log->head + 1) % GMEM_NR_FAULTS;
		entry = &log->entries[log->head];
		if (entry->seq)
			log->overwritten = entry->seq;
		entry->guest_addr = addr;
		entry->access = access;
		entry->reason = reason;
		entry->count = 0;
	}
	entry->seq = ++log->seq;
	entry->count++;
	spin_unlock(&log->lock);

	gmem_stat_add(GMEM_STAT_REFUSED, 1);
	gmem_event_refused(vm, addr, access, reason);
	return gmem_fault_errno(reason);
}

static enum gmem_fault_reason gmem_fault_reason_of(int err)
{
	switch (err) {
	case -EBUSY:
		return GMEM_FAULT_PINNED;
	case -ENOMEM:
		return GMEM_FAULT_NOMEM;
	case -EHWPOISON:
		return GMEM_FAULT_HWPOISON;
	case -ENOTRECOVERABLE:
		return GMEM_FAULT_LEAKED;
	default:
		return GMEM_FAULT_PROVIDER;
	}
}

static int gmem_fault_refuse_access(const struct gmem_guest_access *access,
				    enum gmem_fault_reason reason)
{
	if (access->recorded)
		return gmem_fault_errno(reason);
	return gmem_fault_refuse(access->vm, access->gfn, access->access,
				 reason);
}

/*
 * One try, under the invalidate lock of the file. With it held, a binding of this
 * file that the tree shows can't be freed: an unmap takes it out of the tree
 * first, then needs the invalidate lock to take it out of the file's index, and
 * only then frees it. -EAGAIN: an unmap of the page is under way, wait for it.
 * -ESTALE: the page is bound to something else.
 */
static int gmem_fault_try(struct gmem_guest_access *access,
			  struct folio **foliop)
{
	struct gmem_vm *vm = access->vm;
	struct gmem_binding *b;
	bool stale;
	int err;

	rcu_read_lock();
	b = mtree_load(&vm->bindings, access->gfn);
	stale = b && (b->mem != gmem_mem(access->inode) ||
		      access->index + b->gfn_delta != access->gfn);
	rcu_read_unlock();

	/*
	 * Pairs with gmem_vm_begin_unmap(): it publishes the range before it
	 * first takes the invalidate lock. So a fault that took that lock later
	 * and still found the old binding sees the range here.
	 */
	if (gmem_vm_unmapping(vm, access->gfn))
		return -EAGAIN;
	if (stale)
		return -ESTALE;
	if (!b)
		return gmem_fault_refuse_access(access, GMEM_FAULT_UNBOUND);

	if (access->access & ~gmem_binding_access(b))
		return gmem_fault_refuse_access(access, GMEM_FAULT_PERM);
	if (access->writable && !(b->flags & GMEM_MAP_ALLOW_WRITE))
		return -ESTALE;

	err = gmem_lend_get(b, access->index, foliop);
	if (err)
		return gmem_fault_refuse_access(access,
						gmem_fault_reason_of(err));
	if (access->map)
		access->map(access, b, *foliop);
	return 0;
}

static int gmem_fault_get(struct gmem_guest_access *access,
			  struct folio **folio)
{
	int err;

	for (;;) {
		filemap_invalidate_lock_shared(access->inode->i_mapping);
		err = gmem_fault_try(access, folio);
		filemap_invalidate_unlock_shared(access->inode->i_mapping);
		if (err != -EAGAIN || access->no_wait)
			return err;

		err = gmem_vm_wait_unmap(access->vm);
		if (err)
			return err;
	}
}

int gmem_fault_guest(struct gmem_guest_access *access, struct folio **folio)
{
	int err;

	err = gmem_fault_get(access, folio);
	if (err == -ESTALE)
		return gmem_fault_refuse_access(access, GMEM_FAULT_STALE);
	return err;
}

/*
 * Find the binding at access->gfn; returns its file, or NULL if nothing is
 * bound there. Takes no lock.
 */
static struct file *gmem_fault_find(struct gmem_guest_access *access)
{
	struct gmem_vm *vm = access->vm;
	struct file *file = NULL;
	struct gmem_binding *b;

	rcu_read_lock();
	b = mtree_load(&vm->bindings, access->gfn);
	if (b) {
		file = get_file_active(&b->file);
		access->index = gmem_binding_index(b, access->gfn);
	}
	rcu_read_unlock();
	if (file)
		access->inode = file_inode(file);
	else if (b)
		file = ERR_PTR(-EAGAIN);
	return file;
}

static int gmem_fault_resolve_once(struct gmem_guest_access *access)
{
	struct folio *folio;
	struct file *file;
	int err;

	file = gmem_fault_find(access);
	/* A binding whose file is going is being unbound. */
	if (IS_ERR(file) && access->no_wait)
		return -EAGAIN;
	if (IS_ERR(file))
		return gmem_vm_wait_unmap(access->vm) ?: -ESTALE;
	if (!file)
		return gmem_fault_refuse_access(access, GMEM_FAULT_UNBOUND);

	err = gmem_fault_get(access, &folio);
	if (!err) {
		folio_unlock(folio);
		folio_put(folio);
	}
	fput(file);
	return err;
}

int gmem_fault_resolve(struct gmem_guest_access *access)
{
	int err;

	/* Bindings may change between a look at them and the invalidate lock. */
	do {
		err = gmem_fault_resolve_once(access);
		if (err == -ESTALE && fatal_signal_pending(current))
			return -EINTR;
	} while (err == -ESTALE);
	return err;
}

/* Copy what is newer than @query->seq into @entries, oldest first. */
static u32 gmem_fault_collect(struct gmem_fault_log *log,
			      struct gmem_vm_faults *query,
			      struct gmem_fault_info *entries)
{
	const struct gmem_fault_info *entry;
	u64 since = query->seq;
	unsigned int i;
	u32 nr = 0;

	spin_lock(&log->lock);
	query->lost = log->overwritten > since ? log->overwritten - since : 0;
	for (i = 1; i <= GMEM_NR_FAULTS && nr < query->nr_entries; i++) {
		entry = &log->entries[(log->head + i) % GMEM_NR_FAULTS];
		if (entry->seq <= since)
			continue;
		entries[nr++] = *entry;
		query->seq = entry->seq;
	}
	spin_unlock(&log->lock);
	return nr;
}

int gmem_vm_faults_call(void *obj, void *arg)
{
	struct gmem_vm_faults *query = arg;
	struct gmem_fault_info *entries;
	struct gmem_vm *vm = obj;
	int err = 0;

	entries = kmalloc_array(GMEM_NR_FAULTS, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	query->nr_entries = gmem_fault_collect(&vm->faults, query, entries);
	if (copy_to_user(u64_to_user_ptr(query->entries), entries,
			 query->nr_entries * sizeof(*entries)))
		err = -EFAULT;
	kfree(entries);
	return err;
}
