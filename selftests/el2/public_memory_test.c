// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM's device tree and memory under the public Gunyah. Each test has the
 * number of the fact that it shows; public_test.c and public_place_test.c have
 * the others.
 */
#include <signal.h>

#include "public_util.h"

static void add_bad_memory(struct dt *dt)
{
	dt_node(dt, "memory@80000000");
	dt_string(dt, "device_type", "memory");
	dt_range(dt, "reg", IMAGE_GPA, EL2_PAGE_SIZE);
	dt_end_node(dt);
}

static void add_good_memory(struct dt *dt)
{
	dt_node(dt, "memory");
	dt_string(dt, "device_type", "memory");
	dt_range(dt, "reg", 0, EL2_PAGE_SIZE);
	dt_end_node(dt);
}

static void add_hypervisor(struct dt *dt)
{
	dt_node(dt, "hypervisor");
	dt_end_node(dt);
}

TEST_F(public, r06_tree_is_parsed)
{
	const struct {
		struct guest_dt dt;
		int64_t init, start;
	} cases[] = {
		{ { .no_name = true }, RM_MEM_INVALID, 0 },
		/* Another affinity needs a map, and has no vCPU for the host. */
		{ { .no_proxy = true }, RM_MEM_INVALID, 0 },
		{ { .add = add_bad_memory }, RM_MEM_INVALID, 0 },
		{ { .no_config = true }, RM_NORESOURCE, 0 },
		{ { .add = add_good_memory }, 0, 0 },
		{ { .add = add_hypervisor }, 0, RM_NORESOURCE },
		/* Not in any list of requirements, but patched all the same */
		{ { .no_chosen = true }, 0, RM_NORESOURCE },
		{ { .no_gic = true }, 0, RM_NORESOURCE },
	};
	struct vm *vm = &self->vm;

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct guest_dt dt = cases[i].dt;

		dt.base = IMAGE_GPA;
		EXPECT_EQ(cases[i].init, vm_init_with(vm, &self->el2, &dt)) {
			TH_LOG("case %u", i);
		}
		if (cases[i].init) {
			EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
		} else {
			EXPECT_EQ(cases[i].start, vm_start(vm)) {
				TH_LOG("case %u", i);
			}
		}
		ASSERT_TRUE(vm_destroy(vm));
	}
	self->no_vm = true;
}

/* Change single bytes of the tree: nothing but the VM may suffer. */
TEST_F(public, r06_bad_trees_hurt_only_their_vm)
{
	struct vm *vm = &self->vm;
	struct rpc *r = &vm->rpc;
	uint8_t *image;

	ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
	image = el2_map(&self->el2, vm->image_pa, vm->image_size);
	ASSERT_NE(NULL, image);
	el2_setting(&self->el2, EL2_REPLY_US, 0);
	/* The magic number; its size; the offsets, and the first tokens */
	for (int i = 0; i < 300; i += i < 80 ? 1 : 3) {
		uint8_t *byte = image + EL2_PAGE_SIZE + i, before = *byte;
		int64_t error;

		*byte ^= i % 2 ? 0xff : 0x41;
		ASSERT_EQ(0, vm_lend_image(vm));
		ASSERT_EQ(0, vm_config_image(vm));
		error = rpc_vmid(r, RM_VM_INIT, vm->vmid);
		if (i < 4)
			EXPECT_EQ(RM_MEM_INVALID, error);
		if (!error)
			error = vm_start(vm);
		if (!error)
			ASSERT_EQ(0, vm_stop(vm));
		ASSERT_EQ(0, rpc_vmid(r, RM_VM_RESET, vm->vmid));
		ASSERT_TRUE(vm_wait_state(vm, VM_STATE_RESET));
		ASSERT_EQ(0, rpc_reclaim(r, vm->image_handle, 0));
		ASSERT_LT(0, guest_dt_write(image + EL2_PAGE_SIZE,
					    EL2_PAGE_SIZE, &plain_dt));
		ASSERT_EQ(before, *byte);
	}
	munmap(image, vm->image_size);
}

