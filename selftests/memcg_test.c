// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory is charged to the process that touches it first, or to the group
 * that its creator has named. At the limit, the access fails, and the kernel kills
 * no process for it.
 *
 * At the limit, anything else that the process does may get it killed: a page
 * of its stack, a page table, a file that it opens. So only a child is in the
 * group; it prepares all that it needs and then only touches memory.
 */
#include "lib/fixture.h"
#include "lib/view.h"

#include <sched.h>
#include <sys/mount.h>

#define CGROUPS "/sys/fs/cgroup"
#define CGROUP CGROUPS "/gmem_test"
/*
 * @n MiB where a page has 4 KiB; more where a page is larger, because a CPU
 * charges a group for 64 pages at once.
 */
#define SCALED_MIB(n) ((n) * (PAGE > KIB(4) ? MIB(16) : MIB(1)))
#define LIMIT SCALED_MIB(16)
#define SIZE SCALED_MIB(32)
#define GPA GIB(1)

FIXTURE(memcg)
{
	struct gmem_stats before;
	int vm;
	int mem;
	/* The child's report. */
	struct result *result;
};

FIXTURE_VARIANT(memcg)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(memcg);

/* The child's tasks, and its report. */
enum deed { TOUCH_HOST, TOUCH_VIEW, TOUCH_GUEST, ALLOCATE, POPULATE };

struct result {
	__u64 done;
	int error;
	/* The result of another try, after a hole has been punched. */
	int again;
};

/* The number behind @key in a file of the group, or the only number for "". */
static __u64 read_number(const char *name, const char *key)
{
	char path[128], line[128];
	__u64 number = ~0ULL;
	FILE *file;

	snprintf(path, sizeof(path), CGROUP "/%s", name);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key))) {
			number = strtoull(line + strlen(key), NULL, 10);
			break;
		}
	if (file)
		fclose(file);
	return number;
}

FIXTURE_SETUP(memcg)
{
	char text[32];

	SKIP_UNLESS_POSSIBLE(variant);
	SETUP_STATS();
	self->vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->vm);
	/* Each test punches holes. */
	if (has_parcels(self->vm)) {
		close_guest(self->vm);
		SKIP(return, "parcels: no page of a running guest can be punched");
	}
	/* The first call fails if the hierarchy is mounted, or can't be. */
	mount("cgroup2", CGROUPS, "cgroup2", 0, NULL);
	write_file(CGROUPS "/cgroup.subtree_control", "+memory");
	rmdir(CGROUP);
	if (mkdir(CGROUP, 0755))
		SKIP(return, "no cgroup2");
	snprintf(text, sizeof(text), "%llu", LIMIT);
	if (write_file(CGROUP "/memory.max", text))
		SKIP(return, "no memory controller");
	write_file(CGROUP "/memory.swap.max", "0");

	self->mem = new_mem(SIZE, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, SIZE, LEND | RWX));
	self->result = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->result);
	memset(self->result, 0, PAGE);
}

FIXTURE_TEARDOWN(memcg)
{
	double end = now() + 5;

	EXPECT_EQ(0, read_number("memory.events", "oom_kill "));
	TEARDOWN_VM_AND_MEM();
	while (rmdir(CGROUP) && errno == EBUSY && now() < end)
		usleep(10000);
}

/* How many pages a guest that takes commands touches by one command. */
#define AT_ONCE 64

static int touch_guest(int vm, __u8 *window, __u64 offset, int nr_pages)
{
	__u8 byte = 1;
	int ret = 0;

	if (is_gunyah_guest(vm))
		return guest_touch(vm, GPA + offset, nr_pages, PAGE);
	for (; nr_pages-- && !ret; offset += PAGE) {
		if (window != MAP_FAILED)
			ret = touch_write(window + offset, byte) ? -EFAULT : 0;
		else
			ret = mock_access(vm, GPA + offset, GMEM_ACCESS_WRITE,
					  &byte, 1);
	}
	return ret;
}

/* Join the group, and do @deed to the first @size bytes until it fails. */
static void child(int vm, int mem, enum deed deed, __u64 size,
		  struct result *result)
{
	__u8 *window = MAP_FAILED, *host;
	__u64 i;

