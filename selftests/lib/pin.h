/* SPDX-License-Identifier: GPL-2.0-only */
/* Pinned pages: by a pipe (vmsplice()), or as a buffer of an io_uring. */
#ifndef LIB_PIN_H
#define LIB_PIN_H

#include "test.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum pin_kind { PIN_SPLICE, PIN_URING };

/* The holder of a pin: both ends of a pipe, or a ring. 0 or -errno. */
static inline int pin_open(int *fd, enum pin_kind kind)
{
	struct io_uring_params params = {};

	if (kind == PIN_SPLICE)
		return err_of(pipe(fd));
	fd[0] = syscall(__NR_io_uring_setup, 1, &params);
	fd[1] = -1;
	return fd[0] < 0 ? -errno : 0;
}

static inline void pin_close(const int *fd)
{
	close(fd[0]);
	close(fd[1]);
}

/* Pin a page. 0 or -errno. */
static inline int pin(const int *fd, enum pin_kind kind, void *page)
{
	struct iovec iov = { .iov_base = page, .iov_len = PAGE };

	if (kind == PIN_SPLICE)
		return err_of(vmsplice(fd[1], &iov, 1, 0)) == (int)PAGE ?
			       0 : -errno;
	return err_of(syscall(__NR_io_uring_register, fd[0],
			      IORING_REGISTER_BUFFERS, &iov, 1));
}

/*
 * Release the pin. *byte: the first byte that its holder read from the page, or
 * -1.
 */
static inline int unpin(const int *fd, enum pin_kind kind, int *byte)
{
	__u8 buf[PAGE];

	*byte = -1;
	if (kind == PIN_URING)
		return err_of(syscall(__NR_io_uring_register, fd[0],
				      IORING_UNREGISTER_BUFFERS, NULL, 0));
	if (read(fd[0], buf, sizeof(buf)) != (ssize_t)sizeof(buf))
		return -EIO;
	*byte = buf[0];
	return 0;
}

#endif /* LIB_PIN_H */
