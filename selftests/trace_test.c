// SPDX-License-Identifier: GPL-2.0-only
/* Tracepoints and debugfs, which show the module's state to humans. */
#include "lib/fixture.h"
#include "lib/view.h"
#include "lib/window_desc.h"

#include <sys/prctl.h>

#define TRACING "/sys/kernel/tracing/"
#define GPA GIB(1)

static char text[1 << 20];

/* The file's contents; empty if it can't be read. */
static const char *read_file(const char *path)
{
	size_t length = 0;
	ssize_t got;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	text[0] = 0;
	if (fd < 0)
		return text;
	/*
	 * Read in small pieces, so that the module has to find its place many
	 * times.
	 */
	while (length < sizeof(text) - 128 &&
	       (got = read(fd, text + length, 100)) > 0)
		length += got;
	text[length] = 0;
	close(fd);
	return text;
}

FIXTURE(trace)
{
	int vm;
	int mem;
	__u64 vm_id;
	__u64 mem_id;
};

FIXTURE_VARIANT(trace)
{
	const char *provider;
};

VARIANTS_PROVIDER(trace);

FIXTURE_SETUP(trace)
{
	SKIP_UNLESS_PROVIDER(variant->provider);
	ASSERT_EQ(0, prctl(PR_SET_NAME, "some\nvmm"));
	self->vm = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	ASSERT_LE(0, self->vm);
	self->mem = new_mem(16 * PAGE, 0);
	ASSERT_LE(0, self->mem);
	self->vm_id = vm_id(self->vm);
	self->mem_id = mem_id(self->mem);
	if (!access(TRACING "trace", W_OK)) {
		ASSERT_EQ(0, write_file(TRACING "trace", "\n"));
		ASSERT_EQ(0, write_file(TRACING "events/gmem/enable", "1"));
	}
}

FIXTURE_TEARDOWN(trace)
{
	write_file(TRACING "events/gmem/enable", "0");
	close_guest(self->vm);
	close(self->mem);
}

/* Does the trace have the event, followed by that text? */
static bool in_trace(const char *event, const char *format, ...)
{
	char want[256];
	va_list args;
	int n;

	n = snprintf(want, sizeof(want), " %s: ", event);
	va_start(args, format);
	vsnprintf(want + n, sizeof(want) - n, format, args);
	va_end(args);
	if (strstr(read_file(TRACING "trace"), want))
		return true;
	printf("# not in the trace:%s\n", want);
	return false;
}

