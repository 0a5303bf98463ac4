// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings of a guestmem and of a VM (windows), and the kernel's operations on
 * them.
 */
#include "lib/fixture.h"
#include "lib/view.h"
#include "lib/window_desc.h"

#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/time.h>

#define UNITS 8
#define GPA GIB(1)

FIXTURE(mapping)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
};

FIXTURE_VARIANT(mapping)
{
	const char *provider;
	__u64 mem_flags;
};

EACH_SIZE(VARIANT, mapping, window, .provider = "window");
EACH_SIZE(VARIANT, mapping, live, .provider = "live");

FIXTURE_SETUP(mapping)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
}

FIXTURE_TEARDOWN(mapping)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

#define BIND(first, nr, access)						\
	ASSERT_EQ(0, map_mem(self->vm, GPA + (first) * self->unit,	\
			     self->mem, (first) * self->unit,		\
			     (nr) * self->unit, (access)))

#define WINDOW(first, nr)						\
	map_window(self->vm, GPA + (first) * self->unit,		\
		   (nr) * self->unit, PROT_READ | PROT_WRITE)

static int mmap_errno(int fd, __u64 offset, __u64 size, int prot, int flags)
{
	void *p = mmap(NULL, size, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, size);
	return 0;
}

#define WINDOW_ERRNO(first, nr)						\
	mmap_errno(self->vm, GPA + (first) * self->unit,		\
		   (nr) * self->unit, PROT_READ | PROT_WRITE, MAP_SHARED)

TEST_F(mapping, private_mapping_is_refused)
{
	int ro = reopen(self->mem, O_RDONLY);

	ASSERT_LE(0, ro);
	EXPECT_EQ(-EINVAL, mmap_errno(self->mem, 0, self->size, PROT_READ,
				      MAP_PRIVATE));
	EXPECT_EQ(-EINVAL, mmap_errno(self->mem, 0, self->size,
				      PROT_READ | PROT_WRITE, MAP_PRIVATE));
	EXPECT_EQ(-EINVAL,
		  mmap_errno(ro, 0, self->size, PROT_READ, MAP_PRIVATE));
	EXPECT_EQ(-EINVAL, mmap_errno(self->vm, 0, self->size, PROT_READ,
				      MAP_PRIVATE));
	BIND(0, UNITS, LEND | RWX);
	EXPECT_EQ(-EINVAL, mmap_errno(self->vm, GPA, self->size, PROT_READ,
				      MAP_PRIVATE));
	close(ro);
}

