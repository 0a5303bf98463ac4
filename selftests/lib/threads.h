/* SPDX-License-Identifier: GPL-2.0-only */
/* Threads that tests start beside themselves. */
#ifndef LIB_THREADS_H
#define LIB_THREADS_H

#include "test.h"

#include <dirent.h>
#include <pthread.h>
#include <time.h>

/*
 * A thread that reads a page again and again, as a device back-end may, until @stop.
 * It sleeps for @pause_us in between.
 */
struct toucher {
	__u8 *page;
	unsigned int pause_us;
	volatile bool stop;
};

static inline void *touch_on(void *arg)
{
	struct toucher *t = arg;

	while (!t->stop) {
		*(volatile __u8 *)t->page;
		if (t->pause_us)
			usleep(t->pause_us);
	}
	return NULL;
}

/* pthread_join() that waits until @end at most. 0 or -ETIMEDOUT. */
static inline int join_until(pthread_t thread, time_t end)
{
	const struct timespec at = { .tv_sec = end };

	return -pthread_timedjoin_np(thread, NULL, &at);
}

static inline void print_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		printf("#   %s", line);
	if (file)
		fclose(file);
}

/* Print where in the kernel each thread of this process is. */
static inline void print_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	char path[300];

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		printf("# thread %s\n", entry->d_name);
		snprintf(path, sizeof(path), "/proc/self/task/%s/syscall",
			 entry->d_name);
		print_file(path);
		snprintf(path, sizeof(path), "/proc/self/task/%s/stack",
			 entry->d_name);
		print_file(path);
	}
	if (dir)
		closedir(dir);
}

#endif /* LIB_THREADS_H */
