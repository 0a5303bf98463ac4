/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
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
#define GMEM_ABI_VERSION 2

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
 * -EINTR	a fatal signal came while the call was waiting. fallocate() ends
 *		at any signal that comes after its first page.
 * -EINVAL	a wrong value; a range that isn't aligned or doesn't fit; a
 *		struct that is shorter than its first version
 * -EIO		the provider failed or refused. The provider "gunyah" can return
 *		another errno that names the cause.
 * -EMFILE	the process can't have another descriptor
 * -ENFILE	the host can't have another open file
 * -ENODATA	a memfd_secret() file lacks pages
 * -ENOENT	no such binding or view; GMEM_INFO: no such provider
 * -ENOMEM	no memory, or the memory cgroup is at its limit
 * -ENOSPC	the VM has as many bindings as it can have: gmem_info.max_bindings
 * -ENOTTY	the descriptor has no such call
 * -EOPNOTSUPP	a call or a value that this host or this provider lacks;
 *		GMEM_INFO tells beforehand
 * -EOVERFLOW	a sum wraps
 * -EPERM	the provider lends only memory that the kernel can't reach; the
 *		hypervisor denies the request, or grants no more
 *
 * A call that fails has changed nothing, with these exceptions: GMEM_VM_RECLAIM
 * and GMEM_VM_POPULATE report in @nr_pages how far they came;
 * GMEM_MEM_FROM_SECRET may have closed its descriptor; a call is -EFAULT after
 * its work if it can't write its results.
 */

/**
 * DOC: Names
 *
 * Calls that create an object take a name for it. The module only shows the
 * name, to the operator of the host, and several objects may have the same. A
 * name is printable ASCII text (0x20 to 0x7e) of at most 31 characters; every
 * byte after the text is 0. Zeroes alone mean no name. Any other contents are
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
 *	a call must be aligned to it. -EOPNOTSUPP on a kernel without
 *	transparent huge pages.
 */
