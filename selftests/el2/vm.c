// SPDX-License-Identifier: GPL-2.0-only
/* VMs: their parts and their life. */
#include "bell.h"
#include "cap.h"
#include "control.h"
#include "guest_tree.h"
#include "parcel.h"
#include "rm.h"
#include "rm_messages.h"
#include "vm.h"

static struct vm vms[MAX_VMS];

static u32 number(const struct vm *vm)
{
	return vm - vms;
}

struct vm *vm_find(u16 vmid)
{
	struct vm *vm;

	if (vmid < VMID_FIRST || vmid >= VMID_FIRST + MAX_VMS)
		return NULL;
	vm = &vms[vmid - VMID_FIRST];
	return vm->state == VM_NONE ? NULL : vm;
}

/* Extents 1 and 2 are the first VM's, 3 and 4 the next one's. */
struct extent *vm_extent(u8 id)
{
	struct vm *vm = &vms[(id - 1) / 2];

	return (id - 1) % 2 ? &vm->shared : &vm->private;
}

u64 nr_vms(void)
{
	u64 n = 0;

	for (struct vm *vm = vms; vm < vms + MAX_VMS; vm++)
		n += vm->state != VM_NONE;
	return n;
}

struct vm *vm_next(struct vm *vm)
{
	for (vm = vm ? vm + 1 : vms; vm < vms + MAX_VMS; vm++) {
		if (vm->state != VM_NONE)
			return vm;
	}
	return NULL;
}

bool vm_is_live(const struct vm *vm)
{
	return vm->state == VM_RUNNING || vm->state == VM_EXITED;
}

bool vm_has_memory(const struct vm *vm)
{
	return vm->stage2.root;
}

void vm_set_state(struct vm *vm, enum vm_state state)
{
	const struct {
		u16 vmid, reserved;
		u8 vm_status, os_status;
		u16 app_status;
	} payload = { .vmid = vm->vmid, .vm_status = state };

	vm->state = state;
	rm_notify(RM_VM_STATUS, &payload, sizeof(payload));
}

struct vm *vm_alloc(u16 vmid)
{
	u32 n = rm_is_public() ? MAX_PUBLIC_VMS : MAX_VMS;

	for (struct vm *vm = vms; vm < vms + n; vm++) {
		if (vm->state != VM_NONE ||
		    (vmid && vmid != VMID_FIRST + number(vm)))
			continue;
		memset(vm, 0, sizeof(*vm));
		vm->vmid = VMID_FIRST + number(vm);
		vm->state = VM_LOAD;
		return vm;
	}
	return NULL;
}

static void free_ranges(struct vm *vm)
{
	if (vm->ranges)
		free_page(vm->ranges);
	vm->ranges = NULL;
	vm->nr_ranges = 0;
}

u32 vm_dealloc(struct vm *vm)
{
	if (vm->state != VM_LOAD && vm->state != VM_RESET)
		return RM_VM_STATE;
	/* Keep the VMID while memory belongs to it. */
	if (vm->private.nr_owned || vm->shared.nr_owned ||
	    parcel_names_vm(vm->vmid))
		return RM_BUSY;
	free_ranges(vm);
	vm->state = VM_NONE;
	return RM_OK;
}

static void init_extent(struct extent *extent, struct vm *vm, u8 kind)
{
	extent->id = 1 + 2 * number(vm) + (kind == EL2_EXTENT_SHARED);
	extent->kind = kind;
	extent->vm = vm;
}

static bool add_cap(struct vm *vm, enum vm_resource type, u8 label,
		    void *object)
{
	static const struct {
		enum cap_type type;
		u8 rights;
	} kinds[] = {
		[RESOURCE_VCPU] = { CAP_VCPU, VCPU_RUN },
		[RESOURCE_EXTENT] = { CAP_EXTENT, EXTENT_MAP | EXTENT_LOOKUP |
							  EXTENT_DONATE },
		[RESOURCE_ADDRSPACE] = { CAP_ADDRSPACE,
					 ADDRSPACE_MAP | ADDRSPACE_LOOKUP },
	};
	struct vm_cap *cap = &vm->caps[vm->nr_caps];

	cap->type = type;
	cap->label = label;
	if (!cap_create(kinds[type].type, kinds[type].rights, label, object,
			&cap->id))
		return false;
	vm->nr_caps++;
	return true;
}

static bool add_vcpu_caps(struct vm *vm)
{
	/* Otherwise, the hypervisor would schedule the vCPUs by itself. */
	if (rm_is_public() && !vm->config.proxy)
		return true;
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		if (!add_cap(vm, RESOURCE_VCPU, i, &vm->vcpus[i]))
			return false;
	}
	return true;
}

