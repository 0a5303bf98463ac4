// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accesses to unbound pages that wait: by instructions of a process and by the
 * kernel's copies. wait_kvm_test.c has the accesses of vCPUs and of vhost.
 */
#include "lib/wait.h"
#include "lib/window_desc.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The window has the guest's addresses from 0 on. */
#define SIZE MIB(8)
#define GPA MIB(4)
/* The pages of the file are filled with this, plus the number of the page. */
#define FILL 10

FIXTURE(wait)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u8 *window;
};

FIXTURE_VARIANT(wait)
{
	__u64 mem_flags;
	__u32 access;
};

VARIANT(wait, 4k_lend, .access = LEND);
VARIANT(wait, 4k_share, .access = SHARE);
VARIANT(wait, 2m_lend, .access = LEND, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(wait)
{
	__u64 i;

	ASSERT_LE(0, gmem_dev());
	if (!(get_features() & GMEM_FEATURE_WAIT))
		SKIP(return, "no waiting");
	if (variant->mem_flags && !takes_huge("live"))
		SKIP(return, NO_HUGE, "live");
	ASSERT_EQ(0, get_stats(&self->before));
	self->vm = new_wait_vm(0);
	ASSERT_LE(0, self->vm);
	self->mem = new_mem(SIZE, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	self->host = map_host(self->mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, self->host);
	for (i = 0; i < SIZE / PAGE; i++)
		self->host[i * PAGE] = FILL + i;
	self->window = map_window(self->vm, 0, SIZE, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->window);
}

FIXTURE_TEARDOWN(wait)
{
	munmap(self->window, SIZE);
	munmap(self->host, SIZE);
	close(self->vm);
	close(self->mem);
	EXPECT_TRUE(stats_settle(&self->before));
}

/* Bind what is at @gpa to the same place of the file. */
static int bind_at(const FIXTURE_DATA(wait) *self,
		   const FIXTURE_VARIANT(wait) *variant, __u64 gpa)
{
	__u64 size = variant->mem_flags ? HUGE_PAGE : PAGE;

	gpa &= ~(size - 1);
	return map_mem(self->vm, gpa, self->mem, gpa, size,
		       variant->access | RWX);
}

#define EXPECT_NO_REFUSAL() EXPECT_EQ(0, last_fault(self->vm).seq)

TEST_F(wait, until_bound)
{
	struct toucher reader = { .at = self->window + GPA + 2 * PAGE };
	struct gmem_waiter_info info[4];
	struct gmem_vm_waiters answer;

	EXPECT_FALSE(has_request(self->vm, 0));
	EXPECT_EQ(0, get_waiters(self->vm, 0, 0, info, 4, &answer));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(has_request(self->vm, 10000));
	ASSERT_EQ(1, get_waiters(self->vm, 0, 0, info, 4, &answer));
	EXPECT_EQ(GPA + 2 * PAGE, info[0].guest_addr);
	EXPECT_EQ(GMEM_ACCESS_READ, info[0].access);
	EXPECT_EQ(1, info[0].nr_threads);
	EXPECT_EQ(reader.tid, (pid_t)info[0].pid);
	EXPECT_EQ(1, answer.nr_threads);
	EXPECT_EQ(1, fd_number(self->vm, "gmem-waiters:"));

	/* It has been reported. */
	EXPECT_FALSE(has_request(self->vm, 0));
	EXPECT_EQ(0, get_waiters(self->vm, 0, 0, info, 4, &answer));
	EXPECT_EQ(1, answer.nr_threads);
	EXPECT_EQ(1, get_waiters(self->vm, GMEM_WAITERS_ALL, 0, info, 4,
				 &answer));
	EXPECT_EQ(GPA + 3 * PAGE, answer.guest_addr);
	EXPECT_FALSE(toucher_done(&reader));

	ASSERT_EQ(0, bind_at(self, variant, GPA + 2 * PAGE));
	EXPECT_EQ((__u8)(FILL + GPA / PAGE + 2), toucher_join(&reader));
	EXPECT_EQ(0, nr_waiting(self->vm));
	EXPECT_NO_REFUSAL();
}

/* A bind of another page wakes nobody. */
TEST_F(wait, for_its_page)
{
	struct toucher writer = { .at = self->window + GPA, .writes = true };

	ASSERT_EQ(0, toucher_start(&writer));
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, bind_at(self, variant, 0));
	usleep(50000);
	EXPECT_FALSE(toucher_done(&writer));
	EXPECT_EQ(1, nr_waiting(self->vm));
	ASSERT_EQ(0, bind_at(self, variant, GPA));
	EXPECT_EQ(0, toucher_join(&writer));
	EXPECT_EQ(77, peek(self->window + GPA));
}

/* Once it is unbound, the next access waits again. */
TEST_F(wait, again_after_unbind)
{
	struct toucher reader = { .at = self->window + GPA };

	ASSERT_EQ(0, bind_at(self, variant, GPA));
	EXPECT_EQ(0, touch_write(self->window + GPA, 55));
	ASSERT_EQ(0, unmap_range(self->vm, 0, SIZE, NULL));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, bind_at(self, variant, GPA));
	EXPECT_EQ(55, toucher_join(&reader));
}

