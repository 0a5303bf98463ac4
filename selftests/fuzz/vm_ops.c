// SPDX-License-Identifier: GPL-2.0-only
/* The calls on a VM. */
#include "fuzz.h"

#include "lib/mock.h"
#include "lib/vm.h"

/* A binding that the VM has now. False if there is none. */
static bool pick_binding(struct thread *t, int vm, struct gmem_binding_info *found)
{
	struct gmem_binding_info info[64];
	/* Draw in any case: the sequence must not depend on the VM. */
	__u32 index = rnd(t, ARRAY_SIZE(info));
	int nr = query_vm_range(vm, 0, 1ULL << 40, info, ARRAY_SIZE(info));

	if (nr <= 0)
		return false;
	*found = info[index % nr];
	return true;
}

/* A part of a binding, or the whole. */
static void pick_part(struct thread *t, struct gmem_binding_info *b)
{
	__u64 unit = b->length % HUGE_PAGE || rnd(t, 2) ? PAGE : HUGE_PAGE;
	__u64 units = b->length / unit;
	__u64 skip = rnd(t, units ? units : 1), length;

	length = (1 + rnd(t, units - skip ? units - skip : 1)) * unit;
	if (once(t, 2))
		return;
	b->guest_addr += skip * unit;
	b->offset += skip * unit;
	b->length = length;
}

void pick_vm_range(struct thread *t, int vm, __u64 *gpa, __u64 *length)
{
	struct gmem_binding_info b = {};
	__u64 any, any_length;
	bool found = pick_binding(t, vm, &b);

	pick_part(t, &b);
	pick_range(t, PAGE, &any, &any_length);
	if (once(t, 2) && found) {
		*gpa = b.guest_addr;
		*length = b.length;
	} else {
		*gpa = any;
		*length = any_length;
	}
}

__u8 *pick_guest_page(struct thread *t)
{
	__u32 region = rnd(t, nr_fds(KIND_VM)), page = rnd(t, SPAN_PAGES);
	bool map = once(t, 4);
	struct gmem_binding_info b;
	int vm = fd_at(KIND_VM, region);
	__u64 length, gpa;
	__u8 *at = pick_place(t, &length);

	if (!pick_binding(t, vm, &b))
		return at;
	gpa = b.guest_addr + page % (b.length / PAGE) * PAGE;
	if (gpa >= SPAN)
		return at;
	at = ARENA + region * REGION + gpa;
	if (map)
		mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, vm, gpa);
	return at;
}

static void op_map(struct thread *t)
{
	int vm = pick_fd(t, KIND_VM), mem = pick_fd(t, KIND_MEM);
	struct gmem_map_mem map = {
		.flags = pick_map_flags(t),
		.guest_mem_fd = mem,
	};
	__u64 unit = unit_of(mem), length;

	pick_range(t, unit, &map.guest_addr, &map.size);
	pick_range(t, unit, &map.offset, &length);
	/* Most bindings have the same offset in both: that makes huge pages. */
	if (rnd(t, 3))
		map.offset = map.guest_addr;
	clip_range(t, mem, &map.offset, &map.size);
	fuzz_ioctl(t, vm, GMEM_VM_MAP_MEM, &map, sizeof(map));
}

static void op_unmap_exact(struct thread *t)
{
	int vm = pick_fd(t, KIND_VM);
	struct gmem_binding_info b = {};
	struct gmem_map_mem map;

	pick_binding(t, vm, &b);
	pick_part(t, &b);
	map = (struct gmem_map_mem){
		.guest_addr = b.guest_addr,
		.flags = b.flags | GMEM_MAP_UNMAP,
		.guest_mem_fd = find_mem(b.mem_id),
		.offset = b.offset,
		.size = b.length,
	};
	fuzz_ioctl(t, vm, GMEM_VM_MAP_MEM, &map, sizeof(map));
}

static void vm_range_call(struct thread *t, unsigned int cmd)
{
	struct gmem_vm_range range = { .size = sizeof(range) };
	int vm = pick_fd(t, KIND_VM);

	pick_vm_range(t, vm, &range.guest_addr, &range.length);
	fuzz_ioctl(t, vm, cmd, &range, sizeof(range));
}

static void op_unmap(struct thread *t)
{
	vm_range_call(t, GMEM_VM_UNMAP);
}

