/* SPDX-License-Identifier: GPL-2.0-only */
/* A VM for the monitor's tests, with a guest that obeys commands. */
#ifndef _VM_UTIL_H
#define _VM_UTIL_H

#include "dt_util.h"
#include "rpc_util.h"

#define HYP_MAP			GUNYAH(0x2b)
#define HYP_UNMAP		GUNYAH(0x2c)
#define HYP_UPDATE_ACCESS	GUNYAH(0x2d)
#define HYP_MODIFY		GUNYAH(0x30)
#define HYP_LOOKUP		GUNYAH(0x5a)
#define HYP_DONATE		GUNYAH(0x61)
#define HYP_VCPU_RUN		GUNYAH(0x65)

#define TO_SIBLING		2
#define TO_PROTECTED		3
#define FROM_PROTECTED		4
#define PARTIAL_PRIVATE		3
#define PARTIAL_VMMIO		5
#define NOSYNC			(1ULL << 31)
#define ATTRS_RWX		0xf0077
#define ATTRS_RX		0xf0055
#define ATTRS_RW		0xf0066

#define VM_STATE_INIT		1
#define VM_STATE_READY		2
#define VM_STATE_RUNNING	3
#define VM_STATE_LOAD		5
#define VM_STATE_INIT_FAILED	8
#define VM_STATE_EXITED		9
#define VM_STATE_RESETTING	10
#define VM_STATE_RESET		11

enum {
	VCPU_READY, VCPU_EXPECTS_WAKEUP, VCPU_POWERED_OFF, VCPU_BLOCKED, VCPU_MMIO_READ,
	VCPU_MMIO_WRITE, VCPU_FAULT, VCPU_PAGE_FAULT, VCPU_SYSTEM_RESET = 0x100,
};

#define IMAGE_GPA		0x80000000ULL
/* The demand-paged range on the platform of extents */
#define PAGED_GPA		0x90000000ULL
#define PAGED_SIZE		0x10000000ULL

#define NO_HANDLE		0xffffffffU

#define MAX_VCPUS		8

/* Indexes of extents, by label */
enum { GUEST_PRIVATE, HOST_SHARED, HOST_PRIVATE, GUEST_SHARED };

struct vm {
	struct el2 *el2;
	struct rpc rpc;
	uint16_t vmid;
	/*
	 * The image: a page for the agent and its mailbox; on the public platform
	 * and for guests with more vCPUs, a page for the device tree; for these,
	 * a page with an agent for each other vCPU
	 */
	uint64_t image_pa, image_size;
	uint32_t image_handle;
	uint64_t extents[4], addrspace, vcpu;
	/* The interrupt that wakes the vCPU; 0: none */
	uint32_t virq;
	struct {
		uint64_t cap;
		uint32_t label;
		bool to_host;
	} bells[EL2_MAX_BELLS];
	int nr_bells;
	/* All of them, and the index of the one that the calls below use */
	uint64_t vcpus[MAX_VCPUS];
	uint32_t nr_vcpus, now;
	/* The results of the last run */
	uint64_t state, data[3];
};

/* The agent's operations: agent.S */
enum {
	AGENT_DONE, AGENT_READ, AGENT_WRITE, AGENT_READ_S16, AGENT_CALL,
	AGENT_HVC, AGENT_COUNT,
	/*
	 * Read there, with vectors that catch an abort: the answer is its
	 * syndrome.
	 */
	AGENT_CATCH = 8,
	/* Take X0 to X4 from there, call by HVC, and put X0 to X3 there. */
	AGENT_HVC_BLOCK,
	AGENT_SPIN,
	/* Take interrupts of a higher priority than the value. */
	AGENT_GIC,
	/* Send an SGI: the value is for ICC_SGI1R_EL1. */
	AGENT_SGI,
	/* Start the timer, with the value in ticks. */
	AGENT_TIMER,
	/* Hold the value in a vector register during a read there. */
	AGENT_VECTOR,
};

#define AGENT_MAILBOX		0x800
/* Where the agent has stored the X0 with which it began */
#define AGENT_FIRST_X0		(AGENT_MAILBOX + 24)
/* The number of interrupts, and the last eight of them */
#define AGENT_NR_INTERRUPTS	(AGENT_MAILBOX + 32)
#define AGENT_INTERRUPTS	(AGENT_MAILBOX + 40)

extern const char agent_start[] __attribute__((visibility("hidden")));
extern const char agent_write[] __attribute__((visibility("hidden")));
extern const char agent_end[] __attribute__((visibility("hidden")));

