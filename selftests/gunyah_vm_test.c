// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a VM under Gunyah, with a Resource Manager that fails at every
 * step.
 */
#include "lib/gunyah_fixture.h"

#include <sys/uio.h>

/*
 * The messages of a start; each of the last two is sent on one platform only.
 */
static const __u32 start_messages[] = {
	RM_VM_ALLOC_VMID, RM_MEM_LEND, RM_VM_CONFIG_IMAGE,
	RM_VM_SET_DEMAND_PAGING, RM_VM_INIT, RM_VM_GET_RESOURCES,
	RM_VM_SET_BOOT_CONTEXT, RM_VM_START, RM_VM_SET_ADDRESS_LAYOUT,
	RM_MEM_SHARE,
};

static const __u32 end_messages[] = {
	RM_VM_STOP, RM_VM_RESET, RM_MEM_RECLAIM, RM_VM_DEALLOC_VMID,
};

FIXTURE(gunyah)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	/* The test makes the hypervisor keep pages. */
	bool lossy;
};

typedef FIXTURE_DATA(gunyah) self_t;

/* A guest that isn't started, with lent memory at 1 GiB and shared at 2 GiB. */
static int open_guest(self_t *self)
{
	int err = gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW);

	if (!err)
		err = map_mem(self->guest.vm, GIB(1), self->mem, 0, KIB(512),
			      LEND | RWX);
	if (!err)
		err = map_mem(self->guest.vm, GIB(2), self->mem, KIB(512),
			      KIB(512), SHARE | RWX);
	return err;
}

FIXTURE_SETUP(gunyah)
{
	SETUP_GUNYAH();
	self->mem = new_mem(MIB(1), 0);
	ASSERT_LE(0, self->mem);
	ASSERT_EQ(0, open_guest(self));
}

FIXTURE_TEARDOWN(gunyah)
{
	gunyah_guest_close(&self->guest);
	close(self->mem);
	TEARDOWN_GUNYAH(self->lossy);
}

/* Can the guest use its lent and its shared memory? */
static int guest_works(self_t *self)
{
	int ret;

	ret = gunyah_write(&self->guest, GIB(1) + 5, 0x77);
	if (ret)
		return ret;
	ret = gunyah_read(&self->guest, GIB(1) + 5);
	if (ret != 0x77)
		return ret < 0 ? ret : -EPROTO;
	return gunyah_write(&self->guest, GIB(2), 0x33);
}

static int start_with(int vm, __u64 dtb, __u64 size)
{
	struct gmem_gunyah_dtb_config config = { dtb, size };
	int err = err_of(ioctl(vm, GMEM_GUNYAH_SET_DTB_CONFIG, &config));

	return err ?: err_of(ioctl(vm, GMEM_GUNYAH_START, 0));
}

