/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _RM_H
#define _RM_H

#include "el2.h"

/* The Resource Manager's errors. */
enum {
	RM_OK = 0,
	RM_UNIMPLEMENTED = 0xffffffff,
	RM_NOMEM = 1,
	RM_NORESOURCE = 2,
	RM_DENIED = 3,
	RM_MSG_INVALID = 4,
	RM_BUSY = 5,
	RM_ARG_INVALID = 6,
	RM_HANDLE_INVALID = 7,
	RM_VALIDATE_FAILED = 8,
	RM_MAP_FAILED = 9,
	RM_MEM_INVALID = 0xa,
	RM_MEM_INUSE = 0xb,
	RM_MEM_NOT_ACCEPTED = 0xc,
	RM_VMID_INVALID = 0xd,
	RM_VM_STATE = 0x14,
};

/* The most fragments of a message, as in Gunyah. */
#define RM_MAX_FRAGMENTS	62
#define RM_FRAGMENT_SIZE	232
#define RM_MAX_SIZE		((RM_MAX_FRAGMENTS + 1) * RM_FRAGMENT_SIZE)

struct rm_request {
	u32 id;
	u32 size;
	const u8 *payload;
};

struct rm_reply {
	u32 size;
	/* The longest reply has all resources of a VM, with EL2_MAX_BELLS. */
	u8 payload[4096];
};

/* A handler returns an error; only RM_OK sends the reply's payload. */
typedef u32 (*rm_handler)(const struct rm_request *request,
			  struct rm_reply *reply);

/*
 * Do all work that is due: read requests, send replies. Called at the end of
 * each exit.
 */
void rm_poll(void);
/* Will something be due later? */
bool rm_is_waiting(void);

/* Send a notification after the reply to the current request. */
void rm_notify(u32 id, const void *payload, u32 size);
/* Send a message unchanged, for tests. */
void rm_send_raw(const void *message, u32 size, bool push);
u64 nr_rpcs(void);

/* rm_vm.c */
u32 rm_get_vmid(const struct rm_request *request, struct rm_reply *reply);
u32 rm_alloc_vmid(const struct rm_request *request, struct rm_reply *reply);
u32 rm_dealloc_vmid(const struct rm_request *request, struct rm_reply *reply);
u32 rm_start(const struct rm_request *request, struct rm_reply *reply);
u32 rm_stop(const struct rm_request *request, struct rm_reply *reply);
u32 rm_reset(const struct rm_request *request, struct rm_reply *reply);
u32 rm_config_image(const struct rm_request *request, struct rm_reply *reply);
u32 rm_init(const struct rm_request *request, struct rm_reply *reply);
u32 rm_get_state(const struct rm_request *request, struct rm_reply *reply);
u32 rm_get_resources(const struct rm_request *request, struct rm_reply *reply);
u32 rm_set_boot_context(const struct rm_request *request,
			struct rm_reply *reply);
u32 rm_set_demand_paging(const struct rm_request *request,
			 struct rm_reply *reply);
u32 rm_set_address_layout(const struct rm_request *request,
			  struct rm_reply *reply);

/* rm_memory.c */
u32 rm_mem_lend(const struct rm_request *request, struct rm_reply *reply);
u32 rm_mem_share(const struct rm_request *request, struct rm_reply *reply);
u32 rm_mem_append(const struct rm_request *request, struct rm_reply *reply);
u32 rm_mem_reclaim(const struct rm_request *request, struct rm_reply *reply);

#endif /* _RM_H */
