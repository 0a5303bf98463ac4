/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _VM_H
#define _VM_H

#include "memdb.h"
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
	EXIT_SW_ERROR = 5,
	EXIT_FORCED = 7,
};

#define VM_MAX_CAPS		6

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

struct vm {
	u16 vmid;
	/* VM_NONE: the VMID is free. */
	u8 state;
	/* The host has stopped the VM, but its vCPU still runs. */
	bool stopping;
	/*
	 * These exist only from INIT to RESET, as do their tables and
	 * capabilities.
	 */
	struct stage2 stage2;
	struct extent private, shared;
	struct vcpu vcpu;
	struct vm_cap caps[VM_MAX_CAPS];
	u32 nr_caps;

	/* Set before INIT: the handle of the image's parcel, and its place. */
	bool has_image, has_layout;
	u32 image_handle;
	u64 image_offset, dtb_offset;
	struct vm_range layout;
	/* The demand-paged ranges, in one page, or NULL. */
	struct vm_range *ranges;
	u32 nr_ranges;
};

/* NULL: no such VM. */
struct vm *vm_find(u16 vmid);
struct extent *vm_extent(u8 id);
u64 nr_vms(void);

/* Allocate a VMID; 0: any. NULL: it is in use, or none is left. */
struct vm *vm_alloc(u16 vmid);
/* The functions below return errors of the Resource Manager. */
u32 vm_dealloc(struct vm *vm);
u32 vm_init(struct vm *vm);
u32 vm_start(struct vm *vm);
u32 vm_stop(struct vm *vm);
u32 vm_reset(struct vm *vm);

/* The guest has ended, and its vCPU doesn't run. */
void vm_exited(struct vm *vm, enum vm_exit_type type);
/* Does the host page memory in at the address? */
bool vm_demand_paged(const struct vm *vm, u64 gpa);
/* May the guest access its memory now? Then RPC can't take it away. */
bool vm_is_live(const struct vm *vm);
/* Does the VM have tables for memory? */
bool vm_has_memory(const struct vm *vm);

#endif /* _VM_H */