#define NR_MERGED 12

/* Three threads at each page. The oldest request comes first. */
TEST_F(wait, requests_are_merged)
{
	struct gmem_waiter_info info[NR_MERGED];
	struct toucher touchers[NR_MERGED] = {};
	struct gmem_vm_waiters answer;
	int i, page;

	for (i = 0; i < NR_MERGED; i++) {
		/* Pages 3, 2, 1, 0. */
		page = 3 - i / 3;
		touchers[i].at = self->window + GPA + page * PAGE;
		touchers[i].writes = i % 3 == 2;
		ASSERT_EQ(0, toucher_start(&touchers[i]));
		ASSERT_TRUE(waiting(self->vm, i + 1));
	}
	ASSERT_EQ(1, get_waiters(self->vm, 0, 0, info, 1, NULL));
	EXPECT_EQ(GPA + 3 * PAGE, info[0].guest_addr);
	ASSERT_EQ(3, get_waiters(self->vm, 0, 0, info, NR_MERGED, &answer));
	EXPECT_EQ(NR_MERGED, answer.nr_threads);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(GPA + (2 - i) * PAGE, info[i].guest_addr);
		EXPECT_EQ(3, info[i].nr_threads);
		EXPECT_EQ(GMEM_ACCESS_READ | GMEM_ACCESS_WRITE, info[i].access);
		EXPECT_EQ(touchers[3 * i + 3].tid, (pid_t)info[i].pid);
	}
	/* All of them, in the order of their addresses, in two calls. */
	ASSERT_EQ(3, get_waiters(self->vm, GMEM_WAITERS_ALL, 0, info, 3,
				 &answer));
	ASSERT_EQ(1, get_waiters(self->vm, GMEM_WAITERS_ALL, answer.guest_addr,
				 info + 3, 3, &answer));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(GPA + i * PAGE, info[i].guest_addr);

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, GPA,
			     variant->mem_flags ? HUGE_PAGE : 4 * PAGE,
			     variant->access | RWX));
	for (i = 0; i < NR_MERGED; i++)
		EXPECT_LE(0, toucher_join(&touchers[i]));
	EXPECT_EQ(0, nr_waiting(self->vm));
	EXPECT_FALSE(has_request(self->vm, 0));
}

/* --- ranges that fail --- */

TEST_F(wait, until_it_fails)
{
	struct toucher readers[2] = {
		{ .at = self->window + GPA },
		{ .at = self->window + GPA + 8 * PAGE },
	};
	struct gmem_fault_info row;

	ASSERT_EQ(0, toucher_start(&readers[0]));
	ASSERT_EQ(0, toucher_start(&readers[1]));
	ASSERT_TRUE(waiting(self->vm, 2));
	ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, GPA, 8 * PAGE));
	EXPECT_EQ(-SIGBUS, toucher_join(&readers[0]));
	row = last_fault(self->vm);
	EXPECT_EQ(GMEM_FAULT_UNBOUND, row.reason);
	EXPECT_EQ(GPA, row.guest_addr);
	EXPECT_EQ(1, row.count);
	EXPECT_FALSE(toucher_done(&readers[1]));

	/* The state lasts. */
	EXPECT_EQ(-SIGBUS, peek(self->window + GPA));
	EXPECT_EQ(SIGBUS, touch_write(self->window + GPA + 7 * PAGE, 1));
	ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, GPA + 8 * PAGE,
				PAGE));
	EXPECT_EQ(-SIGBUS, toucher_join(&readers[1]));

	/* Now accesses wait again. */
	ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_WAIT, GPA + 4 * PAGE,
				PAGE));
	EXPECT_EQ(-SIGBUS, peek(self->window + GPA + 3 * PAGE));
	EXPECT_EQ(-SIGBUS, peek(self->window + GPA + 5 * PAGE));
	readers[0] = (struct toucher){ .at = self->window + GPA + 4 * PAGE };
	ASSERT_EQ(0, toucher_start(&readers[0]));
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, bind_at(self, variant, GPA + 4 * PAGE));
	EXPECT_LE(0, toucher_join(&readers[0]));
}