static inline bool is_public(const struct vm *vm)
{
	return vm->el2->platform == EL2_PLATFORM_PUBLIC;
}

static inline int64_t vm_set_layout(struct vm *vm, uint64_t base, uint64_t size)
{
	uint8_t payload[24] = { };

	memcpy(payload, &vm->vmid, 2);
	memcpy(payload + 8, &base, 8);
	memcpy(payload + 16, &size, 8);
	return rpc(&vm->rpc, RM_VM_SET_ADDRESS_LAYOUT, payload,
		   sizeof(payload));
}

static inline int64_t vm_set_paging(struct vm *vm, uint64_t base, uint64_t size)
{
	uint8_t payload[24] = { };

	memcpy(payload, &vm->vmid, 2);
	payload[4] = 1;
	memcpy(payload + 8, &base, 8);
	memcpy(payload + 16, &size, 8);
	return rpc(&vm->rpc, RM_VM_SET_DEMAND_PAGING, payload, sizeof(payload));
}

static inline int64_t vm_config_image(struct vm *vm)
{
	uint8_t payload[40] = { };

	memcpy(payload, &vm->vmid, 2);
	memcpy(payload + 4, &vm->image_handle, 4);
	/* The image's offset and size, those of the device tree */
	memcpy(payload + 8,
	       (uint64_t [4]){
		       0, EL2_PAGE_SIZE, EL2_PAGE_SIZE,
		       vm->image_size > EL2_PAGE_SIZE ? EL2_PAGE_SIZE : 0,
	       }, 32);
	return rpc(&vm->rpc, RM_VM_CONFIG_IMAGE, payload, sizeof(payload));
}

static inline int64_t vm_stop(struct vm *vm)
{
	uint8_t payload[8] = { [2] = 1, [4] = 3 };

	memcpy(payload, &vm->vmid, 2);
	return rpc(&vm->rpc, RM_VM_STOP, payload, sizeof(payload));
}

static inline int64_t vm_set_register(struct vm *vm, uint8_t set, uint8_t index,
				      uint64_t value)
{
	uint8_t payload[16] = { [2] = set, [3] = index };

	memcpy(payload, &vm->vmid, 2);
	memcpy(payload + 8, &value, 8);
	return rpc(&vm->rpc, RM_VM_SET_BOOT_CONTEXT, payload, sizeof(payload));
}

static inline int vm_state(struct vm *vm)
{
	return rpc_vmid(&vm->rpc, RM_VM_GET_STATE, vm->vmid) ? -1 :
							       vm->rpc.reply[0];
}

/* Read the resources into @vm. Returns their number without doorbells, or -1. */
static inline int vm_resources(struct vm *vm)
{
	uint32_t n, label;
	uint64_t cap;

	if (rpc_vmid(&vm->rpc, RM_VM_GET_RESOURCES, vm->vmid))
		return -1;
	memcpy(&n, vm->rpc.reply, 4);
	if (vm->rpc.reply_size != 4 + n * 44)
		return -1;
	vm->nr_bells = 0;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *entry = vm->rpc.reply + 4 + i * 44;

		memcpy(&label, entry + 8, 4);
		memcpy(&cap, entry + 12, 8);
		if (entry[0] <= 1 && vm->nr_bells < EL2_MAX_BELLS) {
			vm->bells[vm->nr_bells].cap = cap;
			vm->bells[vm->nr_bells].label = label;
			vm->bells[vm->nr_bells++].to_host = entry[0];
		} else if (entry[0] == 4 && label < MAX_VCPUS) {
			vm->vcpus[label] = cap;
			if (!label)
				memcpy(&vm->virq, entry + 24, 4);
		} else if (entry[0] == 9 && label < 4) {
			vm->extents[label] = cap;
		} else if (entry[0] == 10) {
			vm->addrspace = cap;
		} else {
			return -1;
		}
	}
	vm->vcpu = vm->vcpus[0];
	return n - vm->nr_bells;
}

/* The page of a vCPU's agent */
static inline uint64_t vm_agent(uint32_t vcpu)
{
	return vcpu ? (1 + vcpu) * EL2_PAGE_SIZE : 0;
}

/*
 * Allocate a VMID, and fill an image: the agents, and the device tree if there
 * must be one. The VM has no memory yet.
 */
