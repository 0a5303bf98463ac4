// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a VM under the public Gunyah. Each test has the number of the
 * fact that it shows; public_place_test.c and public_memory_test.c have the
 * others.
 */
#include <pthread.h>
#include <signal.h>

#include "public_util.h"

static int64_t reset(struct vm *vm)
{
	return rpc_vmid(&vm->rpc, RM_VM_RESET, vm->vmid);
}

static int64_t dealloc(struct vm *vm)
{
	return rpc_vmid(&vm->rpc, RM_VM_DEALLOC_VMID, vm->vmid);
}

TEST_F(public, r01_no_boot_context)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	EXPECT_EQ(RM_UNIMPLEMENTED, vm_set_register(vm, 0, 0, 0));
	EXPECT_EQ(RM_UNIMPLEMENTED, vm_set_register(vm, 1, 0, IMAGE_GPA));
	ASSERT_EQ(0, vm_start(vm));
	/*
	 * The agent runs from the image's offset; it has stored X0, as it began.
	 */
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, IMAGE_GPA, 0));
	EXPECT_EQ(IMAGE_GPA + EL2_PAGE_SIZE,
		  el2_peek(&self->el2, vm->image_pa + AGENT_FIRST_X0));
}

/* Each abandoned start gives back its VMID, in one way only. */
TEST_F(public, r08_reset_needs_a_final_state)
{
	struct vm *vm = &self->vm;
	struct rpc *r = &vm->rpc;

	ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
	/* LOAD */
	EXPECT_EQ(RM_VM_STATE, reset(vm));
	EXPECT_EQ(RM_VM_STATE, rpc_vmid(r, RM_VM_INIT, vm->vmid));
	ASSERT_EQ(0, vm_lend_image(vm));
	ASSERT_EQ(0, vm_config_image(vm));
	/* INIT */
	EXPECT_EQ(VM_STATE_INIT, vm_state(vm));
	EXPECT_EQ(RM_VM_STATE, reset(vm));
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
	EXPECT_EQ(RM_VM_STATE, vm_config_image(vm));
	EXPECT_EQ(RM_VM_STATE, vm_stop(vm));
	ASSERT_EQ(0, rpc_vmid(r, RM_VM_INIT, vm->vmid));
	/* READY */
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
	ASSERT_EQ(0, vm_start(vm));
	/* RUNNING */
	EXPECT_EQ(RM_VM_STATE, reset(vm));
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
	ASSERT_EQ(0, vm_stop(vm));
	/* EXITED */
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
	ASSERT_EQ(0, reset(vm));
	ASSERT_TRUE(vm_wait_state(vm, VM_STATE_RESET));
	EXPECT_EQ(RM_VM_STATE, reset(vm));
}

TEST_F(public, r08_init_that_fails_opens_the_way)
{
	struct vm *vm = &self->vm;
	struct rpc *r = &vm->rpc;

	ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, vm_lend_image(vm));
	ASSERT_EQ(0, vm_config_image(vm));
	/* The image goes, so VM_INIT fails. */
	ASSERT_EQ(0, rpc_reclaim(r, vm->image_handle, 0));
	EXPECT_EQ(RM_MEM_INVALID, rpc_vmid(r, RM_VM_INIT, vm->vmid));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
	ASSERT_EQ(0, reset(vm));
	ASSERT_TRUE(vm_wait_state(vm, VM_STATE_RESET));
	/* The VM can begin again, too. */
	ASSERT_EQ(0, vm_lend_image(vm));
	ASSERT_EQ(0, vm_config_image(vm));
	ASSERT_EQ(0, rpc_vmid(r, RM_VM_INIT, vm->vmid));
	ASSERT_EQ(1, vm_resources(vm));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, IMAGE_GPA, 0));
}

TEST_F(public, r08_config_image_that_fails_opens_the_way)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
	vm->image_handle = NO_HANDLE;
	EXPECT_EQ(RM_MEM_INVALID, vm_config_image(vm));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
}

