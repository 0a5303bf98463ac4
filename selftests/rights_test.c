// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rights: a descriptor or a mapping that can only read destroys nothing, and the
 * kernel takes no page from a guest unless somebody touches it.
 */
#include "lib/fixture.h"
#include "lib/pin.h"
#include "lib/view.h"

#include <linux/futex.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define UNITS 4
#define GPA GIB(1)
/* The byte that the guest wrote. */
#define SECRET 0x42

FIXTURE(rights)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* A read-only descriptor and its mapping. */
	int ro;
	__u8 *map;
};

FIXTURE_VARIANT(rights)
{
	const char *provider;
	__u64 mem_flags;
};

EACH_PROVIDER_SIZE(VARIANT, rights);

FIXTURE_SETUP(rights)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
	self->ro = reopen(self->mem, O_RDONLY);
	ASSERT_LE(0, self->ro);
	self->map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, self->ro, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(rights)
{
	munmap(self->map, self->size);
	close(self->ro);
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

/* Lend the guestmem and let the guest write to each page. */
#define LEND_ALL()							\
	do {								\
		__u64 at;						\
									\
		ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0,	\
				     self->size, LEND | RWX));		\
		for (at = 0; at < self->size; at += self->unit)		\
			ASSERT_EQ(0, guest_write(self->vm, GPA + at, SECRET)); \
	} while (0)

/* The guest has all its pages, with their contents. */
#define EXPECT_LENT()							\
	do {								\
		__u64 at;						\
									\
		for (at = 0; at < self->size; at += self->unit) {	\
			EXPECT_EQ('l', page_state(self->mem, at));	\
			EXPECT_EQ(SECRET, guest_read(self->vm, GPA + at)); \
		}							\
	} while (0)

/*
 * A reader could wipe the owner's data by lending under "scrub", or lock the owner
 * out by lending under "deny".
 */
TEST_F(rights, reader_lends_nothing)
{
	static const __u32 access[] = {
		LEND | RX, LEND | RWX, GMEM_MAP_DEFAULT_ACCESS | RX,
		LEND | RX | GMEM_MAP_UNMAP,
	};
	unsigned int i;

	ASSERT_EQ(0, touch_write(self->host, SECRET));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-EACCES, map_mem(self->vm, GPA, self->ro, 0,
					   self->size, access[i]));
	EXPECT_EQ(-ENOENT, map_mem(self->vm, GPA, self->ro, 0, self->size,
				   access[3]));
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->ro, 0, self->size,
			     SHARE | RX));
	EXPECT_EQ(SECRET, guest_read(self->vm, GPA));
	EXPECT_GT(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(SECRET, peek(self->host));
}

TEST_F(rights, reader_keeps_contents)
{
	LEND_ALL();
	/* Under "allow" nothing is lost. */
	EXPECT_EQ(SECRET, peek(self->map));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ(SECRET, guest_read(self->vm, GPA));
	EXPECT_LENT();

	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(-SIGBUS, peek(self->map));
	EXPECT_LENT();
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_DENY));
	EXPECT_EQ(-SIGBUS, peek(self->map));
	EXPECT_LENT();

	/* A page that no guest has can be read under every policy. */
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(0, peek(self->map));
}

/* The same by the kernel's copies for a system call. */
TEST_F(rights, reader_copies)
{
	int fd[2];

	LEND_ALL();
	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(-EFAULT, err_of(write(fd[1], self->map, 1)));
	EXPECT_LENT();
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_ALLOW));
	EXPECT_EQ(1, write(fd[1], self->map, 1));
	EXPECT_EQ('h', page_state(self->mem, 0));
	close(fd[0]);
	close(fd[1]);
}

/* The right to write decides, not the kind of mapping or of access. */
TEST_F(rights, owner_reads)
{
	__u8 *map;

	LEND_ALL();
	map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, self->mem, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(0, peek(map));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ(0, peek(self->map));
	munmap(map, self->size);
}

TEST_F(rights, reader_destroys_nothing)
{
	__u64 id;
	int view;

	LEND_ALL();
	view = new_view(self->mem, 0, self->size, 0, &id);
	ASSERT_LE(0, view);
	EXPECT_EQ(-EACCES, new_view(self->ro, 0, self->size, 0, NULL));
	EXPECT_EQ(-EACCES, revoke_view(self->ro, id, NULL));
	EXPECT_EQ(-EBADF, mem_alloc(self->ro, PUNCH, 0, self->size));
	EXPECT_EQ(-EBADF, mem_alloc(self->ro, 0, 0, self->size));
	EXPECT_GT(0, err_of(ftruncate(self->ro, 0)));
	EXPECT_EQ(-EACCES, err_of(madvise(self->map, self->unit, MADV_REMOVE)));
	EXPECT_EQ(-EACCES, err_of(mprotect(self->map, self->size,
					   PROT_READ | PROT_WRITE)));
	EXPECT_EQ(-EACCES, err_of((long)mmap(NULL, self->size,
					     PROT_READ | PROT_WRITE, MAP_SHARED,
					     self->ro, 0)));
	EXPECT_LENT();
	close(view);

	view = new_view(self->ro, 0, self->size, GMEM_VIEW_READ_ONLY, NULL);
	ASSERT_LE(0, view);
	EXPECT_EQ(-EACCES, err_of((long)mmap(NULL, self->size,
					     PROT_READ | PROT_WRITE, MAP_SHARED,
					     view, 0)));
	close(view);
}

