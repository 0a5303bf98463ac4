// SPDX-License-Identifier: GPL-2.0-only
/* The generic netlink family: requests, permissions, dumps during changes. */
#include "lib/fixture.h"
#include "lib/netlink_listener.h"
#include "lib/view.h"
#include "lib/window_desc.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define GPA GIB(1)

FIXTURE(netlink)
{
	struct client c;
	int vm;
	int mem;
};

FIXTURE_SETUP(netlink)
{
	ASSERT_LE(0, gmem_dev());
	ASSERT_EQ(0, client_open(&self->c));
	self->vm = new_vm("window", GMEM_POLICY_SCRUB);
	ASSERT_LE(0, self->vm);
	self->mem = new_mem(64 * PAGE, 0);
	ASSERT_LE(0, self->mem);
}

FIXTURE_TEARDOWN(netlink)
{
	client_close(&self->c);
	close(self->vm);
	close(self->mem);
}

/* ---- answers ---- */

struct vm_info {
	int nr;
	__u32 id;
	__u32 policy;
	__u32 bits;
	__u32 pid;
	__u64 bindings;
	__u64 lent;
	__u64 refused;
	__u32 kind;
	char provider[32];
	char comm[32];
	char name[GMEM_OBJECT_NAME_LEN];
};

static void get_vm_info(struct nlattr **attrs, void *arg)
{
	struct vm_info *info = arg;

	info->nr++;
	info->id = attr_u32(attrs, GMEM_A_VM_ID);
	info->policy = attr_u32(attrs, GMEM_A_VM_POLICY);
	info->bits = attr_u32(attrs, GMEM_A_VM_GUEST_ADDR_BITS);
	info->pid = attr_u32(attrs, GMEM_A_VM_PID);
	info->bindings = attr_u64(attrs, GMEM_A_VM_BINDINGS);
	info->lent = attr_u64(attrs, GMEM_A_VM_LENT_PAGES);
	info->refused = attr_u64(attrs, GMEM_A_VM_REFUSED);
	nla_strlcpy(info->provider, attrs[GMEM_A_VM_PROVIDER],
		    sizeof(info->provider));
	nla_strlcpy(info->comm, attrs[GMEM_A_VM_COMM], sizeof(info->comm));
	info->kind = attr_u32(attrs, GMEM_A_VM_WINDOW_KIND);
	attr_name(attrs, GMEM_A_VM_NAME, info->name);
}

static int get_vm(struct client *c, int vm, struct vm_info *info)
{
	memset(info, 0, sizeof(*info));
	return request_u32(c, GMEM_CMD_VM_GET, NLM_F_ACK, GMEM_A_VM_ID,
			   vm_id(vm), get_vm_info, info);
}

/* Numbers in the order in which they came. */
struct ids {
	int nr;
	__u64 id[2048];
};

static void add_id(struct ids *ids, __u64 id)
{
	if (ids->nr < (int)ARRAY_SIZE(ids->id))
		ids->id[ids->nr++] = id;
}

static void add_vm_id(struct nlattr **attrs, void *arg)
{
	add_id(arg, attr_u32(attrs, GMEM_A_VM_ID));
}

static void add_mem_id(struct nlattr **attrs, void *arg)
{
	add_id(arg, attr_u64(attrs, GMEM_A_MEM_ID));
}

static int count_id(const struct ids *ids, __u64 id)
{
	int i, n = 0;

	for (i = 0; i < ids->nr; i++)
		n += ids->id[i] == id;
	return n;
}

static bool ascending(const struct ids *ids)
{
	int i;

	for (i = 1; i < ids->nr; i++)
		if (ids->id[i] <= ids->id[i - 1])
			return false;
	return true;
}

struct bindings {
	int nr;
	/* Collect this VM's bindings only, or 0: all. */
	__u32 vm;
	struct gmem_binding_info b[2048];
};

static void add_binding(struct nlattr **attrs, void *arg)
{
	struct bindings *list = arg;

	if (list->vm && attr_u32(attrs, GMEM_A_BINDING_VM_ID) != list->vm)
		return;
	if (list->nr == (int)ARRAY_SIZE(list->b))
		return;
	list->b[list->nr++] = (struct gmem_binding_info){
		.guest_addr = attr_u64(attrs, GMEM_A_BINDING_GUEST_ADDR),
		.length = attr_u64(attrs, GMEM_A_BINDING_LENGTH),
		.offset = attr_u64(attrs, GMEM_A_BINDING_OFFSET),
		.mem_id = attr_u64(attrs, GMEM_A_BINDING_MEM_ID),
		.flags = attr_u32(attrs, GMEM_A_BINDING_FLAGS) |
			 (attrs[GMEM_A_BINDING_POLICY] ? GMEM_MAP_POLICY : 0),
		.policy = attrs[GMEM_A_BINDING_POLICY] ?
			  attr_u32(attrs, GMEM_A_BINDING_POLICY) : 0,
	};
}

static void get_mem_info(struct nlattr **attrs, void *arg)
{
	struct gmem_mem_query *q = arg;

	q->length = attr_u64(attrs, GMEM_A_MEM_SIZE);
	q->offset = attr_u64(attrs, GMEM_A_MEM_PAGE_SIZE);
	q->absent = attr_u64(attrs, GMEM_A_MEM_ABSENT);
	q->host = attr_u64(attrs, GMEM_A_MEM_HOST);
	q->lent = attr_u64(attrs, GMEM_A_MEM_LENT);
	q->shared = attr_u64(attrs, GMEM_A_MEM_SHARED);
	q->leaked = attr_u64(attrs, GMEM_A_MEM_LEAKED);
}

static int get_mem(struct client *c, int mem, struct gmem_mem_query *q)
{
	return request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK, GMEM_A_MEM_ID,
			   mem_id(mem), get_mem_info, q);
}

/* ---- tests ---- */

TEST_F(netlink, ids_are_not_reused)
{
	struct stat st;
	__u32 first, second;
	int vm;

	first = vm_id(self->vm);
	EXPECT_LT(0, first);
	ASSERT_EQ(0, fstat(self->mem, &st));
	EXPECT_EQ(st.st_ino, mem_id(self->mem));

	/* The module doesn't reuse a number at once. */
	vm = new_vm("window", GMEM_POLICY_ALLOW);
	second = vm_id(vm);
	EXPECT_NE(first, second);
	close(vm);
	vm = new_vm("window", GMEM_POLICY_ALLOW);
	EXPECT_NE(first, vm_id(vm));
	EXPECT_NE(second, vm_id(vm));
	close(vm);
}