bool vm_add_caps(struct vm *vm)
{
	if (!add_vcpu_caps(vm))
		return false;
	if (!bells_add(vm))
		return false;
	return rm_is_public() ||
	       (add_cap(vm, RESOURCE_EXTENT, LABEL_GUEST_PRIVATE,
			&vm->private) &&
		add_cap(vm, RESOURCE_EXTENT, LABEL_HOST_SHARED, &host_extent) &&
		add_cap(vm, RESOURCE_EXTENT, LABEL_HOST_PRIVATE,
			&host_extent) &&
		add_cap(vm, RESOURCE_EXTENT, LABEL_GUEST_SHARED, &vm->shared) &&
		add_cap(vm, RESOURCE_ADDRSPACE, 0, vm));
}

void vm_revoke_caps(struct vm *vm)
{
	for (u32 i = 0; i < vm->nr_caps; i++)
		cap_revoke(vm->caps[i].id);
	vm->nr_caps = 0;
	bells_remove(vm);
}

/* Undo vm_init(). An extent keeps its pages. */
static void tear_down(struct vm *vm)
{
	vm_revoke_caps(vm);
	if (!vm_has_memory(vm))
		return;
	parcels_unplace(vm);
	memdb_unmap_all(&vm->private);
	memdb_unmap_all(&vm->shared);
	stage2_destroy(&vm->stage2);
}

void vm_init_vcpus(struct vm *vm)
{
	vm->nr_vcpus = vm->config.nr_cpus ?: 1;
	vgic_init(vm, vm->config.gic_dist, vm->config.gic_redist);
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		vm->vcpus[i].vm = vm;
		vm->vcpus[i].index = i;
		vcpu_init(&vm->vcpus[i], 0, 0);
		vm->vcpus[i].off = i;
	}
}

bool vm_is_running(const struct vm *vm)
{
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		if (vm->vcpus[i].running)
			return true;
	}
	return false;
}

u32 vm_init(struct vm *vm)
{
	u32 error = RM_NOMEM;
	u64 image = 0;

	if (vm->state != VM_INIT)
		return RM_VM_STATE;
	init_extent(&vm->private, vm, EL2_EXTENT_PRIVATE);
	init_extent(&vm->shared, vm, EL2_EXTENT_SHARED);
	/*
	 * A tree that the public one refuses is a guest's without interrupts.
	 */
	if (guest_tree_read(vm))
		memset(&vm->config, 0, sizeof(vm->config));
	vm_init_vcpus(vm);
	if (!stage2_init(&vm->stage2, vm->vmid) && vm_add_caps(vm))
		error = parcels_place(vm, &image);
	if (error) {
		tear_down(vm);
		vm_set_state(vm, VM_INIT_FAILED);
		return error;
	}
	vcpu_init(&vm->vcpus[0], image + vm->place.image_offset,
		  image + vm->place.dtb_offset);
	vm_set_state(vm, VM_READY);
	return RM_OK;
}

u32 vm_start(struct vm *vm)
{
	if (vm->state != VM_READY)
		return RM_VM_STATE;
	/* From here on, the image is like any other memory of the guest. */
	if (!rm_is_public())
		parcel_to_extent(vm);
	vm_set_state(vm, VM_RUNNING);
	return RM_OK;
}

void vm_exited(struct vm *vm, enum vm_exit_type type)
{
	const struct {
		u16 vmid, type;
		u32 reason_size;
	} payload = { .vmid = vm->vmid, .type = type };

	vm->stopping = false;
	vm->end = 0;
	for (u32 i = 0; i < vm->nr_vcpus; i++)
		vm->vcpus[i].state = type == EXIT_RESET ? VCPU_SYSTEM_RESET :
							  VCPU_POWERED_OFF;
	rm_notify(RM_VM_EXITED, &payload, sizeof(payload));
	vm_set_state(vm, VM_EXITED);
}

u32 vm_stop(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return RM_VM_STATE;
	if (vm_is_running(vm)) {
		vm->stopping = true;
		vcpus_kick(vm, NULL);
	} else {
		vm_exited(vm, EXIT_FORCED);
	}
	return RM_OK;
}

u32 vm_reset(struct vm *vm)
{
	if (vm->state == VM_RUNNING || vm->state == VM_RESET)
		return RM_VM_STATE;
	vm_set_state(vm, VM_RESETTING);
	tear_down(vm);
	free_ranges(vm);
	vm_set_state(vm, VM_RESET);
	return RM_OK;
}

bool vm_demand_paged(const struct vm *vm, u64 gpa)
{
	for (u32 i = 0; i < vm->nr_ranges; i++) {
		if (gpa - vm->ranges[i].base < vm->ranges[i].size)
			return true;
	}
	return false;
}
