/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * gmem: guest memory for virtual machines.
 *
 * A *guestmem* is a file of pages for guests. A *VM* is an address space of
 * guest frame numbers. A *binding* maps a guest address range to a range of a
 * guestmem. A binding is *lent* (the host loses access to a page once the guest
 * uses it) or *shared* (host and guest both keep access). A *provider* puts
 * pages before the guest and takes them back.
 */
#ifndef _UAPI_LINUX_GMEM_H
#define _UAPI_LINUX_GMEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define GMEM_IOCTL_TYPE 'G'

/* Grows when a call, a flag or a trailing struct member is added. */
#define GMEM_ABI_VERSION 4

/**
 * DOC: Errors
 *
 * This is the list of the errors of all calls. The comment of a call says which
 * of its conditions give which error.
 *
 * -E2BIG	the struct is longer than the kernel's, and the part that the
 *		kernel doesn't know isn't zero
 * -EACCES	the descriptor, the policy or the hypervisor doesn't allow it
 * -EBADF	a descriptor in the argument isn't open
 * -EBUSY	a page is held elsewhere: pinned, or in use by the hypervisor
 * -EEXIST	overlap with another binding, in the guest or in the file
 * -EFAULT	an address in the argument can't be read or written
 * -EHWPOISON	a page is broken
 * -EINTR	a fatal signal came while the call was waiting, or between two
 *		pieces of its work
 * -EINVAL	a wrong value; a range that isn't aligned or doesn't fit; a
 *		struct that is shorter than its first version
 * -EIO		the provider failed or refused. The provider "gunyah" can return
 *		another errno that names the cause.
 * -EMFILE	the process can't have another descriptor
 * -ENFILE	the host can't have another open file
 * -ENODATA	a memfd_secret() file lacks pages
 * -ENOENT	no such binding or view; GMEM_INFO: no such provider
 * -ENOMEM	no memory, or the memory cgroup is at its limit
 * -ENOSPC	the VM or its user has as many bindings as it can have:
 *		gmem_info.max_bindings and max_user_bindings; or the VM has as many
 *		ranges that fail as it can have (GMEM_VM_SET_ABSENT)
 * -ENOTTY	the descriptor has no such call
 * -EOPNOTSUPP	a call or a value that this host or this provider lacks;
 *		GMEM_INFO tells beforehand
 * -EOVERFLOW	a sum wraps
 * -EPERM	the provider lends only memory that the kernel can't reach; the
 *		hypervisor denies the request, or grants no more
 *
 * A call that fails has changed nothing, with these exceptions: GMEM_VM_RECLAIM
 * and GMEM_VM_POPULATE report in @nr_pages how far they came; GMEM_VM_FILL may
 * have filled pages that are bound nowhere;
 * GMEM_MEM_FROM_SECRET may have closed its descriptor; a call that can't write
 * its results fails with -EFAULT after its work.
 */

/**
 * DOC: Names
 *
 * Calls that create an object take a name for it. The module only shows the
 * name, to the operator of the host, and several objects may have the same. A
 * name is printable ASCII text (0x20 to 0x7e) of at most 31 characters; every
 * byte after the text is 0. Zeroes alone mean no name. Any other contents give
 * -EINVAL. GMEM_FEATURE_NAME: the module takes names.
 */
#define GMEM_OBJECT_NAME_LEN 32

/**
 * DOC: Compatible calls
 *
 * These calls have the type, number, layout and flag values of the Gunyah v17
 * series, so a VMM that was written for that series works unchanged.
 */

/**
 * GMEM_CREATE_VM - ioctl on /dev/gmem: create a VM
 *
 * The argument must be 0 (else -EINVAL). The VM gets the first provider that
 * GMEM_INFO lists ("gunyah" if the host has it, else "window"), the reclaim
 * policy GMEM_POLICY_ALLOW, the widest guest address space, paged windows if
 * the provider has windows, and no name.
 *
 * Return: a VM descriptor (close-on-exec).
 */
#define GMEM_CREATE_VM _IO(GMEM_IOCTL_TYPE, 0x0)

/**
 * enum gmem_mem_flags - flags of &struct gmem_create_mem
 * @GMEM_MEM_CLOEXEC: set close-on-exec on the new descriptor
 * @GMEM_MEM_ALLOW_HUGEPAGE: back the file with huge pages where possible. The
 *	page size of the file becomes gmem_info.huge_page_size; every range in
 *	a call must be aligned to it. Where mmap() chooses an address, huge
 *	pages lie at multiples of their size, also through a view or a window.
 *	-EOPNOTSUPP on a kernel without transparent huge pages.
 * @GMEM_MEM_CGROUP: for GMEM_MEM_CREATE alone (else -EINVAL): the memory cgroup
 *	@cgroup_fd pays for the pages. -EOPNOTSUPP without GMEM_FEATURE_CGROUP.
 *	Since ABI 4
 */
enum gmem_mem_flags {
	GMEM_MEM_CLOEXEC = 1UL << 0,
	GMEM_MEM_ALLOW_HUGEPAGE = 1UL << 1,
	GMEM_MEM_CGROUP = 1UL << 2,
};

/**
 * struct gmem_create_mem - argument of GMEM_CREATE_MEM
 * @flags: bits of &enum gmem_mem_flags
 * @size: size of the file in bytes; not 0; a multiple of the file's page size.
 *	It is fixed for the life of the file.
 * @name: see "Names". ABI 1: must be 0
 * @reserved: must be 0
 */
struct gmem_create_mem {
	__u64 flags;
	__u64 size;
	__u8 name[GMEM_OBJECT_NAME_LEN];
	__u64 reserved[2];
};

/**
 * GMEM_CREATE_MEM - ioctl on /dev/gmem: create a guestmem
 *
 * A page appears, zeroed, when the host or a guest first touches it, or when
 * fallocate() allocates it. mmap() takes MAP_SHARED only. There is neither
 * read() nor write().
 *
 * fallocate() with mode 0 or KEEP_SIZE allocates pages. With PUNCH_HOLE and
 * KEEP_SIZE it takes back every lent page of the range and then frees the
 * range; if one page can't be taken back, nothing is freed. -EBUSY: a huge page
 * with a broken page is held elsewhere, so the broken page can't be set apart.
 *
 * fstat() returns the size (st_size), the page size (st_blksize) and the number
 * that GMEM_VM_QUERY reports (st_ino). fstatfs() returns GMEM_MEM_MAGIC in
 * f_type if a descriptor is a guestmem.
 *
 * Return: a guestmem descriptor.
 */
#define GMEM_CREATE_MEM _IOW(GMEM_IOCTL_TYPE, 0x8, struct gmem_create_mem)

/* f_type of a guestmem: "GMEM" */
#define GMEM_MEM_MAGIC 0x474d454d

/**
 * enum gmem_map_flags - flags of &struct gmem_map_mem
 * @GMEM_MAP_DEFAULT_ACCESS: the default: lend
 * @GMEM_MAP_FORCE_LEND: lend: the host loses access to a page once the guest
 *	uses it
 * @GMEM_MAP_FORCE_SHARE: share: host and guest both have access
 * @GMEM_MAP_ALLOW_READ: the guest may read
 * @GMEM_MAP_ALLOW_WRITE: the guest may write
 * @GMEM_MAP_ALLOW_EXEC: the guest may execute
 * @GMEM_MAP_UNMAP: remove a binding instead of adding one
 *
 * At least one ALLOW flag is needed. A combination that the provider can't
 * enforce gives -EOPNOTSUPP; see &struct gmem_info.map_access.
 */
enum gmem_map_flags {
	GMEM_MAP_DEFAULT_ACCESS = 0,
	GMEM_MAP_FORCE_LEND = 1,
	GMEM_MAP_FORCE_SHARE = 2,
/* These bits hold one of the three values above; others give -EINVAL. */
#define GMEM_MAP_ACCESS_MASK 0x7
	GMEM_MAP_ALLOW_READ = 1UL << 4,
	GMEM_MAP_ALLOW_WRITE = 1UL << 5,
	GMEM_MAP_ALLOW_EXEC = 1UL << 6,
#define GMEM_MAP_ALLOW_RWX \
	(GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_WRITE | GMEM_MAP_ALLOW_EXEC)
	GMEM_MAP_UNMAP = 1UL << 8,
};

