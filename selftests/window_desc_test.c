// SPDX-License-Identifier: GPL-2.0-only
/*
 * Window descriptors: descriptors of a range of a live VM's guest memory, which
 * can be mapped and discarded through, and nothing else.
 */
#include "lib/descriptor.h"
#include "lib/fixture.h"
#include "lib/pin.h"
#include "lib/threads.h"
#include "lib/view.h"
#include "lib/window_desc.h"

#include <pthread.h>
#include <sys/statfs.h>

#define UNITS 8
#define GPA GIB(1)

FIXTURE(window_desc)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* For all UNITS from GPA on. */
	int window;
	__u64 id;
	__u8 *map;
};

FIXTURE_VARIANT(window_desc)
{
	const char *provider;
	__u64 mem_flags;
};

EACH_SIZE(VARIANT, window_desc, live, .provider = "live");

FIXTURE_SETUP(window_desc)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
	self->window = new_window(self->vm, GPA, self->size, 0, &self->id);
	ASSERT_LE(0, self->window);
	self->map = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 self->window, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(window_desc)
{
	munmap(self->map, self->size);
	close(self->window);
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

#define AT(i) (self->map + (i) * self->unit)
#define HOST(i) (self->host + (i) * self->unit)
#define STATE(i) page_state(self->mem, (i) * self->unit)

#define BIND(first, nr, access)						\
	ASSERT_EQ(0, map_mem(self->vm, GPA + (first) * self->unit,	\
			     self->mem, (first) * self->unit,		\
			     (nr) * self->unit, (access)))

#define DISCARD(offset, length)						\
	mem_alloc(self->window, PUNCH, offset, length)

/* ---- creation ---- */

TEST_F(window_desc, values)
{
	struct gmem_vm_window window = {
		.size = sizeof(window),
		.length = PAGE,
	};
	int narrow = new_vm_bits("live", GMEM_POLICY_ALLOW, 30);
	int paged = new_vm("window", GMEM_POLICY_ALLOW);
	__u64 other;
	int fd;

	ASSERT_LE(0, narrow);
	ASSERT_LE(0, paged);
	EXPECT_EQ(-EINVAL, new_window(self->vm, 0, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, new_window(self->vm, 0, PAGE + 1, 0, NULL));
	EXPECT_EQ(-EINVAL, new_window(self->vm, 1, PAGE, 0, NULL));
	EXPECT_EQ(-EOVERFLOW, new_window(self->vm, -PAGE, 2 * PAGE, 0, NULL));
	EXPECT_EQ(-EINVAL, new_window(narrow, 0, GIB(1) + PAGE, 0, NULL));
	EXPECT_EQ(-EINVAL, new_window(narrow, GIB(1), PAGE, 0, NULL));
	EXPECT_EQ(-EINVAL, new_window(self->vm, 0, PAGE, 1 << 2, NULL));
	EXPECT_EQ(-EINVAL, new_window(self->vm, 0, PAGE, 1U << 31, NULL));
	memset(window.name, 'x', sizeof(window.name));
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->vm, GMEM_VM_WINDOW, &window)));
	EXPECT_EQ(-EOPNOTSUPP, new_window(paged, 0, PAGE, 0, NULL));
	/* Wrong values don't hide the kind of the VM. */
	EXPECT_EQ(-EOPNOTSUPP, new_window(paged, 0, 0, 0, NULL));
	EXPECT_EQ(-EOPNOTSUPP, new_window(paged, 1, PAGE, ~0U, NULL));

	/* Nothing need be bound. */
	fd = new_window(narrow, 0, GIB(1), 0, &other);
	EXPECT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_NE(0, self->id);
	EXPECT_NE(self->id, other);
	EXPECT_GT(1ULL << 32, other);
	close(fd);
	close(narrow);
	close(paged);
}

TEST_F(window_desc, attributes)
{
	struct statfs fs;
	struct stat st;
	int ro;

	ASSERT_EQ(0, fstat(self->window, &st));
	EXPECT_EQ(self->size, (__u64)st.st_size);
	EXPECT_EQ((mode_t)(S_IFREG | 0666), st.st_mode);
	EXPECT_EQ(self->id, st.st_ino);
	EXPECT_EQ(self->size, (__u64)lseek(self->window, 0, SEEK_END));
	ASSERT_EQ(0, fstatfs(self->window, &fs));
	EXPECT_EQ(GMEM_WINDOW_MAGIC, fs.f_type);
	EXPECT_EQ(self->id, window_id(self->window));
	EXPECT_EQ(vm_id(self->vm), fd_number(self->window, "gmem-window-vm:"));
	EXPECT_EQ(O_RDWR, fcntl(self->window, F_GETFL) & O_ACCMODE);

	ro = new_window(self->vm, 0, MIB(3), GMEM_WINDOW_READ_ONLY, NULL);
	ASSERT_LE(0, ro);
	ASSERT_EQ(0, fstat(ro, &st));
	EXPECT_EQ((mode_t)(S_IFREG | 0444), st.st_mode);
	EXPECT_EQ(O_RDONLY, fcntl(ro, F_GETFL) & O_ACCMODE);
	EXPECT_EQ((off_t)MIB(3), st.st_size);
	close(ro);
}

