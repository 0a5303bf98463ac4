/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_PROVIDER_H
#define _GMEM_PROVIDER_H

#include <linux/types.h>

struct address_space;
struct dentry;
struct folio;
struct gmem_binding;
struct gmem_call;
struct gmem_mem;
struct gmem_vm;
struct vm_area_struct;

/* A number that a provider reports of a VM. */
struct gmem_vm_detail {
	const char *name;
	u64 value;
};

/**
 * struct gmem_provider_limits - what a provider can do on this host
 * @flags: bits of &enum gmem_provider_flags
 * @max_guest_addr_bits: widest guest address space, in bits
 * @min_guest_addr: lowest guest address that can be bound
 */
struct gmem_provider_limits {
	u32 flags;
	u32 max_guest_addr_bits;
	u64 min_guest_addr;
};

/**
 * struct gmem_provider - gives pages to guests and takes them back
 * @name: as GMEM_INFO and GMEM_VM_CREATE know it
 * @flags: bits of &enum gmem_provider_flags
 * @window_kind: one of &enum gmem_window_kind
 * @max_guest_addr_bits: widest guest address space, in bits
 * @vm_flags: bits of &enum gmem_vm_flags that only some providers take
 * @map_access: as in &struct gmem_info
 * @ends_with_vm: when a VM goes, no guest is left that could reach anything, so
 *	the pages that it shares need not be taken back
 * @on_demand: a guest access to a page that the guest has lost comes to the core
 *	again, and @provide does nothing by itself: a failed operation need not
 *	call it for the pages that it has taken
 * @reclaims_all: @reclaim and @reclaim_begin take the pages from all VMs of the
 *	provider
 * @takes_secret: the provider needs no kernel mapping of pages, and lets nobody
 *	pin them: a guestmem made from memfd_secret() can be bound
 * @live: optional; the provider, of the same name, of VMs with live windows
 * @init: optional; when the module is loaded, before anything else is called
 * @exit: optional; undoes @init
 * @present: optional; can the provider work on this host? Without it, always.
 * @limits: optional; changes @flags and the other limits to those of this host
 * @debugfs: optional; adds files to the module's folder
 * @vm_calls: the calls that its VMs have beside the general ones
 * @nr_vm_calls: how many
 * @vm_detail: optional; reports detail number @index of a VM, for debugfs,
 *	fdinfo and netlink; false behind the last. A name may come more than
 *	once. Must not sleep.
 * @vm_init: optional; sets up gmem_vm.provider_data
 * @vm_stop: optional; stops the guest for good: the VM is going, and the core
 *	is about to take back all its pages. False: that needs more time, and the
 *	core calls it again, in a work item and with @wait. Then it waits as long
 *	as it takes, and returns true.
 * @vm_release: optional; undoes @vm_init. By then no page is provided. The
 *	result and @wait are as for @vm_stop.
 * @mmap: optional; maps guest memory from a VM's descriptor. Without it, such a
 *	mapping fails with -ENODEV.
 * @set_window: optional; makes a window of a new mapping. Its file has the VM's
 *	file as its private data, and its vm_pgoff is a guest frame number. With
 *	this operation, the VM can have window descriptors.
 * @bind: optional; may a guestmem be bound, with these flags? 0 or an errno
 * @change: optional; may pages [@first, @last] of a binding change to these flags,
 *	in place? 0 or an errno. By default, yes. @bind is asked, too.
 * @provide: let the guest reach @folio, whose first page is @gfn, with the
 *	ALLOW bits of @map_flags. No error if it does already. For lent memory
 *	no host mapping and no pin is left. On failure the folio is wholly the
 *	host's again. If the provider can't undo its steps, the error is
 *	-EUCLEAN: the folio then counts as provided, and both @provide and
 *	@reclaim get to try again.
 * @batches: optional; does the provider want the folios of a populated range
 *	all at once?
 * @stage: with @batches: add @folio to @staged, a list of the provider's own
 *	kind; no error if the guest reaches it already
 * @commit: with @batches: provide all staged folios, or if @err isn't 0, forget
 *	them and return @err. The list is empty then. All or nothing, except on
 *	-EUCLEAN, as with @provide: then @has tells which folios the guest has.
 *	-EINTR for a killed task, with @killable alone: an undo isn't given up.
 * @has: with @batches: has the guest been given the page at @gfn?
 * @reclaim: undo @provide; no error if there is nothing to undo. Afterwards the
 *	guest can't reach the folio. On failure nothing has changed. With
 *	@sanitize, the provider may drop the contents.
 * @reclaim_begin: optional: @reclaim of many folios, of pages [@first, @last]
 *	of the file and from @gfn on, is about to come; the invalidate lock is
 *	held for writing, and the guest is kept from the pages: see piece.h.
 *	True: the guest has lost them all, so @reclaim isn't needed.
 * @zap: optional; the guest loses @nr pages from @gfn on, because they broke.
 *	Unlike @reclaim it can't fail, and the core needs only the folio lock and
 *	gmem_mem.tree_rwsem.
 *
 * The core calls @provide and @reclaim with the folio locked and the invalidate
 * lock of its file held. They may sleep, and see each folio of a binding whole.
 * It calls @stage in this way, too, but holds the invalidate lock for writing,
 * from the first @stage to @commit. For the locks of a provider see objects.h.
 */
