// SPDX-License-Identifier: GPL-2.0-only
/*
 * Views: descriptors of a range of a guestmem that can only be mapped, and that
 * their owner can revoke.
 */
#include "lib/descriptor.h"
#include "lib/fixture.h"
#include "lib/pin.h"
#include "lib/view.h"

#include <pthread.h>
#include <sys/statfs.h>

#define UNITS 8
#define GPA GIB(1)
/* The view's part of the guestmem, in units. */
#define FIRST 2
#define NR 4

FIXTURE(view)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	int view;
	__u64 id;
	__u8 *map;
};

FIXTURE_VARIANT(view)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(view);

#define MAP_VIEW(fd, prot)						\
	mmap(NULL, NR * self->unit, prot, MAP_SHARED, fd, 0)

FIXTURE_SETUP(view)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	SETUP_HOST();
	self->view = new_view(self->mem, FIRST * self->unit, NR * self->unit, 0,
			      &self->id);
	ASSERT_LE(0, self->view);
	self->map = MAP_VIEW(self->view, PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(view)
{
	munmap(self->map, NR * self->unit);
	close(self->view);
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

/* Addresses of unit @i of the view, as its holder, the host and the guest. */
#define AT(i) (self->map + (i) * self->unit)
#define HOST(i) (self->host + (FIRST + (i)) * self->unit)
#define GUEST(i) (GPA + (FIRST + (i)) * self->unit)
#define STATE(i) page_state(self->mem, (FIRST + (i)) * self->unit)

#define BIND(access)							\
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,	\
			     (access) | RWX))

/* ---- creation ---- */

TEST_F(view, values)
{
	const __u64 u = self->unit, size = self->size;
	struct gmem_mem_view view = { .size = sizeof(view), .length = u };
	int ro = reopen(self->mem, O_RDONLY), wo = reopen(self->mem, O_WRONLY);
	__u64 id, other;
	int fd, again;

	ASSERT_LE(0, ro);
	ASSERT_LE(0, wo);
	EXPECT_EQ(-EINVAL, new_view(self->mem, 0, 0, 0, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, 0, u - 1, 0, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, 0, u / 2, 0, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, u / 2, u, 0, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, 0, size + u, 0, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, size, u, 0, NULL));
	EXPECT_EQ(-EOVERFLOW, new_view(self->mem, -u, 2 * u, 0, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, 0, u, 1 << 1, NULL));
	EXPECT_EQ(-EINVAL, new_view(self->mem, 0, u, 1U << 31, NULL));
	memset(view.name, 'x', sizeof(view.name));
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->mem, GMEM_MEM_VIEW, &view)));

	/* A view gives no access that the descriptor hasn't. */
	EXPECT_EQ(-EACCES, new_view(ro, 0, u, 0, NULL));
	EXPECT_EQ(-EACCES, new_view(wo, 0, u, 0, NULL));
	EXPECT_EQ(-EACCES, new_view(wo, 0, u, GMEM_VIEW_READ_ONLY, NULL));
	fd = new_view(ro, 0, u, GMEM_VIEW_READ_ONLY, NULL);
	EXPECT_LE(0, fd);
	close(fd);

	fd = new_view(self->mem, 0, size, 0, &id);
	again = new_view(self->mem, 0, size, 0, &other);
	EXPECT_LE(0, fd);
	EXPECT_LE(0, again);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_NE(0, id);
	EXPECT_NE(0, other);
	EXPECT_NE(id, other);
	EXPECT_GT(1ULL << 32, id);
	close(fd);
	close(again);
	close(ro);
	close(wo);
}

TEST_F(view, attributes)
{
	struct gmem_mem_view named = {
		.size = sizeof(named),
		.flags = GMEM_VIEW_READ_ONLY,
		.length = self->unit,
		.name = "disk 0",
	};
	struct statfs fs;
	struct stat st;
	int fd;

	ASSERT_EQ(0, fstat(self->view, &st));
	EXPECT_EQ(NR * self->unit, (__u64)st.st_size);
	EXPECT_EQ((mode_t)(S_IFREG | 0666), st.st_mode);
	EXPECT_EQ(self->id, st.st_ino);
	EXPECT_EQ(self->unit, (__u64)st.st_blksize);
	EXPECT_EQ(geteuid(), st.st_uid);
	EXPECT_EQ(NR * self->unit, (__u64)lseek(self->view, 0, SEEK_END));
	ASSERT_EQ(0, fstatfs(self->view, &fs));
	EXPECT_EQ(GMEM_VIEW_MAGIC, fs.f_type);
	EXPECT_EQ(self->id, view_id(self->view));
	EXPECT_EQ(mem_id(self->mem), fd_number(self->view, "gmem-view-mem:"));
	EXPECT_EQ(O_RDWR, fcntl(self->view, F_GETFL) & O_ACCMODE);

	fd = err_of(ioctl(self->mem, GMEM_MEM_VIEW, &named));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ((mode_t)(S_IFREG | 0444), st.st_mode);
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(named.id, view_id(fd));
	close(fd);
}

