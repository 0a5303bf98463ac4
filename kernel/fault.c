// SPDX-License-Identifier: GPL-2.0-only
/* A guest's access: resolved, or refused and remembered. */
#include <linux/file.h>
#include <linux/minmax.h>
#include <linux/pagemap.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "call.h"
#include "event.h"
#include "fault.h"
#include "folio.h"
#include "lend.h"
#include "objects.h"
#include "piece.h"
#include "reader.h"
#include "slow.h"
#include "stats.h"
#include "unmap.h"

void gmem_fault_log_init(struct gmem_fault_log *log)
{
	spin_lock_init(&log->lock);
}

void gmem_fault_log_destroy(struct gmem_fault_log *log)
{
	unsigned int i;

	for (i = 0; i < GMEM_NR_FAULTS; i++)
		put_pid(log->threads[i]);
}

u64 gmem_fault_count(struct gmem_fault_log *log)
{
	u64 seq;

	spin_lock(&log->lock);
	seq = log->seq;
	spin_unlock(&log->lock);
	return seq;
}

bool gmem_fault_unread(struct gmem_fault_log *log)
{
	bool unread;

	spin_lock(&log->lock);
	unread = log->seq > log->returned;
	spin_unlock(&log->lock);
	return unread;
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
	case GMEM_FAULT_INTERRUPTED:
		break;
	}
	return -EIO;
}

/* The caller; NULL for a kernel thread, which acts for another. No reference. */
static struct pid *gmem_fault_thread(void)
{
	return current->flags & PF_KTHREAD ? NULL : task_pid(current);
}

/* Does the access belong to the newest row? @thread is NULL for any. */
static bool gmem_fault_in_row(const struct gmem_fault_log *log, u64 addr,
			      u32 access, enum gmem_fault_reason reason,
			      const struct pid *thread)
{
	const struct gmem_fault_info *entry = &log->entries[log->head];

	return entry->seq && entry->guest_addr == addr &&
	       entry->access == access && entry->reason == reason &&
	       (!thread || thread == log->threads[log->head]);
}

int gmem_fault_refuse(struct gmem_vm *vm, unsigned long gfn, u32 access,
		      enum gmem_fault_reason reason)
{
	struct gmem_fault_log *log = &vm->faults;
	struct pid *thread = gmem_fault_thread(), *old = NULL;
	u64 addr = (u64)gfn << PAGE_SHIFT;
	struct gmem_fault_info *entry;

	spin_lock(&log->lock);
	if (!gmem_fault_in_row(log, addr, access, reason, thread)) {
		log->head = (log->head + 1) % GMEM_NR_FAULTS;
		entry = &log->entries[log->head];
		if (entry->seq)
			log->overwritten = entry->seq;
		entry->guest_addr = addr;
		entry->access = access;
		entry->reason = reason;
		entry->count = 0;
		old = log->threads[log->head];
		log->threads[log->head] = get_pid(thread);
	}
	entry = &log->entries[log->head];
	entry->seq = ++log->seq;
	entry->count++;
	spin_unlock(&log->lock);
	put_pid(old);

	wake_up_poll(&vm->pollers, EPOLLPRI);
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

/* Nothing is bound at access->gfn. */
static int gmem_fault_unbound(const struct gmem_guest_access *access)
{
	if (access->defers)
		return gmem_fault_errno(GMEM_FAULT_UNBOUND);
	return gmem_fault_refuse_access(access, GMEM_FAULT_UNBOUND);
}

/*
 * One try, under the invalidate lock of the file. With it held, a binding of this
 * file that the tree shows can't be freed: an unmap takes it out of the tree
 * first, then needs the invalidate lock to take it out of the file's index, and
 * only then frees it. -EAGAIN: the guest is kept from the page, or another task
 * uses it; wait for that. -EINPROGRESS: the page has a reference that may be
 * brief, wait for its end. -ESTALE: the page is bound to something else.
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
	if (gmem_vm_unmapping(vm, access->gfn) ||
	    gmem_mem_punching(gmem_mem(access->inode), access->index,
			      access->index))
		return -EAGAIN;
	if (stale)
		return -ESTALE;
	if (!b)
		return gmem_fault_unbound(access);

	if (access->access & ~gmem_binding_access(b))
		return gmem_fault_refuse_access(access, GMEM_FAULT_PERM);
	if (access->writable && !(b->flags & GMEM_MAP_ALLOW_WRITE))
		return -ESTALE;

	err = gmem_lend_get(b, access->index, access->patience != GMEM_WAIT_NOT,
			    foliop);
	if (err == -EINPROGRESS ||
	    (err == -EAGAIN && access->patience == GMEM_WAIT_NOT) ||
	    (err == -EINTR && fatal_signal_pending(current)))
		return err;
	if (err)
		return gmem_fault_refuse_access(access,
						gmem_fault_reason_of(err));
	if (access->map)
		access->map(access, b, *foliop);
	return 0;
}

static int gmem_fault_lock(const struct gmem_guest_access *access)
{
	struct address_space *mapping = access->inode->i_mapping;

	if (filemap_invalidate_trylock_shared(mapping))
		return 0;
	if (access->patience == GMEM_WAIT_NOT)
		return -EAGAIN;
	return down_read_killable(&mapping->invalidate_lock);
}

static int gmem_fault_get(struct gmem_guest_access *access,
			  struct folio **folio)
{
	int err;

	for (;;) {
		access->held = false;
		err = gmem_fault_lock(access);
		if (err)
			return err;
		err = gmem_fault_try(access, folio);
		access->held = err == -EINPROGRESS;
		filemap_invalidate_unlock_shared(access->inode->i_mapping);
		if ((err != -EAGAIN && err != -EINPROGRESS) ||
		    access->patience != GMEM_WAIT_END)
			return err;

		err = gmem_fault_wait(access);
		if (err)
			return err;
	}
}

int gmem_fault_wait(struct gmem_guest_access *access)
{
	struct address_space *mapping = access->inode->i_mapping;
	struct gmem_mem *mem = gmem_mem(access->inode);
	int err;

	err = gmem_vm_wait_unmap(access->vm, access->gfn);
	if (!err)
		err = gmem_mem_wait_punch(mem, access->index, access->index);
	if (err || down_read_killable(&mapping->invalidate_lock))
		return -EINTR;
	err = gmem_folio_lock_index(mem, access->index, true);
	if (!err)
		gmem_folio_unlock_index(mem, access->index);
	filemap_invalidate_unlock_shared(mapping);
	if (err || !access->held)
		return err;
	return gmem_folio_wait(mem, access->index);
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
		gmem_slow_at(GMEM_TEST_FAULT_FOUND);
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

	access->held = false;
	file = gmem_fault_find(access);
	/* A binding whose file is going is being unbound. */
	if (IS_ERR(file) && access->patience != GMEM_WAIT_END)
		return -EAGAIN;
	if (IS_ERR(file))
		return gmem_vm_wait_unmap(access->vm, access->gfn) ?: -ESTALE;
	if (!file)
		return gmem_fault_unbound(access);