TEST_F(netlink, vm_get)
{
	struct vm_info info;
	int vm;

	ASSERT_EQ(0, prctl(PR_SET_NAME, "some-vmm"));
	vm = new_vm_bits("window", GMEM_POLICY_SCRUB, 40);
	ASSERT_LE(0, vm);
	ASSERT_EQ(0, map_mem(vm, GPA, self->mem, 0, 4 * PAGE, LEND | RWX));
	ASSERT_EQ(0, map_mem(vm, GPA + MIB(1), self->mem, 4 * PAGE, PAGE,
			     SHARE | RX));
	ASSERT_EQ(0, populate_range(vm, GPA, 3 * PAGE, NULL));
	EXPECT_EQ(-EFAULT, guest_write(vm, 0, 1));

	ASSERT_EQ(0, get_vm(&self->c, vm, &info));
	EXPECT_EQ(1, info.nr);
	EXPECT_EQ(vm_id(vm), info.id);
	EXPECT_EQ(GMEM_POLICY_SCRUB, info.policy);
	EXPECT_EQ(40, info.bits);
	EXPECT_EQ(getpid(), (pid_t)info.pid);
	EXPECT_EQ(2, info.bindings);
	EXPECT_EQ(3, info.lent);
	EXPECT_EQ(1, info.refused);
	EXPECT_STREQ("window", info.provider);
	EXPECT_STREQ("some-vmm", info.comm);

	ASSERT_EQ(0, reclaim_range(vm, GPA, PAGE, NULL));
	ASSERT_EQ(0, unmap_range(vm, GPA + MIB(1), PAGE, NULL));
	ASSERT_EQ(0, get_vm(&self->c, vm, &info));
	EXPECT_EQ(1, info.bindings);
	EXPECT_EQ(2, info.lent);
	close(vm);
}

static void get_mem_name(struct nlattr **attrs, void *name)
{
	attr_name(attrs, GMEM_A_MEM_NAME, name);
}

static int find_mem_name(struct client *c, int mem, char *name)
{
	return request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK, GMEM_A_MEM_ID,
			   mem_id(mem), get_mem_name, name);
}

/* The longest name there is. */
#define LONG_NAME "0123456789abcdef0123456789abcde"

TEST_F(netlink, names)
{
	static const char *const names[] = {
		"web-1", " \"~\" % \\", LONG_NAME
	};
	char name[FD_TEXT];
	struct vm_info info;
	int vm, mem, i;

	for (i = 0; i < (int)ARRAY_SIZE(names); i++) {
		vm = new_vm_named("window", names[i]);
		mem = new_mem_named(PAGE, 0, names[i]);
		ASSERT_LE(0, vm);
		ASSERT_LE(0, mem);

		ASSERT_EQ(0, get_vm(&self->c, vm, &info));
		EXPECT_STREQ(names[i], info.name);
		ASSERT_TRUE(fd_text(vm, "gmem-name:", name));
		EXPECT_STREQ(names[i], name);

		ASSERT_EQ(0, find_mem_name(&self->c, mem, name));
		EXPECT_STREQ(names[i], name);
		ASSERT_TRUE(fd_text(mem, "gmem-name:", name));
		EXPECT_STREQ(names[i], name);
		/* The name is the guestmem's, not the descriptor's. */
		close(vm);
		vm = reopen(mem, O_RDONLY);
		ASSERT_TRUE(fd_text(vm, "gmem-name:", name));
		EXPECT_STREQ(names[i], name);
		close(vm);
		close(mem);
	}

	/* Objects without a name. */
	ASSERT_EQ(0, get_vm(&self->c, self->vm, &info));
	EXPECT_STREQ("", info.name);
	EXPECT_FALSE(fd_text(self->vm, "gmem-name:", name));
	ASSERT_EQ(0, find_mem_name(&self->c, self->mem, name));
	EXPECT_STREQ("", name);
	EXPECT_FALSE(fd_text(self->mem, "gmem-name:", name));
	vm = err_of(ioctl(gmem_dev(), GMEM_CREATE_VM, 0));
	ASSERT_LE(0, vm);
	ASSERT_EQ(0, get_vm(&self->c, vm, &info));
	EXPECT_STREQ("", info.name);
	close(vm);
}

/* The memory of a memfd_secret() file, too, can have a name. */
TEST_F(netlink, name_of_secret_memory)
{
	struct gmem_mem_from_secret from = {
		.size = sizeof(from),
		.name = "a secret",
	};
	char name[GMEM_OBJECT_NAME_LEN];
	void *p;
	int mem;

	from.secret_fd = err_of(syscall(SYS_memfd_secret, O_CLOEXEC));
	if (from.secret_fd < 0)
		SKIP(return, "no secret memory");
	ASSERT_EQ(0, ftruncate(from.secret_fd, PAGE));
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 from.secret_fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	memset(p, 1, PAGE);
	munmap(p, PAGE);
	mem = err_of(ioctl(gmem_dev(), GMEM_MEM_FROM_SECRET, &from));
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, find_mem_name(&self->c, mem, name));
	EXPECT_STREQ("a secret", name);
	close(mem);
}

TEST_F(netlink, window_kinds)
{
	struct vm_info info;
	int vm;

	ASSERT_EQ(0, get_vm(&self->c, self->vm, &info));
	EXPECT_EQ(GMEM_WINDOW_KIND_PAGED, info.kind);
	if (have_provider("live")) {
		vm = new_vm("live", GMEM_POLICY_ALLOW);
		ASSERT_EQ(0, get_vm(&self->c, vm, &info));
		EXPECT_EQ(GMEM_WINDOW_KIND_LIVE, info.kind);
		EXPECT_STREQ("window", info.provider);
		close(vm);
	}
	if (have_provider("mock")) {
		vm = new_vm("mock", GMEM_POLICY_ALLOW);
		ASSERT_EQ(0, get_vm(&self->c, vm, &info));
		EXPECT_EQ(GMEM_WINDOW_KIND_NONE, info.kind);
		close(vm);
	}
}

