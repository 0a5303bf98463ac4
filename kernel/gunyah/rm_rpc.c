// SPDX-License-Identifier: GPL-2.0
/* Remote procedure calls to the RM: requests, replies, notifications. */
#include <linux/bitfield.h>
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "hypercall.h"
#include "rm.h"
#include "rm_calls.h"
#include "trace.h"
#include "vm.h"

unsigned int gunyah_rm_timeout_ms = 5000;
module_param_named(gunyah_rm_timeout_ms, gunyah_rm_timeout_ms, uint, 0644);
MODULE_PARM_DESC(gunyah_rm_timeout_ms,
		 "Gunyah: how long to wait for a reply, or for a notification, of the Resource Manager (ms)");

/* With an interrupt, a look without it is only there in case that one gets lost. */
#define GUNYAH_RM_SLICE_MS 100
#define GUNYAH_RM_POLL_MS 2

#define GUNYAH_RM_API 0x21
#define GUNYAH_RM_TYPE GENMASK(1, 0)
#define GUNYAH_RM_FRAGMENTS GENMASK(7, 2)

enum gunyah_rm_type {
	GUNYAH_RM_CONTINUATION = 0,
	GUNYAH_RM_REQUEST = 1,
	GUNYAH_RM_REPLY = 2,
	GUNYAH_RM_NOTIFICATION = 3,
};

struct gunyah_rm_header {
	u8 api;
	u8 type;
	__le16 seq;
	__le32 message;
} __packed;