TEST_F(public, r09_reset_ends_after_its_reply)
{
	struct vm *vm = &self->vm;
	struct rpc *r = &vm->rpc;

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 2));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, extra_give(vm, &self->extra, 7, 7, false));
	ASSERT_EQ(0, vm_start(vm));
	ASSERT_EQ(0, vm_stop(vm));
	rpc_drain(r);
	r->nr_log = r->others = 0;
	el2_setting(&self->el2, EL2_RESET_PIECE_US, 500000);
	ASSERT_EQ(0, reset(vm));
	EXPECT_EQ(1, r->nr_log);
	EXPECT_EQ(VM_STATE_RESETTING, r->log[0]);
	/* Parcels are released one by one, the last one first. */
	EXPECT_EQ(RM_MEM_INUSE, rpc_reclaim(r, vm->image_handle, 0));
	while (el2_page_at(&self->el2, self->extra.pa).gpa != EL2_NO_ADDR)
		usleep(1000);
	EXPECT_EQ(IMAGE_GPA, el2_page_at(&self->el2, vm->image_pa).gpa);
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
	EXPECT_EQ(0, rpc_reclaim(r, self->extra.handle, 0));
	self->extra.handle = NO_HANDLE;
	ASSERT_TRUE(vm_wait_state(vm, VM_STATE_RESET));
	rpc_drain(r);
	EXPECT_EQ(4, r->nr_log);
	EXPECT_EQ(LOG_OTHER, r->log[1]);
	EXPECT_EQ(LOG_OTHER, r->log[2]);
	EXPECT_EQ(VM_STATE_RESET, r->log[3]);
	EXPECT_EQ(0, rpc_reclaim(r, vm->image_handle, 0));
}

TEST_F(public, r11_status_9_comes_before_exited)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	/* RUNNING has come before the reply. */
	EXPECT_LT(0, rpc_logged(&vm->rpc, VM_STATE_RUNNING));
	EXPECT_EQ(VCPU_POWERED_OFF, vm_tell(vm, AGENT_HVC, PSCI_SYSTEM_OFF, 0));
	ASSERT_TRUE(vm_wait_exit(vm));
	EXPECT_EQ(rpc_logged(&vm->rpc, VM_STATE_EXITED) + 1,
		  rpc_logged(&vm->rpc, LOG_EXIT | EXIT_OFF));
}

TEST_F(public, r12_exited_has_a_reason)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(VCPU_SYSTEM_RESET,
		  vm_tell(vm, AGENT_HVC, PSCI_SYSTEM_RESET, 0));
	EXPECT_EQ(1ULL << 63, vm->data[0]);
	ASSERT_TRUE(vm_wait_exit(vm));
	EXPECT_EQ(EXIT_RESET, vm->rpc.exit_type);
	EXPECT_EQ(4, vm->rpc.reason_size);
	EXPECT_EQ(0, vm->rpc.reason[0]);
}

/* The longer reason: the reset's type, and a cookie of 64 bits */
TEST_F(public, r12_exited_has_a_longer_reason)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(VCPU_SYSTEM_RESET,
		  vm_tell(vm, AGENT_HVC, PSCI_SYSTEM_RESET2, 0));
	ASSERT_TRUE(vm_wait_exit(vm));
	EXPECT_EQ(EXIT_RESET2, vm->rpc.exit_type);
	EXPECT_EQ(16, vm->rpc.reason_size);
	EXPECT_EQ(0, vm->rpc.reason[0]);
	/* The type is X1, where the agent has the number of the call, too. */
	EXPECT_EQ(PSCI_SYSTEM_RESET2, vm->rpc.reason[1]);
}

static void *run_once(void *arg)
{
	struct vm *vm = arg;

	return (void *)(vm_run(vm) ? UINT64_MAX : vm->state);
}