/* B20: a read-only descriptor's shared mapping was refused. */
TEST_F(mapping, b20_read_only_descriptor)
{
	int ro = reopen(self->mem, O_RDONLY);
	int wo = reopen(self->mem, O_WRONLY);
	__u8 *map;

	ASSERT_LE(0, ro);
	ASSERT_EQ(0, touch_write(self->host, 7));
	map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, ro, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(7, peek(map));
	EXPECT_EQ(SIGSEGV, touch_write(map, 1));
	EXPECT_EQ(-1, mprotect(map, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	munmap(map, self->size);
	EXPECT_EQ(-EACCES, mmap_errno(ro, 0, self->size, PROT_READ | PROT_WRITE,
				      MAP_SHARED));
	EXPECT_EQ(-EACCES,
		  mmap_errno(wo, 0, self->size, PROT_READ, MAP_SHARED));
	EXPECT_EQ(-EBADF, mem_alloc(ro, 0, 0, self->unit));
	EXPECT_EQ(-EBADF, mem_alloc(ro, PUNCH, 0, self->unit));
	close(ro);
	close(wo);
}

TEST_F(mapping, beyond_the_end)
{
	__u8 *map =
		map_host(self->mem, self->size - self->unit, 2 * self->unit);

	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, touch_write(map + self->unit - 1, 1));
	EXPECT_EQ(SIGBUS, touch_read(map + self->unit));
	EXPECT_EQ(SIGBUS, touch_write(map + 2 * self->unit - 1, 1));
	munmap(map, 2 * self->unit);
	EXPECT_EQ(-EINVAL, mem_alloc(self->mem, 0, self->size, self->unit));
	EXPECT_EQ(-EINVAL, mem_alloc(self->mem, PUNCH, self->size - self->unit,
				     2 * self->unit));

	/* The window ends with the address space. */
	EXPECT_EQ(-EINVAL, mmap_errno(self->vm, 1ULL << 52, PAGE, PROT_READ,
				      MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->vm, (1ULL << 52) - PAGE, 2 * PAGE,
				      PROT_READ, MAP_SHARED));
	EXPECT_EQ(0, mmap_errno(self->vm, (1ULL << 52) - PAGE, PAGE, PROT_READ,
				MAP_SHARED));
	EXPECT_EQ(-EOVERFLOW, mmap_errno(self->vm, -PAGE, 2 * PAGE, PROT_READ,
					 MAP_SHARED));
}

/* A live window shows what is bound, whenever and however it was mapped. */
static void live_window_and_bindings(struct __test_metadata *_metadata,
				     FIXTURE_DATA(mapping) *self, __u8 *window)
{
	const __u64 u = self->unit;
	__u8 *around;
	int i;

	for (i = 0; i < 6; i++)
		EXPECT_EQ(0, touch_write(window + i * u, 10 + i));
	EXPECT_EQ(SIGBUS, touch_read(window + 7 * u));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(self->vm));

	/* Across all bindings and what is around them. */
	around = map_window(self->vm, GPA - u, self->size + 2 * u, PROT_READ);
	ASSERT_NE(MAP_FAILED, around);
	for (i = 0; i < 6; i++)
		EXPECT_EQ(10 + i, peek(around + (i + 1) * u));
	EXPECT_EQ(SIGBUS, touch_read(around));
	EXPECT_EQ(SIGBUS, touch_read(around + 7 * u));
	EXPECT_EQ(SIGSEGV, touch_write(around + u, 1));
	munmap(around, self->size + 2 * u);
}

/*
 * A paged window shows the binding that it was mapped onto, and nothing else.
 */
TEST_F(mapping, window_and_bindings)
{
	const __u64 u = self->unit;
	struct gmem_fault_info f;
	__u8 *hole, *one;

	hole = WINDOW(0, UNITS);
	ASSERT_NE(MAP_FAILED, hole);
	EXPECT_EQ(SIGBUS, touch_read(hole + 2 * u + 5));
	f = last_fault(self->vm);
	EXPECT_EQ(GMEM_FAULT_UNBOUND, f.reason);
	EXPECT_EQ(GPA + 2 * u, f.guest_addr);
	EXPECT_EQ(GMEM_ACCESS_READ, f.access);
	EXPECT_EQ(SIGBUS, touch_write(hole, 1));
	EXPECT_EQ(GMEM_ACCESS_WRITE, last_fault(self->vm).access);

	BIND(0, 4, LEND | RWX);
	BIND(4, 2, LEND | RWX);
	if (is_live(variant->provider)) {
		live_window_and_bindings(_metadata, self, hole);
		munmap(hole, self->size);
		return;
	}
	/* Ranges that are bound later need another mmap(). */
	EXPECT_EQ(SIGBUS, touch_read(hole + 2 * u));
	EXPECT_EQ(GMEM_FAULT_STALE, last_reason(self->vm));
	EXPECT_EQ(SIGBUS, touch_read(hole + 7 * u));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(self->vm));
	ASSERT_NE(MAP_FAILED, mmap(hole, 4 * u, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, self->vm, GPA));
	EXPECT_EQ(0, touch_write(hole + 2 * u, 12));
	EXPECT_EQ(12, peek(hole + 2 * u));
	EXPECT_EQ(SIGBUS, touch_read(hole + 4 * u));

	/*
	 * Neither a hole nor bound: across the end of a binding, around one,
	 * across two that have other rights.
	 */
	EXPECT_EQ(-EINVAL, WINDOW_ERRNO(5, 2));
	BIND(6, 1, LEND | RX);
	EXPECT_EQ(-EINVAL, WINDOW_ERRNO(5, 2));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + 6 * u, u, NULL));
	EXPECT_EQ(-EINVAL, mmap_errno(self->vm, GPA - u, 2 * u, PROT_READ,
				      MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->vm, GPA - u, self->size + 2 * u,
				      PROT_NONE, MAP_SHARED));

	/* On either side of a binding, a hole begins. */
	EXPECT_EQ(0, WINDOW_ERRNO(6, 2));
	EXPECT_EQ(0, mmap_errno(self->vm, 0, GPA, PROT_READ, MAP_SHARED));

	/* A window may show a part of a binding, or two that continue each other. */
	one = WINDOW(2, 1);
	ASSERT_NE(MAP_FAILED, one);
	EXPECT_EQ(12, peek(one));
	munmap(one, u);
	one = WINDOW(2, 4);
	ASSERT_NE(MAP_FAILED, one);
	EXPECT_EQ(12, peek(one));
	EXPECT_EQ(0, touch_write(one + 2 * u, 14));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + 4 * u, 2 * u, NULL));
	EXPECT_EQ(SIGBUS, touch_read(one + 2 * u));
	EXPECT_EQ(12, peek(one));
	munmap(one, 4 * u);
	munmap(hole, self->size);
}

