// SPDX-License-Identifier: GPL-2.0-only
/* The life of a VM under Gunyah. */
#include "lib/gunyah_accept.h"
#include "lib/gunyah_vm.h"

#include <sys/uio.h>

static int set_dtb(int vm, __u64 dtb, __u64 size)
{
	struct gmem_gunyah_dtb_config config = { dtb, size };

	return err_of(ioctl(vm, GMEM_GUNYAH_SET_DTB_CONFIG, &config));
}

static int start_with(int vm, __u64 dtb, __u64 size)
{
	int err = set_dtb(vm, dtb, size);

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
	EXPECT_EQ(-EPERM, map_mem(self->guest.vm, GIB(6), self->mem, 0, PAGE,
				  LEND | RWX));
	ASSERT_EQ(0, unmap_range(self->guest.vm, GIB(5), PAGE, NULL));
	EXPECT_EQ(0, map_mem(self->guest.vm, GIB(6), self->mem, KIB(512), PAGE,
			     SHARE | RWX));
	ASSERT_EQ(0, gunyah_allow_mapped(true));
}

TEST_F(gunyah, device_tree)
{
	int vm = self->guest.vm;

	EXPECT_EQ(-EINVAL, start_with(vm, GIB(4), 0));
	EXPECT_EQ(-EINVAL, start_with(vm, GIB(4) + 1, 4));
	EXPECT_EQ(-EINVAL, start_with(vm, 1ULL << 50, 4));
	EXPECT_EQ(-ENOENT, start_with(vm, GIB(6), PAGE));
	EXPECT_EQ(-ENOENT, start_with(vm, GIB(4), KIB(512) + 1));
	EXPECT_EQ(-EINVAL, start_with(vm, GIB(5), PAGE));
	/* None of these has used anything up. */
	EXPECT_EL2_AS(self->el2_before, &self->el2);
	ASSERT_EQ(0, set_dtb(vm, GUNYAH_DTB, GUNYAH_DTB_SIZE));
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	/* The place of the device tree is fixed once the VM runs. */
	EXPECT_EQ(-EBUSY, start_with(vm, GIB(4), PAGE));
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
	if (!has_extents(&self->el2)) {
		ASSERT_EQ(0, touch_write(host, 1));
		EXPECT_EQ(-EBUSY, start_pinned(&self->guest, host));
		/* The Resource Manager has the image already. */
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
	const bool parcels = !has_extents(&self->el2);
	/* That of the image is 0. */
	const __u64 labels[] = { 0, GIB(4) >> 12, GIB(5) >> 12 };
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
	EXPECT_EQ(parcels ? 3 : 0, fd_number(self->guest.vm, "gmem-parcels:"));
	EXPECT_LE(parcels ? 3 : 0, fd_number(self->guest.vm, "gmem-pieces:"));

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
	if (has_extents(&self->el2)) {
		EXPECT_EQ(0, gunyah_set_register(vm, GMEM_GUNYAH_REG(2, 1),
						 0x1000));
		EXPECT_EQ(0, gunyah_set_register(vm, GMEM_GUNYAH_REG(0, 30),
						 ~0ULL));
	}
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-EBUSY, gunyah_set_register(vm, GMEM_GUNYAH_REG(0, 0), 0));
}

/*
 * A Resource Manager of parcels sets PC to an address in the image, and X0 to
 * that of the device tree. Another wish is refused before anything is used up.
 */
TEST_F(gunyah, boot_registers_of_parcels)
{
	const __u32 x0 = GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_X, 0);
	const __u32 pc = GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_PC, 0);
	int vm = self->guest.vm;

	if (has_extents(&self->el2))
		SKIP(return, "extents: every register can be set");
	EXPECT_EQ(-EOPNOTSUPP, gunyah_set_register(vm, x0 + 1, 0));
	EXPECT_EQ(-EOPNOTSUPP,
		  gunyah_set_register(vm, GMEM_GUNYAH_REG(2, 0), 0x1000));
	EXPECT_EQ(0, gunyah_set_register(vm, x0, GUNYAH_AGENT));
	EXPECT_EQ(-EOPNOTSUPP, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, gunyah_set_register(vm, x0, GUNYAH_DTB));
	EXPECT_EQ(0, gunyah_set_register(vm, pc, GIB(4)));
	EXPECT_EQ(-EOPNOTSUPP, gunyah_guest_start(&self->guest));
	EXPECT_EL2_AS(self->el2_before, &self->el2);
	EXPECT_EQ(0, gunyah_set_register(vm, pc, GUNYAH_AGENT));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, guest_works(self));
}