TEST_F(public, r13_stop_kills)
{
	struct vm *vm = &self->vm;
	struct rpc *r = &vm->rpc;
	pthread_t thread;
	void *state;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	el2_hvc(&self->el2, EL2_POKE, vm->image_pa + AGENT_MAILBOX, AGENT_SPIN);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_once, vm));
	usleep(100000);
	el2_setting(&self->el2, EL2_HALT_US, 200000);
	ASSERT_EQ(0, rpc_request(r, RM_VM_STOP, (uint16_t [4]){ vm->vmid, 1 },
				 8));
	/* The Resource Manager runs the vCPU to its end. */
	pthread_join(thread, &state);
	/* The thread may have been between two runs. */
	EXPECT_TRUE((uint64_t)state == VCPU_BLOCKED ||
		    (uint64_t)state == UINT64_MAX);
	EXPECT_EQ(HYP_BUSY, vm_run(vm));
	r->nr_log = 0;
	EXPECT_EQ(0, rpc_reply(r, RM_VM_STOP));
	EXPECT_EQ(2, r->nr_log);
	EXPECT_EQ(VM_STATE_EXITED, r->log[0]);
	EXPECT_EQ(LOG_EXIT | EXIT_FORCED, r->log[1]);
	EXPECT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_POWERED_OFF, vm->state);
}

TEST_F(public, r13_polite_stop_does_nothing)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(0, rpc(&vm->rpc, RM_VM_STOP, (uint16_t [4]){ vm->vmid }, 8));
	EXPECT_EQ(VM_STATE_RUNNING, vm_state(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, IMAGE_GPA, 0));
}

TEST_F(public, r14_busy_after_power_off)
{
	struct vm *vm = &self->vm;
	int busy = 0, off = 0;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	el2_setting(&self->el2, EL2_HALT_US, 200000);
	EXPECT_EQ(VCPU_POWERED_OFF, vm_tell(vm, AGENT_HVC, PSCI_SYSTEM_OFF, 0));
	for (rpc_drain(&vm->rpc); !vm->rpc.exits; rpc_drain(&vm->rpc)) {
		int64_t error = vm_run(vm);

		ASSERT_TRUE(error == HYP_BUSY ||
			    (!error && vm->state == VCPU_POWERED_OFF));
		busy += error == HYP_BUSY;
		off += !error;
		usleep(1000);
	}
	EXPECT_LT(0, busy);
	EXPECT_LT(0, off);
	/* It never runs again, and says so. */
	EXPECT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_POWERED_OFF, vm->state);
	EXPECT_EQ(1, vm->data[0]);
}

TEST_F(public, r14_lost_halt)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	ASSERT_EQ(0, vm_start(vm));
	ASSERT_EQ(0, el2_rule(&self->el2, EL2_RULE_LOSE_HALT, vm->vmid, 1, 0));
	EXPECT_EQ(VCPU_POWERED_OFF, vm_tell(vm, AGENT_HVC, PSCI_SYSTEM_OFF, 0));
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, vm_run(vm));
		ASSERT_EQ(VCPU_POWERED_OFF, vm->state);
		usleep(10000);
	}
	rpc_drain(&vm->rpc);
	EXPECT_EQ(0, vm->rpc.exits);
	/* The state doesn't help; a stop does. */
	EXPECT_EQ(VM_STATE_RUNNING, vm_state(vm));
	EXPECT_EQ(VM_STATE_RUNNING, vm_state(vm));
	EXPECT_EQ(0, vm_stop(vm));
	EXPECT_EQ(EXIT_FORCED, vm->rpc.exit_type);
	EXPECT_EQ(VM_STATE_EXITED, vm_state(vm));
}