/* More than fit into one buffer. */
#define MANY 300

TEST_F(netlink, vm_dump)
{
	struct ids *ids = calloc(1, sizeof(*ids));
	int vms[MANY], i;

	for (i = 0; i < MANY; i++) {
		vms[i] = new_vm_named("window", i % 2 ? LONG_NAME : "");
		ASSERT_LE(0, vms[i]);
	}
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_VM_GET, add_vm_id, ids));
	EXPECT_FALSE(self->c.interrupted);
	EXPECT_TRUE(ascending(ids));
	for (i = 0; i < MANY; i++) {
		EXPECT_EQ(1, count_id(ids, vm_id(vms[i])));
		close(vms[i]);
	}
	free(ids);
}

TEST_F(netlink, binding_dump)
{
	struct bindings *list = calloc(2, sizeof(*list)), *all = list + 1;
	struct gmem_binding_info want[2 * MANY];
	int other, mem, i, nr;

	mem = new_mem(MANY * PAGE, 0);
	ASSERT_LE(0, mem);
	other = new_vm("window", GMEM_POLICY_ALLOW);
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 0, PAGE, LEND | RWX));
	for (i = 0; i < MANY; i++)
		ASSERT_EQ(0, map_mem(self->vm, GPA + 2 * i * PAGE, mem,
				     (MANY - 1 - i) * PAGE, PAGE,
				     i % 2 ? LEND | RX : SHARE | RWX));
	/* Trim and split another binding. */
	ASSERT_EQ(0, map_mem(self->vm, 0, self->mem, 8 * PAGE, 8 * PAGE,
			     LEND | RWX));
	ASSERT_EQ(0, unmap_range(self->vm, 2 * PAGE, 2 * PAGE, NULL));
	ASSERT_EQ(0, unmap_range(self->vm, 0, PAGE, NULL));
	/* Policies of their own, with the number 0 among them. */
	for (i = 0; i <= GMEM_POLICY_DENY; i++)
		ASSERT_EQ(0, new_map(self->vm, (32 + i) * PAGE, self->mem,
				     (1 + i) * PAGE, PAGE,
				     LEND | RWX | GMEM_MAP_POLICY, i));

	nr = query_vm(self->vm, want, ARRAY_SIZE(want));
	EXPECT_EQ(MANY + 5, nr);

	ASSERT_EQ(0, request_u32(&self->c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
				 GMEM_A_BINDING_VM_ID, vm_id(self->vm),
				 add_binding, list));
	EXPECT_FALSE(self->c.interrupted);
	ASSERT_EQ(nr, list->nr);
	EXPECT_EQ(0, memcmp(want, list->b, nr * sizeof(*want)));

	/* All VMs, with this one among them. */
	all->vm = vm_id(self->vm);
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_BINDING_GET, add_binding,
				  all));
	ASSERT_EQ(nr, all->nr);
	EXPECT_EQ(0, memcmp(want, all->b, nr * sizeof(*want)));
	all->nr = 0;
	all->vm = vm_id(other);
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_BINDING_GET, add_binding,
				  all));
	ASSERT_EQ(1, all->nr);
	EXPECT_EQ(mem_id(self->mem), all->b[0].mem_id);
	close(other);
	close(mem);
	free(list);
}

/* An unmap that fails in the middle of a binding leaves one binding. */
TEST_F(netlink, failed_unmap_leaves_one_binding)
{
	struct bindings *list = calloc(1, sizeof(*list));
	int vm = new_vm("mock", GMEM_POLICY_ALLOW);

	ASSERT_LE(0, vm);
	ASSERT_EQ(0, map_mem(vm, GPA, self->mem, 0, 8 * PAGE, LEND | RWX));
	ASSERT_EQ(0, populate_range(vm, GPA, 8 * PAGE, NULL));
	ASSERT_EQ(0, mock_fail(vm, GMEM_TEST_RECLAIM, 1, 1));
	ASSERT_EQ(-EIO, unmap_range(vm, GPA + 2 * PAGE, 2 * PAGE, NULL));
	ASSERT_EQ(0, request_u32(&self->c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
				 GMEM_A_BINDING_VM_ID, vm_id(vm), add_binding,
				 list));
	ASSERT_EQ(1, list->nr);
	EXPECT_EQ(GPA, list->b[0].guest_addr);
	EXPECT_EQ(8 * PAGE, list->b[0].length);
	EXPECT_EQ(0, list->b[0].offset);
	close(vm);
	free(list);
}

TEST_F(netlink, mem_get)
{
	struct ids *ids = calloc(1, sizeof(*ids));
	struct gmem_mem_query q = {};
	int mems[MANY], i;

	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 8 * PAGE, LEND | RWX));
	ASSERT_EQ(0, map_mem(self->vm, GPA + MIB(1), self->mem, 8 * PAGE,
			     8 * PAGE, SHARE | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, 3 * PAGE, NULL));
	ASSERT_EQ(0, populate_range(self->vm, GPA + MIB(1), 2 * PAGE, NULL));
	ASSERT_EQ(0, mem_alloc(self->mem, 0, 60 * PAGE, PAGE));

	ASSERT_EQ(0, get_mem(&self->c, self->mem, &q));
	EXPECT_EQ(64 * PAGE, q.length);
	EXPECT_EQ(PAGE, q.offset);
	EXPECT_EQ(58, q.absent);
	EXPECT_EQ(1, q.host);
	EXPECT_EQ(3, q.lent);
	EXPECT_EQ(2, q.shared);
	EXPECT_EQ(0, q.leaked);

	if (have_huge()) {
		int huge = new_mem(4 * HUGE_PAGE, GMEM_MEM_ALLOW_HUGEPAGE);

		ASSERT_EQ(0, mem_alloc(huge, 0, HUGE_PAGE, HUGE_PAGE));
		ASSERT_EQ(0, get_mem(&self->c, huge, &q));
		EXPECT_EQ(HUGE_PAGE, q.offset);
		EXPECT_EQ(HUGE_PAGE / PAGE, q.host);
		EXPECT_EQ(3 * HUGE_PAGE / PAGE, q.absent);
		close(huge);
	}

	for (i = 0; i < MANY; i++) {
		mems[i] = new_mem_named(PAGE, 0, i % 2 ? LONG_NAME : "");
		ASSERT_LE(0, mems[i]);
	}
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_MEM_GET, add_mem_id, ids));
	EXPECT_FALSE(self->c.interrupted);
	EXPECT_TRUE(ascending(ids));
	EXPECT_EQ(1, count_id(ids, mem_id(self->mem)));
	for (i = 0; i < MANY; i++) {
		EXPECT_EQ(1, count_id(ids, mem_id(mems[i])));
		close(mems[i]);
	}
	free(ids);
}