/* A call that can't write the number leaves neither descriptor nor view. */
TEST_F(view, no_descriptor_without_a_number)
{
	struct gmem_mem_view *view;
	int next = dup(self->mem), fd;

	ASSERT_LE(0, next);
	close(next);
	view = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, view);
	view->size = sizeof(*view);
	view->length = self->unit;
	ASSERT_EQ(0, mprotect(view, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, err_of(ioctl(self->mem, GMEM_MEM_VIEW, view)));
	fd = dup(self->mem);
	EXPECT_EQ(next, fd);
	close(fd);
	munmap(view, PAGE);
}

TEST_F(view, secret_memory)
{
	struct gmem_mem_from_secret from = {
		.size = sizeof(from),
		.flags = GMEM_MEM_CLOEXEC,
		.secret_fd = syscall(__NR_memfd_secret, O_CLOEXEC),
	};
	__u8 *page;
	int mem;

	if (from.secret_fd < 0)
		SKIP(return, "no secret memory");
	ASSERT_EQ(0, ftruncate(from.secret_fd, PAGE));
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    from.secret_fd, 0);
	ASSERT_NE(MAP_FAILED, page);
	*page = 1;
	munmap(page, PAGE);
	mem = err_of(ioctl(gmem_dev(), GMEM_MEM_FROM_SECRET, &from));
	if (mem == -EOPNOTSUPP)
		SKIP(return, "secret memory is in the linear map");
	ASSERT_LE(0, mem);
	EXPECT_EQ(-EOPNOTSUPP, new_view(mem, 0, PAGE, 0, NULL));
	close(mem);
}

/* ---- mappings ---- */

TEST_F(view, shows_its_range)
{
	const __u64 u = self->unit;
	__u8 *part;
	int i;

	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(self->host + i * u + 5, 0x10 + i));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0x10 + FIRST + i, peek(AT(i) + 5));
	ASSERT_EQ(0, touch_write(AT(3), 0x99));
	EXPECT_EQ(0x99, peek(HOST(3)));

	part = mmap(NULL, u, PROT_READ, MAP_SHARED, self->view, 2 * u);
	ASSERT_NE(MAP_FAILED, part);
	EXPECT_EQ(0x10 + FIRST + 2, peek(part + 5));
	munmap(part, u);

	EXPECT_EQ(-EINVAL, mmap_errno(self->view, 0, NR * u + PAGE, PROT_READ,
				      MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->view, NR * u, PAGE, PROT_READ,
				      MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->view, u, NR * u, PROT_READ,
				      MAP_SHARED));
	EXPECT_EQ(-EOVERFLOW, mmap_errno(self->view, -PAGE, 2 * PAGE, PROT_READ,
					 MAP_SHARED));
	EXPECT_EQ(-EINVAL, mmap_errno(self->view, 0, u, PROT_READ,
				      MAP_PRIVATE));
	EXPECT_EQ(-EPERM, mmap_errno(self->view, 0, u, PROT_READ | PROT_EXEC,
				     MAP_SHARED));
}

/* A page of the view appears when its holder touches it first. */
TEST_F(view, allocates)
{
	EXPECT_EQ('a', STATE(1));
	EXPECT_EQ(0, peek(AT(1)));
	EXPECT_EQ('h', STATE(1));
	EXPECT_EQ('a', STATE(2));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, (FIRST + 1) * self->unit,
			       self->unit));
	EXPECT_EQ('a', STATE(1));
	ASSERT_EQ(0, touch_write(AT(1), 3));
	EXPECT_EQ(3, peek(HOST(1)));
}

/* Neighbours in memory keep their places, whatever their offsets are. */
TEST_F(view, mappings_side_by_side)
{
	const __u64 u = self->unit;
	int other = new_view(self->mem, 5 * u, 2 * u, 0, NULL), i;
	__u8 *area;

	ASSERT_LE(0, other);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(self->host + i * u, 0x20 + i));
	area = mmap(NULL, 6 * u + HUGE_PAGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	area += HUGE_PAGE - ptr_u64(area) % HUGE_PAGE;
	/* Offset 1 of the view behind its offset 0, then that of another. */
	ASSERT_NE(MAP_FAILED, mmap(area, u, PROT_READ, MAP_SHARED | MAP_FIXED,
				   self->view, 0));
	ASSERT_NE(MAP_FAILED, mmap(area + u, u, PROT_READ,
				   MAP_SHARED | MAP_FIXED, self->view, u));
	ASSERT_NE(MAP_FAILED, mmap(area + 2 * u, u, PROT_READ,
				   MAP_SHARED | MAP_FIXED, other, 0));
	ASSERT_NE(MAP_FAILED, mmap(area + 3 * u, u, PROT_READ,
				   MAP_SHARED | MAP_FIXED, self->mem, 3 * u));
	ASSERT_NE(MAP_FAILED, mmap(area + 4 * u, u, PROT_READ,
				   MAP_SHARED | MAP_FIXED, self->view, 3 * u));
	EXPECT_EQ(0x22, peek(area));
	EXPECT_EQ(0x23, peek(area + u));
	EXPECT_EQ(0x25, peek(area + 2 * u));
	EXPECT_EQ(0x23, peek(area + 3 * u));
	EXPECT_EQ(0x25, peek(area + 4 * u));
	munmap(area, 6 * u);
	close(other);
}