	gmem_slow_at(GMEM_TEST_FAULT_HELD);
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

int gmem_fault_resolve_wait(struct gmem_guest_access *access)
{
	struct file *file = gmem_fault_find(access);
	int err;

	if (IS_ERR_OR_NULL(file))
		return gmem_vm_wait_unmap(access->vm, access->gfn);
	err = gmem_fault_wait(access);
	fput(file);
	return err;
}

int gmem_fault_wait_at(struct gmem_vm *vm, unsigned long gfn)
{
	struct gmem_guest_access access = {
		.vm = vm,
		.gfn = gfn,
		.held = true,
	};

	return gmem_fault_resolve_wait(&access);
}

bool gmem_fault_peek(struct gmem_fault_log *log, u64 seq,
		     struct gmem_fault_info *info)
{
	bool found = false;
	unsigned int i, at;

	spin_lock(&log->lock);
	/* From the oldest row on, the numbers ascend. */
	for (i = 1; i <= GMEM_NR_FAULTS && !found; i++) {
		at = (log->head + i) % GMEM_NR_FAULTS;
		found = log->entries[at].seq > seq;
		if (found) {
			*info = log->entries[at];
			info->pid = pid_nr(log->threads[at]);
		}
	}
	spin_unlock(&log->lock);
	return found;
}

/* Copy what is newer than @query->seq into @entries, oldest first. */
static u32 gmem_fault_collect(struct gmem_fault_log *log,
			      struct gmem_vm_faults *query,
			      struct gmem_fault_info *entries)
{
	const struct gmem_fault_info *entry;
	u64 since = query->seq;
	unsigned int i, at;
	u32 nr = 0;

	spin_lock(&log->lock);
	query->lost = log->overwritten > since ? log->overwritten - since : 0;
	for (i = 1; i <= GMEM_NR_FAULTS && nr < query->nr_entries; i++) {
		at = (log->head + i) % GMEM_NR_FAULTS;
		entry = &log->entries[at];
		if (entry->seq <= since)
			continue;
		entries[nr] = *entry;
		entries[nr++].pid = gmem_reader_pid(log->threads[at]);
		query->seq = entry->seq;
	}
	spin_unlock(&log->lock);
	return nr;
}

static void gmem_fault_set_returned(struct gmem_fault_log *log, u64 seq)
{
	spin_lock(&log->lock);
	log->returned = max(log->returned, seq);
	spin_unlock(&log->lock);
}

int gmem_vm_faults_call(void *obj, void *arg)
{
	struct gmem_vm_faults *query = arg;
	struct gmem_fault_info *entries;
	struct gmem_vm *vm = obj;
	int err;

	err = gmem_call_entry_size(&query->entry_size, query->size,
				   offsetofend(typeof(*query), entry_size),
				   offsetofend(typeof(*entries), count));
	if (err || query->reserved)
		return -EINVAL;
	entries = kmalloc_array(GMEM_NR_FAULTS, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	query->nr_entries = gmem_fault_collect(&vm->faults, query, entries);
	err = gmem_call_put_entries(query->entries, query->entry_size, 0,
				    entries, sizeof(*entries),
				    query->nr_entries);
	if (!err && query->nr_entries)
		gmem_fault_set_returned(&vm->faults, query->seq);
	query->entry_size = min_t(u32, query->entry_size, sizeof(*entries));
	kfree(entries);
	return err;
}
