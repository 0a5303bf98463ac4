/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the RM can be asked, as functions. Each returns 0 or an errno. Where @late is an
 * argument, on -ETIMEDOUT it becomes the request that may yet be fulfilled, else NULL.
 */
#ifndef _GMEM_GUNYAH_RM_CALLS_H
#define _GMEM_GUNYAH_RM_CALLS_H

#include <linux/types.h>

struct gunyah_rm;
struct gunyah_rpc;

enum gunyah_rm_message {
	GUNYAH_RM_MEM_LEND = 0x51000012,
	GUNYAH_RM_MEM_SHARE = 0x51000013,
	GUNYAH_RM_MEM_RECLAIM = 0x51000015,
	GUNYAH_RM_MEM_APPEND = 0x51000018,
	GUNYAH_RM_VM_ALLOC_VMID = 0x56000001,
	GUNYAH_RM_VM_DEALLOC_VMID = 0x56000002,
	GUNYAH_RM_VM_START = 0x56000004,
	GUNYAH_RM_VM_STOP = 0x56000005,
	GUNYAH_RM_VM_RESET = 0x56000006,
	GUNYAH_RM_VM_CONFIG_IMAGE = 0x56000009,
	GUNYAH_RM_VM_INIT = 0x5600000b,
	GUNYAH_RM_VM_GET_HYP_RESOURCES = 0x56000020,
	GUNYAH_RM_VM_GET_VMID = 0x56000024,
	GUNYAH_RM_VM_SET_BOOT_CONTEXT = 0x56000031,
	GUNYAH_RM_VM_SET_DEMAND_PAGING = 0x56000033,
	GUNYAH_RM_VM_SET_ADDRESS_LAYOUT = 0x56000034,
	GUNYAH_RM_NOTIFY_VM_EXITED = 0x56100001,
	GUNYAH_RM_NOTIFY_VM_STATUS = 0x56100008,
};

const char *gunyah_rm_message_name(u32 message);

/* What a notification tells, first bytes first. */
struct gunyah_rm_vm_exited {
	__le16 vmid;
	__le16 type;
	__le32 reason_size;
	u8 reason[];
} __packed;

struct gunyah_rm_vm_status {
	__le16 vmid;
	__le16 reserved;
	u8 vm_status;
	u8 os_status;
	__le16 app_status;
} __packed;

/* The one value of gunyah_rm_vm_status.vm_status that matters here. */
#define GUNYAH_RM_VM_HAS_RESET 11

/* Is it about a VM, whole, and about which? */
bool gunyah_rm_notified_vmid(u32 message, const void *payload, size_t size,
			     u16 *vmid);

/* The reason of VM_STOP. */
#define GUNYAH_RM_STOP_FORCED 3

int gunyah_rm_get_vmid(struct gunyah_rm *rm, u16 *vmid);
int gunyah_rm_alloc_vmid(struct gunyah_rm *rm, u16 *vmid,
			 struct gunyah_rpc **late);
/* The VMID in the reply to that. */
int gunyah_rm_reply_vmid(const struct gunyah_rpc *rpc, u16 *vmid);
/* VM_DEALLOC_VMID, _INIT, _RESET: the VMID alone. */
int gunyah_rm_vm_call(struct gunyah_rm *rm, u32 message, u16 vmid);
int gunyah_rm_vm_start(struct gunyah_rm *rm, u16 vmid,
		       struct gunyah_rpc **late);
int gunyah_rm_vm_stop(struct gunyah_rm *rm, u16 vmid);

/* Where the image, and in it the device tree, lies in a parcel. */
struct gunyah_rm_image {
	u32 handle;
	u64 image_offset;
	u64 image_size;
	u64 dtb_offset;
	u64 dtb_size;
};

int gunyah_rm_vm_config_image(struct gunyah_rm *rm, u16 vmid,
			      const struct gunyah_rm_image *image);

struct gunyah_rm_range {
	__le64 base;
	__le64 size;
} __packed;

/* As many as one message is known to be good for. */
#define GUNYAH_RM_MAX_RANGES 256

int gunyah_rm_vm_set_demand_paging(struct gunyah_rm *rm, u16 vmid,
				   const struct gunyah_rm_range *ranges, u32 nr);
/* Of the image. */
int gunyah_rm_vm_set_address_layout(struct gunyah_rm *rm, u16 vmid, u64 base,
				    u64 size);
int gunyah_rm_vm_set_boot_context(struct gunyah_rm *rm, u16 vmid, u8 reg_set,
				  u8 index, u64 value);

enum gunyah_rm_resource_type {
	GUNYAH_RM_RESOURCE_VCPU = 4,
	GUNYAH_RM_RESOURCE_MEM_EXTENT = 9,
	GUNYAH_RM_RESOURCE_ADDR_SPACE = 10,
};

struct gunyah_rm_resource {
	u8 type;
	u8 reserved;
	__le16 partner_vmid;
	__le32 handle;
	__le32 label;
	__le64 cap;
	__le32 virq_handle;
	__le32 virq;
	__le64 base;
	__le64 size;
} __packed;

/* Calls @fn for each resource until one returns an error. */
int gunyah_rm_vm_get_resources(struct gunyah_rm *rm, u16 vmid,
			       int (*fn)(void *data,
					 const struct gunyah_rm_resource *res),
			       void *data);

/* ---- parcels ---- */

#define GUNYAH_RM_NO_HANDLE U32_MAX
/* Entries of a list in one message. */
#define GUNYAH_RM_MAX_ENTRIES 512

struct gunyah_rm_sgl_entry {
	__le64 base;
	__le64 size;
} __packed;

/**
 * struct gunyah_rm_parcel - what is lent or shared
 * @vmid: to whom
 * @lend: or share
 * @access: GUNYAH_ACCESS bits of the other
 * @label: by which the other knows it
 * @entries: physical ranges
 * @nr_entries: how many; more than a message holds are appended
 */
struct gunyah_rm_parcel {
	u16 vmid;
	bool lend;
	u8 access;
	u32 label;
	const struct gunyah_rm_sgl_entry *entries;
	size_t nr_entries;
};

/*
 * MEM_LEND or MEM_SHARE, with MEM_APPEND as often as it takes. @handle is
 * GUNYAH_RM_NO_HANDLE unless there is one, which on failure has to be reclaimed. @late is
 * there, too, if the answer wasn't understood.
 */
int gunyah_rm_mem_give(struct gunyah_rm *rm,
		       const struct gunyah_rm_parcel *parcel, u32 *handle,
		       struct gunyah_rpc **late);
/* The handle in the reply to a MEM_LEND or MEM_SHARE; -EBADMSG if there is none. */
int gunyah_rm_mem_handle(const struct gunyah_rpc *rpc, u32 *handle);
int gunyah_rm_mem_reclaim(struct gunyah_rm *rm, u32 handle, bool sanitize,
			  struct gunyah_rpc **late);

#endif /* _GMEM_GUNYAH_RM_CALLS_H */
