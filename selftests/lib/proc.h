/* SPDX-License-Identifier: GPL-2.0-only */
/* Files and descriptors in /proc and /sys. */
#ifndef LIB_PROC_H
#define LIB_PROC_H

#include "test.h"

/* Write all of @text to a file of the kernel's at once. 0 or -errno. */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = err_of(write(fd, text, strlen(text)));
	close(fd);
	return ret < 0 ? ret : 0;
}

/* Another struct file for the same inode. */
static inline int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return err_of(open(path, flags | O_CLOEXEC));
}

/* Room for the text of any line of fdinfo. */
#define FD_TEXT 128

/*
 * Copy the text that follows @key and a tab in a descriptor's fdinfo. False
 * without such a line.
 */
static inline bool fd_text(int fd, const char *key, char *text)
{
	char line[FD_TEXT], path[64];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, strlen(key)) ||
		    line[strlen(key)] != '\t')
			continue;
		line[strcspn(line, "\n")] = 0;
		memcpy(text, line + strlen(key) + 1,
		       strlen(line + strlen(key) + 1) + 1);
		found = true;
	}
	fclose(file);
	return found;
}

/* The number behind @key in a descriptor's fdinfo; 0 without one. */
static inline __u64 fd_number(int fd, const char *key)
{
	char text[FD_TEXT];

	return fd_text(fd, key, text) ? strtoull(text, NULL, 10) : 0;
}

/* The sum of the numbers that match @format in the lines of a file. */
static inline long sum_of(const char *path, const char *format)
{
	FILE *file = fopen(path, "re");
	char line[128];
	long value, sum = 0;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, format, &value) == 1)
			sum += value;
	if (file)
		fclose(file);
	return sum;
}

/*
 * In KiB. MemAvailable doesn't count the free pages in the CPUs' lists: with 2
 * MiB pages among them, 30 MiB have been seen.
 */
static inline long mem_available(void)
{
	return sum_of("/proc/meminfo", "MemAvailable: %ld") +
	       sum_of("/proc/zoneinfo", " count: %ld") * (long)(PAGE / 1024);
}

/*
 * How many KiB less are available than @before. Memory may come back late:
 * waits up to five seconds until less than @limit are missing.
 */
static inline long mem_missing(long before, long limit)
{
	long missing = before - mem_available();
	int tries;

	for (tries = 0; missing >= limit && tries < 50; tries++) {
		usleep(100000);
		missing = before - mem_available();
	}
	return missing;
}

/* Read a line of the mapping's entry in smaps, or "". */
static inline void smaps_line(const void *p, const char *key, char *line, int size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool here = false;

	while (smaps && fgets(line, size, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= ptr_u64(p) && ptr_u64(p) < end;
		else if (here && !strncmp(line, key, strlen(key)))
			goto found;
	}
	*line = 0;
found:
	if (smaps)
		fclose(smaps);
}

static inline bool vm_flag(const void *p, const char *flag)
{
	char line[256];

	smaps_line(p, "VmFlags:", line, sizeof(line));
	return strstr(line, flag);
}

#endif /* LIB_PROC_H */