/* ---- accesses for which nobody touches a page ---- */

TEST_F(rights, populating_takes_nothing)
{
	__u8 *map;

	LEND_ALL();
	EXPECT_EQ(-EFAULT, err_of(madvise(self->host, self->size,
					  MADV_POPULATE_READ)));
	EXPECT_EQ(-EFAULT, err_of(madvise(self->host, self->size,
					  MADV_POPULATE_WRITE)));
	map = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, self->mem, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_LENT();
	munmap(map, self->size);
	map = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_LOCKED, self->mem, 0);
	if (map != MAP_FAILED)
		munmap(map, self->size);
	EXPECT_LENT();
	mlock(self->host, self->size);
	EXPECT_LENT();
	mlock2(self->host, self->size, MLOCK_ONFAULT);
	EXPECT_LENT();
	EXPECT_EQ(0, mlockall(MCL_CURRENT));
	EXPECT_LENT();
	munlockall();
	madvise(self->host, self->size, MADV_WILLNEED);
	EXPECT_LENT();

	/* A touch next to lent pages takes back none of these. */
	ASSERT_EQ(SECRET, peek(self->host + self->unit));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ('h', page_state(self->mem, self->unit));
	EXPECT_EQ('l', page_state(self->mem, 2 * self->unit));
	EXPECT_EQ(0, err_of(madvise(self->host + self->unit, self->unit,
				    MADV_POPULATE_WRITE)));
	EXPECT_EQ(-EFAULT, err_of(madvise(self->host, self->size,
					  MADV_POPULATE_READ)));
}

/* Populating allocates pages that no guest has. */
TEST_F(rights, populating_allocates)
{
	EXPECT_EQ(0, err_of(madvise(self->host, self->size,
				    MADV_POPULATE_WRITE)));
	EXPECT_EQ('h', page_state(self->mem, self->size - PAGE));
}

static void pin_one(struct __test_metadata *_metadata, enum pin_kind kind,
		    void *page, int expected)
{
	int fd[2], byte;

	if (pin_open(fd, kind))
		return;
	EXPECT_EQ(expected, pin(fd, kind, page));
	if (!expected)
		EXPECT_EQ(0, unpin(fd, kind, &byte));
	pin_close(fd);
}

static long futex_wake(void *at)
{
	return err_of(syscall(__NR_futex, at, FUTEX_WAKE, 1, NULL, NULL, 0));
}

static long read_process(void *at, __u8 *byte)
{
	struct iovec to = { byte, 1 }, from = { at, 1 };

	return err_of(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
}

/* O_DIRECT and others pin in the same two ways as vmsplice() and io_uring. */
TEST_F(rights, pinning_takes_nothing)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	__u8 byte = 0;
	long ret;

	ASSERT_LE(0, mem);
	LEND_ALL();
	pin_one(_metadata, PIN_SPLICE, self->host, -EFAULT);
	pin_one(_metadata, PIN_URING, self->host, -EFAULT);
	EXPECT_EQ(-EFAULT, futex_wake(self->host));
	ret = read_process(self->host, &byte);
	if (ret != -ENOSYS)
		EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(-1, pread(mem, &byte, 1, ptr_u64(self->host)));
	EXPECT_EQ(-1, pwrite(mem, &byte, 1, ptr_u64(self->host)));
	EXPECT_LENT();

	/* Touch first. */
	ASSERT_EQ(SECRET, peek(self->host));
	pin_one(_metadata, PIN_SPLICE, self->host, 0);
	pin_one(_metadata, PIN_URING, self->host, 0);
	EXPECT_EQ(0, futex_wake(self->host));
	if (ret != -ENOSYS)
		EXPECT_EQ(1, read_process(self->host, &byte));
	EXPECT_EQ(1, pread(mem, &byte, 1, ptr_u64(self->host)));
	EXPECT_EQ(SECRET, byte);
	close(mem);
}

/* Shared pages are the host's, too. */
TEST_F(rights, shared_pages_can_be_pinned)
{
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     SHARE | RWX));
	ASSERT_EQ(0, guest_write(self->vm, GPA, SECRET));
	EXPECT_EQ(0, err_of(madvise(self->host, self->size,
				    MADV_POPULATE_READ)));
	pin_one(_metadata, PIN_SPLICE, self->host, 0);
	pin_one(_metadata, PIN_URING, self->host, 0);
	EXPECT_EQ(0, futex_wake(self->host));
}

TEST_HARNESS_MAIN
