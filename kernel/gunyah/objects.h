/* SPDX-License-Identifier: GPL-2.0 */
/* Types of a VM of the gunyah provider, with the lock order. */
#ifndef _GMEM_GUNYAH_OBJECTS_H
#define _GMEM_GUNYAH_OBJECTS_H

#include <linux/bitmap.h>
#include <linux/gmem_gunyah.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "rm_connection.h"

struct gmem_vm;
struct gunyah_rpc;

/**
 * enum gunyah_phase - how far a VM has come; only ever grows
 * @GUNYAH_PHASE_NEW: nothing has been asked for
 * @GUNYAH_PHASE_LOADING: it has a VMID
 * @GUNYAH_PHASE_INITIALISING: VM_INIT may have happened
 * @GUNYAH_PHASE_STARTING: VM_START may have happened
 * @GUNYAH_PHASE_STARTED: and has
 */
enum gunyah_phase {
	GUNYAH_PHASE_NEW,
	GUNYAH_PHASE_LOADING,
	GUNYAH_PHASE_INITIALISING,
	GUNYAH_PHASE_STARTING,
	GUNYAH_PHASE_STARTED,
};

/**
 * enum gunyah_memory - how pages get to a VM
 * @GUNYAH_MEMORY_NONE: not at all yet
 * @GUNYAH_MEMORY_PARCELS: lent and shared by the RM, before the guest uses them
 * @GUNYAH_MEMORY_EXTENTS: donated between extents, when the guest uses them
 */
enum gunyah_memory {
	GUNYAH_MEMORY_NONE,
	GUNYAH_MEMORY_PARCELS,
	GUNYAH_MEMORY_EXTENTS,
};

/* Capabilities of GUNYAH_MEMORY_EXTENTS; 0 is none. */
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

/**
 * struct gunyah_vm - gmem_vm.provider_data
 * @vm: the VM
 * @rm: the connection; outlives it
 * @listener: receives the notifications about the VM while it has a VMID
 * @life_lock: outermost, outside of gmem_vm.lock; protects what follows up to @vcpus
 * @started: GMEM_GUNYAH_START has been called, and did or won't succeed
 * @failed: it won't
 * @step: of its steps, the first that isn't done
 * @phase: how far it came. Read without the lock by those who only tell.
 * @vmid: from GUNYAH_PHASE_LOADING on
 * @dtb_addr: guest address of the device tree
 * @dtb_size: 0 if nobody said where it is
 * @first: first page of the device tree's, while the VM is started
 * @last: the last one
 * @image: handle of their parcel, or GUNYAH_RM_NO_HANDLE; written under mem_lock
 * @boot_set: which of @boot_value there are
 * @boot_value: X, PC, SP
 * @late: a request of the start that timed out; at the end it tells what became of it
 * @vcpus: label -> &struct gunyah_vcpu
 * @status_lock: innermost; protects @exited and @exit_info, which notifications
 *	write
 * @exited: the guest will never run again. READ_ONCE() will do.
 * @has_reset: it has let go of all it had
 * @exit_info: how it ended
 * @mem_lock: the provider's own lock of the core's order: inside the folio lock, and
 *	held over hypercalls and RPCs; protects what follows
 * @memory: how pages get there; written under gmem_vm.lock, too, where it may have been
 *	PARCELS
 * @stopped: the guest runs no more, or never did
 * @extents: capabilities
 * @pages: what the guest has, see pages.h
 * @parcels: list of &struct gunyah_parcel; written under @parcels_lock, too
 * @nr_parcels: its length
 * @parcels_lock: innermost; for those who only tell what parcels there are
 * @unsynced: mappings are gone of which vCPUs may not know yet
 * @reset_asked: VM_RESET was tried
 *
 * Lifetime: that of @vm.
 */
struct gunyah_vm {
	struct gmem_vm *vm;
	struct gunyah_rm *rm;
	struct gunyah_rm_listener listener;

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
	struct xarray vcpus;

	spinlock_t status_lock;
	bool exited;
	bool has_reset;
	struct gmem_gunyah_vm_exit_info exit_info;

	struct mutex mem_lock;
	enum gunyah_memory memory;
	bool stopped;
	struct gunyah_extents extents;
	struct xarray pages;
	struct list_head parcels;
	unsigned int nr_parcels;
	spinlock_t parcels_lock;
	bool unsynced;
	bool reset_asked;
};

/* It will never run again. */
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
