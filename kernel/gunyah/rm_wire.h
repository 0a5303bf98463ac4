/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The vocabulary of the Resource Manager (RM): message ids, error codes and the
 * layout of every message. All numbers are little endian. This header knows
 * nothing of the connection that carries the messages.
 */
#ifndef _GMEM_GUNYAH_RM_WIRE_H
#define _GMEM_GUNYAH_RM_WIRE_H

#include <linux/bits.h>
#include <linux/limits.h>
#include <linux/types.h>

/* ---- framing ---- */

/* The size of one message of a queue. */
#define GUNYAH_RM_MSG_SIZE 240
#define GUNYAH_RM_HEADER_SIZE sizeof(struct gunyah_rm_header)
#define GUNYAH_RM_PAYLOAD_SIZE (GUNYAH_RM_MSG_SIZE - GUNYAH_RM_HEADER_SIZE)
/* The first fragment isn't counted. */
#define GUNYAH_RM_MAX_FRAGMENTS 62
#define GUNYAH_RM_MAX_MESSAGE						\
	((GUNYAH_RM_MAX_FRAGMENTS + 1) * GUNYAH_RM_PAYLOAD_SIZE)

#define GUNYAH_RM_API 0x21
#define GUNYAH_RM_TYPE GENMASK(1, 0)
#define GUNYAH_RM_FRAGMENTS GENMASK(7, 2)

enum gunyah_rm_type {
	GUNYAH_RM_CONTINUATION = 0,
	GUNYAH_RM_REQUEST = 1,
	GUNYAH_RM_REPLY = 2,
	GUNYAH_RM_NOTIFICATION = 3,
};

/* Every fragment begins with this. */
struct gunyah_rm_header {
	u8 api;
	u8 type;
	__le16 seq;
	__le32 message;
} __packed;

/* ---- errors ---- */

/* The first word of every reply. */
enum gunyah_rm_error {
	GUNYAH_RM_ERROR_OK = 0,
	GUNYAH_RM_ERROR_NOMEM = 1,
	GUNYAH_RM_ERROR_NORESOURCE = 2,
	GUNYAH_RM_ERROR_DENIED = 3,
	GUNYAH_RM_ERROR_INVALID = 4,
	GUNYAH_RM_ERROR_BUSY = 5,
	GUNYAH_RM_ERROR_ARGUMENT_INVALID = 6,
	GUNYAH_RM_ERROR_HANDLE_INVALID = 7,
	GUNYAH_RM_ERROR_VALIDATE_FAILED = 8,
	GUNYAH_RM_ERROR_MAP_FAILED = 9,
	GUNYAH_RM_ERROR_MEM_INVALID = 0xa,
	GUNYAH_RM_ERROR_MEM_INUSE = 0xb,
	GUNYAH_RM_ERROR_MEM_RELEASED = 0xc,
	GUNYAH_RM_ERROR_VMID_INVALID = 0xd,
	GUNYAH_RM_ERROR_LOOKUP_FAILED = 0xe,
	GUNYAH_RM_ERROR_IRQ_INVALID = 0xf,
	GUNYAH_RM_ERROR_IRQ_INUSE = 0x10,
	GUNYAH_RM_ERROR_IRQ_RELEASED = 0x11,
	GUNYAH_RM_ERROR_IN_USE = 0x12,
	GUNYAH_RM_ERROR_IRQ_NOT_MAPPED = 0x13,
	GUNYAH_RM_ERROR_VM_STATE = 0x14,
	GUNYAH_RM_ERROR_UNIMPLEMENTED = 0xffffffff,
};

/*
 * -EBADMSG for an error code that isn't in &enum gunyah_rm_error; -EBADFD: the VM
 * isn't in the state that the request needs. Neither is an errno of the uAPI.
 */
int gunyah_rm_error_errno(u32 error);
const char *gunyah_rm_error_name(u32 error);

/* ---- message ids ---- */

enum gunyah_rm_message {
	/* Requests about memory. */
	GUNYAH_RM_MEM_LEND = 0x51000012,
	GUNYAH_RM_MEM_SHARE = 0x51000013,
	GUNYAH_RM_MEM_RECLAIM = 0x51000015,
	GUNYAH_RM_MEM_APPEND = 0x51000018,
	/* Requests about VMs. */
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
	/* Notifications. */
	GUNYAH_RM_NOTIFY_VM_EXITED = 0x56100001,
	GUNYAH_RM_NOTIFY_VM_STATUS = 0x56100008,
};

