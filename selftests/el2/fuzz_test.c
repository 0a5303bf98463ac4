// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two threads make hypercalls and RPCs with arguments that are often almost
 * right. The monitor must survive, and all must be as before once the VM is
 * gone.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "vm_util.h"

#define ROUNDS			30000
#define NR_PAGES		8

FIXTURE(fuzz) {
	struct el2 el2;
	struct vm vm;
	uint64_t pa;
};

FIXTURE_SETUP(fuzz)
{
	ASSERT_TRUE(el2_open(&self->el2));
	ASSERT_TRUE(vm_create(&self->vm, &self->el2));
	ASSERT_EQ(0, vm_start(&self->vm));
	self->pa = el2_alloc(&self->el2, 3, NULL);
	ASSERT_NE(0, self->pa);
}

FIXTURE_TEARDOWN(fuzz)
{
	EXPECT_TRUE(vm_destroy(&self->vm));
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

/*
 * A random value. Physical addresses are the test's pages or outside the host's
 * RAM.
 */
static uint64_t anything(const struct vm *vm, uint64_t pa, unsigned int *seed)
{
	const uint64_t values[] = {
		vm->addrspace,
		vm->vcpu,
		vm->extents[0],
		vm->extents[1],
		vm->extents[2],
		vm->extents[3],
		pa,
		pa + 1,
		EL2_PAGE_SIZE,
		EL2_PAGE_SIZE - 1,
		PAGED_GPA,
		IMAGE_GPA,
		ATTRS_RWX,
		0,
		1,
		2,
		3,
		4,
		5,
		255,
		3 | NOSYNC,
		1 | NOSYNC,
		UINT64_MAX,
		-EL2_PAGE_SIZE,
		1ULL << 63,
		1ULL << 39,
		1ULL << 38,
		vm->el2->ram_end,
		0x40200000,
		vm->el2->buffer_va,
		0x4000,
	};

	return values[rand_r(seed) % (sizeof(values) / sizeof(*values))];
}

enum kind {
	ZERO,
	ADDRSPACE,
	EXTENT,
	VCPU,
	GPA,
	PA,
	SIZE,
	ATTRS,
	ACCESS,
	FLAGS,
	TYPE,
	OP
};

/* A random argument, mostly of the right kind. */
static uint64_t argument(const struct vm *vm, enum kind what, uint64_t pa,
			 unsigned int *seed)
{
	static const uint64_t attrs[] = { ATTRS_RWX, ATTRS_RW, ATTRS_RX,
					  0x50077 };
	static const uint64_t flags[] = { 3, 5, 3 | NOSYNC, 5 | NOSYNC };
	static const uint64_t types[] = { 2,	      3,	  4, 2, 3, 4,
					  2 | NOSYNC, 4 | NOSYNC, 0, 1, 5 };
	static const uint64_t ops[] = { 0,   1 | NOSYNC, 2 | NOSYNC, 3 | NOSYNC,
					255, 1,		 4 };
	uint32_t n = rand_r(seed) >> 4;

	if (n % 16 == 0)
		return anything(vm, pa, seed);
	n >>= 4;
	switch (what) {
	case ADDRSPACE:
		return vm->addrspace;
	case EXTENT:
		return vm->extents[n % 4];
	case VCPU:
		return vm->vcpu;
	case GPA:
		return PAGED_GPA + n % 4 * EL2_PAGE_SIZE;
	case PA:
		return pa + n % 4 * EL2_PAGE_SIZE;
	case SIZE:
		return (n % 8 ? 1 : n / 8 % 5) * EL2_PAGE_SIZE;
	case ATTRS:
		return attrs[n % 4];
	case ACCESS:
		return attrs[n % 3] & 0x77;
	case FLAGS:
		return flags[n % 4];
	case TYPE:
		return types[n % (sizeof(types) / sizeof(*types))];
	case OP:
		return ops[n % (sizeof(ops) / sizeof(*ops))];
	default:
		return 0;
	}
}

static const struct {
	uint64_t n;
	enum kind kinds[8];
} calls[] = {
	{ 0x61, { TYPE, EXTENT, EXTENT, PA, SIZE } },
	{ 0x61, { TYPE, EXTENT, EXTENT, PA, SIZE } },
	{ 0x61, { TYPE, EXTENT, EXTENT, PA, SIZE } },
	{ 0x2b, { ADDRSPACE, EXTENT, GPA, ATTRS, FLAGS, PA, SIZE } },
	{ 0x2b, { ADDRSPACE, EXTENT, GPA, ATTRS, FLAGS, PA, SIZE } },
	{ 0x2c, { ADDRSPACE, EXTENT, GPA, FLAGS, PA, SIZE } },
	{ 0x2c, { ADDRSPACE, EXTENT, GPA, FLAGS, PA, SIZE } },
	{ 0x2d, { ADDRSPACE, EXTENT, GPA, ACCESS, FLAGS, PA, SIZE } },
	{ 0x5a, { ADDRSPACE, EXTENT, GPA, SIZE } },
	{ 0x30, { EXTENT, OP, PA, SIZE } },
	{ 0x65, { VCPU } },
	{ 0x12, { EXTENT } },
	{ 0x60, { ADDRSPACE, GPA, SIZE } },
	{ 0x1ff, { } },
};

#define NR_CALLS		(sizeof(calls) / sizeof(*calls))

struct fuzzer {
	struct vm *vm;
	uint64_t pa;
	unsigned int seed;
	uint64_t succeeded[NR_CALLS];
};

static void *make_hypercalls(void *arg)
{
	struct fuzzer *fuzzer = arg;
	uint64_t x[9];

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t call = (rand_r(&fuzzer->seed) >> 4) % NR_CALLS;

		x[0] = GUNYAH(calls[call].n);
		for (int j = 0; j < 8; j++)
			x[1 + j] = argument(fuzzer->vm, calls[call].kinds[j],
					    fuzzer->pa, &fuzzer->seed);
		fuzzer->succeeded[call] += !el2_call(fuzzer->vm->el2, x);
	}
	return NULL;
}

