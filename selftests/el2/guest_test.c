// SPDX-License-Identifier: GPL-2.0-only
/* The life of a VM and its guest under the EL2 monitor, on all platforms. */
#include <pthread.h>
#include <signal.h>

#include "vm_util.h"

#define PSCI_VERSION		0x84000000
#define PSCI_SYSTEM_OFF		0x84000008
#define PSCI_SYSTEM_RESET	0x84000009

#define EXIT_OFF		1
#define EXIT_RESET		2
#define EXIT_FORCED		7

FIXTURE(guest) {
	struct el2 el2;
	struct vm vm;
};

FIXTURE_SETUP(guest)
{
	ASSERT_TRUE(el2_open(&self->el2));
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
}

FIXTURE_TEARDOWN(guest)
{
	EXPECT_TRUE(vm_destroy(&self->vm));
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

TEST_F(guest, runs_from_its_image)
{
	struct el2_page page = el2_page_at(&self->el2, self->vm.image_pa);

	/* On the public platform, the guest gets its memory at the start. */
	EXPECT_EQ(is_public(&self->vm) ? EL2_NO_ADDR : IMAGE_GPA, page.gpa);
	EXPECT_EQ(self->vm.vmid, page.guest_vmid);
	EXPECT_EQ(is_public(&self->vm) ? 0 : 7, page.guest_access);
	EXPECT_EQ(0, page.host_access);
	EXPECT_EQ(self->vm.image_handle, page.parcel);

	ASSERT_EQ(0, vm_start(&self->vm));
	page = el2_page_at(&self->el2, self->vm.image_pa);
	EXPECT_EQ(IMAGE_GPA, page.gpa);
	EXPECT_EQ(7, page.guest_access);
	EXPECT_EQ(0, page.host_access);
	/* With extents, the image belongs to the guest from here on. */
	if (!is_public(&self->vm)) {
		EXPECT_EQ(EL2_EXTENT_PRIVATE, page.extent);
		EXPECT_EQ(self->vm.vmid, page.owner_vmid);
		EXPECT_EQ(EL2_NO_PARCEL, page.parcel);
		EXPECT_EQ(7,
			  rpc_reclaim(&self->vm.rpc, self->vm.image_handle, 0));
	} else {
		EXPECT_EQ(0xb,
			  rpc_reclaim(&self->vm.rpc, self->vm.image_handle, 0));
	}
}

TEST_F(guest, runs_when_it_is_started)
{
	ASSERT_EQ(0, vm_run(&self->vm));
	EXPECT_EQ(VCPU_POWERED_OFF, self->vm.state);
	ASSERT_EQ(0, vm_start(&self->vm));
	/* Pretend that the vCPU waits for another one. */
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_VCPU_STATE, self->vm.vmid, 1,
			      VCPU_POWERED_OFF));
	ASSERT_EQ(0, vm_run(&self->vm));
	EXPECT_EQ(VCPU_POWERED_OFF, self->vm.state);
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(&self->vm, AGENT_HVC, PSCI_VERSION, 0));
	EXPECT_EQ(0x10001, vm_answer(&self->vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(&self->vm, AGENT_HVC, 0xc6008000, 0));
	EXPECT_EQ(UINT64_MAX, vm_answer(&self->vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(&self->vm, AGENT_READ, IMAGE_GPA, 0));
	EXPECT_EQ(el2_peek(&self->el2, self->vm.image_pa),
		  vm_answer(&self->vm));
}

TEST_F(guest, begins_with_the_registers_it_is_given)
{
	if (is_public(&self->vm))
		SKIP(return, "the public one takes no registers, see r01");
	/*
	 * Pretend that the agent has read its mailbox, and is about to write.
	 */
	ASSERT_EQ(0, vm_set_register(&self->vm, 0, 1, IMAGE_GPA + 0xff8));
	ASSERT_EQ(0, vm_set_register(&self->vm, 0, 2, 0x1234));
	ASSERT_EQ(0,
		  vm_set_register(&self->vm, 0, 19, IMAGE_GPA + AGENT_MAILBOX));
	ASSERT_EQ(0,
		  vm_set_register(&self->vm, 2, 1, IMAGE_GPA + EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_set_register(&self->vm, 1, 0,
				     IMAGE_GPA + agent_write - agent_start));
	EXPECT_EQ(6, vm_set_register(&self->vm, 0, 31, 0));
	EXPECT_EQ(6, vm_set_register(&self->vm, 1, 1, 0));
	EXPECT_EQ(6, vm_set_register(&self->vm, 3, 0, 0));
	ASSERT_EQ(0, vm_start(&self->vm));
	EXPECT_EQ(0x14, vm_set_register(&self->vm, 0, 1, 0));
	ASSERT_EQ(0, vm_run(&self->vm));
	EXPECT_EQ(VCPU_BLOCKED, self->vm.state);
	EXPECT_EQ(0x1234, el2_peek(&self->el2, self->vm.image_pa + 0xff8));
}

TEST_F(guest, emulates_mmio)
{
	ASSERT_EQ(0, vm_start(&self->vm));
	ASSERT_EQ(VCPU_MMIO_WRITE,
		  vm_tell(&self->vm, AGENT_WRITE, EL2_MMIO_BASE + 16, 0xabcd));
	EXPECT_EQ(EL2_MMIO_BASE + 16, self->vm.data[0]);
	EXPECT_EQ(8, self->vm.data[1]);
	EXPECT_EQ(0xabcd, self->vm.data[2]);
	ASSERT_EQ(0, vm_run(&self->vm));
	EXPECT_EQ(0xabcd, vm_answer(&self->vm));

	ASSERT_EQ(VCPU_MMIO_READ,
		  vm_tell(&self->vm, AGENT_READ, EL2_MMIO_BASE, 0));
	EXPECT_EQ(EL2_MMIO_BASE, self->vm.data[0]);
	EXPECT_EQ(8, self->vm.data[1]);
	ASSERT_EQ(0, vm_run_with(&self->vm, 0x1122334455667788, 0));
	EXPECT_EQ(0x1122334455667788, vm_answer(&self->vm));

	ASSERT_EQ(VCPU_MMIO_READ,
		  vm_tell(&self->vm, AGENT_READ_S16, EL2_MMIO_BASE, 0));
	EXPECT_EQ(2, self->vm.data[1]);
	ASSERT_EQ(0, vm_run_with(&self->vm, 0x77778001, 0));
	EXPECT_EQ(0xffffffffffff8001, vm_answer(&self->vm));
}

TEST_F(guest, resumes_as_the_platform_can)
{
	ASSERT_EQ(0, vm_start(&self->vm));
	EXPECT_EQ(1, vm_run_with(&self->vm, 0, 3));
	ASSERT_EQ(VCPU_MMIO_READ,
		  vm_tell(&self->vm, AGENT_READ, EL2_MMIO_BASE, 0));
	if (is_public(&self->vm)) {
		EXPECT_EQ(1, vm_run_with(&self->vm, 0, 1));
	} else {
		/*
		 * Retry; then inject an abort: the guest has no code at its
		 * vector.
		 */
		ASSERT_EQ(0, vm_run_with(&self->vm, 0, 1));
		EXPECT_EQ(VCPU_MMIO_READ, self->vm.state);
		ASSERT_EQ(0, vm_run_with(&self->vm, 0, 2));
		EXPECT_EQ(VCPU_PAGE_FAULT, self->vm.state);
		EXPECT_EQ(0x200, self->vm.data[0]);
		/* After a page fault, action 0 is the only way to resume. */
		EXPECT_EQ(1, vm_run_with(&self->vm, 0, 1));
	}
	EXPECT_EQ(1, vm_run_with(&self->vm, 0, 3));
}

TEST_F(guest, faults_where_there_is_nothing)
{
	ASSERT_EQ(0, vm_start(&self->vm));
	if (is_public(&self->vm)) {
		/* It is an abort in the guest, which has no vectors: see r15. */
		EXPECT_EQ(VCPU_FAULT,
			  vm_tell(&self->vm, AGENT_READ, PAGED_GPA, 0));
	} else {
		EXPECT_EQ(VCPU_PAGE_FAULT,
			  vm_tell(&self->vm, AGENT_READ, PAGED_GPA + 8, 0));
		EXPECT_EQ(PAGED_GPA + 8, self->vm.data[0]);
		EXPECT_EQ(0, self->vm.data[1]);
		/* The same fault again, since nothing has changed */
		EXPECT_EQ(0, vm_run(&self->vm));
		EXPECT_EQ(VCPU_PAGE_FAULT, self->vm.state);
	}
}

TEST_F(guest, ends_by_itself)
{
	ASSERT_EQ(0, vm_start(&self->vm));
	EXPECT_EQ(VCPU_POWERED_OFF,
		  vm_tell(&self->vm, AGENT_HVC, PSCI_SYSTEM_OFF, 0));
	ASSERT_TRUE(vm_wait_exit(&self->vm));
	EXPECT_EQ(1, self->vm.rpc.exits);
	EXPECT_EQ(EXIT_OFF, self->vm.rpc.exit_type);
	EXPECT_EQ(VM_STATE_EXITED, vm_state(&self->vm));
	ASSERT_EQ(0, vm_run(&self->vm));
	EXPECT_EQ(VCPU_POWERED_OFF, self->vm.state);
	EXPECT_EQ(0x14, vm_stop(&self->vm));
}

TEST_F(guest, resets_itself)
{
	ASSERT_EQ(0, vm_start(&self->vm));
	EXPECT_EQ(VCPU_SYSTEM_RESET,
		  vm_tell(&self->vm, AGENT_HVC, PSCI_SYSTEM_RESET, 0));
	ASSERT_TRUE(vm_wait_exit(&self->vm));
	EXPECT_EQ(EXIT_RESET, self->vm.rpc.exit_type);
	ASSERT_EQ(0, vm_run(&self->vm));
	/* The public one has killed the vCPU. */
	EXPECT_EQ(is_public(&self->vm) ? VCPU_POWERED_OFF : VCPU_SYSTEM_RESET,
		  self->vm.state);
}

static void *run_once(void *arg)
{
	struct vm *vm = arg;

	return (void *)(vm_run(vm) ? UINT64_MAX : vm->state);
}

/* The host's next interrupt stops a guest that never exits. */
TEST_F(guest, is_stopped_while_it_runs)
{
	pthread_t thread;
	void *state;

	ASSERT_EQ(0, vm_start(&self->vm));
	el2_hvc(&self->el2, EL2_POKE, self->vm.image_pa + AGENT_MAILBOX,
		AGENT_SPIN);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_once, &self->vm));
	usleep(100000);
	ASSERT_EQ(0, vm_stop(&self->vm));
	pthread_join(thread, &state);
	/* The public one runs the vCPU to its end by itself: see r13. */
	if (!is_public(&self->vm))
		EXPECT_EQ(VCPU_POWERED_OFF, (uint64_t)state);
	rpc_drain(&self->vm.rpc);
	EXPECT_EQ(EXIT_FORCED, self->vm.rpc.exit_type);
	EXPECT_EQ(VM_STATE_EXITED, vm_state(&self->vm));
}

