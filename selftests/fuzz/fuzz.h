/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A random fuzzer of the module. The program runs rounds, each in a process of its
 * own: a few threads share descriptors and mappings, and each makes a sequence of
 * random calls. The numbers behind a call depend on the seed of the round, on the
 * thread and on the number of the call alone, not on what calls return. So a seed
 * replays the same calls, although their results differ with the timing.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include "lib/device.h"
#include "lib/random.h"
#include "lib/test.h"

#include "../libgmem/testing/kvm_agent.h"

#include <pthread.h>

/* The fuzzer runs on x86-64 alone, and wants constants. */
#undef PAGE
#undef HUGE_PAGE
#define PAGE KIB(4)
#define HUGE_PAGE MIB(2)

#define NR_THREADS 4
#define MAX_OPS 128

/* Guest addresses and offsets lie below SPAN most of the time. */
#define SPAN MIB(8)
#define SPAN_PAGES (SPAN / PAGE)
/* Most calls meet in the first pages. */
#define HOT_PAGES 48

/*
 * Mappings are made in regions of this size, at addresses where mmap() without a
 * hint puts nothing: so munmap() of any part of a region is safe. Region N is most
 * often a window of VM N.
 */
#define REGION SPAN
#define NR_REGIONS 8
#define ARENA ((__u8 *)0x200000000000UL)

/* The kinds of objects that threads share. */
enum object {
	KIND_VM,
	KIND_MEM,
	KIND_VIEW,
	KIND_WINDOW,
	KIND_SOCKET,
	KIND_PIPE,
	KIND_RING,
	NR_KINDS,
};

/* A thread, in memory that the watchdog shares. */
struct thread {
	unsigned int id;
	/* Of the round. */
	__u64 seed;
	/* The number of the call under way, and its name. */
	volatile unsigned long call;
	const char *volatile name;
	/* The state of roll(). Each call sets it. */
	__u64 random;
	pid_t tid;
	/* /proc/thread-self/fail-nth, or -1. */
	int nth_fd;
	/* An allocation of this thread may be made to fail. */
	volatile bool may_fail;
	/* True in a child process that the thread has forked. */
	bool forked;
	bool has_vcpu;
	struct kvm_agent agent;
	pthread_t thread;
};

/* Memory that the process of a round and the watchdog share. */
struct shared {
	struct thread thread[NR_THREADS];
	/* Why the process of the round gave up; or "". */
	char error[256];
	volatile int stop;
	/* There may be VMs whose accesses wait. */
	bool may_wait;
	volatile int nr_running;
	/* Of each kind of call: its name, how many, and their seconds. */
	struct tally {
		const char *name;
		unsigned long nr;
		double seconds;
	} tally[MAX_OPS];
};

extern struct shared *shared;

/* The choices of the command line, for all rounds. */
struct options {
	__u64 seed;
	unsigned int seconds;
	unsigned int round_seconds;
	/* Only this thread runs; -1: all of them. */
	int thread;
	/* Each thread ends after this many calls, unless this is 0. */
	unsigned long calls;
	bool trace;
	bool profile;
};

extern struct options options;

/* A kind of call, and how often it is chosen. */
struct op {
	const char *name;
	unsigned int weight;
	void (*fn)(struct thread *t);
};

/* The calls, in lists that end with an entry without a name. */
extern const struct op device_ops[];
extern const struct op vm_ops[];
extern const struct op change_ops[];
extern const struct op wait_ops[];
extern const struct op mem_ops[];
extern const struct op memory_ops[];
extern const struct op touch_ops[];
extern const struct op process_ops[];
extern const struct op kvm_ops[];
extern const struct op observe_ops[];

/* A random number below @sides. */
static inline __u32 rnd(struct thread *t, __u32 sides)
{
	return roll(&t->random, sides);
}

/* True once in @sides. */
static inline bool once(struct thread *t, __u32 sides)
{
	return !rnd(t, sides);
}

static inline __u64 rnd64(struct thread *t)
{
	return (__u64)rnd(t, ~0U) << 32 | rnd(t, ~0U);
}

/* ---- numbers.c ---- */

/* A number that often breaks something: an end of a range, a wrap. */
__u64 odd_number(struct thread *t);
/* A range of guest memory or of a file, in units of @unit. */
void pick_range(struct thread *t, __u64 unit, __u64 *start, __u64 *length);
/* Some access and rights for a binding. */
__u32 pick_map_flags(struct thread *t);

/* ---- objects.c ---- */

/* Make the first objects of a round. */
void objects_init(struct thread *t);
/* A descriptor of that kind; rarely one of another kind, or none at all. */
int pick_fd(struct thread *t, enum object kind);
/* The descriptor that is number @index of its kind. */
int fd_at(enum object kind, unsigned int index);
unsigned int nr_fds(enum object kind);
/* Put a descriptor in place of another one, and close that. @fd < 0: nothing. */
void put_fd(struct thread *t, enum object kind, int fd);
/* Put the two ends of a pipe or of a connection side by side. */
void put_pair(struct thread *t, enum object kind, const int *pair);
/* Find out the kind of a descriptor, and put it in place of another one. */
void put_unknown_fd(struct thread *t, int fd);
void close_some_fd(struct thread *t);
/* The guestmem with that number, or -1. */
int find_mem(__u64 mem_id);
/* The page size of a guestmem, or PAGE. */
__u64 unit_of(int mem);
/* Most often, move a range into the file. A VM has no size. */
void clip_range(struct thread *t, int fd, __u64 *start, __u64 *length);

/* ---- call.c ---- */

void call_init(void);
/*
 * Make an ioctl with the @size bytes at @arg, which get the results. Sometimes a
 * part of the argument is wrong, an allocation fails in the kernel, or the
 * call comes from the 32-bit entry. 0 or more, or -errno.
 */
int fuzz_ioctl(struct thread *t, int fd, unsigned int cmd, void *arg, size_t size);
/* For other system calls: maybe let an allocation of the kernel fail. */
void maybe_fail(struct thread *t);
void end_fail(struct thread *t);
/* Room for the answers of calls, sometimes in a window. */
void *pick_buffer(struct thread *t, size_t size);

/* ---- memory_ops.c ---- */

void memory_init(void);
/* A place in the arena. */
__u8 *pick_place(struct thread *t, __u64 *length);

/* ---- touch_ops.c ---- */

void touch_setup(void);
/* Let a signal come every 100 ms, which ends what the thread does. */
void start_timer(void);

/* ---- vm_ops.c ---- */

/* A range that the VM has bound, or any other one. */
void pick_vm_range(struct thread *t, int vm, __u64 *gpa, __u64 *length);

/*
 * The place of a page that a VM has bound, where its window is most often mapped;
 * at least a page is left there. Another place if there is none.
 */
__u8 *pick_guest_page(struct thread *t);

/* ---- wait_ops.c ---- */

/* Flags for a new VM: does it wait? */
__u32 pick_wait_flags(struct thread *t);
/* A thread that serves waits. */
void *serve_waits(void *arg);

/* ---- kvm_ops.c ---- */

/* Make a guest with two vCPUs behind the first region, if there is a KVM. */
void kvm_init(struct thread *t, struct thread *first, struct thread *second);

/* ---- round.c ---- */

/* Run the round @seed in this process. Returns the status for exit(). */
int run_round(__u64 seed);
/* Make one call of a thread. */
void make_call(struct thread *t);
/* End the process: something is wrong that no call may cause. */
void give_up(struct thread *t, const char *what, long value);
/* The thread that runs, or NULL. */
struct thread *this_thread(void);

#endif /* FUZZ_FUZZ_H */