/**
 * struct gmem_map_mem - argument of GMEM_VM_MAP_MEM
 * @guest_addr: guest address of the first byte
 * @flags: bits of &enum gmem_map_flags
 * @guest_mem_fd: a guestmem descriptor, open for reading, and for writing if
 *	@flags lends or has ALLOW_WRITE (else -EACCES)
 * @offset: offset of the first byte in the guestmem
 * @size: bytes to bind
 *
 * @guest_addr, @offset and @size are multiples of the guestmem's page size, and
 * @size is not 0. The range at @offset lies within the file, and the range at
 * @guest_addr within the VM's address width and not below
 * gmem_info.min_guest_addr. Else the call fails with -EINVAL, or with
 * -EOVERFLOW if a sum wraps.
 */
struct gmem_map_mem {
	__u64 guest_addr;
	__u32 flags;
	__u32 guest_mem_fd;
	__u64 offset;
	__u64 size;
};

/**
 * GMEM_VM_MAP_MEM - ioctl on a VM: add or remove a binding
 *
 * Adding fails with -EEXIST if the guest range overlaps another binding of this
 * VM. A lent page is in no other binding of any VM; a shared page may be in
 * several bindings if their providers have GMEM_PROVIDER_SHARE_MULTI. A file
 * range that breaks this rule gives -EEXIST, too. -EOPNOTSUPP if the provider
 * doesn't take secret memory (GMEM_MEM_FROM_SECRET), or takes memory only
 * before the guest starts (GMEM_PROVIDER_BIND_FIRST), or if the VM is live, the
 * guestmem has huge pages and GMEM_FEATURE_LIVE_HUGE is missing. -EPERM if the
 * provider lends nothing but secret memory. -ENOSPC if the VM has
 * gmem_info.max_bindings bindings, or all VMs of its user have
 * max_user_bindings.
 *
 * Removing (with GMEM_MAP_UNMAP): the range must lie within one binding, and
 * flags, guestmem and offset must be those of the binding; else -ENOENT. The
 * rest of the binding on either side stays. The call first takes back the pages
 * that the guest holds; if one can't be taken back, the call fails and the
 * binding is as before.
 *
 * -EBADF if @guest_mem_fd isn't open, -EINVAL if it isn't a guestmem.
 */
#define GMEM_VM_MAP_MEM _IOW(GMEM_IOCTL_TYPE, 0x9, struct gmem_map_mem)

/**
 * DOC: New calls
 *
 * Every struct begins with its own size, as the caller knows it. The kernel
 * pads a struct that is shorter than its own with zeroes; a struct shorter than
 * the first version gives -EINVAL. If the struct is longer, the part that the
 * kernel doesn't know must be zero (else -E2BIG). The kernel writes results
 * back into the struct, never beyond @size. On failure the struct is unchanged
 * unless the call says otherwise. A module that lacks a call returns -ENOTTY:
 * GMEM_VM_WINDOW, GMEM_MEM_VIEW and GMEM_MEM_REVOKE exist since ABI 2,
 * GMEM_MEM_CREATE since ABI 3, GMEM_MEM_RUNS, GMEM_VM_WAITERS,
 * GMEM_VM_SET_ABSENT, GMEM_VM_FILL, GMEM_VM_CHANGE and GMEM_VM_MAP since ABI 4.
 */

/**
 * DOC: Arrays of entries
 *
 * GMEM_VM_QUERY, GMEM_VM_FAULTS, GMEM_VM_WAITERS and GMEM_MEM_RUNS fill an array,
 * whose entries may grow with the ABI as structs do. @entry_size is the size of an
 * entry as the caller knows it: a multiple of 8, not below that of the first
 * version, and at most 4096 (else -EINVAL). The kernel fills as much of each entry as it knows,
 * and writes zeroes to the rest. It returns the size that it knows in @entry_size,
 * unless the caller's is less. An argument that ends before @entry_size, of an
 * older caller, means entries of the first version.
 *
 * GMEM_VM_QUERY takes 0 for the first version, too: a program that is older than
 * @entry_size, and is compiled with a newer header, has such entries. For
 * GMEM_VM_FAULTS, 0 gives -EINVAL: the entries of such a program have grown
 * with the header, and it would read them at wrong places.
 */

#define GMEM_NAME_LEN 16

/**
 * enum gmem_features - feature bits of &struct gmem_info
 * @GMEM_FEATURE_HUGEPAGE: GMEM_MEM_ALLOW_HUGEPAGE works
 * @GMEM_FEATURE_LIVE: GMEM_VM_LIVE works
 * @GMEM_FEATURE_LIVE_HUGE: a live VM takes guestmems with huge pages
 * @GMEM_FEATURE_WINDOW: GMEM_VM_WINDOW works on live VMs
 * @GMEM_FEATURE_VIEW: GMEM_MEM_VIEW and GMEM_MEM_REVOKE work
 * @GMEM_FEATURE_NAME: calls that create an object take a name for it
 * @GMEM_FEATURE_NUMA: GMEM_MEM_CREATE and mbind() set a NUMA policy
 * @GMEM_FEATURE_CHANGE: GMEM_VM_CHANGE works
 * @GMEM_FEATURE_MAP: GMEM_VM_MAP works
 * @GMEM_FEATURE_RUNS: GMEM_MEM_RUNS works, and SEEK_DATA and SEEK_HOLE on a
 *	guestmem; GMEM_VM_QUERY and GMEM_VM_FAULTS take @entry_size; a row of
 *	refused accesses has the thread; poll() of a VM tells of new rows
 * @GMEM_FEATURE_CGROUP: GMEM_MEM_CGROUP works: the memory controller is in the
 *	cgroup2 hierarchy
 * @GMEM_FEATURE_WAIT: GMEM_VM_WAIT, GMEM_VM_WAITERS and GMEM_VM_SET_ABSENT work on
 *	live VMs; GMEM_VM_FILL works on all
 */
enum gmem_features {
	GMEM_FEATURE_HUGEPAGE = 1UL << 0,
	GMEM_FEATURE_LIVE = 1UL << 1,
	GMEM_FEATURE_LIVE_HUGE = 1UL << 2,
	GMEM_FEATURE_WINDOW = 1UL << 3,
	GMEM_FEATURE_VIEW = 1UL << 4,
	GMEM_FEATURE_NAME = 1UL << 5,
	GMEM_FEATURE_NUMA = 1UL << 6,
	GMEM_FEATURE_WAIT = 1UL << 7,
	GMEM_FEATURE_CHANGE = 1UL << 8,
	GMEM_FEATURE_MAP = 1UL << 9,
	GMEM_FEATURE_RUNS = 1UL << 10,
	GMEM_FEATURE_CGROUP = 1UL << 11,
};

/**
 * enum gmem_provider_flags - abilities of a provider
 * @GMEM_PROVIDER_SHARE_MULTI: a shared page may be in several bindings
 * @GMEM_PROVIDER_WINDOW: mmap() of a VM descriptor gives a window
 * @GMEM_PROVIDER_BIND_FIRST: a guest gets its memory when it starts. A later
 *	binding fails with -EOPNOTSUPP, unless the VM has GMEM_VM_GUEST_ACCEPTS,
 *	and the host gets nothing back before the guest's end. Since ABI 4
 */
enum gmem_provider_flags {
	GMEM_PROVIDER_SHARE_MULTI = 1UL << 0,
	GMEM_PROVIDER_WINDOW = 1UL << 1,
	GMEM_PROVIDER_BIND_FIRST = 1UL << 2,
};

/**
 * struct gmem_info - argument of GMEM_INFO
 * @size: sizeof(struct gmem_info)
 * @provider_index: in: the provider to describe, from 0; GMEM_CREATE_VM takes
 *	the first. -ENOENT past the last.
 * @abi_version: out: GMEM_ABI_VERSION of the module
 * @nr_providers: out: number of providers
 * @features: out: bits of &enum gmem_features
 * @page_size: out: bytes
 * @huge_page_size: out: bytes; 0 without GMEM_FEATURE_HUGEPAGE
 * @max_guest_addr_bits: out: widest guest address space on this host
 * @provider_flags: out: bits of &enum gmem_provider_flags
 * @provider_name: out: NUL-terminated
 * @map_access: out: combinations of access that the provider can enforce: bit
 *	(r | w << 1 | x << 2) is set if it can enforce that combination
 * @max_bindings: out: number of bindings that a VM can have; 0 if the module
 *	has ABI version 1, which has no limit
 * @max_user_bindings: out: number of bindings that all VMs of one user can have
 *	together; 0 before ABI 4. The user of a VM is the effective user of the
 *	process that has opened the device, also where another process has made
 *	the VM through that descriptor.
 * @user_bindings: out: number of bindings that the VMs of the caller's descriptor's
 *	user have. Since ABI 4
 * @min_guest_addr: out: lowest guest address that can be bound; guest addresses
 *	below are for devices. Since ABI 4
 */
