// SPDX-License-Identifier: GPL-2.0-only
/* The bindings that all VMs of a user can have together. */
#include "lib/fixture.h"

#include <sys/stat.h>

#define PARAMETER "/sys/module/gmem/parameters/user_bindings"
#define GPA GIB(1)
#define NOBODY 65534

FIXTURE(limit)
{
	struct gmem_stats before;
	char old[32];
	int vm[2];
	int mem;
};

FIXTURE_VARIANT(limit)
{
	const char *provider;
};

VARIANTS_PROVIDER(limit);

static struct gmem_info info(int dev)
{
	struct gmem_info info = { .size = sizeof(info) };

	ioctl(dev, GMEM_INFO, &info);
	return info;
}

static __u64 used(void)
{
	return info(gmem_dev()).user_bindings;
}

/* The user gets room for @nr more bindings. */
static int set_room(__u64 nr)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", used() + nr);
	return write_file(PARAMETER, text);
}

FIXTURE_SETUP(limit)
{
	FILE *file;

	SKIP_UNLESS_PROVIDER(variant->provider);
	SETUP_STATS();
	file = fopen(PARAMETER, "re");
	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(self->old, sizeof(self->old), file));
	fclose(file);
	self->vm[0] = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	self->vm[1] = new_guest(variant->provider, GMEM_POLICY_ALLOW);
	self->mem = new_mem(16 * PAGE, 0);
	ASSERT_LE(0, self->vm[0]);
	ASSERT_LE(0, self->vm[1]);
	ASSERT_LE(0, self->mem);
}

FIXTURE_TEARDOWN(limit)
{
	EXPECT_EQ(0, write_file(PARAMETER, self->old));
	close_guest(self->vm[0]);
	close_guest(self->vm[1]);
	close(self->mem);
	TEARDOWN_STATS();
}

/* Bind page @i of the guestmem, and @count - 1 after it. */
#define BIND(i_vm, i, count)						\
	map_mem(self->vm[i_vm], GPA + (i) * PAGE, self->mem, (i) * PAGE, \
		(count) * PAGE, LEND | RWX)

TEST_F(limit, all_vms_of_a_user)
{
	__u64 before = used();

	ASSERT_EQ(0, set_room(3));
	EXPECT_EQ(before + 3, info(gmem_dev()).max_user_bindings);
	ASSERT_EQ(0, BIND(0, 0, 1));
	ASSERT_EQ(0, BIND(1, 1, 3));
	ASSERT_EQ(0, BIND(1, 4, 1));
	EXPECT_EQ(before + 3, used());
	EXPECT_EQ(-ENOSPC, BIND(0, 5, 1));
	EXPECT_EQ(-ENOSPC, BIND(1, 5, 1));
	/* The unmap would leave two pieces. */
	EXPECT_EQ(-ENOSPC, unmap_range(self->vm[1], GPA + 2 * PAGE, PAGE,
				       NULL));
	EXPECT_EQ(before + 3, used());
	EXPECT_EQ(0, guest_write(self->vm[1], GPA + 2 * PAGE, 1));

	/* A binding that goes leaves room, and so does a VM. */
	ASSERT_EQ(0, unmap_range(self->vm[1], GPA + 4 * PAGE, PAGE, NULL));
	EXPECT_EQ(before + 2, used());
	ASSERT_EQ(0, unmap_range(self->vm[1], GPA + 2 * PAGE, PAGE, NULL));
	EXPECT_EQ(before + 3, used());
	EXPECT_EQ(-ENOSPC, BIND(0, 5, 1));
	close_guest(self->vm[1]);
	self->vm[1] = -1;
	EXPECT_EQ(before + 1, used());
	EXPECT_EQ(0, BIND(0, 5, 1));

	/* A limit below what there is takes nothing away. */
	ASSERT_EQ(0, write_file(PARAMETER, "0"));
	EXPECT_EQ(-ENOSPC, BIND(0, 6, 1));
	EXPECT_EQ(0, guest_write(self->vm[0], GPA, 1));
	EXPECT_EQ(0, unmap_range(self->vm[0], GPA, 16 * PAGE, NULL));
	EXPECT_EQ(before, used());
	/* A call that fails otherwise leaves no trace. */
	ASSERT_EQ(0, set_room(1));
	EXPECT_EQ(-EINVAL, BIND(0, 16, 1));
	EXPECT_EQ(0, BIND(0, 0, 1));
	EXPECT_EQ(before + 1, used());
}

/* A VM counts for the user that has opened the device. */
TEST_F(limit, other_users)
{
	struct gmem_vm_create create = { .size = sizeof(create) };
	int dev, vm;

	/* The limit is then at least 1, and leaves room for the other user. */
	ASSERT_EQ(0, BIND(0, 15, 1));
	ASSERT_EQ(0, set_room(0));
	EXPECT_EQ(-ENOSPC, BIND(0, 0, 1));
	ASSERT_EQ(0, chmod("/dev/gmem", 0666));
	ASSERT_EQ(0, seteuid(NOBODY));
	dev = open("/dev/gmem", O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, seteuid(0));
	ASSERT_EQ(0, chmod("/dev/gmem", 0660));
	ASSERT_LE(0, dev);
	EXPECT_EQ(0, info(dev).user_bindings);

	strncpy((char *)create.provider_name,
		is_live(variant->provider) ? "window" : variant->provider,
		GMEM_NAME_LEN - 1);
	vm = err_of(ioctl(dev, GMEM_VM_CREATE, &create));
	ASSERT_LE(0, vm);
	EXPECT_EQ(0, map_mem(vm, 0, self->mem, 0, PAGE, LEND | RWX));
	EXPECT_EQ(1, info(dev).user_bindings);
	EXPECT_EQ(-ENOSPC, BIND(0, 1, 1));
	/* The VM keeps its user. */
	close(dev);
	EXPECT_EQ(0, unmap_range(vm, 0, PAGE, NULL));
	close(vm);
}

TEST_HARNESS_MAIN
