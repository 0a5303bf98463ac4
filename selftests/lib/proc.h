/* SPDX-License-Identifier: GPL-2.0 */
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

/* The number behind @key in a descriptor's fdinfo; 0 without one. */
static inline __u64 fd_number(int fd, const char *key)
{
	char line[128], path[64];
	__u64 number = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			number = strtoull(line + strlen(key), NULL, 10);
	fclose(file);
	return number;
}

#endif /* LIB_PROC_H */
