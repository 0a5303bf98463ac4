// SPDX-License-Identifier: GPL-2.0-only
/* The life of VMs under the public Resource Manager. */
#include "accept.h"
#include "guest_tree.h"
#include "public.h"
#include "rm_messages.h"
#include "rule.h"
#include "setting.h"

#define AUTH_NONE		0

/* In x2 of a vCPU that is off: it never runs again. */
#define OFF_EXITED		1

static u32 fail_init(struct vm *vm, u32 error)
{
	vm_set_state(vm, VM_INIT_FAILED);
	return error;
}

static bool is_in(u64 offset, u64 size, u64 all)
{
	return offset <= all && size <= all - offset;
}

static u32 check_image(const struct vm *vm, u16 auth, u32 handle,
		       const struct image_place *place)
{
	struct parcel *parcel = parcel_find(handle);

	if (!parcel || parcel->open || !parcel_entry(parcel, vm->vmid))
		return RM_MEM_INVALID;
	if (!is_in(place->image_offset, place->image_size,
		   parcel_size(parcel)) ||
	    !is_in(place->dtb_offset, place->dtb_size, parcel_size(parcel)))
		return RM_ARG_INVALID;
	/* There is no firmware that could authenticate a VM. */
	return auth == AUTH_NONE ? RM_OK : RM_ARG_INVALID;
}

u32 public_config_image(struct vm *vm, u16 auth, u32 handle,
			const struct image_place *place)
{
	u32 error;

	if (vm->state != VM_LOAD && vm->state != VM_RESET)
		return RM_VM_STATE;
	error = check_image(vm, auth, handle, place);
	if (error)
		return fail_init(vm, error);
	vm->has_image = true;
	vm->image_handle = handle;
	vm->place = *place;
	vm_set_state(vm, VM_INIT);
	return RM_OK;
}

/* The Resource Manager shows the guest a page about itself. */
static u32 add_info_page(struct vm *vm)
{
	vm->info_page = alloc_page();
	if (!vm->info_page ||
	    stage2_prepare(&vm->stage2, GUEST_MMIO_END, PAGE_SIZE))
		return RM_NOMEM;
	stage2_set(&vm->stage2, GUEST_MMIO_END,
		   stage2_pte((u64)vm->info_page, ACCESS_R, MEMTYPE_NORMAL_WB));
	return RM_OK;
}

u32 public_init(struct vm *vm)
{
	u32 error;

	if (vm->state != VM_INIT)
		return RM_VM_STATE;
	error = guest_tree_read(vm);
	if (!error && stage2_init(&vm->stage2, vm->vmid))
		error = RM_NOMEM;
	if (!error)
		error = add_info_page(vm);
	if (!error)
		vm_init_vcpus(vm);
	if (!error && !vm_add_caps(vm))
		error = RM_NOMEM;
	if (error)
		return fail_init(vm, error);
	vm->nr_accepted = 0;
	vm->hint_size = 0;
	vm->halt = (struct halt) { };
	vm->answer_size = 0;
	vm_set_state(vm, VM_READY);
	return RM_OK;
}

static u32 start(struct vm *vm)
{
	struct parcel *image;

	if (accept_configured(vm) || guest_tree_write(vm))
		return RM_NORESOURCE;
	/*
	 * It flushes the size of all private memory, but of the parcel of the
	 * image.
	 */
	image = parcel_find(vm->image_handle);
	if (vm->mem_size > parcel_size(image))
		return RM_DENIED;
	vcpu_init(&vm->vcpus[0], vm->config.base + vm->place.image_offset,
		  vm->config.base + vm->place.dtb_offset);
	return RM_OK;
}

u32 public_start(struct vm *vm)
{
	u32 error;

	if (vm->state != VM_READY)
		return RM_VM_STATE;
	error = start(vm);
	/* Parcels that have been accepted stay so until the reset. */
	if (error)
		return fail_init(vm, error);
	vm_set_state(vm, VM_RUNNING);
	return RM_OK;
}

static u64 start_time(struct vm *vm)
{
	struct parcel *parcel = NULL;
	u64 n = 0;

	if (vm->state != VM_READY)
		return 0;
	while ((parcel = parcel_next(vm->vmid, parcel)))
		n += parcel->pieces.count;
	return n * setting(EL2_START_PIECE_US);
}

static struct vm *vm_of(const struct rm_request *request)
{
	u16 vmid;