/* The guest starts at PC, wherever that is in the image. */
TEST_F(gunyah, starts_at_pc)
{
	/* Report the page number of the device tree to the port. */
	const __u32 code[] = {
		0xd2a3e01c,	/* mov x28, #GUNYAH_PORT */
		0xd34cfc00,	/* lsr x0, x0, #12 */
		0x39000380,	/* strb w0, [x28] */
		0x14000000,	/* b . */
	};
	__u8 *host = map_host(self->guest.agent_mem, 0, PAGE), report = 0xff;

	ASSERT_NE(MAP_FAILED, host);
	memcpy(host + PAGE - 16, code, sizeof(code));
	munmap(host, PAGE);
	ASSERT_EQ(0, gunyah_set_register(self->guest.vm,
					 GMEM_GUNYAH_REG(1, 0),
					 GUNYAH_AGENT + PAGE - 16));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, gunyah_run(&self->guest, NULL, 0, &report));
	if (!has_extents(&self->el2))
		EXPECT_EQ(GUNYAH_DTB >> 12 & 0xff, report);
}

/*
 * Where memory goes in parcels, the whole binding of the device tree is the
 * image.
 */
TEST_F(gunyah, unfit_images)
{
	int vm = self->guest.vm, mem;

	if (has_extents(&self->el2))
		SKIP(return, "extents: the image is only the device tree");
	mem = new_mem(KIB(64), 0);
	ASSERT_LE(0, mem);
	/* Not executable; then not aligned. */
	ASSERT_EQ(0, map_mem(vm, GIB(6), mem, 0, KIB(32),
			     LEND | GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_WRITE));
	EXPECT_EQ(-EINVAL, start_with(vm, GIB(6), KIB(32)));
	ASSERT_EQ(0, unmap_range(vm, GIB(6), KIB(32), NULL));
	ASSERT_EQ(0, map_mem(vm, GIB(6) + PAGE, mem, 0, KIB(32), LEND | RWX));
	EXPECT_EQ(-EINVAL, start_with(vm, GIB(6) + PAGE, KIB(32)));
	EXPECT_EL2_AS(self->el2_before, &self->el2);
	close(mem);
}

/* GMEM_INFO tells what the platform can do, and the calls agree. */
TEST_F(gunyah, limits)
{
	int vm = self->guest.vm;
	struct gmem_info info;
	__u64 end;

	ASSERT_EQ(0, get_info(0, &info));
	EXPECT_EQ(has_extents(&self->el2) ? 44 : 36, info.max_guest_addr_bits);
	EXPECT_EQ(has_extents(&self->el2) ? 0 : GIB(1), info.min_guest_addr);
	EXPECT_EQ(!has_extents(&self->el2),
		  !!(info.provider_flags & GMEM_PROVIDER_BIND_FIRST));
	end = 1ULL << info.max_guest_addr_bits;
	EXPECT_EQ(-EINVAL, map_mem(vm, end, self->mem, 0, PAGE, SHARE | RWX));
	if (info.min_guest_addr)
		EXPECT_EQ(-EINVAL, map_mem(vm, info.min_guest_addr - PAGE,
					   self->mem, 0, PAGE, SHARE | RWX));
}

/*
 * Memory at an address that isn't free: where memory goes in parcels, the
 * Resource Manager has the lowest page itself, and says so only at the start.
 */