/* Do the family's counts agree with a look at every page? */
static bool counts_agree(struct client *c, int mem)
{
	struct gmem_mem_query kept = {}, counted = {};

	return !get_mem(c, mem, &kept) &&
	       !query_mem(mem, 0, kept.length, &counted) &&
	       kept.absent == counted.absent && kept.host == counted.host &&
	       kept.lent == counted.lent && kept.shared == counted.shared &&
	       kept.leaked == counted.leaked;
}

static void change_counts(struct __test_metadata *_metadata, struct client *c,
			  __u64 unit, __u64 flags)
{
	int vm = new_vm("window", GMEM_POLICY_ALLOW);
	int mem = new_mem(8 * unit, flags);

	ASSERT_LE(0, mem);
	EXPECT_TRUE(counts_agree(c, mem));
	ASSERT_EQ(0, map_mem(vm, 0, mem, 0, 3 * unit, LEND | RWX));
	ASSERT_EQ(0, map_mem(vm, 4 * unit, mem, 3 * unit, 3 * unit,
			     SHARE | RWX));
	ASSERT_EQ(0, map_mem(vm, 8 * unit, mem, 3 * unit, 2 * unit,
			     SHARE | RWX));
	ASSERT_EQ(0, populate_range(vm, 0, 3 * unit, NULL));
	ASSERT_EQ(0, populate_range(vm, 4 * unit, 3 * unit, NULL));
	EXPECT_TRUE(counts_agree(c, mem));
	ASSERT_EQ(0, reclaim_range(vm, 0, unit, NULL));
	EXPECT_TRUE(counts_agree(c, mem));
	/*
	 * Punch a hole into lent pages and into pages that two bindings share.
	 */
	ASSERT_EQ(0, mem_alloc(mem, PUNCH, 2 * unit, 2 * unit));
	EXPECT_TRUE(counts_agree(c, mem));
	ASSERT_EQ(0, unmap_range(vm, 4 * unit, 2 * unit, NULL));
	EXPECT_TRUE(counts_agree(c, mem));
	ASSERT_EQ(0, unmap_range(vm, 0, 16 * unit, NULL));
	EXPECT_TRUE(counts_agree(c, mem));

	if (have_provider("mock")) {
		int mock = new_vm("mock", GMEM_POLICY_ALLOW);

		ASSERT_EQ(0, map_mem(mock, 0, mem, 0, 2 * unit, LEND | RWX));
		ASSERT_EQ(0, populate_range(mock, 0, 2 * unit, NULL));
		ASSERT_EQ(0, mock_fail(mock, GMEM_TEST_RECLAIM, 1, 1));
		close(mock);
		EXPECT_TRUE(counts_agree(c, mem));
		ASSERT_EQ(0, mem_alloc(mem, PUNCH, 0, unit));
		EXPECT_TRUE(counts_agree(c, mem));
	}
	close(vm);
	close(mem);
}

TEST_F(netlink, mem_counts)
{
	change_counts(_metadata, &self->c, PAGE, 0);
	if (have_huge())
		change_counts(_metadata, &self->c, HUGE_PAGE,
			      GMEM_MEM_ALLOW_HUGEPAGE);
}

/* ---- views ---- */

struct view_info {
	int nr;
	__u32 id;
	__u64 mem;
	__u64 offset;
	__u64 length;
	__u32 flags;
	bool revoked;
	char name[GMEM_OBJECT_NAME_LEN];
	__u32 pid;
};

static void get_view_info(struct nlattr **attrs, void *arg)
{
	struct view_info *info = arg;

	info->nr++;
	info->id = attr_u32(attrs, GMEM_A_VIEW_ID);
	info->mem = attr_u64(attrs, GMEM_A_VIEW_MEM_ID);
	info->offset = attr_u64(attrs, GMEM_A_VIEW_OFFSET);
	info->length = attr_u64(attrs, GMEM_A_VIEW_LENGTH);
	info->flags = attr_u32(attrs, GMEM_A_VIEW_FLAGS);
	info->revoked = attrs[GMEM_A_VIEW_REVOKED];
	attr_name(attrs, GMEM_A_VIEW_NAME, info->name);
	info->pid = attr_u32(attrs, GMEM_A_VIEW_PID);
}

static int get_view(struct client *c, __u32 id, struct view_info *info)
{
	memset(info, 0, sizeof(*info));
	return request_u32(c, GMEM_CMD_VIEW_GET, NLM_F_ACK, GMEM_A_VIEW_ID, id,
			   get_view_info, info);
}

static void add_view_id(struct nlattr **attrs, void *arg)
{
	add_id(arg, attr_u32(attrs, GMEM_A_VIEW_ID));
}

TEST_F(netlink, view_get)
{
	struct view_info info;
	int view, first;
	__u64 id, plain;
	void *p;

	first = new_view(self->mem, 0, PAGE, 0, &plain);
	ASSERT_LE(0, first);
	view = new_view_named(self->mem, 2 * PAGE, 3 * PAGE,
			      GMEM_VIEW_READ_ONLY, LONG_NAME, &id);
	ASSERT_LE(0, view);

	ASSERT_EQ(0, get_view(&self->c, plain, &info));
	EXPECT_EQ(1, info.nr);
	EXPECT_EQ(plain, info.id);
	EXPECT_EQ(0, info.offset);
	EXPECT_EQ(PAGE, info.length);
	EXPECT_EQ(0, info.flags);
	EXPECT_STREQ("", info.name);

	ASSERT_EQ(0, get_view(&self->c, id, &info));
	EXPECT_EQ(1, info.nr);
	EXPECT_EQ(id, info.id);
	EXPECT_EQ(mem_id(self->mem), info.mem);
	EXPECT_EQ(2 * PAGE, info.offset);
	EXPECT_EQ(3 * PAGE, info.length);
	EXPECT_EQ(GMEM_VIEW_READ_ONLY, info.flags);
	EXPECT_FALSE(info.revoked);
	EXPECT_STREQ(LONG_NAME, info.name);
	EXPECT_EQ(getpid(), (pid_t)info.pid);

	/* A revoked view stays until its last mapping goes. */
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, view, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, revoke_view(self->mem, id, NULL));
	close(view);
	ASSERT_EQ(0, get_view(&self->c, id, &info));
	EXPECT_TRUE(info.revoked);
	EXPECT_STREQ(LONG_NAME, info.name);
	munmap(p, PAGE);
	EXPECT_EQ(-ENOENT, get_view(&self->c, id, &info));
	EXPECT_EQ(0, get_view(&self->c, plain, &info));
	close(first);
}