/* A bind ends the state of its own range. */
TEST_F(wait, fails_until_bound)
{
	__u64 page = variant->mem_flags ? HUGE_PAGE : PAGE;
	struct toucher reader = { .at = self->window + page };

	ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, 0, 3 * page));
	ASSERT_EQ(0, bind_at(self, variant, page));
	EXPECT_LE(0, peek(self->window + page));
	EXPECT_EQ(-SIGBUS, peek(self->window + page - 1));
	EXPECT_EQ(-SIGBUS, peek(self->window + 2 * page));

	ASSERT_EQ(0, unmap_range(self->vm, page, page, NULL));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, bind_at(self, variant, page));
	EXPECT_LE(0, toucher_join(&reader));

	/* A bound page fails once it is unbound. */
	ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, page, page));
	EXPECT_LE(0, peek(self->window + page));
	ASSERT_EQ(0, unmap_range(self->vm, page, page, NULL));
	EXPECT_EQ(-SIGBUS, peek(self->window + page));
	/* A bind that fails leaves the state as it was. */
	EXPECT_EQ(-EEXIST, map_mem(self->vm, page, self->mem, 0, page,
				   variant->access | RWX) ?:
			   map_mem(self->vm, page, self->mem, 0, page,
				   variant->access | RWX));
}

/* Ranges join, so the whole address space may fail in any order. */
TEST(failing_ranges_are_bounded)
{
	const __u64 limit = 65536, far = GIB(16);
	double begin = now();
	int vm, mem;
	__u64 i;

	if (!(get_features() & GMEM_FEATURE_WAIT))
		SKIP(return, "no waiting");
	vm = new_wait_vm(0);
	ASSERT_LE(0, vm);
	mem = new_mem(4 * PAGE, 0);
	ASSERT_LE(0, mem);
	for (i = 0; i < limit; i++) {
		if (set_absent(vm, GMEM_ABSENT_FAIL, far + 4 * i * PAGE,
			       2 * PAGE))
			break;
		/* A debug kernel checks the whole tree after each change. */
		if (now() > begin + 60)
			SKIP(goto out, "the kernel is too slow");
	}
	ASSERT_EQ(limit, i);
	EXPECT_EQ(-ENOSPC, set_absent(vm, GMEM_ABSENT_FAIL, 0, PAGE));
	/* It joins two others, so there is room for one more. */
	EXPECT_EQ(0, set_absent(vm, GMEM_ABSENT_FAIL, far + 2 * PAGE,
				2 * PAGE));
	EXPECT_EQ(0, set_absent(vm, GMEM_ABSENT_FAIL, 0, 4 * PAGE));
	EXPECT_EQ(-ENOSPC, set_absent(vm, GMEM_ABSENT_FAIL, MIB(1), PAGE));
	/* These would cut a range in two. */
	EXPECT_EQ(-ENOSPC, set_absent(vm, GMEM_ABSENT_WAIT, PAGE, PAGE));
	EXPECT_EQ(-ENOSPC, map_mem(vm, PAGE, mem, 0, PAGE, SHARE | RWX));
	EXPECT_EQ(0, map_mem(vm, 0, mem, 0, PAGE, SHARE | RWX));

	EXPECT_EQ(0, set_absent(vm, GMEM_ABSENT_WAIT, far, 4 * limit * PAGE));
	EXPECT_EQ(0, set_absent(vm, GMEM_ABSENT_WAIT, 2 * PAGE, PAGE));
	EXPECT_EQ(0, map_mem(vm, 2 * PAGE, mem, PAGE, PAGE, SHARE | RWX));
out:
	close(mem);
	close(vm);
}

/* --- ends of a wait --- */

/* The window keeps the VM, but without a descriptor nothing can be bound. */
TEST_F(wait, until_the_last_descriptor_closes)
{
	struct toucher reader = { .at = self->window + GPA };
	int copy = dup(self->vm);
	int window = new_window(self->vm, 0, SIZE, 0, NULL);
	__u8 *other;

	ASSERT_LE(0, copy);
	ASSERT_LE(0, window);
	other = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, window, 0);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, bind_at(self, variant, 0));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	close(self->vm);
	self->vm = -1;
	usleep(50000);
	EXPECT_FALSE(toucher_done(&reader));
	EXPECT_EQ(1, nr_waiting(copy));
	close(copy);
	EXPECT_EQ(-SIGBUS, toucher_join(&reader));
	EXPECT_EQ(-SIGBUS, peek(self->window + GPA));
	EXPECT_EQ(-SIGBUS, peek(other + GPA));
	/* Bindings stay. */
	EXPECT_EQ(FILL, peek(self->window));
	EXPECT_EQ(FILL, peek(other));
	close(window);
	munmap(other, SIZE);
}

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

/* A signal's handler runs, and then the instruction again. */
TEST_F(wait, signal_at_an_instruction)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct toucher reader = { .at = self->window + GPA };
	int i;

	handled = 0;
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	pthread_kill(reader.thread, SIGUSR1);
	for (i = 0; i < 10000 && !handled; i++)
		usleep(1000);
	EXPECT_EQ(1, handled);
	ASSERT_TRUE(waiting(self->vm, 1));
	EXPECT_FALSE(toucher_done(&reader));
	ASSERT_EQ(0, bind_at(self, variant, GPA));
	EXPECT_LE(0, toucher_join(&reader));
	EXPECT_NO_REFUSAL();
}

