// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a VMM tells its guest of a broken page behind a live window. For ordinary
 * memory KVM sends the VMM a SIGBUS with BUS_MCEERR_AR and the host address. For a
 * PFN mapping it doesn't: KVM_RUN fails with EFAULT, and GMEM_VM_FAULTS has the
 * guest address and the reason. So the VMM injects the machine check by itself:
 * inject_machine_check() below is all that it takes.
 */
#include "lib/kvm_guest.h"
#include "lib/memory_failure.h"

#define OFFSET MIB(4)

/* The guest's memory behind the agent's code: what a machine check needs. */
#define HANDLER 0x2000
#define IDT 0x4000
#define GDT 0x5000
#define STACK 0x7000
/* The handler stores here which page is broken. */
#define FOUND 0x8000

#define CODE_SELECTOR 0x08
#define MACHINE_CHECK 18
#define CR4_MCE (1 << 6)

/* Registers of the machine check, as the processor manuals name them. */
#define MCG_STATUS_RIPV (1ULL << 0)
#define MCG_STATUS_EIPV (1ULL << 1)
#define MCG_STATUS_MCIP (1ULL << 2)
#define MCI_STATUS_VAL (1ULL << 63)
#define MCI_STATUS_UC (1ULL << 61)
#define MCI_STATUS_EN (1ULL << 60)
#define MCI_STATUS_MISCV (1ULL << 59)
#define MCI_STATUS_ADDRV (1ULL << 58)
#define MCI_STATUS_S (1ULL << 56)
#define MCI_STATUS_AR (1ULL << 55)
/* A data load from memory. */
#define MCACOD_DATA 0x134
/* The address is physical, and all its bits from bit 12 on are valid. */
#define MCI_MISC_ADDR_PAGE ((2ULL << 6) | 12)

/*
 * The guest's handler: reads the address from the bank, stores it, ends the
 * machine check, and reports 'M' as the agent does.
 */
static const __u8 handler[] = {
	0xb9, 0x02, 0x04, 0, 0,		/* mov ecx, IA32_MC0_ADDR */
	0x0f, 0x32,			/* rdmsr */
	0xa3, 0x00, 0x80, 0, 0,		/* mov [FOUND], eax */
	0xb9, 0x7a, 0x01, 0, 0,		/* mov ecx, IA32_MCG_STATUS */
	0x31, 0xc0,			/* xor eax, eax */
	0x31, 0xd2,			/* xor edx, edx */
	0x0f, 0x30,			/* wrmsr */
	0xb0, 'M',			/* mov al, 'M' */
	0xff, 0xe5,			/* jmp ebp: "report" */
};

/*
 * Tell the guest that its page at @gpa broke while a vCPU used it. The vCPU isn't
 * in KVM_RUN. A VMM calls this when KVM_RUN has failed with EFAULT and a new row
 * of GMEM_VM_FAULTS has the reason GMEM_FAULT_HWPOISON. 0 or -errno.
 */
static int inject_machine_check(int vcpu, __u64 gpa)
{
	struct kvm_x86_mce mce = {
		.status = MCI_STATUS_VAL | MCI_STATUS_UC | MCI_STATUS_EN |
			  MCI_STATUS_MISCV | MCI_STATUS_ADDRV | MCI_STATUS_S |
			  MCI_STATUS_AR | MCACOD_DATA,
		.mcg_status = MCG_STATUS_RIPV | MCG_STATUS_EIPV |
			      MCG_STATUS_MCIP,
		.addr = gpa,
		.misc = MCI_MISC_ADDR_PAGE,
	};

	return ioctl(vcpu, KVM_X86_SET_MCE, &mce) ? -errno : 0;
}

/* Give the vCPU banks for machine checks. Do this before the guest runs. */
static int enable_machine_checks(int kvm, int vcpu)
{
	__u64 capabilities = 0;

	if (ioctl(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, &capabilities))
		return -errno;
	/* The lowest byte is the number of banks. */
	capabilities = (capabilities & ~0xffULL) | 1;
	return ioctl(vcpu, KVM_X86_SETUP_MCE, &capabilities) ? -errno : 0;
}