TEST_F(netlink, view_dump)
{
	struct ids *ids = calloc(1, sizeof(*ids));
	int views[MANY], i;

	for (i = 0; i < MANY; i++) {
		views[i] = new_view_named(self->mem, 0, PAGE, 0,
					  i % 2 ? LONG_NAME : "", NULL);
		ASSERT_LE(0, views[i]);
	}
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_VIEW_GET, add_view_id,
				  ids));
	EXPECT_FALSE(self->c.interrupted);
	EXPECT_TRUE(ascending(ids));
	EXPECT_EQ(MANY, ids->nr);
	for (i = 0; i < MANY; i++) {
		EXPECT_EQ(1, count_id(ids, view_id(views[i])));
		close(views[i]);
	}
	free(ids);
}

/* ---- window descriptors ---- */

struct window_info {
	int nr;
	__u32 id;
	__u32 vm;
	__u64 guest_addr;
	__u64 length;
	__u32 flags;
	char name[GMEM_OBJECT_NAME_LEN];
	__u32 pid;
};

static void get_window_info(struct nlattr **attrs, void *arg)
{
	struct window_info *info = arg;

	info->nr++;
	info->id = attr_u32(attrs, GMEM_A_WINDOW_ID);
	info->vm = attr_u32(attrs, GMEM_A_WINDOW_VM_ID);
	info->guest_addr = attr_u64(attrs, GMEM_A_WINDOW_GUEST_ADDR);
	info->length = attr_u64(attrs, GMEM_A_WINDOW_LENGTH);
	info->flags = attr_u32(attrs, GMEM_A_WINDOW_FLAGS);
	attr_name(attrs, GMEM_A_WINDOW_NAME, info->name);
	info->pid = attr_u32(attrs, GMEM_A_WINDOW_PID);
}

static int get_window(struct client *c, __u32 id, struct window_info *info)
{
	memset(info, 0, sizeof(*info));
	return request_u32(c, GMEM_CMD_WINDOW_GET, NLM_F_ACK, GMEM_A_WINDOW_ID,
			   id, get_window_info, info);
}

static void add_window_id(struct nlattr **attrs, void *arg)
{
	add_id(arg, attr_u32(attrs, GMEM_A_WINDOW_ID));
}

TEST_F(netlink, window_get)
{
	__u32 flags = GMEM_WINDOW_READ_ONLY | GMEM_WINDOW_NO_DISCARD, vm_number;
	struct window_info info;
	int vm, window, first;
	__u64 id, plain;
	void *p;

	if (!have_provider("live"))
		SKIP(return, "no live windows");
	vm = new_vm("live", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, vm);
	vm_number = vm_id(vm);
	first = new_window(vm, 0, PAGE, 0, &plain);
	ASSERT_LE(0, first);
	window = new_window_named(vm, GPA, 3 * PAGE, flags, LONG_NAME, &id);
	ASSERT_LE(0, window);

	ASSERT_EQ(0, get_window(&self->c, plain, &info));
	EXPECT_EQ(1, info.nr);
	EXPECT_EQ(plain, info.id);
	EXPECT_EQ(0, info.guest_addr);
	EXPECT_EQ(PAGE, info.length);
	EXPECT_EQ(0, info.flags);
	EXPECT_STREQ("", info.name);

	ASSERT_EQ(0, get_window(&self->c, id, &info));
	EXPECT_EQ(1, info.nr);
	EXPECT_EQ(id, info.id);
	EXPECT_EQ(vm_number, info.vm);
	EXPECT_EQ(GPA, info.guest_addr);
	EXPECT_EQ(3 * PAGE, info.length);
	EXPECT_EQ(flags, info.flags);
	EXPECT_STREQ(LONG_NAME, info.name);
	EXPECT_EQ(getpid(), (pid_t)info.pid);

	/* The descriptor stays until its last mapping goes, and so the VM. */
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, window, 0);
	ASSERT_NE(MAP_FAILED, p);
	close(window);
	close(vm);
	close(first);
	EXPECT_EQ(-ENOENT, get_window(&self->c, plain, &info));
	ASSERT_EQ(0, get_window(&self->c, id, &info));
	EXPECT_EQ(vm_number, info.vm);
	munmap(p, PAGE);
	EXPECT_EQ(-ENOENT, get_window(&self->c, id, &info));
}

TEST_F(netlink, window_dump)
{
	struct ids *ids = calloc(1, sizeof(*ids));
	int windows[MANY], vm, i;

	if (!have_provider("live"))
		SKIP(return, "no live windows");
	vm = new_vm("live", GMEM_POLICY_ALLOW);
	for (i = 0; i < MANY; i++) {
		windows[i] = new_window_named(vm, 0, PAGE, 0,
					      i % 2 ? LONG_NAME : "", NULL);
		ASSERT_LE(0, windows[i]);
	}
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_WINDOW_GET, add_window_id,
				  ids));
	EXPECT_FALSE(self->c.interrupted);
	EXPECT_TRUE(ascending(ids));
	EXPECT_EQ(MANY, ids->nr);
	for (i = 0; i < MANY; i++) {
		EXPECT_EQ(1, count_id(ids, window_id(windows[i])));
		close(windows[i]);
	}
	close(vm);
	free(ids);
}

/* ---- the module ---- */

