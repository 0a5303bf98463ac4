/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The Resource Manager (RM), Gunyah's root VM: a connection of two message queues,
 * and remote procedure calls over it.
 */
#ifndef _GMEM_GUNYAH_RM_H
#define _GMEM_GUNYAH_RM_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "rm_wire.h"

struct device;

/* How long to wait for what it has to say; a module parameter. */
extern unsigned int gunyah_rm_timeout_ms;

enum gunyah_rm_rx { GUNYAH_RM_RX_REPLY, GUNYAH_RM_RX_NOTIFICATION, GUNYAH_RM_NR_RX };

/**
 * struct gunyah_rpc - a request on its way, and its reply
 * @ref: the caller's; and that of gunyah_rm.pending, until the reply is there
 * @seq: what the reply will carry
 * @message: the same
 * @late: its caller waits no more
 * @done: the reply is there. What comes below is constant from then on.
 * @rm_error: one of &enum gunyah_rm_error
 * @err: an errno: of @rm_error, or because the reply could not be kept
 * @reply: payload
 * @size: its size
 * @small: room for a reply that must not be lost for want of memory: a handle, a VMID
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

/*
 * A message that is being put together from fragments. Under gunyah_rm.rx_lock. There is
 * one for replies and one for notifications: the one may come between the fragments
 * of the other.
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

/**
 * struct gunyah_rm_listener - receives the notifications about one VM
 * @vmid: the VM; gunyah_rm_listen() sets it
 * @notify: receives each notification, with at least the fixed part of its
 *	message; runs under gunyah_rm.rx_lock, so it must not call the RM
 *
 * Lifetime: the upper layer embeds it in its object of the VM. It listens once
 * the RM has allocated the VMID, and before any request that makes the RM send
 * a notification about the VM. It calls gunyah_rm_unlisten() after the last
 * request and before it frees the object: @notify doesn't run when that returns,
 * and never runs again. The object holds the module, so no listener is left
 * when the connection closes.
 */
struct gunyah_rm_listener {
	u16 vmid;
	void (*notify)(struct gunyah_rm_listener *listener, u32 message,
		       const void *payload, size_t size);
};

/* What happened on a connection, for debugfs. */
struct gunyah_rm_counters {
	atomic64_t calls;
	atomic64_t errors;
	atomic64_t timeouts;
	atomic64_t late_replies;
	atomic64_t notifications;
	atomic64_t bad_messages;
	atomic64_t interrupts;
	atomic64_t found_by_polling;
};

/**
 * struct gunyah_rm - the connection to the RM
 * @dev: its device
 * @tx_cap: capability of the queue to the RM
 * @rx_cap: capability of the queue from it
 * @tx_irq: tells that there is room; 0 for none
 * @rx_irq: tells that there is a message; 0 for none: then whoever waits polls
 * @vmid: who we are
 * @tx_lock: one request at a time goes out; protects @tx_buf
 * @tx_buf: a message
 * @tx_ready: @tx_irq came
 * @rx_lock: protects @rx_buf and @rx; held while a listener is notified, so
 *	that the listener stays
 * @rx_buf: a message
 * @rx: what has come of longer ones: of a reply, of a notification
 * @pending: requests without a reply, by sequence number; holds a reference each
 * @next_seq: cursor of @pending
 * @listeners: VMID -> &struct gunyah_rm_listener; written under @rx_lock
 * @event: a notification came
 * @poll: looks for notifications while there are listeners; with @rx_irq, too,
 *	but seldom: an interrupt may get lost
 * @counters: see there
 *
 * Lifetime: from probe to module exit; VMs hold the module. Locks, outermost first:
 * those of a VM, then @tx_lock or @rx_lock, which are never held together.
 */
struct gunyah_rm {
	struct device *dev;
	u64 tx_cap;
	u64 rx_cap;
	int tx_irq;
	int rx_irq;
	u16 vmid;
	struct mutex tx_lock;
	void *tx_buf;
	struct completion tx_ready;
	struct mutex rx_lock;
	void *rx_buf;
	struct gunyah_rm_assembly *rx;
	struct xarray pending;
	u32 next_seq;
	struct xarray listeners;
	wait_queue_head_t event;
	struct delayed_work poll;
	struct gunyah_rm_counters counters;
};

/* Set up all but the interrupts. -ENOMEM */
int gunyah_rm_open(struct gunyah_rm *rm);
/* Nobody calls, no interrupt comes any more. */
void gunyah_rm_close(struct gunyah_rm *rm);

irqreturn_t gunyah_rm_tx_interrupt(int irq, void *data);
irqreturn_t gunyah_rm_rx_interrupt(int irq, void *data);

/*
 * Ask the RM for something and wait for its answer: 0 or an errno. -ETIMEDOUT: it
 * hasn't answered in time, and may yet do what it was asked. @rpc, if not NULL,
 * gets a reference to what has been asked, or NULL if it wasn't sent.
 */
int gunyah_rm_call(struct gunyah_rm *rm, u32 message, const void *request,
		   size_t size, struct gunyah_rpc **rpc);
void gunyah_rpc_put(struct gunyah_rpc *rpc);

/* Take in what the RM has sent, whether an interrupt told of it or not. */
void gunyah_rm_receive(struct gunyah_rm *rm);

/* From here on @listener receives the notifications about @vmid. -ENOMEM */
int gunyah_rm_listen(struct gunyah_rm *rm, struct gunyah_rm_listener *listener,
		     u16 vmid);
/* Does nothing for a listener that never listened. */
void gunyah_rm_unlisten(struct gunyah_rm *rm,
			struct gunyah_rm_listener *listener);

/* How long to wait between two looks into the queue. */
unsigned long gunyah_rm_slice(const struct gunyah_rm *rm);

/*
 * Wait until @condition, which a notification may bring about; false after
 * @timeout_ms. Not interruptible: teardown waits so.
 */
#define gunyah_rm_wait(rm, condition, timeout_ms)			\
({									\
	unsigned long __end = jiffies + msecs_to_jiffies(timeout_ms);	\
	bool __met;							\
									\
	while (!(__met = !!(condition)) && time_before(jiffies, __end)) {	\
		wait_event_timeout((rm)->event, condition,		\
				   gunyah_rm_slice(rm));		\
		gunyah_rm_receive(rm);					\
	}								\
	__met;								\
})

#endif /* _GMEM_GUNYAH_RM_H */
