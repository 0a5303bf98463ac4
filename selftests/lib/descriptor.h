/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Views and window descriptors: what no holder may do, by any descriptor or
 * mapping.
 */
#ifndef LIB_DESCRIPTOR_H
#define LIB_DESCRIPTOR_H

#include "gmem.h"

#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

static inline int mmap_errno(int fd, __u64 offset, __u64 size, int prot,
			     int flags)
{
	void *p = mmap(NULL, size, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, size);
	return 0;
}

/* No system call that reads or writes a file takes the descriptor. */
static inline void check_no_io(struct __test_metadata *_metadata, int fd)
{
	struct iovec iov = { .iov_len = 1 };
	int pipes[2], file;
	char byte = 0;
	loff_t at = 0;

	iov.iov_base = &byte;
	ASSERT_EQ(0, pipe(pipes));
	file = err_of(memfd_create("file", MFD_CLOEXEC));
	ASSERT_LE(0, file);
	ASSERT_EQ(1, pwrite(file, &byte, 1, 0));

	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(-1, pread(fd, &byte, 1, 0));
	EXPECT_EQ(-1, preadv2(fd, &iov, 1, 0, RWF_NOWAIT));
	EXPECT_EQ(-1, write(fd, &byte, 1));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, 0));
	EXPECT_EQ(-1, pwritev2(fd, &iov, 1, 0, 0));
	EXPECT_EQ(-1, splice(fd, NULL, pipes[1], NULL, PAGE, 0));
	EXPECT_EQ(1, write(pipes[1], &byte, 1));
	EXPECT_EQ(-1, splice(pipes[0], NULL, fd, NULL, 1, 0));
	EXPECT_EQ(-1, sendfile(file, fd, NULL, PAGE));
	EXPECT_EQ(-1, sendfile(fd, file, NULL, PAGE));
	EXPECT_EQ(-1, copy_file_range(fd, &at, file, NULL, PAGE, 0));
	close(file);
	close(pipes[0]);
	close(pipes[1]);
}

/* Nobody changes the inode. */
static inline void check_no_change(struct __test_metadata *_metadata, int fd,
				   __u64 size)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
	};
	const struct timespec times[2] = {};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++)
		EXPECT_EQ(-1, fallocate(fd, modes[i], 0, size));
	EXPECT_NE(0, ftruncate(fd, 0));
	EXPECT_NE(0, ftruncate(fd, size));
	EXPECT_NE(0, ftruncate(fd, 2 * size));
	EXPECT_EQ(-EPERM, err_of(fchmod(fd, 0777)));
	EXPECT_EQ(-EPERM, err_of(fchmod(fd, 0444)));
	EXPECT_EQ(-EPERM, err_of(fchown(fd, 0, 0)));
	EXPECT_EQ(-EPERM, err_of(futimens(fd, times)));
	EXPECT_EQ(-EPERM, err_of(futimens(fd, NULL)));
	EXPECT_EQ(-1, fsetxattr(fd, "user.x", "1", 1, 0));
	EXPECT_EQ(-EPERM, reopen(fd, O_RDONLY | O_TRUNC));
	EXPECT_EQ(size, (__u64)lseek(fd, 0, SEEK_END));
}

/* The descriptor has no call, and no other descriptor's call takes it. */
static inline void check_no_calls(struct __test_metadata *_metadata, int fd,
				  int vm)
{
	int i;

	for (i = 0; i < 256; i++)
		EXPECT_EQ(-ENOTTY, err_of(ioctl(fd, _IO('G', i), 0)));
	EXPECT_EQ(-ENOTTY, err_of(ioctl(fd, GMEM_CREATE_MEM, 0)));
	EXPECT_EQ(-ENOTTY, err_of(ioctl(fd, GMEM_VM_MAP_MEM, 0)));
	EXPECT_EQ(-EINVAL, map_mem(vm, 0, fd, 0, HUGE_PAGE, SHARE | RX));
}