/* ---- mappings ---- */

TEST_F(window_desc, is_a_window)
{
	const __u64 u = self->unit;
	struct gmem_fault_info f;
	__u8 *part;

	EXPECT_EQ(SIGBUS, touch_read(AT(2) + 5));
	f = last_fault(self->vm);
	EXPECT_EQ(GMEM_FAULT_UNBOUND, f.reason);
	EXPECT_EQ(GPA + 2 * u, f.guest_addr);
	EXPECT_EQ(GMEM_ACCESS_READ, f.access);

	/* It shows at any time what is bound. */
	BIND(2, 2, LEND | RWX);
	ASSERT_EQ(0, touch_write(AT(2) + 5, 0x11));
	EXPECT_EQ('l', STATE(2));
	EXPECT_EQ(0x11, peek(HOST(2) + 5));
	EXPECT_EQ('h', STATE(2));
	EXPECT_EQ(0x11, peek(AT(2) + 5));
	EXPECT_EQ('l', STATE(2));
	EXPECT_EQ(SIGBUS, touch_read(AT(4)));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(SIGBUS, touch_read(AT(2)));
	BIND(2, 1, SHARE | RX);
	EXPECT_EQ(0x11, peek(AT(2) + 5));
	EXPECT_EQ(SIGBUS, touch_write(AT(2) + 5, 0x12));
	EXPECT_EQ(GMEM_FAULT_PERM, last_reason(self->vm));

	part = mmap(NULL, u, PROT_READ, MAP_SHARED, self->window, 2 * u);
	ASSERT_NE(MAP_FAILED, part);
	EXPECT_EQ(0x11, peek(part + 5));
	munmap(part, u);
	EXPECT_EQ(-EINVAL, mmap_errno(self->window, 0, self->size + PAGE,
				      PROT_READ, MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->window, self->size, PAGE,
				      PROT_READ, MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->window, u, self->size, PROT_READ,
				      MAP_SHARED));
	EXPECT_EQ(-EOVERFLOW, mmap_errno(self->window, -PAGE, 2 * PAGE,
					 PROT_READ, MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->window, 0, u, PROT_READ,
				      MAP_PRIVATE));
	EXPECT_EQ(-EPERM, mmap_errno(self->window, 0, u, PROT_READ | PROT_EXEC,
				     MAP_SHARED));
}

/* Huge pages fit, wherever in the guest the range begins. */
TEST_F(window_desc, alignment)
{
	__u8 *map;
	int fd;

	if (self->unit != HUGE_PAGE)
		SKIP(return, "small pages");
	fd = new_window(self->vm, GPA + MIB(1), MIB(8), 0, NULL);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, ptr_u64(self->map) % HUGE_PAGE);
	map = mmap(NULL, MIB(8), PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(MIB(1), ptr_u64(map) % HUGE_PAGE);
	munmap(map, MIB(8));
	close(fd);
}

/* Descriptors and mappings hold the VM; the VM's own descriptor isn't needed. */
TEST_F(window_desc, holds_the_vm)
{
	struct gmem_stats before, s;
	int vm, window;
	__u8 *map;

	ASSERT_EQ(0, get_stats(&before));
	vm = new_vm("live", GMEM_POLICY_ALLOW);
	ASSERT_EQ(0, map_mem(vm, GPA, self->mem, 0, self->size, LEND | RWX));
	window = new_window(vm, GPA, self->size, 0, NULL);
	ASSERT_LE(0, window);
	close(vm);
	map = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_SHARED, window,
		   0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, touch_write(map, 0x21));
	close(window);
	EXPECT_EQ('l', STATE(0));
	EXPECT_EQ(0x21, peek(map));
	ASSERT_EQ(0, get_stats(&s));
	EXPECT_EQ(before.vms + 1, s.vms);
	munmap(map, self->size);
	EXPECT_TRUE(stats_settle(&before));
	EXPECT_EQ(0x21, peek(HOST(0)));
}

TEST_F(window_desc, cant_be_pinned)
{
	int kinds[] = { PIN_SPLICE, PIN_URING }, fd[2], i, zero;
	struct iovec local = { .iov_len = 1 };
	struct iovec remote = { .iov_base = AT(0), .iov_len = 1 };
	__u8 byte = 0;

	local.iov_base = &byte;
	BIND(0, UNITS, LEND | RWX);
	ASSERT_EQ(0, touch_write(AT(0), 1));
	for (i = 0; i < (int)ARRAY_SIZE(kinds); i++) {
		if (pin_open(fd, kinds[i]))
			continue;
		EXPECT_NE(0, pin(fd, kinds[i], AT(0)));
		pin_close(fd);
	}
	EXPECT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));

	/* The kernel's copies work. */
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, zero);
	EXPECT_EQ(1, read(zero, AT(0), 1));
	EXPECT_EQ(0, peek(AT(0)));
	EXPECT_EQ('l', STATE(0));
	close(zero);
}