struct gmem_info {
	__u32 size;
	__u32 provider_index;
	__u32 abi_version;
	__u32 nr_providers;
	__u64 features;
	__u64 page_size;
	__u64 huge_page_size;
	__u32 max_guest_addr_bits;
	__u32 provider_flags;
	__u8 provider_name[GMEM_NAME_LEN];
	__u32 map_access;
	__u32 max_bindings;
	__u64 max_user_bindings;
	__u64 user_bindings;
	__u64 min_guest_addr;
};

/** GMEM_INFO - ioctl on /dev/gmem: describe the module and one provider */
#define GMEM_INFO _IO(GMEM_IOCTL_TYPE, 0x80)

/**
 * enum gmem_policy - effect of a host access to a lent page
 * @GMEM_POLICY_ALLOW: the page comes back with its contents
 * @GMEM_POLICY_SCRUB: the page comes back zeroed
 * @GMEM_POLICY_DENY: the access fails (SIGBUS, -EACCES) and the page stays lent
 *
 * When a binding or its VM goes, its lent pages come back under every policy:
 * with their contents under ALLOW, zeroed under SCRUB and DENY.
 *
 * A host that can only read destroys nothing: a touch of a mapping that was made
 * with a read-only descriptor fails under SCRUB as under DENY.
 *
 * Only a touch takes a page back: by the CPU, or by the kernel when it copies for
 * a system call. Under every policy, other system calls fail at a lent page of a
 * host mapping: those that pin memory (O_DIRECT, vmsplice(), io_uring's fixed
 * buffers, process_vm_readv()), futex(), ptrace() and /proc/PID/mem with EFAULT or
 * EIO; MADV_POPULATE_READ and MADV_POPULATE_WRITE with EFAULT, mlock() with
 * ENOMEM. MAP_POPULATE and mlockall() report no error; they end at the first lent
 * page of a mapping. Touch a page first to use it in one of these ways.
 *
 * Under every policy, the guest keeps a lent page while the page is pinned
 * through a paged window: a touch by the host raises SIGBUS; GMEM_VM_RECLAIM
 * and a punch of the page fail with -EBUSY. When its binding or its VM goes,
 * another page takes its place in the guestmem, so that no later owner shares
 * memory with the holder of the pin.
 */
enum gmem_policy {
	GMEM_POLICY_ALLOW = 0,
	GMEM_POLICY_SCRUB = 1,
	GMEM_POLICY_DENY = 2,
};

/**
 * enum gmem_vm_flags - flags of &struct gmem_vm_create
 * @GMEM_VM_LIVE: the VM's windows are live, not paged: see "DOC: Windows".
 *	-EOPNOTSUPP without GMEM_FEATURE_LIVE, or if the provider isn't "window"
 * @GMEM_VM_WAIT: an access to an unbound page waits, instead of being refused: see
 *	"DOC: Waiting". -EOPNOTSUPP without GMEM_VM_LIVE, -EINVAL without
 *	GMEM_FEATURE_WAIT
 * @GMEM_VM_WAIT_SIGNALS: with GMEM_VM_WAIT (else -EINVAL): a signal ends the wait
 *	of KVM_RUN
 * @GMEM_VM_GUEST_ACCEPTS: the guest by itself accepts memory that it gets after its
 *	start: see "Memory after the start" in <linux/gmem_gunyah.h>. -EOPNOTSUPP
 *	if the provider isn't "gunyah". Since ABI 4
 */
enum gmem_vm_flags {
	GMEM_VM_LIVE = 1UL << 0,
	GMEM_VM_WAIT = 1UL << 1,
	GMEM_VM_WAIT_SIGNALS = 1UL << 2,
	GMEM_VM_GUEST_ACCEPTS = 1UL << 3,
};

/**
 * struct gmem_vm_create - argument of GMEM_VM_CREATE
 * @size: sizeof(struct gmem_vm_create)
 * @flags: bits of &enum gmem_vm_flags
 * @provider_name: NUL-terminated; empty for the provider of GMEM_CREATE_VM;
 *	-EOPNOTSUPP if the host has no such provider
 * @policy: one of &enum gmem_policy
 * @guest_addr_bits: width of the guest address space; 0 for the widest
 * @name: see "Names". Since ABI 2
 */
struct gmem_vm_create {
	__u32 size;
	__u32 flags;
	__u8 provider_name[GMEM_NAME_LEN];
	__u32 policy;
	__u32 guest_addr_bits;
	__u8 name[GMEM_OBJECT_NAME_LEN];
};

/**
 * GMEM_VM_CREATE - ioctl on /dev/gmem: create a VM with chosen properties
 *
 * Return: a VM descriptor (close-on-exec).
 */
#define GMEM_VM_CREATE _IO(GMEM_IOCTL_TYPE, 0x81)

/**
 * struct gmem_mem_from_secret - argument of GMEM_MEM_FROM_SECRET
 * @size: sizeof(struct gmem_mem_from_secret)
 * @flags: 0 or GMEM_MEM_CLOEXEC
 * @secret_fd: a memfd_secret() descriptor
 * @reserved: must be 0
 * @name: see "Names". Since ABI 2
 */
struct gmem_mem_from_secret {
	__u32 size;
	__u32 flags;
	__s32 secret_fd;
	__u32 reserved;
	__u8 name[GMEM_OBJECT_NAME_LEN];
};

/**
 * GMEM_MEM_FROM_SECRET - ioctl on /dev/gmem: create a guestmem of secret memory
 *
 * The kernel doesn't have the pages of a memfd_secret() file in its linear map.
 * So a stray access of the kernel can't reach them, where the host loses access
 * to lent pages. The guestmem takes over the pages of @secret_fd, and the call
 * closes the descriptor. To prepare the file: set its size, map it, touch every
 * page, unmap it.
 *
 * Such a guestmem has all its pages from the start, and no hole can be punched
 * (-EOPNOTSUPP). It has no huge pages. The kernel can't use it for system calls
 * that pin memory, such as O_DIRECT (-EFAULT). Only some providers take it
 * (GMEM_VM_MAP_MEM: else -EOPNOTSUPP).
 *
 * Return: a guestmem descriptor. -EBADF if @secret_fd isn't open; -EINVAL if it
 * isn't such a file, or its size isn't in whole pages or is 0; -EBUSY if it is
 * mapped or has other descriptors; -ENODATA if pages are missing; -EOPNOTSUPP
 * if the kernel has the pages in its linear map nevertheless.
 *
 * On failure the descriptor stays open, with two exceptions. Both come late in
 * the call, when the descriptor is closed already: another thread has taken a
 * reference to the file during the call (-EBUSY), or there is no memory for the
 * guestmem (-ENOMEM).
 */
#define GMEM_MEM_FROM_SECRET _IO(GMEM_IOCTL_TYPE, 0x83)

/**
 * struct gmem_mem_create - argument of GMEM_MEM_CREATE
 * @size: sizeof(struct gmem_mem_create)
 * @flags: bits of &enum gmem_mem_flags; GMEM_MEM_CLOEXEC changes nothing
 * @length: size of the file in bytes; as gmem_create_mem.size
 * @name: see "Names"
 * @numa_mode: a MPOL mode of <linux/mempolicy.h>: MPOL_DEFAULT, _PREFERRED,
 *	_BIND, _INTERLEAVE, _LOCAL or _PREFERRED_MANY. Another one, or a mode
 *	with flags, gives -EOPNOTSUPP, as does any but MPOL_DEFAULT without
 *	GMEM_FEATURE_NUMA.
 * @nr_nodes: bits at @nodes; at most GMEM_NUMA_MAX_NODES
 * @nodes: address of an array of __u64; bit N % 64 of word N / 64 is node N
 * @cgroup_fd: a directory of the cgroup2 filesystem, with GMEM_MEM_CGROUP; else 0.
 *	Since ABI 4
 * @reserved: must be 0
 *
 * There are no nodes for MPOL_DEFAULT and MPOL_LOCAL, there is one for
 * MPOL_PREFERRED, and at least one for the others; each has memory, and the
 * caller's cpuset has the node. Else the call fails with -EINVAL.
 */
struct gmem_mem_create {
	__u32 size;
	__u32 flags;
	__u64 length;
	__u8 name[GMEM_OBJECT_NAME_LEN];
	__u32 numa_mode;
	__u32 nr_nodes;
	__u64 nodes;
	__s32 cgroup_fd;
	__u32 reserved;
};

#define GMEM_NUMA_MAX_NODES 4096

