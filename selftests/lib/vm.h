/* SPDX-License-Identifier: GPL-2.0-only */
/* The calls on a VM. Every call returns the result of the ioctl, or -errno. */
#ifndef LIB_VM_H
#define LIB_VM_H

#include "proc.h"
#include "test.h"

static inline int map_mem(int vm, __u64 gpa, int mem, __u64 offset, __u64 size,
			  __u32 flags)
{
	struct gmem_map_mem map = {
		.guest_addr = gpa,
		.flags = flags,
		.guest_mem_fd = mem,
		.offset = offset,
		.size = size,
	};

	return err_of(ioctl(vm, GMEM_VM_MAP_MEM, &map));
}

/* Unbind by GMEM_MAP_UNMAP, which needs an exact match. */
static inline int unmap_mem(int vm, __u64 gpa, int mem, __u64 offset,
			    __u64 size, __u32 flags)
{
	return map_mem(vm, gpa, mem, offset, size, flags | GMEM_MAP_UNMAP);
}

static inline int new_map(int vm, __u64 gpa, int mem, __u64 offset, __u64 size,
			  __u32 flags, __u32 policy)
{
	struct gmem_vm_map map = {
		.size = sizeof(map),
		.flags = flags,
		.guest_addr = gpa,
		.offset = offset,
		.length = size,
		.mem_fd = mem,
		.policy = policy,
	};

	return err_of(ioctl(vm, GMEM_VM_MAP, &map));
}

static inline int change_range(int vm, __u64 gpa, __u64 length, __u32 flags)
{
	struct gmem_vm_change change = {
		.size = sizeof(change),
		.flags = flags,
		.guest_addr = gpa,
		.length = length,
	};

	return err_of(ioctl(vm, GMEM_VM_CHANGE, &change));
}

static inline int vm_range(int vm, unsigned int cmd, __u64 gpa, __u64 length,
			   __u64 *nr_pages)
{
	struct gmem_vm_range range = {
		.size = sizeof(range),
		.guest_addr = gpa,
		.length = length,
		.nr_pages = ~0ULL,
	};
	int ret;

	ret = err_of(ioctl(vm, cmd, &range));
	if (nr_pages)
		*nr_pages = range.nr_pages;
	return ret;
}

static inline int unmap_range(int vm, __u64 gpa, __u64 length, __u64 *nr_pages)
{
	return vm_range(vm, GMEM_VM_UNMAP, gpa, length, nr_pages);
}

static inline int reclaim_range(int vm, __u64 gpa, __u64 length,
				__u64 *nr_pages)
{
	return vm_range(vm, GMEM_VM_RECLAIM, gpa, length, nr_pages);
}

static inline int populate_range(int vm, __u64 gpa, __u64 length,
				 __u64 *nr_pages)
{
	return vm_range(vm, GMEM_VM_POPULATE, gpa, length, nr_pages);
}

static inline int set_policy(int vm, __u32 policy)
{
	struct gmem_vm_set_policy set = {
		.size = sizeof(set),
		.policy = policy,
	};

	return err_of(ioctl(vm, GMEM_VM_SET_POLICY, &set));
}

/* Read up to @max bindings of a range. Returns their number, or -errno. */
static inline int query_vm_range(int vm, __u64 gpa, __u64 length,
				 struct gmem_binding_info *entries, __u32 max)
{
	struct gmem_vm_query query = {
		.size = sizeof(query),
		.nr_entries = max,
		.guest_addr = gpa,
		.length = length,
		.entries = ptr_u64(entries),
		.entry_size = sizeof(*entries),
	};
	int ret;

	ret = err_of(ioctl(vm, GMEM_VM_QUERY, &query));
	return ret < 0 ? ret : (int)query.nr_entries;
}

/* Read the bindings below 2^48. */
static inline int query_vm(int vm, struct gmem_binding_info *entries, __u32 max)
{
	return query_vm_range(vm, 0, 1ULL << 48, entries, max);
}

static inline int get_faults(int vm, __u64 since,
			     struct gmem_fault_info *entries, __u32 max,
			     struct gmem_vm_faults *answer)
{
	struct gmem_vm_faults faults = {
		.size = sizeof(faults),
		.nr_entries = max,
		.seq = since,
		.lost = ~0ULL,
		.entries = ptr_u64(entries),
		.entry_size = sizeof(*entries),
	};
	int ret;

	ret = err_of(ioctl(vm, GMEM_VM_FAULTS, &faults));
	if (answer)
		*answer = faults;
	return ret < 0 ? ret : (int)faults.nr_entries;
}

/* The newest refused access; all zeroes if there is none. */
static inline struct gmem_fault_info last_fault(int vm)
{
	struct gmem_fault_info entries[GMEM_NR_FAULTS] = {};
	int nr = get_faults(vm, 0, entries, GMEM_NR_FAULTS, NULL);

	return entries[nr > 0 ? nr - 1 : 0];
}

static inline __u32 last_reason(int vm)
{
	return last_fault(vm).reason;
}

/* Reserve addresses for a window. */
static inline __u8 *map_aligned(__u64 size, __u64 alignment)
{
	__u8 *begin, *at;

	begin = mmap(NULL, size + alignment, PROT_NONE, MAP_PRIVATE |
		     MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (begin == MAP_FAILED)
		return begin;
	at = begin + (-ptr_u64(begin) & (alignment - 1));
	if (at > begin)
		munmap(begin, at - begin);
	munmap(at + size, begin + alignment - at);
	return at;
}

static inline __u8 *map_window(int vm, __u64 gpa, __u64 size, int prot)
{
	return mmap(NULL, size, prot, MAP_SHARED, vm, gpa);
}

static inline __u32 vm_id(int vm)
{
	return fd_number(vm, "gmem-vm:");
}

#endif /* LIB_VM_H */