TEST_F(gunyah, is_the_default)
{
	struct gmem_info info;
	int vm;

	ASSERT_EQ(0, get_info(0, &info));
	EXPECT_STREQ("gunyah", (char *)info.provider_name);
	vm = err_of(ioctl(gmem_dev(), GMEM_CREATE_VM, 0));
	ASSERT_LE(0, vm);
	EXPECT_EQ(-EINVAL, err_of(ioctl(vm, GMEM_GUNYAH_START, 0)));
	close(vm);
	vm = new_vm("window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, vm);
	EXPECT_EQ(-ENOTTY, err_of(ioctl(vm, GMEM_GUNYAH_START, 0)));
	close(vm);
}

TEST_F(gunyah, lending_mapped_memory_is_a_choice)
{
	ASSERT_EQ(0, gunyah_allow_mapped(false));
	EXPECT_EQ(-EPERM, map_mem(self->guest.vm, GIB(3), self->mem, 0, PAGE,
				  LEND | RWX));
	ASSERT_EQ(0, unmap_range(self->guest.vm, GIB(2), PAGE, NULL));
	EXPECT_EQ(0, map_mem(self->guest.vm, GIB(3), self->mem, KIB(512), PAGE,
			     SHARE | RWX));
	ASSERT_EQ(0, gunyah_allow_mapped(true));
}

TEST_F(gunyah, device_tree)
{
	int vm = self->guest.vm;

	EXPECT_EQ(-EINVAL, start_with(vm, GIB(1), 0));
	EXPECT_EQ(-EINVAL, start_with(vm, GIB(1) + 1, 4));
	EXPECT_EQ(-EINVAL, start_with(vm, 1ULL << 50, 4));
	EXPECT_EQ(-ENOENT, start_with(vm, GIB(3), PAGE));
	EXPECT_EQ(-ENOENT, start_with(vm, GIB(1), KIB(512) + 1));
	EXPECT_EQ(-EINVAL, start_with(vm, GIB(2), PAGE));
	EXPECT_EQ(0, start_with(vm, GUNYAH_AGENT + PAGE, PAGE));
	/* The place of the device tree is fixed once the VM runs. */
	EXPECT_EQ(-EBUSY, start_with(vm, GIB(1), PAGE));
	EXPECT_EQ(0, guest_works(self));
}

/* Start the guest while @page is pinned. 0 or -errno. */
static int start_pinned(struct gunyah_guest *guest, __u8 *page)
{
	struct iovec iov = { .iov_base = page, .iov_len = PAGE };
	int ret, ends[2];

	if (pipe(ends))
		return -errno;
	ret = err_of(vmsplice(ends[1], &iov, 1, 0));
	if (ret == (int)PAGE)
		ret = gunyah_guest_start(guest);
	close(ends[0]);
	close(ends[1]);
	return ret;
}

/* A pinned page fails a start, but the VM can be started again later. */
TEST_F(gunyah, starts_when_pages_are_free)
{
	__u8 *dtb = map_host(self->guest.agent_mem, PAGE, PAGE);
	__u8 *host = map_host(self->mem, 0, PAGE);

	ASSERT_NE(MAP_FAILED, dtb);
	ASSERT_NE(MAP_FAILED, host);
	EXPECT_EQ(-EBUSY, start_pinned(&self->guest, dtb));
	EXPECT_EQ(-ENODEV, gunyah_run(&self->guest, NULL, 0, NULL));
	/*
	 * With parcels, the guest can't fault the page in later, so the start
	 * needs it.
	 */
	if (self->el2.platform == EL2_PLATFORM_PARCELS) {
		ASSERT_EQ(0, touch_write(host, 1));
		EXPECT_EQ(-EBUSY, start_pinned(&self->guest, host));
		/* The Resource Manager has the device tree already. */
		EXPECT_EQ(-SIGBUS, peek(dtb));
		EXPECT_EQ(-EBUSY, unmap_range(self->guest.vm, GUNYAH_AGENT,
					      GUNYAH_AGENT_SIZE, NULL));
		EXPECT_EQ(-ENODEV, gunyah_run(&self->guest, NULL, 0, NULL));
	}
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	munmap(dtb, PAGE);
	munmap(host, PAGE);
}

/*
 * fdinfo shows these details to operators; gmemctl and debugfs use the same
 * source.
 */
TEST_F(gunyah, fdinfo_details)
{
	const bool parcels = self->el2.platform == EL2_PLATFORM_PARCELS;
	const __u64 labels[] = {
		GUNYAH_AGENT >> 12, (GUNYAH_AGENT + PAGE) >> 12, GIB(1) >> 12,
		GIB(2) >> 12,
	};
	char path[64], text[1024] = {}, want[32];
	size_t i;
	int fd;

	EXPECT_EQ(0, fd_number(self->guest.vm, "gmem-vmid:"));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_LT(0, fd_number(self->guest.vm, "gmem-vmid:"));
	EXPECT_EQ(1, fd_number(self->guest.vm, "gmem-started:"));
	EXPECT_EQ(!parcels, fd_number(self->guest.vm, "gmem-extents:"));
	/*
	 * The device tree arrives in a parcel, and with extents moves to an
	 * extent.
	 */
	EXPECT_EQ(parcels ? 4 : 0, fd_number(self->guest.vm, "gmem-parcels:"));

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->guest.vm);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LT(0, read(fd, text, sizeof(text) - 1));
	close(fd);
	for (i = 0; i < ARRAY_SIZE(labels); i++) {
		snprintf(want, sizeof(want), "gmem-label:\t%llu\n", labels[i]);
		EXPECT_EQ(parcels, !!strstr(text, want)) {
			TH_LOG("%s in: %s", want, text);
		}
	}
}

