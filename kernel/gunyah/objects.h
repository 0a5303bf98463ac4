/* SPDX-License-Identifier: GPL-2.0-only */
/* Types of a VM of the gunyah provider, with the lock order. */
#ifndef _GMEM_GUNYAH_OBJECTS_H
#define _GMEM_GUNYAH_OBJECTS_H

#include <linux/bitmap.h>
#include <linux/gmem_gunyah.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "rm_connection.h"

struct gmem_vm;
struct gunyah_ioeventfds;
struct gunyah_rpc;

/**
 * enum gunyah_phase - how far the start of a VM has come; only grows, but a
 *	refused VM_START leads from STARTING back to INITIALISING
 * @GUNYAH_PHASE_NEW: the VM has no VMID yet
 * @GUNYAH_PHASE_LOADING: the VM has a VMID
 * @GUNYAH_PHASE_CONFIGURING: the RM may have carried out VM_CONFIG_IMAGE
 * @GUNYAH_PHASE_INITIALISING: the RM may have carried out VM_INIT
 * @GUNYAH_PHASE_STARTING: the RM may have carried out VM_START
 * @GUNYAH_PHASE_STARTED: the RM has carried out VM_START
 */
enum gunyah_phase {
	GUNYAH_PHASE_NEW,
	GUNYAH_PHASE_LOADING,
	GUNYAH_PHASE_CONFIGURING,
	GUNYAH_PHASE_INITIALISING,
	GUNYAH_PHASE_STARTING,
	GUNYAH_PHASE_STARTED,
};

/**
 * enum gunyah_memory - how pages get to a VM
 * @GUNYAH_MEMORY_NONE: no page can be provided yet
 * @GUNYAH_MEMORY_PARCELS: the RM lends and shares parcels, before VM_START
 * @GUNYAH_MEMORY_EXTENTS: the provider donates a page from extent to extent
 *	when the guest uses it
 */
enum gunyah_memory {
	GUNYAH_MEMORY_NONE,
	GUNYAH_MEMORY_PARCELS,
	GUNYAH_MEMORY_EXTENTS,
};

/* The capabilities that GUNYAH_MEMORY_EXTENTS needs; 0: there is none. */
struct gunyah_extents {
	u64 addrspace;
	u64 guest_private;
	u64 guest_shared;
	u64 host_private;
	u64 host_shared;
};

#define GUNYAH_NR_X 32
#define GUNYAH_NR_SP 3
#define GUNYAH_NR_BOOT_REGS (GUNYAH_NR_X + 1 + GUNYAH_NR_SP)

/* Indexes of registers in gunyah_vm.boot_value: those of X come first. */
#define GUNYAH_REG_DTB 0
#define GUNYAH_REG_PC GUNYAH_NR_X
#define GUNYAH_REG_SP (GUNYAH_NR_X + 1)