	mlockall(MCL_CURRENT);
	if (write_file(CGROUP "/cgroup.procs", "0"))
		_exit(2);
	host = map_host(mem, 0, SIZE);
	if (deed == TOUCH_VIEW)
		host = map_host(new_view(mem, 0, SIZE, 0, NULL), 0, SIZE);
	window = map_window(vm, GPA, SIZE, PROT_READ | PROT_WRITE);
	/* Allocate the page tables. */
	for (i = 0; i < SIZE; i += HUGE_PAGE) {
		touch_write(host + i, 1);
		if (deed == TOUCH_GUEST)
			touch_guest(vm, window, i, 1);
		mem_alloc(mem, PUNCH, i, HUGE_PAGE);
	}

	switch (deed) {
	case TOUCH_HOST:
	case TOUCH_VIEW:
		for (i = 0; i < size && !result->error; i += PAGE)
			result->error = touch_write(host + i, 1);
		result->done = i;
		break;
	case TOUCH_GUEST:
		for (i = 0; i < size && !result->error; i += AT_ONCE * PAGE)
			result->error = touch_guest(vm, window, i, AT_ONCE);
		result->done = i;
		break;
	case ALLOCATE:
		touch_write(host + SCALED_MIB(2), 0x5a);
		result->error = mem_alloc(mem, 0, 0, size);
		break;
	case POPULATE:
		result->error = populate_range(vm, GPA, size, &result->done);
		break;
	}

	/*
	 * Once there is room, the access works again. Don't use all of the
	 * room: the kernel uncharges freed pages a little later (per-CPU
	 * batches, RCU).
	 */
	if (result->error) {
		if (deed != ALLOCATE)
			mem_alloc(mem, PUNCH, 0, SCALED_MIB(8));
		result->again =
			deed <= TOUCH_VIEW  ? touch_write(host, 1) :
			deed == TOUCH_GUEST ? touch_guest(vm, window, 0, 1) :
					      mem_alloc(mem, 0, 0, SCALED_MIB(4));
	}
	_exit(0);
}

static int run_child(FIXTURE_DATA(memcg) *self, enum deed deed, __u64 size)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		child(self->vm, self->mem, deed, size, self->result);
	waitpid(pid, &status, 0);
	return status;
}

/*
 * Check that the group has been filled, except for the 8 MiB hole, and charged.
 */
#define EXPECT_AT_LIMIT()						\
	do {								\
		struct gmem_mem_query _q;				\
		__u64 _present;						\
									\
		ASSERT_EQ(0, query_mem(self->mem, 0, SIZE, &_q));	\
		_present = SIZE - _q.absent * PAGE;			\
		EXPECT_LE(_present, LIMIT);				\
		EXPECT_LE(LIMIT / 4, _present);				\
		EXPECT_LE(_present, read_number("memory.current", ""));	\
		EXPECT_LT(0, read_number("memory.events", "max "));	\
		EXPECT_NE(~0ULL, read_number("memory.events", "max "));	\
	} while (0)

TEST_F(memcg, charged)
{
	ASSERT_EQ(0, run_child(self, TOUCH_HOST, SCALED_MIB(8)));
	EXPECT_EQ(0, self->result->error);
	EXPECT_LE(SCALED_MIB(8), read_number("memory.current", ""));
	EXPECT_GE(SCALED_MIB(14), read_number("memory.current", ""));
	/* The first charge stays. */
	ASSERT_EQ(0, guest_write(self->vm, GPA, 1));
	ASSERT_EQ(0, guest_write(self->vm, GPA + SCALED_MIB(8), 1));
	EXPECT_LE(SCALED_MIB(8), read_number("memory.current", ""));
	EXPECT_EQ(0, mem_alloc(self->mem, PUNCH, 0, SCALED_MIB(16)));
	EXPECT_GE(SCALED_MIB(4), read_number("memory.current", ""));
	ASSERT_EQ(0, run_child(self, TOUCH_GUEST, SCALED_MIB(8)));
	EXPECT_EQ(0, self->result->error);
	EXPECT_LE(SCALED_MIB(8), read_number("memory.current", ""));
	EXPECT_GE(SCALED_MIB(14), read_number("memory.current", ""));
}