TEST_F(trace, tracepoints)
{
	unsigned long long v = self->vm_id, m = self->mem_id, p = PAGE;
	bool mock = !strcmp(variant->provider, "mock");
	bool gunyah = !strcmp(variant->provider, "gunyah");
	__u8 *host;

	if (access(TRACING "trace", W_OK))
		SKIP(return, "no tracefs");
	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be reclaimed");

	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 4 * PAGE, LEND | RWX));
	ASSERT_EQ(0,
		  map_mem(self->vm, 0, self->mem, 4 * PAGE, PAGE, SHARE | RX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, 2 * PAGE, NULL));
	ASSERT_EQ(0, populate_range(self->vm, 0, PAGE, NULL));
	/*
	 * Under Gunyah, an unbound address is a device of the VMM, so write to
	 * a read-only page.
	 */
	EXPECT_EQ(-EFAULT, guest_write(self->vm, gunyah ? 0 : MIB(4), 1));
	ASSERT_EQ(0, reclaim_range(self->vm, GPA, PAGE, NULL));
	ASSERT_EQ(0, change_range(self->vm, GPA + 2 * PAGE, PAGE, SHARE | RX));
	host = map_host(self->mem, 0, 16 * PAGE);
	ASSERT_EQ(0, touch_write(host + 10 * PAGE, 1));
	madvise(host + 10 * PAGE, PAGE, MADV_HWPOISON);
	munmap(host, 16 * PAGE);
	ASSERT_EQ(0, unmap_range(self->vm, 0, PAGE, NULL));
	if (mock) {
		ASSERT_EQ(0, mock_fail(self->vm, GMEM_TEST_RECLAIM, 1, 2));
		EXPECT_EQ(-EIO,
			  reclaim_range(self->vm, GPA + PAGE, PAGE, NULL));
	}
	close_guest(self->vm);
	close(self->mem);
	self->vm = -1;
	self->mem = -1;

	EXPECT_TRUE(in_trace("gmem_map", "vm=%llu guest_addr=0x40000000 length=0x%llx mem=%llu offset=0x0 flags=lend|r|w|x\n", v, 4 * p, m));
	EXPECT_TRUE(in_trace("gmem_map", "vm=%llu guest_addr=0x0 length=0x%llx mem=%llu offset=0x%llx flags=share|r|x\n", v, p, m, 4 * p));
	EXPECT_TRUE(in_trace("gmem_change", "vm=%llu guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx flags=share|r|x\n", v, GPA + 2 * p, p, m, 2 * p));
	EXPECT_TRUE(in_trace("gmem_lend", "vm=%llu guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx\n", v, GPA + p, p, m, p));
	EXPECT_TRUE(in_trace("gmem_share", "vm=%llu guest_addr=0x0 length=0x%llx mem=%llu offset=0x%llx\n", v, p, m, 4 * p));
	EXPECT_TRUE(in_trace("gmem_refused", "vm=%llu guest_addr=%s access=w reason=%s\n", v, gunyah ? "0x0" : "0x400000", gunyah ? "perm" : "unbound"));
	EXPECT_TRUE(in_trace("gmem_reclaim", "vm=%llu guest_addr=0x40000000 length=0x%llx mem=%llu offset=0x0 cause=host\n", v, p, m));
	EXPECT_TRUE(in_trace("gmem_hwpoison", "mem=%llu offset=0x%llx\n", m, 10 * p));
	EXPECT_TRUE(in_trace("gmem_unmap", "vm=%llu guest_addr=0x0 length=0x%llx mem=%llu offset=0x%llx flags=share|r|x\n", v, p, m, 4 * p));
	if (mock) {
		EXPECT_TRUE(in_trace("gmem_reclaim_refused", "vm=%llu guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx cause=host error=5\n", v, GPA + p, p, m, p));
		EXPECT_TRUE(in_trace("gmem_reclaim_refused", "vm=%llu guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx cause=teardown error=5\n", v, GPA + p, p, m, p));
		EXPECT_TRUE(in_trace("gmem_leak", "vm=%llu guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx\n", v, GPA + p, p, m, p));
	} else {
		EXPECT_TRUE(in_trace("gmem_reclaim", "vm=%llu guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx cause=teardown\n", v, GPA + p, p, m, p));
	}
	EXPECT_TRUE(in_trace("gmem_vm_destroyed", "vm=%llu\n", v));
	EXPECT_TRUE(in_trace("gmem_mem_destroyed", "mem=%llu\n", m));
}

TEST_F(trace, created)
{
	int vm, mem;

	if (access(TRACING "trace", W_OK))
		SKIP(return, "no tracefs");
	vm = new_vm(variant->provider, GMEM_POLICY_ALLOW);
	mem = new_mem(PAGE, 0);
	EXPECT_TRUE(in_trace("gmem_vm_created", "vm=%u\n", vm_id(vm)));
	EXPECT_TRUE(in_trace("gmem_mem_created", "mem=%llu\n", mem_id(mem)));
	close(vm);
	close(mem);
}

TEST_F(trace, views)
{
	unsigned long long m = self->mem_id;
	__u64 id;
	int view;

	if (access(TRACING "trace", W_OK))
		SKIP(return, "no tracefs");
	view = new_view(self->mem, PAGE, 2 * PAGE, 0, &id);
	ASSERT_LE(0, view);
	ASSERT_EQ(0, revoke_view(self->mem, id, NULL));
	close(view);
	EXPECT_TRUE(in_trace("gmem_view_created",
			     "view=%llu mem=%llu offset=0x%llx length=0x%llx",
			     id, m, PAGE, 2 * PAGE));
	EXPECT_TRUE(in_trace("gmem_view_revoked", "view=%llu mem=%llu ", id,
			     m));
	EXPECT_TRUE(in_trace("gmem_view_destroyed", "view=%llu mem=%llu ", id,
			     m));
}