TEST_F(mapping, window_after_rebinding)
{
	const __u64 u = self->unit;
	__u8 *window;

	BIND(0, 2, LEND | RWX);
	window = WINDOW(0, 2);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 1));
	ASSERT_EQ(0, touch_write(window + u, 2));

	/* Unbind a part, then all. */
	ASSERT_EQ(0, unmap_range(self->vm, GPA, u, NULL));
	EXPECT_EQ(-SIGBUS, peek(window));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(self->vm));
	EXPECT_EQ(2, peek(window + u));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, 2 * u, NULL));
	EXPECT_EQ(-SIGBUS, peek(window + u));

	/* Bind another range of the file. */
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, u, u, LEND | RWX));
	if (is_live(variant->provider)) {
		EXPECT_EQ(2, peek(window));
	} else {
		EXPECT_EQ(-SIGBUS, peek(window));
		EXPECT_EQ(GMEM_FAULT_STALE, last_reason(self->vm));
	}
	EXPECT_EQ(2, guest_read(self->vm, GPA));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, u, NULL));

	/* Bind the same range without the right to write. */
	BIND(0, 2, LEND | RX);
	if (is_live(variant->provider)) {
		EXPECT_EQ(1, peek(window));
		EXPECT_EQ(SIGBUS, touch_write(window, 3));
		EXPECT_EQ(GMEM_FAULT_PERM, last_reason(self->vm));
		EXPECT_EQ(SIGBUS, touch_write(window + u, 3));
		EXPECT_EQ(GMEM_FAULT_PERM, last_reason(self->vm));
		EXPECT_EQ(1, peek(window));
	} else {
		EXPECT_EQ(-SIGBUS, peek(window));
		EXPECT_EQ(GMEM_FAULT_STALE, last_reason(self->vm));
	}
	ASSERT_EQ(0, unmap_range(self->vm, GPA, 2 * u, NULL));

	/* Bind the same range again, lent or shared. */
	BIND(0, 2, SHARE | RWX);
	EXPECT_EQ(1, peek(window));
	EXPECT_EQ(2, peek(window + u));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, 2 * u, NULL));
	BIND(0, 2, LEND | RWX);
	EXPECT_EQ(1, peek(window));
	EXPECT_EQ(2, peek(window + u));
	munmap(window, 2 * u);
}

/*
 * Pieces of a window that is split, moved and partly unmapped are still
 * windows.
 */
