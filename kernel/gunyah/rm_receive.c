// SPDX-License-Identifier: GPL-2.0-only
/* Puts the messages of the RM together from fragments and hands them out. */
#include <linux/bitfield.h>
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "hypercall.h"
#include "rm_connection.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"
#include "trace.h"

enum gunyah_rm_rx {
	GUNYAH_RM_RX_REPLY,
	GUNYAH_RM_RX_NOTIFICATION,
	GUNYAH_RM_NR_RX
};

/*
 * A message that the receiver puts together from fragments; under
 * gunyah_rm.rx_lock. There is one for replies and one for notifications, since
 * a notification may come between the fragments of a reply, and the reverse.
 */
struct gunyah_rm_assembly {
	bool busy;
	u8 fragments;
	u8 fragments_left;
	u16 seq;
	u32 message;
	u32 size;
	u8 payload[GUNYAH_RM_MAX_MESSAGE];
};

/* How often to poll: seldom if there is an interrupt, which may get lost. */
#define GUNYAH_RM_SLICE_MS 100
#define GUNYAH_RM_POLL_MS 2

unsigned long gunyah_rm_slice(const struct gunyah_rm *rm)
{
	return msecs_to_jiffies(rm->rx_irq ? GUNYAH_RM_SLICE_MS :
					     GUNYAH_RM_POLL_MS);
}

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
	__le32 error;

	if (rx->size < sizeof(error)) {
		gunyah_rm_bad_message(rm, "it is a reply without an error code");
		return;
	}
	memcpy(&error, rx->payload, sizeof(error));
	if (!gunyah_rpc_answer(rm, rx->seq, rx->message, le32_to_cpu(error),
			       rx->payload + sizeof(error),
			       rx->size - sizeof(error)))
		gunyah_rm_bad_message(rm, "it is a reply without a request");
}

static void gunyah_rm_notification(struct gunyah_rm *rm,
				   const struct gunyah_rm_assembly *rx)
{
	struct gunyah_rm_listener *listener;
	u16 vmid;

	atomic64_inc(&rm->counters.notifications);
	trace_gmem_gunyah_notification(rx->message, rx->size);

	/* Every notification that gmem handles is about a VM. */
	if (!gunyah_rm_notified_vmid(rx->message, rx->payload, rx->size, &vmid))
		return;
	listener = xa_load(&rm->listeners, vmid);
	if (listener)
		listener->notify(listener, rx->message, rx->payload, rx->size);
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
		gunyah_rm_bad_message(rm, "it is a request, or has too many fragments");
		return NULL;
	}
	if (rx->busy)
		gunyah_rm_bad_message(rm, "the last fragments are missing");
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
	gunyah_rm_bad_message(rm, "it is a fragment of another message");
	return NULL;
}

static void gunyah_rm_take(struct gunyah_rm *rm, size_t size)
{
	const struct gunyah_rm_header *header = rm->rx_buf;
	struct gunyah_rm_assembly *rx;

	if (size < sizeof(*header) || header->api != GUNYAH_RM_API) {
		gunyah_rm_bad_message(rm, "the header is unknown");
		return;
	}
	if (FIELD_GET(GUNYAH_RM_TYPE, header->type) == GUNYAH_RM_CONTINUATION)
		rx = gunyah_rm_continue_message(rm, header);
	else
		rx = gunyah_rm_begin_message(rm, header);
	if (!rx)
		return;

	/* The fragment fits: a message has at most 63, of one payload each. */
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

/* Read the queue until it is empty. Returns the number of messages. */
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
	if (!xa_empty(&rm->listeners))
		schedule_delayed_work(&rm->poll, gunyah_rm_slice(rm));
}

int gunyah_rm_listen(struct gunyah_rm *rm, struct gunyah_rm_listener *listener,
		     u16 vmid)
{
	int err;

	/*
	 * The RM may allocate a VMID again before the VM that had it unlistens:
	 * this replaces the old listener.
	 */
	mutex_lock(&rm->rx_lock);
	listener->vmid = vmid;
	err = xa_err(xa_store(&rm->listeners, vmid, listener, GFP_KERNEL));
	mutex_unlock(&rm->rx_lock);
	if (!err)
		schedule_delayed_work(&rm->poll, gunyah_rm_slice(rm));
	return err;
}

void gunyah_rm_unlisten(struct gunyah_rm *rm,
			struct gunyah_rm_listener *listener)
{
	mutex_lock(&rm->rx_lock);
	/* Another listener may have the VMID by now: leave that alone. */
	xa_cmpxchg(&rm->listeners, listener->vmid, listener, NULL, GFP_KERNEL);
	mutex_unlock(&rm->rx_lock);
}

bool gunyah_rm_replaced(struct gunyah_rm *rm,
			const struct gunyah_rm_listener *listener)
{
	const struct gunyah_rm_listener *now;

	mutex_lock(&rm->rx_lock);
	now = xa_load(&rm->listeners, listener->vmid);
	mutex_unlock(&rm->rx_lock);
	return now && now != listener;
}

int gunyah_rm_receive_init(struct gunyah_rm *rm)
{
	mutex_init(&rm->rx_lock);
	init_waitqueue_head(&rm->event);
	xa_init(&rm->listeners);
	INIT_DELAYED_WORK(&rm->poll, gunyah_rm_poll);

	rm->rx_buf = kzalloc(GUNYAH_RM_MSG_SIZE, GFP_KERNEL);
	rm->rx = kcalloc(GUNYAH_RM_NR_RX, sizeof(*rm->rx), GFP_KERNEL);
	if (rm->rx_buf && rm->rx)
		return 0;
	kfree(rm->rx);
	kfree(rm->rx_buf);
	return -ENOMEM;
}

void gunyah_rm_receive_exit(struct gunyah_rm *rm)
{
	WARN_ON_ONCE(!xa_empty(&rm->listeners));
	cancel_delayed_work_sync(&rm->poll);
	xa_destroy(&rm->listeners);
	kfree(rm->rx);
	kfree(rm->rx_buf);
}