/* A thread that lets the kernel copy into the window. */
struct copier {
	pthread_t thread;
	int fd;
	__u8 *at;
	int result;
};

static void *copier_main(void *arg)
{
	struct copier *c = arg;

	c->result = err_of(read(c->fd, c->at, 3));
	return NULL;
}

/* The kernel's copy waits, and a signal doesn't end that. */
TEST_F(wait, system_call)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct copier copier = { .at = self->window + GPA };
	int pair[2];

	handled = 0;
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, pipe(pair));
	ASSERT_EQ(3, write(pair[1], "abc", 3));
	copier.fd = pair[0];
	ASSERT_EQ(0, pthread_create(&copier.thread, NULL, copier_main, &copier));
	ASSERT_TRUE(waiting(self->vm, 1));
	pthread_kill(copier.thread, SIGUSR1);
	usleep(100000);
	EXPECT_EQ(0, handled);
	EXPECT_EQ(1, nr_waiting(self->vm));
	ASSERT_EQ(0, bind_at(self, variant, GPA));
	pthread_join(copier.thread, NULL);
	EXPECT_EQ(1, handled);
	EXPECT_EQ(3, copier.result);
	EXPECT_EQ('a', peek(self->window + GPA));

	/* With a page that fails, the copy fails with EFAULT. */
	ASSERT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, 0, PAGE));
	ASSERT_EQ(3, write(pair[1], "abc", 3));
	EXPECT_EQ(-EFAULT, err_of(read(pair[0], self->window, 3)));
	close(pair[0]);
	close(pair[1]);
}

/* A killed process ends, whatever its threads wait in. */
TEST_F(wait, killed)
{
	int pair[2];
	pid_t child;

	ASSERT_EQ(0, pipe(pair));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		__u8 *window = map_window(self->vm, 0, SIZE,
					  PROT_READ | PROT_WRITE);
		struct toucher reader = { .at = window + GPA };
		struct copier copier = { .fd = pair[0], .at = window };

		if (write(pair[1], "abc", 3) == 3 && !toucher_start(&reader) &&
		    !pthread_create(&copier.thread, NULL, copier_main, &copier))
			toucher_join(&reader);
		_exit(1);
	}
	ASSERT_TRUE(waiting(self->vm, 2));
	kill(child, SIGKILL);
	EXPECT_GE(1, reap(child, 20));
	EXPECT_EQ(0, nr_waiting(self->vm));
	close(pair[0]);
	close(pair[1]);
}

static int end_of_task(void *at)
{
	syscall(SYS_set_tid_address, at);
	syscall(SYS_exit, 0);
	return 0;
}

/* The kernel clears a task's number in memory when the task ends. */
TEST_F(wait, end_of_a_task)
{
	__u8 *stack = map_aligned(KIB(64), PAGE);
	pid_t child;

	ASSERT_NE(MAP_FAILED, stack);
	ASSERT_EQ(0, mprotect(stack, KIB(64), PROT_READ | PROT_WRITE));
	child = clone(end_of_task, stack + KIB(64), CLONE_VM | SIGCHLD,
		      self->window + GPA);
	ASSERT_LE(0, child);
	EXPECT_LE(0, reap(child, 10));
	EXPECT_EQ(0, nr_waiting(self->vm));
	munmap(stack, KIB(64));
}

/* A child takes over the first place when the first thread leaves. */
TEST_F(wait, first_one_leaves)
{
	struct toucher reader = { .at = self->window + GPA };
	struct gmem_waiter_info info;
	pid_t child;

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(peek(map_window(self->vm, GPA, PAGE, PROT_READ)) < 0);
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 2));
	ASSERT_EQ(1, get_waiters(self->vm, 0, 0, &info, 1, NULL));
	EXPECT_EQ(child, (pid_t)info.pid);
	kill(child, SIGKILL);
	EXPECT_LE(0, reap(child, 20));
	EXPECT_FALSE(has_request(self->vm, 0));
	ASSERT_EQ(1, get_waiters(self->vm, GMEM_WAITERS_ALL, 0, &info, 1, NULL));
	EXPECT_EQ(reader.tid, (pid_t)info.pid);
	EXPECT_EQ(1, info.nr_threads);
	ASSERT_EQ(0, bind_at(self, variant, GPA));
	EXPECT_LE(0, toucher_join(&reader));
}

