// SPDX-License-Identifier: GPL-2.0-only
/* The ABI: numbers, layouts, passing of arguments. */
#include "lib/gmem.h"

#include <stddef.h>

#include <linux/gmem_gunyah.h>

#define SAME(what, value) _Static_assert((what) == (value), #what)

/* These calls are compatible with the Gunyah v17 series. */
SAME(GMEM_CREATE_VM, 0x4700);
SAME(GMEM_CREATE_MEM, 0x40404708);
SAME(GMEM_VM_MAP_MEM, 0x40204709);
SAME(sizeof(struct gmem_create_mem), 64);
SAME(offsetof(struct gmem_create_mem, flags), 0);
SAME(offsetof(struct gmem_create_mem, size), 8);
SAME(offsetof(struct gmem_create_mem, name), 16);
SAME(offsetof(struct gmem_create_mem, reserved), 48);
SAME(GMEM_MEM_CLOEXEC, 1);
SAME(GMEM_MEM_ALLOW_HUGEPAGE, 2);
SAME(GMEM_MEM_CGROUP, 4);
SAME(sizeof(struct gmem_map_mem), 32);
SAME(offsetof(struct gmem_map_mem, guest_addr), 0);
SAME(offsetof(struct gmem_map_mem, flags), 8);
SAME(offsetof(struct gmem_map_mem, guest_mem_fd), 12);
SAME(offsetof(struct gmem_map_mem, offset), 16);
SAME(offsetof(struct gmem_map_mem, size), 24);
SAME(GMEM_MAP_DEFAULT_ACCESS, 0);
SAME(GMEM_MAP_FORCE_LEND, 1);
SAME(GMEM_MAP_FORCE_SHARE, 2);
SAME(GMEM_MAP_ACCESS_MASK, 7);
SAME(GMEM_MAP_ALLOW_READ, 1 << 4);
SAME(GMEM_MAP_ALLOW_WRITE, 1 << 5);
SAME(GMEM_MAP_ALLOW_EXEC, 1 << 6);
SAME(GMEM_MAP_UNMAP, 1 << 8);

/* gmem's own calls never change either. */
SAME(GMEM_INFO, 0x4780);
SAME(GMEM_VM_CREATE, 0x4781);
SAME(GMEM_STATS, 0x4782);
SAME(GMEM_MEM_FROM_SECRET, 0x4783);
SAME(GMEM_MEM_CREATE, 0x4784);
SAME(GMEM_VM_UNMAP, 0x4790);
SAME(GMEM_VM_RECLAIM, 0x4791);
SAME(GMEM_VM_POPULATE, 0x4792);
SAME(GMEM_VM_QUERY, 0x4793);
SAME(GMEM_VM_FAULTS, 0x4794);
SAME(GMEM_VM_SET_POLICY, 0x4795);
SAME(GMEM_VM_WINDOW, 0x4796);
SAME(GMEM_VM_WAITERS, 0x4797);
SAME(GMEM_VM_SET_ABSENT, 0x4798);
SAME(GMEM_VM_FILL, 0x4799);
SAME(GMEM_VM_CHANGE, 0x479a);
SAME(GMEM_VM_MAP, 0x479b);
SAME(GMEM_MEM_QUERY, 0x47a0);
SAME(GMEM_MEM_VIEW, 0x47a1);
SAME(GMEM_MEM_REVOKE, 0x47a2);
SAME(GMEM_MEM_RUNS, 0x47a3);
SAME(sizeof(struct gmem_info), 96);
SAME(offsetof(struct gmem_info, max_user_bindings), 72);
SAME(offsetof(struct gmem_info, provider_name), 48);
SAME(sizeof(struct gmem_vm_create), 64);
SAME(offsetof(struct gmem_vm_create, name), 32);
SAME(sizeof(struct gmem_stats), 72);
SAME(sizeof(struct gmem_mem_from_secret), 48);
SAME(offsetof(struct gmem_mem_from_secret, name), 16);
SAME(sizeof(struct gmem_mem_create), 72);
SAME(offsetof(struct gmem_mem_create, length), 8);
SAME(offsetof(struct gmem_mem_create, name), 16);
SAME(offsetof(struct gmem_mem_create, numa_mode), 48);
SAME(offsetof(struct gmem_mem_create, nodes), 56);
SAME(offsetof(struct gmem_mem_create, cgroup_fd), 64);
SAME(GMEM_OBJECT_NAME_LEN, 32);
SAME(sizeof(struct gmem_vm_range), 32);
SAME(sizeof(struct gmem_binding_info), 40);
SAME(sizeof(struct gmem_vm_query), 40);
SAME(offsetof(struct gmem_vm_query, entry_size), 32);
SAME(sizeof(struct gmem_fault_info), 40);
SAME(offsetof(struct gmem_fault_info, pid), 32);
SAME(sizeof(struct gmem_vm_faults), 40);
SAME(offsetof(struct gmem_vm_faults, entry_size), 32);
SAME(sizeof(struct gmem_vm_set_policy), 8);
SAME(sizeof(struct gmem_mem_query), 64);
SAME(sizeof(struct gmem_mem_view), 64);
SAME(offsetof(struct gmem_mem_view, name), 32);
SAME(sizeof(struct gmem_mem_revoke), 24);
SAME(sizeof(struct gmem_mem_run), 24);
SAME(sizeof(struct gmem_mem_runs), 40);
SAME(offsetof(struct gmem_mem_runs, entry_size), 36);
SAME(GMEM_VIEW_READ_ONLY, 1);
SAME(sizeof(struct gmem_vm_window), 64);
SAME(offsetof(struct gmem_vm_window, name), 32);
SAME(sizeof(struct gmem_vm_change), 24);
SAME(sizeof(struct gmem_vm_map), 40);
SAME(offsetof(struct gmem_vm_map, mem_fd), 32);
SAME(GMEM_MAP_POLICY, 1 << 9);
SAME(GMEM_MAP_JOIN, 1 << 10);
SAME(GMEM_WINDOW_READ_ONLY, 1);
SAME(GMEM_WINDOW_NO_DISCARD, 2);

