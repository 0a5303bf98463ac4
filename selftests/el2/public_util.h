/* SPDX-License-Identifier: GPL-2.0-only */
/* The fixture of tests on the public platform. */
#ifndef _PUBLIC_UTIL_H
#define _PUBLIC_UTIL_H

#include "vm_util.h"

#define RM_NORESOURCE		2
#define RM_DENIED		3
#define RM_ARG_INVALID		6
#define RM_MEM_INVALID		0xa
#define RM_MEM_INUSE		0xb
#define RM_VM_STATE		0x14
#define RM_UNIMPLEMENTED	0xffffffffLL

/* The page that the Resource Manager shows to the guest */
#define INFO_GPA		0x40000000ULL
#define SHM_GPA			0xc0000000ULL
#define SHM_LABEL		7

#define HYP_BUSY		31

#define PSCI_SYSTEM_OFF		0x84000008
#define PSCI_SYSTEM_RESET	0x84000009
#define PSCI_SYSTEM_RESET2	0x84000012

enum {
	EXIT_OFF = 1, EXIT_RESET, EXIT_RESET2, EXIT_SW_ERROR = 5,
	EXIT_FORCED = 7,
};

/* Another page or more of the test's, for a parcel beside the image */
struct extra {
	uint64_t pa, size;
	uint32_t handle;
};

static const struct guest_dt plain_dt = { .base = IMAGE_GPA };

/* Lend or share all of it: @access is the VM's, and the host's if shared. */
static inline int64_t extra_give(struct vm *vm, struct extra *extra,
				 uint32_t label, uint8_t access, bool share)
{
	const struct parcel_acl acl[] = { { vm->vmid, access, 0 },
					  { 3, access, 0 } };
	const struct parcel_range range = { extra->pa, extra->size };
	uint8_t payload[64];
	int64_t error;

	error = rpc(&vm->rpc, share ? RM_MEM_SHARE : RM_MEM_LEND, payload,
		    parcel_payload(payload, 0, label, acl, 1 + share, &range,
				   1));
	extra->handle = error ? NO_HANDLE : rpc_handle(&vm->rpc);
	return error;
}

static inline bool extra_alloc(struct el2 *el2, struct extra *extra,
			       uint32_t order)
{
	extra->pa = el2_alloc(el2, order, NULL);
	extra->size = EL2_PAGE_SIZE << order;
	extra->handle = NO_HANDLE;
	return extra->pa;
}

/* Prepare a VM up to VM_INIT. Returns the error of that. */
static inline int64_t vm_init_with(struct vm *vm, struct el2 *el2,
				   const struct guest_dt *dt)
{
	if (!vm_prepare(vm, el2, dt) || vm_lend_image(vm) ||
	    vm_config_image(vm))
		return RPC_BROKEN;
	return rpc_vmid(&vm->rpc, RM_VM_INIT, vm->vmid);
}

/* The guest's device tree, which the next call overwrites */
static inline const uint8_t *read_tree(const struct vm *vm)
{
	static uint8_t tree[EL2_PAGE_SIZE];

	for (uint64_t i = 0; i < EL2_PAGE_SIZE; i += 8) {
		uint64_t word = el2_peek(vm->el2,
					 vm->image_pa + EL2_PAGE_SIZE + i);

		memcpy(tree + i, &word, 8);
	}
	return tree;
}

/* Does the tree have these bytes somewhere? */
static inline bool tree_has(const struct vm *vm, const char *text)
{
	return memmem(read_tree(vm), EL2_PAGE_SIZE, text, strlen(text));
}

static inline bool tree_has_u64(const struct vm *vm, uint64_t value)
{
	value = htobe64(value);
	return memmem(read_tree(vm), EL2_PAGE_SIZE, &value, sizeof(value));
}

static inline bool start_with(struct vm *vm, struct el2 *el2,
		       const struct guest_dt *dt)
{
	return !vm_init_with(vm, el2, dt) && vm_resources(vm) == 1 &&
	       !vm_start(vm);
}

static inline uint64_t gpa_of(const struct vm *vm, uint64_t pa)
{
	return el2_page_at(vm->el2, pa).gpa;
}

FIXTURE(public) {
	struct el2 el2;
	struct vm vm;
	struct extra extra;
	/* The test has no VM at its end. */
	bool no_vm;
};

FIXTURE_SETUP(public)
{
	ASSERT_TRUE(el2_open(&self->el2));
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "the public Gunyah alone does this");
	self->extra.handle = NO_HANDLE;
	self->vm = (struct vm) { .el2 = &self->el2, .rpc.el2 = &self->el2 };
}

FIXTURE_TEARDOWN(public)
{
	el2_rule(&self->el2, EL2_RULE_CLEAR, 0, 0, 0);
	if (!self->no_vm)
		EXPECT_TRUE(vm_destroy(&self->vm));
	if (self->extra.handle != NO_HANDLE)
		EXPECT_EQ(0, rpc_reclaim(&self->vm.rpc, self->extra.handle, 0));
	rpc_drain(&self->vm.rpc);
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

#endif /* _PUBLIC_UTIL_H */