TEST_F(view, huge_mappings)
{
	char line[128] = "";

	if (self->unit != PMD_PAGE)
		SKIP(return, "small pages");
	EXPECT_EQ(0, ptr_u64(self->map) % HUGE_PAGE);
	ASSERT_EQ(0, touch_write(AT(1) + 12345, 1));
	smaps_line(self->map, "FilePmdMapped:", line, sizeof(line));
	if (!*line)
		SKIP(return, "no FilePmdMapped in smaps");
	EXPECT_EQ(HUGE_PAGE / 1024, atoi(line + strlen("FilePmdMapped:")));
}

/* A child inherits the mapping: back-ends fork. */
TEST_F(view, fork)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, touch_write(AT(0), 1));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(peek(AT(0)) != 1 || touch_write(AT(1), 2));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, peek(HOST(1)));
}

/* ---- lent and shared pages ---- */

TEST_F(view, lent_page_stays_lent)
{
	static const __u32 policies[] = {
		GMEM_POLICY_ALLOW, GMEM_POLICY_SCRUB, GMEM_POLICY_DENY,
	};
	__u64 i;

	BIND(LEND);
	/* Until the guest uses it, the page is the host's. */
	ASSERT_EQ(0, touch_write(AT(0), 0x41));
	EXPECT_EQ(0x41, guest_read(self->vm, GUEST(0)));
	for (i = 0; i < ARRAY_SIZE(policies); i++) {
		ASSERT_EQ(0, set_policy(self->vm, policies[i]));
		EXPECT_EQ(SIGBUS, touch_read(AT(0)));
		EXPECT_EQ(SIGBUS, touch_write(AT(0), 1));
		EXPECT_EQ('l', STATE(0));
	}
	EXPECT_EQ(0x41, guest_read(self->vm, GUEST(0)));
	/* The others are there. */
	EXPECT_EQ(0, peek(AT(1)));

	/* Once the owner has taken it back, the view shows it again. */
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_ALLOW));
	EXPECT_EQ(0x41, peek(HOST(0)));
	EXPECT_EQ(0x41, peek(AT(0)));
	EXPECT_EQ(0, guest_write(self->vm, GUEST(0), 0x42));
	EXPECT_EQ(-SIGBUS, peek(AT(0)));
	ASSERT_EQ(0, unmap_range(self->vm, GPA, self->size, NULL));
	EXPECT_EQ(0x42, peek(AT(0)));
}

TEST_F(view, shared_page)
{
	BIND(SHARE);
	ASSERT_EQ(0, guest_write(self->vm, GUEST(2), 0x51));
	EXPECT_EQ('s', STATE(2));
	EXPECT_EQ(0x51, peek(AT(2)));
	ASSERT_EQ(0, touch_write(AT(2), 0x52));
	EXPECT_EQ(0x52, guest_read(self->vm, GUEST(2)));
}

/* The kernel's accesses for other processes are as the CPU's. */
TEST_F(view, lent_page_and_system_calls)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	struct iovec local = { .iov_len = 1 };
	struct iovec remote = { .iov_base = AT(0), .iov_len = 1 };
	int null = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	__u8 byte = 0xff;

	local.iov_base = &byte;
	BIND(LEND);
	ASSERT_EQ(0, guest_write(self->vm, GUEST(0), 0x42));
	EXPECT_EQ(-1, pread(fd, &byte, 1, ptr_u64(AT(0))));
	EXPECT_NE(1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(-EFAULT, err_of(read(null, AT(0), 1)));
	EXPECT_EQ(0xff, byte);
	EXPECT_EQ('l', STATE(0));
	EXPECT_EQ(0x42, guest_read(self->vm, GUEST(0)));
	close(null);
	close(fd);
}

static void pins_count(struct __test_metadata *_metadata,
		       FIXTURE_DATA(view) *self, enum pin_kind kind)
{
	__u64 pinned, id;
	int fd[2], byte, other;

	if (pin_open(fd, kind))
		SKIP(return, "no io_uring");
	BIND(LEND);
	ASSERT_EQ(0, touch_write(AT(0), 0x61));
	ASSERT_EQ(0, touch_write(AT(1), 0x62));
	ASSERT_EQ(0, pin(fd, kind, AT(1)));
	if (!has_parcels(self->vm)) {
		EXPECT_EQ(-EFAULT, guest_write(self->vm, GUEST(1), 0x99));
		EXPECT_EQ(GMEM_FAULT_PINNED, last_reason(self->vm));
	}
	EXPECT_EQ(0x62, peek(AT(1)));

	other = new_view(self->mem, FIRST * self->unit, self->unit, 0, &id);
	ASSERT_LE(0, other);
	EXPECT_EQ(0, revoke_view(self->mem, id, &pinned));
	EXPECT_EQ(0, pinned);
	close(other);

	/* The pin outlives the view, and its holder still reads the page. */
	EXPECT_EQ(0, revoke_view(self->mem, self->id, &pinned));
	EXPECT_EQ(self->unit / PAGE, pinned);
	EXPECT_EQ(SIGBUS, touch_read(AT(1)));
	ASSERT_EQ(0, touch_write(HOST(1), 0x63));
	ASSERT_EQ(0, unpin(fd, kind, &byte));
	if (kind == PIN_SPLICE)
		EXPECT_EQ(0x63, byte);
	other = new_view(self->mem, FIRST * self->unit, NR * self->unit, 0,
			 &id);
	EXPECT_EQ(0, revoke_view(self->mem, id, &pinned));
	EXPECT_EQ(0, pinned);
	close(other);
	pin_close(fd);
}