/* The kernel's knowledge of page caches has nothing about the memory. */
static inline void check_no_page_cache(struct __test_metadata *_metadata,
				       int fd, __u64 size)
{
	struct { __u64 off, len; } range = { 0, size };
	struct { __u64 cache, dirty, writeback, evicted, recent; } stat = {};

	EXPECT_EQ(0, posix_fadvise(fd, 0, size, POSIX_FADV_DONTNEED));
	sync_file_range(fd, 0, size, SYNC_FILE_RANGE_WAIT_BEFORE |
			SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	if (!syscall(__NR_cachestat, fd, &range, &stat, 0)) {
		EXPECT_EQ(0, stat.cache);
		EXPECT_EQ(0, stat.dirty);
		EXPECT_EQ(0, stat.writeback);
	}
}

static inline void check_only_maps(struct __test_metadata *_metadata, int fd,
				   __u64 size, int vm)
{
	check_no_io(_metadata, fd);
	check_no_change(_metadata, fd, size);
	check_no_calls(_metadata, fd, vm);
	check_no_page_cache(_metadata, fd, size);
}

/* Every advice about a mapping. */
static inline void advise_all(void *map, __u64 size)
{
	static const int advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK,
		MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_DODUMP, MADV_COLD, MADV_PAGEOUT,
		22 /* POPULATE_READ */, 23 /* POPULATE_WRITE */,
		24 /* DONTNEED_LOCKED */, 25 /* COLLAPSE */,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(advices); i++)
		madvise(map, size, advices[i]);
}

/* A descriptor of the file of a mapping, or -errno. */
static inline int reopen_mapping(const void *map, __u64 size, int flags)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx",
		 ptr_u64(map), ptr_u64(map) + size);
	return err_of(open(path, flags | O_CLOEXEC));
}

/* The result of @fn, 0 or -errno, for a user without any rights. */
static inline int as_nobody(int (*fn)(int fd), int fd)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			_exit(99);
		_exit(-fn(fd));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return -WEXITSTATUS(status);
}

/* Open again, map the first page, and write 0x77 there. */
static inline int open_and_write(int fd)
{
	int again = reopen(fd, O_RDWR), ret;
	__u8 *map;

	if (again < 0)
		return again;
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
	if (map == MAP_FAILED)
		return -errno;
	ret = touch_write(map, 0x77) ? -EIO : 0;
	munmap(map, PAGE);
	return ret;
}

static inline int open_and_read(int fd)
{
	int again = reopen(fd, O_RDONLY), ret;
	__u8 *map;

	if (again < 0)
		return again;
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, again, 0);
	if (map == MAP_FAILED)
		return -errno;
	ret = touch_read(map) ? -EIO : 0;
	if (!ret && !mprotect(map, PAGE, PROT_READ | PROT_WRITE))
		ret = -EINVAL;
	munmap(map, PAGE);
	return ret;
}

/* A read-only descriptor stays so, even for root, who passes any mode. */
static inline void check_read_only(struct __test_metadata *_metadata, int fd,
				   __u64 size)
{
	__u8 *map;
	int other;

	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0, touch_read(map));
	EXPECT_EQ(SIGSEGV, touch_write(map, 1));
	EXPECT_EQ(-EACCES, err_of(mprotect(map, size, PROT_READ | PROT_WRITE)));
	EXPECT_FALSE(vm_flag(map, " mw"));
	EXPECT_EQ(-EACCES, mmap_errno(fd, 0, size, PROT_READ | PROT_WRITE,
				      MAP_SHARED));

	EXPECT_EQ(-EACCES, reopen(fd, O_RDWR));
	EXPECT_EQ(-EACCES, reopen(fd, O_WRONLY));
	EXPECT_GT(0, reopen_mapping(map, size, O_RDWR));
	other = reopen_mapping(map, size, O_RDONLY);
	if (other >= 0) {
		check_no_change(_metadata, other, size);
		EXPECT_EQ(-EACCES, mmap_errno(other, 0, size, PROT_READ |
					      PROT_WRITE, MAP_SHARED));
		close(other);
	}
	other = reopen(fd, O_RDONLY);
	ASSERT_LE(0, other);
	EXPECT_EQ(0, mmap_errno(other, 0, size, PROT_READ, MAP_SHARED));
	close(other);

	/* /proc/self/mem writes to read-only mappings, but not to these. */
	other = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, other);
	EXPECT_EQ(-1, pwrite(other, "x", 1, ptr_u64(map)));
	close(other);
	munmap(map, size);
}

#endif /* LIB_DESCRIPTOR_H */
