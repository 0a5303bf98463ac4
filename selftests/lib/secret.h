/* SPDX-License-Identifier: GPL-2.0-only */
/* Guestmems of memory outside the kernel's linear map. */
#ifndef LIB_SECRET_H
#define LIB_SECRET_H

#include "gmem.h"

#include <sched.h>
#include <sys/syscall.h>

static inline int new_secret(__u64 size)
{
	int fd = syscall(SYS_memfd_secret, 0);

	if (fd >= 0 && size && ftruncate(fd, size))
		return -errno;
	return err_of(fd);
}

/* Move the thread to a CPU, if there is such a CPU. */
static inline void run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

/*
 * Fill the file with a pattern: the first touch allocates a page. The CPU of
 * that touch keeps references to the new pages for a while, which must not look
 * like pins to another CPU.
 */
static inline int fill_secret(int fd, __u64 size)
{
	__u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	run_on(1);
	memset(p, 0xa5, size);
	run_on(0);
	munmap(p, size);
	return 0;
}

static inline int from_secret(int fd, __u32 flags)
{
	struct gmem_mem_from_secret from = {
		.size = sizeof(from),
		.flags = flags,
		.secret_fd = fd,
	};

	return err_of(ioctl(gmem_dev(), GMEM_MEM_FROM_SECRET, &from));
}

#endif /* LIB_SECRET_H */