/**
 * GMEM_MEM_CREATE - ioctl on /dev/gmem: create a guestmem with chosen properties
 *
 * As GMEM_CREATE_MEM, with a NUMA policy for the whole file: see "NUMA"; and with
 * a memory cgroup that pays: see "Charges".
 *
 * Return: a guestmem descriptor (close-on-exec). -EBADF if @cgroup_fd isn't a
 * directory of the cgroup2 filesystem; -EACCES if the caller may not charge it.
 */
#define GMEM_MEM_CREATE _IO(GMEM_IOCTL_TYPE, 0x84)

/**
 * DOC: Charges
 *
 * A page is charged to a memory cgroup from its first use until it is freed. If the
 * creator has named a cgroup by GMEM_MEM_CGROUP, that one pays for all pages. A
 * process may name the cgroup in which it is, or one in which it could make
 * others by mkdir(), as the owner of a delegated one may. A cgroup without the
 * memory controller means its nearest ancestor that has it. After the removal of a
 * cgroup, its nearest ancestor that is left pays.
 *
 * Else the cgroup of the process that fills the page pays: that touches it through
 * a mapping, or allocates it by fallocate() or GMEM_VM_POPULATE. The guest's touches
 * count as the VMM's, those by kernel threads included. So if a broker fills memory
 * for a VMM (a lazy restore, for example), the broker pays as long as the pages
 * exist, unless the guestmem names the VMM's cgroup.
 *
 * At the limit the access fails: see -ENOMEM and GMEM_FAULT_NOMEM. The kernel kills
 * no process for it. Bindings are charged to the process that binds; from Linux 6.18
 * on, a part of them is charged to nobody, and gmem_info.max_bindings and
 * max_user_bindings bound that.
 */

/**
 * DOC: NUMA
 *
 * A guestmem has a NUMA policy for each range of its pages. GMEM_MEM_CREATE sets
 * one for all pages, and mbind() of a mapping for those that are mapped: of the
 * guestmem itself, or of a paged window onto it. The policy belongs to the file,
 * so it stays after munmap(), and counts for the first touch of any task. Pages
 * that are there already stay where they are. mbind(MPOL_DEFAULT) removes a policy.
 * Where a page has none, the policy of the task that touches it first counts:
 * see set_mempolicy(). On x86 that can be a thread of KVM's.
 *
 * mbind() fails with EACCES for a mapping that can't become writable, or of a
 * window whose binding is gone, and with ENOSPC if the guestmem has 65,536
 * ranges with policies. The kernel doesn't call the module for a mapping that
 * has the same policy already: a new mapping has MPOL_DEFAULT, so set another
 * policy first to remove the file's.
 *
 * mbind() fails with EOPNOTSUPP for a mapping that can't have a policy: a live
 * window, a hole of a paged window, a view, secret memory; and for a policy
 * that can't be served: MPOL_WEIGHTED_INTERLEAVE, MPOL_F_NUMA_BALANCING. The
 * pages of a guestmem can't be moved, so MPOL_MF_MOVE moves none, and NUMA
 * balancing leaves them alone. get_mempolicy(MPOL_F_ADDR) doesn't know the
 * policy of a guestmem; with MPOL_F_NODE it returns the node of a page.
 */

/**
 * struct gmem_stats - argument of GMEM_STATS
 * @size: sizeof(struct gmem_stats)
 * @flags: must be 0
 * @vms: out: VMs that exist
 * @mems: out: guestmems that exist
 * @bindings: out: bindings that exist
 * @lent_pages: out: pages lent now
 * @leaked_pages: out: pages that a provider refused to give back at the end of
 *	their VM, or that broke while they were pinned and lent; they stay out of
 *	use until the host reboots
 * @lends: out: pages lent since the module was loaded
 * @reclaims: out: pages taken back since the module was loaded
 * @refused: out: guest accesses refused since the module was loaded
 */
struct gmem_stats {
	__u32 size;
	__u32 flags;
	__u64 vms;
	__u64 mems;
	__u64 bindings;
	__u64 lent_pages;
	__u64 leaked_pages;
	__u64 lends;
	__u64 reclaims;
	__u64 refused;
};

/** GMEM_STATS - ioctl on /dev/gmem: counters of the whole module */
#define GMEM_STATS _IO(GMEM_IOCTL_TYPE, 0x82)

/**
 * struct gmem_vm_range - argument of GMEM_VM_UNMAP, _RECLAIM and _POPULATE
 * @size: sizeof(struct gmem_vm_range)
 * @flags: must be 0
 * @guest_addr: guest address of the first byte
 * @length: bytes; not 0
 * @nr_pages: out: pages that the call unbound, took back or provided
 *
 * @guest_addr and @length are multiples of the page size. An end of the range
 * that lies inside a binding of a guestmem with huge pages is aligned to the
 * huge page size.
 */
struct gmem_vm_range {
	__u32 size;
	__u32 flags;
	__u64 guest_addr;
	__u64 length;
	__u64 nr_pages;
};

/**
 * GMEM_VM_UNMAP - ioctl on a VM: unbind a guest range
 *
 * The range may span bindings and holes. It may begin and end inside a binding,
 * which the call trims or splits. The call first takes back the pages that the
 * guest holds; if one can't be taken back, the call fails and every binding is
 * as before. A range without any binding is no error: @nr_pages is then 0.
 *
 * A lent page that is pinned is replaced by another one, a huge page by a huge
 * page, which takes as much memory as there are pinned pages: -ENOMEM if there
 * isn't enough. -EBUSY if a huge page is both pinned and broken.
 *
 * An unmap that leaves two pieces of a binding needs one binding more. So it can
 * be -ENOSPC, as GMEM_VM_MAP_MEM.
 */
#define GMEM_VM_UNMAP _IO(GMEM_IOCTL_TYPE, 0x90)

/**
 * GMEM_VM_RECLAIM - ioctl on a VM: take the lent pages of a range back now
 *
 * The bindings stay: the guest's next access lends the page again. Under
 * GMEM_POLICY_SCRUB the call zeroes the pages; under GMEM_POLICY_DENY it fails
 * with -EACCES. -EBUSY if a page is pinned. If the call fails half-way,
 * @nr_pages is the number of pages that came back; they stay with the host.
 */
#define GMEM_VM_RECLAIM _IO(GMEM_IOCTL_TYPE, 0x91)

/**
 * GMEM_VM_POPULATE - ioctl on a VM: provide a range ahead of the guest's use
 *
 * The call allocates and provides every page of the range, lent or shared as its
 * binding says. It maps none of them, so they are in the RSS of no process; a
 * memory cgroup counts them: see "Charges". -ENOENT if part of the range is
 * unbound (checked first). If the call fails half-way, the first @nr_pages
 * pages are provided and stay so.
 */
#define GMEM_VM_POPULATE _IO(GMEM_IOCTL_TYPE, 0x92)

/**
 * struct gmem_binding_info - one binding in the answer of GMEM_VM_QUERY
 * @guest_addr: guest address of the first byte
 * @length: bytes
 * @offset: offset of the first byte in the guestmem
 * @mem_id: st_ino of the guestmem
 * @flags: FORCE_LEND or FORCE_SHARE, the ALLOW bits, and GMEM_MAP_POLICY if the
 *	binding has a policy of its own
 * @policy: that policy, one of &enum gmem_policy; else 0
 */
struct gmem_binding_info {
	__u64 guest_addr;
	__u64 length;
	__u64 offset;
	__u64 mem_id;
	__u32 flags;
	__u32 policy;
};

/**
 * struct gmem_vm_query - argument of GMEM_VM_QUERY
 * @size: sizeof(struct gmem_vm_query)
 * @nr_entries: in: room at @entries; out: entries written
 * @guest_addr: in: first address of the range; out: first address for the next
 *	call
 * @length: in: bytes of the range; out: bytes left for the next call, 0 when
 *	done
 * @entries: address of an array of &struct gmem_binding_info
 * @entry_size: see "Arrays of entries". Since ABI 4
 * @reserved: must be 0
 *
 * The call reports the whole of each binding that touches the range, in
 * ascending order.
 */
struct gmem_vm_query {
	__u32 size;
	__u32 nr_entries;
	__u64 guest_addr;
	__u64 length;
	__u64 entries;
	__u32 entry_size;
	__u32 reserved;
};

/** GMEM_VM_QUERY - ioctl on a VM: list the bindings of a guest range */
#define GMEM_VM_QUERY _IO(GMEM_IOCTL_TYPE, 0x93)

/**
 * enum gmem_access - kinds of guest access
 * @GMEM_ACCESS_READ: load
 * @GMEM_ACCESS_WRITE: store
 * @GMEM_ACCESS_EXEC: instruction fetch
 */