TEST_F(guest, notifies_the_host_of_each_state)
{
	uint32_t *states = &self->vm.rpc.states;

	rpc_drain(&self->vm.rpc);
	if (is_public(&self->vm))
		*states &= ~(1U << VM_STATE_INIT);
	EXPECT_EQ(1U << VM_STATE_READY, *states);
	EXPECT_EQ(0x14, rpc_vmid(&self->vm.rpc, RM_VM_INIT, self->vm.vmid));
	EXPECT_EQ(0x14,
		  rpc_vmid(&self->vm.rpc, RM_VM_DEALLOC_VMID, self->vm.vmid));
	ASSERT_EQ(0, vm_start(&self->vm));
	EXPECT_EQ(0x14, vm_start(&self->vm));
	EXPECT_EQ(0x14, rpc_vmid(&self->vm.rpc, RM_VM_RESET, self->vm.vmid));
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_LOSE_NOTIFICATION,
			      RM_VM_EXITED, 1, 0));
	ASSERT_EQ(0, vm_stop(&self->vm));
	rpc_drain(&self->vm.rpc);
	EXPECT_EQ(0, self->vm.rpc.exits);
	EXPECT_EQ(1U << VM_STATE_READY | 1U << VM_STATE_RUNNING |
			  1U << VM_STATE_EXITED,
		  *states);
	EXPECT_EQ(0x14,
		  rpc_vmid(&self->vm.rpc, RM_VM_DEALLOC_VMID, self->vm.vmid));
}

