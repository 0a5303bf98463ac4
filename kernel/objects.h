/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The objects of the core: VM, guestmem and binding. Only types, so that no
 * header with functions needs another one for them.
 *
 * Lock order, outermost first:
 *
 *	gmem_registry_rwsem, which keeps VMs from going
 *	mmap_lock, or the inode lock of a guestmem
 *	a provider's lock around the calls of its VM
 *	gmem_vm.lock, gmem_view.revoking
 *	gmem_mem.users_lock
 *	the invalidate lock of a guestmem's i_mapping, one at a time
 *	gmem_index.lock, one at a time
 *	folio lock; inside that of a guestmem's folio, that of the spare one that
 *		replaces it
 *	gmem_mem.tree_rwsem
 *	i_mmap_rwsem
 *	the provider's own, for the pages of its guest
 *	gmem_mem.numa_lock, gmem_fault_log.lock, gmem_mem.broken_lock,
 *		gmem_wait.lock, the lock of notify.c's queue,
 *		gmem_openers_lock: innermost
 *
 * No code accesses user memory under any of them.
 *
 * A fault handler waits for none of them under mmap_lock for longer than for a
 * piece (see piece.h), where it may drop mmap_lock instead. mmap() takes none.
 */
#ifndef _GMEM_OBJECTS_H
#define _GMEM_OBJECTS_H

#include <linux/atomic.h>
#include <linux/container_of.h>
#include <linux/fs.h>
#include <linux/gmem.h>
#include <linux/list.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

struct gmem_binding;
struct gmem_opener;
struct gmem_provider;
struct mem_cgroup;
struct pid;

/**
 * struct gmem_fault_log - the last refused guest accesses of a VM
 * @lock: protects all below
 * @seq: number of the last refused access
 * @overwritten: number of the last access whose entry is gone
 * @returned: number of the last access that a reader has got
 * @head: index of the newest entry
 * @entries: a ring; seq 0 marks an entry that was never used. gmem_fault_info.pid
 *	is filled for the reader.
 * @threads: the thread of each entry, with a reference, or NULL
 */
struct gmem_fault_log {
	spinlock_t lock;
	u64 seq;
	u64 overwritten;
	u64 returned;
	unsigned int head;
	struct gmem_fault_info entries[GMEM_NR_FAULTS];
	struct pid *threads[GMEM_NR_FAULTS];
};

/**
 * struct gmem_wait - accesses to unbound pages that wait; see wait.h
 * @on: the VM has GMEM_VM_WAIT
 * @signals: it has GMEM_VM_WAIT_SIGNALS, too
 * @failing: GFN ranges -> a value: there, accesses are refused. Written under
 *	gmem_vm.lock (the tree's external lock), read under it or RCU.
 * @nr_failing: entries of @failing; under gmem_vm.lock
 * @lock: protects all below; READ_ONCE() without it for a first look
 * @requests: the first &struct gmem_waiter of each page, by GFN
 * @fresh: those that no call has reported, oldest first
 * @reported: the others
 * @nr: tasks that wait
 * @shut: tasks no longer wait
 * @binds: counts binds
 * @tired: the time of a kernel thread ended at @tired_at, in jiffies, when there
 *	had been @tired_binds binds
 */
struct gmem_wait {
	bool on;
	bool signals;
	struct maple_tree failing;
	unsigned long nr_failing;
	spinlock_t lock;
	struct rb_root requests;
	struct list_head fresh;
	struct list_head reported;
	unsigned long nr;
	bool shut;
	unsigned long binds;
	bool tired;
	unsigned long tired_at;
	unsigned long tired_binds;
};

/**
 * struct gmem_cut - pages that a binding is about to lose
 * @b: the binding; NULL for none
 * @first: first page
 * @last: last page
 * @done: @b is out of the file's index, or has been trimmed there
 * @left: something of @b is left
 */
struct gmem_cut {
	struct gmem_binding *b;
	pgoff_t first;
	pgoff_t last;
	bool done;
	bool left;
};