TEST_F(window_desc, fork)
{
	int status;
	pid_t pid;

	BIND(0, 1, LEND | RWX);
	ASSERT_EQ(0, touch_write(AT(0), 1));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(touch_read(self->map) != SIGSEGV);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* ---- rights ---- */

TEST_F(window_desc, hostile_holder)
{
	int ro, quiet, fd;
	__u64 i;

	BIND(0, UNITS, LEND | RWX);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(AT(i), 1 + i));
	ro = new_window(self->vm, GPA, self->size, GMEM_WINDOW_READ_ONLY, NULL);
	quiet = new_window(self->vm, GPA, self->size, GMEM_WINDOW_NO_DISCARD,
			   NULL);
	ASSERT_LE(0, ro);
	ASSERT_LE(0, quiet);
	check_only_maps(_metadata, self->window, self->size, self->vm);
	check_only_maps(_metadata, ro, self->size, self->vm);
	check_only_maps(_metadata, quiet, self->size, self->vm);
	EXPECT_EQ(-EBADF, mem_alloc(ro, PUNCH, 0, self->unit));
	EXPECT_EQ(-EOPNOTSUPP, mem_alloc(quiet, PUNCH, 0, self->unit));
	fd = reopen(quiet, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EOPNOTSUPP, mem_alloc(fd, PUNCH, 0, self->unit));
	close(fd);
	fd = reopen(self->window, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, mem_alloc(fd, PUNCH, 0, self->unit));
	close(fd);
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(1 + (int)i, peek(AT(i)));
	close(quiet);
	close(ro);
}