	if (request->size < sizeof(vmid))
		return NULL;
	memcpy(&vmid, request->payload, sizeof(vmid));
	return vm_find(vmid);
}

u64 public_begin(const struct rm_request *request)
{
	struct vm *vm = vm_of(request);

	if (!rm_is_public() || !vm)
		return 0;
	if (request->id == RM_VM_START)
		return start_time(vm);
	/* Kill the vCPU, which the Resource Manager runs to its end. */
	if (request->id == RM_VM_STOP && vm->state == VM_RUNNING &&
	    request->size == 8 && request->payload[2] & 1) {
		vm->stopping = true;
		vcpus_kick(vm, NULL);
		return setting(EL2_HALT_US);
	}
	return 0;
}

bool public_must_wait(const struct rm_request *request)
{
	struct vm *vm = rm_is_public() ? vm_of(request) : NULL;

	return vm && request->id == RM_VM_STOP && vm->stopping &&
	       vm_is_running(vm);
}

void public_end(const struct rm_request *request)
{
	struct vm *vm = rm_is_public() ? vm_of(request) : NULL;

	if (vm && request->id == RM_VM_STOP)
		vm->stopping = false;
}

static void exited(struct vm *vm, enum vm_exit_type type)
{
	const struct halt *halt = &vm->halt;
	struct {
		u16 vmid, type;
		u32 reason_size;
		/* Flags, and a code in the upper half; then the words */
		u32 reason;
		u32 words[MAX_HALT_WORDS];
	} payload = {
		.vmid = vm->vmid, .type = type, .reason_size = sizeof(u32),
	};
	u32 size;

	if (type == EXIT_RESET2) {
		payload.reason = halt->flags;
		payload.reason_size += sizeof(payload.words);
		memcpy(payload.words, halt->words, sizeof(payload.words));
	}
	size = 8 + payload.reason_size;
	vm->stopping = false;
	vm->halt = (struct halt) { .exited = true };
	vm_set_state(vm, VM_EXITED);
	rm_notify(RM_VM_EXITED, &payload, size);
}

u32 public_stop(struct vm *vm, bool force)
{
	if (vm->state != VM_RUNNING)
		return RM_VM_STATE;
	/* The guest's system doesn't listen to a polite request. */
	if (force)
		exited(vm, EXIT_FORCED);
	return RM_OK;
}

void public_halted(struct vm *vm, const struct halt *halt)
{
	u64 value;

	vm->halt = *halt;
	if (vm->stopping)
		return;
	vm->halt.lost = rule_hits(EL2_RULE_LOSE_HALT, vm->vmid, &value);
	vm->halt.half_us = now_us() + setting(EL2_HALT_US) / 2;
	vm->halt.due_us = now_us() + setting(EL2_HALT_US);
}

static void report(u64 *x, u64 state, const u64 *data)
{
	x[0] = OK;
	x[1] = state;
	x[2] = data[0];
	x[3] = data[1];
	x[4] = 0;
}

bool public_refuses_run(struct vm *vm, u64 *x)
{
	const struct halt *halt = &vm->halt;

	if (halt->exited) {
		report(x, VCPU_POWERED_OFF, (u64 []){ OFF_EXITED, 0 });
	} else if (vm->state != VM_RUNNING && vm->state != VM_EXITED) {
		report(x, VCPU_POWERED_OFF, (u64 []){ 0, 0 });
	} else if (vm->stopping) {
		/* The Resource Manager runs it. */
		x[0] = BUSY;
	} else if (!halt->state) {
		return false;
	} else if (halt->lost || now_us() < halt->half_us) {
		report(x, halt->state, halt->data);
	} else {
		x[0] = BUSY;
	}
	return true;
}

bool public_ends_guests(void)
{
	bool progress = false;

	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		const struct halt *halt = &vm->halt;

		if (!halt->state || halt->lost || halt->due_us > now_us() ||
		    vm->state != VM_RUNNING || vm_is_running(vm))
			continue;
		exited(vm, halt->type);
		progress = true;
	}
	return progress;
}

bool public_awaits_ends(void)
{
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		if (vm->stopping || (vm->halt.state && !vm->halt.lost))
			return true;
	}
	return false;
}

u32 public_dealloc(struct vm *vm)
{
	if (vm->state != VM_LOAD && vm->state != VM_RESET)
		return RM_VM_STATE;
	vm->state = VM_NONE;
	return RM_OK;
}