/* A reader in another PID namespace sees the threads with its own numbers. */
TEST_F(wait, thread_numbers)
{
	struct toucher reader = { .at = self->window + GPA };
	struct gmem_waiter_info info;
	int status;
	pid_t child;

	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		pid_t inner;

		if (unshare(CLONE_NEWPID))
			_exit(2);
		inner = fork();
		if (!inner) {
			__u8 *window = map_window(self->vm, 0, SIZE, PROT_READ);
			struct toucher own = { .at = window };
			bool right;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			/* It can't see the one outside. */
			right = get_waiters(self->vm, GMEM_WAITERS_ALL, 0,
					    &info, 1, NULL) == 1 && !info.pid;
			right = right && !toucher_start(&own) &&
				waiting(self->vm, 2) &&
				get_waiters(self->vm, GMEM_WAITERS_ALL, 0,
					    &info, 1, NULL) == 1 &&
				info.pid > 1 && info.pid < 10 &&
				(pid_t)info.pid == own.tid;
			_exit(right ? 0 : 1);
		}
		waitpid(inner, &status, 0);
		_exit(WEXITSTATUS(status));
	}
	waitpid(child, &status, 0);
	if (WEXITSTATUS(status) != 2)
		EXPECT_EQ(0, status);
	ASSERT_EQ(0, bind_at(self, variant, GPA));
	EXPECT_LE(0, toucher_join(&reader));
}

/* --- many --- */

/* Threads beyond the number of pages join requests. */
TEST_F(wait, many_waiters)
{
	unsigned long nr = scaled(10000), i, started;
	unsigned long nr_pages = SIZE / PAGE;
	struct gmem_waiter_info *info = calloc(nr_pages, sizeof(*info));
	struct toucher *touchers = calloc(nr, sizeof(*touchers));
	struct gmem_vm_waiters answer;
	__u64 nr_threads = 0;

	ASSERT_NE(NULL, info);
	ASSERT_NE(NULL, touchers);
	for (started = 0; started < nr; started++) {
		touchers[started].at = self->window +
				       started * 7 % nr_pages * PAGE;
		if (toucher_start(&touchers[started]))
			break;
	}
	if (started < nr)
		printf("# only %lu threads\n", started);
	ASSERT_LE(nr / 2, started);
	ASSERT_TRUE(waiting(self->vm, started));
	i = get_waiters(self->vm, 0, 0, info, nr_pages, &answer);
	EXPECT_EQ(started < nr_pages ? started : nr_pages, i);
	while (i--)
		nr_threads += info[i].nr_threads;
	EXPECT_EQ(started, nr_threads);
	EXPECT_EQ(started, answer.nr_threads);
	ASSERT_EQ(0, map_mem(self->vm, 0, self->mem, 0, SIZE,
			     variant->access | RWX));
	for (i = 0; i < started; i++)
		EXPECT_EQ((__u8)(FILL + i * 7 % nr_pages),
			  toucher_join(&touchers[i]));
	EXPECT_EQ(0, nr_waiting(self->vm));
	free(touchers);
	free(info);
}

struct storm {
	FIXTURE_DATA(wait) *self;
	pthread_t thread;
	unsigned int seed;
	unsigned long accesses;
	volatile bool *stop;
	bool wrong;
};

#define STORM_PAGES 16

static void *storm_main(void *arg)
{
	struct storm *s = arg;
	__u8 *at;
	int byte;

	while (!*s->stop) {
		at = s->self->window + rand_r(&s->seed) % STORM_PAGES * PAGE;
		byte = peek(at);
		if (byte != (__u8)(FILL + (at - s->self->window) / PAGE))
			s->wrong = true;
		s->accesses++;
	}
	return NULL;
}

/* No access is lost or refused, whatever is bound and unbound meanwhile. */
TEST_F(wait, storm)
{
	const __u64 size = variant->mem_flags ? HUGE_PAGE : PAGE;
	struct storm storms[4] = {};
	struct gmem_waiter_info info[4];
	unsigned int seed = 1;
	volatile bool stop = false;
	unsigned long requests = 0;
	double end;
	int i, nr;

	for (i = 0; i < 4; i++) {
		storms[i] = (struct storm){
			.self = self, .seed = i, .stop = &stop,
		};
		ASSERT_EQ(0, pthread_create(&storms[i].thread, NULL, storm_main,
					    &storms[i]));
	}
	end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	while (now() < end) {
		nr = get_waiters(self->vm, 0, 0, info, 4, NULL);
		ASSERT_LE(0, nr);
		requests += nr;
		for (i = 0; i < nr; i++)
			bind_at(self, variant, info[i].guest_addr);
		unmap_range(self->vm, rand_r(&seed) % STORM_PAGES * PAGE &
			    ~(size - 1), size, NULL);
	}
	stop = true;
	unmap_range(self->vm, 0, SIZE, NULL);
	ASSERT_EQ(0, map_mem(self->vm, 0, self->mem, 0, SIZE,
			     variant->access | RWX));
	for (i = 0; i < 4; i++) {
		pthread_join(storms[i].thread, NULL);
		EXPECT_LT(0, storms[i].accesses);
		EXPECT_FALSE(storms[i].wrong);
	}
	EXPECT_LT(0, requests);
	EXPECT_EQ(0, nr_waiting(self->vm));
	EXPECT_NO_REFUSAL();
}