TEST_F(window_desc, hostile_mapping)
{
	const __u64 u = self->unit;
	__u8 *moved;
	__u64 i;
	int fd;

	BIND(0, UNITS - 1, LEND | RWX);
	for (i = 0; i < UNITS - 1; i++)
		ASSERT_EQ(0, touch_write(AT(i), 1 + i));
	advise_all(self->map, self->size);
	/* The kernel would punch a hole at the guest's address. */
	EXPECT_EQ(-EOPNOTSUPP, err_of(madvise(AT(1), u, MADV_REMOVE)));
	for (i = 0; i < UNITS - 1; i++)
		EXPECT_EQ(1 + (int)i, peek(AT(i)));

	EXPECT_EQ(MAP_FAILED, mremap(self->map, self->size, 2 * self->size,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(-ENODEV, err_of(remap_file_pages(AT(1), u, 0, 0, 0)));
	EXPECT_EQ(-EACCES, err_of(mprotect(AT(0), u, PROT_READ | PROT_EXEC)));
	EXPECT_TRUE(vm_flag(self->map, " dd"));
	EXPECT_TRUE(vm_flag(self->map, " de"));
	EXPECT_TRUE(vm_flag(self->map, " pf"));
	/* A mapping in /proc leads to the descriptor, not to the VM. */
	fd = reopen_mapping(self->map, self->size, O_RDWR);
	if (fd >= 0)
		EXPECT_EQ(self->id, window_id(fd));
	close(fd);

	moved = mremap(AT(2), 2 * u, 2 * u, MREMAP_MAYMOVE | MREMAP_FIXED,
		       self->map - GIB(4));
	ASSERT_EQ(self->map - GIB(4), moved);
	EXPECT_EQ(3, peek(moved));
	EXPECT_EQ(4, peek(moved + u));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(SIGBUS, touch_read(moved));
	munmap(moved, 2 * u);
}

TEST_F(window_desc, another_user)
{
	int ro;

	if (geteuid())
		SKIP(return, "needs root");
	BIND(0, UNITS, LEND | RWX);
	ro = new_window(self->vm, GPA, self->size, GMEM_WINDOW_READ_ONLY, NULL);
	ASSERT_LE(0, ro);
	EXPECT_EQ(0, as_nobody(open_and_write, self->window));
	EXPECT_EQ(0x77, peek(AT(0)));
	EXPECT_EQ(0, as_nobody(open_and_read, self->window));
	EXPECT_EQ(0, as_nobody(open_and_read, ro));
	EXPECT_EQ(-EACCES, as_nobody(open_and_write, ro));
	close(ro);
}

TEST_F(window_desc, read_only)
{
	int ro;

	BIND(0, UNITS, LEND | RWX);
	ASSERT_EQ(0, touch_write(AT(0), 0x11));
	ro = new_window(self->vm, GPA, self->size, GMEM_WINDOW_READ_ONLY, NULL);
	ASSERT_LE(0, ro);
	check_read_only(_metadata, ro, self->size);
	EXPECT_EQ(0x11, peek(AT(0)));
	close(ro);
}

/* ---- discards ---- */

TEST_F(window_desc, discard_values)
{
	BIND(0, UNITS, LEND | RWX);
	ASSERT_EQ(0, touch_write(AT(0), 1));
	EXPECT_EQ(-EOPNOTSUPP, mem_alloc(self->window, 0, 0, PAGE));
	EXPECT_EQ(-EOPNOTSUPP, mem_alloc(self->window, FALLOC_FL_KEEP_SIZE, 0,
					 PAGE));
	EXPECT_EQ(-EINVAL, DISCARD(0, PAGE - 1));
	EXPECT_EQ(-EINVAL, DISCARD(1, PAGE));
	EXPECT_EQ(-EINVAL, DISCARD(0, 0));
	EXPECT_EQ(-EINVAL, DISCARD(0, self->size + PAGE));
	EXPECT_EQ(-EINVAL, DISCARD(self->size, PAGE));
	EXPECT_EQ(-EINVAL, DISCARD(self->size - PAGE, 2 * PAGE));
	EXPECT_EQ(1, peek(AT(0)));
	EXPECT_EQ(0, DISCARD(self->size - PAGE, PAGE));
}

/* No policy denies a discard: the guest's contents are the guest's. */
TEST_F(window_desc, discard_lent_pages)
{
	static const __u32 policies[] = {
		GMEM_POLICY_ALLOW, GMEM_POLICY_SCRUB, GMEM_POLICY_DENY,
	};
	struct gmem_stats before, s;
	unsigned int p;
	int i;

	BIND(0, UNITS, LEND | RWX);
	for (p = 0; p < ARRAY_SIZE(policies); p++) {
		ASSERT_EQ(0, set_policy(self->vm, policies[p]));
		/* The host has prepared unit 2; the guest has the others. */
		ASSERT_EQ(0, DISCARD(0, self->size));
		ASSERT_EQ(0, touch_write(HOST(2), 0x99));
		for (i = 0; i < UNITS; i++)
			if (i != 2)
				ASSERT_EQ(0, touch_write(AT(i), 1 + i));
		ASSERT_EQ(0, get_stats(&before));
		ASSERT_EQ(0, DISCARD(self->unit, 3 * self->unit));
		ASSERT_EQ(0, get_stats(&s));
		EXPECT_EQ(before.lent_pages - 2 * self->unit / PAGE,
			  s.lent_pages);
		EXPECT_EQ('l', STATE(0));
		EXPECT_EQ('a', STATE(1));
		EXPECT_EQ('a', STATE(2));
		EXPECT_EQ('a', STATE(3));
		EXPECT_EQ('l', STATE(4));
		EXPECT_EQ(1, peek(AT(0)));
		EXPECT_EQ(5, peek(AT(4)));
		EXPECT_EQ(0, peek(AT(1)));
		EXPECT_EQ(0, peek(AT(2)));
		EXPECT_EQ('l', STATE(1));
		ASSERT_EQ(0, touch_write(AT(3), 7));
		EXPECT_EQ(7, peek(AT(3)));
	}
}

TEST_F(window_desc, discard_unbound)
{
	const __u64 u = self->unit;

	EXPECT_EQ(0, DISCARD(0, self->size));
	BIND(1, 1, LEND | RWX);
	BIND(5, 1, SHARE | RWX);
	ASSERT_EQ(0, touch_write(AT(1), 1));
	ASSERT_EQ(0, touch_write(AT(5), 5));
	ASSERT_EQ(0, touch_write(HOST(3), 3));
	EXPECT_EQ(0, DISCARD(2 * u, 3 * u));
	EXPECT_EQ(1, peek(AT(1)));
	EXPECT_EQ(5, peek(AT(5)));
	EXPECT_EQ(0, DISCARD(0, self->size));
	EXPECT_EQ(0, peek(AT(1)));
	EXPECT_EQ(0, peek(AT(5)));
	/* The guest hasn't this page. */
	EXPECT_EQ(3, peek(HOST(3)));
}

TEST_F(window_desc, discard_shared_pages)
{
	const __u64 u = self->unit;
	int other = new_vm("live", GMEM_POLICY_ALLOW), i, view;
	__u8 *seen;

	ASSERT_LE(0, other);
	BIND(0, UNITS, SHARE | RWX);
	view = new_view(self->mem, 0, self->size, 0, NULL);
	seen = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_SHARED, view,
		    0);
	ASSERT_NE(MAP_FAILED, seen);
	for (i = 0; i < UNITS; i++) {
		ASSERT_EQ(0, touch_write(AT(i), 1 + i));
		ASSERT_EQ(1 + i, peek(HOST(i)));
		ASSERT_EQ(1 + i, peek(seen + i * u));
	}
	ASSERT_EQ(0, map_mem(other, 0, self->mem, 3 * u, u, SHARE | RX));
	ASSERT_EQ(4, guest_read(other, 0));

	EXPECT_EQ(-EBUSY, DISCARD(2 * u, 2 * u));
	EXPECT_EQ(-EBUSY, DISCARD(3 * u, u));
	EXPECT_EQ(-EBUSY, DISCARD(3 * u + u - PAGE, 2 * PAGE));
	EXPECT_EQ(-EBUSY, DISCARD(0, self->size));
	for (i = 0; i < UNITS; i++) {
		EXPECT_EQ('s', STATE(i));
		EXPECT_EQ(1 + i, peek(AT(i)));
	}
	EXPECT_EQ(4, guest_read(other, 0));

	EXPECT_EQ(0, DISCARD(0, 3 * u));
	EXPECT_EQ('a', STATE(0));
	EXPECT_EQ(0, peek(AT(0)));
	EXPECT_EQ(0, peek(HOST(1)));
	EXPECT_EQ(0, peek(seen + 2 * u));
	EXPECT_EQ(4, peek(AT(3)));
	ASSERT_EQ(0, touch_write(AT(2), 0x55));
	EXPECT_EQ(0x55, peek(seen + 2 * u));
	close(other);
	EXPECT_EQ(0, DISCARD(3 * u, u));
	EXPECT_EQ(0, peek(AT(3)));

	/* Another binding of the same VM counts, too. */
	ASSERT_EQ(0, map_mem(self->vm, GPA + self->size, self->mem, 4 * u, u,
			     SHARE | RWX));
	EXPECT_EQ(-EBUSY, DISCARD(4 * u, u));
	EXPECT_EQ(5, peek(AT(4)));
	munmap(seen, self->size);
	close(view);
}

TEST_F(window_desc, discard_needs_write_access)
{
	const __u64 u = self->unit;
	int i;

	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(HOST(i), 1 + i));
	BIND(0, 3, LEND | RWX);
	BIND(3, 1, LEND | RX);
	BIND(4, 3, SHARE | RX);
	EXPECT_EQ(1, peek(AT(0)));
	EXPECT_EQ(-EACCES, DISCARD(0, 4 * u));
	EXPECT_EQ(-EACCES, DISCARD(3 * u, PAGE));
	EXPECT_EQ(-EACCES, DISCARD(4 * u, u));
	EXPECT_EQ(-EACCES, DISCARD(0, self->size));
	for (i = 0; i < 7; i++)
		EXPECT_EQ(1 + i, peek(AT(i)));
	EXPECT_EQ(0, DISCARD(0, 3 * u));
	EXPECT_EQ(0, peek(AT(2)));
	EXPECT_EQ(4, peek(AT(3)));
}