TEST_F(mapping, window_surgery)
{
	const __u64 u = self->unit;
	__u8 *window, *moved;
	int i;

	BIND(0, UNITS, LEND | RWX);
	window = WINDOW(0, UNITS);
	ASSERT_NE(MAP_FAILED, window);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(window + i * u, i));
	ASSERT_EQ(0, munmap(window + 3 * u, u));
	ASSERT_EQ(0, mprotect(window + u, u, PROT_READ));
	EXPECT_EQ(SIGSEGV, touch_write(window + u, 1));
	EXPECT_EQ(SIGSEGV, touch_read(window + 3 * u));
	moved = mremap(window + 5 * u, 2 * u, 2 * u, MREMAP_MAYMOVE |
		       MREMAP_FIXED, window - GIB(4));
	ASSERT_EQ(window - GIB(4), moved);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(5 + i, peek(moved + i * u));
	EXPECT_EQ(SIGSEGV, touch_read(window + 5 * u));
	EXPECT_EQ(7, peek(window + 7 * u));
	/* They can't grow. */
	EXPECT_EQ(MAP_FAILED, mremap(moved, 2 * u, 4 * u, MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(self->host, self->size, 2 * self->size,
				     MREMAP_MAYMOVE));
	/* An unmap takes back all pieces. */
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(SIGBUS, touch_read(moved));
	EXPECT_EQ(SIGBUS, touch_read(window));
	munmap(moved, 2 * u);
	munmap(window, self->size);
}

