/* SPDX-License-Identifier: GPL-2.0-only */
/* The harness, sizes and small functions of every test. */
#ifndef LIB_TEST_H
#define LIB_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/gmem.h>

/* The harness is for programs of one file. */
#ifdef LIB_NO_HARNESS
#include <kselftest.h>
#else
#include <kselftest_harness.h>
#endif

/* A debug kernel is ten times slower, and TEST() has no timeout of its own. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 240

#define KIB(n) ((__u64)(n) << 10)
#define MIB(n) ((__u64)(n) << 20)
#define GIB(n) ((__u64)(n) << 30)

/* Arm64 has kernels of several page sizes. */
static inline __u64 page_size(void)
{
	static __u64 size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

#define PAGE page_size()
/* A page of page table entries (8 bytes each) maps 2, 32 or 512 MiB. */
#define PMD_PAGE (PAGE / 8 * PAGE)
/* A file has no pages of 512 MiB: there, adjacent entries map a huge page. */
#define HUGE_PAGE (PMD_PAGE > MIB(32) ? MIB(2) : PMD_PAGE)
/* The largest entry of the calls that return entries. */
#define MAX_ENTRY KIB(4)
/* A multiple of any page size, where a constant is needed. */
#define ANY_PAGE KIB(64)

#define RX (GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_EXEC)
#define RWX GMEM_MAP_ALLOW_RWX
#define LEND GMEM_MAP_FORCE_LEND
#define SHARE GMEM_MAP_FORCE_SHARE

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* @size, rounded up to huge pages. */
static inline __u64 huge_pages(__u64 size)
{
	return (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

static inline __u64 ptr_u64(const volatile void *p)
{
	return (uintptr_t)p;
}

static inline int err_of(long ret)
{
	return ret < 0 ? -errno : (int)ret;
}

/* @n, divided by GMEM_SCALE of the environment. */
static inline unsigned long scaled(unsigned long n)
{
	const char *scale = getenv("GMEM_SCALE");
	unsigned long by = scale ? strtoul(scale, NULL, 0) : 1;

	return by > 1 ? (n + by - 1) / by : n;
}

static inline unsigned int env_uint(const char *name, unsigned int otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : otherwise;
}

/* Is the kernel of that release, such as "6.18", or a later one? */
static inline bool kernel_since(const char *release)
{
	struct utsname kernel;

	return !uname(&kernel) && strverscmp(kernel.release, release) >= 0;
}

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

#define VARIANT(fixture, name, ...)					\
	FIXTURE_VARIANT_ADD(fixture, name) { __VA_ARGS__ }

#endif /* LIB_TEST_H */