static void pinned(struct __test_metadata *_metadata,
		   FIXTURE_DATA(window_desc) *self, enum pin_kind kind)
{
	const __u64 u = self->unit;
	double end = now() + 5;
	int fd[2], byte, i, ret;

	if (pin_open(fd, kind))
		SKIP(return, "no io_uring");
	BIND(0, UNITS, LEND | RWX);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(i < 5 ? AT(i) : HOST(i), 1 + i));
	ASSERT_EQ(0, pin(fd, kind, HOST(6) + u - PAGE));
	EXPECT_EQ(-EBUSY, DISCARD(0, self->size));
	EXPECT_EQ(-EBUSY, DISCARD(6 * u, PAGE));
	for (i = 0; i < UNITS; i++) {
		EXPECT_EQ(i < 5 ? 'l' : 'h', STATE(i));
		EXPECT_EQ(1 + i, peek(i < 5 ? AT(i) : HOST(i)));
	}
	ASSERT_EQ(0, unpin(fd, kind, &byte));
	do {
		ret = DISCARD(0, self->size);
	} while (ret == -EBUSY && now() < end);
	EXPECT_EQ(0, ret);
	EXPECT_EQ('a', STATE(0));
	EXPECT_EQ('a', STATE(6));
	pin_close(fd);
}

TEST_F(window_desc, discard_pinned_by_a_pipe)
{
	pinned(_metadata, self, PIN_SPLICE);
}

TEST_F(window_desc, discard_pinned_by_a_ring)
{
	pinned(_metadata, self, PIN_URING);
}

struct discarder {
	int window;
	__u64 size;
	int ret;
	volatile bool done;
};

static void *discard_once(void *arg)
{
	struct discarder *d = arg;

	d->ret = mem_alloc(d->window, PUNCH, 0, d->size);
	d->done = true;
	return NULL;
}

/*
 * A back-end keeps a page in a pipe, and uses it. The VM's calls and the guest don't
 * wait for it, and the discard comes to its end.
 */
TEST_F(window_desc, discard_held_by_a_backend)
{
	struct discarder d = { .window = self->window, .size = self->size };
	struct toucher b = {};
	struct gmem_binding_info info;
	int view = new_view(self->mem, 0, self->size, 0, NULL);
	int fd[2], byte, queries = 0;
	pthread_t threads[2];
	double start;

	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_LE(0, view);
	b.page = map_host(view, 0, self->size);
	ASSERT_NE(MAP_FAILED, b.page);
	BIND(0, UNITS, SHARE | RWX);
	ASSERT_EQ(0, touch_write(AT(0), 1));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, b.page));
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, touch_on, &b));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, discard_once, &d));
	for (start = now(); !d.done && now() < start + 10; queries++) {
		double before = now();

		EXPECT_EQ(1, query_vm(self->vm, &info, 1));
		EXPECT_EQ(0, touch_read(AT(1)));
		EXPECT_GT(before + 1, now());
		usleep(1000);
	}
	EXPECT_LT(0, queries);
	EXPECT_GT(start + 10, now());
	b.stop = true;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	EXPECT_EQ(-EBUSY, d.ret);
	EXPECT_EQ(1, peek(AT(0)));
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	EXPECT_EQ(0, DISCARD(0, self->size));
	munmap(b.page, self->size);
	close(view);
	pin_close(fd);
}