/* mprotect() gives no permission that the present binding doesn't have. */
TEST_F(mapping, window_gains_no_permission)
{
	__u8 *window;

	BIND(1, 1, SHARE | RWX);
	window = WINDOW(1, 1);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, mprotect(window, self->unit, PROT_READ));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + self->unit, self->unit, NULL));
	BIND(1, 1, SHARE | RX);
	self->host[self->unit] = 33;
	ASSERT_EQ(33, peek(window));

	ASSERT_EQ(-1, mprotect(window, self->unit, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_NE(0, touch_write(window, 34));
	EXPECT_EQ(33, peek(self->host + self->unit));
	munmap(window, self->unit);
}

/* remap_file_pages() can't move a window to an unbound part of the file. */
TEST_F(mapping, window_cant_be_moved_in_the_file)
{
	__u8 *window;

	BIND(1, 1, LEND | RWX);
	self->host[3 * self->unit] = 99;
	window = WINDOW(1, 1);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(-1, remap_file_pages(window, self->unit, 0,
				       3 * self->unit / PAGE, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(0, peek(window));
	munmap(window, self->unit);
}

/* mprotect() can't make a window that shows nothing show a binding. */
TEST_F(mapping, hole_cant_be_moved_in_the_guest)
{
	__u8 *hole;

	BIND(1, 1, LEND | RWX);
	hole = WINDOW(4, 1);
	ASSERT_NE(MAP_FAILED, hole);
	ASSERT_EQ(-1, remap_file_pages(hole, self->unit, 0,
				       (GPA + self->unit) / PAGE, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_NE(0, touch_read(hole));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(self->vm));
	munmap(hole, self->unit);
}

/* A forked child inherits the guestmem's mapping, but no window. */
TEST_F(mapping, fork)
{
	__u8 *window, *inherited;
	bool inherits;
	int status;
	pid_t pid;

	BIND(0, UNITS, LEND | RWX);
	window = WINDOW(0, 1);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 1));
	/* After MADV_DOFORK, a child inherits a window. */
	inherited = WINDOW(1, 1);
	ASSERT_NE(MAP_FAILED, inherited);
	/* Kernels after 6.12 refuse that. */
	inherits = !madvise(inherited, self->unit, MADV_DOFORK);
	ASSERT_EQ(0, touch_write(inherited, 2));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int bad = 0;

		bad |= touch_read(window) != SIGSEGV;
		bad |= (page_state(self->mem, 0) != 'l') << 1;
		bad |= (peek(self->host) != 1) << 2;
		bad |= (page_state(self->mem, 0) != 'h') << 3;
		bad |= (peek(inherited) != (inherits ? 2 : -SIGSEGV)) << 4;
		bad |= (page_state(self->mem, self->unit) != 'l') << 5;
		_exit(bad);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, peek(window));
	EXPECT_EQ(2, peek(inherited));
	munmap(window, self->unit);
	munmap(inherited, self->unit);
}

/*
 * Neither guest memory nor a window is in a core dump, and no advice can add
 * it.
 */
TEST_F(mapping, core_dump)
{
	__u8 *window, *hole;

	BIND(0, 4, LEND | RWX);
	window = WINDOW(0, 1);
	hole = WINDOW(6, 1);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_NE(MAP_FAILED, hole);
	if (!vm_flag(&self, " "))
		SKIP(return, "no VmFlags in smaps");
	EXPECT_FALSE(vm_flag(&self, " dd"));
	EXPECT_TRUE(vm_flag(self->host, " dd"));
	EXPECT_TRUE(vm_flag(window, " dd"));
	EXPECT_TRUE(vm_flag(hole, " dd"));
	EXPECT_TRUE(vm_flag(window, " dc"));
	EXPECT_TRUE(vm_flag(hole, " dc"));
	EXPECT_EQ(-1, madvise(self->host, self->size, MADV_DODUMP));
	EXPECT_EQ(-1, madvise(window, self->unit, MADV_DODUMP));
	EXPECT_EQ(-1, madvise(hole, self->unit, MADV_DODUMP));
	munmap(window, self->unit);
	munmap(hole, self->unit);
}

/*
 * Locked memory would look pinned, so mlock() at most faults pages in; at a lent
 * page, that fails.
 */
TEST_F(mapping, mlock_has_no_effect)
{
	__u64 i;

	BIND(0, UNITS, LEND | RWX);
	EXPECT_EQ(0, mlock(self->host, self->size));
	EXPECT_EQ(0, mlock2(self->host, self->size, MLOCK_ONFAULT));
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	EXPECT_EQ(-ENOMEM, err_of(mlock(self->host, self->size)));
	EXPECT_FALSE(vm_flag(self->host, " lo"));
	for (i = 0; i < self->size; i += self->unit)
		ASSERT_EQ(0, guest_write(self->vm, GPA + i, 2));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(2, peek(self->host));
	EXPECT_EQ(0, munlock(self->host, self->size));
}

/* No advice loses a page's content or shows it to the wrong side. */
TEST_F(mapping, madvise)
{
	static const int advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK,
		MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT, 22 /* POPULATE_READ */,
		23 /* POPULATE_WRITE */, 24 /* DONTNEED_LOCKED */,
		25 /* COLLAPSE */,
	};
	unsigned int i;
	__u8 *window;

	BIND(0, UNITS, LEND | RWX);
	window = WINDOW(0, UNITS);
	ASSERT_NE(MAP_FAILED, window);
	for (i = 0; i < ARRAY_SIZE(advices); i++) {
		/* The guest has the first unit, the host the second. */
		ASSERT_EQ(0, touch_write(window, i + 1));
		ASSERT_EQ(0, touch_write(self->host + self->unit, i + 2));
		madvise(window, self->size, advices[i]);
		EXPECT_EQ((int)i + 1, peek(window));
		EXPECT_EQ((int)i + 2, peek(self->host + self->unit));
		ASSERT_EQ(0, touch_write(self->host + self->unit, i + 2));
		if (advices[i] != MADV_REMOVE)
			madvise(self->host, self->size, advices[i]);
		EXPECT_EQ((int)i + 2, peek(self->host + self->unit));
		EXPECT_EQ((int)i + 1, peek(window));
		EXPECT_EQ((int)i + 2, peek(window + self->unit));
	}

	/* MADV_REMOVE punches a hole, which a window doesn't allow. */
	EXPECT_EQ(-1, madvise(window, self->unit, MADV_REMOVE));
	EXPECT_EQ(0, madvise(self->host, self->unit, MADV_REMOVE));
	EXPECT_EQ('a', page_state(self->mem, 0));
	EXPECT_EQ(0, peek(window));
	munmap(window, self->size);
}

/*
 * A VMM's balloon or free page reporting ends in one of these. A window gives no
 * memory back, and its pages keep their contents; a hole in the guestmem does. The
 * next touch shows no page of another.
 */
