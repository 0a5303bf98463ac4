// SPDX-License-Identifier: GPL-2.0-only
/* One round: a process whose threads make calls until it is time to stop. */
#include "fuzz.h"

#include <sys/resource.h>
#include <sys/syscall.h>

static const struct op *const op_lists[] = {
	device_ops, vm_ops, change_ops, wait_ops, mem_ops, memory_ops, touch_ops,
	process_ops, kvm_ops, observe_ops,
};

/* How long after the round's time its process waits for threads that wait. */
#define UNSERVED 5

static const struct op *ops[MAX_OPS];
static unsigned int nr_ops, total_weight;

static __thread struct thread *running;

struct thread *this_thread(void)
{
	return running;
}

void give_up(struct thread *t, const char *what, long value)
{
	snprintf(shared->error, sizeof(shared->error),
		 "%s: %ld (thread %d, call %lu: %s)", what, value,
		 t ? (int)t->id : -1, t ? t->call : 0, t ? t->name : "");
	_exit(1);
}

static void collect_ops(void)
{
	const struct op *op;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(op_lists); i++)
		for (op = op_lists[i]; op->name && nr_ops < MAX_OPS; op++) {
			ops[nr_ops++] = op;
			total_weight += op->weight;
		}
}

/* Spread the numbers of round, thread and call over all bits. */
static __u64 mix(__u64 seed, __u64 thread, __u64 call)
{
	__u64 x = seed + thread * 0x9e3779b97f4a7c15ULL + call * 0xbf58476d1ce4e5b9ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void make_call(struct thread *t)
{
	unsigned int i = 0, at;
	double begin = now();

	t->call++;
	/* A child process gets other random numbers than its parent. */
	t->random = mix(t->seed, t->id + (t->forked ? NR_THREADS : 0), t->call);
	at = rnd(t, total_weight);
	while (at >= ops[i]->weight)
		at -= ops[i++]->weight;
	t->name = ops[i]->name;
	if (options.trace) {
		char line[128];
		int length = snprintf(line, sizeof(line), "# %s%d/%lu %s\n",
				      t->forked ? "child of " : "", t->id, t->call,
				      t->name);

		if (write(STDOUT_FILENO, line, length) < 0)
			_exit(1);
	}
	ops[i]->fn(t);
	/* Threads may lose each other's counts, which are only for reading. */
	shared->tally[i].name = ops[i]->name;
	shared->tally[i].nr++;
	shared->tally[i].seconds += now() - begin;
}

static void *run_thread(void *arg)
{
	struct thread *t = arg;

	running = t;
	t->tid = syscall(__NR_gettid);
	t->nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	start_timer();
	while (!shared->stop && (!options.calls || t->call < options.calls))
		make_call(t);
	__atomic_sub_fetch(&shared->nr_running, 1, __ATOMIC_RELAXED);
	return NULL;
}

int run_round(__u64 seed)
{
	struct thread *threads = shared->thread, setup = { .id = 0 };
	double end = now() + options.round_seconds;
	static struct thread server;
	pthread_attr_t attr;
	int i;

	/* This bounds what descriptors in sockets can hold. */
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 256, 256 });
	setup.random = mix(seed, ~0ULL, 0);
	running = &setup;
	setup.name = "setup";
	touch_setup();
	call_init();
	memory_init();
	collect_ops();
	/* Such VMs may stop threads, so half of the rounds have none. */
	shared->may_wait = once(&setup, 2) && get_features() & GMEM_FEATURE_WAIT;
	objects_init(&setup);
	for (i = 0; i < NR_THREADS; i++)
		threads[i] = (struct thread){ .id = i, .seed = seed, .nth_fd = -1,
					      .name = "" };
	kvm_init(&setup, &threads[0], &threads[1]);

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, KIB(256));
	server.id = NR_THREADS;
	server.random = setup.random;
	if (shared->may_wait)
		pthread_create(&server.thread, &attr, serve_waits, &server);
	for (i = 0; i < NR_THREADS; i++) {
		if (options.thread >= 0 && options.thread != i)
			continue;
		__atomic_add_fetch(&shared->nr_running, 1, __ATOMIC_RELAXED);
		pthread_create(&threads[i].thread, &attr, run_thread, &threads[i]);
	}
	while (shared->nr_running) {
		usleep(20000);
		if (!options.calls && now() > end)
			shared->stop = 1;
		/* A wait that nobody can serve ends with the process. */
		if (shared->may_wait && now() > end + UNSERVED)
			break;
	}
	/* The end of the process closes all, in whatever order. */
	return 0;
}
