/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All VMs, guestmems, views and window descriptors, for netlink and debugfs.
 * These keep a VM from ending for a short time, and the others not at all.
 */
#ifndef _GMEM_REGISTRY_H
#define _GMEM_REGISTRY_H

#include <linux/gmem.h>
#include <linux/types.h>

struct gmem_mem;
struct gmem_view;
struct gmem_vm;
struct gmem_window_desc;

/**
 * struct gmem_mem_info - a guestmem as seen from outside
 * @id: number of its inode
 * @size: in bytes
 * @page_size: in bytes
 * @name: as in &struct gmem_mem
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
	char name[GMEM_OBJECT_NAME_LEN];
	u64 absent;
	u64 host;
	u64 lent;
	u64 shared;
	u64 leaked;
};

/**
 * struct gmem_view_info - a view as seen from outside
 * @id: number of the view
 * @mem_id: number of the guestmem's inode
 * @offset: in bytes
 * @length: in bytes
 * @flags: bits of &enum gmem_view_flags
 * @revoked: the view no longer gives access
 * @pid: the process that made it, in the initial PID namespace
 * @name: NUL-terminated
 */
struct gmem_view_info {
	u32 id;
	u64 mem_id;
	u64 offset;
	u64 length;
	u32 flags;
	bool revoked;
	pid_t pid;
	char name[GMEM_OBJECT_NAME_LEN];
};

/**
 * struct gmem_window_info - a window descriptor as seen from outside
 * @id: number of the window descriptor
 * @vm_id: number of the VM
 * @guest_addr: in bytes
 * @length: in bytes
 * @flags: bits of &enum gmem_window_flags
 * @pid: the process that made it, in the initial PID namespace
 * @name: NUL-terminated
 */
struct gmem_window_info {
	u32 id;
	u32 vm_id;
	u64 guest_addr;
	u64 length;
	u32 flags;
	pid_t pid;
	char name[GMEM_OBJECT_NAME_LEN];
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
 * Give a view that is ready for use a number, gmem_view.d.id, and let readers
 * see it; -ENOMEM or -EBUSY.
 */
int gmem_registry_add_view(struct gmem_view *view);
/* Afterwards only RCU readers may still see the view. */
void gmem_registry_remove_view(struct gmem_view *view);
/* A view, with a reference; NULL if there is none. */
struct gmem_view *gmem_registry_get_view(u32 id);
/* Describe the first view whose number is @id or higher; false: none. */
bool gmem_registry_next_view(u32 id, struct gmem_view_info *info);

/* As for a view; nobody needs a reference to a window descriptor. */
int gmem_registry_add_window(struct gmem_window_desc *window);
void gmem_registry_remove_window(struct gmem_window_desc *window);
bool gmem_registry_next_window(u32 id, struct gmem_window_info *info);

/*
 * Generations: each changes with the objects of one kind that exist.
 */
u32 gmem_registry_vms_generation(void);
u32 gmem_registry_mems_generation(void);
u32 gmem_registry_views_generation(void);
u32 gmem_registry_windows_generation(void);

#endif /* _GMEM_REGISTRY_H */
