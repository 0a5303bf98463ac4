// SPDX-License-Identifier: GPL-2.0-only
/* Messages about VMs. */
#include "bell.h"
#include "parcel.h"
#include "public.h"
#include "rm.h"
#include "vm.h"

#define STOP_FORCE		1
#define AUTH_NONE		0
#define LAYOUT_IMAGE		0
#define LAYOUT_FIRMWARE		1

struct vmid_payload {
	u16 vmid, reserved;
};

struct stop_request {
	u16 vmid;
	u8 flags, reserved;
	u32 reason;
};

struct image_request {
	u16 vmid, auth;
	u32 handle;
	struct image_place place;
};

struct context_request {
	u16 vmid;
	u8 set, index;
	u32 reserved;
	u64 value;
};

struct paging_request {
	u16 vmid, reserved;
	u32 count;
};

struct layout_request {
	u16 vmid, reserved;
	u32 range;
	u64 base, size;
};

struct resource {
	u8 type, reserved;
	u16 partner;
	u32 handle, label;
	u64 cap;
	u32 virq_handle, virq;
	u64 base, size;
} __attribute__((__packed__));

/* The VM at the start of a request of this size, or an error. */
static u32 vm_of(const struct rm_request *request, u32 size, struct vm **vm)
{
	const struct vmid_payload *payload = (const void *)request->payload;

	if (request->size != size)
		return RM_MSG_INVALID;
	*vm = vm_find(payload->vmid);
	return *vm ? RM_OK : RM_VMID_INVALID;
}

static u32 simple(const struct rm_request *request,
		  u32 (*action)(struct vm *vm))
{
	struct vm *vm;
	u32 error = vm_of(request, sizeof(struct vmid_payload), &vm);

	return error ?: action(vm);
}

static void reply_vmid(struct rm_reply *reply, u16 vmid)
{
	const struct vmid_payload payload = { .vmid = vmid };

	reply->size = sizeof(payload);
	memcpy(reply->payload, &payload, sizeof(payload));
}

u32 rm_get_vmid(const struct rm_request *request, struct rm_reply *reply)
{
	if (request->size)
		return RM_MSG_INVALID;
	reply_vmid(reply, VMID_HOST);
	return RM_OK;
}

u32 rm_alloc_vmid(const struct rm_request *request, struct rm_reply *reply)
{
	const struct vmid_payload *payload = (const void *)request->payload;
	struct vm *vm;

	if (request->size != sizeof(*payload))
		return RM_MSG_INVALID;
	/* The public one gives such VMIDs to the platform's own VMs only. */
	if (payload->vmid && rm_is_public())
		return RM_NORESOURCE;
	vm = vm_alloc(payload->vmid);
	if (!vm)
		return payload->vmid ? RM_VMID_INVALID : RM_NORESOURCE;
	reply_vmid(reply, vm->vmid);
	return RM_OK;
}

u32 rm_dealloc_vmid(const struct rm_request *request, struct rm_reply *reply)
{
	(void)reply;
	return simple(request, rm_is_public() ? public_dealloc : vm_dealloc);
}

u32 rm_init(const struct rm_request *request, struct rm_reply *reply)
{
	(void)reply;
	return simple(request, rm_is_public() ? public_init : vm_init);
}

u32 rm_start(const struct rm_request *request, struct rm_reply *reply)
{
	(void)reply;
	return simple(request, rm_is_public() ? public_start : vm_start);
}

u32 rm_reset(const struct rm_request *request, struct rm_reply *reply)
{
	(void)reply;
	return simple(request, rm_is_public() ? public_reset : vm_reset);
}

u32 rm_stop(const struct rm_request *request, struct rm_reply *reply)
{
	const struct stop_request *stop = (const void *)request->payload;
	struct vm *vm;
	u32 error = vm_of(request, sizeof(*stop), &vm);

	(void)reply;
	if (error)
		return error;
	if (rm_is_public())
		return public_stop(vm, stop->flags & STOP_FORCE);
	/* No guest handles a polite request. */
	if (stop->flags != STOP_FORCE || stop->reserved)
		return RM_ARG_INVALID;
	return vm_stop(vm);
}

u32 rm_get_state(const struct rm_request *request, struct rm_reply *reply)
{
	struct vm *vm;
	u32 error = vm_of(request, sizeof(struct vmid_payload), &vm);

	if (error)
		return error == RM_VMID_INVALID && rm_is_public() ?
			       RM_NORESOURCE : error;
	reply->size = 4;
	reply->payload[0] = vm->state;
	return RM_OK;
}

/* Does the parcel have @size bytes at @offset? */
static bool in_parcel(const struct parcel *parcel, u64 offset, u64 size)
{
	u64 all = (u64)parcel->nr_pages * PAGE_SIZE;

	return offset <= all && size <= all - offset;
}