static void get_stats_info(struct nlattr **attrs, void *arg)
{
	struct gmem_stats *s = arg;

	s->vms = attr_u64(attrs, GMEM_A_STATS_VMS);
	s->mems = attr_u64(attrs, GMEM_A_STATS_MEMS);
	s->bindings = attr_u64(attrs, GMEM_A_STATS_BINDINGS);
	s->lent_pages = attr_u64(attrs, GMEM_A_STATS_LENT_PAGES);
	s->leaked_pages = attr_u64(attrs, GMEM_A_STATS_LEAKED_PAGES);
	s->lends = attr_u64(attrs, GMEM_A_STATS_LENDS);
	s->reclaims = attr_u64(attrs, GMEM_A_STATS_RECLAIMS);
	s->refused = attr_u64(attrs, GMEM_A_STATS_REFUSED);
}

/* ---- refused accesses ---- */

struct faults {
	int nr;
	/* Collect this VM's rows only, or 0: all. */
	__u32 vm;
	struct gmem_fault_info f[2 * GMEM_NR_FAULTS];
};

static void add_fault(struct nlattr **attrs, void *arg)
{
	struct faults *list = arg;

	if (list->vm && attr_u32(attrs, GMEM_A_FAULT_VM_ID) != list->vm)
		return;
	if (list->nr == (int)ARRAY_SIZE(list->f))
		return;
	list->f[list->nr++] = (struct gmem_fault_info){
		.seq = attr_u64(attrs, GMEM_A_FAULT_SEQ),
		.guest_addr = attr_u64(attrs, GMEM_A_FAULT_GUEST_ADDR),
		.access = attr_u32(attrs, GMEM_A_FAULT_ACCESS),
		.reason = attr_u32(attrs, GMEM_A_FAULT_REASON),
		.count = attr_u64(attrs, GMEM_A_FAULT_COUNT),
		.pid = attr_u32(attrs, GMEM_A_FAULT_TID),
	};
}

static int get_vm_faults(struct client *c, int vm, struct faults *list)
{
	memset(list, 0, sizeof(*list));
	return request_u32(c, GMEM_CMD_FAULT_GET, NLM_F_DUMP,
			   GMEM_A_FAULT_VM_ID, vm_id(vm), add_fault, list);
}

/* More rows than one message buffer holds, and than a VM keeps. */
TEST_F(netlink, fault_get)
{
	struct pollfd p = { .events = POLLPRI };
	struct gmem_fault_info want[GMEM_NR_FAULTS] = {};
	struct faults list;
	int guest, i;

	guest = new_guest("window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, guest);
	ASSERT_EQ(0, get_vm_faults(&self->c, guest, &list));
	EXPECT_EQ(0, list.nr);
	for (i = 0; i < GMEM_NR_FAULTS + 10; i++)
		ASSERT_EQ(-EFAULT, guest_read(guest, GPA + i * PAGE));
	ASSERT_EQ(-EFAULT, guest_read(guest, GPA + (i - 1) * PAGE));

	ASSERT_EQ(0, get_vm_faults(&self->c, guest, &list));
	EXPECT_FALSE(self->c.interrupted);
	/* The VMM still learns of the rows. */
	p.fd = guest;
	EXPECT_EQ(1, poll(&p, 1, 0));
	ASSERT_EQ(GMEM_NR_FAULTS,
		  get_faults(guest, 0, want, GMEM_NR_FAULTS, NULL));
	ASSERT_EQ(GMEM_NR_FAULTS, list.nr);
	EXPECT_EQ(0, memcmp(want, list.f, sizeof(want)));
	EXPECT_EQ(GPA + 10 * PAGE, list.f[0].guest_addr);
	EXPECT_EQ(2, list.f[GMEM_NR_FAULTS - 1].count);
	EXPECT_EQ(GMEM_FAULT_UNBOUND, list.f[0].reason);
	EXPECT_EQ((__u32)syscall(SYS_gettid), list.f[0].pid);

	/* All VMs, with this one among them. */
	memset(&list, 0, sizeof(list));
	list.vm = vm_id(guest);
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_FAULT_GET, add_fault,
				  &list));
	ASSERT_EQ(GMEM_NR_FAULTS, list.nr);
	EXPECT_EQ(0, memcmp(want, list.f, sizeof(want)));
	close_guest(guest);
}

TEST_F(netlink, stats_get)
{
	struct gmem_stats want, got = { .size = sizeof(got) };

	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, PAGE, LEND | RWX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, PAGE, NULL));
	ASSERT_EQ(0, get_stats(&want));
	ASSERT_EQ(0, request_do(&self->c, GMEM_CMD_STATS_GET, get_stats_info,
				&got));
	EXPECT_EQ(0, memcmp(&want, &got, sizeof(want)));
	EXPECT_LT(0, got.lends);
}