TEST_F(gunyah, boot_registers)
{
	struct gmem_gunyah_boot_context context = { .reserved = 1 };
	int vm = self->guest.vm;

	EXPECT_EQ(-EINVAL,
		  err_of(ioctl(vm, GMEM_GUNYAH_SET_BOOT_CONTEXT, &context)));
	EXPECT_EQ(-EINVAL, gunyah_set_register(vm, GMEM_GUNYAH_REG(0, 32), 0));
	EXPECT_EQ(-EINVAL, gunyah_set_register(vm, GMEM_GUNYAH_REG(1, 1), 0));
	EXPECT_EQ(-EINVAL, gunyah_set_register(vm, GMEM_GUNYAH_REG(2, 3), 0));
	EXPECT_EQ(-EINVAL, gunyah_set_register(vm, GMEM_GUNYAH_REG(3, 0), 0));
	EXPECT_EQ(-EINVAL, gunyah_set_register(vm, 1 << 16, 0));
	EXPECT_EQ(0, gunyah_set_register(vm, GMEM_GUNYAH_REG(2, 1), 0x1000));
	EXPECT_EQ(0, gunyah_set_register(vm, GMEM_GUNYAH_REG(0, 30), ~0ULL));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-EBUSY, gunyah_set_register(vm, GMEM_GUNYAH_REG(0, 1), 0));
}

static int function(int vm, unsigned long call, __u32 type, __u32 size,
		    void *arg)
{
	struct gmem_gunyah_fn_desc desc = { type, size, ptr_u64(arg) };

	return err_of(ioctl(vm, call, &desc));
}

TEST_F(gunyah, vcpu_functions)
{
	struct gmem_gunyah_fn_vcpu_arg arg = { .id = 0 };
	int vm = self->guest.vm, vcpu;

	EXPECT_EQ(-EEXIST, gunyah_add_vcpu(vm, 0));
	EXPECT_EQ(-EINVAL, function(vm, GMEM_GUNYAH_ADD_FUNCTION, 4, 4, &arg));
	EXPECT_EQ(-EINVAL, function(vm, GMEM_GUNYAH_ADD_FUNCTION, 1, 8, &arg));
	EXPECT_EQ(-EFAULT, function(vm, GMEM_GUNYAH_ADD_FUNCTION, 1, 4, NULL));
	EXPECT_EQ(-EOPNOTSUPP,
		  function(vm, GMEM_GUNYAH_ADD_FUNCTION, 2, 16, &arg));
	EXPECT_EQ(-EOPNOTSUPP,
		  function(vm, GMEM_GUNYAH_ADD_FUNCTION, 3, 32, &arg));
	EXPECT_EQ(-ENODEV,
		  err_of(ioctl(self->guest.vcpu, GMEM_GUNYAH_VCPU_RUN, 0)));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));

	/* Gunyah has no second vCPU. */
	vcpu = gunyah_add_vcpu(vm, 7);
	ASSERT_LE(0, vcpu);
	EXPECT_EQ(-ENODEV, err_of(ioctl(vcpu, GMEM_GUNYAH_VCPU_RUN, 0)));
	EXPECT_EQ(-EINVAL, err_of(ioctl(vcpu, GMEM_GUNYAH_VCPU_RUN, 1)));
	EXPECT_EQ(-ENOTTY, err_of(ioctl(vcpu, GMEM_GUNYAH_START, 0)));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, vcpu,
				   0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, vcpu,
				   0));
	close(vcpu);
	arg.id = 7;
	EXPECT_EQ(-ENOENT,
		  function(vm, GMEM_GUNYAH_REMOVE_FUNCTION, 1, 4, &arg));

	arg.id = 0;
	EXPECT_EQ(0, guest_works(self));
	EXPECT_EQ(0, function(vm, GMEM_GUNYAH_REMOVE_FUNCTION, 1, 4, &arg));
	EXPECT_EQ(-ENOENT,
		  function(vm, GMEM_GUNYAH_REMOVE_FUNCTION, 1, 4, &arg));
	EXPECT_EQ(-ENODEV,
		  err_of(ioctl(self->guest.vcpu, GMEM_GUNYAH_VCPU_RUN, 0)));
	vcpu = gunyah_add_vcpu(vm, 0);
	ASSERT_LE(0, vcpu);
	close(self->guest.vcpu);
	self->guest.vcpu = vcpu;
	munmap(self->guest.run, self->guest.run_size);
	self->guest.run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			       vcpu, 0);
	ASSERT_NE(MAP_FAILED, self->guest.run);
	EXPECT_EQ(0, guest_works(self));
}

