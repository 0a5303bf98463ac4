// SPDX-License-Identifier: GPL-2.0-only
/* ioctls whose argument may be wrong, whose allocations may fail. */
#include "fuzz.h"

#include "lib/fail_nth.h"

#include <sys/syscall.h>

/*
 * The arguments of calls and the answers lie below 4 GiB, where 32-bit calls reach
 * them, and far from all else: a wrong bit in an address must not lead the kernel
 * to the program's own data.
 */
#define ARGUMENTS ((__u8 *)0x10000000UL)
#define ANSWERS ((__u8 *)0x18000000UL)
#define ARGUMENT_SIZE (2 * PAGE)
#define ANSWER_SIZE KIB(64)
/* From one thread's to the next one's. */
#define STRIDE MIB(1)

static void *map_at(void *at, size_t size)
{
	return mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_FIXED_NOREPLACE, -1, 0);
}

void call_init(void)
{
	int i;

	for (i = 0; i < NR_THREADS; i++)
		if (map_at(ARGUMENTS + i * STRIDE, ARGUMENT_SIZE) == MAP_FAILED ||
		    map_at(ANSWERS + i * STRIDE, ANSWER_SIZE) == MAP_FAILED)
			give_up(NULL, "mmap() of the arguments", errno);
}

void maybe_fail(struct thread *t)
{
	/* Draw in any case: the sequence must not depend on the kernel. */
	bool fail = once(t, 12);
	int nth = 1 + rnd(t, once(t, 4) ? 40 : 8);

	if (!fail || t->nth_fd < 0)
		return;
	t->may_fail = true;
	fail_nth_arm(t->nth_fd, nth);
}

void end_fail(struct thread *t)
{
	if (t->nth_fd >= 0)
		fail_nth_disarm(t->nth_fd);
	t->may_fail = false;
}

void *pick_buffer(struct thread *t, size_t size)
{
	__u64 length;

	if (once(t, 12))
		return pick_place(t, &length);
	if (once(t, 40))
		return (void *)odd_number(t);
	if (size > ANSWER_SIZE)
		size = ANSWER_SIZE;
	/* The room ends where the memory ends, more or less. */
	return ANSWERS + t->id * STRIDE + ((ANSWER_SIZE - size) & ~7UL);
}

/* Make some part of the argument wrong. */
static void mutate(struct thread *t, __u8 *arg, size_t size)
{
	size_t words = size / 4;
	__u32 count = 1 + rnd(t, 2), word;
	__u64 value;

	while (count--) {
		word = rnd(t, words);
		value = odd_number(t);
		if (once(t, 3))
			/* A bit more or less. */
			arg[word * 4 + rnd(t, 4)] ^= 1 << rnd(t, 8);
		else if (word % 2 || once(t, 2))
			memcpy(arg + word * 4, &value, 4);
		else
			memcpy(arg + word * 4, &value, size - word * 4 >= 8 ? 8 : 4);
	}
}

/* A size that isn't the struct's, with something behind it or not. */
static void wrong_size(struct thread *t, __u8 *arg, size_t size)
{
	static const __s32 add[] = { -8, -4, -1, 1, 4, 8, 64, 4096 };
	__u32 value = size + add[rnd(t, ARRAY_SIZE(add))];

	if (once(t, 4))
		value = odd_number(t);
	memcpy(arg, &value, 4);
	if (once(t, 2))
		arg[size + rnd(t, 64)] = 1;
}

static long ioctl32(int fd, unsigned int cmd, void *arg)
{
#ifdef __x86_64__
	long ret;

	/* ioctl() is number 54 there. */
	asm volatile("int $0x80" : "=a" (ret) : "a" (54L), "b" ((long)fd),
		     "c" ((long)cmd), "d" (arg) :
		     "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
#else
	return err_of(ioctl(fd, cmd, arg));
#endif
}

int fuzz_ioctl(struct thread *t, int fd, unsigned int cmd, void *arg, size_t size)
{
	__u8 *copy = ARGUMENTS + t->id * STRIDE, *at = copy;
	bool compat;
	__u64 length;
	long ret;

	memset(copy, 0, size + 128);
	memcpy(copy, arg, size);
	if (once(t, 6))
		mutate(t, copy, size);
	if (once(t, 16))
		wrong_size(t, copy, size);
	/* The argument may lie in a window, too, with whatever is there. */
	if (once(t, 50))
		at = pick_place(t, &length) + rnd(t, PAGE);
	if (once(t, 50))
		at = (__u8 *)odd_number(t);
	compat = once(t, 16) && at == copy;
	maybe_fail(t);
	ret = compat ? ioctl32(fd, cmd, at) : err_of(ioctl(fd, cmd, at));
	end_fail(t);
	memcpy(arg, copy, size);
	return ret;
}