TEST_F(public, r07_start_rewrites_the_tree)
{
	struct vm *vm = &self->vm;
	uint32_t before, after;

	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &plain_dt));
	memcpy(&before, read_tree(vm) + 4, 4);
	EXPECT_FALSE(tree_has(vm, "qcom,gunyah-vm"));
	ASSERT_EQ(0, vm_start(vm));
	memcpy(&after, read_tree(vm) + 4, 4);
	EXPECT_LT(be32toh(before), be32toh(after));
	EXPECT_TRUE(tree_has(vm, "qcom,gunyah-vm"));
	EXPECT_TRUE(tree_has(vm, "reserved-memory"));
	EXPECT_TRUE(tree_has(vm, "vsoc"));
	EXPECT_TRUE(tree_has(vm, "kaslr-seed"));
	EXPECT_TRUE(tree_has(vm, "device_type"));
	EXPECT_TRUE(tree_has_u64(vm, IMAGE_GPA));
	EXPECT_TRUE(tree_has_u64(vm, vm->image_size));
}

/* The region is as large as the tree, which has to grow. */
TEST_F(public, r07_rewriting_needs_spare_room)
{
	struct vm *vm = &self->vm;
	uint8_t payload[40] = { };
	uint32_t size;

	ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
	memcpy(&size, read_tree(vm) + 4, 4);
	size = be32toh(size);
	ASSERT_EQ(0, vm_lend_image(vm));
	memcpy(payload, &vm->vmid, 2);
	memcpy(payload + 4, &vm->image_handle, 4);
	memcpy(payload + 8,
	       (uint64_t [4]){ 0, EL2_PAGE_SIZE, EL2_PAGE_SIZE, size }, 32);
	ASSERT_EQ(0, rpc(&vm->rpc, RM_VM_CONFIG_IMAGE, payload,
			 sizeof(payload)));
	ASSERT_EQ(0, rpc_vmid(&vm->rpc, RM_VM_INIT, vm->vmid));
	EXPECT_EQ(RM_NORESOURCE, vm_start(vm));
}

TEST_F(public, r10_running_guest_gets_nothing)
{
	struct vm *vm = &self->vm;
	struct el2_page page;
	uint64_t *mapped;

	ASSERT_TRUE(start_with(vm, &self->el2, &plain_dt));
	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 0));
	mapped = el2_map(&self->el2, self->extra.pa, EL2_PAGE_SIZE);
	ASSERT_NE(NULL, mapped);
	/* The host loses it, and the guest doesn't have it. */
	ASSERT_EQ(0, extra_give(vm, &self->extra, 0, 7, false));
	page = el2_page_at(&self->el2, self->extra.pa);
	EXPECT_EQ(0, page.host_access);
	EXPECT_EQ(0, page.guest_access);
	EXPECT_EQ(EL2_NO_ADDR, page.gpa);
	EXPECT_EQ(SIGBUS, el2_touch(mapped, false));
	/* While the guest runs, it can be taken back. */
	ASSERT_EQ(0, rpc_reclaim(&vm->rpc, self->extra.handle, 0));
	self->extra.handle = NO_HANDLE;
	EXPECT_EQ(0, el2_touch(mapped, true));
	munmap(mapped, EL2_PAGE_SIZE);
	EXPECT_EQ(RM_MEM_INUSE, rpc_reclaim(&vm->rpc, vm->image_handle, 0));
}

/* Where the test's guest has a block for a call, and a message */
#define BLOCK			0x900
#define MESSAGE			0xa00

static void poke(struct vm *vm, uint64_t offset, const void *data, uint32_t n)
{
	const uint64_t *words = data;

	for (uint32_t i = 0; i < n; i += 8)
		el2_hvc(vm->el2, EL2_POKE, vm->image_pa + offset + i,
			words[i / 8]);
}