TEST_F(gunyah, populate_waits_for_the_start)
{
	__u64 nr;

	EXPECT_EQ(-EAGAIN, populate_range(self->guest.vm, GIB(1), PAGE, &nr));
	EXPECT_EQ(0, nr);
	EXPECT_EQ('h', page_state(self->mem, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, populate_range(self->guest.vm, GIB(1), PAGE, &nr));
	EXPECT_EQ('l', page_state(self->mem, 0));
}

TEST_F(gunyah, psci_off)
{
	int i;

	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-EALREADY, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_EXITED,
			  self->guest.run->status.status);
		EXPECT_EQ(GMEM_GUNYAH_EXIT_OFF,
			  self->guest.run->status.exit_info.type);
		EXPECT_EQ(-ESHUTDOWN, gunyah_run(&self->guest, NULL, 0, NULL));
	}
}

TEST_F(gunyah, psci_reset)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_RESET, 0, 0, NULL));
	EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_EXITED, self->guest.run->status.status);
	EXPECT_EQ(GMEM_GUNYAH_EXIT_RESET,
		  self->guest.run->status.exit_info.type);
}

/*
 * The host finds the data of a guest that has ended, whichever page it reads
 * first.
 */
TEST_F(gunyah, memory_outlives_the_guest)
{
	__u8 *host = map_host(self->mem, 0, MIB(1));

	ASSERT_NE(MAP_FAILED, host);
	host[PAGE] = 0x11;
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	EXPECT_EQ(0, gunyah_write(&self->guest, GIB(1) + PAGE + 1, 0x12));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(0x77, peek(host + 5));
	EXPECT_EQ(0x33, peek(host + KIB(512)));
	EXPECT_EQ(0x11, peek(host + PAGE));
	EXPECT_EQ(0x12, peek(host + PAGE + 1));
	munmap(host, MIB(1));
}

TEST_F(gunyah, immediate_exit)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	self->guest.run->immediate_exit = 1;
	EXPECT_EQ(-EINTR,
		  err_of(ioctl(self->guest.vcpu, GMEM_GUNYAH_VCPU_RUN, 0)));
	self->guest.run->immediate_exit = 0;
	EXPECT_EQ(0, guest_works(self));
}

/* A vCPU that waits to be turned on isn't a crashed guest. */
TEST_F(gunyah, vcpu_waits_to_be_powered_on)
{
	const __u64 off = 2, times = 20;
	__u64 hits = el2_stats(&self->el2).rule_hits;

	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_VCPU_STATE,
		fd_number(self->guest.vm, "gmem-vmid:"), 1, off, times);
	EXPECT_EQ(0, guest_works(self));
	EXPECT_EQ(hits + times, el2_stats(&self->el2).rule_hits);
}

/* A VMM's answer to an exit survives a signal. */
TEST_F(gunyah, answer_survives_a_signal)
{
	struct gmem_gunyah_vcpu_run *run = self->guest.run;
	const __u64 words[] = { GUNYAH_WRITE, GIB(1) + 3, 0x66 };
	unsigned int i;

	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, err_of(ioctl(self->guest.vcpu,
					  GMEM_GUNYAH_VCPU_RUN, 0)));
		ASSERT_EQ(GMEM_GUNYAH_VCPU_EXIT_MMIO, run->exit_reason);
		ASSERT_EQ(0, run->mmio.is_write);
		memcpy(run->mmio.data, &words[i], sizeof(words[i]));
		run->immediate_exit = 1;
		EXPECT_EQ(-EINTR, err_of(ioctl(self->guest.vcpu,
					       GMEM_GUNYAH_VCPU_RUN, 0)));
		run->immediate_exit = 0;
		memset(run->mmio.data, 0xee, sizeof(run->mmio.data));
	}
	EXPECT_EQ(0, gunyah_run(&self->guest, NULL, 0, NULL));
	EXPECT_EQ(0x66, gunyah_read(&self->guest, GIB(1) + 3));
}

/* The vCPU's descriptor keeps the VM. */
TEST_F(gunyah, vcpu_outlives_vm_descriptor)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	close(self->guest.vm);
	self->guest.vm = -1;
	EXPECT_EQ(0, guest_works(self));
}