TEST_F(view, pinned_by_a_pipe)
{
	pins_count(_metadata, self, PIN_SPLICE);
}

TEST_F(view, pinned_by_a_ring)
{
	pins_count(_metadata, self, PIN_URING);
}

/* A page that breaks: the view's holder gets the machine check, as the host. */
TEST_F(view, hwpoison)
{
	volatile __u8 *page = AT(1) + self->unit - PAGE;
	__u64 pinned;

	if (madvise(NULL, 0, MADV_HWPOISON) && errno == EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(0, touch_write(page, 1));
	ASSERT_EQ(0, touch_write(AT(2), 2));
	ASSERT_EQ(0, poison(page));
	EXPECT_EQ(SIGBUS, touch_read(page));
	EXPECT_EQ(BUS_MCEERR_AR, touch_code);
	EXPECT_EQ(2, peek(AT(2)));
	EXPECT_EQ(0, revoke_view(self->mem, self->id, &pinned));
	EXPECT_EQ(0, pinned);
	EXPECT_EQ(SIGBUS, touch_read(page));
	EXPECT_EQ(SIGBUS, touch_read(AT(2)));
}

/* ---- rights ---- */

TEST_F(view, hostile_holder)
{
	int ro, fd;
	__u64 i;

	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(self->host + i * self->unit, 1 + i));
	ro = new_view(self->mem, FIRST * self->unit, NR * self->unit,
		      GMEM_VIEW_READ_ONLY, NULL);
	ASSERT_LE(0, ro);
	fd = reopen(self->view, O_RDWR);
	ASSERT_LE(0, fd);
	check_only_maps(_metadata, self->view, NR * self->unit, self->vm);
	check_only_maps(_metadata, fd, NR * self->unit, self->vm);
	check_only_maps(_metadata, ro, NR * self->unit, self->vm);
	EXPECT_EQ(-EOPNOTSUPP, mem_alloc(fd, PUNCH, 0, self->unit));
	close(fd);

	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(1 + (int)i, peek(self->host + i * self->unit));
	EXPECT_EQ(1 + FIRST, peek(AT(0)));
	close(ro);
}

/* Neither can a mapping be turned into anything else. */
TEST_F(view, hostile_mapping)
{
	const __u64 u = self->unit;
	__u8 *moved;
	__u64 i;

	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0, touch_write(self->host + i * u, 1 + i));
	advise_all(self->map, NR * u);
	EXPECT_EQ(-EOPNOTSUPP, err_of(madvise(self->map, u, MADV_REMOVE)));

	EXPECT_EQ(MAP_FAILED, mremap(self->map, NR * u, UNITS * u,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(self->map, NR * u, NR * u + PAGE, 0));
	/* A second mapping of the same pages by an old size of 0. */
	moved = mremap(self->map, 0, UNITS * u, MREMAP_MAYMOVE);
	if (moved != MAP_FAILED) {
		for (i = 0; i < UNITS; i++)
			EXPECT_EQ(i < NR ? (int)(1 + FIRST + i) : -SIGBUS,
				  peek(moved + i * u));
		munmap(moved, UNITS * u);
	}
	EXPECT_EQ(-ENODEV, err_of(remap_file_pages(AT(1), u, 0, 0, 0)));
	EXPECT_EQ(-ENODEV, err_of(remap_file_pages(AT(1), u, 0, u / PAGE, 0)));
	EXPECT_EQ(-EACCES, err_of(mprotect(AT(0), u,
					   PROT_READ | PROT_EXEC)));
	EXPECT_TRUE(vm_flag(self->map, " dd"));
	EXPECT_TRUE(vm_flag(self->map, " de"));

	/* Pieces that are cut and moved are as before. */
	ASSERT_EQ(0, munmap(AT(1), u));
	moved = mremap(AT(2), 2 * u, 2 * u, MREMAP_MAYMOVE | MREMAP_FIXED,
		       self->map - GIB(4));
	ASSERT_EQ(self->map - GIB(4), moved);
	EXPECT_EQ(1 + FIRST, peek(AT(0)));
	EXPECT_EQ(1 + FIRST + 2, peek(moved));
	EXPECT_EQ(1 + FIRST + 3, peek(moved + u));
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(1 + (int)i, peek(self->host + i * u));
	EXPECT_EQ(0, revoke_view(self->mem, self->id, NULL));
	EXPECT_EQ(SIGBUS, touch_read(moved));
	EXPECT_EQ(SIGBUS, touch_read(AT(0)));
	munmap(moved, 2 * u);
}

