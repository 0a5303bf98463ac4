// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rows of refused accesses: their threads, their size, and poll(). query_test
 * has their order and their numbers.
 */
#include "lib/fixture.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define GPA GIB(1)

FIXTURE(faults)
{
	struct gmem_stats before;
	int vm;
};

FIXTURE_VARIANT(faults)
{
	const char *provider;
};

VARIANTS_PROVIDER(faults);

FIXTURE_SETUP(faults)
{
	SKIP_UNLESS_PROVIDER(variant->provider);
	SETUP_STATS();
	self->vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->vm);
}

FIXTURE_TEARDOWN(faults)
{
	close_guest(self->vm);
	TEARDOWN_STATS();
}

static __u32 thread_id(void)
{
	return syscall(SYS_gettid);
}

/* Is there something to read? */
static int ready(int vm, int ms)
{
	struct pollfd p = { .fd = vm, .events = POLLIN | POLLPRI };

	return poll(&p, 1, ms) < 0 ? -errno : p.revents;
}

struct touch {
	int vm;
	__u64 gpa;
	__u32 id;
	int ret;
};

static void *touch_once(void *arg)
{
	struct touch *t = arg;

	t->id = thread_id();
	t->ret = guest_read(t->vm, t->gpa);
	return NULL;
}

/* Touch an unbound page in a thread of its own. */
static __u32 touch_by_thread(int vm, __u64 gpa)
{
	struct touch t = { .vm = vm, .gpa = gpa };
	pthread_t thread;

	if (pthread_create(&thread, NULL, touch_once, &t))
		return 0;
	pthread_join(thread, NULL);
	return t.ret == -EFAULT ? t.id : 0;
}

TEST_F(faults, thread)
{
	struct gmem_fault_info f[4];
	__u32 first, second;

	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA));
	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA));
	/* A thread that has ended keeps its number. */
	first = touch_by_thread(self->vm, GPA);
	second = touch_by_thread(self->vm, GPA);
	ASSERT_NE(0, first);
	ASSERT_NE(0, second);
	memset(f, 0xff, sizeof(f));
	ASSERT_EQ(first == second ? 2 : 3, get_faults(self->vm, 0, f, 4, NULL));
	EXPECT_EQ(thread_id(), f[0].pid);
	EXPECT_EQ(0, f[0].reserved);
	EXPECT_EQ(2, f[0].count);
	EXPECT_EQ(first, f[1].pid);
	if (first != second)
		EXPECT_EQ(second, f[2].pid);
}

/* The number is that of the reader's namespace. */
TEST_F(faults, namespace)
{
	struct gmem_fault_info f[2] = {};
	__u32 *seen;
	int status;
	pid_t pid;

	seen = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, seen);
	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (unshare(CLONE_NEWPID))
			_exit(4);
		pid = fork();
		if (!pid) {
			/* The first row is of a stranger, the second its own. */
			guest_read(self->vm, GPA + PAGE);
			_exit(get_faults(self->vm, 0, f, 2, NULL) != 2 ||
			      f[0].pid || f[1].pid != 1);
		}
		*seen = pid;
		_exit(waitpid(pid, &status, 0) != pid || status);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	if (WEXITSTATUS(status) == 4)
		SKIP(return, "no PID namespaces");
	EXPECT_EQ(0, status);
	ASSERT_EQ(2, get_faults(self->vm, 0, f, 2, NULL));
	EXPECT_EQ(thread_id(), f[0].pid);
	EXPECT_EQ(*seen, f[1].pid);
	munmap(seen, PAGE);
}

TEST_F(faults, poll)
{
	struct gmem_vm_faults a;
	struct gmem_fault_info f[4];

	EXPECT_EQ(0, ready(self->vm, 0));
	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA));
	EXPECT_EQ(POLLPRI, ready(self->vm, 0));
	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA + PAGE));

	/* A call that returns no row, or not all rows, leaves some to read. */
	EXPECT_EQ(0, get_faults(self->vm, 0, f, 0, NULL));
	EXPECT_EQ(0, get_faults(self->vm, ~0ULL, f, 4, NULL));
	EXPECT_EQ(-EFAULT, get_faults(self->vm, 0, NULL, 4, NULL));
	EXPECT_EQ(POLLPRI, ready(self->vm, 0));
	ASSERT_EQ(1, get_faults(self->vm, 0, f, 1, &a));
	EXPECT_EQ(POLLPRI, ready(self->vm, 0));
	ASSERT_EQ(1, get_faults(self->vm, a.seq, f, 1, &a));
	EXPECT_EQ(0, ready(self->vm, 0));

	/* A row that has grown is new; one that is read again isn't. */
	ASSERT_EQ(2, get_faults(self->vm, 0, f, 4, NULL));
	EXPECT_EQ(0, ready(self->vm, 0));
	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA + PAGE));
	EXPECT_EQ(POLLPRI, ready(self->vm, 0));
	ASSERT_EQ(1, get_faults(self->vm, a.seq, f, 4, NULL));
	EXPECT_EQ(0, ready(self->vm, 0));
}

