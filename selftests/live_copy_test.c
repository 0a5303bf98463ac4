// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nobody can pin a page of a live window, or reach it through another process.
 * The kernel's own copies from and to it work.
 */
#include "lib/fixture.h"
#include "lib/pin.h"

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define GPA GIB(1)
#define UNITS 4

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif

FIXTURE(live_copy)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u64 unit;
	__u64 size;
	__u8 *window;
};

FIXTURE_VARIANT(live_copy)
{
	const char *provider;
	__u64 mem_flags;
	__u32 access;
	/* The window has entries for the pages. */
	bool present;
};

#define PAGES(name, ...)						\
	VARIANT(live_copy, name##_fresh, .provider = "live", __VA_ARGS__); \
	VARIANT(live_copy, name##_present, .provider = "live",		\
		.present = true, __VA_ARGS__)

PAGES(lent_4k, .access = LEND);
PAGES(shared_4k, .access = SHARE);
PAGES(lent_2m, .access = LEND, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_copy)
{
	__u64 i;

	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     variant->access | RWX));
	self->window = map_window(self->vm, GPA, self->size,
				  PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->window);
	for (i = 0; i < self->size && variant->present; i += PAGE)
		ASSERT_EQ(0, touch_write(self->window + i, i / PAGE));
}

/* Neither has any test left a pin: the host gets the pages and gives them back. */
FIXTURE_TEARDOWN(live_copy)
{
	__u8 *host = map_host(self->mem, 0, self->size);
	__u64 i;

	for (i = 0; i < self->size; i += self->unit) {
		EXPECT_EQ(0, touch_write(host + i, 1));
		EXPECT_EQ(0, touch_write(self->window + i, 2));
	}
	munmap(host, self->size);
	munmap(self->window, self->size);
	TEARDOWN_VM_AND_MEM();
}

static void pin_fails(struct __test_metadata *_metadata,
		      FIXTURE_DATA(live_copy) *self, enum pin_kind kind)
{
	int fd[2];

	if (pin_open(fd, kind))
		SKIP(return, "no io_uring");
	EXPECT_EQ(-EFAULT, pin(fd, kind, self->window));
	EXPECT_EQ(-EFAULT, pin(fd, kind, self->window + self->size - PAGE));
	pin_close(fd);
}

TEST_F(live_copy, no_vmsplice)
{
	pin_fails(_metadata, self, PIN_SPLICE);
}

TEST_F(live_copy, no_fixed_buffer_of_io_uring)
{
	pin_fails(_metadata, self, PIN_URING);
}

TEST_F(live_copy, no_direct_io)
{
	void *own = aligned_alloc(PAGE, PAGE);
	int disk;

	disk = open("/dev/ram0", O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0)
		SKIP(goto out, "no /dev/ram0");
	memset(own, 1, PAGE);
	/* The disk works. */
	ASSERT_EQ(PAGE, pwrite(disk, own, PAGE, 0));
	ASSERT_EQ(PAGE, pread(disk, own, PAGE, 0));

	EXPECT_EQ(-EFAULT, err_of(pread(disk, self->window, PAGE, 0)));
	EXPECT_EQ(-EFAULT, err_of(pwrite(disk, self->window, PAGE, 0)));
	EXPECT_EQ(-EFAULT, err_of(pwrite(disk, self->window + self->size - PAGE,
					 PAGE, 0)));
	close(disk);
out:
	free(own);
}

TEST_F(live_copy, no_access_from_another_process)
{
	__u8 byte = 0;
	struct iovec mine = { &byte, 1 }, theirs = { self->window, 1 };
	pid_t pid = getpid();
	int fd;

	if (process_vm_readv(pid, &mine, 1, &mine, 1, 0) != 1)
		SKIP(return, "no process_vm_readv()");
	EXPECT_EQ(-EFAULT, err_of(process_vm_readv(pid, &mine, 1, &theirs, 1,
						   0)));
	EXPECT_EQ(-EFAULT, err_of(process_vm_writev(pid, &mine, 1, &theirs, 1,
						    0)));
	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EIO, err_of(pread(fd, &byte, 1, ptr_u64(self->window))));
	EXPECT_EQ(-EIO, err_of(pwrite(fd, &byte, 1, ptr_u64(self->window))));
	close(fd);
}

TEST_F(live_copy, no_zero_copy_send)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int listener, fd;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_LE(0, listener);
	ASSERT_EQ(0, bind(listener, (void *)&address, length));
	ASSERT_EQ(0, listen(listener, 1));
	ASSERT_EQ(0, getsockname(listener, (void *)&address, &length));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, connect(fd, (void *)&address, length));
	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &(int){ 1 },
				sizeof(int)));
	EXPECT_EQ(-EFAULT, err_of(send(fd, self->window, PAGE, MSG_ZEROCOPY)));
	/* The kernel copies without the flag. */
	EXPECT_EQ(PAGE, send(fd, self->window, PAGE, 0));
	close(fd);
	close(listener);
}

TEST_F(live_copy, read_and_write)
{
	__u8 *window = self->window, *other = window + self->size - PAGE;
	char path[] = "/tmp/live_copy.XXXXXX";
	int pipe_fds[2], file;

	ASSERT_EQ(0, pipe(pipe_fds));
	ASSERT_EQ(0, touch_write(window + 7, 77));
	EXPECT_EQ(PAGE, write(pipe_fds[1], window, PAGE));
	EXPECT_EQ(PAGE, read(pipe_fds[0], other, PAGE));
	EXPECT_EQ(77, peek(other + 7));

	file = mkstemp(path);
	ASSERT_LE(0, file);
	unlink(path);
	ASSERT_EQ(0, touch_write(window + self->size / 2, 78));
	EXPECT_EQ(self->size, pwrite(file, window, self->size, 0));
	EXPECT_EQ(PAGE, pread(file, other, PAGE, self->size / 2));
	EXPECT_EQ(78, peek(other));

	EXPECT_EQ(16, getrandom(window, 16, 0));
	close(file);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

TEST_F(live_copy, sockets)
{
	struct iovec in = { self->window, PAGE }, out = {
		self->window + self->unit, PAGE
	};
	int fd[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd));
	ASSERT_EQ(0, touch_write(self->window + 9, 79));
	EXPECT_EQ(PAGE, writev(fd[0], &in, 1));
	EXPECT_EQ(PAGE, readv(fd[1], &out, 1));
	EXPECT_EQ(79, peek(self->window + self->unit + 9));
	close(fd[0]);
	close(fd[1]);
}

/* A copy ends where nothing is bound. The refused access is recorded. */
TEST_F(live_copy, unbound)
{
	char path[] = "/tmp/live_copy.XXXXXX";
	int file = mkstemp(path);

	ASSERT_LE(0, file);
	unlink(path);
	ASSERT_EQ(0, unmap_range(self->vm, GPA + self->unit, self->unit, NULL));
	EXPECT_EQ(-EFAULT, err_of(pwrite(file, self->window + self->unit, PAGE,
					 0)));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_reason(self->vm));
	EXPECT_EQ(GPA + self->unit, last_fault(self->vm).guest_addr);
	EXPECT_EQ(GMEM_ACCESS_READ, last_fault(self->vm).access);
	ASSERT_EQ(0, map_mem(self->vm, GPA + self->unit, self->mem, self->unit,
			     self->unit, variant->access | RWX));
	EXPECT_EQ(PAGE, pwrite(file, self->window + self->unit, PAGE, 0));
	close(file);
}

TEST_HARNESS_MAIN