const char *gunyah_rm_message_name(u32 message);

/* ---- notifications ---- */

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

/* The one value of gunyah_rm_vm_status.vm_status that the provider uses. */
#define GUNYAH_RM_VM_HAS_RESET 11

/*
 * Read the VMID of a notification about a VM. False: the notification is about
 * something else, or @size is too small for it.
 */
bool gunyah_rm_notified_vmid(u32 message, const void *payload, size_t size,
			     u16 *vmid);

/* ---- requests and replies about VMs ---- */

/*
 * The request of ALLOC_VMID (0: any VMID), DEALLOC_VMID, START, RESET, INIT and
 * GET_HYP_RESOURCES, and the reply to ALLOC_VMID and GET_VMID.
 */
struct gunyah_rm_vmid {
	__le16 vmid;
	__le16 reserved;
} __packed;

/* The flag and the reason of a STOP that doesn't ask the guest. */
#define GUNYAH_RM_STOP_BY_FORCE BIT(0)
#define GUNYAH_RM_STOP_FORCED 3

struct gunyah_rm_stop {
	__le16 vmid;
	u8 flags;
	u8 reserved;
	__le32 reason;
} __packed;

/* The parcel @handle has the image, and the image has the device tree. */
struct gunyah_rm_config_image {
	__le16 vmid;
	__le16 auth; /* 0: none */
	__le32 handle;
	__le64 image_offset;
	__le64 image_size;
	__le64 dtb_offset;
	__le64 dtb_size;
} __packed;

struct gunyah_rm_range {
	__le64 base;
	__le64 size;
} __packed;

struct gunyah_rm_demand_paging {
	__le16 vmid;
	__le16 reserved;
	__le32 nr;
	struct gunyah_rm_range ranges[];
} __packed;

/* Every known RM takes this number of ranges in one message. */
#define GUNYAH_RM_MAX_RANGES 256

struct gunyah_rm_address_layout {
	__le16 vmid;
	__le16 reserved;
	__le32 range; /* 0: the image's */
	__le64 base;
	__le64 size;
} __packed;

struct gunyah_rm_boot_context {
	__le16 vmid;
	u8 reg_set;
	u8 index;
	__le32 reserved;
	__le64 value;
} __packed;

enum gunyah_rm_resource_type {
	GUNYAH_RM_RESOURCE_BELL = 0, /* which the host rings */
	GUNYAH_RM_RESOURCE_VCPU = 4,
	GUNYAH_RM_RESOURCE_MEM_EXTENT = 9,
	GUNYAH_RM_RESOURCE_ADDR_SPACE = 10,
};

/*
 * The reply to GET_HYP_RESOURCES: a __le32, the number of resources; then the
 * resources.
 */
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

/* ---- requests about parcels ---- */

/* No VM has this VMID. */
#define GUNYAH_RM_NO_VMID U16_MAX

/* No parcel has this handle. */
#define GUNYAH_RM_NO_HANDLE U32_MAX
/* The number of entries in one list of one message. */
#define GUNYAH_RM_MAX_ENTRIES 512

/* In the flags of LEND and SHARE, of APPEND, and of RECLAIM. */
#define GUNYAH_RM_GIVE_APPEND BIT(1)
#define GUNYAH_RM_APPEND_END BIT(0)
#define GUNYAH_RM_RECLAIM_SANITIZE BIT(0)

/*
 * LEND or SHARE: this, then three lists: access control, physical ranges,
 * attributes. The reply is a handle.
 */
struct gunyah_rm_give {
	u8 mem_type; /* 0: normal */
	u8 reserved0;
	u8 flags;
	u8 reserved1;
	__le32 label;
} __packed;

/* APPEND: this, then a list of physical ranges. */
struct gunyah_rm_append {
	__le32 handle;
	u8 flags;
	u8 reserved[3];
} __packed;

struct gunyah_rm_reclaim {
	__le32 handle;
	u8 flags;
	u8 reserved[3];
} __packed;

/* Every list begins with this; its entries follow. */
struct gunyah_rm_list {
	__le16 nr;
	__le16 reserved;
} __packed;

struct gunyah_rm_acl_entry {
	__le16 vmid;
	u8 access;
	u8 reserved;
} __packed;

struct gunyah_rm_sgl_entry {
	__le64 base;
	__le64 size;
} __packed;

#endif /* _GMEM_GUNYAH_RM_WIRE_H */
