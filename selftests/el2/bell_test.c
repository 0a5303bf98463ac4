// SPDX-License-Identifier: GPL-2.0-only
/* Doorbells of the EL2 monitor, and the interrupts that wake vCPUs. */
#include "vm_util.h"

#define HYP_BELL_SEND		GUNYAH(0x12)
#define HYP_BELL_RECEIVE	GUNYAH(0x13)
#define HYP_BELL_MASK		GUNYAH(0x15)

enum { SEND, SEND_AND_CLEAR, RECEIVE, NR_BELLS };

FIXTURE(bell) {
	struct el2 el2;
	struct vm vm;
};

static bool plan(struct el2 *el2, uint64_t label, uint64_t flags)
{
	return !el2_hvc(el2, EL2_BELL_PLAN, label, flags);
}

FIXTURE_SETUP(bell)
{
	ASSERT_TRUE(el2_open(&self->el2));
	ASSERT_TRUE(plan(&self->el2, 7, 0));
	ASSERT_TRUE(plan(&self->el2, 0xfffffffe, EL2_BELL_CAN_CLEAR));
	ASSERT_TRUE(plan(&self->el2, 9, EL2_BELL_TO_HOST));
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
	ASSERT_EQ(NR_BELLS, self->vm.nr_bells);
}

FIXTURE_TEARDOWN(bell)
{
	EXPECT_TRUE(plan(&self->el2, EL2_ANY, 0));
	EXPECT_TRUE(vm_destroy(&self->vm));
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

struct state {
	uint64_t flags, enable, ack, asserted;
};

static struct state state(struct vm *vm, int bell)
{
	uint64_t x[9] = { EL2_BELL_STATE, vm->vmid, vm->bells[bell].label };

	if (el2_call(vm->el2, x))
		return (struct state) { .asserted = UINT64_MAX };
	return (struct state) { x[1], x[2], x[3], x[4] };
}

/* The old flags, or minus the error. */
static int64_t call(struct vm *vm, uint64_t function, int bell, uint64_t flags)
{
	uint64_t x[9] = { function, vm->bells[bell].cap, flags };
	int64_t error = el2_call(vm->el2, x);

	return error ? -error : (int64_t)x[1];
}

static int64_t mask(struct vm *vm, int bell, uint64_t enable, uint64_t ack)
{
	return el2_hvc(vm->el2, HYP_BELL_MASK, vm->bells[bell].cap, enable, ack);
}

TEST_F(bell, are_resources)
{
	EXPECT_EQ(7, self->vm.bells[SEND].label);
	EXPECT_FALSE(self->vm.bells[SEND].to_host);
	EXPECT_EQ(0xfffffffe, self->vm.bells[SEND_AND_CLEAR].label);
	EXPECT_EQ(9, self->vm.bells[RECEIVE].label);
	EXPECT_TRUE(self->vm.bells[RECEIVE].to_host);
	/* SPI 202 and up: the first VM's vCPU. */
	EXPECT_EQ(32 + 202 + self->vm.vmid - 0x80, self->vm.virq);
}

TEST_F(bell, need_rights)
{
	EXPECT_EQ(-53, call(&self->vm, HYP_BELL_RECEIVE, SEND, 1));
	EXPECT_EQ(53, mask(&self->vm, SEND, 1, 1));
	EXPECT_EQ(-53, call(&self->vm, HYP_BELL_SEND, RECEIVE, 1));
	EXPECT_EQ(0, call(&self->vm, HYP_BELL_RECEIVE, RECEIVE, 1));
	EXPECT_EQ(0, mask(&self->vm, RECEIVE, 1, 1));
	/* No flag; a reserved argument; no such capability */
	EXPECT_EQ(-1, call(&self->vm, HYP_BELL_SEND, SEND, 0));
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_BELL_SEND,
			     self->vm.bells[SEND].cap, 1, 1));
	EXPECT_EQ(52, el2_hvc(&self->el2, HYP_BELL_SEND, self->vm.vcpu, 1));
	EXPECT_EQ(0, state(&self->vm, SEND).asserted);
}

/* A flag stays set until the guest clears it; each ring asserts again. */
TEST_F(bell, keep_their_flags)
{
	EXPECT_EQ(0, call(&self->vm, HYP_BELL_SEND, SEND, 1));
	EXPECT_EQ(1, call(&self->vm, HYP_BELL_SEND, SEND, 4));
	EXPECT_EQ(5, state(&self->vm, SEND).flags);
	EXPECT_EQ(2, state(&self->vm, SEND).asserted);
	EXPECT_EQ(~0ULL, state(&self->vm, SEND).enable);
	EXPECT_EQ(0, state(&self->vm, SEND).ack);
}

TEST_F(bell, have_masks)
{
	const int bell = SEND_AND_CLEAR;

	EXPECT_EQ(0, mask(&self->vm, bell, 2, 1));
	EXPECT_EQ(0, call(&self->vm, HYP_BELL_SEND, bell, 1));
	EXPECT_EQ(0, state(&self->vm, bell).asserted);
	EXPECT_EQ(1, state(&self->vm, bell).flags);
	/* The mask asserts what is set, and acknowledges it. */
	EXPECT_EQ(0, mask(&self->vm, bell, 1, 1));
	EXPECT_EQ(1, state(&self->vm, bell).asserted);
	EXPECT_EQ(0, state(&self->vm, bell).flags);
	EXPECT_EQ(0, call(&self->vm, HYP_BELL_SEND, bell, 3));
	EXPECT_EQ(2, state(&self->vm, bell).asserted);
	EXPECT_EQ(2, call(&self->vm, HYP_BELL_RECEIVE, bell, 2));
	EXPECT_EQ(0, state(&self->vm, bell).flags);
}

TEST_F(bell, end_with_their_vm)
{
	const uint64_t cap = self->vm.bells[SEND].cap;

	EXPECT_TRUE(vm_destroy(&self->vm));
	EXPECT_EQ(51, el2_hvc(&self->el2, HYP_BELL_SEND, cap, 1));
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
	EXPECT_EQ(0, state(&self->vm, SEND).asserted);
}

/* The list of resources takes many messages. */
TEST_F(bell, are_many)
{
	unsigned int i;

	EXPECT_TRUE(vm_destroy(&self->vm));
	ASSERT_TRUE(plan(&self->el2, EL2_ANY, 0));
	for (i = 0; i < EL2_MAX_BELLS; i++)
		ASSERT_TRUE(plan(&self->el2, 1000 + i, 0));
	EXPECT_FALSE(plan(&self->el2, 1, 0));
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
	ASSERT_EQ(EL2_MAX_BELLS, self->vm.nr_bells);
	for (i = 0; i < EL2_MAX_BELLS; i++) {
		ASSERT_EQ(1000 + i, self->vm.bells[i].label);
		ASSERT_EQ(0, call(&self->vm, HYP_BELL_SEND, i, 1));
	}
	EXPECT_EQ(1, state(&self->vm, EL2_MAX_BELLS - 1).asserted);
}

TEST_HARNESS_MAIN