unsigned long gunyah_rm_slice(const struct gunyah_rm *rm)
{
	return msecs_to_jiffies(rm->rx_irq ? GUNYAH_RM_SLICE_MS :
					     GUNYAH_RM_POLL_MS);
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

/* ---- sending ---- */

irqreturn_t gunyah_rm_tx_interrupt(int irq, void *data)
{
	struct gunyah_rm *rm = data;

	complete(&rm->tx_ready);
	return IRQ_HANDLED;
}

static void gunyah_rm_wait_tx(struct gunyah_rm *rm)
{
	/* The interrupt may have come before, or get lost: look again soon. */
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
	/* The reply to the last one is more urgent than room for the next. */
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

/* ---- receiving ---- */

static void gunyah_rm_bad_message(struct gunyah_rm *rm, const char *what)
{
	atomic64_inc(&rm->counters.bad_messages);
	dev_warn_ratelimited(rm->dev,
			     "dropped a message of the Resource Manager: %s\n",
			     what);
}

static void gunyah_rm_reply(struct gunyah_rm *rm,
			    const struct gunyah_rm_assembly *rx)
{
	struct gunyah_rpc *rpc;
	__le32 error;

	if (rx->size < sizeof(error)) {
		gunyah_rm_bad_message(rm, "a reply without error code");
		return;
	}
	memcpy(&error, rx->payload, sizeof(error));

	xa_lock(&rm->pending);
	rpc = xa_load(&rm->pending, rx->seq);
	if (rpc && rpc->message == rx->message)
		__xa_erase(&rm->pending, rx->seq);
	else
		rpc = NULL;
	xa_unlock(&rm->pending);
	if (!rpc) {
		gunyah_rm_bad_message(rm, "a reply that nobody waits for");
		return;
	}

	if (READ_ONCE(rpc->late))
		atomic64_inc(&rm->counters.late_replies);
	rpc->rm_error = le32_to_cpu(error);
	rpc->err = gunyah_rm_error_errno(rpc->rm_error);
	rpc->size = rx->size - sizeof(error);
	rpc->reply = rpc->size <= sizeof(rpc->small) ?
		     rpc->small : kmalloc(rpc->size, GFP_KERNEL);
	if (rpc->reply)
		memcpy(rpc->reply, rx->payload + sizeof(error), rpc->size);
	else
		rpc->size = 0;
	if (!rpc->reply && !rpc->err)
		rpc->err = -ENOMEM;
	complete_all(&rpc->done);
	gunyah_rpc_put(rpc);
}

static void gunyah_rm_notification(struct gunyah_rm *rm,
				   const struct gunyah_rm_assembly *rx)
{
	struct gunyah_vm *vm;
	u16 vmid;

	atomic64_inc(&rm->counters.notifications);
	trace_gmem_gunyah_notification(rx->message, rx->size);

	/* Those that we know begin with the VMID. */
	if (!gunyah_rm_notified_vmid(rx->message, rx->payload, rx->size, &vmid))
		return;
	vm = xa_load(&rm->vms, vmid);
	if (vm)
		gunyah_vm_notify(vm, rx->message, rx->payload, rx->size);
	wake_up_all(&rm->event);
}

static struct gunyah_rm_assembly *
gunyah_rm_begin_message(struct gunyah_rm *rm,
			const struct gunyah_rm_header *header)
{
	u8 type = FIELD_GET(GUNYAH_RM_TYPE, header->type);
	struct gunyah_rm_assembly *rx;

	rx = &rm->rx[type == GUNYAH_RM_REPLY ? GUNYAH_RM_RX_REPLY :
					       GUNYAH_RM_RX_NOTIFICATION];
	if (type == GUNYAH_RM_REQUEST ||
	    FIELD_GET(GUNYAH_RM_FRAGMENTS, header->type) >
	    GUNYAH_RM_MAX_FRAGMENTS) {
		gunyah_rm_bad_message(rm, "a request, or too many fragments");
		return NULL;
	}
	if (rx->busy)
		gunyah_rm_bad_message(rm, "its last fragments are missing");
	rx->busy = true;
	rx->fragments = FIELD_GET(GUNYAH_RM_FRAGMENTS, header->type);
	rx->fragments_left = rx->fragments;
	rx->seq = le16_to_cpu(header->seq);
	rx->message = le32_to_cpu(header->message);
	rx->size = 0;
	return rx;
}

static struct gunyah_rm_assembly *
gunyah_rm_continue_message(struct gunyah_rm *rm,
			   const struct gunyah_rm_header *header)
{
	struct gunyah_rm_assembly *rx;

	for (rx = rm->rx; rx < rm->rx + GUNYAH_RM_NR_RX; rx++) {
		if (rx->busy &&
		    rx->fragments == FIELD_GET(GUNYAH_RM_FRAGMENTS,
					       header->type) &&
		    rx->seq == le16_to_cpu(header->seq) &&
		    rx->message == le32_to_cpu(header->message)) {
			rx->fragments_left--;
			return rx;
		}
	}
	gunyah_rm_bad_message(rm, "a fragment of something else");
	return NULL;
}

static void gunyah_rm_take(struct gunyah_rm *rm, size_t size)
{
	const struct gunyah_rm_header *header = rm->rx_buf;
	struct gunyah_rm_assembly *rx;

	if (size < sizeof(*header) || header->api != GUNYAH_RM_API) {
		gunyah_rm_bad_message(rm, "its header is unknown");
		return;
	}
	if (FIELD_GET(GUNYAH_RM_TYPE, header->type) == GUNYAH_RM_CONTINUATION)
		rx = gunyah_rm_continue_message(rm, header);
	else
		rx = gunyah_rm_begin_message(rm, header);
	if (!rx)
		return;

	/* 63 messages of at most the payload's size each: it fits. */
	size -= sizeof(*header);
	memcpy(rx->payload + rx->size, header + 1, size);
	rx->size += size;
	if (rx->fragments_left)
		return;

	rx->busy = false;
	if (rx == &rm->rx[GUNYAH_RM_RX_REPLY])
		gunyah_rm_reply(rm, rx);
	else
		gunyah_rm_notification(rm, rx);
}

/* How many messages there were. */
static unsigned int gunyah_rm_drain(struct gunyah_rm *rm)
{
	unsigned int nr = 0;
	bool more = true;
	size_t size;
	s64 error;

	mutex_lock(&rm->rx_lock);
	while (more) {
		error = gunyah_msgqueue_receive(rm->rx_cap, rm->rx_buf,
						GUNYAH_RM_MSG_SIZE, &size,
						&more);
		if (error == GUNYAH_ERROR_MSGQUEUE_EMPTY)
			break;
		if (error) {
			dev_err_ratelimited(rm->dev,
					    "can't receive from the Resource Manager: %s (%lld)\n",
					    gunyah_error_name(error), error);
			break;
		}
		gunyah_rm_take(rm, size);
		nr++;
		cond_resched();
	}
	mutex_unlock(&rm->rx_lock);
	return nr;
}

void gunyah_rm_receive(struct gunyah_rm *rm)
{
	unsigned int nr = gunyah_rm_drain(rm);

	atomic64_add(nr, &rm->counters.found_by_polling);
}

irqreturn_t gunyah_rm_rx_interrupt(int irq, void *data)
{
	struct gunyah_rm *rm = data;

	atomic64_inc(&rm->counters.interrupts);
	gunyah_rm_drain(rm);
	return IRQ_HANDLED;
}

static void gunyah_rm_poll(struct work_struct *work)
{
	struct gunyah_rm *rm = container_of(to_delayed_work(work),
					    struct gunyah_rm, poll);

	gunyah_rm_receive(rm);
	if (!xa_empty(&rm->vms))
		schedule_delayed_work(&rm->poll, gunyah_rm_slice(rm));
}

int gunyah_rm_add_vm(struct gunyah_rm *rm, struct gunyah_vm *vm, u16 vmid)
{
	int err;

	/* Who had the VMID before may just be about to leave: it listens no more. */
	mutex_lock(&rm->rx_lock);
	err = xa_err(xa_store(&rm->vms, vmid, vm, GFP_KERNEL));
	mutex_unlock(&rm->rx_lock);
	if (!err)
		schedule_delayed_work(&rm->poll, gunyah_rm_slice(rm));
	return err;
}

void gunyah_rm_remove_vm(struct gunyah_rm *rm, struct gunyah_vm *vm)
{
	mutex_lock(&rm->rx_lock);
	/* Another one may have the VMID by now. */
	xa_cmpxchg(&rm->vms, vm->vmid, vm, NULL, GFP_KERNEL);
	mutex_unlock(&rm->rx_lock);
}

/* ---- calls ---- */

static struct gunyah_rpc *gunyah_rpc_alloc(struct gunyah_rm *rm, u32 message)
{
	struct gunyah_rpc *rpc;
	u32 seq;

	rpc = kzalloc(sizeof(*rpc), GFP_KERNEL);
	if (!rpc)
		return NULL;
	/* The table's, and the caller's. */
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

static void gunyah_rpc_cancel(struct gunyah_rm *rm, struct gunyah_rpc *rpc)
{
	if (xa_cmpxchg(&rm->pending, rpc->seq, rpc, NULL, GFP_KERNEL) == rpc)
		gunyah_rpc_put(rpc);
}

static bool gunyah_rpc_wait(struct gunyah_rm *rm, struct gunyah_rpc *rpc,
			    unsigned long end)
{
	long left;

	for (;;) {
		left = clamp_t(long, end - jiffies, 1, gunyah_rm_slice(rm));
		if (wait_for_completion_timeout(&rpc->done, left))
			return true;
		gunyah_rm_receive(rm);
		if (time_after_eq(jiffies, end))
			return try_wait_for_completion(&rpc->done);
	}
}

static int gunyah_rpc_finish(struct gunyah_rm *rm, struct gunyah_rpc *rpc,
			     bool answered, size_t size)
{
	int err = answered ? rpc->err : -ETIMEDOUT;

	if (!answered) {
		WRITE_ONCE(rpc->late, true);
		atomic64_inc(&rm->counters.timeouts);
		dev_warn_ratelimited(rm->dev,
				     "the Resource Manager hasn't answered %s (%#x) within %u ms (gmem.gunyah_rm_timeout_ms)\n",
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
		/* The RM throws a message away whose end doesn't come. */
		dev_err_ratelimited(rm->dev,
				    "can't send to the Resource Manager: error %d\n",
				    err);
		trace_gmem_gunyah_rpc(message, rpc->seq, size, 0, err);
		gunyah_rpc_cancel(rm, rpc);
		gunyah_rpc_put(rpc);
		return err == -ETIMEDOUT ? -EIO : err;
	}

	err = gunyah_rpc_finish(rm, rpc, gunyah_rpc_wait(rm, rpc, end), size);
	if (rpcp)
		*rpcp = rpc;
	else
		gunyah_rpc_put(rpc);
	return err;
}

int gunyah_rm_open(struct gunyah_rm *rm)
{
	mutex_init(&rm->tx_lock);
	mutex_init(&rm->rx_lock);
	init_completion(&rm->tx_ready);
	init_waitqueue_head(&rm->event);
	xa_init_flags(&rm->pending, XA_FLAGS_ALLOC);
	xa_init(&rm->vms);
	INIT_DELAYED_WORK(&rm->poll, gunyah_rm_poll);

	/* The hypervisor copies from and to the kernel's linear map. */
	rm->tx_buf = kzalloc(GUNYAH_RM_MSG_SIZE, GFP_KERNEL);
	rm->rx_buf = kzalloc(GUNYAH_RM_MSG_SIZE, GFP_KERNEL);
	rm->rx = kcalloc(GUNYAH_RM_NR_RX, sizeof(*rm->rx), GFP_KERNEL);
	if (rm->tx_buf && rm->rx_buf && rm->rx)
		return 0;
	gunyah_rm_close(rm);
	return -ENOMEM;
}

void gunyah_rm_close(struct gunyah_rm *rm)
{
	struct gunyah_rpc *rpc;
	unsigned long seq;

	cancel_delayed_work_sync(&rm->poll);
	/* What was never answered. */
	xa_for_each(&rm->pending, seq, rpc)
		gunyah_rpc_put(rpc);
	xa_destroy(&rm->pending);
	xa_destroy(&rm->vms);
	kfree(rm->rx);
	kfree(rm->rx_buf);
	kfree(rm->tx_buf);
}