/**
 * struct gunyah_vm - a VM's data of this provider: gmem_vm.provider_data
 * @vm: the core's VM
 * @rm: the connection; a reference
 * @listener: receives the notifications about the VM while it has a VMID
 * @lends_mapped: keeps the host from hibernating; see pm.c, whose lock protects it
 * @life_lock: protects the fields from here to @late
 * @started: a START has succeeded, or has failed and can't be repeated
 * @failed: a START has failed and can't be repeated
 * @step: the first step of GMEM_GUNYAH_START that isn't done
 * @phase: how far the start has come; reports read it without the lock
 * @vmid: valid from GUNYAH_PHASE_LOADING on; reports read it without the lock
 * @dtb_addr: guest address of the device tree
 * @dtb_size: its size; 0: the VMM hasn't set it
 * @first: first page of the image, during the start
 * @last: last page of the image, during the start
 * @image: handle of the parcel with these pages, or GUNYAH_RM_NO_HANDLE;
 *	written under @mem_lock, too
 * @boot_set: the registers that have a value in @boot_value
 * @boot_value: X, PC, SP
 * @late: a request of the start that timed out; the end of the VM looks for its
 *	reply
 * @functions_lock: protects the fields from here to @ioeventfds. Never held
 *	while the RM works, so that a descriptor closes without delay.
 * @connected: the RM may have named doorbells and interrupts of vCPUs, and the
 *	module uses them; READ_ONCE() needs no lock
 * @disconnect: a work item that ends this use
 * @vcpus: label -> &struct gunyah_vcpu_slot
 * @bells: label -> &struct gunyah_bell
 * @bells_known: the RM has named all doorbells
 * @nr_irqfds: how many of @bells have an irqfd
 * @ioeventfds: sorted by address, or NULL; written under @ioeventfds_lock, too,
 *	which is enough to read it
 * @ioeventfds_lock: held while a vCPU signals an eventfd
 * @wake: tasks that wait for a vCPU's interrupt, the guest's end, or the end of
 *	@connected
 * @status_lock: protects @exited and @exit_info, which the listener writes
 * @exited: the guest will never run again; READ_ONCE() needs no lock
 * @has_reset: the RM has reported the reset of the guest
 * @exit_info: how the guest ended
 * @mem_lock: the provider's own lock in the core's lock order, inside the folio
 *	lock; held over hypercalls and RPCs; protects the fields from here on
 * @memory: how pages get to the guest; a writer holds gmem_vm.lock, too, if the
 *	value may have been PARCELS
 * @stopped: the guest will never run again, because the VM ends
 * @sealed: parcels: VM_START gives the guest what is bound now, and nothing
 *	else; written under gmem_vm.lock, too
 * @extents: capabilities
 * @pages: the state of each page, see pages.h
 * @parcels: list of &struct gunyah_parcel; written under @parcels_lock, too
 * @nr_parcels: the length of @parcels
 * @nr_pieces: physical ranges in them; reports read it without a lock
 * @parcels_lock: lets reports read @parcels without @mem_lock
 * @unsynced: vCPUs may still use mappings that have been unmapped
 * @reset_sent: the RM may have carried out VM_RESET
 * @reset_asked: the RM has taken VM_RESET, and will report the end of the reset
 * @reset_awaited: a task has waited for that report once
 * @reset_err: 0, or an errno: the VM ends, and the RM has refused VM_RESET
 * @gave_up: the end of the VM no longer waits; READ_ONCE()
 * @end_began: when the end of the VM began to wait, in jiffies; 0: it hasn't
 * @end_waits: a work item waits for the RM
 * @freeing: VM_DEALLOC_VMID, whose reply is late. This and the fields from
 *	@end_began on belong to the task that ends the VM.
 *
 * Lifetime: that of @vm.
 *
 * Lock order, outermost first: gunyah_vcpu.run_lock, @life_lock, gmem_vm.lock
 * and the core's locks inside of it, @mem_lock, the locks of
 * &struct gunyah_rm, @status_lock or @parcels_lock. @functions_lock is inside
 * @life_lock; @ioeventfds_lock is inside @functions_lock or
 * gunyah_vcpu.run_lock; the lock of an eventfd is inside of all.
 */
struct gunyah_vm {
	struct gmem_vm *vm;
	struct gunyah_rm *rm;
	struct gunyah_rm_listener listener;
	bool lends_mapped;

	struct mutex life_lock;
	bool started;
	bool failed;
	unsigned int step;
	enum gunyah_phase phase;
	u16 vmid;
	u64 dtb_addr;
	u64 dtb_size;
	unsigned long first;
	unsigned long last;
	u32 image;
	DECLARE_BITMAP(boot_set, GUNYAH_NR_BOOT_REGS);
	u64 boot_value[GUNYAH_NR_BOOT_REGS];
	struct gunyah_rpc *late;

	struct mutex functions_lock;
	bool connected;
	struct work_struct disconnect;
	struct xarray vcpus;
	struct xarray bells;
	bool bells_known;
	unsigned int nr_irqfds;
	struct gunyah_ioeventfds *ioeventfds;

	rwlock_t ioeventfds_lock;
	wait_queue_head_t wake;

	spinlock_t status_lock;
	bool exited;
	bool has_reset;
	struct gmem_gunyah_vm_exit_info exit_info;

	struct mutex mem_lock;
	enum gunyah_memory memory;
	bool stopped;
	bool sealed;
	struct gunyah_extents extents;
	struct xarray pages;
	struct list_head parcels;
	unsigned int nr_parcels;
	unsigned long nr_pieces;
	spinlock_t parcels_lock;
	bool unsynced;
	bool reset_sent;
	bool reset_asked;
	bool reset_awaited;
	int reset_err;
	bool gave_up;
	unsigned long end_began;
	bool end_waits;
	struct gunyah_rpc *freeing;
};

/* The guest will never run again. */
static inline bool gunyah_vm_ended(const struct gunyah_vm *g)
{
	return READ_ONCE(g->exited) || READ_ONCE(g->stopped);
}

static inline bool gunyah_vm_runs(const struct gunyah_vm *g)
{
	return READ_ONCE(g->phase) >= GUNYAH_PHASE_STARTING &&
	       !gunyah_vm_ended(g);
}

#endif /* _GMEM_GUNYAH_OBJECTS_H */