TEST_F(memcg, host_touch)
{
	ASSERT_EQ(0, run_child(self, TOUCH_HOST, SIZE));
	EXPECT_EQ(SIGBUS, self->result->error);
	EXPECT_EQ(0, self->result->again);
	EXPECT_AT_LIMIT();
}

TEST_F(memcg, view_touch)
{
	ASSERT_EQ(0, run_child(self, TOUCH_VIEW, SIZE));
	EXPECT_EQ(SIGBUS, self->result->error);
	EXPECT_EQ(0, self->result->again);
	EXPECT_AT_LIMIT();
}

TEST_F(memcg, guest_touch)
{
	ASSERT_EQ(0, run_child(self, TOUCH_GUEST, SIZE));
	EXPECT_EQ(-EFAULT, self->result->error);
	EXPECT_EQ(GMEM_FAULT_NOMEM, last_reason(self->vm));
	EXPECT_EQ(0, self->result->again);
	EXPECT_AT_LIMIT();
}

/*
 * Where a huge page has a small one for lack of room, the rest are small, too:
 * the kernel doesn't try to charge a huge page at each touch.
 */
TEST_F(memcg, one_try_for_a_huge_page)
{
	const __u64 size = LIMIT - HUGE_PAGE + 128 * PAGE;
	__u64 tries;

	if (!variant->mem_flags)
		SKIP(return, "the pages are small");
	ASSERT_EQ(0, run_child(self, TOUCH_HOST, size));
	EXPECT_EQ(0, self->result->error);
	tries = read_number("memory.events", "max ");
	EXPECT_LT(0, tries);
	EXPECT_GT(64, tries);

	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, SIZE));
	ASSERT_EQ(0, run_child(self, TOUCH_GUEST, size));
	EXPECT_EQ(0, self->result->error);
	EXPECT_GT(tries + 64, read_number("memory.events", "max "));
}

/*
 * fallocate() is all or nothing: it frees what it has allocated when it fails.
 */
TEST_F(memcg, fallocate)
{
	struct gmem_mem_query q;
	__u8 *host = map_host(self->mem, 0, SIZE);

	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, run_child(self, ALLOCATE, SIZE));
	EXPECT_EQ(-ENOMEM, self->result->error);
	EXPECT_EQ(0, self->result->again);
	ASSERT_EQ(0, query_mem(self->mem, 0, SIZE, &q));
	EXPECT_EQ(SCALED_MIB(4) / PAGE, SIZE / PAGE - q.absent);
	EXPECT_EQ(0x5a, peek(host + SCALED_MIB(2)));
	EXPECT_LT(0, read_number("memory.events", "max "));
	munmap(host, SIZE);
}

/* A populate that fails reports its progress. */
TEST_F(memcg, populate)
{
	__u64 nr;

	ASSERT_EQ(0, run_child(self, POPULATE, SIZE));
	EXPECT_EQ(-ENOMEM, self->result->error);
	EXPECT_LE(LIMIT / 4 / PAGE, self->result->done);
	EXPECT_GE(LIMIT / PAGE, self->result->done);
	EXPECT_EQ(0, self->result->again);
	/* All pages except those of the hole. */
	ASSERT_EQ(0, reclaim_range(self->vm, GPA, SIZE, &nr));
	EXPECT_EQ(self->result->done - SCALED_MIB(8) / PAGE, nr);
	EXPECT_AT_LIMIT();
}

/* ---- a group that the creator names ---- */

static int open_group(void)
{
	return open(CGROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int new_mem_of(int group, __u64 flags)
{
	struct gmem_mem_create create = {
		.size = sizeof(create),
		.flags = flags | GMEM_MEM_CGROUP,
		.length = SIZE,
		.cgroup_fd = group,
	};

	return err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create));
}

