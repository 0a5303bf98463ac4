// SPDX-License-Identifier: GPL-2.0-only
/* Accesses to the arena: by instructions, by the kernel's copies, and pins. */
#include "fuzz.h"

#include "lib/pin.h"
#include "lib/touch.h"

#include <linux/futex.h>
#include <linux/gmem_test.h>
#include <sys/syscall.h>

/*
 * A signal outside of touch_copy() is a bug of this program or of the kernel,
 * except the timer's, and those for broken pages: of memory_failure(), and of KVM.
 * And if the stack needs a page for the frame of the timer's signal (a fork() made
 * it copy-on-write), and this allocation is the one that fails, the kernel sends
 * SIGSEGV instead.
 */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct thread *t = this_thread();

	(void)context;
	if (touch_armed) {
		touch_code = info->si_code;
		siglongjmp(touch_env, sig);
	}
	if (sig == SIGUSR1 || (sig == SIGBUS && (info->si_code == BUS_MCEERR_AO ||
						 info->si_code == BUS_MCEERR_AR)))
		return;
	if (sig == SIGSEGV && info->si_code == SI_KERNEL && t && t->may_fail)
		return;
	give_up(t, sig == SIGBUS ? "SIGBUS, its code" : "SIGSEGV, its code",
		info->si_code);
}

void touch_setup(void)
{
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

void start_timer(void)
{
	struct itimerspec often = {
		.it_value.tv_nsec = 100000000,
		.it_interval.tv_nsec = 100000000,
	};
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGUSR1,
	};
	timer_t timer;

	event._sigev_un._tid = syscall(__NR_gettid);
	if (!timer_create(CLOCK_MONOTONIC, &event, &timer))
		timer_settime(timer, 0, &often, NULL);
}

/*
 * Read a page. A page that the module frees is full of a word that nobody writes
 * here. Returns the signal of a failed access, or 0.
 */
static int read_page(struct thread *t, const __u8 *at)
{
	__u32 words[2] = {};
	int sig = touch_copy(words, at, sizeof(words));

	if (!sig && words[0] == GMEM_TEST_FREED && words[1] == GMEM_TEST_FREED)
		give_up(t, "a freed page is mapped at offset", at - ARENA);
	return sig;
}

static void op_touch(struct thread *t)
{
	__u64 length;
	__u8 *place = pick_place(t, &length), *page = pick_guest_page(t);
	__u8 *at = once(t, 2) ? place : page;
	__u32 count = 1 + rnd(t, once(t, 8) ? 512 : 8), failures = 0;
	bool write = once(t, 2);

	/* A signal takes longer than a touch. */
	while (count-- && failures < 4 && at < ARENA + NR_REGIONS * REGION) {
		if (write)
			failures += !!touch_write(at + 8 + rnd(t, PAGE - 8), rnd(t, 256));
		else
			failures += !!read_page(t, at);
		at += PAGE;
	}
}

/* The kernel copies to and from the arena. */
static void op_copy(struct thread *t)
{
	__u64 length, other_length;
	__u8 *at = pick_place(t, &length), *other = pick_place(t, &other_length);
	int in = fd_at(KIND_PIPE, 0), out = fd_at(KIND_PIPE, 1), fd;
	struct iovec iov = { .iov_base = at, .iov_len = length };
	struct iovec remote = { .iov_base = other, .iov_len = length };

	if (length > MIB(1))
		iov.iov_len = remote.iov_len = MIB(1);
	switch (rnd(t, 7)) {
	case 0:
		(void)!readv(in, &iov, 1);
		break;
	case 1:
		(void)!writev(out, &iov, 1);
		break;
	case 2:
		process_vm_readv(getpid(), &iov, 1, &remote, 1, 0);
		break;
	case 3:
		process_vm_writev(getpid(), &iov, 1, &remote, 1, 0);
		break;
	case 4:
		syscall(__NR_futex, at, once(t, 2) ? FUTEX_WAKE : FUTEX_WAIT, 0,
			&(struct timespec){ .tv_nsec = 1000000 }, NULL, 0);
		break;
	default:
		fd = open(once(t, 2) ? "/dev/zero" : "/proc/self/mem",
			  O_RDWR | O_CLOEXEC);
		if (fd < 0)
			break;
		if (once(t, 2))
			(void)!pread(fd, at, iov.iov_len, (uintptr_t)other);
		else
			(void)!pwrite(fd, at, iov.iov_len, (uintptr_t)other);
		close(fd);
		break;
	}
}

static void op_pin(struct thread *t)
{
	int count = 4 + rnd(t, 12), ring, byte;
	__u8 *at = pick_guest_page(t);
	/* The other pipe is full most of the time, by copies. */
	int fd[2] = { fd_at(KIND_PIPE, 2), fd_at(KIND_PIPE, 3) };
	struct iovec iov = { .iov_base = at, .iov_len = (1 + rnd(t, 2)) * PAGE };
	struct io_uring_params params = {};

	ring = fd_at(KIND_RING, rnd(t, 2));
	/* The guest has the page then, if there is a window. */
	if (once(t, 2))
		touch_write(at + 8, rnd(t, 256));
	switch (rnd(t, 8)) {
	case 0:
	case 1:
	case 2:
		vmsplice(fd[1], &iov, 1, SPLICE_F_NONBLOCK);
		break;
	case 3:
		while (count-- && !unpin(fd, PIN_SPLICE, &byte))
			;
		break;
	case 4:
		put_fd(t, KIND_RING, syscall(__NR_io_uring_setup, 1, &params));
		break;
	case 5:
	case 6:
		syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			&iov, 1);
		break;
	default:
		syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS,
			NULL, 0);
		break;
	}
}

/* Break pages: few, because they stay out of use. */
static void op_poison(struct thread *t)
{
	static int nr;
	__u8 *at = pick_guest_page(t);

	if (__atomic_load_n(&nr, __ATOMIC_RELAXED) < 2 && !poison(at))
		__atomic_add_fetch(&nr, 1, __ATOMIC_RELAXED);
}

const struct op touch_ops[] = {
	{ "a touch", 80, op_touch },
	{ "a copy by the kernel", 10, op_copy },
	{ "a pin", 18, op_pin },
	{ "MADV_HWPOISON", 2, op_poison },
	{}
};