enum gmem_access {
	GMEM_ACCESS_READ = 1UL << 0,
	GMEM_ACCESS_WRITE = 1UL << 1,
	GMEM_ACCESS_EXEC = 1UL << 2,
};

/**
 * enum gmem_fault_reason - reason for the refusal of a guest access
 * @GMEM_FAULT_UNBOUND: no binding at the address
 * @GMEM_FAULT_STALE: the address is bound, but the touched piece of the window
 *	was mapped for something else: map it again
 * @GMEM_FAULT_PERM: the binding doesn't allow the access
 * @GMEM_FAULT_PINNED: somebody holds the page, so it can't be lent; a later try
 *	may succeed. A page that is pinned is refused at once. Any other reference
 *	to it may be brief, as that of a munmap() under way: the access waits for
 *	its end, and is refused after two seconds. A pipe that vmsplice() has
 *	filled holds pages in this way.
 * @GMEM_FAULT_NOMEM: no memory, or the memory cgroup is at its limit
 * @GMEM_FAULT_PROVIDER: the provider failed to provide the page
 * @GMEM_FAULT_HWPOISON: the page is broken
 * @GMEM_FAULT_LEAKED: an earlier VM's provider never gave the page back
 * @GMEM_FAULT_INTERRUPTED: a signal ended the wait of KVM_RUN for an unbound page:
 *	run the vCPU again. Only with GMEM_VM_WAIT_SIGNALS
 */
enum gmem_fault_reason {
	GMEM_FAULT_UNBOUND = 1,
	GMEM_FAULT_STALE = 2,
	GMEM_FAULT_PERM = 3,
	GMEM_FAULT_PINNED = 4,
	GMEM_FAULT_NOMEM = 5,
	GMEM_FAULT_PROVIDER = 6,
	GMEM_FAULT_HWPOISON = 7,
	GMEM_FAULT_LEAKED = 8,
	GMEM_FAULT_INTERRUPTED = 9,
};

/**
 * struct gmem_fault_info - a refused guest access, or a row of equal ones
 * @seq: number of the last access of the row; a VM numbers refused accesses
 *	from 1
 * @guest_addr: page-aligned guest address
 * @access: bits of &enum gmem_access
 * @reason: one of &enum gmem_fault_reason
 * @count: length of the row
 * @pid: the thread that made the accesses, a vCPU's for example, in the PID
 *	namespace of the caller. 0 if the caller can't see the thread, or if a
 *	kernel thread made them, such as a vhost worker. The row stays when the
 *	thread has ended, and then another thread may have the number. Since ABI 4
 * @reserved: 0
 *
 * Equal accesses are those of one thread. A kernel thread acts for others, so its
 * accesses belong to the row of any thread if they are equal otherwise.
 */
struct gmem_fault_info {
	__u64 seq;
	__u64 guest_addr;
	__u32 access;
	__u32 reason;
	__u64 count;
	__u32 pid;
	__u32 reserved;
};

/* The VM remembers this many rows of refused accesses. */
#define GMEM_NR_FAULTS 64

/**
 * struct gmem_vm_faults - argument of GMEM_VM_FAULTS
 * @size: sizeof(struct gmem_vm_faults)
 * @nr_entries: in: room at @entries; out: entries written
 * @seq: in: report only rows with a higher number; 0 for all. out: the last
 *	number reported, for the next call; unchanged if there is no newer row.
 *	A row that has grown since then is reported again, with its new number.
 * @lost: out: number of accesses after @seq whose row was overwritten
 * @entries: address of an array of &struct gmem_fault_info
 * @entry_size: see "Arrays of entries". Since ABI 4
 * @reserved: must be 0
 */
struct gmem_vm_faults {
	__u32 size;
	__u32 nr_entries;
	__u64 seq;
	__u64 lost;
	__u64 entries;
	__u32 entry_size;
	__u32 reserved;
};

/**
 * GMEM_VM_FAULTS - ioctl on a VM: the last refused guest accesses
 *
 * poll() of a VM descriptor returns EPOLLPRI while there is a row with a higher
 * number than any that a call has returned, to whichever caller.
 */
#define GMEM_VM_FAULTS _IO(GMEM_IOCTL_TYPE, 0x94)

/**
 * struct gmem_vm_set_policy - argument of GMEM_VM_SET_POLICY
 * @size: sizeof(struct gmem_vm_set_policy)
 * @policy: one of &enum gmem_policy
 */
struct gmem_vm_set_policy {
	__u32 size;
	__u32 policy;
};

/**
 * GMEM_VM_SET_POLICY - ioctl on a VM: change the reclaim policy
 *
 * A binding with a policy of its own (GMEM_VM_MAP) keeps that.
 */
#define GMEM_VM_SET_POLICY _IO(GMEM_IOCTL_TYPE, 0x95)

/**
 * enum gmem_window_flags - flags of &struct gmem_vm_window
 * @GMEM_WINDOW_READ_ONLY: the descriptor can only be read: it can't be opened
 *	for writing, not even by root, and a mapping can't be made writable
 * @GMEM_WINDOW_NO_DISCARD: no fallocate()
 */
enum gmem_window_flags {
	GMEM_WINDOW_READ_ONLY = 1UL << 0,
	GMEM_WINDOW_NO_DISCARD = 1UL << 1,
};

/**
 * struct gmem_vm_window - argument of GMEM_VM_WINDOW
 * @size: sizeof(struct gmem_vm_window)
 * @flags: bits of &enum gmem_window_flags
 * @guest_addr: guest address of the first byte
 * @length: bytes; not 0
 * @id: out: number of the window descriptor; never 0; below 2^32
 * @name: see "Names"
 *
 * @guest_addr and @length are multiples of the page size, and the range lies
 * within the VM's address width. Nothing need be bound there.
 */
struct gmem_vm_window {
	__u32 size;
	__u32 flags;
	__u64 guest_addr;
	__u64 length;
	__u64 id;
	__u8 name[GMEM_OBJECT_NAME_LEN];
};

/**
 * GMEM_VM_WINDOW - ioctl on a live VM: create a window descriptor
 *
 * A window descriptor is a file of its own that stands for a range of the VM's
 * guest memory; its offset 0 is the start of the range. Its holder has the
 * memory, lent pages included, without the VM's calls: it can neither bind nor
 * take back, and GMEM_VM_FAULTS doesn't tell it why a touch was refused. The
 * descriptor can only be
 *
 * - mapped, MAP_SHARED and within the range (else -EINVAL): the mapping is a live
 *   window, see "DOC: Windows";
 * - opened again through /proc/self/fd, by any user: the mode of the file is
 *   0666, or 0444 with GMEM_WINDOW_READ_ONLY;
 * - asked for its size, by fstat() or lseek(SEEK_END). st_ino is @id, and
 *   fstatfs() returns GMEM_WINDOW_MAGIC;
 * - discarded through, by fallocate() with PUNCH_HOLE and KEEP_SIZE, if it is
 *   open for writing and hasn't GMEM_WINDOW_NO_DISCARD.
 *
 * Nobody can change its mode, its owner, its times or its size (-EPERM).
 *
 * A *discard* is the guest's: it no longer needs what is in the range. Under every
 * policy, pages are freed, and read as zeroes when next used. Where the range
 * has a part of a huge page, the part is zeroed instead. Parts that aren't
 * bound are skipped. If a page can't be discarded, nothing is: -EACCES if its
 * binding doesn't allow writing, -EBUSY if another binding has it, too, or if
 * it is pinned or referred to otherwise: see GMEM_FAULT_PINNED. The only
 * exceptions: if a task binds, pins or refers to a page of the range during the
 * call (-EBUSY), or if a fatal signal comes (-EINTR), a part of the range may be
 * discarded. Offset and length are multiples of the page size, within the range
 * (else -EINVAL). A descriptor that isn't open for writing gives -EBADF;
 * another mode of fallocate() gives -EOPNOTSUPP, as does every call with
 * GMEM_WINDOW_NO_DISCARD. MADV_REMOVE of a mapping fails and changes nothing.
 *
 * Meanwhile the guest's accesses to the range and the VM's own calls wait. If the
 * holder shouldn't be able to delay them, give it GMEM_WINDOW_NO_DISCARD.
 *
 * A window descriptor holds the VM, as a window does. It can't be revoked: to
 * end its holder's access, unbind the memory.
 *
 * Return: a descriptor (close-on-exec). -EOPNOTSUPP if the VM isn't live,
 * whatever else the argument has: so a call with @length 0 tells whether a VM
 * is live (-EINVAL).
 */
#define GMEM_VM_WINDOW _IO(GMEM_IOCTL_TYPE, 0x96)