/* Another user can open a view again, as /proc/self/fd needs. */
TEST_F(view, another_user)
{
	int ro;

	if (geteuid())
		SKIP(return, "needs root");
	ro = new_view(self->mem, FIRST * self->unit, NR * self->unit,
		      GMEM_VIEW_READ_ONLY, NULL);
	ASSERT_LE(0, ro);
	EXPECT_EQ(0, as_nobody(open_and_write, self->view));
	EXPECT_EQ(0x77, peek(AT(0)));
	EXPECT_EQ(0, as_nobody(open_and_read, self->view));
	EXPECT_EQ(0, as_nobody(open_and_read, ro));
	EXPECT_EQ(-EACCES, as_nobody(open_and_write, ro));
	close(ro);
}

TEST_F(view, read_only)
{
	const __u64 u = self->unit;
	__u8 *map;
	int ro, fd;

	ro = new_view(self->mem, FIRST * u, NR * u, GMEM_VIEW_READ_ONLY, NULL);
	ASSERT_LE(0, ro);
	ASSERT_EQ(0, touch_write(AT(0), 0x11));
	check_read_only(_metadata, ro, NR * u);
	map = MAP_VIEW(ro, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(0x11, peek(map));
	/* A mapping in /proc leads to the view, not to the guestmem. */
	fd = reopen_mapping(map, NR * u, O_RDONLY);
	if (fd >= 0)
		EXPECT_EQ(view_id(ro), view_id(fd));
	close(fd);
	munmap(map, NR * u);
	close(ro);

	/* A writable view can be opened for less. */
	EXPECT_TRUE(vm_flag(self->map, " mw"));
	fd = reopen(self->view, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EACCES, mmap_errno(fd, 0, u, PROT_READ | PROT_WRITE,
				      MAP_SHARED));
	EXPECT_EQ(0, mmap_errno(fd, 0, u, PROT_READ, MAP_SHARED));
	close(fd);
}

/* ---- revocation ---- */

TEST_F(view, revoke_values)
{
	struct gmem_mem_revoke revoke = {
		.size = sizeof(revoke),
		.id = self->id,
	};
	__u8 tail[sizeof(revoke) + 8] = {};
	int ro = reopen(self->mem, O_RDONLY);
	int other = new_mem(self->unit, variant->mem_flags);

	ASSERT_LE(0, ro);
	ASSERT_LE(0, other);
	EXPECT_EQ(-EACCES, revoke_view(ro, self->id, NULL));
	EXPECT_EQ(-ENOENT, revoke_view(other, self->id, NULL));
	EXPECT_EQ(-ENOENT, revoke_view(self->mem, 0, NULL));
	EXPECT_EQ(-ENOENT, revoke_view(self->mem, self->id + 1, NULL));
	EXPECT_EQ(-ENOENT, revoke_view(self->mem, self->id | 1ULL << 32, NULL));
	EXPECT_EQ(-ENOENT, revoke_view(self->mem, ~0ULL, NULL));
	revoke.flags = 1;
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->mem, GMEM_MEM_REVOKE, &revoke)));
	revoke.flags = 0;
	revoke.size--;
	EXPECT_EQ(-EINVAL, err_of(ioctl(self->mem, GMEM_MEM_REVOKE, &revoke)));
	revoke.size = sizeof(tail);
	memcpy(tail, &revoke, sizeof(revoke));
	tail[sizeof(revoke)] = 1;
	EXPECT_EQ(-E2BIG, err_of(ioctl(self->mem, GMEM_MEM_REVOKE, tail)));
	EXPECT_EQ(-EFAULT, err_of(ioctl(self->mem, GMEM_MEM_REVOKE, NULL)));
	EXPECT_EQ(0, touch_write(AT(0), 1));

	tail[sizeof(revoke)] = 0;
	EXPECT_EQ(0, err_of(ioctl(self->mem, GMEM_MEM_REVOKE, tail)));
	EXPECT_EQ(SIGBUS, touch_write(AT(0), 1));
	EXPECT_EQ(-ENOENT, revoke_view(self->mem, self->id, NULL));
	close(other);
	close(ro);
}

TEST_F(view, revoke)
{
	const __u64 u = self->unit;
	int other = new_view(self->mem, 0, self->size, 0, NULL);
	int again = reopen(self->view, O_RDWR);
	int ready[2], done[2], status;
	__u64 pinned, id;
	char byte = 0;
	__u8 *map;
	pid_t pid;
	int i;

	ASSERT_LE(0, other);
	ASSERT_LE(0, again);
	map = mmap(NULL, self->size, PROT_READ, MAP_SHARED, other, 0);
	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < NR; i++)
		if (i != 1)
			ASSERT_EQ(0, touch_write(AT(i), 0x30 + i));
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(done));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int bad = peek(AT(0)) != 0x30;

		write(ready[1], &byte, 1);
		read(done[0], &byte, 1);
		for (i = 0; i < NR; i++)
			bad |= touch_read(AT(i)) != SIGBUS;
		_exit(bad);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));

	ASSERT_EQ(0, revoke_view(self->mem, self->id, &pinned));
	EXPECT_EQ(0, pinned);
	ASSERT_EQ(1, write(done[1], &byte, 1));
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(SIGBUS, touch_read(AT(i)));
		EXPECT_EQ(SIGBUS, touch_write(AT(i), 1));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	EXPECT_EQ(-EACCES, mmap_errno(self->view, 0, u, PROT_READ, MAP_SHARED));
	EXPECT_EQ(-EACCES, mmap_errno(again, 0, u, PROT_READ, MAP_SHARED));
	close(again);
	again = reopen(self->view, O_RDWR);
	EXPECT_EQ(-EACCES, mmap_errno(again, 0, u, PROT_READ, MAP_SHARED));

	/* Nobody else loses anything. */
	EXPECT_EQ(0x30, peek(HOST(0)));
	EXPECT_EQ(0x33, peek(map + (FIRST + 3) * u));
	BIND(LEND);
	EXPECT_EQ(0x32, guest_read(self->vm, GUEST(2)));

	/* The number isn't used again soon. */
	close(again);
	again = new_view(self->mem, 0, u, 0, &id);
	EXPECT_NE(self->id, id);
	close(again);
	munmap(map, self->size);
	close(other);
	close(ready[0]);
	close(ready[1]);
	close(done[0]);
	close(done[1]);
}

