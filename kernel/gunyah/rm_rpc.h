/* SPDX-License-Identifier: GPL-2.0-only */
/* Requests to the RM: each waits in a table for its reply. */
#ifndef _GMEM_GUNYAH_RM_RPC_H
#define _GMEM_GUNYAH_RM_RPC_H

#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/types.h>

struct gunyah_rm;

/**
 * struct gunyah_rpc - a request on its way, and its reply
 * @ref: one reference is the caller's; gunyah_rm.pending has another until the
 *	reply is there
 * @seq: sequence number, which the reply carries, too
 * @message: message id, which the reply carries, too
 * @late: the caller no longer waits; written while gunyah_rm.pending has the
 *	request, under the lock of that table
 * @done: the reply is there. The fields below are constant from then on.
 * @rm_error: one of &enum gunyah_rm_error
 * @err: the errno for @rm_error, or -ENOMEM: there was no memory for the reply
 * @reply: payload behind the error code
 * @size: its size
 * @small: room for a short reply (a handle, a VMID), which must not get lost
 *	when memory is short
 */
struct gunyah_rpc {
	struct kref ref;
	u16 seq;
	u32 message;
	bool late;
	struct completion done;
	u32 rm_error;
	int err;
	void *reply;
	size_t size;
	u8 small[8];
};

void gunyah_rpcs_init(struct gunyah_rm *rm);
/* Drop the requests that the RM never answered. */
void gunyah_rpcs_exit(struct gunyah_rm *rm);

/* A request with a new sequence number, in the table; NULL without memory. */
struct gunyah_rpc *gunyah_rpc_alloc(struct gunyah_rm *rm, u32 message);
void gunyah_rpc_put(struct gunyah_rpc *rpc);
/* Remove a request from the table because it can't be sent. */
void gunyah_rpc_cancel(struct gunyah_rm *rm, struct gunyah_rpc *rpc);
/*
 * The caller stops waiting for the reply. False: the reply has come after all.
 */
bool gunyah_rpc_abandon(struct gunyah_rm *rm, struct gunyah_rpc *rpc);
/*
 * Complete the request that @seq and @message belong to, with a copy of
 * @reply. False if there is none.
 */
bool gunyah_rpc_answer(struct gunyah_rm *rm, u16 seq, u32 message, u32 rm_error,
		       const void *reply, size_t size);

#endif /* _GMEM_GUNYAH_RM_RPC_H */
