// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the public Gunyah puts a VM's memory. Each test has the number of the
 * fact that it shows; public_test.c and public_memory_test.c have the others.
 */
#include "public_util.h"

TEST_F(public, r02_tree_places_the_image)
{
	struct vm *vm = &self->vm;
	/* Aligned up to 2 MiB */
	const struct guest_dt dt = { .base = IMAGE_GPA + EL2_PAGE_SIZE };

	ASSERT_TRUE(start_with(vm, &self->el2, &dt));
	EXPECT_EQ(IMAGE_GPA + 0x200000, gpa_of(vm, vm->image_pa));
	EXPECT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_READ, IMAGE_GPA + 0x200000, 0));
	EXPECT_EQ(IMAGE_GPA + 0x200000 + EL2_PAGE_SIZE,
		  el2_peek(&self->el2, vm->image_pa + AGENT_FIRST_X0));
}

/* The offsets are in the image's parcel. */
TEST_F(public, r02_image_is_all_of_its_parcel)
{
	struct vm *vm = &self->vm;
	uint8_t payload[40] = { };

	ASSERT_TRUE(vm_prepare(vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, vm_lend_image(vm));
	memcpy(payload, &vm->vmid, 2);
	memcpy(payload + 4, &vm->image_handle, 4);
	memcpy(payload + 8, (uint64_t [4]){
		0, EL2_PAGE_SIZE, EL2_PAGE_SIZE, EL2_PAGE_SIZE + 1,
	}, 32);
	EXPECT_EQ(RM_ARG_INVALID, rpc(&vm->rpc, RM_VM_CONFIG_IMAGE, payload,
				      sizeof(payload)));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
}

TEST_F(public, r03_start_accepts_parcels)
{
	struct vm *vm = &self->vm;

	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &plain_dt));
	EXPECT_EQ(EL2_NO_ADDR, gpa_of(vm, vm->image_pa));
	EXPECT_EQ(0, el2_page_at(&self->el2, vm->image_pa).host_access);
	/* So the host may take it back, and the start fails. */
	EXPECT_EQ(0, rpc_reclaim(&vm->rpc, vm->image_handle, 0));
	EXPECT_EQ(RM_NORESOURCE, vm_start(vm));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
}

TEST_F(public, r04_shm_is_where_the_tree_says)
{
	struct vm *vm = &self->vm;
	const struct guest_dt_shm shm = { SHM_LABEL, SHM_GPA, false };
	const struct guest_dt dt = { .base = IMAGE_GPA, .shm = &shm,
				     .nr_shm = 1 };
	const struct parcel_acl acl[] = { { 0, 6, 0 }, { 3, 6, 0 } };
	struct parcel_acl mine[2];
	struct parcel_range ranges[2];
	uint8_t payload[96];
	uint64_t *page;

	/* Two pieces, the second page first */
	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 1));
	memcpy(mine, acl, sizeof(mine));
	ranges[0] = (struct parcel_range) { self->extra.pa + EL2_PAGE_SIZE,
					    EL2_PAGE_SIZE };
	ranges[1] = (struct parcel_range) { self->extra.pa, EL2_PAGE_SIZE };
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &dt));
	mine[0].vmid = vm->vmid;
	ASSERT_EQ(0, rpc(&vm->rpc, RM_MEM_SHARE, payload,
			 parcel_payload(payload, 0, SHM_LABEL, mine, 2, ranges,
					2)));
	self->extra.handle = rpc_handle(&vm->rpc);
	ASSERT_EQ(1, vm_resources(vm));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(SHM_GPA, gpa_of(vm, self->extra.pa + EL2_PAGE_SIZE));
	EXPECT_EQ(SHM_GPA + EL2_PAGE_SIZE, gpa_of(vm, self->extra.pa));
	page = el2_map(&self->el2, self->extra.pa, EL2_PAGE_SIZE);
	ASSERT_NE(NULL, page);
	EXPECT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_WRITE, SHM_GPA + EL2_PAGE_SIZE, 42));
	EXPECT_EQ(42, *page);
	munmap(page, EL2_PAGE_SIZE);
	EXPECT_TRUE(tree_has(vm, "qcom,shared-memory"));
}