/* f_type of a window descriptor: "GMWN" */
#define GMEM_WINDOW_MAGIC 0x474d574e

/**
 * struct gmem_waiter_info - a page for which accesses wait
 * @guest_addr: page-aligned guest address
 * @access: bits of &enum gmem_access: what the accesses want
 * @nr_threads: how many threads wait for the page
 * @pid: the thread that has waited longest, as in the PID namespace of the
 *	caller; 0 for a kernel thread, or a thread that the caller can't see
 * @reserved: 0
 */
struct gmem_waiter_info {
	__u64 guest_addr;
	__u32 access;
	__u32 nr_threads;
	__u32 pid;
	__u32 reserved;
};

/**
 * enum gmem_waiters_flags - flags of &struct gmem_vm_waiters
 * @GMEM_WAITERS_ALL: all pages for which accesses wait, in ascending order. The
 *	call changes nothing.
 */
enum gmem_waiters_flags {
	GMEM_WAITERS_ALL = 1UL << 0,
};

/**
 * struct gmem_vm_waiters - argument of GMEM_VM_WAITERS
 * @size: sizeof(struct gmem_vm_waiters)
 * @flags: bits of &enum gmem_waiters_flags
 * @nr_entries: in: room at @entries; out: entries written
 * @entry_size: see "Arrays of entries"
 * @guest_addr: with GMEM_WAITERS_ALL: in: the first page to report; out: where the
 *	next call goes on. Page-aligned. Else it must be 0.
 * @nr_threads: out: how many threads wait, for any page of the VM
 * @entries: address of an array of &struct gmem_waiter_info
 */
struct gmem_vm_waiters {
	__u32 size;
	__u32 flags;
	__u32 nr_entries;
	__u32 entry_size;
	__u64 guest_addr;
	__u64 nr_threads;
	__u64 entries;
};

/**
 * GMEM_VM_WAITERS - ioctl on a VM with GMEM_VM_WAIT: pages for which accesses wait
 *
 * All accesses that wait for one page are one request. Without GMEM_WAITERS_ALL, the
 * call reports each request once, the oldest first. It doesn't sleep: @nr_entries is
 * 0 if there is no new request. poll() returns POLLIN while there is one. If all
 * threads leave a page without a bind (see GMEM_VM_WAIT_SIGNALS) and one of them
 * comes back, that is a new request. With an error, requests may be lost to
 * further calls: use GMEM_WAITERS_ALL, as a process does that takes over from
 * another.
 *
 * -EOPNOTSUPP if the VM hasn't GMEM_VM_WAIT.
 */
#define GMEM_VM_WAITERS _IO(GMEM_IOCTL_TYPE, 0x97)

/**
 * enum gmem_absent - effect of an access to an unbound page
 * @GMEM_ABSENT_WAIT: it waits
 * @GMEM_ABSENT_FAIL: it is refused (GMEM_FAULT_UNBOUND)
 */
enum gmem_absent {
	GMEM_ABSENT_WAIT = 0,
	GMEM_ABSENT_FAIL = 1,
};

/**
 * struct gmem_vm_set_absent - argument of GMEM_VM_SET_ABSENT
 * @size: sizeof(struct gmem_vm_set_absent)
 * @absent: one of &enum gmem_absent
 * @guest_addr: guest address of the first byte
 * @length: bytes; not 0
 *
 * @guest_addr and @length are multiples of the page size, and the range lies
 * within the VM's address width.
 */
struct gmem_vm_set_absent {
	__u32 size;
	__u32 absent;
	__u64 guest_addr;
	__u64 length;
};

/**
 * GMEM_VM_SET_ABSENT - ioctl on a VM with GMEM_VM_WAIT: wait, or fail
 *
 * A new VM has GMEM_ABSENT_WAIT everywhere. GMEM_ABSENT_FAIL ends the waits of the
 * range, and stays until the range is bound, or set to wait again. Pages that are
 * bound now have it, too, and it takes effect when they are unbound: so a VMM that
 * unplugs memory calls this first, and then GMEM_VM_UNMAP, and no access waits in
 * between.
 *
 * -ENOSPC if 65,536 ranges of the VM fail; GMEM_VM_MAP_MEM, GMEM_VM_MAP and
 * GMEM_VM_FILL fail with -ENOSPC, too, if they would cut one of these in two.
 * -EOPNOTSUPP if the VM hasn't GMEM_VM_WAIT.
 */
#define GMEM_VM_SET_ABSENT _IO(GMEM_IOCTL_TYPE, 0x98)

/**
 * struct gmem_vm_fill - argument of GMEM_VM_FILL
 * @size: sizeof(struct gmem_vm_fill)
 * @flags: as gmem_vm_map.flags
 * @guest_addr: guest address of the first byte
 * @guest_mem_fd: a guestmem descriptor, open for reading and writing (else -EACCES)
 * @policy: as gmem_vm_map.policy
 * @offset: offset of the first byte in the guestmem
 * @length: bytes to fill and to bind
 * @source: address of the contents
 *
 * Rules for @guest_addr, @offset and @length: see &struct gmem_map_mem.
 */
struct gmem_vm_fill {
	__u32 size;
	__u32 flags;
	__u64 guest_addr;
	__u32 guest_mem_fd;
	__u32 policy;
	__u64 offset;
	__u64 length;
	__u64 source;
};

/**
 * GMEM_VM_FILL - ioctl on a VM: fill a range of a guestmem, and bind it
 *
 * The call does the same as a copy to a mapping of the guestmem and GMEM_VM_MAP
 * after it, and is faster for single pages. It overwrites no page that is bound
 * anywhere: -EEXIST. So a page that a guest has changed since is safe from a second
 * fill.
 *
 * -EFAULT if @source can't be read; -EOPNOTSUPP for secret memory; else the errors
 * of GMEM_VM_MAP. If the call fails, nothing is bound, but pages of the file
 * range may have new contents.
 */
#define GMEM_VM_FILL _IO(GMEM_IOCTL_TYPE, 0x99)

/**
 * struct gmem_vm_change - argument of GMEM_VM_CHANGE
 * @size: sizeof(struct gmem_vm_change)
 * @flags: GMEM_MAP_FORCE_LEND or GMEM_MAP_FORCE_SHARE, or neither to keep the
 *	access that each binding has; and ALLOW flags, or none to keep the rights
 *	that each binding has. One of the two must change: 0 gives -EINVAL.
 * @guest_addr: guest address of the first byte
 * @length: bytes; not 0
 *
 * @guest_addr and @length are multiples of the page size. An end of the range
 * that lies inside a binding of a guestmem with huge pages is aligned to the
 * huge page size.
 */
struct gmem_vm_change {
	__u32 size;
	__u32 flags;
	__u64 guest_addr;
	__u64 length;
};

/**
 * GMEM_VM_CHANGE - ioctl on a VM: change a range in place
 *
 * The range goes from lent to shared, or from shared to lent, or its rights
 * change, as a whole or not at all. It is never unbound: a guest or a host that
 * touches it meanwhile waits until the call is done, and then meets the new
 * state. The range may span bindings and guestmems, and may begin and end inside
 * a binding. -ENOENT if part of it is unbound. The policies stay.
 *
 * From lent to shared: host and guest both have each page, with its contents,
 * whatever the policy is.
 *
 * From shared to lent: the host loses each page that the guest has used; other
 * pages are lent when the guest first uses them. -EEXIST if another binding has
 * one of the pages. The descriptor that the range was bound with must be open
 * for writing, as it must for ALLOW_WRITE (else -EACCES).
 *
 * -EBUSY if a page of the range is pinned and is lent, or is about to be. The
 * call waits up to two seconds for a reference that may be brief.
 *
 * -EOPNOTSUPP for rights that the provider can't enforce. -EOPNOTSUPP, too, if
 * the call takes write access away and a writable mapping is a paged window onto
 * the range: unmap it first. A paged window that was mapped without write access
 * never gets it: map it again. -EOPNOTSUPP for Gunyah's parcels, once the VM has
 * started.
 *
 * A change of a part of a binding cuts that binding into up to three, so the
 * call fails with -ENOSPC if the VM has gmem_info.max_bindings bindings, or all
 * VMs of its user have max_user_bindings. After a change, neighbours in the
 * range and at its ends that continue each other in guest and file, with equal
 * flags and policies, become one binding: a change and its opposite leave what
 * was there before.
 */
#define GMEM_VM_CHANGE _IO(GMEM_IOCTL_TYPE, 0x9a)