/* The calls of gunyah VMs are compatible with the v17 series, too. */
SAME(GMEM_GUNYAH_SET_DTB_CONFIG, 0x40104702);
SAME(GMEM_GUNYAH_START, 0x4703);
SAME(GMEM_GUNYAH_ADD_FUNCTION, 0x40104704);
SAME(GMEM_GUNYAH_VCPU_RUN, 0x4705);
SAME(GMEM_GUNYAH_VCPU_MMAP_SIZE, 0x4706);
SAME(GMEM_GUNYAH_REMOVE_FUNCTION, 0x40104707);
SAME(GMEM_GUNYAH_SET_BOOT_CONTEXT, 0x4010470a);
SAME(GMEM_GUNYAH_FN_VCPU, 1);
SAME(GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_SP, 1), 0x201);
SAME(sizeof(struct gmem_gunyah_dtb_config), 16);
SAME(sizeof(struct gmem_gunyah_fn_desc), 16);
SAME(offsetof(struct gmem_gunyah_fn_desc, arg), 8);
SAME(sizeof(struct gmem_gunyah_fn_vcpu_arg), 4);
SAME(GMEM_GUNYAH_FN_IRQFD, 2);
SAME(GMEM_GUNYAH_IRQFD_LEVEL, 1);
SAME(sizeof(struct gmem_gunyah_fn_irqfd_arg), 16);
SAME(offsetof(struct gmem_gunyah_fn_irqfd_arg, label), 4);
SAME(offsetof(struct gmem_gunyah_fn_irqfd_arg, flags), 8);
SAME(GMEM_GUNYAH_FN_IOEVENTFD, 3);
SAME(GMEM_GUNYAH_IOEVENTFD_DATAMATCH, 1);
SAME(sizeof(struct gmem_gunyah_fn_ioeventfd_arg), 32);
SAME(offsetof(struct gmem_gunyah_fn_ioeventfd_arg, addr), 8);
SAME(offsetof(struct gmem_gunyah_fn_ioeventfd_arg, len), 16);
SAME(offsetof(struct gmem_gunyah_fn_ioeventfd_arg, fd), 20);
SAME(offsetof(struct gmem_gunyah_fn_ioeventfd_arg, flags), 24);
SAME(sizeof(struct gmem_gunyah_boot_context), 16);
SAME(offsetof(struct gmem_gunyah_boot_context, value), 8);
SAME(sizeof(struct gmem_gunyah_vm_exit_info), 16);
SAME(sizeof(struct gmem_gunyah_vcpu_run), 40);
SAME(offsetof(struct gmem_gunyah_vcpu_run, exit_reason), 8);
SAME(offsetof(struct gmem_gunyah_vcpu_run, mmio.phys_addr), 16);
SAME(offsetof(struct gmem_gunyah_vcpu_run, mmio.data), 24);
SAME(offsetof(struct gmem_gunyah_vcpu_run, mmio.len), 32);
SAME(offsetof(struct gmem_gunyah_vcpu_run, mmio.is_write), 36);
SAME(offsetof(struct gmem_gunyah_vcpu_run, mmio.resume_action), 37);
SAME(offsetof(struct gmem_gunyah_vcpu_run, status.status), 16);
SAME(offsetof(struct gmem_gunyah_vcpu_run, status.exit_info), 20);
SAME(offsetof(struct gmem_gunyah_vcpu_run, page_fault.phys_addr), 16);
SAME(offsetof(struct gmem_gunyah_vcpu_run, page_fault.attempt), 24);
SAME(offsetof(struct gmem_gunyah_vcpu_run, page_fault.resume_action), 28);