TEST_F(public, r04_shm_needs_its_parcel)
{
	const struct guest_dt_shm shm = { SHM_LABEL, SHM_GPA, false };
	const struct guest_dt dt = { .base = IMAGE_GPA, .shm = &shm,
				     .nr_shm = 1 };

	ASSERT_EQ(0, vm_init_with(&self->vm, &self->el2, &dt));
	EXPECT_EQ(RM_NORESOURCE, vm_start(&self->vm));
}

TEST_F(public, r04_shm_may_be_optional)
{
	const struct guest_dt_shm shm = { SHM_LABEL, SHM_GPA, true };
	const struct guest_dt dt = { .base = IMAGE_GPA, .shm = &shm,
				     .nr_shm = 1 };

	ASSERT_EQ(0, vm_init_with(&self->vm, &self->el2, &dt));
	EXPECT_EQ(0, vm_start(&self->vm));
}

/* The place is in use, so the start fails. */
TEST_F(public, r04_shm_must_be_free)
{
	const struct guest_dt_shm shm = { SHM_LABEL, IMAGE_GPA, false };
	const struct guest_dt dt = { .base = IMAGE_GPA, .shm = &shm,
				     .nr_shm = 1 };

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 0));
	ASSERT_EQ(0, vm_init_with(&self->vm, &self->el2, &dt));
	ASSERT_EQ(0, extra_give(&self->vm, &self->extra, SHM_LABEL, 6, true));
	EXPECT_EQ(RM_NORESOURCE, vm_start(&self->vm));
}

static void add_reserved(struct dt *dt)
{
	dt_node(dt, "reserved-memory");
	dt_u32(dt, "#address-cells", 2);
	dt_u32(dt, "#size-cells", 2);
	dt_flag(dt, "ranges");
	dt_node(dt, "ring@c0000000");
	dt_range(dt, "reg", SHM_GPA, 2 * EL2_PAGE_SIZE);
	dt_u32(dt, "qcom,label", SHM_LABEL);
	dt_end_node(dt);
	dt_end_node(dt);
}

TEST_F(public, r04_reserved_memory_takes_one_run)
{
	struct vm *vm = &self->vm;
	const struct guest_dt dt = { .base = IMAGE_GPA, .add = add_reserved };

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 1));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &dt));
	ASSERT_EQ(0, extra_give(vm, &self->extra, SHM_LABEL, 6, true));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(SHM_GPA, gpa_of(vm, self->extra.pa));
	EXPECT_TRUE(tree_has(vm, "qcom,rm-mem-handle"));
}

TEST_F(public, r04_reserved_memory_takes_no_pieces)
{
	struct vm *vm = &self->vm;
	const struct guest_dt dt = { .base = IMAGE_GPA, .add = add_reserved };
	struct parcel_acl acl = { .access = 6 };
	struct parcel_range ranges[2];
	uint8_t payload[96];

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 1));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &dt));
	acl.vmid = vm->vmid;
	for (int i = 0; i < 2; i++)
		ranges[i] = (struct parcel_range) {
			self->extra.pa + (1 - i) * EL2_PAGE_SIZE, EL2_PAGE_SIZE,
		};
	ASSERT_EQ(0, rpc(&vm->rpc, RM_MEM_LEND, payload,
			 parcel_payload(payload, 0, SHM_LABEL, &acl, 1, ranges,
					2)));
	self->extra.handle = rpc_handle(&vm->rpc);
	EXPECT_EQ(RM_NORESOURCE, vm_start(vm));
}

TEST_F(public, r04_reserved_memory_needs_its_parcel)
{
	const struct guest_dt dt = { .base = IMAGE_GPA, .add = add_reserved };

	ASSERT_EQ(0, vm_init_with(&self->vm, &self->el2, &dt));
	EXPECT_EQ(RM_NORESOURCE, vm_start(&self->vm));
}

/* Each piece is at the lowest address with room: behind the info page. */
TEST_F(public, r04_others_are_at_the_lowest_address)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 1));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &plain_dt));
	ASSERT_EQ(0, extra_give(vm, &self->extra, SHM_LABEL, 6, false));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(INFO_GPA + EL2_PAGE_SIZE, gpa_of(vm, self->extra.pa));
	EXPECT_TRUE(tree_has_u64(vm, INFO_GPA + EL2_PAGE_SIZE));
}

