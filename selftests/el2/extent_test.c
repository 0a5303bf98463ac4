// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extents and address spaces of the EL2 monitor, on the platform that has them.
 */
#include <pthread.h>
#include <signal.h>

#include "vm_util.h"

#define BLOCK_ORDER		9
#define BLOCK_SIZE		(EL2_PAGE_SIZE << BLOCK_ORDER)

FIXTURE(extent) {
	struct el2 el2;
	struct vm vm;
	/* Four pages, also mapped here */
	uint64_t pa;
	uint64_t *pages;
};

FIXTURE_SETUP(extent)
{
	ASSERT_TRUE(el2_open(&self->el2));
	if (self->el2.platform != EL2_PLATFORM_EXTENTS)
		SKIP(return, "this platform has no extents");
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
	ASSERT_EQ(0, vm_start(&self->vm));
	self->pa = el2_alloc(&self->el2, 2, NULL);
	self->pages = el2_map(&self->el2, self->pa, 4 * EL2_PAGE_SIZE);
	ASSERT_NE(NULL, self->pages);
}

FIXTURE_TEARDOWN(extent)
{
	el2_rule(&self->el2, EL2_RULE_CLEAR, 0, 0, 0);
	EXPECT_TRUE(vm_destroy(&self->vm));
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

TEST_F(extent, lent_page_is_the_guests_alone)
{
	struct vm *vm = &self->vm;
	struct el2_page page;

	*self->pages = 42;
	ASSERT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_READ, PAGED_GPA, 0));
	ASSERT_EQ(0, vm_donate(vm, TO_PROTECTED, HOST_PRIVATE, GUEST_PRIVATE,
			       self->pa, EL2_PAGE_SIZE));
	page = el2_page_at(&self->el2, self->pa);
	EXPECT_EQ(vm->vmid, page.owner_vmid);
	EXPECT_EQ(EL2_EXTENT_PRIVATE, page.extent);
	EXPECT_EQ(0, page.host_access);
	EXPECT_EQ(EL2_NO_ADDR, page.gpa);
	EXPECT_EQ(SIGBUS, el2_touch(self->pages, false));

	ASSERT_EQ(0, vm_map(vm, GUEST_PRIVATE, PAGED_GPA, ATTRS_RWX,
			    PARTIAL_PRIVATE, self->pa, EL2_PAGE_SIZE));
	page = el2_page_at(&self->el2, self->pa);
	EXPECT_EQ(PAGED_GPA, page.gpa);
	EXPECT_EQ(7, page.guest_access);
	/* Repeat the read that faulted. */
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(42, vm_answer(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_WRITE, PAGED_GPA, 43));

	ASSERT_EQ(0, vm_take_back(vm, PAGED_GPA, self->pa, EL2_PAGE_SIZE));
	EXPECT_EQ(43, *self->pages);
	EXPECT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_WRITE, PAGED_GPA, 44));
	EXPECT_EQ(PAGED_GPA, vm->data[0]);
	EXPECT_EQ(1, vm->data[1]);
}

TEST_F(extent, shared_page_has_both_sides)
{
	struct vm *vm = &self->vm;
	const uint64_t gpa = 0xc0000000;
	struct el2_page page;

	*self->pages = 42;
	/*
	 * Outside the demand-paged ranges, the access is MMIO, which can be
	 * retried.
	 */
	ASSERT_EQ(VCPU_MMIO_READ, vm_tell(vm, AGENT_READ, gpa, 0));
	ASSERT_EQ(0, vm_donate(vm, TO_SIBLING, HOST_SHARED, GUEST_SHARED,
			       self->pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_map(vm, GUEST_SHARED, gpa, ATTRS_RW, PARTIAL_VMMIO,
			    self->pa, EL2_PAGE_SIZE));
	page = el2_page_at(&self->el2, self->pa);
	EXPECT_EQ(EL2_EXTENT_SHARED, page.extent);
	EXPECT_EQ(vm->vmid, page.owner_vmid);
	EXPECT_EQ(7, page.host_access);
	EXPECT_EQ(6, page.guest_access);
	ASSERT_EQ(0, vm_run_with(vm, 0, 1));
	EXPECT_EQ(42, vm_answer(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_WRITE, gpa, 43));
	EXPECT_EQ(43, *self->pages);
	/* The page holds no code. */
	EXPECT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_CALL, gpa, 0));

	ASSERT_EQ(0, vm_unmap(vm, GUEST_SHARED, gpa, PARTIAL_VMMIO, self->pa,
			      EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_donate(vm, TO_SIBLING, GUEST_SHARED, HOST_SHARED,
			       self->pa, EL2_PAGE_SIZE));
}

