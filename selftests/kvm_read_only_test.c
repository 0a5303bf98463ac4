// SPDX-License-Identifier: GPL-2.0-only
/* A KVM guest writes to a binding that doesn't allow it: nothing is written. */
#include "lib/kvm_guest.h"

KVM_FIXTURE(kvm_read_only);

/* The test's page in the file. */
#define OFFSET (2 * HUGE_PAGE)

#define BIND_READ_ONLY()						\
	do {								\
		self->guest.host[OFFSET] = 33;				\
		ASSERT_EQ(0, kvm_map(&self->guest, DATA, OFFSET,	\
				     self->page, LEND | RX));		\
	} while (0)

/* The guest can go on: it reads the page, and then the host does. */
#define EXPECT_UNCHANGED()						\
	do {								\
		__u8 value_ = 0;					\
		ASSERT_EQ(0, kvm_agent_reset(&self->guest.agent));	\
		EXPECT_EQ(0, kvm_agent_read(&self->guest.agent, DATA,	\
					    &value_));			\
		EXPECT_EQ(33, value_);					\
		EXPECT_EQ(33, peek(self->guest.host + OFFSET));		\
	} while (0)

/* The write of 34 to DATA + @at ends KVM_RUN, and the VMM gets it. */
#define EXPECT_MMIO_WRITE(at)						\
	do {								\
		struct kvm_run *run_ = self->guest.agent.run;		\
									\
		EXPECT_EQ(KVM_EXIT_MMIO, run_->exit_reason);		\
		EXPECT_TRUE(run_->mmio.is_write);			\
		EXPECT_EQ(DATA + (at), run_->mmio.phys_addr);		\
		EXPECT_EQ(1, run_->mmio.len);				\
		EXPECT_EQ(34, run_->mmio.data[0]);			\
		/* The guest goes on after the write. */		\
		EXPECT_EQ(0, kvm_agent_resume(&self->guest.agent, NULL)); \
	} while (0)

#define EXPECT_ROW(wanted)						\
	do {								\
		struct gmem_fault_info row_ = last_fault(self->guest.vm); \
									\
		EXPECT_EQ(wanted, row_.reason);				\
		if (row_.seq) {						\
			EXPECT_EQ(GMEM_ACCESS_WRITE, row_.access);	\
			EXPECT_EQ(DATA, row_.guest_addr);		\
		}							\
	} while (0)

/*
 * A paged window's mapping has no write access. So KVM refuses the write before
 * the module sees it: no row.
 */
TEST_F(kvm_read_only, memslot)
{
	struct kvm_guest *guest = &self->guest;
	__u8 value = 0;

	BIND_READ_ONLY();
	EXPECT_EQ(-EFAULT, kvm_agent_write(&guest->agent, DATA, 34));
	EXPECT_ROW(guest->live ? GMEM_FAULT_PERM : 0);
	EXPECT_UNCHANGED();

	/* Once the window shows the page, KVM finds it read-only. */
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, DATA, &value));
	if (guest->live) {
		EXPECT_EQ(-EIO, kvm_agent_write(&guest->agent, DATA, 34));
		EXPECT_MMIO_WRITE(0);
		EXPECT_EQ(2, last_fault(guest->vm).count);
	} else {
		EXPECT_EQ(-EFAULT, kvm_agent_write(&guest->agent, DATA, 34));
		EXPECT_ROW(0);
	}
	EXPECT_UNCHANGED();
}

/* @flags of KVM */
static int set_slot(struct kvm_guest *guest, __u32 slot, __u64 gpa, __u64 size,
		    __u32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = ptr_u64(guest->window + gpa),
	};

	return err_of(ioctl(guest->agent.vm, KVM_SET_USER_MEMORY_REGION,
			    &region));
}

/* In a memslot that is read-only, too, the VMM gets the write. */
TEST_F(kvm_read_only, read_only_memslot)
{
	struct kvm_guest *guest = &self->guest;
	int i;

	BIND_READ_ONLY();
	ASSERT_EQ(0, set_slot(guest, 0, 0, 0, 0));
	ASSERT_EQ(0, set_slot(guest, 0, 0, DATA, 0));
	ASSERT_EQ(0, set_slot(guest, 1, DATA, self->page, KVM_MEM_READONLY));

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EIO, kvm_agent_write(&guest->agent, DATA + 5, 34));
		EXPECT_MMIO_WRITE(5);
		EXPECT_UNCHANGED();
	}
	EXPECT_ROW(0);
}

#ifdef __x86_64__
/*
 * KVM's emulator writes by a user copy; where that fails, it treats the address
 * as a device's.
 */
TEST_F(kvm_read_only, emulated_write)
{
	static const __u8 code[] = {
		0xbf, 0x07, 0x00, 0x40, 0x00,	/* mov edi, DATA + 7 */
		0x66, 0xba, 0x10, 0x00,		/* mov dx, 0x10 */
		0x6c,				/* insb */
		0xff, 0xe5,			/* jmp ebp: "report" */
	};
	struct kvm_guest *guest = &self->guest;
	const __u32 words[] = { KVM_AGENT_EXEC, MIB(1), 34 };

	BIND_READ_ONLY();
	memcpy(guest->host + MIB(1), code, sizeof(code));
	EXPECT_EQ(-EIO, kvm_agent_run(&guest->agent, words, 3, NULL));
	EXPECT_MMIO_WRITE(7);
	EXPECT_ROW(guest->live ? GMEM_FAULT_PERM : 0);
	EXPECT_UNCHANGED();
}
#endif

/*
 * The window was mapped while another binding allowed writing: the module sees
 * the write, and records it. With an interrupt controller the vCPU waits until a
 * paged window is mapped again.
 */
TEST_F(kvm_read_only, writable_window)
{
	struct kvm_guest *guest = &self->guest;
	struct kvm_thread writer = {
		.guest = guest,
		.command = KVM_AGENT_WRITE,
		.addr = DATA,
	};
	int i;

	guest->host[OFFSET] = 33;
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, unmap_range(guest->vm, DATA, self->page, NULL));
	ASSERT_EQ(0, map_mem(guest->vm, DATA, guest->mem, OFFSET, self->page,
			     LEND | RX));
	ASSERT_EQ(0, kvm_thread_start(&writer));
	for (i = 0; i < 10000 && !last_reason(guest->vm); i++)
		usleep(1000);
	EXPECT_ROW(GMEM_FAULT_PERM);

	ASSERT_EQ(0, kvm_refresh(guest, DATA, self->page, PROT_READ));
	EXPECT_EQ(-EFAULT, kvm_thread_join(&writer));
	EXPECT_UNCHANGED();
}

TEST_HARNESS_MAIN