static inline bool vm_prepare(struct vm *vm, struct el2 *el2,
			      const struct guest_dt *dt)
{
	uint32_t order = dt->nr_cpus ? 2 : el2->platform == EL2_PLATFORM_PUBLIC;
	void *image;

	*vm = (struct vm) { .el2 = el2, .rpc.el2 = el2 };
	rpc_drain(&vm->rpc);
	vm->vmid = rpc_alloc(&vm->rpc);
	vm->image_handle = NO_HANDLE;
	vm->image_size = EL2_PAGE_SIZE << order;
	vm->image_pa = el2_alloc(el2, order, NULL);
	vm->nr_vcpus = dt->nr_cpus ?: 1;
	image = el2_map(el2, vm->image_pa, vm->image_size);
	if (!vm->vmid || !image)
		return false;
	for (uint32_t i = 0; i < vm->nr_vcpus; i++)
		memcpy(image + vm_agent(i), agent_start,
		       agent_end - agent_start);
	if (order &&
	    !guest_dt_write(image + EL2_PAGE_SIZE, EL2_PAGE_SIZE, dt))
		return false;
	__builtin___clear_cache(image, image + vm->image_size);
	munmap(image, vm->image_size);
	return true;
}

/* Lend the image to the VM. */
static inline int64_t vm_lend_image(struct vm *vm)
{
	int64_t error = rpc_lend(&vm->rpc, vm->vmid,
				 is_public(vm) ? 0 : IMAGE_GPA / EL2_PAGE_SIZE,
				 0, vm->image_pa, vm->image_size);

	vm->image_handle = rpc_handle(&vm->rpc);
	return error;
}

/* Create a VM that is ready to start, with the agent at IMAGE_GPA. */
static inline bool vm_create_with(struct vm *vm, struct el2 *el2,
				  const struct guest_dt *dt)
{
	if (!vm_prepare(vm, el2, dt) || vm_lend_image(vm) ||
	    vm_config_image(vm))
		return false;
	if (!is_public(vm) && (vm_set_paging(vm, PAGED_GPA, PAGED_SIZE) ||
			       vm_set_layout(vm, IMAGE_GPA, vm->image_size)))
		return false;
	return !rpc_vmid(&vm->rpc, RM_VM_INIT, vm->vmid) &&
	       vm_resources(vm) ==
		       (int)vm->nr_vcpus + (is_public(vm) ? 0 : 5);
}

static inline bool vm_create(struct vm *vm, struct el2 *el2)
{
	static const struct guest_dt dt = { .base = IMAGE_GPA };

	return vm_create_with(vm, el2, &dt);
}

static inline int64_t vm_start(struct vm *vm)
{
	return rpc_vmid(&vm->rpc, RM_VM_START, vm->vmid);
}

static inline int64_t vm_donate(struct vm *vm, uint64_t type, int from, int to,
				uint64_t pa, uint64_t size)
{
	return el2_hvc(vm->el2, HYP_DONATE, type, vm->extents[from],
		       vm->extents[to], pa, size);
}

static inline int64_t vm_map(struct vm *vm, int extent, uint64_t gpa,
			     uint64_t attrs, uint64_t flags, uint64_t pa,
			     uint64_t size)
{
	return el2_hvc(vm->el2, HYP_MAP, vm->addrspace, vm->extents[extent],
		       gpa, attrs, flags, pa, size);
}

static inline int64_t vm_unmap(struct vm *vm, int extent, uint64_t gpa,
			       uint64_t flags, uint64_t pa, uint64_t size)
{
	return el2_hvc(vm->el2, HYP_UNMAP, vm->addrspace, vm->extents[extent],
		       gpa, flags, pa, size);
}

/* Lend memory in Linux's order of calls. */
static inline int64_t vm_lend(struct vm *vm, uint64_t gpa, uint64_t pa,
			      uint64_t size)
{
	return vm_donate(vm, TO_PROTECTED, HOST_PRIVATE, GUEST_PRIVATE, pa, size) ?:
		       vm_map(vm, GUEST_PRIVATE, gpa, ATTRS_RWX,
			      PARTIAL_PRIVATE, pa, size);
}

static inline int64_t vm_take_back(struct vm *vm, uint64_t gpa, uint64_t pa,
				   uint64_t size)
{
	return vm_unmap(vm, GUEST_PRIVATE, gpa, PARTIAL_PRIVATE, pa, size) ?:
		       vm_donate(vm, FROM_PROTECTED, GUEST_PRIVATE,
				 HOST_PRIVATE, pa, size);
}