TEST_F(netlink, bad_requests)
{
	struct client *c = &self->c;
	struct nl_msg *msg;

	/* A mandatory attribute is missing. */
	EXPECT_EQ(-EINVAL, request_do(c, GMEM_CMD_VM_GET, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_do(c, GMEM_CMD_MEM_GET, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_do(c, GMEM_CMD_WINDOW_GET, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_do(c, GMEM_CMD_VIEW_GET, NULL, NULL));
	/* No object has that number. */
	EXPECT_EQ(-ERANGE, request_u32(c, GMEM_CMD_VM_GET, NLM_F_ACK,
				       GMEM_A_VM_ID, 0, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u32(c, GMEM_CMD_VM_GET, NLM_F_ACK,
				       GMEM_A_VM_ID, ~0U, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK,
				       GMEM_A_MEM_ID, 0, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK,
				       GMEM_A_MEM_ID, ~0ULL, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK,
				       GMEM_A_MEM_ID,
				       mem_id(self->mem) | 1ULL << 32, NULL,
				       NULL));
	EXPECT_EQ(-ENOENT, request_u32(c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
				       GMEM_A_BINDING_VM_ID, ~0U, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u32(c, GMEM_CMD_FAULT_GET, NLM_F_DUMP,
				       GMEM_A_FAULT_VM_ID, ~0U, NULL, NULL));
	EXPECT_EQ(-ERANGE, request_u32(c, GMEM_CMD_FAULT_GET, NLM_F_DUMP,
				       GMEM_A_FAULT_VM_ID, 0, NULL, NULL));
	EXPECT_EQ(-ERANGE, request_u32(c, GMEM_CMD_WINDOW_GET, NLM_F_ACK,
				       GMEM_A_WINDOW_ID, 0, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u32(c, GMEM_CMD_WINDOW_GET, NLM_F_ACK,
				       GMEM_A_WINDOW_ID, ~0U, NULL, NULL));
	EXPECT_EQ(-ERANGE, request_u32(c, GMEM_CMD_VIEW_GET, NLM_F_ACK,
				       GMEM_A_VIEW_ID, 0, NULL, NULL));
	EXPECT_EQ(-ENOENT, request_u32(c, GMEM_CMD_VIEW_GET, NLM_F_ACK,
				       GMEM_A_VIEW_ID, ~0U, NULL, NULL));
	/* An attribute has the wrong size, or doesn't belong to the request. */
	EXPECT_EQ(-EINVAL, request_u64(c, GMEM_CMD_VM_GET, NLM_F_ACK,
				       GMEM_A_VM_ID, vm_id(self->vm), NULL,
				       NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_MEM_GET, NLM_F_ACK,
				       GMEM_A_MEM_ID, mem_id(self->mem), NULL,
				       NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_VM_GET, NLM_F_ACK,
				       GMEM_A_VM_POLICY, 1, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_VM_GET, NLM_F_DUMP,
				       GMEM_A_VM_ID, vm_id(self->vm), NULL,
				       NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_STATS_GET, NLM_F_ACK,
				       GMEM_A_STATS_VMS, 1, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
				       GMEM_A_BINDING_MEM_ID, 1, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_WINDOW_GET, NLM_F_ACK,
				       GMEM_A_WINDOW_VM_ID, 1, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_WINDOW_GET, NLM_F_DUMP,
				       GMEM_A_WINDOW_ID, 1, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_u64(c, GMEM_CMD_VIEW_GET, NLM_F_ACK,
				       GMEM_A_VIEW_ID, 1, NULL, NULL));
	EXPECT_EQ(-EINVAL, request_u32(c, GMEM_CMD_VIEW_GET, NLM_F_DUMP,
				       GMEM_A_VIEW_ID, 1, NULL, NULL));
	/* The request supports only dump, only do, or neither. */
	EXPECT_EQ(-EOPNOTSUPP,
		  request_u32(c, GMEM_CMD_BINDING_GET, NLM_F_ACK,
			      GMEM_A_BINDING_VM_ID, 1, NULL, NULL));
	EXPECT_EQ(-EOPNOTSUPP, request_do(c, GMEM_CMD_FAULT_GET, NULL, NULL));
	EXPECT_EQ(-EOPNOTSUPP, request_dump(c, GMEM_CMD_STATS_GET, NULL, NULL));
	EXPECT_EQ(-EOPNOTSUPP, request_do(c, GMEM_CMD_EVENT, NULL, NULL));
	EXPECT_EQ(-EOPNOTSUPP, request_do(c, GMEM_CMD_MAX + 1, NULL, NULL));
	/* An attribute is cut short. */
	msg = request_new(c, GMEM_CMD_VM_GET, NLM_F_ACK);
	nlmsg_append(msg, "\x08", 1, 0);
	EXPECT_EQ(-EINVAL, request_send(c, msg, NULL, NULL));
}

/*
 * Make all calls without the right to. Returns the number of those that weren't
 * refused.
 */
static int calls_allowed(struct client *c, __u32 vm, __u64 mem)
{
	int allowed = 0;

	allowed += request_u32(c, GMEM_CMD_VM_GET, NLM_F_ACK, GMEM_A_VM_ID, vm,
			       NULL, NULL) != -EPERM;
	allowed += request_u64(c, GMEM_CMD_MEM_GET, NLM_F_ACK, GMEM_A_MEM_ID,
			       mem, NULL, NULL) != -EPERM;
	allowed += request_u32(c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
			       GMEM_A_BINDING_VM_ID, vm, NULL, NULL) != -EPERM;
	/* A stranger can't learn which numbers there are. */
	allowed += request_u32(c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
			       GMEM_A_BINDING_VM_ID, ~0U, NULL, NULL) != -EPERM;
	allowed += request_dump(c, GMEM_CMD_BINDING_GET, NULL, NULL) != -EPERM;
	allowed += request_u32(c, GMEM_CMD_FAULT_GET, NLM_F_DUMP,
			       GMEM_A_FAULT_VM_ID, vm, NULL, NULL) != -EPERM;
	allowed += request_dump(c, GMEM_CMD_FAULT_GET, NULL, NULL) != -EPERM;
	allowed += request_dump(c, GMEM_CMD_VM_GET, NULL, NULL) != -EPERM;
	allowed += request_dump(c, GMEM_CMD_MEM_GET, NULL, NULL) != -EPERM;
	allowed += request_u32(c, GMEM_CMD_WINDOW_GET, NLM_F_ACK,
			       GMEM_A_WINDOW_ID, 1, NULL, NULL) != -EPERM;
	allowed += request_dump(c, GMEM_CMD_WINDOW_GET, NULL, NULL) != -EPERM;
	allowed += request_u32(c, GMEM_CMD_VIEW_GET, NLM_F_ACK, GMEM_A_VIEW_ID,
			       1, NULL, NULL) != -EPERM;
	allowed += request_dump(c, GMEM_CMD_VIEW_GET, NULL, NULL) != -EPERM;
	allowed += request_do(c, GMEM_CMD_STATS_GET, NULL, NULL) != -EPERM;
	return allowed;
}

static int run_child(int (*fn)(FIXTURE_DATA(netlink) *self),
		     FIXTURE_DATA(netlink) *self)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(fn(self));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int child_without_caps(FIXTURE_DATA(netlink) *self)
{
	__u32 vm = vm_id(self->vm);
	__u64 mem = mem_id(self->mem);
	struct listener *l;

	if (setresuid(65534, 65534, 65534))
		return 100;
	l = listener_open();
	if (listener_join(l) != -EPERM)
		return 101;
	listener_close(l);

	struct client c;

	if (client_open(&c))
		return 102;
	return calls_allowed(&c, vm, mem);
}

/* A socket that a privileged process has opened doesn't help. */
static int child_with_others_socket(FIXTURE_DATA(netlink) *self)
{
	__u32 vm = vm_id(self->vm);
	__u64 mem = mem_id(self->mem);

	if (setresuid(65534, 65534, 65534))
		return 100;
	return calls_allowed(&self->c, vm, mem);
}

/* Root of its own user and network namespace. */
static int child_in_namespace(FIXTURE_DATA(netlink) *self)
{
	struct client c;

	(void)self;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return errno == EINVAL ? 0 : 100;
	/* The family isn't there. */
	return client_open(&c) == -ENOENT ? 0 : 101;
}

TEST_F(netlink, permissions)
{
	EXPECT_EQ(0, run_child(child_without_caps, self));
	EXPECT_EQ(0, run_child(child_with_others_socket, self));
	EXPECT_EQ(0, run_child(child_in_namespace, self));
}

/* ---- dumps under change ---- */

#define STABLE 200

/*
 * Until killed, map and unmap between the bindings that stay, and create and
 * close VMs.
 */
static void change_for_ever(const FIXTURE_DATA(netlink) *self)
{
	unsigned int i;
	int vm, mem, view;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mem = new_mem(STABLE * PAGE, 0);
	for (i = 0;; i++) {
		__u64 gpa = GPA + (2 * (i * 7 % STABLE) + 1) * PAGE;

		if (map_mem(self->vm, gpa, mem, 0, PAGE, LEND | RWX) ||
		    populate_range(self->vm, gpa, PAGE, NULL) ||
		    unmap_range(self->vm, gpa, PAGE, NULL))
			_exit(1);
		if (i % 16)
			continue;
		vm = new_vm("window", GMEM_POLICY_ALLOW);
		if (map_mem(vm, 0, mem, 0, 8 * PAGE, SHARE | RWX))
			_exit(2);
		close(vm);
		view = new_view(mem, 0, PAGE, 0, NULL);
		if (view < 0)
			_exit(3);
		close(view);
	}
}

static int count_binding(const struct bindings *list, __u64 gpa)
{
	int i, n = 0;

	for (i = 0; i < list->nr; i++)
		n += list->b[i].guest_addr == gpa;
	return n;
}

TEST_F(netlink, dump_under_change)
{
	struct bindings *list = calloc(1, sizeof(*list));
	int interrupted = 0, consistent = 0, mem, view, i, j, ret;
	struct ids *ids = calloc(1, sizeof(*ids));
	pid_t pid;

	mem = new_mem(STABLE * PAGE, 0);
	view = new_view(mem, 0, PAGE, 0, NULL);
	ASSERT_LE(0, view);
	for (i = 0; i < STABLE; i++)
		ASSERT_EQ(0, map_mem(self->vm, GPA + 2 * i * PAGE, mem,
				     i * PAGE, PAGE, SHARE | RWX));
	pid = fork();
	if (!pid)
		change_for_ever(self);

	for (i = 0; i < (int)scaled(500); i++) {
		list->nr = 0;
		list->vm = vm_id(self->vm);
		if (i % 2)
			ret = request_u32(&self->c, GMEM_CMD_BINDING_GET,
					  NLM_F_DUMP, GMEM_A_BINDING_VM_ID,
					  list->vm, add_binding, list);
		else
			ret = request_dump(&self->c, GMEM_CMD_BINDING_GET,
					   add_binding, list);
		ASSERT_EQ(0, ret);
		interrupted += self->c.interrupted;
		consistent += !self->c.interrupted;
		/* A binding that doesn't change is listed once. */
		for (j = 0; j < STABLE; j++)
			ASSERT_EQ(1, count_binding(list, GPA + 2 * j * PAGE));
		/* At most one other binding exists at a time. */
		if (!self->c.interrupted)
			EXPECT_GE(STABLE + 1, list->nr);

		ids->nr = 0;
		ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_VM_GET, add_vm_id,
					  ids));
		ASSERT_EQ(1, count_id(ids, vm_id(self->vm)));
		ids->nr = 0;
		ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_MEM_GET,
					  add_mem_id, ids));
		ASSERT_EQ(1, count_id(ids, mem_id(mem)));
		ids->nr = 0;
		ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_VIEW_GET,
					  add_view_id, ids));
		ASSERT_EQ(1, count_id(ids, view_id(view)));
	}
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EXPECT_LT(0, interrupted);

	/* The changes have stopped. */
	ASSERT_EQ(0, request_dump(&self->c, GMEM_CMD_BINDING_GET, add_binding,
				  list));
	EXPECT_FALSE(self->c.interrupted);
	TH_LOG("%d dumps interrupted, %d not", interrupted, consistent);
	close(view);
	close(mem);
	free(list);
	free(ids);
}

struct closing {
	int vm;
	int nr;
};

static void close_vm(struct nlattr **attrs, void *arg)
{
	struct closing *closing = arg;

	(void)attrs;
	closing->nr++;
	close(closing->vm);
	closing->vm = -1;
}

/* The VM ends between two messages of its dump. */
TEST_F(netlink, vm_gone_in_dump)
{
	struct closing closing = { .vm = new_vm("window", GMEM_POLICY_ALLOW) };
	int i;

	for (i = 0; i < 1000; i++)
		ASSERT_EQ(0, map_mem(closing.vm, 2 * i * PAGE, self->mem, 0,
				     PAGE, SHARE | RWX));
	ASSERT_EQ(0, request_u32(&self->c, GMEM_CMD_BINDING_GET, NLM_F_DUMP,
				 GMEM_A_BINDING_VM_ID, vm_id(closing.vm),
				 close_vm, &closing));
	EXPECT_TRUE(self->c.interrupted);
	EXPECT_LT(0, closing.nr);
	EXPECT_GT(1000, closing.nr);
}

/*
 * The last guestmem takes its filesystem with it, here while a dump reads it.
 */
TEST(last_mem_ends_under_a_reader)
{
	struct ids *ids = calloc(1, sizeof(*ids));
	struct client c;
	int i, seen = 0, mem;
	pid_t pid;

	ASSERT_EQ(0, client_open(&c));
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			mem = new_mem(64 * PAGE, 0);
			if (mem < 0 || mem_alloc(mem, 0, 0, 64 * PAGE))
				_exit(1);
			close(mem);
		}
	}
	for (i = 0; i < (int)scaled(3000); i++) {
		ids->nr = 0;
		ASSERT_EQ(0, request_dump(&c, GMEM_CMD_MEM_GET, add_mem_id,
					  ids));
		seen += ids->nr;
	}
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	EXPECT_LT(0, seen);
	client_close(&c);
	free(ids);
}

TEST_HARNESS_MAIN