enum on { DEV, VM, MEM, NR_ON };

FIXTURE(abi)
{
	int fd[NR_ON];
};

/* The guestmem for GMEM_VM_MAP. */
static __u32 map_call_fd;

FIXTURE_SETUP(abi)
{
	self->fd[DEV] = gmem_dev();
	ASSERT_LE(0, self->fd[DEV]);
	/* A window VM has the calls common to all providers, and no others. */
	if (have_provider("live"))
		self->fd[VM] = create_vm("live", (struct gmem_vm_create){
			.flags = GMEM_VM_WAIT,
		});
	else
		self->fd[VM] = new_vm("window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->fd[VM]);
	self->fd[MEM] = new_mem(MIB(4), 0);
	ASSERT_LE(0, self->fd[MEM]);
	map_call_fd = self->fd[MEM];
}

FIXTURE_TEARDOWN(abi)
{
	close(self->fd[MEM]);
	close(self->fd[VM]);
}

/* A call whose struct begins with its size, with valid arguments. */
struct sized_call {
	const char *name;
	unsigned int cmd;
	enum on on;
	/* The size of the struct, and that of its first version. */
	__u32 size;
	__u32 first_size;
	/* The call writes a result back. */
	bool out;
	/* The offset of a field for which all ones are invalid. */
	size_t wrong_at;
	__u64 words[9];
};

/* A struct that hasn't grown. */
#define SIZED(_cmd, _on, _struct, _out, _wrong)				\
	GROWN(_cmd, _on, _struct, sizeof(_struct), _out, _wrong)
#define GROWN(_cmd, _on, _struct, _first, _out, _wrong)			\
	.name = #_cmd, .cmd = _cmd, .on = _on, .size = sizeof(_struct),	\
	.first_size = _first, .out = _out,				\
	.wrong_at = offsetof(_struct, _wrong)

static const struct sized_call sized_calls[] = {
	{ GROWN(GMEM_INFO, DEV, struct gmem_info, 72, true, provider_index) },
	{ GROWN(GMEM_VM_CREATE, DEV, struct gmem_vm_create, 32, false, flags) },
	{ SIZED(GMEM_STATS, DEV, struct gmem_stats, true, flags) },
	{ GROWN(GMEM_MEM_CREATE, DEV, struct gmem_mem_create, 64, true, flags),
	  .words = { 0, ANY_PAGE } },
	{ SIZED(GMEM_VM_UNMAP, VM, struct gmem_vm_range, true, flags),
	  .words = { 0, 0, ANY_PAGE } },
	{ SIZED(GMEM_VM_RECLAIM, VM, struct gmem_vm_range, true, flags),
	  .words = { 0, 0, ANY_PAGE } },
	{ SIZED(GMEM_VM_POPULATE, VM, struct gmem_vm_range, true, flags),
	  .words = { 0, MIB(1), ANY_PAGE } },
	{ GROWN(GMEM_VM_QUERY, VM, struct gmem_vm_query, 32, true, guest_addr),
	  .words = { 0, 0, ANY_PAGE, 0, sizeof(struct gmem_binding_info) } },
	{ GROWN(GMEM_VM_FAULTS, VM, struct gmem_vm_faults, 32, true, reserved),
	  .words = { 0, 0, 0, 0, sizeof(struct gmem_fault_info) } },
	{ SIZED(GMEM_VM_SET_POLICY, VM, struct gmem_vm_set_policy, false,
		policy) },
	{ SIZED(GMEM_VM_WINDOW, VM, struct gmem_vm_window, true, flags),
	  .words = { 0, 0, ANY_PAGE } },
	/* No room for entries, and their size. */
	{ SIZED(GMEM_VM_WAITERS, VM, struct gmem_vm_waiters, true, flags),
	  .words = { 0, (__u64)sizeof(struct gmem_waiter_info) << 32 } },
	{ SIZED(GMEM_VM_SET_ABSENT, VM, struct gmem_vm_set_absent, false,
		absent),
	  .words = { 0, 0, ANY_PAGE } },
	{ SIZED(GMEM_VM_CHANGE, VM, struct gmem_vm_change, false, flags),
	  .words = { (__u64)SHARE << 32, MIB(1), ANY_PAGE } },
	{ SIZED(GMEM_VM_MAP, VM, struct gmem_vm_map, false, flags),
	  .words = { (__u64)RWX << 32, MIB(2), MIB(1), ANY_PAGE, -1 } },
	{ SIZED(GMEM_VM_FILL, VM, struct gmem_vm_fill, false, flags),
	  .words = { (__u64)RWX << 32, MIB(2), -1, MIB(1), ANY_PAGE, -1 } },
	{ SIZED(GMEM_MEM_QUERY, MEM, struct gmem_mem_query, true, flags),
	  .words = { 0, 0, ANY_PAGE } },
	{ SIZED(GMEM_MEM_VIEW, MEM, struct gmem_mem_view, true, flags),
	  .words = { 0, 0, ANY_PAGE } },
	{ SIZED(GMEM_MEM_RUNS, MEM, struct gmem_mem_runs, true, flags),
	  .words = { 0, 0, ANY_PAGE, 0, sizeof(struct gmem_mem_run) << 32 } },
};

/* Only live VMs have window descriptors, or wait. */
static bool needs_live(unsigned int cmd)
{
	return cmd == GMEM_VM_WINDOW || cmd == GMEM_VM_WAITERS ||
	       cmd == GMEM_VM_SET_ABSENT;
}

static bool call_works(const struct sized_call *call)
{
	return !needs_live(call->cmd) || have_provider("live");
}

#define for_each_sized(call)						\
	for (call = sized_calls;					\
	     call < sized_calls + ARRAY_SIZE(sized_calls); call++)	\
		if (call_works(call))

static const __u8 fill_source[ANY_PAGE];

static void fill_call(const struct sized_call *call, void *arg, __u32 size)
{
	__u64 words[9];

	memcpy(words, call->words, sizeof(words));
	if (call->cmd == GMEM_VM_MAP)
		words[4] = map_call_fd;
	if (call->cmd == GMEM_VM_FILL) {
		words[2] = map_call_fd;
		words[5] = ptr_u64(fill_source);
	}
	memcpy(arg, words, size < call->size ? size : call->size);
	memcpy(arg, &size, sizeof(size));
}

static int do_call(const struct sized_call *call, const int *fds, void *arg)
{
	int ret = err_of(ioctl(fds[call->on], call->cmd, arg));

	if ((call->cmd == GMEM_VM_CREATE || call->cmd == GMEM_VM_WINDOW ||
	     call->cmd == GMEM_MEM_VIEW || call->cmd == GMEM_MEM_CREATE) &&
	    ret >= 0) {
		close(ret);
		return 0;
	}
	if ((call->cmd == GMEM_VM_MAP || call->cmd == GMEM_VM_FILL) && !ret)
		unmap_range(fds[call->on], MIB(2), ANY_PAGE, NULL);
	return ret;
}

/* A page with an inaccessible one on either side. */
static __u8 *guarded_page(void)
{
	__u8 *pages = mmap(NULL, 3 * PAGE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED ||
	    mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE))
		return NULL;
	return pages + PAGE;
}