TEST_F(extent, access_is_enforced_and_changed)
{
	struct vm *vm = &self->vm;
	uint64_t x[9];

	ASSERT_EQ(0, vm_donate(vm, TO_PROTECTED, HOST_PRIVATE, GUEST_PRIVATE,
			       self->pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_map(vm, GUEST_PRIVATE, PAGED_GPA, ATTRS_RX,
			    PARTIAL_PRIVATE, self->pa, EL2_PAGE_SIZE));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, PAGED_GPA, 0));
	EXPECT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_WRITE, PAGED_GPA, 1));
	EXPECT_EQ(1, vm->data[1]);
	ASSERT_EQ(0, el2_hvc(&self->el2, HYP_UPDATE_ACCESS, vm->addrspace,
			     vm->extents[GUEST_PRIVATE], PAGED_GPA, 0x77,
			     PARTIAL_PRIVATE, self->pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm->state);
	EXPECT_EQ(1, el2_peek(&self->el2, self->pa));

	memcpy(x,
	       (uint64_t[9]){ HYP_LOOKUP, vm->addrspace,
			      vm->extents[GUEST_PRIVATE], PAGED_GPA,
			      4 * EL2_PAGE_SIZE },
	       sizeof(x));
	EXPECT_EQ(0, el2_call(&self->el2, x));
	EXPECT_EQ(self->pa, x[1]);
	EXPECT_EQ(EL2_PAGE_SIZE, x[2]);
	EXPECT_EQ(ATTRS_RWX, x[3]);
	EXPECT_EQ(22,
		  el2_hvc(&self->el2, HYP_LOOKUP, vm->addrspace,
			  vm->extents[GUEST_SHARED], PAGED_GPA, EL2_PAGE_SIZE));
	EXPECT_EQ(22, el2_hvc(&self->el2, HYP_LOOKUP, vm->addrspace,
			      vm->extents[GUEST_PRIVATE],
			      PAGED_GPA + EL2_PAGE_SIZE, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_take_back(vm, PAGED_GPA, self->pa, EL2_PAGE_SIZE));
}

TEST_F(extent, mapping_is_in_effect_while_its_extent_owns_the_page)
{
	struct vm *vm = &self->vm;
	struct el2_page page;

	/* Map the page before it is donated. */
	ASSERT_EQ(0, vm_map(vm, GUEST_PRIVATE, PAGED_GPA, ATTRS_RWX,
			    PARTIAL_PRIVATE, self->pa, EL2_PAGE_SIZE));
	page = el2_page_at(&self->el2, self->pa);
	EXPECT_EQ(3, page.owner_vmid);
	EXPECT_EQ(PAGED_GPA, page.gpa);
	EXPECT_EQ(0, page.guest_access);
	EXPECT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_READ, PAGED_GPA, 0));
	/* The page has its mapping already. */
	EXPECT_EQ(120,
		  vm_map(vm, GUEST_PRIVATE, PAGED_GPA + EL2_PAGE_SIZE,
			 ATTRS_RWX, PARTIAL_PRIVATE, self->pa, EL2_PAGE_SIZE));
	/* Put another page in its place, and take that back. */
	ASSERT_EQ(0, vm_lend(vm, PAGED_GPA, self->pa + EL2_PAGE_SIZE,
			     EL2_PAGE_SIZE));
	EXPECT_EQ(200, vm_donate(vm, TO_PROTECTED, HOST_PRIVATE, GUEST_PRIVATE,
				 self->pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_take_back(vm, PAGED_GPA, self->pa + EL2_PAGE_SIZE,
				  EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_donate(vm, TO_PROTECTED, HOST_PRIVATE, GUEST_PRIVATE,
			       self->pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm->state);
	/* Take the page back without an unmap. */
	ASSERT_EQ(0, vm_donate(vm, FROM_PROTECTED, GUEST_PRIVATE, HOST_PRIVATE,
			       self->pa, EL2_PAGE_SIZE));
	EXPECT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_READ, PAGED_GPA, 0));
	EXPECT_EQ(0, el2_touch(self->pages, true));
	/* Unmap all of the extent at once, including the image. */
	ASSERT_EQ(0, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[GUEST_PRIVATE],
			     0));
	EXPECT_EQ(1, el2_stats(&self->el2).pages);
	ASSERT_EQ(0, vm_map(vm, GUEST_PRIVATE, IMAGE_GPA, ATTRS_RWX,
			    PARTIAL_PRIVATE, vm->image_pa, EL2_PAGE_SIZE));
}