/* --- the host's suspend --- */

#define FREEZER "/tmp/freezer"

/* The freezer of the first cgroups freezes tasks as a suspend does. */
TEST_F(wait, frozen)
{
	char state[16] = "";
	int i, file;
	pid_t child;

	mkdir(FREEZER, 0755);
	if (mount("none", FREEZER, "cgroup", 0, "freezer"))
		SKIP(return, "no freezer");
	mkdir(FREEZER "/wait", 0755);
	child = fork();
	if (!child) {
		__u8 *window = map_window(self->vm, 0, SIZE,
					  PROT_READ | PROT_WRITE);
		struct toucher reader = { .at = window + GPA };
		struct copier copier = { .at = window };
		int pair[2];

		write_file(FREEZER "/wait/cgroup.procs", "0");
		if (pipe(pair) || write(pair[1], "abc", 3) != 3)
			_exit(2);
		copier.fd = pair[0];
		if (toucher_start(&reader) ||
		    pthread_create(&copier.thread, NULL, copier_main, &copier))
			_exit(3);
		pthread_join(copier.thread, NULL);
		_exit(toucher_join(&reader) < 0 || copier.result != 3);
	}
	EXPECT_TRUE(waiting(self->vm, 2));
	EXPECT_EQ(0, write_file(FREEZER "/wait/freezer.state", "FROZEN"));
	file = open(FREEZER "/wait/freezer.state", O_RDONLY | O_CLOEXEC);
	for (i = 0; i < 100 && strncmp(state, "FROZEN", 6); i++) {
		usleep(10000);
		if (pread(file, state, sizeof(state) - 1, 0) <= 0)
			break;
	}
	close(file);
	EXPECT_EQ(0, strncmp(state, "FROZEN", 6));
	EXPECT_EQ(0, write_file(FREEZER "/wait/freezer.state", "THAWED"));
	EXPECT_TRUE(waiting(self->vm, 2));
	EXPECT_EQ(0, map_mem(self->vm, 0, self->mem, 0, SIZE,
			     variant->access | RWX));
	EXPECT_EQ(child, waitpid(child, &i, 0));
	EXPECT_EQ(0, i);
	rmdir(FREEZER "/wait");
	umount(FREEZER);
}

/* --- fill and bind --- */

TEST_F(wait, fill)
{
	const __u64 size = variant->mem_flags ? HUGE_PAGE : 2 * PAGE;
	struct toucher reader = { .at = self->window + GPA + PAGE };
	const __u32 flags = variant->access | RWX;
	__u8 *source = malloc(size);
	int read_only;

	ASSERT_NE(NULL, source);
	memset(source, 88, size);
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, fill_mem(self->vm, GPA, self->mem, GPA, size, flags,
			      source));
	EXPECT_EQ(88, toucher_join(&reader));
	EXPECT_EQ(88, peek(self->window + GPA + size - 1));
	EXPECT_EQ(0, touch_write(self->window + GPA, 99));

	/* Bound pages keep what their guest has written. */
	EXPECT_EQ(-EEXIST, fill_mem(self->vm, GPA, self->mem, GPA, size, flags,
				    source));
	EXPECT_EQ(-EEXIST, fill_mem(self->vm, 0, self->mem, GPA, size, flags,
				    source));
	EXPECT_EQ(99, peek(self->window + GPA));
	/* The guest's range is in use. */
	EXPECT_EQ(-EEXIST, fill_mem(self->vm, GPA, self->mem, 0, size, flags,
				    source));

	EXPECT_EQ(-EFAULT, fill_mem(self->vm, 0, self->mem, 0, size, flags,
				    (void *)8));
	EXPECT_EQ(-EINVAL, fill_mem(self->vm, 0, self->mem, 0, size,
				    flags | GMEM_MAP_UNMAP, source));
	EXPECT_EQ(-EINVAL, fill_mem(self->vm, 0, self->mem, 0, size, 0, source));
	EXPECT_EQ(-EINVAL, fill_mem(self->vm, 0, self->mem, SIZE, size, flags,
				    source));
	EXPECT_EQ(-EINVAL, fill_mem(self->vm, 0, self->mem, 0, 0, flags,
				    source));
	EXPECT_EQ(-EINVAL, fill_mem(self->vm, 0, self->mem, 1, size, flags,
				    source));
	EXPECT_EQ(-EBADF, fill_mem(self->vm, 0, -1, 0, size, flags, source));
	EXPECT_EQ(-EINVAL, fill_mem(self->vm, 0, self->vm, 0, size, flags,
				    source));
	read_only = reopen(self->mem, O_RDONLY);
	ASSERT_LE(0, read_only);
	EXPECT_EQ(-EACCES, fill_mem(self->vm, 0, read_only, 0, size,
				    SHARE | RX, source));
	close(read_only);
	free(source);
}