/**
 * enum gmem_vm_map_flags - flags of &struct gmem_vm_map and &struct gmem_vm_fill,
 *	beside those of &enum gmem_map_flags
 * @GMEM_MAP_POLICY: the binding gets a policy of its own: @policy
 * @GMEM_MAP_JOIN: let the binding become one with a neighbour on either side that
 *	it continues, in guest and file, with equal flags and policies. So memory
 *	that is bound page by page, in any order, ends as one binding.
 */
enum gmem_vm_map_flags {
	GMEM_MAP_POLICY = 1UL << 9,
	GMEM_MAP_JOIN = 1UL << 10,
};

/**
 * struct gmem_vm_map - argument of GMEM_VM_MAP
 * @size: sizeof(struct gmem_vm_map)
 * @flags: bits of &enum gmem_map_flags and &enum gmem_vm_map_flags;
 *	GMEM_MAP_UNMAP gives -EINVAL
 * @guest_addr: as in &struct gmem_map_mem
 * @offset: the same
 * @length: bytes to bind, as gmem_map_mem.size
 * @mem_fd: as gmem_map_mem.guest_mem_fd
 * @policy: one of &enum gmem_policy with GMEM_MAP_POLICY; else 0, and the policy
 *	of the VM counts
 */
struct gmem_vm_map {
	__u32 size;
	__u32 flags;
	__u64 guest_addr;
	__u64 offset;
	__u64 length;
	__s32 mem_fd;
	__u32 policy;
};

/**
 * GMEM_VM_MAP - ioctl on a VM: add a binding with chosen properties
 *
 * As GMEM_VM_MAP_MEM without GMEM_MAP_UNMAP, with the same errors.
 *
 * A policy of a binding counts for its pages in place of the VM's, whatever
 * GMEM_VM_SET_POLICY says, until the binding goes. It counts while the range is
 * lent; GMEM_VM_CHANGE keeps it. GMEM_VM_RECLAIM fails with -EACCES if one
 * binding of its range has GMEM_POLICY_DENY.
 */
#define GMEM_VM_MAP _IO(GMEM_IOCTL_TYPE, 0x9b)

/**
 * struct gmem_mem_query - argument of GMEM_MEM_QUERY
 * @size: sizeof(struct gmem_mem_query)
 * @flags: must be 0
 * @offset: first byte of the range; a multiple of the base page size
 * @length: bytes; a multiple of the base page size, not 0
 * @absent: out: pages without memory behind them
 * @host: out: pages that only the host has
 * @lent: out: pages that only a guest has
 * @shared: out: pages that a guest has used through a shared binding
 * @leaked: out: pages that neither has: their provider never gave them back
 *
 * The five counts sum up to the pages of @length.
 */
struct gmem_mem_query {
	__u32 size;
	__u32 flags;
	__u64 offset;
	__u64 length;
	__u64 absent;
	__u64 host;
	__u64 lent;
	__u64 shared;
	__u64 leaked;
};

/**
 * GMEM_MEM_QUERY - ioctl on a guestmem: count its pages by state
 *
 * Pages may change their state during the call; each counts once.
 */
#define GMEM_MEM_QUERY _IO(GMEM_IOCTL_TYPE, 0xa0)

/**
 * enum gmem_view_flags - flags of &struct gmem_mem_view
 * @GMEM_VIEW_READ_ONLY: the view can only be read: it can't be opened for
 *	writing, not even by root, and a mapping can't be made writable
 */
enum gmem_view_flags {
	GMEM_VIEW_READ_ONLY = 1UL << 0,
};

/**
 * struct gmem_mem_view - argument of GMEM_MEM_VIEW
 * @size: sizeof(struct gmem_mem_view)
 * @flags: bits of &enum gmem_view_flags
 * @offset: first byte of the range
 * @length: bytes; not 0
 * @id: out: number of the view, for GMEM_MEM_REVOKE; never 0; below 2^32
 * @name: see "Names"
 *
 * @offset and @length are multiples of the guestmem's page size, and the range
 * lies within the file.
 */
struct gmem_mem_view {
	__u32 size;
	__u32 flags;
	__u64 offset;
	__u64 length;
	__u64 id;
	__u8 name[GMEM_OBJECT_NAME_LEN];
};

/**
 * GMEM_MEM_VIEW - ioctl on a guestmem: create a view
 *
 * A view is a file of its own that stands for a range of the guestmem; its
 * offset 0 is the start of the range. A device back-end gets a view instead of
 * the guestmem, so it has this range and no call: it can't bind the memory,
 * punch holes, take pages from a guest or make a view. A view can only be
 *
 * - mapped, MAP_SHARED and within the range (else -EINVAL), with the same effect
 *   as a mapping of the guestmem, except for lent pages: a touch of a lent page
 *   raises SIGBUS under every policy, and the guest keeps the page;
 * - opened again through /proc/self/fd, by any user: the mode of the file is
 *   0666, or 0444 with GMEM_VIEW_READ_ONLY;
 * - asked for its size, by fstat() or lseek(SEEK_END). st_blksize is the page
 *   size of the guestmem, st_ino is @id, and fstatfs() returns GMEM_VIEW_MAGIC.
 *
 * Nobody can change its mode, its owner, its times or its size (-EPERM). A
 * child process inherits mappings; they are in no core dump. System calls that
 * pin memory take a view's pages, such as those of O_DIRECT; a pinned page can't
 * be lent (GMEM_FAULT_PINNED).
 *
 * A view keeps the pages of its guestmem until the view is revoked, or until
 * its last descriptor and mapping are gone.
 *
 * The guestmem's descriptor must be open for reading, and for writing unless
 * the view is read-only (else -EACCES). -EOPNOTSUPP for secret memory.
 *
 * Return: a descriptor of the view (close-on-exec).
 */
#define GMEM_MEM_VIEW _IO(GMEM_IOCTL_TYPE, 0xa1)

/* f_type of a view: "GMVW" */
#define GMEM_VIEW_MAGIC 0x474d5657

/**
 * struct gmem_mem_revoke - argument of GMEM_MEM_REVOKE
 * @size: sizeof(struct gmem_mem_revoke)
 * @flags: must be 0
 * @id: number of the view
 * @pinned: out: base pages of the view's range that are still pinned, through
 *	this view or in another way. A huge page counts as a whole.
 */
struct gmem_mem_revoke {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 pinned;
};

/**
 * GMEM_MEM_REVOKE - ioctl on a guestmem: take a view away from its holders
 *
 * When the call returns, every touch through the view raises SIGBUS, and
 * another mmap() of it fails with -EACCES. The call can't be undone. The view
 * no longer keeps the pages of the guestmem. A page that is pinned stays so:
 * only the holder of the pin can end that.
 *
 * The descriptor must be open for writing (else -EACCES). -ENOENT if this
 * guestmem has no such view, or if it is revoked already.
 */
#define GMEM_MEM_REVOKE _IO(GMEM_IOCTL_TYPE, 0xa2)

/**
 * enum gmem_page_state - states of a page of a guestmem
 * @GMEM_STATE_ABSENT: no memory behind it
 * @GMEM_STATE_HOST: only the host has it
 * @GMEM_STATE_LENT: only a guest has it
 * @GMEM_STATE_SHARED: a guest has used it through a shared binding
 * @GMEM_STATE_LEAKED: neither has it: its provider never gave it back
 */
enum gmem_page_state {
	GMEM_STATE_ABSENT = 1,
	GMEM_STATE_HOST = 2,
	GMEM_STATE_LENT = 3,
	GMEM_STATE_SHARED = 4,
	GMEM_STATE_LEAKED = 5,
};

/**
 * struct gmem_mem_run - pages in a row that have the same state
 * @offset: offset of the first byte in the guestmem
 * @length: bytes
 * @state: one of &enum gmem_page_state
 * @reserved: 0
 */
struct gmem_mem_run {
	__u64 offset;
	__u64 length;
	__u32 state;
	__u32 reserved;
};

/**
 * struct gmem_mem_runs - argument of GMEM_MEM_RUNS
 * @size: sizeof(struct gmem_mem_runs)
 * @flags: must be 0
 * @offset: in: first byte of the range; a multiple of the base page size. out:
 *	the first byte for the next call
 * @length: in: bytes; a multiple of the base page size, not 0. out: bytes left
 *	for the next call, 0 when done
 * @entries: address of an array of &struct gmem_mem_run
 * @nr_entries: in: room at @entries; out: entries written
 * @entry_size: see "Arrays of entries"
 */
struct gmem_mem_runs {
	__u32 size;
	__u32 flags;
	__u64 offset;
	__u64 length;
	__u64 entries;
	__u32 nr_entries;
	__u32 entry_size;
};