static void bind_populate_target(const int *fds)
{
	map_mem(fds[VM], MIB(1), fds[MEM], 0, ANY_PAGE, RWX);
}

TEST_F(abi, sizes)
{
	const struct sized_call *call;
	__u8 *page = guarded_page();
	__u32 size;
	__u8 *arg;

	ASSERT_NE(NULL, page);
	bind_populate_target(self->fd);

	for_each_sized(call) {
		/* The kernel touches no byte behind the struct. */
		arg = page + PAGE - call->size;
		fill_call(call, arg, call->size);
		EXPECT_EQ(0, do_call(call, self->fd, arg));

		/* Structs of all sizes from the first version's on work. */
		for (size = call->first_size; size < call->size; size++) {
			memset(page, 0, PAGE);
			fill_call(call, page + PAGE - size, size);
			EXPECT_EQ(0, do_call(call, self->fd,
					     page + PAGE - size));
		}
		fill_call(call, arg, call->first_size - 1);
		EXPECT_EQ(-EINVAL, do_call(call, self->fd, arg));
		fill_call(call, arg, 4);
		EXPECT_EQ(-EINVAL, do_call(call, self->fd, arg));
		fill_call(call, arg, 0);
		EXPECT_EQ(-EINVAL, do_call(call, self->fd, arg));
		/* The size exceeds the memory by one byte. */
		fill_call(call, arg, call->size + 1);
		EXPECT_EQ(-EFAULT, do_call(call, self->fd, arg));

		arg = page;
		memset(page, 0, PAGE);
		fill_call(call, arg, call->size + 1);
		EXPECT_EQ(0, do_call(call, self->fd, arg));
		fill_call(call, arg, call->size + 1);
		arg[call->size] = 1;
		EXPECT_EQ(-E2BIG, do_call(call, self->fd, arg));

		/*
		 * The longest possible tail, all zero, and with a bit set at
		 * its end.
		 */
		memset(page, 0, PAGE);
		fill_call(call, arg, PAGE);
		EXPECT_EQ(0, do_call(call, self->fd, arg));
		fill_call(call, arg, PAGE);
		arg[PAGE - 1] = 0x80;
		EXPECT_EQ(-E2BIG, do_call(call, self->fd, arg));
		fill_call(call, arg, ~0U);
		EXPECT_EQ(-E2BIG, do_call(call, self->fd, arg));
	}
}