u32 rm_config_image(const struct rm_request *request, struct rm_reply *reply)
{
	const struct image_request *image = (const void *)request->payload;
	struct parcel *parcel;
	struct vm *vm;
	u32 error = vm_of(request, sizeof(*image), &vm);

	(void)reply;
	if (error)
		return error;
	if (rm_is_public())
		return public_config_image(vm, image->auth, image->handle,
					   &image->place);
	if (vm->state != VM_LOAD)
		return RM_VM_STATE;
	if (image->auth != AUTH_NONE)
		return RM_ARG_INVALID;
	parcel = parcel_find(image->handle);
	if (!parcel || parcel->open || !parcel_entry(parcel, vm->vmid))
		return RM_HANDLE_INVALID;
	if (!in_parcel(parcel, image->place.image_offset,
		       image->place.image_size) ||
	    !in_parcel(parcel, image->place.dtb_offset,
		       image->place.dtb_size))
		return RM_ARG_INVALID;
	vm->has_image = true;
	vm->image_handle = image->handle;
	vm->place = image->place;
	vm->state = VM_INIT;
	return RM_OK;
}

u32 rm_set_boot_context(const struct rm_request *request,
			struct rm_reply *reply)
{
	const struct context_request *context = (const void *)request->payload;
	struct vm *vm;
	u32 error = vm_of(request, sizeof(*context), &vm);

	(void)reply;
	if (error)
		return error;
	if (vm->state != VM_READY)
		return RM_VM_STATE;
	return vcpu_set_register(&vm->vcpus[0], context->set, context->index,
				 context->value) ?
		       RM_OK :
		       RM_ARG_INVALID;
}

static bool is_range(u64 base, u64 size)
{
	return size && ALIGNED(base | size, PAGE_SIZE) && base < IPA_END &&
	       size <= IPA_END - base;
}

u32 rm_set_demand_paging(const struct rm_request *request,
			 struct rm_reply *reply)
{
	const struct paging_request *paging = (const void *)request->payload;
	const struct vm_range *range;
	struct vm *vm;

	(void)reply;
	if (request->size < sizeof(*paging) || paging->count > VM_MAX_RANGES ||
	    request->size != sizeof(*paging) + paging->count * sizeof(*range))
		return RM_MSG_INVALID;
	vm = vm_find(paging->vmid);
	if (!vm)
		return RM_VMID_INVALID;
	if (vm->state != VM_LOAD && vm->state != VM_INIT)
		return RM_VM_STATE;
	range = (const void *)(paging + 1);
	for (u32 i = 0; i < paging->count; i++) {
		if (!is_range(range[i].base, range[i].size))
			return RM_ARG_INVALID;
	}
	if (!vm->ranges)
		vm->ranges = alloc_page();
	if (!vm->ranges)
		return RM_NOMEM;
	memcpy(vm->ranges, range, paging->count * sizeof(*range));
	vm->nr_ranges = paging->count;
	return RM_OK;
}

u32 rm_set_address_layout(const struct rm_request *request,
			  struct rm_reply *reply)
{
	const struct layout_request *layout = (const void *)request->payload;
	struct vm *vm;
	u32 error = vm_of(request, sizeof(*layout), &vm);

	(void)reply;
	if (error)
		return error;
	if (vm->state != VM_LOAD && vm->state != VM_INIT)
		return RM_VM_STATE;
	if (layout->range > LAYOUT_FIRMWARE ||
	    !is_range(layout->base, layout->size))
		return RM_ARG_INVALID;
	/* There is no firmware that could be placed. */
	if (layout->range == LAYOUT_IMAGE) {
		vm->has_layout = true;
		vm->layout = (struct vm_range) { layout->base, layout->size };
	}
	return RM_OK;
}

static void reply_resource(struct rm_reply *reply,
			   const struct resource *resource)
{
	memcpy(reply->payload + reply->size, resource, sizeof(*resource));
	reply->size += sizeof(*resource);
}

u32 rm_get_resources(const struct rm_request *request, struct rm_reply *reply)
{
	const struct vmid_payload *payload = (const void *)request->payload;
	const struct bell *bell;
	struct vm *vm = NULL;
	u32 n = 0;

	if (request->size != sizeof(*payload))
		return RM_MSG_INVALID;
	if (payload->vmid != VMID_HOST) {
		vm = vm_find(payload->vmid);
		if (!vm)
			return rm_is_public() ? RM_ARG_INVALID :
						RM_VMID_INVALID;
		/* Before CONFIG_IMAGE, there is nothing that could have any. */
		if (rm_is_public() && !vm->has_image)
			return RM_NORESOURCE;
		n = vm->nr_caps;
	}
	reply->size = sizeof(n);
	for (u32 i = 0; i < n; i++) {
		const struct resource resource = {
			.type = vm->caps[i].type, .label = vm->caps[i].label,
			.cap = vm->caps[i].id, .partner = vm->vmid,
			.virq = vm->caps[i].type == RESOURCE_VCPU ?
					wake_virq(&vm->vcpus[vm->caps[i].label]) :
					0,
		};

		reply_resource(reply, &resource);
	}
	for (u32 i = 0; vm && (bell = bell_at(vm->vmid, i)); i++) {
		const struct resource resource = {
			.type = bell->to_host ? RESOURCE_BELL_RX :
						RESOURCE_BELL_TX,
			.label = bell->label, .cap = bell->cap,
			.partner = vm->vmid,
		};

		reply_resource(reply, &resource);
		n++;
	}
	memcpy(reply->payload, &n, sizeof(n));
	return RM_OK;
}
