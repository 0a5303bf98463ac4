/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All VMs and guestmems, for netlink and debugfs. These keep no guestmem from
 * ending, and a VM only for a short time.
 */
#ifndef _GMEM_REGISTRY_H
#define _GMEM_REGISTRY_H

#include <linux/types.h>

struct gmem_mem;
struct gmem_vm;

/**
 * struct gmem_mem_info - a guestmem as seen from outside
 * @id: number of its inode
 * @size: in bytes
 * @page_size: in bytes
 * @absent: base pages without memory; from here on, the counts sum up to @size
 * @host: base pages that only the host has
 * @lent: as in &struct gmem_mem_query
 * @shared: as there
 * @leaked: as there
 */
struct gmem_mem_info {
	u64 id;
	u64 size;
	u64 page_size;
	u64 absent;
	u64 host;
	u64 lent;
	u64 shared;
	u64 leaked;
};

/*
 * Give a VM that is ready for use a number, gmem_vm.id, and let readers see it;
 * -ENOMEM or -EBUSY.
 */
int gmem_registry_add_vm(struct gmem_vm *vm);
/* Afterwards no reader sees the VM or its bindings. */
void gmem_registry_remove_vm(struct gmem_vm *vm);

/*
 * A VM that a reader finds stays until the reader unlocks. Never hold this lock
 * for long.
 */
void gmem_registry_lock_vms(void);
void gmem_registry_unlock_vms(void);
/* The first VM whose number is @id or higher; NULL if there is none. */
struct gmem_vm *gmem_registry_next_vm(u32 id);
struct gmem_vm *gmem_registry_find_vm(u32 id);

/* Let readers see a guestmem; its number is that of its inode. */
int gmem_registry_add_mem(struct gmem_mem *mem);
/* Call this when no user is left; RCU readers may still see the guestmem. */
void gmem_registry_remove_mem(struct gmem_mem *mem);
/*
 * Describe the first guestmem whose number is @id or higher; false: none.
 */
bool gmem_registry_next_mem(u64 id, struct gmem_mem_info *info);

/*
 * Two generations: one changes with the VMs that exist, one with the guestmems.
 */
u32 gmem_registry_vms_generation(void);
u32 gmem_registry_mems_generation(void);

#endif /* _GMEM_REGISTRY_H */