static void *touch_slowly(void *at)
{
	touch_write(at, 1);
	return NULL;
}

/* Revoke the view of @id while a fault at @at has its page and no entry yet. */
static void revoke_in_a_fault(struct __test_metadata *_metadata, int mem,
			      __u64 id, __u8 *at)
{
	int knob = new_vm("mock", GMEM_POLICY_ALLOW);
	pthread_t thread;
	__u64 pinned;

	ASSERT_LE(0, knob);
	ASSERT_EQ(0, mock_slow_fault(knob, GMEM_TEST_FAULT_LOCKED, 500));
	ASSERT_EQ(0, pthread_create(&thread, NULL, touch_slowly, at));
	usleep(200000);
	EXPECT_EQ(0, revoke_view(mem, id, &pinned));
	EXPECT_EQ(0, pinned);
	EXPECT_EQ(0, mock_slow_fault(knob, GMEM_TEST_FAULT_LOCKED, 0));
	pthread_join(thread, NULL);
	EXPECT_EQ(SIGBUS, touch_read(at));
	close(knob);
}

TEST_F(view, revoke_in_a_fault)
{
	revoke_in_a_fault(_metadata, self->mem, self->id, AT(1));
}

/*
 * A huge page that is held can't be split, so its sound pages are mapped one by
 * one. A broken page never counts as pinned: the first zap must find the entry.
 */
TEST_F(view, revoke_in_a_fault_beside_a_broken_page)
{
	int fd[2], byte, view, i;
	__u8 *map;
	__u64 id;

	if (self->unit == PAGE)
		SKIP(return, "needs a huge page");
	if (kernel_since("6.18"))
		SKIP(return, "the kernel maps no page of such a huge page");
	if (madvise(NULL, 0, MADV_HWPOISON) && errno == EINVAL)
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(0, touch_write(AT(1), 0x41));
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, AT(1)));
	ASSERT_EQ(0, poison(AT(1) + self->unit - PAGE));

	/* The module tries to split the page, now and then; that may hide this. */
	for (i = 0; i < 4; i++) {
		view = new_view(self->mem, (FIRST + 1) * self->unit, self->unit,
				0, &id);
		ASSERT_LE(0, view);
		map = mmap(NULL, self->unit, PROT_READ | PROT_WRITE, MAP_SHARED,
			   view, 0);
		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(0x41, peek(map));
		revoke_in_a_fault(_metadata, self->mem, id, map + PAGE);
		munmap(map, self->unit);
		close(view);
	}
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	EXPECT_EQ(0x41, byte);
	pin_close(fd);
}

/* A view keeps the pages as long as its holder has it. */
TEST_F(view, keeps_the_pages)
{
	int mem = new_mem(2 * self->unit, variant->mem_flags);
	int view = new_view(mem, self->unit, self->unit, 0, NULL);
	__u8 *map;

	ASSERT_LE(0, view);
	map = mmap(NULL, self->unit, PROT_READ | PROT_WRITE, MAP_SHARED, view,
		   0);
	ASSERT_NE(MAP_FAILED, map);
	close(view);
	ASSERT_EQ(0, touch_write(map, 0x71));
	close(mem);
	EXPECT_EQ(0x71, peek(map));
	EXPECT_EQ(0, madvise(map, self->unit, MADV_DONTNEED));
	EXPECT_EQ(0x71, peek(map));
	munmap(map, self->unit);
}

/*
 * A revoked view doesn't keep pages: they are freed when descriptors and
 * bindings are gone.
 */