/* Let the guest send a request. Returns the Resource Manager's error. */
static int64_t guest_request(struct vm *vm, uint32_t id, const void *payload,
			     uint32_t size)
{
	const uint64_t message = IMAGE_GPA + MESSAGE;
	const uint64_t send[] = { HYP_MSGQUEUE_SEND, 2, 8 + size, message, 0 };
	const uint64_t receive[] = { HYP_MSGQUEUE_RECEIVE, 3, message, 240, 0 };
	uint8_t m[240] = { 0x21, 1 };
	uint64_t word;

	memcpy(m + 4, &id, 4);
	memcpy(m + 8, payload, size);
	poke(vm, MESSAGE, m, sizeof(m));
	poke(vm, BLOCK, send, sizeof(send));
	if (vm_tell(vm, AGENT_HVC_BLOCK, IMAGE_GPA + BLOCK, 0) !=
		    VCPU_BLOCKED || vm_answer(vm))
		return RPC_BROKEN;
	poke(vm, BLOCK, receive, sizeof(receive));
	if (vm_tell(vm, AGENT_HVC_BLOCK, IMAGE_GPA + BLOCK, 0) !=
		    VCPU_BLOCKED || vm_answer(vm))
		return RPC_BROKEN;
	word = el2_peek(vm->el2, vm->image_pa + MESSAGE + 8);
	return (uint32_t)word;
}

/* Without an address, the Resource Manager chooses it. */
static int64_t guest_accept(struct vm *vm, uint32_t handle, uint64_t gpa,
			    uint64_t size)
{
	uint8_t payload[44] = { };

	memcpy(payload, &handle, 4);
	/* A share; in one run, and all of it */
	payload[5] = 2;
	payload[6] = 0x90;
	/* No ACL; one range, or none; no attributes */
	if (!gpa)
		return guest_request(vm, RM_MEM_ACCEPT, payload, 24);
	payload[16] = 1;
	memcpy(payload + 20, &gpa, 8);
	memcpy(payload + 28, &size, 8);
	return guest_request(vm, RM_MEM_ACCEPT, payload, 40);
}

/* A guest that asks for it gets what is shared with it while it runs. */
TEST_F(public, r10_guest_accepts_by_itself)
{
	struct vm *vm = &self->vm;
	const struct guest_dt dt = { .base = IMAGE_GPA, .rpc = true };
	uint32_t release[2] = { }, notify[4] = { };

	ASSERT_TRUE(start_with(vm, &self->el2, &dt));
	EXPECT_TRUE(tree_has(vm, "gunyah-resource-manager"));
	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 1));
	ASSERT_EQ(0, extra_give(vm, &self->extra, SHM_LABEL, 6, true));
	/* No such parcel; a place in use; the right one */
	EXPECT_EQ(7, guest_accept(vm, NO_HANDLE, SHM_GPA, self->extra.size));
	EXPECT_EQ(RM_NORESOURCE, guest_accept(vm, self->extra.handle, IMAGE_GPA,
					      self->extra.size));
	ASSERT_EQ(0, guest_accept(vm, self->extra.handle, SHM_GPA,
				  self->extra.size));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_WRITE, SHM_GPA, 42));
	EXPECT_EQ(42, el2_peek(&self->el2, self->extra.pa));
	EXPECT_EQ(RM_MEM_INUSE, rpc_reclaim(&vm->rpc, self->extra.handle, 0));
	/* Only the guest tells the host of that. */
	notify[0] = self->extra.handle;
	notify[1] = 4;
	rpc_drain(&vm->rpc);
	EXPECT_EQ(0, vm->rpc.others);
	EXPECT_EQ(0, guest_request(vm, RM_MEM_NOTIFY, notify, 16));
	rpc_drain(&vm->rpc);
	EXPECT_EQ(1, vm->rpc.others);
	/* It gives the parcel back, and accepts it again somewhere. */
	release[0] = self->extra.handle;
	EXPECT_EQ(0, guest_request(vm, RM_MEM_RELEASE, release, 8));
	EXPECT_EQ(0xc, guest_request(vm, RM_MEM_RELEASE, release, 8));
	ASSERT_EQ(0, guest_accept(vm, self->extra.handle, 0, 0));
	EXPECT_EQ(INFO_GPA + EL2_PAGE_SIZE, gpa_of(vm, self->extra.pa));
	EXPECT_EQ(0, guest_request(vm, RM_MEM_RELEASE, release, 8));
	ASSERT_EQ(0, rpc_reclaim(&vm->rpc, self->extra.handle, 0));
	self->extra.handle = NO_HANDLE;
}

