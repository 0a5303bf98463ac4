// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs whose accesses to unbound pages wait. A thread of its own serves them: it
 * fills a page, binds one, or lets the page fail, as it is in the mood. It touches
 * no window. Requests of VMs whose descriptor has gone to a socket get no answer;
 * the end of the process ends these waits.
 */
#include "fuzz.h"

#include "lib/vm.h"

static __u8 contents[PAGE];

__u32 pick_wait_flags(struct thread *t)
{
	__u32 flags = once(t, 2) ? 0 : GMEM_VM_WAIT;

	if (once(t, 2))
		flags |= flags ? GMEM_VM_WAIT_SIGNALS : 0;
	return shared->may_wait ? flags : 0;
}

static void op_waiters(struct thread *t)
{
	struct gmem_vm_waiters waiters = {
		.size = sizeof(waiters),
		.flags = once(t, 2) ? GMEM_WAITERS_ALL : 0,
		.nr_entries = rnd(t, 33),
		.entry_size = once(t, 4) ? (rnd(t, 16) + 1) * 8 :
					   sizeof(struct gmem_waiter_info),
	};

	if (waiters.flags)
		waiters.guest_addr = rnd(t, SPAN_PAGES) * PAGE;
	waiters.entries = ptr_u64(pick_buffer(t, waiters.nr_entries *
					      waiters.entry_size));
	fuzz_ioctl(t, pick_fd(t, KIND_VM), GMEM_VM_WAITERS, &waiters,
		   sizeof(waiters));
}

static void op_set_absent(struct thread *t)
{
	struct gmem_vm_set_absent set = {
		.size = sizeof(set),
		.absent = rnd(t, 2),
	};

	pick_range(t, PAGE, &set.guest_addr, &set.length);
	fuzz_ioctl(t, pick_fd(t, KIND_VM), GMEM_VM_SET_ABSENT, &set, sizeof(set));
}

static void op_fill(struct thread *t)
{
	int mem = pick_fd(t, KIND_MEM);
	struct gmem_vm_fill fill = {
		.size = sizeof(fill),
		.flags = pick_map_flags(t),
		.guest_mem_fd = mem,
	};
	__u64 unit = unit_of(mem), length;

	pick_range(t, unit, &fill.guest_addr, &fill.length);
	pick_range(t, unit, &fill.offset, &length);
	if (rnd(t, 3))
		fill.offset = fill.guest_addr;
	clip_range(t, mem, &fill.offset, &fill.length);
	fill.source = ptr_u64(pick_buffer(t, fill.length));
	fuzz_ioctl(t, pick_fd(t, KIND_VM), GMEM_VM_FILL, &fill, sizeof(fill));
}

const struct op wait_ops[] = {
	{ "GMEM_VM_WAITERS", 4, op_waiters },
	{ "GMEM_VM_SET_ABSENT", 6, op_set_absent },
	{ "GMEM_VM_FILL", 16, op_fill },
	{}
};

/* Let all pages of the VM fail, whatever the width of its addresses. */
static void fail_all(int vm)
{
	struct gmem_vm_set_absent set = {
		.size = sizeof(set),
		.absent = GMEM_ABSENT_FAIL,
	};
	int bits;

	for (bits = 52; bits > 12; bits--) {
		set.length = 1ULL << bits;
		if (!ioctl(vm, GMEM_VM_SET_ABSENT, &set))
			return;
	}
}

static void answer(struct thread *t, int vm, __u64 gpa)
{
	struct gmem_vm_set_absent set = {
		.size = sizeof(set),
		.absent = GMEM_ABSENT_FAIL,
		.guest_addr = gpa,
		.length = PAGE,
	};
	int mem = fd_at(KIND_MEM, rnd(t, nr_fds(KIND_MEM)));
	__u64 unit = unit_of(mem);
	struct gmem_vm_fill fill = {
		.size = sizeof(fill),
		.flags = (once(t, 2) ? LEND : SHARE) | RWX,
		.guest_addr = gpa & ~(unit - 1),
		.guest_mem_fd = mem,
		.offset = (once(t, 2) ? gpa : rnd(t, SPAN_PAGES) * PAGE) & ~(unit - 1),
		.length = unit,
		.source = ptr_u64(contents),
	};

	switch (rnd(t, 4)) {
	case 0:
		ioctl(vm, GMEM_VM_SET_ABSENT, &set);
		break;
	case 1:
		map_mem(vm, fill.guest_addr, mem, fill.offset, unit, fill.flags);
		break;
	default:
		if (unit == PAGE)
			ioctl(vm, GMEM_VM_FILL, &fill);
		break;
	}
}

/* Serve for ever. A request that no call could answer fails after a while. */
void *serve_waits(void *arg)
{
	struct thread *t = arg;
	struct gmem_waiter_info info[16];
	struct gmem_vm_waiters waiters;
	unsigned int vm, round;
	__u32 i;

	for (round = 1;; round++) {
		for (vm = 0; vm < nr_fds(KIND_VM); vm++) {
			int fd = fd_at(KIND_VM, vm);

			if (!(round % 25))
				fail_all(fd);
			waiters = (struct gmem_vm_waiters){
				.size = sizeof(waiters),
				.flags = round % 2 ? 0 : GMEM_WAITERS_ALL,
				.nr_entries = ARRAY_SIZE(info),
				.entry_size = sizeof(info[0]),
				.entries = ptr_u64(info),
			};
			if (ioctl(fd, GMEM_VM_WAITERS, &waiters))
				continue;
			for (i = 0; i < waiters.nr_entries && i < ARRAY_SIZE(info); i++)
				answer(t, fd, info[i].guest_addr);
		}
		usleep(20000);
	}
	return NULL;
}