TEST_F(abi, answer_stays_within_size)
{
	const struct sized_call *call;
	__u8 arg[256], tail[128];
	__u32 size;

	memset(tail, 0xa5, sizeof(tail));
	bind_populate_target(self->fd);

	for_each_sized(call) {
		memset(arg, 0xa5, sizeof(arg));
		fill_call(call, arg, call->size);
		EXPECT_EQ(0, do_call(call, self->fd, arg));
		EXPECT_EQ(0, memcmp(arg + call->size, tail, sizeof(tail)));
		memcpy(&size, arg, sizeof(size));
		EXPECT_EQ(call->size, size);

		/*
		 * Nor does the kernel write to the zero tail of a later
		 * version's struct.
		 */
		memset(arg, 0, sizeof(arg));
		fill_call(call, arg, call->size + 16);
		memset(arg + call->size + 16, 0xa5, 16);
		EXPECT_EQ(0, do_call(call, self->fd, arg));
		EXPECT_EQ(0, memcmp(arg + call->size + 16, tail, 16));
		for (size = call->size; size < call->size + 16; size++)
			EXPECT_EQ(0, arg[size]);
	}
}

TEST_F(abi, failure_leaves_the_struct_alone)
{
	const struct sized_call *call;
	__u8 arg[128], before[128];
	__u32 ones = ~0U;

	for_each_sized(call) {
		/* These calls report their progress on failure. */
		if (call->cmd == GMEM_VM_RECLAIM ||
		    call->cmd == GMEM_VM_POPULATE || !call->wrong_at)
			continue;
		memset(arg, 0xa5, sizeof(arg));
		fill_call(call, arg, call->size);
		memcpy(arg + call->wrong_at, &ones, sizeof(ones));
		memcpy(before, arg, sizeof(arg));
		EXPECT_GT(0, do_call(call, self->fd, arg)) {
			TH_LOG("%s", call->name);
		}
		EXPECT_EQ(0, memcmp(arg, before, sizeof(arg)));
	}
}

