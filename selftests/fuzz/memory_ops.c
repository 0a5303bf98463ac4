// SPDX-License-Identifier: GPL-2.0-only
/* Mappings: all of them are in the arena. */
#include "fuzz.h"

#include "lib/vm.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103

void memory_init(void)
{
	void *arena = mmap(ARENA, NR_REGIONS * REGION, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			   MAP_FIXED_NOREPLACE, -1, 0);

	if (arena != ARENA)
		give_up(NULL, "mmap() of the arena", errno);
}

/* Not rarely across two regions. The end of the arena bounds it. */
__u8 *pick_place(struct thread *t, __u64 *length)
{
	__u64 region = rnd(t, NR_REGIONS), start;

	do
		pick_range(t, PAGE, &start, length);
	while (start >= SPAN || *length > 4 * SPAN || *length % PAGE ||
	       start % PAGE);
	start += region * REGION;
	if (start + *length > NR_REGIONS * REGION)
		*length = NR_REGIONS * REGION - start;
	return ARENA + start;
}

static int pick_prot(struct thread *t)
{
	static const int prots[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
		PROT_READ | PROT_WRITE | PROT_EXEC, PROT_READ | PROT_EXEC,
	};

	return prots[rnd(t, ARRAY_SIZE(prots))];
}

/* A file for a region, most often the region's own. */
static int pick_file(struct thread *t, __u64 region)
{
	enum object kind = region < nr_fds(KIND_VM) ? KIND_VM :
			 KIND_MEM + region % 3;
	int other = pick_fd(t, rnd(t, 2) ? kind : rnd(t, KIND_SOCKET));

	return rnd(t, 4) ? other : fd_at(kind, region);
}

static void op_mmap(struct thread *t)
{
	__u64 length, offset, other, region;
	__u8 *at = pick_place(t, &length);
	int flags = MAP_SHARED, fd;

	region = (at - ARENA) / REGION;
	fd = pick_file(t, region);
	offset = (at - ARENA) % REGION;
	pick_range(t, PAGE, &other, &length);
	if (once(t, 4))
		offset = other;
	clip_range(t, fd, &offset, &length);
	if (once(t, 20))
		flags = MAP_PRIVATE;
	if (once(t, 16))
		flags |= MAP_POPULATE;
	if (once(t, 32))
		flags |= MAP_LOCKED;
	if (once(t, 40))
		flags |= MAP_NONBLOCK;
	if (at + length > ARENA + NR_REGIONS * REGION || at + length < at)
		length = PAGE;
	maybe_fail(t);
	mmap(at, length, pick_prot(t), flags | MAP_FIXED, fd, offset & ~(PAGE - 1));
	end_fail(t);
}

/* The window of a whole VM, piece by piece if it is a paged one. */
static void op_mmap_window(struct thread *t)
{
	__u64 region = rnd(t, NR_REGIONS), gpa = 0, end;
	int vm = fd_at(KIND_VM, region), prot = pick_prot(t), nr, i;
	struct gmem_binding_info info[64];
	__u8 *at = ARENA + region * REGION;

	if (mmap(at, SPAN, prot, MAP_SHARED | MAP_FIXED, vm, 0) != MAP_FAILED)
		return;
	nr = query_vm_range(vm, 0, SPAN, info, ARRAY_SIZE(info));
	for (i = 0; i < nr && info[i].guest_addr < SPAN; i++) {
		end = info[i].guest_addr + info[i].length;
		if (info[i].guest_addr > gpa)
			mmap(at + gpa, info[i].guest_addr - gpa, prot,
			     MAP_SHARED | MAP_FIXED, vm, gpa);
		gpa = info[i].guest_addr;
		if (end > SPAN)
			end = SPAN;
		if (end > gpa)
			mmap(at + gpa, end - gpa, info[i].flags &
			     GMEM_MAP_ALLOW_WRITE ? prot : prot & ~PROT_WRITE,
			     MAP_SHARED | MAP_FIXED, vm, gpa);
		gpa = end;
	}
}

static void op_munmap(struct thread *t)
{
	__u64 length;
	__u8 *at = pick_place(t, &length);

	munmap(at, length);
}

static void op_mremap(struct thread *t)
{
	__u64 length, new_length;
	__u8 *from = pick_place(t, &length), *to = pick_place(t, &new_length);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (rnd(t, 4))
		new_length = length;
	if (to + new_length > ARENA + NR_REGIONS * REGION)
		new_length = length = PAGE;
	if (once(t, 10))
		length = 0;
	if (once(t, 10))
		flags |= MREMAP_DONTUNMAP;
	/* Without an address it must not leave the arena. */
	if (once(t, 6))
		flags = 0;
	maybe_fail(t);
	(void)!mremap(from, length, new_length, flags, to);
	end_fail(t);
}

static void op_mprotect(struct thread *t)
{
	__u64 length;
	__u8 *at = pick_place(t, &length);

	mprotect(at, length, pick_prot(t));
}

static void op_madvise(struct thread *t)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_REMOVE, MADV_FREE, MADV_WILLNEED,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DOFORK,
		MADV_DONTFORK, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE,
		MADV_MERGEABLE, MADV_COLD, MADV_PAGEOUT, MADV_DODUMP,
		MADV_WIPEONFORK, MADV_RANDOM, MADV_GUARD_INSTALL,
		MADV_GUARD_REMOVE,
	};
	__u64 length;
	__u8 *at = pick_place(t, &length);

	madvise(at, length, advice[rnd(t, ARRAY_SIZE(advice))]);
}

static void op_mlock(struct thread *t)
{
	__u64 length;
	__u8 *at = pick_place(t, &length);

	switch (rnd(t, 8)) {
	case 0:
		mlockall(MCL_CURRENT | (once(t, 2) ? MCL_ONFAULT : 0));
		break;
	case 1:
		mlockall(MCL_FUTURE | (once(t, 2) ? MCL_CURRENT : 0));
		break;
	case 2:
	case 3:
		munlockall();
		break;
	case 4:
		mlock2(at, length, MLOCK_ONFAULT);
		break;
	case 5:
		munlock(at, length);
		break;
	default:
		mlock(at, length);
		break;
	}
}

static void op_mbind(struct thread *t)
{
	unsigned long nodes = rnd(t, 4);
	__u64 length;
	__u8 *at = pick_place(t, &length);
	int mode = rnd(t, MPOL_MAX + 1);

	if (once(t, 4)) {
		syscall(__NR_get_mempolicy, &mode, &nodes, 64, at, MPOL_F_ADDR);
		return;
	}
	if (mode == MPOL_DEFAULT || mode == MPOL_LOCAL)
		nodes = 0;
	maybe_fail(t);
	syscall(__NR_mbind, at, length, mode, &nodes, 64,
		once(t, 4) ? MPOL_MF_MOVE : 0);
	end_fail(t);
}

static void op_msync(struct thread *t)
{
	static __u8 states[4 * SPAN_PAGES];
	__u64 length;
	__u8 *at = pick_place(t, &length);

	if (once(t, 2))
		msync(at, length, MS_SYNC);
	else if (length <= 4 * SPAN)
		mincore(at, length, states);
}

const struct op memory_ops[] = {
	{ "mmap()", 24, op_mmap },
	{ "mmap() of a window", 12, op_mmap_window },
	{ "munmap()", 6, op_munmap },
	{ "mremap()", 6, op_mremap },
	{ "mprotect()", 6, op_mprotect },
	{ "madvise()", 10, op_madvise },
	{ "mlock()", 3, op_mlock },
	{ "mbind()", 6, op_mbind },
	{ "msync()", 2, op_msync },
	{}
};