TEST_F(extent, last_unmap_synchronises_the_others)
{
	struct vm *vm = &self->vm;
	const uint64_t before = el2_stats(&self->el2).unsynced;
	const uint64_t size = 4 * EL2_PAGE_SIZE;

	ASSERT_EQ(0, vm_lend(vm, PAGED_GPA, self->pa, size));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, PAGED_GPA, 0));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, vm_unmap(vm, GUEST_PRIVATE,
				      PAGED_GPA + i * EL2_PAGE_SIZE,
				      PARTIAL_PRIVATE | NOSYNC,
				      self->pa + i * EL2_PAGE_SIZE,
				      EL2_PAGE_SIZE));
	ASSERT_EQ(0, vm_unmap(vm, GUEST_PRIVATE, PAGED_GPA + 3 * EL2_PAGE_SIZE,
			      PARTIAL_PRIVATE, self->pa + 3 * EL2_PAGE_SIZE,
			      EL2_PAGE_SIZE));
	EXPECT_EQ(VCPU_PAGE_FAULT, vm_tell(vm, AGENT_READ, PAGED_GPA, 0));
	ASSERT_EQ(0, vm_donate(vm, FROM_PROTECTED, GUEST_PRIVATE, HOST_PRIVATE,
			       self->pa, size));
	EXPECT_EQ(before, el2_stats(&self->el2).unsynced);

	/*
	 * Donate after an unmap that didn't synchronise: the monitor counts the
	 * mistake.
	 */
	ASSERT_EQ(0, vm_lend(vm, PAGED_GPA, self->pa, size));
	ASSERT_EQ(0, vm_unmap(vm, GUEST_PRIVATE, PAGED_GPA,
			      PARTIAL_PRIVATE | NOSYNC, self->pa, size));
	ASSERT_EQ(0, vm_donate(vm, FROM_PROTECTED, GUEST_PRIVATE, HOST_PRIVATE,
			       self->pa, EL2_PAGE_SIZE));
	EXPECT_EQ(before + 1, el2_stats(&self->el2).unsynced);
	EXPECT_EQ(0, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[GUEST_PRIVATE],
			     255));
	ASSERT_EQ(0, vm_donate(vm, FROM_PROTECTED, GUEST_PRIVATE, HOST_PRIVATE,
			       self->pa + EL2_PAGE_SIZE, size - EL2_PAGE_SIZE));
	EXPECT_EQ(before + 1, el2_stats(&self->el2).unsynced);
}

static void *run_once(void *arg)
{
	struct vm *vm = arg;

	return (void *)(vm_run(vm) ? UINT64_MAX : vm->state);
}

/*
 * The guest counts in a page on another CPU, while the host takes the page
 * back.
 */
TEST_F(extent, guest_does_not_go_on_with_a_stale_translation)
{
	struct vm *vm = &self->vm;
	uint64_t stopped_at;
	pthread_t thread;
	void *state;

	el2_hvc(&self->el2, EL2_POKE, vm->image_pa + AGENT_MAILBOX + 8,
		PAGED_GPA);
	el2_hvc(&self->el2, EL2_POKE, vm->image_pa + AGENT_MAILBOX,
		AGENT_COUNT);
	for (int i = 0; i < 50; i++) {
		*self->pages = 0;
		ASSERT_EQ(0, vm_lend(vm, PAGED_GPA, self->pa, EL2_PAGE_SIZE));
		ASSERT_EQ(0, pthread_create(&thread, NULL, run_once, vm));
		while (!el2_peek(&self->el2, self->pa))
			;
		ASSERT_EQ(0,
			  vm_take_back(vm, PAGED_GPA, self->pa, EL2_PAGE_SIZE));
		stopped_at = *(volatile uint64_t *)self->pages;
		pthread_join(thread, &state);
		EXPECT_EQ(VCPU_PAGE_FAULT, (uint64_t)state);
		EXPECT_EQ(stopped_at, *(volatile uint64_t *)self->pages);
	}
}

TEST_F(extent, modify_zeroes_what_the_extent_owns)
{
	struct vm *vm = &self->vm;
	const uint64_t zero = 1 | NOSYNC;

	*self->pages = 42;
	EXPECT_EQ(111,
		  el2_hvc(&self->el2, HYP_MODIFY, vm->extents[GUEST_PRIVATE],
			  zero, self->pa, EL2_PAGE_SIZE));
	EXPECT_EQ(42, *self->pages);
	EXPECT_EQ(0, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[HOST_PRIVATE],
			     zero, self->pa, EL2_PAGE_SIZE));
	EXPECT_EQ(0, *self->pages);
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[HOST_PRIVATE],
			     1, self->pa, 4096));
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[HOST_PRIVATE],
			     4 | NOSYNC));
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[HOST_PRIVATE],
			     255 | NOSYNC));
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_MODIFY, vm->extents[HOST_PRIVATE],
			     0));
	EXPECT_EQ(52, el2_hvc(&self->el2, HYP_MODIFY, vm->addrspace, zero,
			      self->pa, 4096));
}

