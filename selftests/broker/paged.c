// SPDX-License-Identifier: GPL-2.0-only
/*
 * A library for LD_PRELOAD: an unmodified VMM runs its guest on lent memory behind
 * a paged window.
 *
 * A VMM opens a file of memory by its path, and nobody can open a VM by a path. So
 * an open() of /paged makes a guestmem of GMEM_PAGED_MIB, called GMEM_PAGED_NAME,
 * and a VM with one binding; it returns the VM's descriptor.
 *
 * A VMM gives memory back by fallocate(PUNCH_HOLE) of that descriptor. The file
 * GMEM_PAGED_DISCARD decides what that does:
 *
 * window	the kernel decides; so it is without the file
 * guestmem	a hole in the guestmem, as a VMM does that knows its guestmem
 * dontneed, free, remove	madvise() of the window
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/gmem.h>

#define PATH "/paged"

static int vm = -1, mem = -1;
static char *window;

static void *libc(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

static const char *setting(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

static int make_memory(void)
{
	struct gmem_vm_create vm_create = { .size = sizeof(vm_create) };
	struct gmem_create_mem mem_create = {
		.flags = GMEM_MEM_CLOEXEC,
		.size = strtoull(setting("GMEM_PAGED_MIB"), NULL, 10) << 20,
	};
	struct gmem_map_mem map = {
		.flags = GMEM_MAP_FORCE_LEND | GMEM_MAP_ALLOW_RWX,
		.size = mem_create.size,
	};
	int dev = open("/dev/gmem", O_RDWR | O_CLOEXEC);

	strncpy((char *)mem_create.name, setting("GMEM_PAGED_NAME"),
		sizeof(mem_create.name) - 1);
	mem = ioctl(dev, GMEM_CREATE_MEM, &mem_create);
	vm = ioctl(dev, GMEM_VM_CREATE, &vm_create);
	map.guest_mem_fd = mem;
	if (mem < 0 || ioctl(vm, GMEM_VM_MAP_MEM, &map))
		return -1;
	return vm;
}

int __open64_2(const char *path, int flags)
{
	int (*next)(const char *path, int flags) = libc("__open64_2");

	return strcmp(path, PATH) ? next(path, flags) : make_memory();
}

int open64(const char *path, int flags, ...)
{
	int (*next)(const char *path, int flags, ...) = libc("open64");
	mode_t mode = 0;
	va_list args;

	if (!strcmp(path, PATH))
		return make_memory();
	if (flags & O_CREAT) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return next(path, flags, mode);
}

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *(*next)(void *at, size_t size, int prot, int flags, int fd,
		      off_t offset) = libc("mmap64");
	void *mapping = next(at, size, prot, flags, fd, offset);

	if (vm >= 0 && fd == vm && mapping != MAP_FAILED)
		window = (char *)mapping - offset;
	return mapping;
}

/* The first word of the file; empty without it. */
static void read_way(char way[16])
{
	FILE *file = fopen(setting("GMEM_PAGED_DISCARD"), "r");

	*way = 0;
	if (!file)
		return;
	if (fscanf(file, "%15s", way) != 1)
		*way = 0;
	fclose(file);
}

int fallocate64(int fd, int mode, off_t offset, off_t length)
{
	int (*next)(int fd, int mode, off_t offset, off_t length) =
		libc("fallocate64");
	char way[16];

	if (vm < 0 || fd != vm)
		return next(fd, mode, offset, length);
	read_way(way);
	if (!strcmp(way, "guestmem"))
		return next(mem, mode, offset, length);
	if (!strcmp(way, "dontneed"))
		return madvise(window + offset, length, MADV_DONTNEED);
	if (!strcmp(way, "free"))
		return madvise(window + offset, length, MADV_FREE);
	if (!strcmp(way, "remove"))
		return madvise(window + offset, length, MADV_REMOVE);
	return next(fd, mode, offset, length);
}