TEST_F(trace, window_descriptors)
{
	__u64 id;
	int fd;

	if (!is_live(variant->provider))
		SKIP(return, "no live windows");
	if (access(TRACING "trace", W_OK))
		SKIP(return, "no tracefs");
	fd = new_window(self->vm, GPA, 2 * PAGE, 0, &id);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_TRUE(in_trace("gmem_window_created", "window=%llu vm=%llu guest_addr=0x40000000 length=0x%llx\n",
			     id, self->vm_id, 2 * PAGE));
	EXPECT_TRUE(in_trace("gmem_window_destroyed", "window=%llu vm=%llu ",
			     id, self->vm_id));
}

#define DEBUGFS "/sys/kernel/debug/gmem/"
#define MANY 100

TEST_F(trace, debugfs)
{
	const char *details = !strcmp(variant->provider, "mock") ? ", pages 2\n" :
			      !strcmp(variant->provider, "gunyah") ? ", vmid " :
								    "\n";
	int mem = new_mem(MANY * PAGE, 0), i;
	struct gmem_stats own;
	struct gmem_info info;
	char want[512];

	if (access(DEBUGFS, R_OK))
		SKIP(return, "no debugfs");
	ASSERT_TRUE(find_provider(variant->provider, &info));
	ASSERT_EQ(0, get_stats(&own));
	ASSERT_EQ(0,
		  map_mem(self->vm, GPA, self->mem, 0, 4 * PAGE, LEND | RWX));
	ASSERT_EQ(0, map_mem(self->vm, GPA + MIB(1), self->mem, 8 * PAGE, PAGE,
			     SHARE | RX));
	for (i = 0; i < MANY; i++)
		ASSERT_EQ(0, map_mem(self->vm, GIB(2) + 2 * i * PAGE, mem,
				     i * PAGE, PAGE, SHARE | RX));
	ASSERT_EQ(0, populate_range(self->vm, GPA, 2 * PAGE, NULL));

	snprintf(want, sizeof(want),
		 "vm %llu: %s, policy allow, %u bits, %sby some\\nvmm[%d]: %llu bindings, %llu pages lent, 0 accesses refused%s",
		 self->vm_id, (char *)info.provider_name, info.max_guest_addr_bits,
		 is_live(variant->provider) ? "live window, " :
		 has_window(variant->provider) ? "paged window, " : "",
		 getpid(), own.bindings + 102, own.lent_pages + 2, details);
	EXPECT_NE(NULL, strstr(read_file(DEBUGFS "vms"), want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	snprintf(want, sizeof(want),
		 "\n  0x000040000000-0x%012llx lend  rwx guestmem %llu offset 0x0\n"
		 "  0x000040100000-0x%012llx share r-x guestmem %llu offset 0x%llx\n",
		 GPA + 4 * PAGE - 1, self->mem_id,
		 GPA + MIB(1) + PAGE - 1, self->mem_id, 8 * PAGE);
	EXPECT_NE(NULL, strstr(text, want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	for (i = 0; i < MANY; i++) {
		snprintf(want, sizeof(want), "\n  %#014llx-",
			 (unsigned long long)(GIB(2) + 2 * i * PAGE));
		EXPECT_NE(NULL, strstr(text, want));
	}

	snprintf(want, sizeof(want),
		 "guestmem %llu: %llu KiB, pages of %llu KiB: 14 absent, 0 host, 2 lent, 0 shared, 0 leaked\n",
		 self->mem_id, 16 * PAGE / 1024, PAGE / 1024);
	EXPECT_NE(NULL, strstr(read_file(DEBUGFS "guestmems"), want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	/* Only root may read them. */
	struct stat st;

	ASSERT_EQ(0, stat(DEBUGFS "vms", &st));
	EXPECT_EQ(0400, st.st_mode & 0777);
	close(mem);
}

TEST_F(trace, debugfs_names)
{
	int vm = new_vm_named(variant->provider, "web server 1");
	int mem = new_mem_named(PAGE, 0, "ram");
	char want[512];

	if (access(DEBUGFS, R_OK))
		SKIP(return, "no debugfs");
	snprintf(want, sizeof(want), "vm %u \"web server 1\": %s, ", vm_id(vm),
		 is_live(variant->provider) ? "window" : variant->provider);
	EXPECT_NE(NULL, strstr(read_file(DEBUGFS "vms"), want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	snprintf(want, sizeof(want), "guestmem %llu \"ram\": %llu KiB, ",
		 mem_id(mem), PAGE / 1024);
	EXPECT_NE(NULL, strstr(read_file(DEBUGFS "guestmems"), want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	close(vm);
	close(mem);
}

TEST_F(trace, debugfs_windows)
{
	int named, read_only, no_discard;
	char want[512];
	__u64 id;

	if (!is_live(variant->provider))
		SKIP(return, "no live windows");
	if (access(DEBUGFS, R_OK))
		SKIP(return, "no debugfs");
	named = new_window_named(self->vm, GPA, 2 * PAGE, 0, "for a VMM", &id);
	ASSERT_LE(0, named);
	snprintf(want, sizeof(want),
		 "window %llu \"for a VMM\": vm %llu 0x000040000000-0x%012llx, read-write, discard, by process %d\n",
		 id, self->vm_id, GPA + 2 * PAGE - 1, getpid());
	EXPECT_NE(NULL, strstr(read_file(DEBUGFS "windows"), want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	close(named);

	read_only = new_window(self->vm, 0, PAGE, GMEM_WINDOW_READ_ONLY, NULL);
	no_discard = new_window(self->vm, 0, PAGE, GMEM_WINDOW_NO_DISCARD,
				NULL);
	read_file(DEBUGFS "windows");
	EXPECT_EQ(NULL, strstr(text, "for a VMM"));
	EXPECT_EQ(NULL, strstr(text, "discard"));
	EXPECT_NE(NULL, strstr(text, ", read-only, by process "));
	EXPECT_NE(NULL, strstr(text, ", read-write, by process "));
	close(read_only);
	close(no_discard);
}

TEST_F(trace, debugfs_views)
{
	int views[MANY], first, i;
	char want[512];
	__u64 id;

	if (access(DEBUGFS, R_OK))
		SKIP(return, "no debugfs");
	first = new_view_named(self->mem, PAGE, 2 * PAGE, GMEM_VIEW_READ_ONLY,
			       "disk", &id);
	ASSERT_LE(0, first);
	for (i = 0; i < MANY; i++) {
		views[i] = new_view(self->mem, 0, PAGE, 0, NULL);
		ASSERT_LE(0, views[i]);
	}
	read_file(DEBUGFS "views");
	snprintf(want, sizeof(want),
		 "view %llu \"disk\": guestmem %llu offset 0x%llx, %llu KiB, read-only, by process %d\n",
		 id, self->mem_id, PAGE, 2 * PAGE / 1024, getpid());
	EXPECT_NE(NULL, strstr(text, want)) {
		TH_LOG("want: %s\ngot: %s", want, text);
	}
	for (i = 0; i < MANY; i++) {
		snprintf(want, sizeof(want),
			 "\nview %llu: guestmem %llu offset 0x0, %llu KiB, read-write, by process %d\n",
			 view_id(views[i]), self->mem_id, PAGE / 1024, getpid());
		EXPECT_NE(NULL, strstr(text, want)) {
			TH_LOG("want: %s", want);
		}
		close(views[i]);
	}
	ASSERT_EQ(0, revoke_view(self->mem, id, NULL));
	EXPECT_NE(NULL, strstr(read_file(DEBUGFS "views"),
			       " KiB, read-only, revoked, by process "));
	close(first);
	EXPECT_EQ(NULL, strstr(read_file(DEBUGFS "views"), "\"disk\""));
}

TEST_HARNESS_MAIN