TEST_F(gunyah, address_in_use)
{
	int mem;

	if (has_extents(&self->el2))
		SKIP(return, "extents: every address is free");
	mem = new_mem(PAGE, 0);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, map_mem(self->guest.vm, GIB(1), mem, 0, PAGE,
			     LEND | RWX));
	EXPECT_EQ(-EADDRNOTAVAIL, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-EALREADY, gunyah_guest_start(&self->guest));
	close(mem);
}

/* Where memory goes in parcels, a guest gets nothing after its start. */
TEST_F(gunyah, bind_after_the_start)
{
	const int late = has_extents(&self->el2) ? 0 : -EOPNOTSUPP;
	int mem = new_mem(2 * PAGE, 0);

	ASSERT_LE(0, mem);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(late, map_mem(self->guest.vm, GIB(6), mem, 0, PAGE,
				LEND | RWX));
	EXPECT_EQ(late, map_mem(self->guest.vm, GIB(7), mem, PAGE, PAGE,
				SHARE | RWX));
	EXPECT_EQ(late ? -ENOENT : 0,
		  populate_range(self->guest.vm, GIB(6), PAGE, NULL));
	EXPECT_EQ(late ? 'a' : 'l', page_state(mem, 0));
	EXPECT_EQ(0, guest_works(self));
	close(mem);
}

/*
 * A guest that accepts memory by itself can be given some after its start.
 * Until it has accepted, the host can take it back.
 */
TEST_F(gunyah, guest_accepts)
{
	int mem = new_mem(2 * PAGE, 0), vm;
	__u8 *host = map_host(mem, 0, 2 * PAGE);
	char handle[FD_TEXT];
	__u64 nr;

	ASSERT_NE(MAP_FAILED, host);
	EXPECT_EQ(-EOPNOTSUPP, new_vm_flags("window", GMEM_POLICY_ALLOW,
					    GMEM_VM_GUEST_ACCEPTS));
	gunyah_guest_close(&self->guest);
	ASSERT_EQ(0, gunyah_guest_open_flags(&self->guest, GMEM_POLICY_ALLOW,
					     GMEM_VM_GUEST_ACCEPTS));
	vm = self->guest.vm;
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_FALSE(fd_text(vm, "gmem-handle:", handle));
	host[0] = 0x21;
	ASSERT_EQ(0, map_mem(vm, GIB(6), mem, 0, PAGE, LEND | RWX));
	ASSERT_EQ(0, map_mem(vm, GIB(7), mem, PAGE, PAGE, SHARE | RWX));
	EXPECT_EQ(0, populate_range(vm, GIB(6), PAGE, &nr));
	EXPECT_EQ(1, nr);
	EXPECT_EQ('l', page_state(mem, 0));
	EXPECT_EQ(!has_extents(&self->el2),
		  fd_text(vm, "gmem-handle:", handle));
	EXPECT_EQ(0, reclaim_range(vm, GIB(6), PAGE, &nr));
	EXPECT_EQ(1, nr);
	EXPECT_EQ(0x21, peek(host));
	EXPECT_EQ('h', page_state(mem, 0));
	EXPECT_EQ(0, populate_range(vm, GIB(7), PAGE, NULL));
	EXPECT_EQ(0, unmap_range(vm, GIB(7), PAGE, NULL));

	EXPECT_EQ(0, populate_range(vm, GIB(6), PAGE, NULL));
	if (!has_extents(&self->el2)) {
		ASSERT_TRUE(fd_text(vm, "gmem-handle:", handle));
		EXPECT_EQ(0, gunyah_accept(&self->guest, atoi(handle), GIB(6),
					   PAGE, false));
	}
	EXPECT_EQ(0x21, gunyah_read(&self->guest, GIB(6)));
	EXPECT_EQ(0, gunyah_write(&self->guest, GIB(6), 0x22));
	if (!has_extents(&self->el2))
		EXPECT_EQ(-EBUSY, reclaim_range(vm, GIB(6), PAGE, NULL));
	gunyah_guest_close(&self->guest);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	EXPECT_EQ(0x22, peek(host));
	ASSERT_EQ(0, open_guest(self));
	munmap(host, 2 * PAGE);
	close(mem);
}