static void *touch_later(void *arg)
{
	usleep(50000);
	return touch_once(arg);
}

/* A task that sleeps in poll() wakes up, and epoll's edge comes for each access. */
TEST_F(faults, wakes)
{
	struct epoll_event event = { .events = EPOLLPRI | EPOLLET };
	struct touch t = { .vm = self->vm, .gpa = GPA };
	pthread_t thread;
	int epoll, i;

	ASSERT_EQ(0, pthread_create(&thread, NULL, touch_later, &t));
	EXPECT_EQ(POLLPRI, ready(self->vm, 10000));
	pthread_join(thread, NULL);

	epoll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, epoll);
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, self->vm, &event));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(1, epoll_wait(epoll, &event, 1, 0));
		EXPECT_EQ(EPOLLPRI, event.events);
		EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
		EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA));
	}
	close(epoll);
}

/* As a program that knows only the first version of struct and entry. */
TEST_F(faults, older_caller)
{
	struct { __u32 size, nr; __u64 seq, lost, entries; } old;
	__u64 row[12];

	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA));
	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA + PAGE));
	memset(row, 0xff, sizeof(row));
	old = (typeof(old)){ .size = 32, .nr = 3, .entries = ptr_u64(row) };
	ASSERT_EQ(0, ioctl(self->vm, GMEM_VM_FAULTS, &old));
	EXPECT_EQ(2, old.nr);
	EXPECT_EQ(1, row[0]);
	EXPECT_EQ(GPA, row[1]);
	EXPECT_EQ(1, row[3]);
	EXPECT_EQ(2, row[4]);
	EXPECT_EQ(GPA + PAGE, row[5]);
	EXPECT_EQ(~0ULL, row[8]);
}

TEST_F(faults, entry_size)
{
	__u64 page[MAX_ENTRY / 8 + 1];
	struct gmem_vm_faults faults;
	struct gmem_vm_query query;
	__u32 size;
	int mem;

	ASSERT_EQ(-EFAULT, guest_read(self->vm, GPA));
	mem = new_mem(PAGE, 0);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, map_mem(self->vm, GPA, mem, 0, PAGE, SHARE | RWX));
	for (size = 0; size <= MAX_ENTRY + 8; size += 4) {
		faults = (struct gmem_vm_faults){
			.size = sizeof(faults),
			.nr_entries = 1,
			.entries = ptr_u64(page),
			.entry_size = size,
		};
		query = (struct gmem_vm_query){
			.size = sizeof(query),
			.nr_entries = 1,
			.guest_addr = GPA,
			.length = PAGE,
			.entries = ptr_u64(page),
			.entry_size = size,
		};
		memset(page, 0xff, sizeof(page));
		if (size < 32 || size > MAX_ENTRY || size % 8) {
			EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm,
							GMEM_VM_FAULTS,
							&faults)));
		} else {
			EXPECT_EQ(0, ioctl(self->vm, GMEM_VM_FAULTS, &faults));
			EXPECT_EQ(GPA, page[1]);
			EXPECT_EQ(~0ULL, page[size / 8]);
			if (size > sizeof(struct gmem_fault_info))
				EXPECT_EQ(0, page[size / 8 - 1]);
			EXPECT_EQ(size < sizeof(struct gmem_fault_info) ? size :
					  sizeof(struct gmem_fault_info),
				  faults.entry_size);
		}
		memset(page, 0xff, sizeof(page));
		if (!size) {
			EXPECT_EQ(0, ioctl(self->vm, GMEM_VM_QUERY, &query));
			EXPECT_EQ(GPA, page[0]);
			EXPECT_EQ(~0ULL, page[5]);
			EXPECT_EQ(40, query.entry_size);
		} else if (size < 40 || size > MAX_ENTRY || size % 8) {
			EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_QUERY,
							&query)));
		} else {
			EXPECT_EQ(0, ioctl(self->vm, GMEM_VM_QUERY, &query));
			EXPECT_EQ(GPA, page[0]);
			EXPECT_EQ(~0ULL, page[size / 8]);
			if (size > sizeof(struct gmem_binding_info))
				EXPECT_EQ(0, page[size / 8 - 1]);
		}
	}
	faults = (struct gmem_vm_faults){
		.size = sizeof(faults),
		.entry_size = sizeof(struct gmem_fault_info),
		.reserved = 1,
	};
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_FAULTS, &faults)));
	query.entry_size = sizeof(struct gmem_binding_info);
	query.reserved = 1;
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_QUERY, &query)));
	close(mem);
}

TEST_HARNESS_MAIN