/**
 * struct gmem_vm - an address space of guest frame numbers
 * @lock: held for every change of @bindings
 * @bindings: GFN ranges -> &struct gmem_binding. Written under @lock (the
 *	tree's external lock), read under it or RCU.
 * @unmap_first: first GFN of the range that is being taken back, by an unmap, a
 *	reclaim, a discard or a change; see piece.h
 * @unmap_last: its last GFN; below @unmap_first when there is none. Both
 *	written under @lock.
 * @changing: that is a change: hosts are kept from the range, too. Written under
 *	@lock.
 * @unmap_list: the bindings that an unmap still has to cut, when the range is
 *	unbound; see unmap.c. Written under @lock.
 * @unmap_right: the right piece that the first of them leaves, or NULL
 * @cut: where the unmap or the end of the VM is
 * @end_gfn: the end of the VM has done the bindings before that
 * @ending: the last reference to @file is gone
 * @stopped: gmem_provider.vm_stop has done its work
 * @unbound: the end of the VM has done all bindings
 * @work: does the rest for a task that was killed
 * @file: its inner file; to keep the VM, take a reference. No descriptor refers to
 *	it: each of these has, or shares, a file of its own, which holds this one.
 * @inode: that of @file, held
 * @provider: gives pages to this guest and takes them back
 * @provider_data: for the provider alone
 * @policy: one of &enum gmem_policy; READ_ONCE() and WRITE_ONCE()
 * @flags: bits of &enum gmem_vm_flags; constant
 * @min_gfn: first GFN that can be bound
 * @max_gfn: last GFN of the address space
 * @faults: refused accesses
 * @pollers: tasks in poll() of the VM
 * @wait: accesses that wait
 * @id: number, from 1; constant while the VM is registered
 * @opener: the user whose descriptor of /dev/gmem made it, with a reference
 * @pid: the process that made it, in the initial PID namespace
 * @comm: name of that process
 * @name: as its creator chose it; see "Names" in the uAPI
 * @nr_bindings: entries of @bindings
 * @lent_pages: base pages that the guest has alone
 * @generation: changes with @bindings. Written under @lock, after them.
 *
 * Lifetime: a VM lives as long as its inner file. Descriptors and windows hold the
 * file; when the last of them goes, release unbinds everything and frees the
 * VM. See gmem_vm_destroy() for the task that does this.
 */
struct gmem_vm {
	struct mutex lock;
	struct maple_tree bindings;
	unsigned long unmap_first;
	unsigned long unmap_last;
	bool changing;
	struct gmem_binding *unmap_list;
	struct gmem_binding *unmap_right;
	struct gmem_cut cut;
	unsigned long end_gfn;
	bool ending;
	bool stopped;
	bool unbound;
	struct work_struct work;
	struct file *file;
	struct inode *inode;
	const struct gmem_provider *provider;
	void *provider_data;
	u32 policy;
	u32 flags;
	unsigned long min_gfn;
	unsigned long max_gfn;
	struct gmem_fault_log faults;
	wait_queue_head_t pollers;
	struct gmem_wait wait;
	u32 id;
	struct gmem_opener *opener;
	pid_t pid;
	char comm[TASK_COMM_LEN];
	char name[GMEM_OBJECT_NAME_LEN];
	atomic_long_t nr_bindings;
	atomic_long_t lent_pages;
	u32 generation;
};

/*
 * The bindings that a VM can have. From 6.18 on, no cgroup is charged for the
 * nodes of a maple tree; this bounds them for a VM, and opener.c for a user.
 */
#define GMEM_MAX_BINDINGS (1UL << 20)

#define GMEM_INDEX_BITS 5

/**
 * struct gmem_index - what the users of some indexes of a guestmem share
 * @lock: see gmem_folio_lock_index()
 * @held: the last folio for which gmem_folio_wait() has failed: its frame number,
 *	since another folio may take its place in the file
 * @held_until: until then, @held counts; in jiffies
 * @waited: the last folio that was found to have a brief reference, the same way
 * @waited_since: when that was first so, in jiffies; see gmem_folio_waited_long()
 * @waited_last: when that was last so
 *
 * READ_ONCE() and WRITE_ONCE() for all but @lock.
 */
struct gmem_index {
	struct mutex lock;
	unsigned long held;
	unsigned long held_until;
	unsigned long waited;
	unsigned long waited_since;
	unsigned long waited_last;
};