TEST_F(abi, bad_pointers)
{
	const struct sized_call *call;
	__u8 *page = guarded_page();
	int i;

	ASSERT_NE(NULL, page);
	bind_populate_target(self->fd);

	for_each_sized(call) {
		void *const bad[] = { NULL, (void *)8, page - PAGE,
				      page + PAGE - 2, (void *)-4096,
				      (void *)(1UL << 63) };

		for (i = 0; i < (int)ARRAY_SIZE(bad); i++)
			EXPECT_EQ(-EFAULT, do_call(call, self->fd, bad[i])) {
				TH_LOG("%s, pointer %d", call->name, i);
			}

		/* Only a call with a result needs writable memory. */
		fill_call(call, page, call->size);
		mprotect(page, PAGE, PROT_READ);
		EXPECT_EQ(call->out ? -EFAULT : 0,
			  do_call(call, self->fd, page)) {
			TH_LOG("%s", call->name);
		}
		mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	}

	EXPECT_EQ(-EFAULT, err_of(ioctl(self->fd[DEV], GMEM_CREATE_MEM, NULL)));
	EXPECT_EQ(-EFAULT, err_of(ioctl(self->fd[DEV], GMEM_CREATE_MEM,
					page + PAGE - 63)));
	EXPECT_EQ(-EFAULT, err_of(ioctl(self->fd[VM], GMEM_VM_MAP_MEM, NULL)));
	EXPECT_EQ(-EFAULT, err_of(ioctl(self->fd[VM], GMEM_VM_MAP_MEM,
					page + PAGE - 31)));
}

/* Make each call that creates an object, with these bytes as its name. */
static int create_named_vm(const __u8 *name)
{
	struct gmem_vm_create create = { .size = sizeof(create) };

	memcpy(create.name, name, sizeof(create.name));
	return err_of(ioctl(gmem_dev(), GMEM_VM_CREATE, &create));
}

static int create_named_mem(const __u8 *name)
{
	struct gmem_create_mem create = { .size = PAGE };

	memcpy(create.name, name, sizeof(create.name));
	return err_of(ioctl(gmem_dev(), GMEM_CREATE_MEM, &create));
}

static int create_named_secret_mem(const __u8 *name)
{
	struct gmem_mem_from_secret from = {
		.size = sizeof(from),
		.secret_fd = -1,
	};

	memcpy(from.name, name, sizeof(from.name));
	return err_of(ioctl(gmem_dev(), GMEM_MEM_FROM_SECRET, &from));
}

static int create_new_named_mem(const __u8 *name)
{
	struct gmem_mem_create create = {
		.size = sizeof(create),
		.length = PAGE,
	};

	memcpy(create.name, name, sizeof(create.name));
	return err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create));
}

static int create_named_view(const __u8 *name)
{
	int mem = new_mem(PAGE, 0);
	struct gmem_mem_view view = { .size = sizeof(view), .length = PAGE };
	int ret;

	memcpy(view.name, name, sizeof(view.name));
	ret = err_of(ioctl(mem, GMEM_MEM_VIEW, &view));
	close(mem);
	return ret;
}

static int create_named_window(const __u8 *name)
{
	int vm = new_vm("live", GMEM_POLICY_ALLOW);
	struct gmem_vm_window window = {
		.size = sizeof(window),
		.length = PAGE,
	};
	int ret;

	memcpy(window.name, name, sizeof(window.name));
	ret = err_of(ioctl(vm, GMEM_VM_WINDOW, &window));
	close(vm);
	return ret;
}

/* Each call and its error for a good name; 0: it returns a descriptor. */
static const struct {
	int (*fn)(const __u8 *name);
	int err;
} named_calls[] = {
	{ create_named_vm, 0 },
	{ create_named_mem, 0 },
	{ create_new_named_mem, 0 },
	{ create_named_secret_mem, -EBADF },
	{ create_named_view, 0 },
	/* Last: a host without live windows lacks it. */
	{ create_named_window, 0 },
};

/*
 * Does every call take the name, or refuse it? The @len bytes of @text begin
 * the name, and the other bytes are @fill.
 */
static bool all_calls(bool take, const char *text, size_t len, int fill)
{
	size_t nr = ARRAY_SIZE(named_calls) - !have_provider("live");
	__u8 name[GMEM_OBJECT_NAME_LEN];
	bool ok = true;
	size_t i;
	int ret;

	memset(name, fill, sizeof(name));
	memcpy(name, text, len);
	for (i = 0; i < nr; i++) {
		ret = named_calls[i].fn(name);
		if (ret >= 0)
			close(ret);
		ok &= (ret < 0 ? ret : 0) == (take ? named_calls[i].err :
						     -EINVAL);
	}
	return ok;
}

#define TAKEN(text) all_calls(true, text, strlen(text), 0)
#define REFUSED(text, len, fill) all_calls(false, text, len, fill)