TEST_F(mapping, giving_memory_back)
{
	const bool live = is_live(variant->provider);
	struct gmem_mem_query q;
	int other;
	__u8 *window, *theirs;
	__u64 i;

	BIND(0, UNITS, LEND | RWX);
	window = WINDOW(0, UNITS);
	ASSERT_NE(MAP_FAILED, window);
	other = new_mem(self->size, variant->mem_flags);
	ASSERT_LE(0, other);
	theirs = map_host(other, 0, self->size);
	ASSERT_NE(MAP_FAILED, theirs);

	for (i = 0; i < self->size; i += PAGE)
		ASSERT_EQ(0, touch_write(window + i, 0x11));
	EXPECT_EQ(live ? -EINVAL : 0,
		  err_of(madvise(window, self->size, MADV_DONTNEED)));
	EXPECT_EQ(-EINVAL, err_of(madvise(window, self->size, MADV_FREE)));
	EXPECT_GT(0, err_of(madvise(window, self->size, MADV_REMOVE)));
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(self->size / PAGE, q.lent);
	for (i = 0; i < self->size; i += PAGE)
		ASSERT_EQ(0x11, peek(window + i));

	/* The freed pages go to another guestmem, and come back from it. */
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size));
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(self->size / PAGE, q.absent);
	for (i = 0; i < self->size; i += PAGE)
		ASSERT_EQ(0, touch_write(theirs + i, 0x22));
	for (i = 0; i < self->size / 2; i += PAGE)
		ASSERT_EQ(0, peek(window + i));
	ASSERT_EQ(0, mem_alloc(other, PUNCH, 0, self->size));
	for (i = self->size / 2; i < self->size; i += PAGE)
		ASSERT_EQ(0, peek(window + i));
	munmap(theirs, self->size);
	munmap(window, self->size);
	close(other);
}

/* A watch of a guestmem reports no end of a window. */
TEST_F(mapping, inotify)
{
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), ro;
	char path[64], events[1024];
	__u8 *window;

	if (watch < 0 && errno == ENOSYS)
		SKIP(return, "the kernel has no inotify");
	ASSERT_LE(0, watch);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->mem);
	ASSERT_LE(0, inotify_add_watch(watch, path, IN_ALL_EVENTS));

	BIND(0, UNITS, LEND | RWX);
	window = WINDOW(0, UNITS);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 1));
	munmap(window, self->size);
	EXPECT_EQ(-1, read(watch, events, sizeof(events)));
	EXPECT_EQ(EAGAIN, errno);

	ro = reopen(self->mem, O_RDONLY);
	ASSERT_LE(0, ro);
	close(ro);
	EXPECT_LT(0, read(watch, events, sizeof(events)));
	close(watch);
}

static void nothing(int sig)
{
	(void)sig;
}

/*
 * A timer's signals don't end an allocation: it would begin from nothing each
 * time, and never come to an end.
 */
TEST_F(mapping, allocate_under_a_timer)
{
	const struct sigaction action = {
		.sa_handler = nothing,
		.sa_flags = SA_RESTART,
	};
	/* Ten times a second, while a call takes a second or so. */
	const struct itimerval often = { { 0, 100000 }, { 0, 100000 } };
	const struct itimerval never = {};
	const __u64 size = huge_pages(MIB(32 + 2 * scaled(112)));
	int mem = new_mem(size, variant->mem_flags), ret;
	struct gmem_mem_query q;
	double end = now() + 30;

	ASSERT_LE(0, mem);
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	do {
		ret = mem_alloc(mem, 0, 0, size);
	} while (ret == -EINTR && now() < end);
	setitimer(ITIMER_REAL, &never, NULL);
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, query_mem(mem, 0, size, &q));
	EXPECT_EQ(0, q.absent);
	close(mem);
}

/* A fatal signal ends an allocation, which then has changed nothing. */
TEST_F(mapping, killed_allocation)
{
	const __u64 size = huge_pages(MIB(32 + 2 * scaled(112)));
	int mem = new_mem(size, variant->mem_flags), status, i;
	struct gmem_mem_query q = {};
	pid_t pid;

	ASSERT_LE(0, mem);
	for (i = 0; i < 20; i++) {
		pid = fork();
		if (!pid)
			_exit(mem_alloc(mem, 0, 0, size));
		usleep(1000 + 7000 * i);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, query_mem(mem, 0, size, &q));
		/* The signal may come before the call or after it. */
		EXPECT_TRUE(q.absent == size / PAGE || !q.absent);
		ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, size));
	}
	close(mem);
}