/* The group pays, though none of its processes touches a page. */
TEST_F(memcg, named_group_pays)
{
	int group = open_group(), mem, sig = 0, err = 0;
	struct gmem_mem_query q;
	__u8 *host;
	__u64 i;

	ASSERT_LE(0, group);
	ASSERT_NE(0, get_features() & GMEM_FEATURE_CGROUP);
	mem = new_mem_of(group, variant->mem_flags);
	ASSERT_LE(0, mem);
	host = map_host(mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, map_mem(self->vm, GPA + SIZE, mem, 0, SIZE, LEND | RWX));
	EXPECT_GE(SCALED_MIB(1), read_number("memory.current", ""));
	for (i = 0; i < SCALED_MIB(4); i += PAGE)
		ASSERT_EQ(0, touch_write(host + i, 1));
	EXPECT_LE(SCALED_MIB(4), read_number("memory.current", ""));
	for (; i < SCALED_MIB(8); i += PAGE)
		ASSERT_EQ(0, guest_write(self->vm, GPA + SIZE + i, 1));
	EXPECT_LE(SCALED_MIB(8), read_number("memory.current", ""));
	ASSERT_EQ(0, populate_range(self->vm, GPA + SIZE + SCALED_MIB(8), SCALED_MIB(4),
				    NULL));
	ASSERT_EQ(0, mem_alloc(mem, 0, SCALED_MIB(12), SCALED_MIB(2)));
	EXPECT_LE(SCALED_MIB(14), read_number("memory.current", ""));
	EXPECT_GE(SCALED_MIB(20), read_number("memory.current", ""));

	/* At its limit, the access of another process fails. */
	for (i = SCALED_MIB(14); i < SIZE && !sig; i += PAGE)
		sig = touch_write(host + i, 1);
	EXPECT_EQ(SIGBUS, sig);
	ASSERT_EQ(0, query_mem(mem, 0, SIZE, &q));
	EXPECT_GE(LIMIT, SIZE - q.absent * PAGE);
	EXPECT_EQ(-ENOMEM, mem_alloc(mem, 0, SIZE - SCALED_MIB(16), SCALED_MIB(16)));
	/* Each CPU may have a small stock of charges. */
	for (i = 0; i < SCALED_MIB(4) && !err; i += PAGE)
		err = guest_write(self->vm, GPA + 2 * SIZE - SCALED_MIB(4) + i, 1);
	EXPECT_EQ(-EFAULT, err);
	EXPECT_EQ(GMEM_FAULT_NOMEM, last_reason(self->vm));
	/* Guestmems without a named group aren't concerned. */
	EXPECT_EQ(0, guest_write(self->vm, GPA, 1));

	ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, SIZE));
	EXPECT_GE(SCALED_MIB(4), read_number("memory.current", ""));
	ASSERT_EQ(0, unmap_range(self->vm, GPA + SIZE, SIZE, NULL));
	munmap(host, SIZE);
	close(mem);
	close(group);
}

/* In the group, another one without processes. */
#define CHILD CGROUP "/child"

/* The group may be removed meanwhile: then its parent pays. */
TEST_F(memcg, named_child_goes)
{
	int group, mem, rounds;
	char max[24];
	__u8 *host;
	__u64 i;

	ASSERT_EQ(0, write_file(CGROUP "/cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(CHILD, 0755));
	snprintf(max, sizeof(max), "%llu", SCALED_MIB(6));
	ASSERT_EQ(0, write_file(CHILD "/memory.max", max));
	group = open(CHILD, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, group);
	mem = new_mem_of(group, variant->mem_flags);
	ASSERT_LE(0, mem);
	close(group);
	host = map_host(mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, host);
	for (i = 0; i < SCALED_MIB(4); i += PAGE)
		ASSERT_EQ(0, touch_write(host + i, 1));
	ASSERT_EQ(0, rmdir(CHILD));
	EXPECT_LE(SCALED_MIB(4), read_number("memory.current", ""));
	EXPECT_EQ(1, peek(host));

	/* The limit of the child went with it. */
	for (; i < SCALED_MIB(12); i += PAGE)
		ASSERT_EQ(0, touch_write(host + i, 1));
	EXPECT_LE(SCALED_MIB(12), read_number("memory.current", ""));
	/* Each page that goes is uncharged where it was charged. */
	for (rounds = 0; rounds < 4; rounds++) {
		ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, SIZE));
		EXPECT_GE(SCALED_MIB(4), read_number("memory.current", ""));
		ASSERT_EQ(0, mem_alloc(mem, 0, 0, SCALED_MIB(8)));
		EXPECT_LE(SCALED_MIB(8), read_number("memory.current", ""));
	}
	EXPECT_EQ(-ENOMEM, mem_alloc(mem, 0, 0, SCALED_MIB(20)));
	munmap(host, SIZE);
	close(mem);
	EXPECT_EQ(0, write_file(CGROUP "/cgroup.subtree_control", "-memory"));
}