TEST_F(guest, replies_come_in_pieces_with_a_notification_between)
{
	struct rpc *r = &self->vm.rpc;

	rpc_drain(r);
	r->states = 0;
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_RPC_INTERLEAVE,
			      RM_VM_GET_RESOURCES, 1, 0));
	EXPECT_EQ(is_public(&self->vm) ? 1 : 6, vm_resources(&self->vm));
	rpc_drain(r);
	EXPECT_EQ(1, r->states);
	/* The host itself has none. */
	EXPECT_EQ(0, rpc_vmid(r, RM_VM_GET_RESOURCES, 3));
	EXPECT_EQ(4, r->reply_size);
	EXPECT_EQ(is_public(&self->vm) ? 6 : 0xd,
		  rpc_vmid(r, RM_VM_GET_RESOURCES, 0x99));
}

TEST_F(guest, has_no_extents_on_the_public_platform)
{
	const int64_t error = is_public(&self->vm) ? 1 : 50;
	const uint64_t pa = self->vm.image_pa;

	/* Only the other platform knows these types and capabilities. */
	EXPECT_EQ(50, el2_hvc(&self->el2, HYP_DONATE, TO_SIBLING, 0x4000,
			      0x4000, pa, 4096));
	EXPECT_EQ(error, el2_hvc(&self->el2, HYP_DONATE, TO_PROTECTED, 0x4000,
				 0x4000, pa, 4096));
	EXPECT_EQ(error, el2_hvc(&self->el2, HYP_DONATE, FROM_PROTECTED, 0x4000,
				 0x4000, pa, 4096));
	EXPECT_EQ(50, el2_hvc(&self->el2, HYP_MAP, 0x4000, 0x4000, 0, ATTRS_RWX,
			      1, pa, 4096));
	EXPECT_EQ(52, el2_hvc(&self->el2, HYP_MAP, self->vm.vcpu, self->vm.vcpu,
			      0, ATTRS_RWX, 1, pa, 4096));
	if (!is_public(&self->vm)) {
		EXPECT_EQ(0x14, vm_set_layout(&self->vm, 0, 4096));
		EXPECT_EQ(0x14, vm_set_paging(&self->vm, 0, 4096));
	} else {
		EXPECT_EQ(0xffffffff, vm_set_layout(&self->vm, 0, 4096));
		EXPECT_EQ(0xffffffff, vm_set_paging(&self->vm, 0, 4096));
	}
}

