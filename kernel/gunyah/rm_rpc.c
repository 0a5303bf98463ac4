// SPDX-License-Identifier: GPL-2.0-only
#include <linux/slab.h>
#include <linux/string.h>

#include "rm_connection.h"
#include "rm_rpc.h"
#include "rm_wire.h"

void gunyah_rpcs_init(struct gunyah_rm *rm)
{
	xa_init_flags(&rm->pending, XA_FLAGS_ALLOC);
}

void gunyah_rpcs_exit(struct gunyah_rm *rm)
{
	struct gunyah_rpc *rpc;
	unsigned long seq;

	xa_for_each(&rm->pending, seq, rpc)
		gunyah_rpc_put(rpc);
	xa_destroy(&rm->pending);
}

static void gunyah_rpc_free(struct kref *ref)
{
	struct gunyah_rpc *rpc = container_of(ref, struct gunyah_rpc, ref);

	if (rpc->reply != rpc->small)
		kfree(rpc->reply);
	kfree(rpc);
}

void gunyah_rpc_put(struct gunyah_rpc *rpc)
{
	if (rpc)
		kref_put(&rpc->ref, gunyah_rpc_free);
}

struct gunyah_rpc *gunyah_rpc_alloc(struct gunyah_rm *rm, u32 message)
{
	struct gunyah_rpc *rpc;
	u32 seq;

	rpc = kzalloc(sizeof(*rpc), GFP_KERNEL);
	if (!rpc)
		return NULL;
	/* One reference for the table, one for the caller. */
	kref_init(&rpc->ref);
	kref_get(&rpc->ref);
	init_completion(&rpc->done);
	rpc->message = message;
	if (xa_alloc_cyclic(&rm->pending, &seq, rpc, XA_LIMIT(0, U16_MAX),
			    &rm->next_seq, GFP_KERNEL) < 0) {
		kfree(rpc);
		return NULL;
	}
	rpc->seq = seq;
	return rpc;
}

void gunyah_rpc_cancel(struct gunyah_rm *rm, struct gunyah_rpc *rpc)
{
	if (xa_cmpxchg(&rm->pending, rpc->seq, rpc, NULL, GFP_KERNEL) == rpc)
		gunyah_rpc_put(rpc);
}

bool gunyah_rpc_abandon(struct gunyah_rm *rm, struct gunyah_rpc *rpc)
{
	bool late;

	xa_lock(&rm->pending);
	late = xa_load(&rm->pending, rpc->seq) == rpc;
	if (late)
		rpc->late = true;
	xa_unlock(&rm->pending);
	/* Another task has the reply, and is about to complete the request. */
	if (!late)
		wait_for_completion(&rpc->done);
	return late;
}

static struct gunyah_rpc *gunyah_rpc_take(struct gunyah_rm *rm, u16 seq,
					  u32 message)
{
	struct gunyah_rpc *rpc;

	xa_lock(&rm->pending);
	rpc = xa_load(&rm->pending, seq);
	if (rpc && rpc->message == message)
		__xa_erase(&rm->pending, seq);
	else
		rpc = NULL;
	xa_unlock(&rm->pending);
	return rpc;
}

bool gunyah_rpc_answer(struct gunyah_rm *rm, u16 seq, u32 message, u32 rm_error,
		       const void *reply, size_t size)
{
	struct gunyah_rpc *rpc = gunyah_rpc_take(rm, seq, message);

	if (!rpc)
		return false;
	rpc->rm_error = rm_error;
	rpc->err = gunyah_rm_error_errno(rm_error);
	rpc->size = size;
	rpc->reply = size <= sizeof(rpc->small) ? rpc->small :
						  kmalloc(size, GFP_KERNEL);
	if (rpc->reply)
		memcpy(rpc->reply, reply, size);
	else
		rpc->size = 0;
	if (!rpc->reply && !rpc->err)
		rpc->err = -ENOMEM;
	complete_all(&rpc->done);
	/* A task that sees the new count finds the reply. */
	if (rpc->late)
		atomic64_inc_return(&rm->counters.late_replies);
	gunyah_rpc_put(rpc);
	return true;
}
