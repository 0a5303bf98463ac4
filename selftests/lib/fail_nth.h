/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Let an allocation of this thread fail. Needs CONFIG_FAULT_INJECTION with
 * FAILSLAB or FAIL_PAGE_ALLOC, and debugfs.
 */
#ifndef LIB_FAIL_NTH_H
#define LIB_FAIL_NTH_H

#include "test.h"

static const char *const fail_nth_knobs[][2] = {
	{ "failslab/ignore-gfp-wait", "N" },
	{ "failslab/verbose", "0" },
	{ "fail_page_alloc/ignore-gfp-wait", "N" },
	{ "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ "fail_page_alloc/min-order", "0" },
	{ "fail_page_alloc/verbose", "0" },
};

/* A descriptor for fail_nth_arm(); < 0 if the kernel injects no faults. */
static inline int fail_nth_open(void)
{
	char path[128];
	unsigned int i;
	int fd, set = 0;

	for (i = 0; i < ARRAY_SIZE(fail_nth_knobs); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", fail_nth_knobs[i][0]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		set += write(fd, fail_nth_knobs[i][1],
			     strlen(fail_nth_knobs[i][1])) > 0;
		close(fd);
	}
	return set ? open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC) : -1;
}

/* Let the @nth allocation from now on fail. */
static inline void fail_nth_arm(int nth_fd, int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", nth);

	if (pwrite(nth_fd, text, length, 0) != length)
		abort();
}

/*
 * Was the fault injected? Disarming may itself fail by the fault, so repeat it.
 */
static inline bool fail_nth_disarm(int nth_fd)
{
	char text[16] = "";
	bool injected;

	/*
	 * The file has the number of allocations left; 0: the fault has been
	 * injected.
	 */
	injected = pread(nth_fd, text, sizeof(text) - 1, 0) > 0 &&
		   !strcmp(text, "0\n");
	while (pwrite(nth_fd, "0", 1, 0) != 1)
		;
	return injected;
}

#endif /* LIB_FAIL_NTH_H */