TEST_F(public, r04_pieces_are_scattered_around_the_image)
{
	/* There are 511 free pages between the info page and the image. */
	const struct guest_dt dt = { .base = INFO_GPA + 0x200000 };
	const uint64_t sizes[] = { 500, 20, 5 };
	struct parcel_acl acl = { .access = 6 };
	struct vm *vm = &self->vm;
	struct parcel_range ranges[3];
	uint8_t payload[128];
	uint64_t pa, behind;

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 10));
	pa = self->extra.pa;
	for (int i = 0; i < 3; i++) {
		ranges[i] = (struct parcel_range) { pa,
						    sizes[i] * EL2_PAGE_SIZE };
		pa += ranges[i].size;
	}
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &dt));
	acl.vmid = vm->vmid;
	ASSERT_EQ(0, rpc(&vm->rpc, RM_MEM_LEND, payload,
			 parcel_payload(payload, 0, SHM_LABEL, &acl, 1, ranges,
					3)));
	self->extra.handle = rpc_handle(&vm->rpc);
	ASSERT_EQ(1, vm_resources(vm));
	ASSERT_EQ(0, vm_start(vm));
	EXPECT_EQ(INFO_GPA + EL2_PAGE_SIZE, gpa_of(vm, ranges[0].pa));
	/* The next piece doesn't fit there, and the last one does. */
	behind = dt.base + vm->image_size;
	EXPECT_EQ(behind, gpa_of(vm, ranges[1].pa));
	EXPECT_EQ(INFO_GPA + 501 * EL2_PAGE_SIZE, gpa_of(vm, ranges[2].pa));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_WRITE, behind, 42));
	EXPECT_EQ(42, el2_peek(&self->el2, ranges[1].pa));
	EXPECT_TRUE(tree_has_u64(vm, behind));
}

TEST_F(public, r05_some_addresses_are_taken)
{
	const uint64_t bases[] = {
		/* MMIO, twice; the info page */
		0, 0x3fe00000, INFO_GPA,
	};
	struct vm *vm = &self->vm;

	for (unsigned int i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
		const struct guest_dt dt = { .base = bases[i] };

		ASSERT_EQ(0, vm_init_with(vm, &self->el2, &dt));
		EXPECT_EQ(RM_NORESOURCE, vm_start(vm)) {
			TH_LOG("case %u", i);
		}
		EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
		ASSERT_TRUE(vm_destroy(vm));
	}
	self->no_vm = true;
}

TEST_F(public, r05_guests_have_36_bits)
{
	const struct guest_dt_shm shm = { SHM_LABEL, (1ULL << 36) - 4096,
					  false };
	const struct guest_dt dt = { .base = (1ULL << 36) - 0x200000 };
	const struct guest_dt outside = { .base = 1ULL << 36 };
	const struct guest_dt across = { .base = IMAGE_GPA, .shm = &shm,
					 .nr_shm = 1 };
	struct vm *vm = &self->vm;

	ASSERT_TRUE(start_with(vm, &self->el2, &dt));
	EXPECT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_READ, (1ULL << 36) - 0x200000, 0));
	ASSERT_TRUE(vm_destroy(vm));

	/* VM_INIT already knows that the base isn't an address. */
	EXPECT_EQ(RM_ARG_INVALID, vm_init_with(vm, &self->el2, &outside));
	EXPECT_EQ(VM_STATE_INIT_FAILED, vm_state(vm));
	ASSERT_TRUE(vm_destroy(vm));

	ASSERT_TRUE(extra_alloc(&self->el2, &self->extra, 1));
	ASSERT_EQ(0, vm_init_with(vm, &self->el2, &across));
	ASSERT_EQ(0, extra_give(vm, &self->extra, SHM_LABEL, 6, false));
	EXPECT_EQ(RM_NORESOURCE, vm_start(vm));
}

TEST_F(public, r05_info_page_is_read_only)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(start_with(vm, &self->el2, &plain_dt));
	EXPECT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, INFO_GPA, 0));
	EXPECT_EQ(0, vm_answer(vm));
	EXPECT_EQ(VCPU_FAULT, vm_tell(vm, AGENT_WRITE, INFO_GPA, 1));
}

TEST_HARNESS_MAIN