/* The fill has woken the task ahead, and then there is nothing bound. */
TEST_F(wait, fill_that_fails)
{
	const __u64 unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	struct toucher reader = { .at = self->window + GPA };
	const __u32 flags = variant->access | RWX;
	struct gmem_waiter_info info = {};
	__u8 *source = calloc(2, unit);
	int i;

	ASSERT_NE(NULL, source);
	ASSERT_EQ(0, bind_at(self, variant, GPA + unit));
	ASSERT_EQ(0, toucher_start(&reader));
	ASSERT_TRUE(waiting(self->vm, 1));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(-EEXIST, fill_mem(self->vm, GPA, self->mem, 0,
					    2 * unit, flags, source));
	EXPECT_TRUE(waiting(self->vm, 1));
	EXPECT_EQ(1, get_waiters(self->vm, 0, 0, &info, 1, NULL));
	EXPECT_EQ(GPA, info.guest_addr);
	EXPECT_FALSE(has_request(self->vm, 0));
	source[0] = 7;
	ASSERT_EQ(0, fill_mem(self->vm, GPA, self->mem, 0, unit, flags,
			      source));
	EXPECT_EQ(7, toucher_join(&reader));
	EXPECT_NO_REFUSAL();
	free(source);
}

/* Pages that the file lacks, beside one that the host has used. */
TEST_F(wait, fill_absent_pages)
{
	const __u64 unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	const __u64 size = 3 * unit;
	__u8 *source = malloc(size), *host;
	struct gmem_mem_query pages;
	int mem;
	__u64 i;

	ASSERT_NE(NULL, source);
	for (i = 0; i < size; i++)
		source[i] = i / PAGE + i;
	mem = new_mem(SIZE, variant->mem_flags);
	ASSERT_LE(0, mem);
	host = map_host(mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, host);
	host[unit + 5] = 77;
	ASSERT_EQ(0, fill_mem(self->vm, 0, mem, 0, size, variant->access | RWX,
			      source));
	ASSERT_EQ(0, query_mem(mem, 0, SIZE, &pages));
	EXPECT_EQ(size / PAGE, pages.host);
	EXPECT_EQ((SIZE - size) / PAGE, pages.absent);
	EXPECT_EQ(0, memcmp(source, self->window, size));
	EXPECT_EQ(0, memcmp(source, host, size));
	munmap(host, SIZE);
	close(mem);
	ASSERT_EQ(0, unmap_range(self->vm, 0, size, NULL));
	free(source);
}

TEST_F(wait, fill_takes_policy_and_join)
{
	const __u64 size = variant->mem_flags ? HUGE_PAGE : PAGE;
	struct gmem_binding_info info[3];
	struct gmem_vm_fill fill = {
		.size = sizeof(fill),
		.flags = variant->access | RWX,
		.guest_mem_fd = self->mem,
		.length = size,
		.policy = GMEM_POLICY_DENY,
	};
	__u8 *source = malloc(size);
	__u64 i;

	ASSERT_NE(NULL, source);
	memset(source, 88, size);
	fill.source = ptr_u64(source);
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_FILL, &fill)));
	fill.flags |= GMEM_MAP_POLICY | GMEM_MAP_JOIN;
	fill.policy = GMEM_POLICY_DENY + 1;
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_FILL, &fill)));
	EXPECT_EQ(FILL, self->host[0]);

	fill.policy = GMEM_POLICY_DENY;
	for (i = 0; i < 3; i++) {
		/* The third one closes the gap. */
		fill.guest_addr = i * 2 % 3 * size;
		fill.offset = fill.guest_addr;
		ASSERT_EQ(0, err_of(ioctl(self->vm, GMEM_VM_FILL, &fill)));
	}
	ASSERT_EQ(1, query_vm(self->vm, info, ARRAY_SIZE(info)));
	EXPECT_EQ(3 * size, info[0].length);
	EXPECT_EQ(fill.flags & ~(__u32)GMEM_MAP_JOIN, info[0].flags);
	EXPECT_EQ(GMEM_POLICY_DENY, info[0].policy);
	EXPECT_EQ(88, peek(self->window + 2 * size));

	/* Another policy, and no wish to join. */
	fill.policy = GMEM_POLICY_ALLOW;
	fill.guest_addr = 3 * size;
	fill.offset = 3 * size;
	ASSERT_EQ(0, err_of(ioctl(self->vm, GMEM_VM_FILL, &fill)));
	EXPECT_EQ(2, query_vm(self->vm, info, ARRAY_SIZE(info)));
	free(source);
}