/* Do as an operating system does: set up tables, a handler, and CR4.MCE. */
static int set_up_guest(struct kvm_guest *guest)
{
	const __u64 gdt[3] = { 0, 0x00cf9a000000ffff, 0x00cf92000000ffff };
	const __u64 gate = ((HANDLER & 0xffff0000ULL) << 32) |
			   (0x8e00ULL << 32) | (CODE_SELECTOR << 16) |
			   (HANDLER & 0xffff);
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	memcpy(guest->host + HANDLER, handler, sizeof(handler));
	memcpy(guest->host + GDT, gdt, sizeof(gdt));
	memcpy(guest->host + IDT + MACHINE_CHECK * sizeof(gate), &gate,
	       sizeof(gate));
	if (ioctl(guest->agent.vcpu, KVM_GET_SREGS, &sregs) ||
	    ioctl(guest->agent.vcpu, KVM_GET_REGS, &regs))
		return -errno;
	sregs.cr4 |= CR4_MCE;
	sregs.gdt.base = GDT;
	sregs.gdt.limit = sizeof(gdt) - 1;
	sregs.idt.base = IDT;
	sregs.idt.limit = 32 * sizeof(gate) - 1;
	regs.rsp = STACK;
	if (ioctl(guest->agent.vcpu, KVM_SET_SREGS, &sregs) ||
	    ioctl(guest->agent.vcpu, KVM_SET_REGS, &regs))
		return -errno;
	return 0;
}

FIXTURE(live_mce)
{
	struct gmem_stats before;
	struct kvm_guest guest;
	__u64 page;
};

FIXTURE_VARIANT(live_mce)
{
	__u64 mem_flags;
	bool irqchip;
};

VARIANT(live_mce, 4k);
VARIANT(live_mce, irqchip_4k, .irqchip = true);
VARIANT(live_mce, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_mce)
{
	SKIP_UNLESS_LIVE_KVM(variant);
	if (!can_break_pages())
		SKIP(return, "no way to break a page by its number");
	ASSERT_EQ(0, get_stats(&self->before));
	self->page = variant->mem_flags ? HUGE_PAGE : PAGE;
	ASSERT_EQ(0, kvm_guest_open(&self->guest, "live", variant->mem_flags,
				    variant->irqchip));
	ASSERT_EQ(0, enable_machine_checks(self->guest.agent.kvm,
					   self->guest.agent.vcpu));
	ASSERT_EQ(0, set_up_guest(&self->guest));
}

FIXTURE_TEARDOWN(live_mce)
{
	kvm_guest_close(&self->guest);
	EXPECT_TRUE(stats_settle(&self->before));
}

TEST_F(live_mce, guest_learns_of_a_broken_page)
{
	struct kvm_guest *guest = &self->guest;
	__u64 at = self->page - PAGE + 0x123;
	struct gmem_fault_info row;
	__u8 report = 0;
	__u32 found;
	__u64 pfn;

	ASSERT_EQ(0, touch_write(guest->host + OFFSET + at, 7));
	pfn = pfn_of(guest->host + OFFSET + at);
	ASSERT_NE(0, pfn);
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ASSERT_EQ(0, kvm_agent_read(&guest->agent, DATA + at, &report));
	EXPECT_EQ(7, report);
	ASSERT_EQ(0, break_page(pfn));

	/* The loop of a VMM, once around. */
	ASSERT_EQ(-EFAULT, kvm_agent_read(&guest->agent, DATA + at, &report));
	row = last_fault(guest->vm);
	ASSERT_EQ(GMEM_FAULT_HWPOISON, row.reason);
	ASSERT_EQ(0, inject_machine_check(guest->agent.vcpu, row.guest_addr));
	ASSERT_EQ(0, kvm_agent_resume(&guest->agent, &report));

	EXPECT_EQ('M', report);
	memcpy(&found, guest->host + FOUND, sizeof(found));
	EXPECT_EQ(DATA + self->page - PAGE, found);
	/* The guest lives, and uses another page. */
	ASSERT_EQ(0, kvm_agent_write(&guest->agent, 0x9000, 8));
	EXPECT_EQ(0, kvm_agent_read(&guest->agent, 0x9000, &report));
	EXPECT_EQ(8, report);
}

TEST_HARNESS_MAIN