TEST(names)
{
	struct gmem_info info;
	char text[2] = {};
	int c;

	ASSERT_EQ(0, get_info(0, &info));
	EXPECT_TRUE(info.features & GMEM_FEATURE_NAME);

	EXPECT_TRUE(TAKEN(""));
	EXPECT_TRUE(TAKEN("web-1"));
	EXPECT_TRUE(TAKEN("  two words \"and\" 100% \\ "));
	EXPECT_TRUE(TAKEN("0123456789abcdef0123456789abcde"));
	for (c = 1; c < 256; c++) {
		text[0] = c;
		EXPECT_EQ(c < 0x20 || c > 0x7e, REFUSED(text, 1, 0)) {
			TH_LOG("%#x", c);
		}
		EXPECT_EQ(c >= 0x20 && c <= 0x7e, TAKEN(text));
	}
	/* No NUL at the end. */
	EXPECT_TRUE(REFUSED("", 0, 'x'));
	EXPECT_TRUE(REFUSED("0123456789abcdef0123456789abcdef", 32, 0));
	/* Not all bytes after the NUL are 0. */
	EXPECT_TRUE(REFUSED("a\0b", 3, 0));
	EXPECT_TRUE(REFUSED("\0a", 2, 0));
	EXPECT_TRUE(REFUSED("0123456789abcdef0123456789abcd\0e", 32, 0));
	/* UTF-8 isn't ASCII, and a later byte counts as the first does. */
	EXPECT_TRUE(REFUSED("caf\xc3\xa9", 5, 0));
	EXPECT_TRUE(REFUSED("two\nlines", 9, 0));
}

TEST_F(abi, compatible_calls_only_read)
{
	struct gmem_create_mem create = { .size = MIB(1) };
	struct gmem_map_mem map = { .size = MIB(1), .flags = RWX };
	__u8 *page = guarded_page();
	int fd;

	ASSERT_NE(NULL, page);
	memcpy(page + PAGE - sizeof(create), &create, sizeof(create));
	mprotect(page, PAGE, PROT_READ);
	fd = err_of(ioctl(self->fd[DEV], GMEM_CREATE_MEM,
			  page + PAGE - sizeof(create)));
	ASSERT_LE(0, fd);

	map.guest_mem_fd = fd;
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	memcpy(page + PAGE - sizeof(map), &map, sizeof(map));
	mprotect(page, PAGE, PROT_READ);
	EXPECT_EQ(0, err_of(ioctl(self->fd[VM], GMEM_VM_MAP_MEM,
				  page + PAGE - sizeof(map))));
	close(fd);
}

static bool known(unsigned int cmd, enum on on)
{
	const struct sized_call *call;

	for_each_sized(call)
		if (call->cmd == cmd && call->on == on)
			return true;
	/*
	 * START is the only call of a single provider without a struct and
	 * without a size in its number.
	 */
	return (on == DEV && (cmd == GMEM_CREATE_VM || cmd == GMEM_CREATE_MEM ||
			      cmd == GMEM_MEM_FROM_SECRET)) ||
	       (on == VM && (cmd == GMEM_VM_MAP_MEM || cmd == GMEM_TEST ||
			     cmd == GMEM_GUNYAH_START ||
			     needs_live(cmd))) ||
	       /* A call that can be made only once: see view_test.c. */
	       (on == MEM && cmd == GMEM_MEM_REVOKE);
}

/*
 * Every number of gmem's ioctl type, with every direction and several sizes, on
 * each kind of file.
 */
TEST_F(abi, unknown_calls)
{
	static const unsigned int dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE,
					     _IOC_READ | _IOC_WRITE };
	static const unsigned int sizes[] = { 0, 32, 64 };
	unsigned int nr, dir, size, on, cmd;
	int ret;

	for (nr = 0; nr < 256; nr++)
		for (dir = 0; dir < ARRAY_SIZE(dirs); dir++)
			for (size = 0; size < ARRAY_SIZE(sizes); size++)
				for (on = 0; on < NR_ON; on++) {
					cmd = _IOC(dirs[dir], 'G', nr,
						   sizes[size]);
					if (known(cmd, on))
						continue;
					ret = err_of(ioctl(self->fd[on], cmd,
							   0));
					EXPECT_EQ(-ENOTTY, ret) {
						TH_LOG("%#x on %u", cmd, on);
					}
				}
}