/**
 * struct gmem_mem - a guestmem
 * @inode: the file; several struct files may stand for it
 * @secret: the memfd_secret() file whose page cache @inode uses instead of its
 *	own; NULL for none. No other file refers to that.
 * @spare: see replace.c: a file of the folios that are about to replace others;
 *	NULL until there is one. Written once, by cmpxchg().
 * @order: of the folios that it tries to use; also the alignment of all ranges
 * @name: as its creator chose it; constant while the guestmem is registered
 * @memcg: the group that pays for its pages, with a reference; NULL for that of
 *	the task that adds a page. Constant after the creation.
 * @numa: ranges of pages -> &struct gmem_numa: their NUMA policies. Written under
 *	@numa_lock (the tree's external lock), read under it or RCU.
 * @nr_numa: how many ranges have a policy; under @numa_lock
 * @numa_lock: held for every change of @numa
 * @exclusive: interval tree of the exclusive bindings, by page
 * @shared: interval tree of the other bindings. Both are read under the
 *	invalidate lock of the inode or @tree_rwsem, and written under both and
 *	gmem_vm.lock.
 * @tree_rwsem: for readers that hold a folio lock, and so can't take the
 *	invalidate lock. It protects only the trees, not the pages.
 * @indexes: by the hash of an index
 * @poison_work: takes broken pages away from their guests
 * @split_work: splits huge folios that have broken pages
 * @broken_lock: protects the next three
 * @broken_first: first page of a range that has all such folios
 * @broken_last: its last page; below @broken_first when there is none
 * @broken_tries: how often @split_work has tried since a folio was added
 * @broken_splitter: the task that splits; written under the invalidate lock, held
 *	for writing. A task that reads it asks only whether that is itself.
 * @nr_lent: base pages in the state "lent"
 * @nr_shared: base pages in the state "shared"
 * @nr_leaked: base pages in the state "leaked". All three are written under the
 *	lock of the page cache's XArray; others use READ_ONCE().
 * @punch_first: first page of the range that is being punched; see piece.h
 * @punch_last: its last page; below @punch_first when there is none. Both written
 *	under the inode lock.
 * @changes: counts the changes of its bindings that have ended; see piece.h
 * @users_lock: held while the pages go with the last user, and for the first one
 * @users_work: does this for a shared kernel thread
 * @users: see user.h: the files that can reach its pages, and the views that
 *	aren't revoked. Without users, it has no pages.
 *
 * Lifetime: descriptors, mappings, windows, bindings and views refer to a
 * guestmem. So when the inode is evicted, none of its pages is lent or shared.
 * Readers under RCU may see it until a grace period later.
 */
struct gmem_mem {
	struct inode inode;
	struct file *secret;
	struct inode *spare;
	unsigned int order;
	char name[GMEM_OBJECT_NAME_LEN];
	struct mem_cgroup *memcg;
	struct maple_tree numa;
	long nr_numa;
	struct mutex numa_lock;
	struct rb_root_cached exclusive;
	struct rb_root_cached shared;
	struct rw_semaphore tree_rwsem;
	struct gmem_index indexes[1 << GMEM_INDEX_BITS];
	struct work_struct poison_work;
	struct delayed_work split_work;
	spinlock_t broken_lock;
	pgoff_t broken_first;
	pgoff_t broken_last;
	unsigned int broken_tries;
	struct task_struct *broken_splitter;
	unsigned long nr_lent;
	unsigned long nr_shared;
	unsigned long nr_leaked;
	pgoff_t punch_first;
	pgoff_t punch_last;
	atomic_t changes;
	struct mutex users_lock;
	struct work_struct users_work;
	atomic_t users;
};

static inline struct gmem_mem *gmem_mem(struct inode *inode)
{
	return container_of(inode, struct gmem_mem, inode);
}

static inline bool gmem_mem_aligned(const struct gmem_mem *mem, pgoff_t index)
{
	return !(index & ((1UL << mem->order) - 1));
}

/**
 * struct gmem_binding - a guest range bound to a guestmem range
 * @node: in &gmem_mem.exclusive or &gmem_mem.shared
 * @subtree_last: for the interval tree
 * @first: first page of the guestmem range
 * @last: its last page. @node to @last are written under gmem_vm.lock, the
 *	invalidate lock and gmem_mem.tree_rwsem, read under any of them.
 * @gfn_delta: page index + @gfn_delta (wrapping) is the GFN; constant, so that
 *	a reader under RCU translates correctly even while the binding is
 *	trimmed
 * @vm: the guest; outlives the binding
 * @mem: the guestmem, held by @file
 * @file: a reference; the file that it was bound with. NULL once the binding is
 *	in neither tree; a reader under RCU needs get_file_active().
 * @flags: FORCE_LEND or FORCE_SHARE, and the ALLOW bits. Written under the locks
 *	of @first.
 * @old_flags: those before the change that is under way; under gmem_vm.lock
 * @policy: one of &enum gmem_policy, or GMEM_POLICY_OF_VM; constant
 * @unmap_next: chains the bindings that an unmap or a change touches, under
 *	gmem_vm.lock
 * @rcu: frees it
 *
 * Lifetime: from map to unmap or the end of its VM, then an RCU grace period.
 */
struct gmem_binding {
	struct rb_node node;
	pgoff_t subtree_last;
	pgoff_t first;
	pgoff_t last;
	unsigned long gfn_delta;
	struct gmem_vm *vm;
	struct gmem_mem *mem;
	struct file *file;
	u32 flags;
	u8 old_flags;
	u8 policy;
	union {
		struct gmem_binding *unmap_next;
		struct rcu_head rcu;
	};
};

static inline unsigned long gmem_binding_gfn(const struct gmem_binding *b,
					     pgoff_t index)
{
	return index + b->gfn_delta;
}

