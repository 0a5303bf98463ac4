/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests share: the calls as functions, access as the host, and a look at
 * the state of things. Guests are in guest_util.h.
 *
 * Every call returns what the ioctl does, or -errno.
 */
#ifndef GMEM_UTIL_H
#define GMEM_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/gmem.h>
#include <linux/gmem_test.h>

#include <kselftest_harness.h>

/* A debug kernel is ten times slower, and TEST() has no timeout of its own. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 240

#define KIB(n) ((__u64)(n) << 10)
#define MIB(n) ((__u64)(n) << 20)
#define GIB(n) ((__u64)(n) << 30)

#define PAGE KIB(4)
#define HUGE_PAGE MIB(2)

#define RX (GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_EXEC)
#define RWX GMEM_MAP_ALLOW_RWX
#define LEND GMEM_MAP_FORCE_LEND
#define SHARE GMEM_MAP_FORCE_SHARE

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static inline __u64 ptr_u64(const volatile void *p)
{
	return (uintptr_t)p;
}

static inline int err_of(long ret)
{
	return ret < 0 ? -errno : (int)ret;
}

/* How much smaller than usual counts should be, from the environment. */
static inline unsigned long scaled(unsigned long n)
{
	const char *scale = getenv("GMEM_SCALE");
	unsigned long by = scale ? strtoul(scale, NULL, 0) : 1;

	return by > 1 ? (n + by - 1) / by : n;
}

static inline unsigned int env_uint(const char *name, unsigned int otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : otherwise;
}

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* ---- calls on the device ---- */