/* How many lines of a descriptor's fdinfo begin with @name? */
static int nr_fd_lines(int fd, const char *name)
{
	char path[64], line[256];
	FILE *file;
	int nr = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		nr += !strncmp(line, name, strlen(name));
	if (file)
		fclose(file);
	return nr;
}

/* A guest with many parcels to accept needs the handle of each. */
TEST_F(gunyah, each_handle_is_shown)
{
	const int most = 40;
	int mem, vm, parcels, err = 0;

	if (has_extents(&self->el2))
		SKIP(return, "extents: there are no parcels to accept");
	mem = new_mem(most * PAGE, 0);
	ASSERT_LE(0, mem);
	gunyah_guest_close(&self->guest);
	ASSERT_EQ(0, gunyah_guest_open_flags(&self->guest, GMEM_POLICY_ALLOW,
					     GMEM_VM_GUEST_ACCEPTS));
	vm = self->guest.vm;
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	/* It grants 64 in all, and other tests may have lost some. */
	for (parcels = 0; parcels < most; parcels++) {
		const __u64 gpa = GIB(6) + 2 * parcels * PAGE;

		ASSERT_EQ(0, map_mem(vm, gpa, mem, parcels * PAGE, PAGE,
				     LEND | RWX));
		err = populate_range(vm, gpa, PAGE, NULL);
		if (err)
			break;
	}
	EXPECT_TRUE(!err || err == -EPERM);
	EXPECT_LT(0, parcels);
	EXPECT_EQ(parcels, nr_fd_lines(vm, "gmem-handle:"));
	EXPECT_EQ(1 + parcels, nr_fd_lines(vm, "gmem-label:"));
	close(mem);
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
	EXPECT_EQ(-EINVAL, function(vm, GMEM_GUNYAH_ADD_FUNCTION, 2, 4, &arg));
	EXPECT_EQ(-EINVAL, function(vm, GMEM_GUNYAH_ADD_FUNCTION, 3, 4, &arg));
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

	EXPECT_EQ(-EAGAIN, populate_range(self->guest.vm, GIB(4), PAGE, &nr));
	EXPECT_EQ(0, nr);
	EXPECT_EQ('h', page_state(self->mem, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, populate_range(self->guest.vm, GIB(4), PAGE, &nr));
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
	EXPECT_EQ(0, gunyah_write(&self->guest, GIB(4) + PAGE + 1, 0x12));
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

	ONLY_MONITOR();
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
	const __u64 words[] = { GUNYAH_WRITE, GIB(4) + 3, 0x66 };
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
	EXPECT_EQ(0x66, gunyah_read(&self->guest, GIB(4) + 3));
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
	if (has_extents(&self->el2)) {
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
	const __u64 pages = 1536, gpa = GIB(6);
	int mem = new_mem(pages * PAGE, 0);
	__u8 *host = map_host(mem, 0, pages * PAGE);
	__u64 i;

	ASSERT_NE(MAP_FAILED, host);
	number_pages(host, pages);
	ASSERT_EQ(0, map_mem(self->guest.vm, gpa, mem, 0, pages * PAGE,
			     LEND | RWX));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, populate_range(self->guest.vm, gpa, pages * PAGE, NULL));
	for (i = 0; i < pages; i += 61) {
		EXPECT_EQ(i & 0xff, gunyah_read(&self->guest, gpa + i * PAGE));
		EXPECT_EQ(i >> 8, gunyah_read(&self->guest,
					      gpa + i * PAGE + 1));
	}
	end_guest(self);
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
		ASSERT_EQ(0, map_mem(self->guest.vm, GIB(6) + 2 * i * PAGE, mem,
				     i * PAGE, PAGE, LEND | RWX));
	ret = gunyah_guest_start(&self->guest);
	if (!has_extents(&self->el2)) {
		EXPECT_EQ(-EPERM, ret);
	} else {
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, gunyah_touch(&self->guest, GIB(6), pages,
					  2 * PAGE));
	}
	close(mem);
}

TEST_HARNESS_MAIN