enum gmem_mem_flags {
	GMEM_MEM_CLOEXEC = 1UL << 0,
	GMEM_MEM_ALLOW_HUGEPAGE = 1UL << 1,
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
 * range; if one page can't be taken back, nothing is freed.
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
 * enforce is -EOPNOTSUPP; see &struct gmem_info.map_access.
 */
enum gmem_map_flags {
	GMEM_MAP_DEFAULT_ACCESS = 0,
	GMEM_MAP_FORCE_LEND = 1,
	GMEM_MAP_FORCE_SHARE = 2,
/* These bits hold one of the three values above; another value is -EINVAL. */
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
 *	@flags has ALLOW_WRITE (else -EACCES)
 * @offset: offset of the first byte in the guestmem
 * @size: bytes to bind
 *
 * @guest_addr, @offset and @size are multiples of the guestmem's page size, and
 * @size is not 0. The range at @offset lies within the file, and the range at
 * @guest_addr within the VM's address width. Else the call is -EINVAL, or
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
 * Adding is -EEXIST if the guest range overlaps another binding of this VM. A
 * lent page is in no other binding of any VM; a shared page may be in several
 * bindings if their providers have GMEM_PROVIDER_SHARE_MULTI. A file range that
 * breaks this rule is -EEXIST, too. -EOPNOTSUPP if the provider doesn't take
 * secret memory (GMEM_MEM_FROM_SECRET), or if the VM is live, the guestmem has
 * huge pages and GMEM_FEATURE_LIVE_HUGE is missing. -EPERM if the provider
 * lends nothing but secret memory. -ENOSPC if the VM has gmem_info.max_bindings
 * bindings.
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
 * the first version is -EINVAL. If the struct is longer, the part that the
 * kernel doesn't know must be zero (else -E2BIG). The kernel writes results
 * back into the struct, never beyond @size. On failure the struct is unchanged
 * unless the call says otherwise. A module that lacks a call returns -ENOTTY:
 * GMEM_VM_WINDOW, GMEM_MEM_VIEW and GMEM_MEM_REVOKE exist since ABI 2.
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
 */
enum gmem_features {
	GMEM_FEATURE_HUGEPAGE = 1UL << 0,
	GMEM_FEATURE_LIVE = 1UL << 1,
	GMEM_FEATURE_LIVE_HUGE = 1UL << 2,
	GMEM_FEATURE_WINDOW = 1UL << 3,
	GMEM_FEATURE_VIEW = 1UL << 4,
	GMEM_FEATURE_NAME = 1UL << 5,
};

/**
 * enum gmem_provider_flags - abilities of a provider
 * @GMEM_PROVIDER_SHARE_MULTI: a shared page may be in several bindings
 * @GMEM_PROVIDER_WINDOW: mmap() of a VM descriptor gives a window
 */
enum gmem_provider_flags {
	GMEM_PROVIDER_SHARE_MULTI = 1UL << 0,
	GMEM_PROVIDER_WINDOW = 1UL << 1,
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
 * @max_guest_addr_bits: out: widest guest address space
 * @provider_flags: out: bits of &enum gmem_provider_flags
 * @provider_name: out: NUL-terminated
 * @map_access: out: combinations of access that the provider can enforce: bit
 *	(r | w << 1 | x << 2) is set if it can enforce that combination
 * @max_bindings: out: number of bindings that a VM can have; 0 if the module
 *	has ABI version 1, which has no limit
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
 */
enum gmem_vm_flags {
	GMEM_VM_LIVE = 1UL << 0,
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
 * struct gmem_stats - argument of GMEM_STATS
 * @size: sizeof(struct gmem_stats)
 * @flags: must be 0
 * @vms: out: VMs that exist
 * @mems: out: guestmems that exist
 * @bindings: out: bindings that exist
 * @lent_pages: out: pages lent now
 * @leaked_pages: out: pages that a provider refused to give back at the end of
 *	their VM; they stay out of use until the host reboots
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
 * An unmap that leaves two pieces of a binding needs one binding more. So it is
 * -ENOSPC if the VM has gmem_info.max_bindings bindings.
 */
#define GMEM_VM_UNMAP _IO(GMEM_IOCTL_TYPE, 0x90)

/**
 * GMEM_VM_RECLAIM - ioctl on a VM: take the lent pages of a range back now
 *
 * The bindings stay: the guest's next access lends the page again. Under
 * GMEM_POLICY_SCRUB the call zeroes the pages; under GMEM_POLICY_DENY it is
 * -EACCES. If the call fails half-way, @nr_pages is the number of pages that
 * came back; they stay with the host.
 */
#define GMEM_VM_RECLAIM _IO(GMEM_IOCTL_TYPE, 0x91)

/**
 * GMEM_VM_POPULATE - ioctl on a VM: provide a range ahead of the guest's use
 *
 * The call allocates and provides every page of the range, lent or shared as
 * its binding says. -ENOENT if part of the range is unbound (checked first). If
 * the call fails half-way, the first @nr_pages pages are provided and stay so.
 */
#define GMEM_VM_POPULATE _IO(GMEM_IOCTL_TYPE, 0x92)

/**
 * struct gmem_binding_info - one binding in the answer of GMEM_VM_QUERY
 * @guest_addr: guest address of the first byte
 * @length: bytes
 * @offset: offset of the first byte in the guestmem
 * @mem_id: st_ino of the guestmem
 * @flags: FORCE_LEND or FORCE_SHARE, and the ALLOW bits
 * @reserved: 0
 */
struct gmem_binding_info {
	__u64 guest_addr;
	__u64 length;
	__u64 offset;
	__u64 mem_id;
	__u32 flags;
	__u32 reserved;
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
 *
 * The call reports each binding that touches the range as a whole, in ascending
 * order.
 */
struct gmem_vm_query {
	__u32 size;
	__u32 nr_entries;
	__u64 guest_addr;
	__u64 length;
	__u64 entries;
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
 * @GMEM_FAULT_PINNED: somebody holds the page pinned, so it can't be lent; a
 *	later try may succeed
 * @GMEM_FAULT_NOMEM: no memory, or the memory cgroup is at its limit
 * @GMEM_FAULT_PROVIDER: the provider failed to provide the page
 * @GMEM_FAULT_HWPOISON: the page is broken
 * @GMEM_FAULT_LEAKED: an earlier VM's provider never gave the page back
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
};

/**
 * struct gmem_fault_info - a refused guest access, or a row of equal ones
 * @seq: number of the last access of the row; a VM numbers refused accesses
 *	from 1
 * @guest_addr: page-aligned guest address
 * @access: bits of &enum gmem_access
 * @reason: one of &enum gmem_fault_reason
 * @count: length of the row
 */
struct gmem_fault_info {
	__u64 seq;
	__u64 guest_addr;
	__u32 access;
	__u32 reason;
	__u64 count;
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
 */
struct gmem_vm_faults {
	__u32 size;
	__u32 nr_entries;
	__u64 seq;
	__u64 lost;
	__u64 entries;
};

/** GMEM_VM_FAULTS - ioctl on a VM: the last refused guest accesses */
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

/** GMEM_VM_SET_POLICY - ioctl on a VM: change the reclaim policy */
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
 * A *discard* is the guest's: it no longer needs what is in the range. Under
 * every policy, pages are freed, and read as zeroes when next used. Where the
 * range has a part of a huge page, the part is zeroed instead. Parts that
 * aren't bound are skipped. If a page can't be discarded, nothing is: -EACCES
 * if its binding doesn't allow writing, -EBUSY if another binding has it, too,
 * or if it is pinned. Offset and length are multiples of the page size, within
 * the range (else -EINVAL). A descriptor that isn't open for writing is -EBADF;
 * another mode of fallocate() is -EOPNOTSUPP, as is every call with
 * GMEM_WINDOW_NO_DISCARD. MADV_REMOVE of a mapping fails and changes nothing.
 * While the discard of a large range is under way, faults in its guestmems wait,
 * those of other VMs, too; a fatal signal ends it (-EINTR) as long as nothing
 * has changed. Use GMEM_WINDOW_NO_DISCARD if the holder must not be able to do
 * that.
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

/** GMEM_MEM_QUERY - ioctl on a guestmem: count its pages by state */
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
 *   is SIGBUS under every policy, and the guest keeps the page;
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
 * When the call returns, every touch through the view is SIGBUS, and another
 * mmap() of it is -EACCES. The call can't be undone. The view no longer keeps
 * the pages of the guestmem. A page that is pinned stays so: only the holder of
 * the pin can end that.
 *
 * The descriptor must be open for writing (else -EACCES). -ENOENT if this
 * guestmem has no such view, or if it is revoked already.
 */
#define GMEM_MEM_REVOKE _IO(GMEM_IOCTL_TYPE, 0xa2)

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
 * userfaultfd can't wait for the missing pages of a window. There are two kinds
 * of windows; a VM has one of them.
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
 * every touch is SIGBUS. A huge page is mapped as one where host and guest
 * address are equal modulo its size.
 *
 * A *paged* window consists of ordinary pages, which can be pinned; a pinned
 * page can't be lent (GMEM_FAULT_PINNED). Each piece of it is a mapping of the
 * process (sysctl vm.max_map_count limits these).
 *
 * - A range that lies within one binding is mapped onto the pages of that
 *   binding, with no more permission than the binding gives (-EACCES).
 * - A range that no binding touches is a hole: every touch is refused.
 * - Any other range is -EINVAL. GMEM_VM_QUERY shows where bindings begin and
 *   end.
 *
 * So the VMM maps bindings and holes with MAP_FIXED, over the same memory, again
 * whenever it binds or unbinds; KVM follows by itself. Touches of a window whose
 * binding is gone are refused, until the same guestmem range is bound there
 * again. A child process inherits paged windows only with MADV_DOFORK.
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
