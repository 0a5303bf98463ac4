// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hibernation while a guest under Gunyah has memory that is in the kernel's linear
 * map: the kernel would read it.
 */
#include "lib/gunyah_fixture.h"

/*
 * Opening it is the first step of hibernation by user space: to read an image of
 * the memory, or to write one.
 */
#define SNAPSHOT "/dev/snapshot"

#define HYP_DONATE 0x61
#define HYP_DENIED 30

FIXTURE(hibernate)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	bool lossy;
};

/* The descriptor of a hibernation that has begun, or -errno. */
static int begin(int flags)
{
	return err_of(open(SNAPSHOT, flags | O_CLOEXEC));
}

/* Begin a hibernation, and give it up. 0 or -errno. */
static int try(int flags)
{
	int fd = begin(flags);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

FIXTURE_SETUP(hibernate)
{
	int err;

	SETUP_GUNYAH();
	err = try(O_RDONLY);
	if (err == -ENOENT || err == -EPERM)
		SKIP(return, "this kernel doesn't hibernate");
	if (err == -EBUSY)
		SKIP(return, "an earlier test has lost pages to a guest");
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
}

FIXTURE_TEARDOWN(hibernate)
{
	gunyah_guest_close(&self->guest);
	TEARDOWN_GUNYAH(self->lossy);
}

TEST_F(hibernate, refused_while_a_vm_lends_mapped_memory)
{
	EXPECT_EQ(-EBUSY, try(O_RDONLY));
	EXPECT_EQ(-EBUSY, try(O_WRONLY));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-EBUSY, try(O_RDONLY));
	/* The parameter decides about later bindings alone. */
	ASSERT_EQ(0, gunyah_allow_mapped(false));
	EXPECT_EQ(-EBUSY, try(O_RDONLY));
	ASSERT_EQ(0, gunyah_allow_mapped(true));
	EXPECT_LE(0, gunyah_read(&self->guest, GUNYAH_AGENT));
	gunyah_guest_close(&self->guest);
	EXPECT_EQ(0, try(O_RDONLY));
	EXPECT_EQ(0, try(O_WRONLY));
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
}

TEST_F(hibernate, sharing_is_harmless)
{
	int vm, mem = new_mem(KIB(64), 0);

	gunyah_guest_close(&self->guest);
	vm = new_vm("gunyah", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, vm);
	ASSERT_EQ(0, map_mem(vm, GIB(1), mem, 0, KIB(64), SHARE | RWX));
	EXPECT_EQ(0, try(O_RDONLY));
	close(mem);
	close(vm);
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
}

/* Once hibernation has begun, no VM can begin to lend such memory. */
TEST_F(hibernate, no_lending_meanwhile)
{
	int fd, vm, mem = new_mem(KIB(64), 0);

	gunyah_guest_close(&self->guest);
	vm = new_vm("gunyah", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, vm);
	fd = begin(O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, map_mem(vm, GIB(1), mem, 0, KIB(64), LEND | RWX));
	close(fd);
	EXPECT_EQ(0, map_mem(vm, GIB(1), mem, 0, KIB(64), LEND | RWX));
	EXPECT_EQ(-EBUSY, try(O_RDONLY));
	close(mem);
	close(vm);
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
}

/* A page that never comes back forbids hibernation until the reboot. */
TEST_F(hibernate, not_with_lost_pages)
{
	ONLY_MONITOR();
	self->lossy = true;
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	/* Neither donations nor parcels go back. */
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_HYPERCALL_ERROR,
		HYP_DONATE, 1, HYP_DENIED, 10000);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR, RM_MEM_RECLAIM, 1,
		RM_DENIED, 10000);
	gunyah_guest_close(&self->guest);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_EQ(-EBUSY, try(O_RDONLY));
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
}

TEST_HARNESS_MAIN