TEST_F(guest, init_fails_without_a_valid_image)
{
	struct vm vm = { .el2 = &self->el2, .rpc.el2 = &self->el2,
			 .image_size = EL2_PAGE_SIZE };
	uint64_t pa = el2_alloc(&self->el2, 1, NULL);
	uint32_t other;

	if (is_public(&self->vm))
		SKIP(return, "the public one places nothing then, see r03");
	vm.vmid = rpc_alloc(&vm.rpc);
	EXPECT_EQ(0x14, rpc_vmid(&vm.rpc, RM_VM_INIT, vm.vmid));
	EXPECT_EQ(7, vm_config_image(&vm));
	/* Two parcels at one place */
	ASSERT_EQ(0, rpc_lend(&vm.rpc, vm.vmid, 0x80000, 0, pa, EL2_PAGE_SIZE));
	vm.image_handle = rpc_handle(&vm.rpc);
	ASSERT_EQ(0, rpc_lend(&vm.rpc, vm.vmid, 0x80000, 0, pa + EL2_PAGE_SIZE,
			      EL2_PAGE_SIZE));
	other = rpc_handle(&vm.rpc);
	ASSERT_EQ(0, vm_config_image(&vm));
	EXPECT_EQ(9, rpc_vmid(&vm.rpc, RM_VM_INIT, vm.vmid));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(&vm));
	EXPECT_EQ(0, rpc_reclaim(&vm.rpc, vm.image_handle, 0));
	EXPECT_EQ(0, rpc_vmid(&vm.rpc, RM_VM_RESET, vm.vmid));
	EXPECT_EQ(5, rpc_vmid(&vm.rpc, RM_VM_DEALLOC_VMID, vm.vmid));
	EXPECT_EQ(0, rpc_reclaim(&vm.rpc, other, 0));
	EXPECT_EQ(0, rpc_vmid(&vm.rpc, RM_VM_DEALLOC_VMID, vm.vmid));
}