/**
 * GMEM_MEM_RUNS - ioctl on a guestmem: list its pages by state
 *
 * The runs come in ascending order, without a gap, and cover the range; each is
 * as long as it can be within the range. Pages may change their state during the
 * call: each run is right at the time when the call looks at it. No page that has
 * memory all the time is reported as absent.
 *
 * lseek() on a guestmem with SEEK_DATA finds the next page that isn't absent,
 * and with SEEK_HOLE the next absent one, or the end of the file. -ENXIO if the
 * offset is at the end or behind it, or if SEEK_DATA finds no page.
 */
#define GMEM_MEM_RUNS _IO(GMEM_IOCTL_TYPE, 0xa3)

/**
 * DOC: Waiting
 *
 * In a live VM with GMEM_VM_WAIT, an access to an unbound page sleeps until
 * something is bound there, or until the page fails: GMEM_VM_SET_ABSENT. That
 * holds for every access through a window: by a vCPU, by an instruction of a
 * process, and by the kernel when it copies for a system call or a device
 * (vhost). The VM's owner polls the VM descriptor, asks GMEM_VM_WAITERS, fills the
 * page through the guestmem, and then binds it; so no guest sees half of a page.
 * The access goes on by itself.
 *
 * These end a wait early:
 *
 * - A fatal signal ends every wait.
 * - Any signal ends the wait of an instruction of a process. The signal's handler
 *   runs, and then the instruction again.
 * - With GMEM_VM_WAIT_SIGNALS, any signal ends the wait of KVM_RUN: it fails with
 *   EFAULT, and is recorded with reason GMEM_FAULT_INTERRUPTED. Without this flag,
 *   a VMM can't pause a vCPU that waits. A VMM that treats EFAULT as a dead
 *   guest, as QEMU does, must not set the flag. Nor must a VMM that has only a
 *   window descriptor, because it can't read the reason. KVM_RUN looks in the
 *   same way at the page of its clock (MSR_KVM_SYSTEM_TIME_NEW), and at the
 *   control blocks of nested guests, and goes on without them if a signal ends
 *   that wait: so bind the clock's page before KVM_RUN, and run no nested
 *   guests.
 * - Waits in the kernel's own copies end only with a fatal signal: those of system
 *   calls, of vhost, and of KVM's emulator and page walks. So such a wait delays a
 *   pause of the vCPU, SIGSTOP and a debugger.
 * - A kernel thread waits for one second; then its access is refused, and for at
 *   least a second, and until something is bound, no access of a kernel thread
 *   waits. That concerns vhost where its workers are kernel threads
 *   (VHOST_SET_FORK_FROM_OWNER with 0): the device may lose a buffer then. Where the
 *   worker belongs to its process (the default from Linux 6.4 on), nothing is lost.
 * - When the last descriptor of the VM is closed, all waits end with a refusal,
 *   and later accesses are refused at once. Window descriptors and windows
 *   don't count.
 *
 * An access that must not sleep is refused at once: by futex(), or by a thread that
 * ends.
 *
 * *Rules for the thread that serves requests.* KVM and vhost sleep with locks
 * held. While a vCPU waits, these calls on its KVM VM hang, and only the end of the
 * wait helps: changes of memslots, so also switching the dirty log on or off;
 * ioeventfds; the filter of PMU events. KVM_SET_MSRS with the address of the clock's
 * page waits for that page itself. While a vhost worker waits, so do
 * VHOST_NET_SET_BACKEND, VHOST_VSOCK_SET_RUNNING and the like for its queue. Let a
 * thread serve that makes none of these calls and takes no lock that another thread
 * holds during one. It must not touch unbound pages of the window itself.
 *
 * *Trust.* A process that may open /dev/gmem can stall the kernel's copies
 * to and from a window that it has created, for as long as it likes, as with
 * /dev/userfaultfd. The thread that is stalled can be killed.
 *
 * A thread that waits needs no memory beside its stack, so any number of threads can
 * wait. A suspend of the host doesn't wait for them, but fails while a thread is in
 * one of the calls that hang.
 */

/**
 * DOC: Windows
 *
 * mmap(addr, length, prot, MAP_SHARED, vm_fd, guest_addr) gives a window: its
 * page N is guest address @guest_addr + N pages. It needs a provider with
 * GMEM_PROVIDER_WINDOW (else -ENODEV). A VMM maps the guest's whole address
 * space once and gives that range to KVM as one memslot. Every touch of a window
 * counts as the guest's, whichever process makes it. A refused touch gets SIGBUS,
 * or ends KVM_RUN with EFAULT, and is recorded for GMEM_VM_FAULTS.
 *
 * A window holds its VM: the VM ends when its descriptors, its window
 * descriptors and its windows are gone. No core dump has windows. mprotect()
 * can take write access away, but not give it: -EACCES; map again. A
 * userfaultfd can't wait for the missing pages of a window, but the VM can: see
 * "DOC: Waiting". There are two kinds
 * of windows; a VM has one of them.
 *
 * KVM's dirty log and dirty ring tell which pages the guest has written, for both
 * kinds. The kernel's soft-dirty bits and PAGEMAP_SCAN don't: the page table entry
 * goes when the host or another guest gets the page, and the bit with it.
 *
 * A *live* window (GMEM_VM_LIVE) shows at any time what is bound, so binding
 * and unbinding need no second call, and any number of bindings is one mapping.
 * It is a PFN mapping: nobody can pin its pages. So system calls that pin
 * memory fail with EFAULT (O_DIRECT, vmsplice(), MSG_ZEROCOPY, io_uring's fixed
 * buffers, process_vm_readv()), and devices that pin it don't work: VFIO,
 * vhost-scsi, vhost-vdpa. /proc/PID/mem and ptrace(), which gdb uses, fail with
 * EIO, and MADV_DONTNEED with EINVAL. Up to Linux 6.12, KVM holds a few pages
 * of a guest that runs nested guests; from 6.13 on, it can't run these. Copies
 * by the kernel work: read() and write(), vhost-net, vhost-vsock.
 *
 * A write to a page of a read-only binding that a live window shows already
 * ends KVM_RUN with KVM_EXIT_MMIO, and is recorded, too. A touch of a broken
 * page is recorded with reason HWPOISON; KVM_RUN returns EFAULT for it, and no
 * signal comes before. No child process inherits a live window, and smaps
 * counts none of its pages. Under userfaultfd's asynchronous write protection,
 * every touch raises SIGBUS. A huge page is mapped as one where host and guest
 * address are equal modulo its size.
 *
 * A *paged* window consists of ordinary pages, which can be pinned; a pinned
 * page can't be lent (GMEM_FAULT_PINNED). Each piece of it is a mapping of the
 * process (sysctl vm.max_map_count limits these).
 *
 * - A range that lies within one binding is mapped onto the pages of that
 *   binding, with no more permission than the binding gives (-EACCES). So is a
 *   range in several bindings that continue each other, in the guest and in one
 *   guestmem, with the same right to write.
 * - A range that no binding touches is a hole: every touch is refused.
 * - Any other range gives -EINVAL. GMEM_VM_QUERY shows where bindings begin and
 *   end.
 *
 * So the VMM maps bindings and holes with MAP_FIXED, over the same memory, again
 * whenever it binds or unbinds; KVM follows by itself. If such an mmap() fails,
 * it may leave a gap, which another mmap() can take: map elsewhere, then
 * mremap() with MREMAP_FIXED. Touches of a window whose binding is gone are
 * refused, until the same guestmem range is bound there again. A child process
 * inherits paged windows only with MADV_DOFORK.
 *
 * A paged window onto a binding without GMEM_MAP_ALLOW_WRITE has no write access,
 * so the kernel refuses a write before this module can record it: SIGSEGV;
 * KVM_RUN fails with EFAULT, or returns KVM_EXIT_MMIO where KVM emulates the
 * instruction. A VMM that needs the address and the data of such writes puts the
 * range into a memslot of its own with KVM_MEM_READONLY: then every write
 * returns KVM_EXIT_MMIO. A write is recorded (GMEM_FAULT_PERM) only in a window
 * that was mapped while another binding allowed writing there.
 *
 * With an in-kernel interrupt controller, KVM on x86 doesn't end KVM_RUN when
 * an access to a paged window onto a binding is refused, except for a write
 * without write access. It tries again about ten times a second: the vCPU stays
 * there until the page is bound, or no longer pinned, or the piece is mapped
 * again. A signal ends KVM_RUN. In a hole, KVM_RUN always fails at once. To
 * avoid the wait, map a hole over a piece before you unbind it.
 */

#endif /* _UAPI_LINUX_GMEM_H */
