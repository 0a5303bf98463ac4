/* SPDX-License-Identifier: GPL-2.0-only */
/* VMs whose accesses to unbound pages wait. */
#ifndef LIB_WAIT_H
#define LIB_WAIT_H

#include "gmem.h"
#include "touch.h"

#include <poll.h>
#include <pthread.h>

static inline int new_wait_vm(__u32 flags)
{
	return create_vm("live", (struct gmem_vm_create){
		.flags = GMEM_VM_WAIT | flags,
	});
}

static inline int get_waiters(int vm, __u32 flags, __u64 from,
			      struct gmem_waiter_info *infos, __u32 max,
			      struct gmem_vm_waiters *answer)
{
	struct gmem_vm_waiters waiters = {
		.size = sizeof(waiters),
		.flags = flags,
		.nr_entries = max,
		.entry_size = sizeof(*infos),
		.guest_addr = from,
		.entries = ptr_u64(infos),
	};
	int ret;

	ret = err_of(ioctl(vm, GMEM_VM_WAITERS, &waiters));
	if (answer)
		*answer = waiters;
	return ret < 0 ? ret : (int)waiters.nr_entries;
}

/* How many threads wait, or -errno. */
static inline int nr_waiting(int vm)
{
	struct gmem_vm_waiters answer;
	int ret = get_waiters(vm, GMEM_WAITERS_ALL, 0, NULL, 0, &answer);

	return ret < 0 ? ret : (int)answer.nr_threads;
}

/* Wait until @nr threads wait. */
static inline bool waiting(int vm, int nr)
{
	double end = now() + 20;

	while (nr_waiting(vm) != nr && now() < end)
		usleep(1000);
	return nr_waiting(vm) == nr;
}

static inline int set_absent(int vm, __u32 absent, __u64 gpa, __u64 length)
{
	struct gmem_vm_set_absent set = {
		.size = sizeof(set),
		.absent = absent,
		.guest_addr = gpa,
		.length = length,
	};

	return err_of(ioctl(vm, GMEM_VM_SET_ABSENT, &set));
}

/* Fill a range of a guestmem, and bind it. */
static inline int fill_mem(int vm, __u64 gpa, int mem, __u64 offset, __u64 length,
			   __u32 flags, const void *source)
{
	struct gmem_vm_fill fill = {
		.size = sizeof(fill),
		.flags = flags,
		.guest_addr = gpa,
		.guest_mem_fd = mem,
		.offset = offset,
		.length = length,
		.source = ptr_u64(source),
	};

	return err_of(ioctl(vm, GMEM_VM_FILL, &fill));
}

/* Is there a request that no call has reported? */
static inline bool has_request(int vm, int ms)
{
	struct pollfd fd = { .fd = vm, .events = POLLIN };

	return poll(&fd, 1, ms) == 1 && fd.revents == POLLIN;
}

/* The number of the calling thread. */
static inline pid_t thread_id(void)
{
	return gettid();
}

/* A thread that accesses a byte. */
struct toucher {
	pthread_t thread;
	__u8 *at;
	bool writes;
	/* The thread's number, once it runs. */
	pid_t tid;
	/* The byte, or -signal. */
	int result;
	bool done;
};

static inline void *toucher_main(void *arg)
{
	struct toucher *t = arg;

	__atomic_store_n(&t->tid, thread_id(), __ATOMIC_RELEASE);
	if (t->writes)
		t->result = -touch_write(t->at, 77);
	else
		t->result = peek(t->at);
	__atomic_store_n(&t->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline int toucher_start(struct toucher *t)
{
	pthread_attr_t attr;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, KIB(64));
	err = -pthread_create(&t->thread, &attr, toucher_main, t);
	pthread_attr_destroy(&attr);
	return err;
}

static inline bool toucher_done(const struct toucher *t)
{
	return __atomic_load_n(&t->done, __ATOMIC_ACQUIRE);
}

static inline int toucher_join(struct toucher *t)
{
	pthread_join(t->thread, NULL);
	return t->result;
}

/* Wait for the end of a child. The time it took, or -1. */
static inline double reap(pid_t child, int seconds)
{
	double begin = now();
	int status;

	while (now() < begin + seconds) {
		if (waitpid(child, &status, WNOHANG) == child)
			return now() - begin;
		usleep(1000);
	}
	return -1;
}

#endif /* LIB_WAIT_H */