TEST_F(guest, reads_what_is_lent_and_shared_by_rpc)
{
	struct rpc *r = &self->vm.rpc;
	uint64_t pa = el2_alloc(&self->el2, 0, NULL), *page;
	uint32_t handle;

	if (is_public(&self->vm))
		SKIP(return, "on the public one a label is no address: see r04");
	page = el2_map(&self->el2, pa, EL2_PAGE_SIZE);
	ASSERT_NE(NULL, page);
	*page = 42;
	ASSERT_EQ(0, rpc_lend(r, self->vm.vmid, 0xc0000, 0, pa, EL2_PAGE_SIZE));
	handle = rpc_handle(r);
	EXPECT_EQ(0xc0000000, el2_page_at(&self->el2, pa).gpa);
	/* The place is in use. */
	EXPECT_EQ(0xb,
		  rpc_lend(r, self->vm.vmid, 0xc0000, 0, pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_start(&self->vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(&self->vm, AGENT_READ, 0xc0000000, 0));
	EXPECT_EQ(42, vm_answer(&self->vm));
	EXPECT_EQ(VCPU_BLOCKED,
		  vm_tell(&self->vm, AGENT_WRITE, 0xc0000000, 43));
	EXPECT_EQ(43, el2_peek(&self->el2, pa));
	EXPECT_EQ(SIGBUS, el2_touch(page, false));
	EXPECT_EQ(0xb, rpc_reclaim(r, handle, 0));
	ASSERT_EQ(0, vm_stop(&self->vm));
	EXPECT_EQ(0xb, rpc_reclaim(r, handle, 0));
	if (!is_public(&self->vm))
		ASSERT_EQ(0, vm_take_back(&self->vm, IMAGE_GPA,
					  self->vm.image_pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, rpc_vmid(r, RM_VM_RESET, self->vm.vmid));
	EXPECT_EQ(0, rpc_reclaim(r, handle, 0));
	EXPECT_EQ(43, *page);
	munmap(page, EL2_PAGE_SIZE);
	/* The teardown expects the parcel to exist. */
	if (is_public(&self->vm))
		ASSERT_EQ(0, rpc_reclaim(r, self->vm.image_handle, 0));
	ASSERT_EQ(0, rpc_vmid(r, RM_VM_DEALLOC_VMID, self->vm.vmid));
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
}

TEST_HARNESS_MAIN