TEST_F(view, revoked_view_keeps_no_pages)
{
	const __u64 u = self->unit;
	int mem = new_mem(UNITS * u, variant->mem_flags);
	struct gmem_mem_query q;
	__u8 *map, *host;
	int view, path;
	__u64 id;

	view = new_view(mem, 0, UNITS * u, 0, &id);
	ASSERT_LE(0, view);
	map = mmap(NULL, UNITS * u, PROT_READ | PROT_WRITE, MAP_SHARED, view,
		   0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, touch_write(map, 0x72));
	ASSERT_EQ(0, map_mem(self->vm, GPA, mem, 0, UNITS * u, LEND | RWX));
	ASSERT_EQ(0, guest_write(self->vm, GPA + u, 0x73));
	ASSERT_EQ(0, revoke_view(mem, id, NULL));
	/* An O_PATH descriptor keeps none, either; by it the test looks. */
	path = reopen(mem, O_PATH);
	ASSERT_LE(0, path);

	/* A mapping keeps the pages, then the binding does. */
	host = map_host(mem, 0, UNITS * u);
	ASSERT_NE(MAP_FAILED, host);
	close(mem);
	EXPECT_EQ(0x72, peek(host));
	munmap(host, UNITS * u);
	mem = reopen(path, O_RDWR);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, query_mem(mem, 0, UNITS * u, &q));
	EXPECT_EQ((UNITS - 2) * u / PAGE, q.absent);
	close(mem);
	EXPECT_EQ(0x73, guest_read(self->vm, GPA + u));
	if (!has_parcels(self->vm)) {
		ASSERT_EQ(0, unmap_range(self->vm, GPA, UNITS * u, NULL));
		mem = reopen(path, O_RDWR);
		ASSERT_LE(0, mem);
		ASSERT_EQ(0, query_mem(mem, 0, UNITS * u, &q));
		EXPECT_EQ(UNITS * u / PAGE, q.absent);
		close(mem);
	}
	EXPECT_EQ(SIGBUS, touch_read(map));
	munmap(map, UNITS * u);
	close(view);
	close(path);
}

/* The end of the last user frees much memory at once. */
TEST_F(view, revoked_view_frees_memory)
{
	const __u64 size = MIB(128);
	int mem = new_mem(size, variant->mem_flags), view;
	long before, missing;
	__u8 *map;
	__u64 id;

	before = mem_available();
	view = new_view(mem, 0, size, 0, &id);
	ASSERT_LE(0, view);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, view, 0);
	ASSERT_NE(MAP_FAILED, map);
	memset(map, 1, size);
	close(view);
	EXPECT_LT(KIB(100), before - mem_available());
	ASSERT_EQ(0, revoke_view(mem, id, NULL));
	close(mem);
	missing = mem_missing(before, KIB(32));
	EXPECT_GT((long)KIB(32), missing);
	EXPECT_EQ(SIGBUS, touch_read(map));
	munmap(map, size);
}

/* ---- races ---- */

struct racers {
	__u8 *map;
	__u64 unit;
	int vm, mem, view;
	/* The number of threads that have begun. */
	unsigned int begun;
	/* Ways to a page that have worked: before and after the revocation. */
	unsigned int worked, late;
	volatile bool revoked, stop;
	volatile unsigned long touched, wrong;
};

/* ---- ways to a page of a view: each returns whether it reached it ---- */

static bool by_touch(struct racers *r, __u8 *at)
{
	(void)r;
	return !touch_write(at, 1);
}

static bool by_populate(struct racers *r, __u8 *at)
{
	return !madvise(at, r->unit, MADV_POPULATE_WRITE);
}

/* The kernel writes, as read() does. */
static bool by_system_call(struct racers *r, __u8 *at)
{
	(void)r;
	return syscall(__NR_getrandom, at, 1, 0) == 1;
}

static bool by_pin(struct racers *r, __u8 *at)
{
	bool pinned;
	int fd[2];

	(void)r;
	if (pin_open(fd, PIN_SPLICE))
		return false;
	pinned = !pin(fd, PIN_SPLICE, at);
	pin_close(fd);
	return pinned;
}

/* A mapping that is new, and that moves while it has a page. */
static bool by_new_mapping(struct racers *r, __u8 *at)
{
	const __u64 offset = at - r->map;
	__u8 *map, *moved;
	bool reached;

	map = mmap(NULL, r->unit, PROT_READ | PROT_WRITE, MAP_SHARED, r->view,
		   offset);
	if (map == MAP_FAILED)
		return false;
	reached = !touch_write(map, 1);
	moved = map_aligned(r->unit, r->unit);
	if (moved != MAP_FAILED &&
	    mremap(map, r->unit, r->unit, MREMAP_MAYMOVE | MREMAP_FIXED,
		   moved) == moved)
		map = moved;
	/* A page that was reached before may be gone, but none comes. */
	reached |= !touch_write(map, 1);
	munmap(map, r->unit);
	return reached;
}

static bool (*const ways[])(struct racers *r, __u8 *at) = {
	by_touch, by_populate, by_system_call, by_pin, by_new_mapping,
};

/*
 * Drop page table entries and fault them in again, in one of the ways, also
 * after the revocation.
 */
