// SPDX-License-Identifier: GPL-2.0-only
/* The descriptors that the threads of a round share. */
#include "fuzz.h"

#include "lib/vm.h"

#include <linux/memfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define MAX_FDS 6

/* A descriptor, or -1. Each has at most one place. */
static int fds[NR_KINDS][MAX_FDS];

static const unsigned int nr_of_kind[NR_KINDS] = {
	[KIND_VM] = 4,
	[KIND_MEM] = 6,
	[KIND_VIEW] = 4,
	[KIND_WINDOW] = 4,
	[KIND_SOCKET] = 4,
	[KIND_PIPE] = 4,
	[KIND_RING] = 2,
};

unsigned int nr_fds(enum object kind)
{
	return nr_of_kind[kind];
}

int fd_at(enum object kind, unsigned int index)
{
	return __atomic_load_n(&fds[kind][index % nr_of_kind[kind]], __ATOMIC_RELAXED);
}

int pick_fd(struct thread *t, enum object kind)
{
	int index = rnd(t, MAX_FDS);
	int stray = (int)rnd(t, 128) - 2;

	if (once(t, 60))
		return stray;
	if (once(t, 40))
		kind = rnd(t, NR_KINDS);
	return fd_at(kind, index);
}

static void put_fd_at(enum object kind, unsigned int index, int fd)
{
	int old = __atomic_exchange_n(&fds[kind][index % nr_of_kind[kind]], fd,
				      __ATOMIC_RELAXED);

	if (old >= 0)
		close(old);
}

void put_fd(struct thread *t, enum object kind, int fd)
{
	unsigned int index = rnd(t, MAX_FDS);

	if (fd < 0)
		return;
	/* A child process has a table of its own, which ends with it. */
	put_fd_at(kind, index, fd);
}

void put_pair(struct thread *t, enum object kind, const int *pair)
{
	unsigned int index = rnd(t, MAX_FDS / 2) * 2;

	put_fd_at(kind, index, pair[0]);
	put_fd_at(kind, index + 1, pair[1]);
}

void put_unknown_fd(struct thread *t, int fd)
{
	char path[64], link[64] = "";
	struct statfs fs = {};

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fstatfs(fd, &fs);
	if (fs.f_type == GMEM_MEM_MAGIC)
		put_fd(t, KIND_MEM, fd);
	else if (fs.f_type == GMEM_VIEW_MAGIC)
		put_fd(t, KIND_VIEW, fd);
	else if (fs.f_type == GMEM_WINDOW_MAGIC)
		put_fd(t, KIND_WINDOW, fd);
	else if (readlink(path, link, sizeof(link) - 1) > 0 &&
		 strstr(link, "gmem-vm"))
		put_fd(t, KIND_VM, fd);
	else if (strstr(link, "socket"))
		put_fd(t, KIND_SOCKET, fd);
	else
		close(fd);
}

void close_some_fd(struct thread *t)
{
	enum object kind = rnd(t, NR_KINDS);

	put_fd_at(kind, rnd(t, MAX_FDS), -1);
}

int find_mem(__u64 mem_id)
{
	struct stat st;
	unsigned int i;
	int fd;

	for (i = 0; i < nr_of_kind[KIND_MEM]; i++) {
		fd = fd_at(KIND_MEM, i);
		if (!fstat(fd, &st) && st.st_ino == mem_id)
			return fd;
	}
	return -1;
}

__u64 unit_of(int mem)
{
	struct stat st;

	return !fstat(mem, &st) && st.st_blksize == (long)HUGE_PAGE ? HUGE_PAGE :
								       PAGE;
}

void clip_range(struct thread *t, int fd, __u64 *start, __u64 *length)
{
	bool keep = once(t, 8);
	struct stat st;
	__u64 unit;

	if (keep || fstat(fd, &st) || st.st_size <= 0)
		return;
	unit = unit_of(fd);
	*start = (*start % st.st_size) & ~(unit - 1);
	if (*length > st.st_size - *start)
		*length = st.st_size - *start;
}

void objects_init(struct thread *t)
{
	unsigned int i, live = rnd(t, 2), mock = rnd(t, 4);
	int pair[2];

	memset(fds, -1, sizeof(fds));
	/*
	 * The first VM has KVM's guest. Both kinds of windows are there; in one of
	 * four rounds, a VM of the mock, too.
	 */
	for (i = 0; i < nr_of_kind[KIND_VM]; i++) {
		const char *provider = (i + live) % 2 ? "live" : "window";

		if (!mock && i == 3)
			provider = "mock";
		put_fd_at(KIND_VM, i, create_vm(provider, (struct gmem_vm_create){
			.policy = rnd(t, 3),
			.flags = is_live(provider) ? pick_wait_flags(t) : 0,
		}));
	}
	for (i = 0; i < nr_of_kind[KIND_MEM]; i++)
		put_fd_at(KIND_MEM, i,
			  i < 2 && have_huge() ?
				  new_mem(SPAN, GMEM_MEM_ALLOW_HUGEPAGE) :
				  new_mem((256 + rnd(t, 512)) * PAGE, 0));
	for (i = 0; i < nr_of_kind[KIND_SOCKET]; i += 2)
		if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
				0, pair)) {
			put_fd_at(KIND_SOCKET, i, pair[0]);
			put_fd_at(KIND_SOCKET, i + 1, pair[1]);
		}
	for (i = 0; i < nr_of_kind[KIND_PIPE]; i += 2)
		if (!pipe2(pair, O_NONBLOCK | O_CLOEXEC)) {
			put_fd_at(KIND_PIPE, i, pair[0]);
			put_fd_at(KIND_PIPE, i + 1, pair[1]);
		}
}
