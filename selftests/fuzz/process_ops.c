// SPDX-License-Identifier: GPL-2.0-only
/* Processes, and descriptors that move between them. */
#include "fuzz.h"

#include "lib/proc.h"

#include <sys/prctl.h>
#include <sys/socket.h>

/* At most about a second; then the child dies, whatever it does. */
static void wait_for_child(pid_t child)
{
	double end = now() + 1;
	int status;

	while (now() < end) {
		if (waitpid(child, &status, WNOHANG))
			return;
		usleep(1000);
	}
	kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
}

/* A child makes some calls on the same descriptors, with its own mappings. */
static void op_fork(struct thread *t)
{
	unsigned int nr = rnd(t, 16);
	struct thread copy = *t;
	pid_t child;

	if (t->forked)
		return;
	child = fork();
	if (child) {
		if (child > 0)
			wait_for_child(child);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	copy.forked = true;
	copy.has_vcpu = false;
	/* That file belongs to the parent's thread. */
	copy.nth_fd = -1;
	while (nr--)
		make_call(&copy);
	_exit(0);
}

#define MAX_SENT 3

static void op_send(struct thread *t)
{
	union {
		char room[CMSG_SPACE(MAX_SENT * sizeof(int))];
		struct cmsghdr align;
	} control = {};
	int nr = 1 + rnd(t, MAX_SENT), sent[MAX_SENT], i;
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};

	for (i = 0; i < nr; i++)
		sent[i] = pick_fd(t, rnd(t, NR_KINDS));
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(&control.align), sent, nr * sizeof(int));
	sendmsg(pick_fd(t, KIND_SOCKET), &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void op_receive(struct thread *t)
{
	union {
		char room[CMSG_SPACE(MAX_SENT * sizeof(int))];
		struct cmsghdr align;
	} control = {};
	int got[MAX_SENT], nr, i;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	if (recvmsg(pick_fd(t, KIND_SOCKET), &msg,
		    MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0 ||
	    !msg.msg_controllen || control.align.cmsg_type != SCM_RIGHTS)
		return;
	nr = (control.align.cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(got, CMSG_DATA(&control.align), nr * sizeof(int));
	for (i = 0; i < nr; i++)
		put_unknown_fd(t, got[i]);
}

/* New sockets: those before may be in each other's queues for ever. */
static void op_sockets(struct thread *t)
{
	int pair[2];

	if (socketpair(AF_UNIX, once(t, 2) ? SOCK_STREAM | SOCK_CLOEXEC :
		       SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
		return;
	put_pair(t, KIND_SOCKET, pair);
}

static void op_pipes(struct thread *t)
{
	int pair[2];

	if (pipe2(pair, O_NONBLOCK | O_CLOEXEC))
		return;
	put_pair(t, KIND_PIPE, pair);
}

static void op_dup(struct thread *t)
{
	enum object kind = rnd(t, NR_KINDS);
	int fd = fcntl(pick_fd(t, kind), F_DUPFD_CLOEXEC, 3);

	put_fd(t, kind, fd);
}

/* Another struct file, with fewer rights or more. */
static void op_reopen(struct thread *t)
{
	static const int flags[] = {
		O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_TRUNC, O_PATH, O_RDWR | O_APPEND,
	};
	enum object kind = KIND_VM + rnd(t, 4);
	int fd = pick_fd(t, kind);

	if (fd > 2)
		put_fd(t, kind, reopen(fd, flags[rnd(t, ARRAY_SIZE(flags))] |
				       O_NONBLOCK));
}

static void op_close(struct thread *t)
{
	close_some_fd(t);
}

const struct op process_ops[] = {
	{ "fork()", 2, op_fork },
	{ "sendmsg()", 6, op_send },
	{ "recvmsg()", 6, op_receive },
	{ "socketpair()", 2, op_sockets },
	{ "pipe()", 1, op_pipes },
	{ "dup()", 3, op_dup },
	{ "open() of a descriptor", 4, op_reopen },
	{ "close()", 2, op_close },
	{}
};