TEST_F(public, r10_only_some_guests_can_ask)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(start_with(vm, &self->el2, &plain_dt));
	EXPECT_EQ(RPC_BROKEN, guest_accept(vm, 0, SHM_GPA, EL2_PAGE_SIZE));
	EXPECT_FALSE(tree_has(vm, "gunyah-resource-manager"));
}

TEST_F(public, r15_abort_goes_to_the_guest)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(start_with(vm, &self->el2, &plain_dt));
	/*
	 * There is MMIO below 1 GiB. Beyond that, the guest's vectors get the
	 * abort; the agent has none, and aborts there for ever.
	 */
	EXPECT_EQ(VCPU_MMIO_READ, vm_tell(vm, AGENT_READ, 0x3ffffff8, 0));
	EXPECT_EQ(0x3ffffff8, vm->data[0]);
	ASSERT_EQ(0, vm_run_with(vm, 5, 0));
	EXPECT_EQ(5, vm_answer(vm));
	EXPECT_EQ(VCPU_MMIO_WRITE, vm_tell(vm, AGENT_WRITE, 8, 6));
	EXPECT_EQ(8, vm->data[0]);
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_FAULT, vm_tell(vm, AGENT_READ, SHM_GPA, 0));
	ASSERT_TRUE(vm_wait_exit(vm));
	EXPECT_EQ(EXIT_SW_ERROR, vm->rpc.exit_type);
}

/* A guest with vectors takes the abort, and goes on. */
TEST_F(public, r15_guest_survives_an_abort)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(start_with(vm, &self->el2, &plain_dt));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_CATCH, SHM_GPA, 0));
	/* The syndrome: a data abort from the same level, synchronous external */
	EXPECT_EQ(0x96000010, vm_answer(vm));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, IMAGE_GPA, 0));
}

TEST_F(public, r17_production_checks_the_images_acl)
{
	const struct {
		uint8_t access;
		bool share, debug;
		int64_t error;
	} cases[] = {
		{ 7, false, false, 0 },
		{ 6, false, false, RM_NORESOURCE },
		{ 7, true, false, RM_NORESOURCE },
		{ 7, true, true, 0 },
	};
	struct vm *vm = &self->vm;

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct extra image;

		el2_setting(&self->el2, EL2_DEBUG_BUILD, cases[i].debug);
		ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
		image = (struct extra) {
			.pa = vm->image_pa, .size = vm->image_size,
		};
		ASSERT_EQ(0, extra_give(vm, &image, 0, cases[i].access,
					cases[i].share));
		vm->image_handle = image.handle;
		ASSERT_EQ(0, vm_config_image(vm));
		ASSERT_EQ(0, rpc_vmid(&vm->rpc, RM_VM_INIT, vm->vmid));
		EXPECT_EQ(cases[i].error, vm_start(vm)) {
			TH_LOG("case %u", i);
		}
		ASSERT_TRUE(vm_destroy(vm));
	}
	self->no_vm = true;
}

/* A label makes a node that Linux must not map, in the tree's list. */
TEST_F(public, r20_label_0_is_memory)
{
	struct vm *vm = &self->vm;

	for (int labelled = 0; labelled < 2; labelled++) {
		struct extra image;

		ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
		image = (struct extra) {
			.pa = vm->image_pa, .size = vm->image_size,
		};
		ASSERT_EQ(0, extra_give(vm, &image, labelled, 7, false));
		vm->image_handle = image.handle;
		ASSERT_EQ(0, vm_config_image(vm));
		ASSERT_EQ(0, rpc_vmid(&vm->rpc, RM_VM_INIT, vm->vmid));
		ASSERT_EQ(0, vm_start(vm));
		EXPECT_EQ(labelled, tree_has(vm, "no-map"));
		EXPECT_EQ(labelled, tree_has(vm, "buffer@80000000"));
		ASSERT_TRUE(vm_destroy(vm));
	}
	self->no_vm = true;
}

/* Other private memory is behind the image, but no such VM starts. */
TEST_F(public, r20_all_memory_is_one_parcel)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 0));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, extra_give(vm, &self->extra, 0, 7, false));
	EXPECT_EQ(RM_DENIED, vm_start(vm));
	EXPECT_EQ(IMAGE_GPA + vm->image_size, gpa_of(vm, self->extra.pa));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
}

TEST_HARNESS_MAIN