TEST_F(gunyah, vmm_fails_an_access)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	/*
	 * There is neither memory nor a device: gunyah_read() lets the access
	 * fail.
	 */
	if (self->el2.platform == EL2_PLATFORM_EXTENTS) {
		EXPECT_EQ(-EFAULT, gunyah_read(&self->guest, 0x12345678));
	} else {
		EXPECT_EQ(-EOPNOTSUPP, gunyah_read(&self->guest, 0x12345678));
		self->guest.run->mmio.resume_action =
			GMEM_GUNYAH_VCPU_RESUME_HANDLED;
		EXPECT_EQ(0, gunyah_resume(&self->guest, NULL));
	}
	EXPECT_EQ(0, guest_works(self));
}

/*
 * The memory has more pieces than a message of the Resource Manager can hold.
 */
TEST_F(gunyah, memory_in_many_pieces)
{
	const __u64 pages = 1536, gpa = GIB(3);
	int mem = new_mem(pages * PAGE, 0);
	__u8 *host = map_host(mem, 0, pages * PAGE);
	__u64 i;

	ASSERT_NE(MAP_FAILED, host);
	/*
	 * This order makes it unlikely that neighbours in the file are
	 * neighbours in memory.
	 */
	for (i = 0; i < pages; i += 2)
		*(__u16 *)(host + i * PAGE) = i;
	for (i = pages - 1; i < pages; i -= 2)
		*(__u16 *)(host + i * PAGE) = i;
	ASSERT_EQ(0, map_mem(self->guest.vm, gpa, mem, 0, pages * PAGE,
			     LEND | RWX));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, populate_range(self->guest.vm, gpa, pages * PAGE, NULL));
	for (i = 0; i < pages; i += 61) {
		EXPECT_EQ(i & 0xff, gunyah_read(&self->guest, gpa + i * PAGE));
		EXPECT_EQ(i >> 8, gunyah_read(&self->guest,
					      gpa + i * PAGE + 1));
	}
	gunyah_guest_close(&self->guest);
	self->guest.vm = self->guest.vcpu = self->guest.agent_mem = -1;
	self->guest.run = MAP_FAILED;
	for (i = 0; i < pages; i++)
		EXPECT_EQ(i, *(__u16 *)(host + i * PAGE));
	munmap(host, pages * PAGE);
	close(mem);
}

/*
 * A VM needs more parcels than the Resource Manager grants; extents have no
 * such limit.
 */
TEST_F(gunyah, too_many_parcels)
{
	const __u64 pages = 70;
	int mem = new_mem(pages * PAGE, 0);
	__u64 i;
	int ret;

	for (i = 0; i < pages; i++)
		ASSERT_EQ(0, map_mem(self->guest.vm, GIB(3) + 2 * i * PAGE, mem,
				     i * PAGE, PAGE, LEND | RWX));
	ret = gunyah_guest_start(&self->guest);
	if (self->el2.platform == EL2_PLATFORM_PARCELS) {
		EXPECT_EQ(-EPERM, ret);
	} else {
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, gunyah_touch(&self->guest, GIB(3), pages,
					  2 * PAGE));
	}
	close(mem);
}

/* ---- a Resource Manager that misbehaves ---- */

TEST_F(gunyah, start_refused)
{
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(start_messages); i++) {
		/* 2: no resources. */
		el2_rule(&self->el2, EL2_RULE_RPC_ERROR, start_messages[i], 1,
			 2);
		ret = gunyah_guest_start(&self->guest);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		if (ret) {
			EXPECT_EQ(-EALREADY, gunyah_guest_start(&self->guest));
			EXPECT_EQ(-ESHUTDOWN,
				  gunyah_run(&self->guest, NULL, 0, NULL));
			EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_LOAD_FAILED,
				  self->guest.run->status.status);
		}
		TH_LOG("message %#x: %d", start_messages[i], ret);
		if (i < 8)
			EXPECT_EQ(-ENODEV, ret);
		gunyah_guest_close(&self->guest);
		EXPECT_EL2_AS(self->el2_before, &self->el2);
		ASSERT_EQ(0, open_guest(self));
	}
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
}