TEST_F(extent, a_huge_page_goes_whole_and_comes_back_in_parts)
{
	struct vm *vm = &self->vm;
	uint64_t pa = el2_alloc(&self->el2, BLOCK_ORDER, NULL), *block;

	block = el2_map(&self->el2, pa, BLOCK_SIZE);
	ASSERT_NE(NULL, block);
	ASSERT_EQ(0, vm_lend(vm, PAGED_GPA, pa, BLOCK_SIZE));
	EXPECT_EQ(513, el2_stats(&self->el2).pages);
	EXPECT_EQ(SIGBUS, el2_touch(block + BLOCK_SIZE / 8 - 1, false));
	EXPECT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_WRITE, PAGED_GPA + BLOCK_SIZE - 8, 42));
	ASSERT_EQ(0, vm_take_back(vm, PAGED_GPA, pa, BLOCK_SIZE / 2));
	EXPECT_EQ(0, el2_touch(block, true));
	EXPECT_EQ(SIGBUS, el2_touch(block + BLOCK_SIZE / 8 - 1, false));
	ASSERT_EQ(0, vm_take_back(vm, PAGED_GPA + BLOCK_SIZE / 2,
				  pa + BLOCK_SIZE / 2, BLOCK_SIZE / 2));
	EXPECT_EQ(42, block[BLOCK_SIZE / 8 - 1]);
}

TEST_F(extent, donation_is_checked)
{
	struct vm *vm = &self->vm;
	const uint64_t size = EL2_PAGE_SIZE, pa = self->pa;
	const struct {
		uint64_t options;
		int from, to;
		uint64_t pa, size;
		int64_t error;
	} cases[] = {
		/*
		 * Wrong type; options; to itself; wrong direction; wrong kind
		 */
		{ 0, HOST_SHARED, GUEST_SHARED, pa, size, 1 },
		{ 1, HOST_SHARED, GUEST_SHARED, pa, size, 1 },
		{ 5, HOST_PRIVATE, GUEST_PRIVATE, pa, size, 1 },
		{ 0x103, HOST_PRIVATE, GUEST_PRIVATE, pa, size, 1 },
		{ 2, HOST_SHARED, HOST_SHARED, pa, size, 1 },
		{ 3, GUEST_PRIVATE, HOST_PRIVATE, pa, size, 1 },
		{ 4, HOST_PRIVATE, GUEST_PRIVATE, pa, size, 1 },
		{ 2, HOST_PRIVATE, GUEST_PRIVATE, pa, size, 1 },
		{ 3, HOST_SHARED, GUEST_SHARED, pa, size, 1 },
		/*
		 * Wrong alignment; empty; wraps; past RAM; the monitor's memory
		 */
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, pa + 1, size, 3 },
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, pa, size - 1, 3 },
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, pa, 0, 2 },
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, pa, -size, 2 },
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, self->el2.ram_end, size, 1 },
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, 0x40200000, size, 1 },
		{ 3, HOST_PRIVATE, GUEST_PRIVATE, self->el2.ram_end - size,
		  2 * size, 1 },
		/* The extent doesn't own the page. */
		{ 4, GUEST_PRIVATE, HOST_PRIVATE, pa, size, 111 },
		{ 2, GUEST_SHARED, HOST_SHARED, pa, size, 111 },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		EXPECT_EQ(cases[i].error,
			  vm_donate(vm, cases[i].options, cases[i].from,
				    cases[i].to, cases[i].pa, cases[i].size)) {
			TH_LOG("case %u", i);
		}
	}
	EXPECT_EQ(1, el2_hvc(&self->el2, HYP_DONATE, 3, vm->extents[2],
			     vm->extents[0], pa, size, 1));
	EXPECT_EQ(50, el2_hvc(&self->el2, HYP_DONATE, 3, 0x4000, vm->extents[0],
			      pa, size));
	EXPECT_EQ(52, el2_hvc(&self->el2, HYP_DONATE, 3, vm->extents[2],
			      vm->addrspace, pa, size));
	EXPECT_EQ(1, el2_stats(&self->el2).pages);

	/*
	 * One page of four is donated already: the call moves none of the
	 * others.
	 */
	ASSERT_EQ(0, vm_lend(vm, PAGED_GPA, pa + 2 * size, size));
	EXPECT_EQ(111, vm_donate(vm, TO_PROTECTED, HOST_PRIVATE, GUEST_PRIVATE,
				 pa, 4 * size));
	EXPECT_EQ(2, el2_stats(&self->el2).pages);
	EXPECT_EQ(0xa, rpc_lend(&vm->rpc, vm->vmid, 0x70000, 0, pa, 4 * size));
	ASSERT_EQ(0, vm_take_back(vm, PAGED_GPA, pa + 2 * size, size));
}

