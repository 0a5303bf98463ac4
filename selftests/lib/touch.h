/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory accesses that may fail with a signal. */
#ifndef LIB_TOUCH_H
#define LIB_TOUCH_H

#include "test.h"

#include <setjmp.h>

static __thread sigjmp_buf touch_env;
static __thread volatile sig_atomic_t touch_armed;
static __thread volatile sig_atomic_t touch_code;

static inline void touch_handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!touch_armed) {
		/*
		 * No test expects this signal: die when the instruction runs
		 * again.
		 */
		signal(sig, SIG_DFL);
		return;
	}
	touch_code = info->si_code;
	siglongjmp(touch_env, sig);
}

static __attribute__((constructor)) void touch_init(void)
{
	struct sigaction action = {
		.sa_sigaction = touch_handler,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

static __attribute__((noinline, unused)) void
copy_bytes(volatile __u8 *to, const volatile __u8 *from, size_t length)
{
	while (length--)
		*to++ = *from++;
}

/* Copy. 0 or the signal of a failed access, whose si_code is touch_code. */
static __attribute__((noinline, unused)) int
touch_copy(volatile void *to, const volatile void *from, size_t length)
{
	int sig;

	sig = sigsetjmp(touch_env, 0);
	if (!sig) {
		touch_armed = 1;
		copy_bytes(to, from, length);
	}
	touch_armed = 0;
	return sig;
}

static inline int touch_read(const volatile void *p)
{
	__u8 byte;

	return touch_copy(&byte, p, 1);
}

static inline int touch_write(volatile void *p, __u8 byte)
{
	return touch_copy(p, &byte, 1);
}

/* The byte there, or -signal. */
static inline int peek(const volatile void *p)
{
	__u8 byte = 0;
	int sig = touch_copy(&byte, p, 1);

	return sig ? -sig : byte;
}

/*
 * Break a page. 0 or -errno. Two errors are no failure: EBUSY means that the page
 * is still in the file, EHWPOISON that a huge page couldn't be split. The signal
 * for a process that maps the page may arrive at once.
 */
static __attribute__((noinline, unused)) int poison(volatile void *page)
{
	int ret = 0;

	if (!sigsetjmp(touch_env, 0)) {
		touch_armed = 1;
		ret = err_of(madvise((void *)page, PAGE, MADV_HWPOISON));
	}
	touch_armed = 0;
	return ret == -EBUSY || ret == -EHWPOISON ? 0 : ret;
}

/*
 * Has the process a page table entry for the page? -1 if the kernel doesn't
 * tell.
 */
static inline int page_present(const volatile void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	got = pread(fd, &entry, sizeof(entry), ptr_u64(p) / PAGE * 8);
	close(fd);
	return got == sizeof(entry) ? (int)(entry >> 63) : -1;
}

#endif /* LIB_TOUCH_H */
