// SPDX-License-Identifier: GPL-2.0-only
/* The calls on the device. */
#include "fuzz.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>

#ifndef __NR_memfd_secret
#define __NR_memfd_secret 447
#endif

static void pick_name(struct thread *t, __u8 *name)
{
	if (once(t, 2))
		return;
	memcpy(name, "a name", 6);
	if (once(t, 20))
		name[rnd(t, GMEM_OBJECT_NAME_LEN)] = rnd(t, 256);
}

static int device(struct thread *t)
{
	return once(t, 100) ? pick_fd(t, rnd(t, NR_KINDS)) : gmem_dev();
}

static void op_info(struct thread *t)
{
	struct gmem_info info = {
		.size = sizeof(info),
		.provider_index = rnd(t, 4),
	};

	fuzz_ioctl(t, device(t), GMEM_INFO, &info, sizeof(info));
}

static void op_stats(struct thread *t)
{
	struct gmem_stats stats = { .size = sizeof(stats) };

	fuzz_ioctl(t, device(t), GMEM_STATS, &stats, sizeof(stats));
}

static void op_create_vm(struct thread *t)
{
	struct gmem_vm_create create = {
		.size = sizeof(create),
		.flags = rnd(t, 3) ? GMEM_VM_LIVE : 0,
		.policy = rnd(t, 3),
		.guest_addr_bits = once(t, 8) ? rnd(t, 64) : 0,
	};

	memcpy(create.provider_name, once(t, 8) ? "mock\0\0" : "window", 6);
	create.flags |= create.flags ? pick_wait_flags(t) : 0;
	pick_name(t, create.name);
	if (once(t, 8))
		put_fd(t, KIND_VM,
		       err_of(ioctl(device(t), GMEM_CREATE_VM,
				    once(t, 4) ? odd_number(t) : 0)));
	else
		put_fd(t, KIND_VM,
		       fuzz_ioctl(t, device(t), GMEM_VM_CREATE, &create,
				  sizeof(create)));
}

/* The size of a new guestmem: it bounds the memory of a round. */
static __u64 pick_mem_size(struct thread *t, __u64 flags)
{
	if (flags & GMEM_MEM_ALLOW_HUGEPAGE)
		return (1 + rnd(t, 4)) * HUGE_PAGE;
	return (1 + rnd(t, 768)) * PAGE;
}

static void op_create_mem(struct thread *t)
{
	struct gmem_create_mem create = {
		.flags = rnd(t, 4) ? 0 : GMEM_MEM_ALLOW_HUGEPAGE,
	};

	create.size = pick_mem_size(t, create.flags);
	create.flags |= GMEM_MEM_CLOEXEC;
	pick_name(t, create.name);
	put_fd(t, KIND_MEM,
	       fuzz_ioctl(t, device(t), GMEM_CREATE_MEM, &create, sizeof(create)));
}

static void op_mem_create(struct thread *t)
{
	__u64 nodes = 1 + rnd(t, 3);
	struct gmem_mem_create create = {
		.size = sizeof(create),
		.flags = rnd(t, 4) ? 0 : GMEM_MEM_ALLOW_HUGEPAGE,
		.numa_mode = rnd(t, MPOL_MAX + 1),
		.nr_nodes = 64,
		.nodes = ptr_u64(&nodes),
	};
	int group = -1;

	if (create.numa_mode == MPOL_DEFAULT || create.numa_mode == MPOL_LOCAL)
		create.nr_nodes = 0;
	create.length = pick_mem_size(t, create.flags);
	if (once(t, 3)) {
		group = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		create.flags |= GMEM_MEM_CGROUP;
		create.cgroup_fd = once(t, 8) ? pick_fd(t, KIND_MEM) : group;
	}
	pick_name(t, create.name);
	put_fd(t, KIND_MEM,
	       fuzz_ioctl(t, device(t), GMEM_MEM_CREATE, &create, sizeof(create)));
	if (group >= 0)
		close(group);
}

static void op_from_secret(struct thread *t)
{
	struct gmem_mem_from_secret from = {
		.size = sizeof(from),
		.flags = once(t, 2) ? GMEM_MEM_CLOEXEC : 0,
	};
	__u64 size = (1 + rnd(t, 16)) * PAGE, i;
	__u8 *p;
	int fd;

	fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	if (fd >= 0 && !ftruncate(fd, size)) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		for (i = 0; p != MAP_FAILED && i < size; i += PAGE)
			if (rnd(t, 100))
				p[i] = 1;
		if (p != MAP_FAILED)
			munmap(p, size);
	}
	from.secret_fd = once(t, 8) || fd < 0 ? pick_fd(t, KIND_MEM) : fd;
	put_fd(t, KIND_MEM,
	       fuzz_ioctl(t, device(t), GMEM_MEM_FROM_SECRET, &from, sizeof(from)));
	/*
	 * Success has closed it; another thread may have got the number since, and
	 * then loses a descriptor, as it may by any close().
	 */
	if (fd >= 0)
		close(fd);
}

/* Any number of a call, on anything. */
static void op_unknown(struct thread *t)
{
	unsigned int cmd = _IO(GMEM_IOCTL_TYPE, rnd(t, 256));
	__u64 arg[16];
	unsigned int i;
	int fd = pick_fd(t, rnd(t, NR_KINDS));

	for (i = 0; i < ARRAY_SIZE(arg); i++)
		arg[i] = once(t, 2) ? 0 : odd_number(t);
	if (once(t, 2))
		arg[0] = (arg[0] & ~0xffffffffULL) | rnd(t, sizeof(arg) + 1);
	if (once(t, 4))
		cmd = rnd(t, ~0U);
	/* The mock's test call can stop all VMs. */
	if (_IOC_NR(cmd) >= 0xf0)
		return;
	fuzz_ioctl(t, fd, cmd, arg, sizeof(arg));
}

const struct op device_ops[] = {
	{ "GMEM_INFO", 2, op_info },
	{ "GMEM_STATS", 2, op_stats },
	{ "GMEM_VM_CREATE", 2, op_create_vm },
	{ "GMEM_CREATE_MEM", 3, op_create_mem },
	{ "GMEM_MEM_CREATE", 3, op_mem_create },
	{ "GMEM_MEM_FROM_SECRET", 1, op_from_secret },
	{ "an unknown call", 4, op_unknown },
	{}
};