TEST_F(extent, mapping_is_checked)
{
	struct vm *vm = &self->vm;
	const uint64_t size = EL2_PAGE_SIZE, pa = self->pa, gpa = PAGED_GPA;
	const struct {
		int extent;
		uint64_t gpa, attrs, flags, pa, size;
		int64_t error;
	} cases[] = {
		/* Wrong extent; flags; attributes */
		{ HOST_PRIVATE, gpa, ATTRS_RWX, 3, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 0, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 1, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 5, pa, size, 1 },
		{ GUEST_SHARED, gpa, ATTRS_RWX, 3, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 0xb, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, 0x1f0077, 3, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, 0x40077, 3, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, 0xf0033, 3, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, 0xf0071, 3, pa, size, 1 },
		{ GUEST_PRIVATE, gpa, 0xf00ff, 3, pa, size, 1 },
		/*
		 * Wrong alignment; wrong size; no memory there; no such address
		 */
		{ GUEST_PRIVATE, gpa + 8, ATTRS_RWX, 3, pa, size, 3 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 3, pa + 8, size, 3 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 3, pa, 0, 2 },
		{ GUEST_PRIVATE, gpa, ATTRS_RWX, 3, 0, size, 1 },
		{ GUEST_PRIVATE, 1ULL << 39, ATTRS_RWX, 3, pa, size, 20 },
		{ GUEST_PRIVATE, (1ULL << 39) - size, ATTRS_RWX, 3, pa,
		  2 * size, 20 },
		{ GUEST_PRIVATE, -size, ATTRS_RWX, 3, pa, 2 * size, 20 },
		/* The address is in use. */
		{ GUEST_PRIVATE, IMAGE_GPA, ATTRS_RWX, 3, pa, size, 200 },
		{ GUEST_PRIVATE, IMAGE_GPA - size, ATTRS_RWX, 3, pa, 4 * size,
		  200 },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		EXPECT_EQ(cases[i].error,
			  vm_map(vm, cases[i].extent, cases[i].gpa,
				 cases[i].attrs, cases[i].flags, cases[i].pa,
				 cases[i].size)) {
			TH_LOG("case %u", i);
		}
	}
	EXPECT_EQ(22, vm_unmap(vm, GUEST_PRIVATE, gpa, 3, pa, size));
	EXPECT_EQ(22, vm_unmap(vm, GUEST_PRIVATE, gpa, 3, vm->image_pa, size));
	EXPECT_EQ(1,
		  vm_unmap(vm, GUEST_SHARED, IMAGE_GPA, 3, vm->image_pa, size));
	EXPECT_EQ(22,
		  vm_unmap(vm, GUEST_SHARED, IMAGE_GPA, 5, vm->image_pa, size));
	EXPECT_EQ(52, el2_hvc(&self->el2, HYP_MAP, vm->extents[0],
			      vm->addrspace, gpa, ATTRS_RWX, 3, pa, size));
	EXPECT_EQ(1, el2_stats(&self->el2).pages);
}

TEST_F(extent, caps_end_with_a_reset)
{
	struct vm *vm = &self->vm;

	ASSERT_EQ(0, vm_stop(vm));
	ASSERT_EQ(0, vm_take_back(vm, IMAGE_GPA, vm->image_pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, rpc_vmid(&vm->rpc, RM_VM_RESET, vm->vmid));
	EXPECT_EQ(51, vm_run(vm));
	EXPECT_EQ(51, vm_lend(vm, PAGED_GPA, self->pa, EL2_PAGE_SIZE));
	ASSERT_EQ(0, rpc_vmid(&vm->rpc, RM_VM_DEALLOC_VMID, vm->vmid));
	/* A new VM with the same VMID has other capabilities. */
	ASSERT_TRUE(vm_create(vm, &self->el2));
}

TEST_HARNESS_MAIN