/* The device, opened once per process. */
static inline int gmem_dev(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/gmem", O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static inline int get_info(__u32 index, struct gmem_info *info)
{
	*info = (struct gmem_info){
		.size = sizeof(*info),
		.provider_index = index,
	};
	return err_of(ioctl(gmem_dev(), GMEM_INFO, info));
}

static inline bool find_provider(const char *name, struct gmem_info *info)
{
	__u32 i;

	for (i = 0; !get_info(i, info); i++)
		if (!strcmp((char *)info->provider_name, name))
			return true;
	return false;
}

static inline bool have_provider(const char *name)
{
	struct gmem_info info;

	return find_provider(name, &info);
}

static inline bool have_huge(void)
{
	struct gmem_info info;

	return !get_info(0, &info) && (info.features & GMEM_FEATURE_HUGEPAGE);
}

static inline int new_vm_bits(const char *provider, __u32 policy, __u32 bits)
{
	struct gmem_vm_create create = {
		.size = sizeof(create),
		.policy = policy,
		.guest_addr_bits = bits,
	};

	strncpy((char *)create.provider_name, provider, GMEM_NAME_LEN - 1);
	return err_of(ioctl(gmem_dev(), GMEM_VM_CREATE, &create));
}

static inline int new_vm(const char *provider, __u32 policy)
{
	return new_vm_bits(provider, policy, 0);
}

static inline int new_mem(__u64 size, __u64 flags)
{
	struct gmem_create_mem create = {
		.flags = flags | GMEM_MEM_CLOEXEC,
		.size = size,
	};

	return err_of(ioctl(gmem_dev(), GMEM_CREATE_MEM, &create));
}

static inline int get_stats(struct gmem_stats *stats)
{
	*stats = (struct gmem_stats){ .size = sizeof(*stats) };
	return err_of(ioctl(gmem_dev(), GMEM_STATS, stats));
}

/* ---- calls on a VM ---- */

static inline int map_mem(int vm, __u64 gpa, int mem, __u64 offset, __u64 size,
			  __u32 flags)
{
	struct gmem_map_mem map = {
		.guest_addr = gpa,
		.flags = flags,
		.guest_mem_fd = mem,
		.offset = offset,
		.size = size,
	};

	return err_of(ioctl(vm, GMEM_VM_MAP_MEM, &map));
}

/* With the UNMAP flag: all must match. */
static inline int unmap_mem(int vm, __u64 gpa, int mem, __u64 offset,
			    __u64 size, __u32 flags)
{
	return map_mem(vm, gpa, mem, offset, size, flags | GMEM_MAP_UNMAP);
}

static inline int vm_range(int vm, unsigned int cmd, __u64 gpa, __u64 length,
			   __u64 *nr_pages)
{
	struct gmem_vm_range range = {
		.size = sizeof(range),
		.guest_addr = gpa,
		.length = length,
		.nr_pages = ~0ULL,
	};
	int ret;

	ret = err_of(ioctl(vm, cmd, &range));
	if (nr_pages)
		*nr_pages = range.nr_pages;
	return ret;
}

static inline int unmap_range(int vm, __u64 gpa, __u64 length, __u64 *nr_pages)
{
	return vm_range(vm, GMEM_VM_UNMAP, gpa, length, nr_pages);
}

static inline int reclaim_range(int vm, __u64 gpa, __u64 length,
				__u64 *nr_pages)
{
	return vm_range(vm, GMEM_VM_RECLAIM, gpa, length, nr_pages);
}

static inline int populate_range(int vm, __u64 gpa, __u64 length,
				 __u64 *nr_pages)
{
	return vm_range(vm, GMEM_VM_POPULATE, gpa, length, nr_pages);
}

static inline int set_policy(int vm, __u32 policy)
{
	struct gmem_vm_set_policy set = {
		.size = sizeof(set),
		.policy = policy,
	};

	return err_of(ioctl(vm, GMEM_VM_SET_POLICY, &set));
}

/* Up to @max bindings of a range; how many there were room for, or -errno. */
static inline int query_vm_range(int vm, __u64 gpa, __u64 length,
				 struct gmem_binding_info *entries, __u32 max)
{
	struct gmem_vm_query query = {
		.size = sizeof(query),
		.nr_entries = max,
		.guest_addr = gpa,
		.length = length,
		.entries = ptr_u64(entries),
	};
	int ret;

	ret = err_of(ioctl(vm, GMEM_VM_QUERY, &query));
	return ret < 0 ? ret : (int)query.nr_entries;
}

/* Of all that a 48-bit guest could see. */
static inline int query_vm(int vm, struct gmem_binding_info *entries, __u32 max)
{
	return query_vm_range(vm, 0, 1ULL << 48, entries, max);
}

static inline int get_faults(int vm, __u64 since,
			     struct gmem_fault_info *entries, __u32 max,
			     struct gmem_vm_faults *answer)
{
	struct gmem_vm_faults faults = {
		.size = sizeof(faults),
		.nr_entries = max,
		.seq = since,
		.lost = ~0ULL,
		.entries = ptr_u64(entries),
	};
	int ret;

	ret = err_of(ioctl(vm, GMEM_VM_FAULTS, &faults));
	if (answer)
		*answer = faults;
	return ret < 0 ? ret : (int)faults.nr_entries;
}

/* The newest refused access; all zeroes if there is none. */
static inline struct gmem_fault_info last_fault(int vm)
{
	struct gmem_fault_info entries[GMEM_NR_FAULTS] = {};
	int nr = get_faults(vm, 0, entries, GMEM_NR_FAULTS, NULL);

	return entries[nr > 0 ? nr - 1 : 0];
}

static inline __u32 last_reason(int vm)
{
	return last_fault(vm).reason;
}

/* ---- calls on a guestmem ---- */

static inline int query_mem(int mem, __u64 offset, __u64 length,
			    struct gmem_mem_query *query)
{
	*query = (struct gmem_mem_query){
		.size = sizeof(*query),
		.offset = offset,
		.length = length,
	};
	return err_of(ioctl(mem, GMEM_MEM_QUERY, query));
}

/* The state of the page at @offset, by its field's first letter. */
static inline char page_state(int mem, __u64 offset)
{
	struct gmem_mem_query q;

	if (query_mem(mem, offset, PAGE, &q))
		return '?';
	return q.absent ? 'a' : q.host ? 'h' : q.lent ? 'l' : q.shared ? 's' :
	       q.leaked ? 'x' : '?';
}

static inline int mem_alloc(int mem, int mode, __u64 offset, __u64 length)
{
	return err_of(fallocate(mem, mode, offset, length));
}

/* For a file of the kernel's: all of @text in one go. 0 or -errno. */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = err_of(write(fd, text, strlen(text)));
	close(fd);
	return ret < 0 ? ret : 0;
}

/* Another struct file for the same inode. */
static inline int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return err_of(open(path, flags | O_CLOEXEC));
}

static inline __u8 *map_host(int mem, __u64 offset, __u64 size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, mem, offset);
}

/* ---- numbers ---- */

/* The number behind @key in what /proc says of a descriptor; 0 without one. */
static inline __u64 fd_number(int fd, const char *key)
{
	char line[128], path[64];
	__u64 number = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			number = strtoull(line + strlen(key), NULL, 10);
	fclose(file);
	return number;
}

static inline __u32 vm_id(int vm)
{
	return fd_number(vm, "gmem-vm:");
}

