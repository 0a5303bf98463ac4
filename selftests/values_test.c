// SPDX-License-Identifier: GPL-2.0-only
/* GMEM_INFO, valid and invalid values of the create calls, errno values. */
#include "lib/gmem.h"

TEST(info)
{
	struct gmem_info info, first;
	__u32 i;

	ASSERT_EQ(0, get_info(0, &first));
	EXPECT_EQ(sizeof(first), first.size);
	EXPECT_EQ(GMEM_ABI_VERSION, first.abi_version);
	EXPECT_LE(1, first.nr_providers);
	EXPECT_EQ(sysconf(_SC_PAGESIZE), first.page_size);
	EXPECT_EQ(GMEM_FEATURE_NAME | GMEM_FEATURE_CHANGE | GMEM_FEATURE_MAP |
		  GMEM_FEATURE_RUNS,
		  first.features & ~(__u64)(GMEM_FEATURE_HUGEPAGE |
					    GMEM_FEATURE_LIVE |
					    GMEM_FEATURE_LIVE_HUGE |
					    GMEM_FEATURE_WINDOW |
					    GMEM_FEATURE_VIEW |
					    GMEM_FEATURE_NUMA |
					    GMEM_FEATURE_CGROUP |
					    GMEM_FEATURE_WAIT));
	EXPECT_EQ(!(first.features & GMEM_FEATURE_LIVE),
		  !(first.features & GMEM_FEATURE_WAIT));
	EXPECT_EQ(!(first.features & GMEM_FEATURE_LIVE),
		  !(first.features & GMEM_FEATURE_WINDOW));
	EXPECT_EQ(!(first.features & GMEM_FEATURE_HUGEPAGE),
		  !first.huge_page_size);

	for (i = 0; i < first.nr_providers; i++) {
		ASSERT_EQ(0, get_info(i, &info));
		EXPECT_EQ(i, info.provider_index);
		EXPECT_EQ(first.nr_providers, info.nr_providers);
		EXPECT_EQ(first.features, info.features);
		EXPECT_NE(0, info.provider_name[0]);
		EXPECT_EQ(0, info.provider_name[GMEM_NAME_LEN - 1]);
		EXPECT_LE(32, info.max_guest_addr_bits);
		EXPECT_LE(1000000, info.max_bindings);
		EXPECT_LE(info.max_bindings, info.max_user_bindings);
		/* Some access is possible; no access at all never is. */
		EXPECT_NE(0, info.map_access);
		EXPECT_EQ(0, info.map_access & 1);
		EXPECT_EQ(0, info.map_access >> 8);
	}
	EXPECT_EQ(-ENOENT, get_info(first.nr_providers, &info));
	EXPECT_EQ(-ENOENT, get_info(~0U, &info));

	ASSERT_TRUE(find_provider("window", &info));
	EXPECT_EQ(GMEM_PROVIDER_SHARE_MULTI | GMEM_PROVIDER_WINDOW,
		  info.provider_flags);
	EXPECT_EQ(1 << 5 | 1 << 7, info.map_access);
	if (find_provider("mock", &info))
		EXPECT_EQ(info.nr_providers - 1, info.provider_index);
}

/* Valid and invalid values of the create calls. */
TEST(create_vm_values)
{
	struct gmem_vm_create create = { .size = sizeof(create) };
	const __u32 page_bits = __builtin_ctzll(PAGE);
	struct gmem_info info;
	int fd;

	ASSERT_EQ(0, get_info(0, &info));

	EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_CREATE_VM, 1)));
	EXPECT_EQ(-EINVAL,
		  err_of(ioctl(gmem_dev(), GMEM_CREATE_VM, 1UL << 63)));
	fd = err_of(ioctl(gmem_dev(), GMEM_CREATE_VM, 0));
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	close(fd);

	fd = new_vm("", GMEM_POLICY_DENY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_EQ(0, set_policy(fd, GMEM_POLICY_SCRUB));
	EXPECT_EQ(-EINVAL, set_policy(fd, GMEM_POLICY_DENY + 1));
	EXPECT_EQ(-EINVAL, set_policy(fd, ~0U));
	close(fd);

	EXPECT_EQ(-EINVAL, new_vm("", GMEM_POLICY_DENY + 1));
	EXPECT_EQ(-EOPNOTSUPP, new_vm("no such thing", 0));
	EXPECT_EQ(-EOPNOTSUPP, new_vm("windo", 0));
	EXPECT_EQ(-EOPNOTSUPP, new_vm("window ", 0));
	EXPECT_EQ(-EOPNOTSUPP, new_vm("WINDOW", 0));
	memcpy(create.provider_name, "window__________", GMEM_NAME_LEN);
	EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_VM_CREATE, &create)));

	EXPECT_EQ(-EINVAL, new_vm_bits("", 0, 1));
	EXPECT_EQ(-EINVAL, new_vm_bits("", 0, page_bits));
	EXPECT_EQ(-EINVAL, new_vm_bits("", 0, info.max_guest_addr_bits + 1));
	EXPECT_EQ(-EINVAL, new_vm_bits("", 0, 64));
	EXPECT_EQ(-EINVAL, new_vm_bits("", 0, ~0U));
	fd = new_vm_bits("", 0, page_bits + 1);
	EXPECT_LE(0, fd);
	close(fd);
	fd = new_vm_bits("", 0, info.max_guest_addr_bits);
	EXPECT_LE(0, fd);
	close(fd);
}