/* The holder of a page may wait for the guest's memory: the discard waits on. */
TEST_F(window_desc, discard_held_by_a_reader)
{
	struct discarder d = { .window = self->window, .size = self->size };
	pthread_t thread;
	double start;
	int fd[2];

	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	BIND(0, UNITS, SHARE | RWX);
	ASSERT_EQ(0, touch_write(HOST(0), 1));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, HOST(0)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, discard_once, &d));
	usleep(100000);
	/* The pipe keeps the page until all of it is in the guest's memory. */
	start = now();
	EXPECT_EQ((int)PAGE, err_of(read(fd[0], AT(1), PAGE)));
	EXPECT_GT(start + 1, now());
	pthread_join(thread, NULL);
	EXPECT_EQ(0, d.ret);
	EXPECT_EQ(0, peek(AT(0)));
	pin_close(fd);
}

/* Several guestmems and bindings: all of the range, or nothing. */
TEST_F(window_desc, discard_many_bindings)
{
	const __u64 u = self->unit;
	int other = new_vm("live", GMEM_POLICY_ALLOW), mems[3], i;

	for (i = 0; i < 3; i++) {
		mems[i] = new_mem(UNITS * u, variant->mem_flags);
		ASSERT_LE(0, mems[i]);
	}
	/* Neighbours in the guest are in different guestmems, in any order. */
	for (i = 0; i < UNITS; i++) {
		ASSERT_EQ(0, map_mem(self->vm, GPA + i * u, mems[i * 2 % 3],
				     (UNITS - 1 - i) * u, u,
				     (i % 2 ? SHARE : LEND) | RWX));
		ASSERT_EQ(0, touch_write(AT(i), 1 + i));
	}
	ASSERT_EQ(0, map_mem(other, 0, mems[7 * 2 % 3], 0, u, SHARE | RWX));
	EXPECT_EQ(-EBUSY, DISCARD(0, self->size));
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(1 + i, peek(AT(i)));
	close(other);
	EXPECT_EQ(0, DISCARD(0, self->size));
	for (i = 0; i < UNITS; i++) {
		EXPECT_EQ('a', page_state(mems[i * 2 % 3],
					  (UNITS - 1 - i) * u));
		EXPECT_EQ(0, peek(AT(i)));
	}
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	for (i = 0; i < 3; i++)
		close(mems[i]);
}

/* A large discard goes in pieces; if it is refused at the end, nothing changes. */
TEST_F(window_desc, discard_in_pieces)
{
	const __u64 size = MIB(8), u = self->unit;
	int other = new_vm("live", GMEM_POLICY_ALLOW);
	int mem = new_mem(size, variant->mem_flags);
	int window = new_window(self->vm, 0, size, 0, NULL);
	int fd[2], byte;
	struct gmem_mem_query q;
	__u8 *map, *host;
	__u64 i;

	ASSERT_LE(0, other);
	ASSERT_LE(0, mem);
	ASSERT_LE(0, window);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, window, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, map_mem(self->vm, 0, mem, 0, size / 2, LEND | RWX));
	ASSERT_EQ(0, map_mem(self->vm, size / 2, mem, size / 2, size / 2 - u,
			     SHARE | RWX));
	ASSERT_EQ(0, map_mem(self->vm, size - u, mem, size - u, u, SHARE | RX));
	for (i = 0; i < size - u; i += PAGE)
		ASSERT_EQ(0, touch_write(map + i, 1 + i / PAGE % 251));

	EXPECT_EQ(-EACCES, mem_alloc(window, PUNCH, 0, size));
	ASSERT_EQ(0, map_mem(other, 0, mem, size - 2 * u, u, SHARE | RX));
	EXPECT_EQ(-EBUSY, mem_alloc(window, PUNCH, 0, size - u));
	/* Only the last piece sees a pin. */
	host = map_host(mem, 0, size);
	ASSERT_NE(MAP_FAILED, host);
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_EQ(0, touch_read(host + size - 3 * u));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, host + size - 3 * u));
	EXPECT_EQ(-EBUSY, mem_alloc(window, PUNCH, 0, size - 2 * u));
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	pin_close(fd);
	munmap(host, size);
	for (i = 0; i < size - u; i += PAGE)
		ASSERT_EQ((int)(1 + i / PAGE % 251), peek(map + i));

	ASSERT_EQ(0, mem_alloc(window, PUNCH, PAGE, size - 2 * u - 2 * PAGE));
	EXPECT_EQ(1, peek(map));
	for (i = PAGE; i < size - 2 * u - PAGE; i += PAGE)
		ASSERT_EQ(0, peek(map + i));
	EXPECT_NE(0, peek(map + size - 2 * u - PAGE));
	EXPECT_NE(0, peek(map + size - 2 * u));
	close(other);
	ASSERT_EQ(0, mem_alloc(window, PUNCH, 0, size - u));
	ASSERT_EQ(0, query_mem(mem, 0, size - u, &q));
	EXPECT_EQ((size - u) / PAGE, q.absent);
	munmap(map, size);
	close(window);
	close(mem);
}

struct sharer {
	int vm;
	int mem;
	__u64 size;
	volatile bool stop;
	volatile unsigned long shared;
};