static void *reach_view(void *arg)
{
	struct racers *r = arg;
	unsigned int way = __atomic_fetch_add(&r->begun, 1, __ATOMIC_RELAXED);
	unsigned int i = way;
	bool revoked;
	__u8 *at;

	way %= ARRAY_SIZE(ways);
	while (!r->stop) {
		at = r->map + i++ % NR * r->unit;
		revoked = __atomic_load_n(&r->revoked, __ATOMIC_ACQUIRE);
		if (!revoked)
			madvise(at, r->unit, MADV_DONTNEED);
		if (ways[way](r, at))
			__atomic_fetch_or(revoked ? &r->late : &r->worked,
					  1U << way, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* More threads than CPUs: some are preempted in the middle of a fault. */
#define NR_REACHERS (2 * ARRAY_SIZE(ways))

/* No access succeeds that begins after the call has returned, in any way. */
TEST_F(view, revoke_is_final)
{
	const unsigned int all = (1U << ARRAY_SIZE(ways)) - 1;
	unsigned long rounds = scaled(40);
	pthread_t threads[NR_REACHERS];
	unsigned int late = 0, i;
	struct racers r;
	__u64 id;

	while (rounds--) {
		memset(&r, 0, sizeof(r));
		r.unit = self->unit;
		r.view = new_view(self->mem, FIRST * self->unit,
				  NR * self->unit, 0, &id);
		ASSERT_LE(0, r.view);
		r.map = MAP_VIEW(r.view, PROT_READ | PROT_WRITE);
		ASSERT_NE(MAP_FAILED, r.map);
		for (i = 0; i < NR_REACHERS; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL,
						    reach_view, &r));
		while (__atomic_load_n(&r.worked, __ATOMIC_RELAXED) != all)
			sched_yield();
		usleep(rounds % 16 * 1000);
		ASSERT_EQ(0, revoke_view(self->mem, id, NULL));
		__atomic_store_n(&r.revoked, true, __ATOMIC_RELEASE);
		usleep(20000);
		r.stop = true;
		for (i = 0; i < NR_REACHERS; i++)
			pthread_join(threads[i], NULL);
		late |= r.late;
		for (i = 0; i < NR; i++)
			EXPECT_EQ(SIGBUS, touch_read(r.map + i * r.unit));
		munmap(r.map, NR * self->unit);
		close(r.view);
	}
	/* A bit for each of the ways. */
	EXPECT_EQ(0, late);
}

/* A view's end, its revocation, and the end of the guestmem at the same time. */
static void *revoke_all(void *arg)
{
	struct racers *r = arg;
	__u64 id;

	for (id = 1; !r->stop; id = id % 100000 + 1)
		if (!revoke_view(r->mem, id, NULL))
			r->touched++;
	return NULL;
}

static void *open_and_close(void *arg)
{
	struct racers *r = arg;
	__u8 *map;
	int view;

	while (!r->stop) {
		view = new_view(r->mem, FIRST * r->unit, NR * r->unit, 0, NULL);
		if (view < 0)
			continue;
		map = mmap(NULL, NR * r->unit, PROT_READ | PROT_WRITE,
			   MAP_SHARED, view, 0);
		close(view);
		if (map == MAP_FAILED)
			continue;
		touch_write(map, 1);
		munmap(map, NR * r->unit);
	}
	return NULL;
}

TEST_F(view, revoke_against_the_end)
{
	struct racers r = { .unit = self->unit, .mem = self->mem };
	pthread_t threads[3];
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, i ?
					    open_and_close : revoke_all, &r));
	sleep(env_uint("GMEM_RACE_SECONDS", 2));
	r.stop = true;
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* The guest's secret, which no policy shows to a view. */
#define SECRET 0xa5

static void *spy(void *arg)
{
	struct racers *r = arg;
	unsigned int i = 0;
	int byte;

	while (!r->stop) {
		byte = peek(r->map + i++ % NR * r->unit);
		if (byte >= 0)
			r->touched++;
		if (byte == SECRET)
			__atomic_add_fetch(&r->wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *take_back(void *arg)
{
	struct racers *r = arg;
	unsigned int i = 0;

	while (!r->stop) {
		reclaim_range(r->vm, GPA, UNITS * r->unit, NULL);
		if (++i % 8 == 0)
			mem_alloc(r->mem, PUNCH, FIRST * r->unit, r->unit);
	}
	return NULL;
}

/* A view never sees a page that a guest has. */
TEST_F(view, against_lending)
{
	struct racers r = {
		.map = self->map,
		.unit = self->unit,
		.vm = self->vm,
		.mem = self->mem,
	};
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	unsigned long lent = 0;
	pthread_t threads[3];
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: the guest keeps its pages");
	BIND(LEND);
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, i ? spy :
					    take_back, &r));
	while (now() < end)
		lent += !guest_write(self->vm, GUEST(lent % NR), SECRET);
	r.stop = true;
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(0, r.wrong);
	EXPECT_LT(0, r.touched);
	EXPECT_LT(0, lent);
}

/* ---- the module ---- */

/* An O_PATH descriptor keeps the inode, and the inode needs the module. */
TEST(path_descriptor_holds_the_module)
{
	int mem = new_mem(PAGE, 0), view, path;
	struct stat st;

	ASSERT_LE(0, mem);
	view = new_view(mem, 0, PAGE, 0, NULL);
	ASSERT_LE(0, view);
	path = reopen(view, O_PATH);
	ASSERT_LE(0, path);
	close(mem);
	close(view);
	close(gmem_dev());

	ASSERT_EQ(-1, syscall(SYS_delete_module, "gmem", O_NONBLOCK));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, fstat(path, &st));
	EXPECT_EQ((off_t)PAGE, st.st_size);
	close(path);
}

TEST_HARNESS_MAIN