TEST_F(abi, wrong_kind_of_file)
{
	struct gmem_create_mem create = { .size = PAGE };
	struct gmem_map_mem map = { .size = PAGE, .flags = RWX };
	const struct sized_call *call;
	__u8 arg[128];
	int fds[NR_ON];
	int on;

	for (on = 0; on < NR_ON; on++) {
		fds[DEV] = fds[VM] = fds[MEM] = self->fd[on];
		for_each_sized(call) {
			if ((int)call->on == on)
				continue;
			fill_call(call, arg, call->size);
			EXPECT_EQ(-ENOTTY, do_call(call, fds, arg));
		}
		if (on != DEV) {
			EXPECT_EQ(-ENOTTY,
				  err_of(ioctl(fds[0], GMEM_CREATE_VM, 0)));
			EXPECT_EQ(-ENOTTY, err_of(ioctl(fds[0], GMEM_CREATE_MEM,
							&create)));
		}
		if (on != VM)
			EXPECT_EQ(-ENOTTY, err_of(ioctl(fds[0], GMEM_VM_MAP_MEM,
							&map)));
	}
}

TEST_F(abi, other_operations_on_the_files)
{
	char byte = 0;
	int fd;

	EXPECT_EQ(-1, read(self->fd[MEM], &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd[MEM], &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(self->fd[VM], &byte, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd[VM], &byte, 1));
	EXPECT_EQ(EINVAL, errno);

	/* The size is fixed. */
	EXPECT_EQ(-1, ftruncate(self->fd[MEM], MIB(8)));
	EXPECT_TRUE(errno == EINVAL || errno == EPERM);
	EXPECT_EQ(-1, ftruncate(self->fd[MEM], PAGE));
	EXPECT_EQ(-1, ftruncate(self->fd[MEM], 0));
	EXPECT_EQ(0, ftruncate(self->fd[MEM], MIB(4)));
	EXPECT_EQ((off_t)MIB(4), lseek(self->fd[MEM], 0, SEEK_END));
	EXPECT_EQ((off_t)MIB(4), ({
		struct stat st = {};
		fstat(self->fd[MEM], &st);
		st.st_size;
	}));

	/* A VM can't be reopened, a guestmem can. */
	EXPECT_EQ(-ENXIO, reopen(self->fd[VM], O_RDWR));
	fd = reopen(self->fd[MEM], O_RDWR);
	EXPECT_LE(0, fd);
	close(fd);
	/* Reopening with O_TRUNC doesn't circumvent the fixed size. */
	fd = reopen(self->fd[MEM], O_RDWR | O_TRUNC);
	EXPECT_GT(0, fd);
}

#if defined(__x86_64__)
/* The layouts are the same for a 32-bit caller. */
TEST_F(abi, compat_caller)
{
	struct gmem_info *info;
	struct gmem_map_mem *map;
	long ret;
	int sig;

	info = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT_NE(MAP_FAILED, info);
	map = (struct gmem_map_mem *)(info + 1);
	info->size = sizeof(*info);
	*map = (struct gmem_map_mem){
		.guest_addr = GIB(8),
		.flags = RWX,
		.guest_mem_fd = self->fd[MEM],
		.size = MIB(4),
	};

#define COMPAT_IOCTL(fd, cmd, arg) ({					\
	long _ret;							\
	asm volatile("int $0x80" : "=a"(_ret)				\
		     : "a"(54), "b"(fd), "c"(cmd), "d"(arg)		\
		     : "memory", "r8", "r9", "r10", "r11");		\
	(long)(int)_ret; })

	sig = sigsetjmp(touch_env, 0);
	touch_armed = !sig;
	if (sig)
		SKIP(return, "no 32-bit system calls");
	ret = COMPAT_IOCTL(self->fd[DEV], GMEM_INFO, info);
	touch_armed = 0;
	if (ret == -ENOSYS)
		SKIP(return, "no 32-bit system calls");
	EXPECT_EQ(0, ret);
	EXPECT_EQ(GMEM_ABI_VERSION, info->abi_version);
	EXPECT_EQ(0, COMPAT_IOCTL(self->fd[VM], GMEM_VM_MAP_MEM, map));
	EXPECT_EQ(-EEXIST, COMPAT_IOCTL(self->fd[VM], GMEM_VM_MAP_MEM, map));
}
#endif

TEST_HARNESS_MAIN
