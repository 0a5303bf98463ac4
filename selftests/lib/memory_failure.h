/* SPDX-License-Identifier: GPL-2.0-only */
/* Break a page by its number, as broken hardware does: nobody need map it. */
#ifndef LIB_MEMORY_FAILURE_H
#define LIB_MEMORY_FAILURE_H

#include "proc.h"
#include "test.h"

#define HARD_OFFLINE "/sys/devices/system/memory/hard_offline_page"

/* Needs root and CONFIG_MEMORY_HOTPLUG. */
static inline bool can_break_pages(void)
{
	return !access(HARD_OFFLINE, W_OK);
}

/* The number of the page that this process maps there; 0 if none. */
static inline __u64 pfn_of(const volatile void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), ptr_u64(p) / PAGE * 8) !=
	    sizeof(entry) || !(entry >> 63))
		entry = 0;
	close(fd);
	return entry & ((1ULL << 55) - 1);
}

/* Bits of /proc/kpageflags. */
#define PAGE_COMPOUND ((1ULL << 15) | (1ULL << 16))
#define PAGE_HWPOISON (1ULL << 19)

/* The flags of a page; 0 if the kernel doesn't tell. */
static inline __u64 page_flags(__u64 pfn)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	__u64 flags = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) !=
	    sizeof(flags))
		flags = 0;
	close(fd);
	return flags;
}

/* Does the broken page become a page by itself? */
static inline bool split_soon(__u64 pfn)
{
	double end = now() + 10;

	while ((page_flags(pfn) & PAGE_COMPOUND) && now() < end)
		usleep(1000);
	return (page_flags(pfn) & (PAGE_COMPOUND | PAGE_HWPOISON)) ==
	       PAGE_HWPOISON;
}

/*
 * Call memory_failure(). 0 or -errno. Two errors are no failure: EBUSY means that
 * the page is still in the file, EHWPOISON that a huge page couldn't be split.
 */
static inline int break_page(__u64 pfn)
{
	char text[32];
	int ret;

	snprintf(text, sizeof(text), "%#llx", pfn * PAGE);
	ret = write_file(HARD_OFFLINE, text);
	return ret == -EBUSY || ret == -EHWPOISON ? 0 : ret;
}

#endif /* LIB_MEMORY_FAILURE_H */