/* Wait up to 10 s for a state. */
static inline bool vm_wait_state(struct vm *vm, int state)
{
	uint64_t until = clock_ms() + 10000;

	while (vm_state(vm) != state) {
		if (clock_ms() > until)
			return false;
		usleep(1000);
	}
	return true;
}

/* Wait up to 10 s for VM_EXITED. */
static inline bool vm_wait_exit(struct vm *vm)
{
	uint64_t until = clock_ms() + 10000;

	for (rpc_drain(&vm->rpc); !vm->rpc.exits; rpc_drain(&vm->rpc)) {
		if (clock_ms() > until)
			return false;
		usleep(1000);
	}
	return true;
}

/* Do the work of vm_destroy() on the public platform, from any state. */
static inline bool vm_destroy_public(struct vm *vm)
{
	struct rpc *r = &vm->rpc;
	int state = vm_state(vm);

	if (state == VM_STATE_RUNNING)
		vm_stop(vm);
	/* Only VM_INIT ends this state. */
	if (state == VM_STATE_INIT)
		rpc_vmid(r, RM_VM_INIT, vm->vmid);
	if (state != VM_STATE_LOAD && state != VM_STATE_RESET &&
	    state != VM_STATE_RESETTING &&
	    rpc_vmid(r, RM_VM_RESET, vm->vmid))
		return false;
	if (state != VM_STATE_LOAD && !vm_wait_state(vm, VM_STATE_RESET))
		return false;
	rpc_reclaim(r, vm->image_handle, 0);
	return !rpc_vmid(r, RM_VM_DEALLOC_VMID, vm->vmid);
}

/* Stop a running VM, take back all its memory, and free its VMID. */
static inline bool vm_destroy(struct vm *vm)
{
	bool ran = vm_state(vm) != VM_STATE_READY;

	if (is_public(vm))
		return vm_destroy_public(vm);
	if (vm_state(vm) == VM_STATE_RUNNING && vm_stop(vm))
		return false;
	if (ran && !is_public(vm) &&
	    vm_take_back(vm, IMAGE_GPA, vm->image_pa, vm->image_size))
		return false;
	if (rpc_vmid(&vm->rpc, RM_VM_RESET, vm->vmid))
		return false;
	if ((!ran || is_public(vm)) &&
	    rpc_reclaim(&vm->rpc, vm->image_handle, 0))
		return false;
	return !rpc_vmid(&vm->rpc, RM_VM_DEALLOC_VMID, vm->vmid);
}

/*
 * Run until an exit that isn't caused by the host's interrupt. Returns x0. The
 * state of a guest that waits for an interrupt is BLOCKED on all platforms.
 */
static inline int64_t vm_run_with(struct vm *vm, uint64_t value,
				  uint64_t action)
{
	uint64_t x[9];
	int64_t error;

	do {
		memcpy(x,
		       (uint64_t[9]){ HYP_VCPU_RUN, vm->vcpus[vm->now], value, action },
		       sizeof(x));
		error = el2_call(vm->el2, x);
		if (error)
			return error;
		/* The guest has been resumed, even if an interrupt came. */
		value = 0;
		action = 0;
	} while (x[1] == VCPU_READY);
	vm->state = x[1] == VCPU_EXPECTS_WAKEUP ? VCPU_BLOCKED : x[1];
	memcpy(vm->data, x + 2, sizeof(vm->data));
	return 0;
}

static inline int64_t vm_run(struct vm *vm)
{
	return vm_run_with(vm, 0, 0);
}

/* Give the agent a command, and run it. Returns the vCPU's state. */
static inline uint64_t vm_tell(struct vm *vm, uint64_t op, uint64_t address,
			       uint64_t value)
{
	uint64_t mailbox = vm->image_pa + vm_agent(vm->now) + AGENT_MAILBOX;

	el2_hvc(vm->el2, EL2_POKE, mailbox + 8, address);
	el2_hvc(vm->el2, EL2_POKE, mailbox + 16, value);
	el2_hvc(vm->el2, EL2_POKE, mailbox, op);
	return vm_run(vm) ? UINT64_MAX : vm->state;
}

/* The agent's answer, if it has finished. */
static inline uint64_t vm_answer(struct vm *vm)
{
	uint64_t mailbox = vm->image_pa + vm_agent(vm->now) + AGENT_MAILBOX;

	if (vm->state != VCPU_BLOCKED || el2_peek(vm->el2, mailbox))
		return UINT64_MAX;
	return el2_peek(vm->el2, mailbox + 16);
}

#endif /* _VM_UTIL_H */