TEST(create_mem_values)
{
	struct gmem_create_mem create;
	int fd, i;

	EXPECT_EQ(-EINVAL, new_mem(0, 0));
	EXPECT_EQ(-EINVAL, new_mem(1, 0));
	EXPECT_EQ(-EINVAL, new_mem(PAGE - 1, 0));
	EXPECT_EQ(-EINVAL, new_mem(PAGE + 1, 0));
	EXPECT_EQ(-EINVAL, new_mem(1ULL << 63, 0));
	EXPECT_EQ(-EINVAL, new_mem(-PAGE, 0));
	for (i = 2; i < 64; i++)
		EXPECT_EQ(-EINVAL, new_mem(MIB(2), 1ULL << i));
	for (i = 0; i < 2; i++) {
		create = (struct gmem_create_mem){ .size = PAGE };
		create.reserved[i] = 1ULL << (i * 11);
		EXPECT_EQ(-EINVAL, err_of(ioctl(gmem_dev(), GMEM_CREATE_MEM,
						&create)));
	}

	create = (struct gmem_create_mem){ .size = PAGE };
	fd = err_of(ioctl(gmem_dev(), GMEM_CREATE_MEM, &create));
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, fcntl(fd, F_GETFD));
	close(fd);
	create.flags = GMEM_MEM_CLOEXEC;
	fd = err_of(ioctl(gmem_dev(), GMEM_CREATE_MEM, &create));
	ASSERT_LE(0, fd);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	close(fd);

	/* The largest possible file. */
	fd = new_mem((1ULL << 63) - PAGE, 0);
	EXPECT_LE(0, fd);
	close(fd);
}

/*
 * B19: the alignment of huge-page files was unchecked in a kernel without huge
 * pages.
 */
TEST(b19_huge_files)
{
	struct gmem_info info;
	int fd;

	ASSERT_EQ(0, get_info(0, &info));
	fd = new_mem(2 * HUGE_PAGE, GMEM_MEM_ALLOW_HUGEPAGE);
	if (!(info.features & GMEM_FEATURE_HUGEPAGE)) {
		EXPECT_EQ(-EOPNOTSUPP, fd);
		return;
	}
	EXPECT_LE(0, fd);
	close(fd);
	EXPECT_EQ(-EINVAL, new_mem(info.huge_page_size + info.page_size,
				   GMEM_MEM_ALLOW_HUGEPAGE));
	EXPECT_EQ(-EINVAL, new_mem(info.huge_page_size / 2,
				   GMEM_MEM_ALLOW_HUGEPAGE));
	EXPECT_EQ(-EINVAL, new_mem(0, GMEM_MEM_ALLOW_HUGEPAGE));
}

/* B21: a bad descriptor gave EINVAL instead of EBADF. */
TEST(b21_descriptor_of_a_map)
{
	int vm = new_vm("", GMEM_POLICY_ALLOW);
	int mem = new_mem(MIB(1), 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int path = reopen(mem, O_PATH);
	int closed = dup(null);
	struct gmem_info info;

	ASSERT_LE(0, vm);
	ASSERT_LE(0, mem);
	ASSERT_LE(0, path);
	close(closed);
	EXPECT_EQ(-EBADF, map_mem(vm, 0, -1, 0, PAGE, RWX));
	EXPECT_EQ(-EBADF, map_mem(vm, 0, 1 << 30, 0, PAGE, RWX));
	EXPECT_EQ(-EBADF, map_mem(vm, 0, closed, 0, PAGE, RWX));
	EXPECT_EQ(-EBADF, map_mem(vm, 0, path, 0, PAGE, RWX));
	EXPECT_EQ(-EBADF, unmap_mem(vm, 0, -1, 0, PAGE, RWX));
	EXPECT_EQ(-EINVAL, map_mem(vm, 0, null, 0, PAGE, RWX));
	EXPECT_EQ(-EINVAL, map_mem(vm, 0, vm, 0, PAGE, RWX));
	EXPECT_EQ(-EINVAL, map_mem(vm, 0, gmem_dev(), 0, PAGE, RWX));
	/* The module checks values before descriptors. */
	EXPECT_EQ(-EINVAL, map_mem(vm, 0, -1, 0, PAGE, RWX | 1 << 9));
	EXPECT_EQ(-EINVAL, map_mem(vm, 0, -1, 0, 0, RWX));
	EXPECT_EQ(-EOVERFLOW, map_mem(vm, -PAGE, -1, 0, 2 * PAGE, RWX));
	ASSERT_EQ(0, get_info(0, &info));
	EXPECT_EQ(0, map_mem(vm, info.min_guest_addr, mem, 0, PAGE, RWX));
	close(null);
	close(path);
	close(mem);
	close(vm);
}

TEST_HARNESS_MAIN