/* --- the calls --- */

TEST(needs_a_live_vm)
{
	struct gmem_vm_create create = { .flags = GMEM_VM_WAIT };
	struct gmem_waiter_info info;
	int vm;

	EXPECT_EQ(-EOPNOTSUPP, create_vm("window", create));
	if (have_provider("mock"))
		EXPECT_EQ(-EOPNOTSUPP, create_vm("mock", create));
	create.flags = GMEM_VM_WAIT_SIGNALS;
	EXPECT_EQ(-EINVAL, create_vm("live", create));

	/* Without the flag, it is as always. */
	vm = new_vm(have_provider("live") ? "live" : "window",
		    GMEM_POLICY_ALLOW);
	ASSERT_LE(0, vm);
	EXPECT_EQ(-EOPNOTSUPP, get_waiters(vm, 0, 0, &info, 1, NULL));
	EXPECT_EQ(-EOPNOTSUPP, set_absent(vm, GMEM_ABSENT_FAIL, 0, PAGE));
	EXPECT_FALSE(has_request(vm, 0));
	close(vm);
	EXPECT_EQ(!(get_features() & GMEM_FEATURE_LIVE),
		  !(get_features() & GMEM_FEATURE_WAIT));
}

TEST_F(wait, wrong_values)
{
	struct gmem_waiter_info info[2];
	struct gmem_vm_waiters waiters = {
		.size = sizeof(waiters),
		.nr_entries = 2,
		.entry_size = sizeof(info[0]) - 8,
		.entries = ptr_u64(info),
	};

	EXPECT_EQ(-EINVAL, get_waiters(self->vm, 2, 0, info, 2, NULL));
	EXPECT_EQ(-EINVAL, get_waiters(self->vm, 0, PAGE, info, 2, NULL));
	EXPECT_EQ(-EINVAL, get_waiters(self->vm, GMEM_WAITERS_ALL, 1, info, 2,
				       NULL));
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_WAITERS, &waiters)));
	EXPECT_EQ(-EINVAL, set_absent(self->vm, 2, 0, PAGE));
	EXPECT_EQ(-EINVAL, set_absent(self->vm, GMEM_ABSENT_FAIL, 0, 0));
	EXPECT_EQ(-EINVAL, set_absent(self->vm, GMEM_ABSENT_FAIL, 1, PAGE));
	EXPECT_EQ(-EINVAL, set_absent(self->vm, GMEM_ABSENT_FAIL, 1ULL << 52,
				      PAGE));
	EXPECT_EQ(-EOVERFLOW, set_absent(self->vm, GMEM_ABSENT_FAIL, -PAGE,
					 2 * PAGE));
	/* The whole address space, and back. */
	EXPECT_EQ(0, set_absent(self->vm, GMEM_ABSENT_FAIL, 0, 1ULL << 52));
	EXPECT_EQ(-SIGBUS, peek(self->window));
	EXPECT_EQ(0, set_absent(self->vm, GMEM_ABSENT_WAIT, 0, 1ULL << 52));
}

/* A caller that knows larger entries gets zeroes behind those of the kernel. */
TEST_F(wait, larger_entries)
{
	struct {
		struct gmem_waiter_info info;
		__u64 more;
	} entry[2];
	struct gmem_vm_waiters waiters = {
		.size = sizeof(waiters),
		.nr_entries = 2,
		.entry_size = sizeof(entry[0]),
		.entries = ptr_u64(entry),
	};
	struct toucher readers[2] = {
		{ .at = self->window + GPA },
		{ .at = self->window + GPA + PAGE },
	};

	memset(entry, 0xff, sizeof(entry));
	ASSERT_EQ(0, toucher_start(&readers[0]));
	ASSERT_TRUE(waiting(self->vm, 1));
	ASSERT_EQ(0, toucher_start(&readers[1]));
	ASSERT_TRUE(waiting(self->vm, 2));
	EXPECT_EQ(0, err_of(ioctl(self->vm, GMEM_VM_WAITERS, &waiters)));
	EXPECT_EQ(2, waiters.nr_entries);
	EXPECT_EQ(GPA, entry[0].info.guest_addr);
	EXPECT_EQ(0, entry[0].more);
	EXPECT_EQ(GPA + PAGE, entry[1].info.guest_addr);
	EXPECT_EQ(0, entry[1].more);
	ASSERT_EQ(0, map_mem(self->vm, 0, self->mem, 0, SIZE,
			     variant->access | RWX));
	EXPECT_LE(0, toucher_join(&readers[0]));
	EXPECT_LE(0, toucher_join(&readers[1]));
}

TEST_HARNESS_MAIN