/* Write to each page. Returns the number of page faults. */
static long faults_of(__u8 *p, __u64 size)
{
	struct rusage before, after;
	__u64 i;

	getrusage(RUSAGE_THREAD, &before);
	for (i = 0; i < size; i += PAGE)
		touch_write(p + i, 1);
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_minflt - before.ru_minflt;
}

/* How far are the file's multiples of a huge page from those of memory? */
#define MISFIT(p, offset) ((ptr_u64(p) - (offset)) % HUGE_PAGE)

/*
 * Huge pages lie at multiples of their size, whatever else is mapped, so that page
 * tables can map them whole.
 */
TEST_F(mapping, huge_pages_fit)
{
	const __u64 size = 3 * HUGE_PAGE, odd = HUGE_PAGE - PAGE;
	__u8 *between[16], *host[16], *window[16];
	int mem = new_mem(size, variant->mem_flags);
	__u64 i;

	ASSERT_LE(0, mem);
	ASSERT_EQ(0, map_mem(self->vm, GPA, mem, 0, size, LEND | RWX));
	for (i = 0; i < ARRAY_SIZE(host); i++) {
		between[i] = mmap(NULL, (2 * i + 1) * PAGE, PROT_READ,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, between[i]);
		host[i] = map_host(mem, 0, size);
		EXPECT_EQ(0, MISFIT(host[i], 0));
		window[i] = map_window(self->vm, GPA + odd, size - odd,
				       PROT_READ);
		EXPECT_EQ(0, MISFIT(window[i], odd));
	}
	for (i = 0; i < ARRAY_SIZE(host); i++) {
		munmap(between[i], (2 * i + 1) * PAGE);
		munmap(host[i], size);
		munmap(window[i], size - odd);
	}
	close(mem);
}

/* Huge pages also fit where a descriptor of a range begins anywhere. */
TEST_F(mapping, huge_pages_of_a_range_fit)
{
	const __u64 length = HUGE_PAGE + PAGE, odd = HUGE_PAGE - PAGE;
	int mem = new_mem(3 * HUGE_PAGE, variant->mem_flags), desc, view;
	__u8 *between, *p;
	__u64 i;

	ASSERT_LE(0, mem);
	view = new_view(mem, HUGE_PAGE, 2 * HUGE_PAGE, 0, NULL);
	ASSERT_LE(0, view);
	desc = new_window(self->vm, GPA + PAGE, 2 * HUGE_PAGE, 0, NULL);
	for (i = 0; i < 16; i++) {
		between = mmap(NULL, (2 * i + 1) * PAGE, PROT_READ,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, between);
		p = mmap(NULL, length, PROT_READ, MAP_SHARED, view, odd);
		ASSERT_NE(MAP_FAILED, p);
		EXPECT_EQ(0, MISFIT(p, odd));
		munmap(p, length);
		if (desc >= 0) {
			p = mmap(NULL, length, PROT_READ, MAP_SHARED, desc, odd);
			ASSERT_NE(MAP_FAILED, p);
			EXPECT_EQ(0, MISFIT(p, odd + PAGE));
			munmap(p, length);
		}
		munmap(between, (2 * i + 1) * PAGE);
	}
	EXPECT_EQ(is_live(variant->provider), desc >= 0);
	close(desc);
	close(view);
	close(mem);
}