TEST_F(public, r16_failed_start_is_final)
{
	struct vm *vm = &self->vm;
	const struct guest_dt dt = { .base = IMAGE_GPA, .no_gic = true };

	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &dt));
	EXPECT_EQ(RM_NORESOURCE, vm_start(vm));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
	EXPECT_EQ(1 << VM_STATE_INIT_FAILED,
		  vm->rpc.states & 1 << VM_STATE_INIT_FAILED);
	EXPECT_EQ(RM_VM_STATE, vm_start(vm));
	EXPECT_EQ(RM_VM_STATE, vm_stop(vm));
	EXPECT_EQ(RM_VM_STATE, dealloc(vm));
	/* The image was accepted before the start failed. */
	EXPECT_EQ(RM_MEM_INUSE, rpc_reclaim(&vm->rpc, vm->image_handle, 0));
}

TEST_F(public, r18_handles_count_up)
{
	struct rpc *r = &self->vm.rpc;
	uint32_t handle, last;

	ASSERT_TRUE(vm_prepare(&self->vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, vm_lend_image(&self->vm));
	last = self->vm.image_handle;
	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, rpc_reclaim(r, last, 0));
		ASSERT_EQ(0, vm_lend_image(&self->vm));
		handle = self->vm.image_handle;
		ASSERT_LT(last, handle);
		EXPECT_EQ(7, rpc_reclaim(r, last, 0));
		last = handle;
	}
}

TEST_F(public, r18_there_are_63_vmids)
{
	struct rpc *r = &self->vm.rpc;

	self->no_vm = true;
	rpc_drain(r);
	for (int i = 0; i < 63; i++)
		ASSERT_EQ(0x80 + i, rpc_alloc(r));
	EXPECT_EQ(RM_NORESOURCE, rpc_vmid(r, RM_VM_ALLOC_VMID, 0));
	EXPECT_EQ(RM_NORESOURCE, rpc_vmid(r, RM_VM_ALLOC_VMID, 0xbf));
	for (int i = 0; i < 63; i++)
		ASSERT_EQ(0, rpc_vmid(r, RM_VM_DEALLOC_VMID, 0x80 + i));
}

/* A start and a reset take time for each piece, not for each page. */
TEST_F(public, r19_time_is_by_the_piece)
{
	struct vm *vm = &self->vm;
	uint64_t begin;

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 5));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, extra_give(vm, &self->extra, 7, 7, false));
	/* Two pieces: the image, and 32 pages */
	el2_setting(&self->el2, EL2_START_PIECE_US, 300000);
	begin = clock_ms();
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_LE(600, clock_ms() - begin);
	EXPECT_GT(5000, clock_ms() - begin);
	ASSERT_EQ(0, vm_stop(vm));
	el2_setting(&self->el2, EL2_RESET_PIECE_US, 300000);
	begin = clock_ms();
	ASSERT_EQ(0, reset(vm));
	EXPECT_GT(300, clock_ms() - begin);
	ASSERT_TRUE(vm_wait_state(vm, VM_STATE_RESET));
	EXPECT_LE(600, clock_ms() - begin);
}

/* One start keeps the Resource Manager from all others. */
TEST_F(public, r19_nobody_else_is_served_meanwhile)
{
	struct vm *vm = &self->vm;
	uint64_t begin;

	ASSERT_TRUE(vm_create(vm, &self->el2));
	el2_setting(&self->el2, EL2_START_PIECE_US, 500000);
	begin = clock_ms();
	ASSERT_EQ(0, rpc_request(&vm->rpc, RM_VM_START,
				 (uint16_t [2]){ vm->vmid }, 4));
	ASSERT_EQ(0, rpc(&vm->rpc, RM_VM_GET_VMID, NULL, 0));
	EXPECT_LE(500, clock_ms() - begin);
	EXPECT_EQ(VM_STATE_RUNNING, vm_state(vm));
}

TEST_F(public, r19_replies_are_late)
{
	struct rpc *r = &self->vm.rpc;
	uint64_t begin;

	self->no_vm = true;
	rpc_drain(r);
	el2_setting(&self->el2, EL2_REPLY_US, 200000);
	begin = clock_ms();
	ASSERT_EQ(0, rpc(r, RM_VM_GET_VMID, NULL, 0));
	EXPECT_LE(199, clock_ms() - begin);
}

TEST_HARNESS_MAIN