static inline __u64 mem_id(int mem)
{
	return fd_number(mem, "gmem-mem:");
}

/* ---- memory accesses that may fail ---- */

static __thread sigjmp_buf touch_env;
static __thread volatile sig_atomic_t touch_armed;
static __thread volatile sig_atomic_t touch_code;

static inline void touch_handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!touch_armed) {
		/* Not ours: die of it when the instruction runs again. */
		signal(sig, SIG_DFL);
		return;
	}
	touch_code = info->si_code;
	siglongjmp(touch_env, sig);
}

static __attribute__((constructor)) void touch_init(void)
{
	struct sigaction action = {
		.sa_sigaction = touch_handler,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

static __attribute__((noinline, unused)) void
copy_bytes(volatile __u8 *to, const volatile __u8 *from, size_t length)
{
	while (length--)
		*to++ = *from++;
}

/* Copy; 0 or the signal that it ended with, whose si_code is touch_code. */
static __attribute__((noinline, unused)) int
touch_copy(volatile void *to, const volatile void *from, size_t length)
{
	int sig;

	sig = sigsetjmp(touch_env, 0);
	if (!sig) {
		touch_armed = 1;
		copy_bytes(to, from, length);
	}
	touch_armed = 0;
	return sig;
}

static inline int touch_read(const volatile void *p)
{
	__u8 byte;

	return touch_copy(&byte, p, 1);
}

static inline int touch_write(volatile void *p, __u8 byte)
{
	return touch_copy(p, &byte, 1);
}

/* The byte there, or -signal. */
static inline int peek(const volatile void *p)
{
	__u8 byte = 0;
	int sig = touch_copy(&byte, p, 1);

	return sig ? -sig : byte;
}

/* Is there a page table entry for the page? -1 if nobody says. */
static inline int page_present(const volatile void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	got = pread(fd, &entry, sizeof(entry), ptr_u64(p) / PAGE * 8);
	close(fd);
	return got == sizeof(entry) ? (int)(entry >> 63) : -1;
}

/* ---- what stands for a guest ---- */

static inline int mock_call(int vm, struct gmem_test *test)
{
	test->size = sizeof(*test);
	return err_of(ioctl(vm, GMEM_TEST, test));
}

static inline int mock_access(int vm, __u64 gpa, __u32 access, void *buf,
			      size_t length)
{
	struct gmem_test test = {
		.op = GMEM_TEST_ACCESS,
		.guest_addr = gpa,
		.length = length,
		.buffer = ptr_u64(buf),
		.access = access,
	};

	return mock_call(vm, &test);
}

static inline int mock_fail(int vm, __u32 point, __u32 nth, __u32 times)
{
	struct gmem_test test = {
		.op = GMEM_TEST_FAIL,
		.point = point,
		.nth = nth,
		.times = times,
	};

	return mock_call(vm, &test);
}

/* How many pages the second stage holds; what it lets the guest do in *provided. */
static inline int mock_lookup(int vm, __u64 gpa, __u32 *provided)
{
	struct gmem_test test = {
		.op = GMEM_TEST_LOOKUP,
		.guest_addr = gpa,
	};
	int ret = mock_call(vm, &test);

	if (provided)
		*provided = test.provided;
	return ret ? ret : (int)test.length;
}

static inline __u8 *map_window(int vm, __u64 gpa, __u64 size, int prot)
{
	return mmap(NULL, size, prot, MAP_SHARED, vm, gpa);
}

/* ---- the end of a test ---- */

/*
 * Are things as they were? What ends in the background gets some seconds. Leaked
 * pages stay for ever, so they don't count; nor does what only grows.
 */
static inline bool stats_settle(const struct gmem_stats *before)
{
	double end = now() + 10;
	struct gmem_stats after;

	do {
		if (get_stats(&after))
			return false;
		if (after.vms == before->vms && after.mems == before->mems &&
		    after.bindings == before->bindings &&
		    after.lent_pages == before->lent_pages)
			return true;
		usleep(10000);
	} while (now() < end);

	printf("# left over: %lld VMs, %lld guestmems, %lld bindings, %lld lent pages\n",
	       after.vms - before->vms, after.mems - before->mems,
	       after.bindings - before->bindings,
	       after.lent_pages - before->lent_pages);
	return false;
}

#define VARIANT(fixture, name, ...)					\
	FIXTURE_VARIANT_ADD(fixture, name) { __VA_ARGS__ }

#endif /* GMEM_UTIL_H */