/* Replies arrive late, or with a notification between their fragments. */
TEST_F(gunyah, slow_replies)
{
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_DELAY, EL2_ANY, 1, 30, 100);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_INTERLEAVE, EL2_ANY, 1, 0,
		100);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	gunyah_guest_close(&self->guest);
	self->guest.vm = -1;
	self->guest.vcpu = -1;
	self->guest.agent_mem = -1;
	self->guest.run = MAP_FAILED;
	EXPECT_EQ(self->el2_before.vms, el2_stats(&self->el2).vms);
}

/* Replies arrive after the module's timeout. */
TEST_F(gunyah, late_replies)
{
	size_t i;
	int ret;

	ASSERT_EQ(0, write_file(RM_TIMEOUT, "100"));
	for (i = 0; i < ARRAY_SIZE(start_messages); i++) {
		el2_rule(&self->el2, EL2_RULE_RPC_DELAY, start_messages[i], 1,
			 1000);
		ret = gunyah_guest_start(&self->guest);
		TH_LOG("message %#x: %d", start_messages[i], ret);
		if (i < 8)
			EXPECT_EQ(-EIO, ret);
		usleep(1100000);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		gunyah_guest_close(&self->guest);
		EXPECT_EL2_AS(self->el2_before, &self->el2);
		ASSERT_EQ(0, open_guest(self));
	}
}

/*
 * The end of a VM can't report an error: a page that it doesn't get back is
 * lost and counted.
 */
TEST_F(gunyah, end_refused)
{
	struct gmem_stats stats;
	struct el2_stats now;
	size_t i;

	self->lossy = true;
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	for (i = 0; i < ARRAY_SIZE(end_messages); i++) {
		ASSERT_EQ(0, gunyah_guest_start(&self->guest));
		EXPECT_EQ(0, guest_works(self));
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR,
			end_messages[i], 1, 3, 10000);
		gunyah_guest_close(&self->guest);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		ASSERT_EQ(0, get_stats(&stats));
		now = el2_stats(&self->el2);
		TH_LOG("message %#x: %lld pages leaked, %lld not the host's",
		       end_messages[i],
		       (long long)(stats.leaked_pages -
				   self->before.leaked_pages),
		       (long long)(now.pages - self->el2_before.pages));
		EXPECT_EQ(stats.leaked_pages - self->before.leaked_pages,
			  now.pages - self->el2_before.pages);
		close(self->mem);
		self->mem = new_mem(MIB(1), 0);
		ASSERT_LE(0, self->mem);
		ASSERT_EQ(0,
			  gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
		ASSERT_EQ(0, map_mem(self->guest.vm, GIB(1), self->mem, 0,
				     KIB(512), LEND | RWX));
		ASSERT_EQ(0, map_mem(self->guest.vm, GIB(2), self->mem,
				     KIB(512), KIB(512), SHARE | RWX));
	}
}

static void nothing(int sig)
{
	(void)sig;
}

TEST_F(gunyah, lost_notifications)
{
	const struct sigaction action = { .sa_handler = nothing };

	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_LOSE_NOTIFICATION, EL2_ANY, 1, 0,
		1000);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
	/*
	 * The vCPU is off, but the notification that the VM has ended is lost.
	 */
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ualarm(300000, 0);
	EXPECT_EQ(-EINTR, gunyah_command(&self->guest, GUNYAH_PSCI,
					 GUNYAH_PSCI_OFF, 0, 0, NULL));
}

/* The module survives messages that no Resource Manager sends. */
TEST_F(gunyah, survives_garbage_messages)
{
	__u8 *message = self->el2.buffer;
	unsigned int i, j;

	srand(1);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	for (i = 0; i < scaled(400); i++) {
		for (j = 0; j < 240; j++)
			message[j] = rand();
		/* Most get a valid header, to get further. */
		if (i % 4)
			message[0] = 0x21;
		if (i % 8 == 1)
			message[1] = 2 | (rand() % 3) << 2;
		if (i % 8 == 2)
			message[1] = 3;
		if (i % 8 == 3)
			message[1] = rand() % 4 << 2;
		if (i % 16 == 2)
			*(__u32 *)(message + 4) = RM_VM_STATUS;
		el2_hvc(&self->el2, EL2_INJECT, self->el2.buffer_va,
			1 + rand() % 240, 1);
		if (!(i % 8))
			EXPECT_EQ(0, guest_works(self));
	}
	EXPECT_EQ(0, guest_works(self));
}

TEST_HARNESS_MAIN