/* Share a page with the guest, in different places, for a moment. */
static void *share_pages(void *arg)
{
	struct sharer *s = arg;
	__u64 at = 0;

	while (!s->stop) {
		at = (at + s->size / 16) % s->size;
		if (map_mem(s->vm, 0, s->mem, at, s->size / 16, SHARE | RWX) ||
		    guest_write(s->vm, 0, 1) ||
		    unmap_range(s->vm, 0, s->size / 16, NULL))
			return arg;
		s->shared++;
	}
	return NULL;
}

/* Others bind pages during a discard: it comes to its end or is refused. */
TEST_F(window_desc, discard_against_sharers)
{
	const __u64 size = MIB(32);
	struct sharer s = {
		.vm = new_vm("live", GMEM_POLICY_ALLOW),
		.mem = new_mem(size, variant->mem_flags),
		.size = size,
	};
	int window = new_window(self->vm, 0, size, 0, NULL), ret;
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	pthread_t thread;
	void *failed;

	ASSERT_LE(0, s.vm);
	ASSERT_LE(0, s.mem);
	ASSERT_LE(0, window);
	ASSERT_EQ(0, map_mem(self->vm, 0, s.mem, 0, size, SHARE | RWX));
	ASSERT_EQ(0, pthread_create(&thread, NULL, share_pages, &s));
	do {
		EXPECT_EQ(0, populate_range(self->vm, 0, size, NULL));
		ret = mem_alloc(window, PUNCH, 0, size);
		EXPECT_TRUE(!ret || ret == -EBUSY);
	} while (now() < end);
	s.stop = true;
	pthread_join(thread, &failed);
	EXPECT_EQ(NULL, failed);
	EXPECT_LT(0, s.shared);
	EXPECT_EQ(0, mem_alloc(window, PUNCH, 0, size));
	close(window);
	close(s.vm);
	close(s.mem);
}

/* A part of a huge page is zeroed, and the guest keeps the page. */
TEST_F(window_desc, discard_parts)
{
	const __u64 u = self->unit;
	struct gmem_stats before, s;
	__u64 i, first, last;

	if (u == PAGE)
		SKIP(return, "small pages");
	BIND(0, 4, LEND | RWX);
	BIND(4, 4, SHARE | RWX);
	for (i = 0; i < self->size; i += PAGE)
		ASSERT_EQ(0, touch_write(self->map + i, 1 + i / PAGE % 251));
	ASSERT_EQ(0, get_stats(&before));
	/* From the middle of unit 1 to that of unit 5. */
	first = u + u / 2;
	last = 5 * u + u / 2 - PAGE;
	ASSERT_EQ(0, DISCARD(first, last + PAGE - first));
	ASSERT_EQ(0, get_stats(&s));
	EXPECT_EQ(before.lent_pages - 2 * u / PAGE, s.lent_pages);
	EXPECT_EQ('l', STATE(1));
	EXPECT_EQ('a', STATE(2));
	EXPECT_EQ('a', STATE(3));
	EXPECT_EQ('a', STATE(4));
	EXPECT_EQ('s', STATE(5));
	for (i = 0; i < self->size; i += PAGE)
		ASSERT_EQ(i >= first && i <= last ? 0 :
			  (int)(1 + i / PAGE % 251), peek(self->map + i));

	/* Within one huge page. */
	ASSERT_EQ(0, DISCARD(PAGE, 3 * PAGE));
	EXPECT_EQ('l', STATE(0));
	EXPECT_EQ(1, peek(self->map));
	EXPECT_EQ(0, peek(self->map + PAGE));
	EXPECT_EQ(0, peek(self->map + 3 * PAGE));
	EXPECT_EQ(5, peek(self->map + 4 * PAGE));
	ASSERT_EQ(0, DISCARD(0, PAGE));
	EXPECT_EQ(0, peek(self->map));
	EXPECT_EQ(5, peek(self->map + 4 * PAGE));
}

