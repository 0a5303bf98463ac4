/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _VM_H
#define _VM_H

#include "memdb.h"
#include "vcpu.h"

/* As in the Resource Manager's messages. */
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
	/* As in the resources: enum vm_resource, and what the type's label says. */
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
	/* The host wants it to end, its vCPU is running still. */
	bool stopping;
	/* The rest is there from INIT to RESET only: these, its tables and the caps. */
	struct stage2 stage2;
	struct extent private, shared;
	struct vcpu vcpu;
	struct vm_cap caps[VM_MAX_CAPS];
	u32 nr_caps;

	/* The parcel with the image, by handle, and where it is to be; before INIT */
	bool has_image, has_layout;
	u32 image_handle;
	u64 image_offset, dtb_offset;
	struct vm_range layout;
	/* Where a fault is a page fault; one page of them, or NULL. */
	struct vm_range *ranges;
	u32 nr_ranges;
};

/* NULL: no such VM. */
struct vm *vm_find(u16 vmid);
struct extent *vm_extent(u8 id);
u64 nr_vms(void);

/* 0: any. NULL: taken, or none left. */
struct vm *vm_alloc(u16 vmid);
/* Errors of the Resource Manager, from here on. */
u32 vm_dealloc(struct vm *vm);
u32 vm_init(struct vm *vm);
u32 vm_start(struct vm *vm);
u32 vm_stop(struct vm *vm);
u32 vm_reset(struct vm *vm);

/* Its guest has ended, its vCPU is not running. */
void vm_exited(struct vm *vm, enum vm_exit_type type);
/* Is the address for the host to page in? */
bool vm_demand_paged(const struct vm *vm, u64 gpa);
/* May guests reach memory that is theirs now? Then it can't be taken away by RPC. */
bool vm_is_live(const struct vm *vm);
/* Has it tables to put memory in? */
bool vm_has_memory(const struct vm *vm);

#endif /* _VM_H */
