// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reset in steps: the VM's parcels are released one by one, from the last
 * that was accepted to the image, and the VM's objects go after them. Between
 * two steps, the Resource Manager reads requests.
 */
#include "accept.h"
#include "public.h"
#include "rm_messages.h"
#include "setting.h"

enum { STEP_BEGIN, STEP_VDEVICES, STEP_RELEASE, STEP_DESTROY, STEP_END };

/* The VM whose step is under way, until then; and the last one of all. */
static struct vm *active, *last;
static u64 due_us;

u32 public_reset(struct vm *vm)
{
	if (vm->state != VM_EXITED && vm->state != VM_READY &&
	    vm->state != VM_INIT_FAILED)
		return RM_VM_STATE;
	vm->reset_step = STEP_BEGIN;
	vm_set_state(vm, VM_RESETTING);
	return RM_OK;
}

static u64 step_time(const struct vm *vm)
{
	const struct parcel *parcel =
		vm->reset_step == STEP_RELEASE ? last_accepted(vm) : NULL;

	if (parcel)
		return parcel->pieces.count * setting(EL2_RESET_PIECE_US);
	return setting(EL2_REPLY_US);
}

/* Release a parcel. Returns whether there are more. */
static bool release_one(struct vm *vm)
{
	struct parcel *parcel = last_accepted(vm);
	struct {
		u32 handle;
		u16 vmid, reserved;
		u32 tag;
	} payload = { .vmid = vm->vmid };

	if (!parcel)
		return false;
	release(vm, parcel);
	payload.handle = parcel->handle;
	rm_notify(RM_MEM_RELEASED, &payload, sizeof(payload));
	return last_accepted(vm);
}

static void destroy(struct vm *vm)
{
	vm_revoke_caps(vm);
	if (vm_has_memory(vm))
		stage2_destroy(&vm->stage2);
	if (vm->info_page)
		free_page(vm->info_page);
	vm->info_page = NULL;
	vm->has_image = false;
	vm->halt = (struct halt) { };
}

static void do_step(struct vm *vm)
{
	switch (vm->reset_step) {
	case STEP_RELEASE:
		if (release_one(vm))
			return;
		break;
	case STEP_DESTROY:
		destroy(vm);
		break;
	case STEP_END:
		vm_set_state(vm, VM_RESET);
		return;
	}
	vm->reset_step++;
}

/* The next VM that is being reset, in turn; NULL: there is none. */
static struct vm *choose(void)
{
	struct vm *first = NULL;

	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		if (vm->state != VM_RESETTING)
			continue;
		if (vm > last)
			return vm;
		if (!first)
			first = vm;
	}
	return first;
}

static bool reset_work(void)
{
	if (!active) {
		active = choose();
		if (active)
			due_us = now_us() + step_time(active);
	}
	if (!active || now_us() < due_us)
		return false;
	last = active;
	active = NULL;
	do_step(last);
	return true;
}

bool public_work(void)
{
	return public_ends_guests() | reset_work();
}

bool public_is_busy(void)
{
	return active;
}

bool public_has_work(void)
{
	return rm_is_public() && (active || choose() || public_awaits_ends());
}