/* The caller's own choice of an address comes first. */
TEST_F(mapping, chosen_address)
{
	__u8 *area, *at;

	area = mmap(NULL, self->size + 2 * PAGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	at = area + (ptr_u64(area) % HUGE_PAGE ? 0 : PAGE);
	EXPECT_EQ(at, mmap(at, self->size, PROT_READ, MAP_SHARED | MAP_FIXED,
			   self->mem, 0));
	munmap(at, self->size);
	EXPECT_EQ(at, mmap(at, self->size, PROT_READ, MAP_SHARED, self->mem, 0));
	munmap(area, self->size + 2 * PAGE);
}

/* Host and guest map huge pages as huge pages. */
TEST_F(mapping, huge_mappings)
{
	char line[128] = "";
	__u8 *window;

	if (self->unit != PMD_PAGE)
		SKIP(return, "the pages are small");
	BIND(0, UNITS, LEND | RWX);
	window = WINDOW(0, UNITS);
	ASSERT_NE(MAP_FAILED, window);
	EXPECT_EQ(0, ptr_u64(window) % HUGE_PAGE);
	EXPECT_EQ(0, ptr_u64(self->host) % HUGE_PAGE);
	/* A huge page has one fault; the loop may have a few of its own. */
	EXPECT_GT(UNITS / 2 + 32, faults_of(window, UNITS / 2 * HUGE_PAGE));
	ASSERT_EQ(0, touch_write(self->host + UNITS / 2 * HUGE_PAGE + 12345,
				 1));
	smaps_line(self->host, "FilePmdMapped:", line, sizeof(line));
	if (!*line)
		SKIP(return, "no FilePmdMapped in smaps");
	EXPECT_EQ(HUGE_PAGE / 1024, atoi(line + strlen("FilePmdMapped:")));
	/* smaps looks for the pages of a mapping, which a PFN mapping lacks. */
	smaps_line(window, "FilePmdMapped:", line, sizeof(line));
	EXPECT_EQ(is_live(variant->provider) ? 0 : HUGE_PAGE / 1024 * UNITS / 2,
		  atoi(line + strlen("FilePmdMapped:")));
	munmap(window, self->size);
}

/* Reclaim of a part doesn't split a huge page: nothing can be reclaimed. */
TEST_F(mapping, advice_splits_no_huge_page)
{
	char line[128] = "";

	if (self->unit != PMD_PAGE)
		SKIP(return, "the pages are small");
	ASSERT_EQ(0, touch_write(self->host, 1));
	EXPECT_EQ(0, err_of(madvise(self->host, PAGE, MADV_COLD)));
	EXPECT_EQ(0, err_of(madvise(self->host + PAGE, PAGE, MADV_PAGEOUT)));
	/* Its mapping may have been split: look at a new one. */
	munmap(self->host, self->size);
	self->host = map_host(self->mem, 0, self->size);
	ASSERT_NE(MAP_FAILED, self->host);
	ASSERT_EQ(1, peek(self->host));
	smaps_line(self->host, "FilePmdMapped:", line, sizeof(line));
	if (!*line)
		SKIP(return, "no FilePmdMapped in smaps");
	EXPECT_EQ(HUGE_PAGE / 1024, atoi(line + strlen("FilePmdMapped:")));
}

/* The kernel's access for another process takes no page back. */
TEST_F(mapping, proc_mem)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	__u8 byte = 0xff, *window;

	ASSERT_LE(0, fd);
	BIND(0, UNITS, LEND | RWX);
	ASSERT_EQ(0, guest_write(self->vm, GPA, 0x42));
	EXPECT_EQ(-1, pread(fd, &byte, 1, ptr_u64(self->host)));
	EXPECT_EQ(0xff, byte);
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(0x42, peek(self->host));
	EXPECT_EQ(1, pread(fd, &byte, 1, ptr_u64(self->host)));
	EXPECT_EQ(0x42, byte);

	/* It can't reach a PFN mapping. */
	window = WINDOW(0, 1);
	ASSERT_NE(MAP_FAILED, window);
	ASSERT_EQ(0, touch_write(window, 0x43));
	EXPECT_EQ(is_live(variant->provider) ? -1 : 1,
		  pread(fd, &byte, 1, ptr_u64(window)));
	EXPECT_EQ(is_live(variant->provider) ? 0x42 : 0x43, byte);
	munmap(window, self->unit);
	close(fd);
}

/* A provider without windows refuses mmap(). */
TEST(no_window)
{
	int vm = new_vm("mock", GMEM_POLICY_ALLOW);

	if (vm == -EOPNOTSUPP)
		SKIP(return, "no provider mock");
	EXPECT_EQ(-ENODEV, mmap_errno(vm, 0, PAGE, PROT_READ, MAP_SHARED));
	close(vm);
}

TEST_HARNESS_MAIN