/* A discard replaces a broken page. */
TEST_F(window_desc, discard_broken_page)
{
	if (madvise(NULL, 0, MADV_HWPOISON) && errno == EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	BIND(0, UNITS, LEND | RWX);
	ASSERT_EQ(0, touch_write(HOST(1), 1));
	ASSERT_EQ(0, poison(HOST(1)));
	EXPECT_EQ(SIGBUS, touch_read(AT(1)));
	EXPECT_EQ(0, DISCARD(self->unit, self->unit));
	EXPECT_EQ(0, peek(AT(1)));
}

/* ---- races ---- */

struct racers {
	__u8 *map, *foreign_map;
	int vm[2], window[2], foreign;
	__u64 unit;
	volatile bool stop;
	volatile unsigned long touched, discards, wrong;
};

#define FOREIGN 0xee

/* Another guestmem that gets the pages which the guest's discards free. */
static void *use_pages(void *arg)
{
	struct racers *r = arg;
	int i;

	while (!r->stop) {
		for (i = 0; i < UNITS; i++)
			touch_write(r->foreign_map + i * r->unit, FOREIGN);
		mem_alloc(r->foreign, PUNCH, 0, UNITS * r->unit);
	}
	return NULL;
}

static void *use_guest(void *arg)
{
	struct racers *r = arg;
	unsigned int i = 0;
	int byte;

	while (!r->stop) {
		byte = peek(r->map + i++ % UNITS * r->unit);
		if (byte == FOREIGN)
			__atomic_add_fetch(&r->wrong, 1, __ATOMIC_RELAXED);
		if (byte >= 0)
			r->touched++;
		touch_write(r->map + i % UNITS * r->unit, 0x11);
	}
	return NULL;
}

static void *discard_all(void *arg)
{
	struct racers *r = arg;
	unsigned int i = 0;
	int ret;

	while (!r->stop) {
		ret = mem_alloc(r->window[0], PUNCH, i++ % UNITS * r->unit,
				r->unit);
		if (!ret)
			r->discards++;
		else if (ret != -EBUSY)
			__atomic_add_fetch(&r->wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* A page that a discard has freed is never the guest's again. */
TEST_F(window_desc, discard_against_the_guest)
{
	void *(*const fns[])(void *) = { use_pages, use_guest, discard_all };
	struct racers r = {
		.map = self->map,
		.window = { self->window },
		.unit = self->unit,
		.foreign = new_mem(self->size, variant->mem_flags),
	};
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	pthread_t threads[ARRAY_SIZE(fns)];
	unsigned int i;

	ASSERT_LE(0, r.foreign);
	r.foreign_map = map_host(r.foreign, 0, self->size);
	ASSERT_NE(MAP_FAILED, r.foreign_map);
	BIND(0, UNITS, LEND | RWX);
	for (i = 0; i < ARRAY_SIZE(fns); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, fns[i], &r));
	while (now() < end)
		reclaim_range(self->vm, GPA, self->size, NULL);
	r.stop = true;
	for (i = 0; i < ARRAY_SIZE(fns); i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, r.wrong);
	EXPECT_LT(0, r.touched);
	EXPECT_LT(0, r.discards);
	munmap(r.foreign_map, self->size);
	close(r.foreign);
}

static void *discard_both(void *arg)
{
	struct racers *r = arg;
	int ret;

	while (!r->stop) {
		ret = mem_alloc(r->window[0], PUNCH, 0, 2 * r->unit);
		if (ret && ret != -EBUSY)
			__atomic_add_fetch(&r->wrong, 1, __ATOMIC_RELAXED);
		r->discards++;
	}
	return NULL;
}

/* Two guests discard in the same two guestmems, each in an order of its own. */
TEST_F(window_desc, discards_in_two_orders)
{
	int mems[2] = { self->mem, new_mem(self->size, variant->mem_flags) };
	struct racers r[2] = {};
	pthread_t threads[2];
	int vm[2], i;

	for (i = 0; i < 2; i++) {
		vm[i] = new_vm("live", GMEM_POLICY_ALLOW);
		ASSERT_LE(0, vm[i]);
		r[i].unit = self->unit;
		r[i].window[0] = new_window(vm[i], 0, 2 * self->unit, 0, NULL);
		ASSERT_LE(0, r[i].window[0]);
		ASSERT_EQ(0, map_mem(vm[i], 0, mems[i], i * self->unit,
				     self->unit, LEND | RWX));
		ASSERT_EQ(0, map_mem(vm[i], self->unit, mems[!i],
				     i * self->unit, self->unit, LEND | RWX));
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, discard_both,
					    &r[i]));
	}
	sleep(env_uint("GMEM_RACE_SECONDS", 2));
	for (i = 0; i < 2; i++)
		r[i].stop = true;
	for (i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, r[i].wrong);
		EXPECT_LT(0, r[i].discards);
		close(r[i].window[0]);
		close(vm[i]);
	}
	close(mems[1]);
}

/* ---- the module ---- */

TEST(only_live_vms)
{
	static const char *const providers[] = { "window", "mock" };
	unsigned int i;
	int vm;

	for (i = 0; i < ARRAY_SIZE(providers); i++) {
		vm = new_vm(providers[i], GMEM_POLICY_ALLOW);
		if (vm < 0)
			continue;
		EXPECT_EQ(-EOPNOTSUPP, new_window(vm, 0, PAGE, 0, NULL));
		EXPECT_EQ(-EOPNOTSUPP, new_window(vm, 0, PAGE, ~0U, NULL));
		close(vm);
	}
}

TEST(path_descriptor_holds_the_module)
{
	int vm, window, path;
	struct stat st;

	if (!have_provider("live"))
		SKIP(return, "no live windows");
	vm = new_vm("live", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, vm);
	window = new_window(vm, 0, PAGE, 0, NULL);
	ASSERT_LE(0, window);
	path = reopen(window, O_PATH);
	ASSERT_LE(0, path);
	close(vm);
	close(window);
	close(gmem_dev());

	ASSERT_EQ(-1, syscall(SYS_delete_module, "gmem", O_NONBLOCK));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, fstat(path, &st));
	EXPECT_EQ((off_t)PAGE, st.st_size);
	close(path);
}

TEST_HARNESS_MAIN