struct gmem_provider {
	const char *name;
	u32 flags;
	u32 window_kind;
	u32 max_guest_addr_bits;
	u32 vm_flags;
	u32 map_access;
	bool ends_with_vm;
	bool on_demand;
	bool reclaims_all;
	bool takes_secret;
	const struct gmem_provider *live;
	int (*init)(void);
	void (*exit)(void);
	bool (*present)(void);
	void (*limits)(struct gmem_provider_limits *limits);
	void (*debugfs)(struct dentry *dir);
	const struct gmem_call *vm_calls;
	size_t nr_vm_calls;
	bool (*vm_detail)(struct gmem_vm *vm, unsigned int index,
			  struct gmem_vm_detail *detail);
	int (*vm_init)(struct gmem_vm *vm);
	bool (*vm_stop)(struct gmem_vm *vm, bool wait);
	bool (*vm_release)(struct gmem_vm *vm, bool wait);
	int (*mmap)(struct gmem_vm *vm, struct vm_area_struct *vma);
	void (*set_window)(struct vm_area_struct *vma);
	int (*bind)(struct gmem_vm *vm, const struct gmem_mem *mem, u32 flags);
	int (*change)(const struct gmem_binding *b, pgoff_t first, pgoff_t last,
		      u32 flags);
	int (*provide)(struct gmem_vm *vm, unsigned long gfn,
		       struct folio *folio, u32 map_flags);
	bool (*batches)(struct gmem_vm *vm);
	int (*stage)(struct gmem_vm *vm, struct list_head *staged,
		     unsigned long gfn, struct folio *folio, u32 map_flags);
	int (*commit)(struct gmem_vm *vm, struct list_head *staged,
		      bool killable, int err);
	bool (*has)(struct gmem_vm *vm, unsigned long gfn);
	int (*reclaim)(struct gmem_vm *vm, unsigned long gfn,
		       struct folio *folio, bool sanitize);
	bool (*reclaim_begin)(struct gmem_vm *vm, unsigned long gfn,
			      struct address_space *mapping, pgoff_t first,
			      pgoff_t last, bool sanitize);
	void (*zap)(struct gmem_vm *vm, unsigned long gfn, unsigned long nr);
};

/*
 * @providers: every provider of the module; the first one that is present is
 * the default. Called once, when the module is loaded.
 */
int gmem_providers_init(const struct gmem_provider *const *providers,
			size_t nr);
void gmem_providers_exit(void);
/* Add the providers' files to @dir. */
void gmem_providers_debugfs(struct dentry *dir);

/* A provider that is present. The index of GMEM_INFO; NULL past the last. */
const struct gmem_provider *gmem_provider_at(u32 index);
/* "" is the default one; NULL if none of that name is present. */
const struct gmem_provider *gmem_provider_find(const char *name);
u32 gmem_nr_providers(void);
/* A detail from the VM's provider: see gmem_provider.vm_detail. */
bool gmem_provider_vm_detail(struct gmem_vm *vm, unsigned int index,
			     struct gmem_vm_detail *detail);

void gmem_provider_limits(const struct gmem_provider *provider,
			  struct gmem_provider_limits *limits);

/* Can the provider enforce the ALLOW bits of @map_flags exactly? */
bool gmem_provider_can(const struct gmem_provider *provider, u32 map_flags);
/* Does the VM get and give back many folios at once, or none? */
bool gmem_provider_batches(struct gmem_vm *vm);
/*
 * Can the provider share a page that it shares already, or that another
 * provider of this kind shares?
 */
bool gmem_provider_shares_again(const struct gmem_provider *provider);

#endif /* _GMEM_PROVIDER_H */
