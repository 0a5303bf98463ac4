/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VM_H
#define _VM_H

#include "guest_config.h"
#include "memdb.h"
#include "msgqueue.h"
#include "vcpu.h"

/* The states in the Resource Manager's messages. */
enum vm_state {
	VM_NONE = 0,
	VM_INIT = 1,
	VM_READY = 2,
	VM_RUNNING = 3,
	VM_LOAD = 5,
	VM_INIT_FAILED = 8,
	VM_EXITED = 9,
	VM_RESETTING = 10,
	VM_RESET = 11,
};

enum vm_exit_type {
	EXIT_OFF = 1,
	EXIT_RESET = 2,
	EXIT_RESET2 = 3,
	EXIT_SW_ERROR = 5,
	EXIT_FORCED = 7,
};

/* The vCPUs, and up to five of extents */
#define VM_MAX_CAPS		(MAX_CPUS + 5)

struct vm_cap {
	u64 id;
	/*
	 * The entry in the list of resources: enum vm_resource, and the label
	 * of that type.
	 */
	u8 type, label;
};

enum vm_resource {
	RESOURCE_VCPU = 4,
	RESOURCE_EXTENT = 9,
	RESOURCE_ADDRSPACE = 10,
};

/* Labels of extents */
enum {
	LABEL_GUEST_PRIVATE,
	LABEL_HOST_SHARED,
	LABEL_HOST_PRIVATE,
	LABEL_GUEST_SHARED,
};

struct vm_range {
	u64 base, size;
};

#define VM_MAX_RANGES		(PAGE_SIZE / sizeof(struct vm_range))

/* Where the image and the device tree are in the image's parcel. */
struct image_place {
	u64 image_offset, image_size, dtb_offset, dtb_size;
};

#define MAX_HALT_WORDS		3

/* Public: the end of a guest that the Resource Manager doesn't know of yet. */
struct halt {
	/* The report of vcpu_run until @half_us; 0: the guest hasn't ended. */
	u16 state;
	/* Of VM_EXITED: enum vm_exit_type, flags, and more words of EXIT_RESET2 */
	u16 type, flags;
	u32 words[MAX_HALT_WORDS];
	u64 data[2];
	/* The Resource Manager never learns of the end. */
	bool lost;
	/* The Resource Manager has reported it: the vCPU never runs again. */
	bool exited;
	/* When the Resource Manager begins to work on the end, and finishes */
	u64 half_us, due_us;
};

struct vm {
	u16 vmid;
	/* VM_NONE: the VMID is free. */
	u8 state;
	/* The host has stopped the VM, but a vCPU still runs. */
	bool stopping;
	/* Not public: how the VM ends once no vCPU runs; 0: it goes on. */
	u8 end;
	/*
	 * These exist only from INIT to RESET, as do their tables and
	 * capabilities.
	 */
	struct stage2 stage2;
	struct extent private, shared;
	struct vcpu vcpus[MAX_CPUS];
	u32 nr_vcpus;
	struct vgic gic;
	struct vm_cap caps[VM_MAX_CAPS];
	u32 nr_caps;

	/* Set before INIT: the handle of the image's parcel, and its place. */
	bool has_image, has_layout;
	u32 image_handle;
	struct image_place place;
	struct vm_range layout;
	/* The demand-paged ranges, in one page, or NULL. */
	struct vm_range *ranges;
	u32 nr_ranges;

	/* From the device tree: only the public one uses more than CPUs. */
	struct guest_config config;

	/* The rest is the public platform's. */
	/* The size of the image, with the memory that adds to it */
	u64 mem_size;
	void *info_page;
	u32 nr_accepted;
	/* The lowest address that may be free for this size or more; 0: any */
	u64 hint, hint_size;
	struct halt halt;
	u8 reset_step;
	/* The Resource Manager's answer that the guest hasn't received; 0: none */
	u32 answer_size;
	u8 answer[MSGQUEUE_MAX_SIZE];
};

/* NULL: no such VM. */
struct vm *vm_find(u16 vmid);
struct extent *vm_extent(u8 id);
u64 nr_vms(void);
/* The VM behind @vm, or the first one, for NULL; NULL: no more. */
struct vm *vm_next(struct vm *vm);

/* Allocate a VMID; 0: any. NULL: it is in use, or none is left. */
struct vm *vm_alloc(u16 vmid);
/* The functions below return errors of the Resource Manager. */
u32 vm_dealloc(struct vm *vm);
u32 vm_init(struct vm *vm);
u32 vm_start(struct vm *vm);
u32 vm_stop(struct vm *vm);
u32 vm_reset(struct vm *vm);

void vm_set_state(struct vm *vm, enum vm_state state);
/* False: there are too many capabilities. */
bool vm_add_caps(struct vm *vm);
void vm_revoke_caps(struct vm *vm);

/* Initialise the vCPUs and the interrupt controller, as configured. */
void vm_init_vcpus(struct vm *vm);
bool vm_is_running(const struct vm *vm);
/* The guest has ended, and no vCPU runs. */
void vm_exited(struct vm *vm, enum vm_exit_type type);
/* Does the host page memory in at the address? */
bool vm_demand_paged(const struct vm *vm, u64 gpa);
/* May the guest access its memory now? Then RPC can't take it away. */
bool vm_is_live(const struct vm *vm);
/* Does the VM have tables for memory? */
bool vm_has_memory(const struct vm *vm);

#endif /* _VM_H */
