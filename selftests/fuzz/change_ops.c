// SPDX-License-Identifier: GPL-2.0-only
/* The calls that bind with chosen properties, and that change what is bound. */
#include "fuzz.h"

#include "lib/vm.h"

static void op_map(struct thread *t)
{
	int vm = pick_fd(t, KIND_VM), mem = pick_fd(t, KIND_MEM);
	struct gmem_vm_map map = {
		.size = sizeof(map),
		.flags = pick_map_flags(t),
		.mem_fd = mem,
	};
	__u64 unit = unit_of(mem), length;

	if (once(t, 2))
		map.flags |= GMEM_MAP_JOIN;
	if (once(t, 2)) {
		map.flags |= GMEM_MAP_POLICY;
		map.policy = rnd(t, 3);
	}
	pick_range(t, unit, &map.guest_addr, &map.length);
	pick_range(t, unit, &map.offset, &length);
	/* The same offset in both: then neighbours can join. */
	if (rnd(t, 4))
		map.offset = map.guest_addr;
	clip_range(t, mem, &map.offset, &map.length);
	fuzz_ioctl(t, vm, GMEM_VM_MAP, &map, sizeof(map));
}

static void op_change(struct thread *t)
{
	static const __u32 flags[] = {
		LEND, SHARE, LEND | RWX, SHARE | RWX, RX, RWX, SHARE | RX,
		GMEM_MAP_ALLOW_READ, 0,
	};
	struct gmem_vm_change change = {
		.size = sizeof(change),
		.flags = flags[rnd(t, ARRAY_SIZE(flags))],
	};
	int vm = pick_fd(t, KIND_VM);

	pick_vm_range(t, vm, &change.guest_addr, &change.length);
	fuzz_ioctl(t, vm, GMEM_VM_CHANGE, &change, sizeof(change));
}

const struct op change_ops[] = {
	{ "GMEM_VM_MAP", 20, op_map },
	{ "GMEM_VM_CHANGE", 24, op_change },
	{}
};
