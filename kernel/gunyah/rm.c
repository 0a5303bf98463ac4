// SPDX-License-Identifier: GPL-2.0-only
/* The connection as a whole: it opens, carries calls, and closes. */
#include <linux/bitfield.h>
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "hypercall.h"
#include "rm.h"
#include "rm_connection.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"
#include "trace.h"

unsigned int gunyah_rm_timeout_ms = 5000;
module_param_named(gunyah_rm_timeout_ms, gunyah_rm_timeout_ms, uint, 0644);
MODULE_PARM_DESC(gunyah_rm_timeout_ms,
		 "Gunyah: how long to wait for a reply or a notification from the Resource Manager (ms)");

/* ---- sending ---- */

irqreturn_t gunyah_rm_tx_interrupt(int irq, void *data)
{
	struct gunyah_rm *rm = data;

	complete(&rm->tx_ready);
	return IRQ_HANDLED;
}

static void gunyah_rm_wait_tx(struct gunyah_rm *rm)
{
	/* The interrupt may have come already, or get lost: try again soon. */
	wait_for_completion_timeout(&rm->tx_ready, msecs_to_jiffies(10));
}

static int gunyah_rm_send_message(struct gunyah_rm *rm, size_t size, bool last,
				  unsigned long end)
{
	bool not_full;
	s64 error;

	for (;;) {
		error = gunyah_msgqueue_send(rm->tx_cap, rm->tx_buf, size,
					     last ? GUNYAH_MSGQUEUE_PUSH : 0,
					     &not_full);
		if (!error)
			break;
		if (error != GUNYAH_ERROR_MSGQUEUE_FULL)
			return gunyah_error_errno(error);
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		gunyah_rm_wait_tx(rm);
	}
	/* After the last fragment the caller waits for the reply instead. */
	if (!not_full && !last)
		gunyah_rm_wait_tx(rm);
	return 0;
}

static int gunyah_rm_send(struct gunyah_rm *rm, const struct gunyah_rpc *rpc,
			  const void *request, size_t size, unsigned long end)
{
	struct gunyah_rm_header *header = rm->tx_buf;
	unsigned int fragments = size ? (size - 1) / GUNYAH_RM_PAYLOAD_SIZE : 0;
	enum gunyah_rm_type type = GUNYAH_RM_REQUEST;
	size_t part;
	int err = 0;

	lockdep_assert_held(&rm->tx_lock);

	reinit_completion(&rm->tx_ready);
	do {
		part = min_t(size_t, size, GUNYAH_RM_PAYLOAD_SIZE);
		header->api = GUNYAH_RM_API;
		header->type = FIELD_PREP(GUNYAH_RM_TYPE, type) |
			       FIELD_PREP(GUNYAH_RM_FRAGMENTS, fragments);
		header->seq = cpu_to_le16(rpc->seq);
		header->message = cpu_to_le32(rpc->message);
		memcpy(header + 1, request, part);
		request += part;
		size -= part;
		err = gunyah_rm_send_message(rm, sizeof(*header) + part, !size,
					     end);
		type = GUNYAH_RM_CONTINUATION;
	} while (!err && size);
	return err;
}

/* ---- calls ---- */

static bool gunyah_rm_await(struct gunyah_rm *rm, struct gunyah_rpc *rpc,
			    unsigned long end)
{
	long left;

	for (;;) {
		left = clamp_t(long, end - jiffies, 1, gunyah_rm_slice(rm));
		if (wait_for_completion_timeout(&rpc->done, left))
			return true;
		gunyah_rm_receive(rm);
		if (time_after_eq(jiffies, end))
			return !gunyah_rpc_abandon(rm, rpc);
	}
}

static int gunyah_rm_finish(struct gunyah_rm *rm, struct gunyah_rpc *rpc,
			    bool answered, size_t size)
{
	int err = answered ? rpc->err : -ETIMEDOUT;

	if (!answered) {
		atomic64_inc(&rm->counters.timeouts);
		dev_warn_ratelimited(rm->dev,
				     "no answer from the Resource Manager to %s (%#x) within %u ms (gmem.gunyah_rm_timeout_ms)\n",
				     gunyah_rm_message_name(rpc->message),
				     rpc->message, gunyah_rm_timeout_ms);
	} else if (err) {
		atomic64_inc(&rm->counters.errors);
		dev_dbg(rm->dev, "%s (%#x): %s (%#x)\n",
			gunyah_rm_message_name(rpc->message), rpc->message,
			gunyah_rm_error_name(rpc->rm_error), rpc->rm_error);
	}
	trace_gmem_gunyah_rpc(rpc->message, rpc->seq, size,
			      answered ? rpc->rm_error : 0, err);
	return err;
}

int gunyah_rm_call(struct gunyah_rm *rm, u32 message, const void *request,
		   size_t size, struct gunyah_rpc **rpcp)
{
	unsigned long end;
	struct gunyah_rpc *rpc;
	int err;

	if (rpcp)
		*rpcp = NULL;
	if (size > GUNYAH_RM_MAX_FRAGMENTS * GUNYAH_RM_PAYLOAD_SIZE)
		return -E2BIG;
	rpc = gunyah_rpc_alloc(rm, message);
	if (!rpc)
		return -ENOMEM;
	atomic64_inc(&rm->counters.calls);

	mutex_lock(&rm->tx_lock);
	end = jiffies + msecs_to_jiffies(READ_ONCE(gunyah_rm_timeout_ms));
	err = gunyah_rm_send(rm, rpc, request, size, end);
	mutex_unlock(&rm->tx_lock);
	if (err) {
		/* The RM drops a message whose last fragment doesn't come. */
		dev_err_ratelimited(rm->dev,
				    "can't send to the Resource Manager: error %d\n",
				    err);
		trace_gmem_gunyah_rpc(message, rpc->seq, size, 0, err);
		gunyah_rpc_cancel(rm, rpc);
		gunyah_rpc_put(rpc);
		return err == -ETIMEDOUT ? -EIO : err;
	}

	err = gunyah_rm_finish(rm, rpc, gunyah_rm_await(rm, rpc, end), size);
	if (rpcp)
		*rpcp = rpc;
	else
		gunyah_rpc_put(rpc);
	return err;
}

/* ---- opening and closing ---- */

int gunyah_rm_open(struct gunyah_rm *rm)
{
	int err;

	mutex_init(&rm->tx_lock);
	init_completion(&rm->tx_ready);
	gunyah_rpcs_init(rm);
	/* The hypervisor copies from and to the kernel's linear map. */
	rm->tx_buf = kzalloc(GUNYAH_RM_MSG_SIZE, GFP_KERNEL);
	if (!rm->tx_buf)
		return -ENOMEM;
	err = gunyah_rm_receive_init(rm);
	if (err)
		kfree(rm->tx_buf);
	return err;
}

void gunyah_rm_close(struct gunyah_rm *rm)
{
	gunyah_rm_receive_exit(rm);
	gunyah_rpcs_exit(rm);
	kfree(rm->tx_buf);
}