static inline pgoff_t gmem_binding_index(const struct gmem_binding *b,
					 unsigned long gfn)
{
	return gfn - b->gfn_delta;
}

static inline bool gmem_binding_lent(const struct gmem_binding *b)
{
	return (b->flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND;
}

/* gmem_binding.policy: the VM's counts. */
#define GMEM_POLICY_OF_VM U8_MAX

static inline u32 gmem_binding_policy(const struct gmem_binding *b)
{
	return b->policy == GMEM_POLICY_OF_VM ? READ_ONCE(b->vm->policy) :
						b->policy;
}

/* The guest's rights, in bits of enum gmem_access. */
static inline u32 gmem_binding_access(const struct gmem_binding *b)
{
	return (b->flags & GMEM_MAP_ALLOW_READ ? GMEM_ACCESS_READ : 0) |
	       (b->flags & GMEM_MAP_ALLOW_WRITE ? GMEM_ACCESS_WRITE : 0) |
	       (b->flags & GMEM_MAP_ALLOW_EXEC ? GMEM_ACCESS_EXEC : 0);
}

/**
 * struct gmem_descriptor - the common part of views and window descriptors
 * @refs: the last reference frees it
 * @rcu: for that
 * @id: number among its kind, from 1; 0 until it is registered
 * @flags: of the call that made it
 * @pid: the process that made it, in the initial PID namespace
 * @name: NUL-terminated
 * @first: first page of its range
 * @last: last page of its range
 *
 * All other fields than @refs are constant once it is registered.
 *
 * Lifetime: each has an inode of its own, whose i_private it is. Descriptors and
 * mappings hold the inode. When the inode is evicted, it drops its reference.
 * Others who hold one keep no descriptor from ending.
 */
struct gmem_descriptor {
	refcount_t refs;
	struct rcu_head rcu;
	u32 id;
	u32 flags;
	pid_t pid;
	char name[GMEM_OBJECT_NAME_LEN];
	unsigned long first;
	unsigned long last;
};

/* In bytes. */
static inline u64 gmem_descriptor_length(const struct gmem_descriptor *d)
{
	return (u64)(d->last - d->first + 1) << PAGE_SHIFT;
}

/**
 * struct gmem_view - a range of a guestmem for device back-ends
 * @d: its number, range (pages of @mem) and name
 * @path: of the file that it was made from; holds @mem
 * @mem: the guestmem. The mappings of the view stand in its i_mapping, also when
 *	the view is revoked. Until then, the view is a user of it, too.
 * @revoked: the view no longer gives access. Changed once, by xchg(). A fault
 *	reads it under the invalidate lock of @mem, so a revocation that has
 *	held that lock for writing has seen the last fault pass.
 * @revoking: held while a revocation runs
 */
struct gmem_view {
	struct gmem_descriptor d;
	struct path path;
	struct gmem_mem *mem;
	bool revoked;
	struct mutex revoking;
};

/**
 * struct gmem_window_desc - a range of a VM's guest memory
 * @d: its number, range (guest frame numbers) and name
 * @vm_file: the VM
 * @vm_id: number of the VM, also for readers under RCU
 */
struct gmem_window_desc {
	struct gmem_descriptor d;
	struct file *vm_file;
	u32 vm_id;
};

/**
 * enum gmem_reclaim_reason - why a page comes back; the policy looks at it
 * @GMEM_RECLAIM_HOST: the host wants to use it: allowed, scrubbed or denied
 * @GMEM_RECLAIM_READ: a host that may only read wants to use it: allowed, or
 *	denied where it would be scrubbed
 * @GMEM_RECLAIM_PUNCH: it is about to be freed: allowed or denied
 * @GMEM_RECLAIM_DISCARD: its guest wants that: allowed
 * @GMEM_RECLAIM_UNBIND: its binding goes: allowed or scrubbed
 * @GMEM_RECLAIM_TEARDOWN: its VM goes: the same, and if the provider refuses,
 *	the page is leaked
 * @GMEM_RECLAIM_POISON: it broke: the guest loses it, and nobody gets it
 * @GMEM_RECLAIM_CHANGE: its binding changes: the guest loses it for a while
 */
enum gmem_reclaim_reason {
	GMEM_RECLAIM_HOST,
	GMEM_RECLAIM_READ,
	GMEM_RECLAIM_PUNCH,
	GMEM_RECLAIM_DISCARD,
	GMEM_RECLAIM_UNBIND,
	GMEM_RECLAIM_TEARDOWN,
	GMEM_RECLAIM_POISON,
	GMEM_RECLAIM_CHANGE,
};

#endif /* _GMEM_OBJECTS_H */