static void op_reclaim(struct thread *t)
{
	vm_range_call(t, GMEM_VM_RECLAIM);
}

static void op_populate(struct thread *t)
{
	vm_range_call(t, GMEM_VM_POPULATE);
}

/* A size of entries that the kernel doesn't have. */
static __u32 pick_entry_size(struct thread *t, __u32 size)
{
	return once(t, 4) ? (rnd(t, 16) + 1) * 8 : size;
}

static void op_query(struct thread *t)
{
	struct gmem_vm_query query = {
		.size = sizeof(query),
		.nr_entries = rnd(t, 65),
	};
	int vm = pick_fd(t, KIND_VM);

	pick_range(t, PAGE, &query.guest_addr, &query.length);
	query.entry_size = pick_entry_size(t, sizeof(struct gmem_binding_info));
	query.entries = ptr_u64(pick_buffer(t, query.nr_entries * query.entry_size));
	fuzz_ioctl(t, vm, GMEM_VM_QUERY, &query, sizeof(query));
}

static void op_faults(struct thread *t)
{
	struct gmem_vm_faults faults = {
		.size = sizeof(faults),
		.nr_entries = rnd(t, GMEM_NR_FAULTS + 2),
		.seq = once(t, 2) ? 0 : rnd(t, 1000),
	};

	faults.entry_size = pick_entry_size(t, sizeof(struct gmem_fault_info));
	faults.entries = ptr_u64(pick_buffer(t, faults.nr_entries * faults.entry_size));
	fuzz_ioctl(t, pick_fd(t, KIND_VM), GMEM_VM_FAULTS, &faults, sizeof(faults));
}

static void op_set_policy(struct thread *t)
{
	struct gmem_vm_set_policy set = {
		.size = sizeof(set),
		.policy = rnd(t, 3),
	};

	fuzz_ioctl(t, pick_fd(t, KIND_VM), GMEM_VM_SET_POLICY, &set, sizeof(set));
}

static void op_window(struct thread *t)
{
	struct gmem_vm_window window = {
		.size = sizeof(window),
		.flags = once(t, 2) ? 0 : rnd(t, 8) ? rnd(t, 4) : rnd(t, 64),
	};

	pick_range(t, once(t, 2) ? PAGE : HUGE_PAGE, &window.guest_addr,
		   &window.length);
	if (once(t, 2)) {
		window.guest_addr = 0;
		window.length = SPAN;
	}
	put_fd(t, KIND_WINDOW,
	       fuzz_ioctl(t, pick_fd(t, KIND_VM), GMEM_VM_WINDOW, &window,
			  sizeof(window)));
}

/* An access by the guest of the mock, or a failure of its provider to come. */
static void op_mock(struct thread *t)
{
	int vm = fd_at(KIND_VM, 3);
	__u64 gpa, length;
	struct gmem_test test = {
		.size = sizeof(test),
		.op = rnd(t, 6) ? GMEM_TEST_ACCESS : GMEM_TEST_FAIL,
		.length = 8,
		.access = 1 << rnd(t, 3),
		.point = rnd(t, GMEM_TEST_NR_POINTS),
		.nth = rnd(t, 4),
		.times = rnd(t, 3),
	};

	pick_range(t, PAGE, &gpa, &length);
	test.guest_addr = gpa;
	test.buffer = ptr_u64(pick_buffer(t, 8));
	/* No part is wrong, because other operations can stop all VMs. */
	ioctl(vm, GMEM_TEST, &test);
}

const struct op vm_ops[] = {
	{ "GMEM_VM_MAP_MEM", 40, op_map },
	{ "GMEM_VM_MAP_MEM, GMEM_MAP_UNMAP", 8, op_unmap_exact },
	{ "GMEM_VM_UNMAP", 12, op_unmap },
	{ "GMEM_VM_RECLAIM", 10, op_reclaim },
	{ "GMEM_VM_POPULATE", 10, op_populate },
	{ "GMEM_VM_QUERY", 6, op_query },
	{ "GMEM_VM_FAULTS", 6, op_faults },
	{ "GMEM_VM_SET_POLICY", 6, op_set_policy },
	{ "GMEM_VM_WINDOW", 6, op_window },
	{ "GMEM_TEST", 8, op_mock },
	{}
};