/* A group whose parent is the root: nobody pays. */
TEST_F(memcg, named_group_goes)
{
	int group = open_group(), mem;
	__u8 *host;

	ASSERT_LE(0, group);
	mem = new_mem_of(group, variant->mem_flags);
	ASSERT_LE(0, mem);
	close(group);
	host = map_host(mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, touch_write(host, 1));
	ASSERT_EQ(0, rmdir(CGROUP));
	EXPECT_EQ(1, peek(host));
	EXPECT_EQ(0, touch_write(host + SCALED_MIB(8), 1));
	munmap(host, SIZE);
	close(mem);
	ASSERT_EQ(0, mkdir(CGROUP, 0755));
}

#define NOBODY 65534

/* 0 if nobody, in the group if @member, may name it. */
static int name_as_nobody(int group, bool member)
{
	int status = -1, ret;
	pid_t pid = fork();

	if (!pid) {
		if (member && write_file(CGROUP "/cgroup.procs", "0"))
			_exit(2);
		if (setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(3);
		ret = new_mem_of(group, 0);
		_exit(ret >= 0 ? 0 : ret == -EACCES ? 1 : 4);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* The group, through a mount that is read-only, while its owner may write. */
static int open_read_only(void)
{
	char dir[] = "/tmp/gmem-cgroup-XXXXXX";
	int fd = -1;

	if (!mkdtemp(dir))
		return -1;
	if (!mount(CGROUP, dir, NULL, MS_BIND, NULL)) {
		if (!mount(NULL, dir, NULL,
			   MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
			fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		umount2(dir, MNT_DETACH);
	}
	rmdir(dir);
	return fd;
}

TEST_F(memcg, named_group_values)
{
	struct gmem_mem_create create = {
		.size = sizeof(create),
		.length = PAGE,
	};
	int group = open_group(), file, null, read_only;

	ASSERT_LE(0, group);
	file = open(CGROUP "/cgroup.procs", O_RDWR | O_CLOEXEC);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	EXPECT_EQ(-EBADF, new_mem_of(-1, 0));
	EXPECT_EQ(-EBADF, new_mem_of(file, 0));
	EXPECT_EQ(-EBADF, new_mem_of(null, 0));
	EXPECT_EQ(-EBADF, new_mem_of(self->mem, 0));
	create.cgroup_fd = group;
	EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create)));
	create.flags = GMEM_MEM_CGROUP;
	create.reserved = 1;
	EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create)));
	EXPECT_EQ(-EINVAL, new_mem(PAGE, GMEM_MEM_CGROUP));

	/* A stranger may not, a member or the owner of the group may. */
	EXPECT_EQ(1, name_as_nobody(group, false));
	EXPECT_EQ(0, name_as_nobody(group, true));
	ASSERT_EQ(0, chown(CGROUP, NOBODY, NOBODY));
	EXPECT_EQ(0, name_as_nobody(group, false));
	/* The right is that of mkdir(). */
	ASSERT_EQ(0, chmod(CGROUP, 0600));
	EXPECT_EQ(1, name_as_nobody(group, false));
	ASSERT_EQ(0, chmod(CGROUP, 0755));
	read_only = open_read_only();
	ASSERT_LE(0, read_only);
	EXPECT_EQ(1, name_as_nobody(read_only, false));
	EXPECT_EQ(0, name_as_nobody(read_only, true));
	close(read_only);
	close(null);
	close(file);
	close(group);
}

TEST_HARNESS_MAIN