static void make_rpcs(struct vm *vm, uint64_t pa, unsigned int seed)
{
	static const uint32_t ids[] = {
		RM_MEM_LEND,
		RM_MEM_SHARE,
		RM_MEM_RECLAIM,
		RM_MEM_APPEND,
		RM_VM_START,
		RM_VM_CONFIG_IMAGE,
		RM_VM_INIT,
		RM_VM_GET_RESOURCES,
		RM_VM_SET_BOOT_CONTEXT,
		RM_VM_SET_DEMAND_PAGING,
		RM_VM_SET_ADDRESS_LAYOUT,
		RM_VM_ALLOC_VMID,
		0x12345678,
	};
	uint64_t payload[8];

	for (int i = 0; i < ROUNDS / 20; i++) {
		for (int j = 0; j < 8; j++)
			payload[j] = anything(vm, pa, &seed);
		memcpy(payload, &vm->vmid, rand_r(&seed) % 3);
		rpc(&vm->rpc, ids[rand_r(&seed) % (sizeof(ids) / sizeof(*ids))],
		    payload, rand_r(&seed) % (sizeof(payload) + 1));
	}
}

/* Undo all that may have happened to the pages. */
static void undo(struct vm *vm, uint64_t pa)
{
	struct el2_page page;

	for (int i = 0; i < NR_PAGES; i++) {
		uint64_t at = pa + i * EL2_PAGE_SIZE;

		for (int extent = GUEST_PRIVATE; extent <= GUEST_SHARED;
		     extent += 3) {
			page = el2_page_at(vm->el2, at);
			vm_unmap(vm, extent, page.gpa,
				 extent ? PARTIAL_VMMIO : PARTIAL_PRIVATE, at,
				 EL2_PAGE_SIZE);
		}
		if (page.extent == EL2_EXTENT_PRIVATE)
			vm_donate(vm, FROM_PROTECTED, GUEST_PRIVATE,
				  HOST_PRIVATE, at, EL2_PAGE_SIZE);
		else if (page.extent == EL2_EXTENT_SHARED)
			vm_donate(vm, TO_SIBLING, GUEST_SHARED, HOST_SHARED, at,
				  EL2_PAGE_SIZE);
	}
}

TEST_F(fuzz, all_can_be_undone)
{
	struct fuzzer fuzzer = { .pa = self->pa, .seed = 1 };
	struct el2 other;
	struct vm vm = self->vm;
	struct el2_page page;
	pthread_t thread;

	/* A buffer of its own */
	ASSERT_TRUE(el2_open(&other));
	vm.el2 = &other;
	fuzzer.vm = &vm;
	ASSERT_EQ(0, pthread_create(&thread, NULL, make_hypercalls, &fuzzer));
	make_rpcs(&self->vm, self->pa, 2);
	pthread_join(thread, NULL);
	/* With extents, each call must have succeeded often. */
	for (unsigned int i = 0; i < NR_CALLS; i++) {
		if (!is_public(&self->vm) &&
		    strchr("\x61\x2b\x2c\x2d\x5a\x30", calls[i].n))
			EXPECT_LT(5, fuzzer.succeeded[i]);
	}

	for (uint32_t vmid = 0x80; vmid < 0xc0; vmid++) {
		if (vmid != self->vm.vmid)
			rpc_vmid(&self->vm.rpc, RM_VM_DEALLOC_VMID, vmid);
	}
	if (!is_public(&self->vm)) {
		undo(&self->vm, self->pa);
		/* UNMAP_ALL may have unmapped the image, too. */
		page = el2_page_at(&self->el2, self->vm.image_pa);
		if (page.gpa == EL2_NO_ADDR)
			vm_map(&self->vm, GUEST_PRIVATE, IMAGE_GPA, ATTRS_RWX,
			       PARTIAL_PRIVATE, self->vm.image_pa,
			       EL2_PAGE_SIZE);
	}
	EXPECT_EQ(self->vm.image_size / EL2_PAGE_SIZE,
		  el2_stats(&self->el2).pages);
	el2_close(&other);
}

TEST_HARNESS_MAIN
