/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Types of the connection to the Resource Manager (RM), Gunyah's root VM: two
 * message queues that carry requests, replies and notifications.
 */
#ifndef _GMEM_GUNYAH_RM_CONNECTION_H
#define _GMEM_GUNYAH_RM_CONNECTION_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

struct device;
struct gunyah_rm_assembly;

/**
 * struct gunyah_rm_listener - receives the notifications about one VM
 * @vmid: the VM; gunyah_rm_listen() sets it
 * @notify: called for each notification, with at least the fixed part of its
 *	message; runs under gunyah_rm.rx_lock, so it must not call the RM
 *
 * Lifetime: the upper layer embeds the listener in its object for the VM. It
 * calls gunyah_rm_listen() when the RM has allocated the VMID, before any
 * request that makes the RM send a notification about the VM. It calls
 * gunyah_rm_unlisten() after the last request and before it frees the object:
 * when that returns, @notify isn't running and never runs again. A VM holds the
 * connection, so no listener is left when it closes.
 */
struct gunyah_rm_listener {
	u16 vmid;
	void (*notify)(struct gunyah_rm_listener *listener, u32 message,
		       const void *payload, size_t size);
};

/* Events on a connection, counted for debugfs. */
struct gunyah_rm_counters {
	atomic64_t calls;
	atomic64_t errors;
	atomic64_t timeouts;
	atomic64_t late_replies;
	atomic64_t notifications;
	atomic64_t bad_messages;
	atomic64_t interrupts;
	atomic64_t found_by_polling;
	atomic64_t pieces;
	atomic64_t vms_waiting;
};

/**
 * struct gunyah_rm - the connection to the RM
 * @ref: the platform device and each VM hold one; the last one closes it
 * @dev: the RM's platform device; a reference
 * @tx_cap: capability of the queue to the RM
 * @rx_cap: capability of the queue from the RM
 * @tx_irq: comes when the queue to the RM has room again; 0: there is none
 * @rx_irq: comes when the RM has sent a message; 0: there is none, and every
 *	function that waits for a message polls
 * @vmid: VMID of the VM that this kernel runs in
 * @demand_paging: the RM grants extents; without it, memory goes in parcels
 * @boot_context: the RM can set the registers of a vCPU
 * @tx_lock: held while a request is sent, one at a time; protects @tx_buf
 * @tx_buf: the message that is sent
 * @tx_ready: completed by @tx_irq
 * @rx_lock: protects @rx_buf and @rx; held while a listener's callback runs, so
 *	that the listener stays
 * @rx_buf: the message that was received last
 * @rx: messages that the receiver puts together from fragments
 * @pending: requests without a reply, by sequence number; each holds a
 *	reference
 * @next_seq: cursor of @pending
 * @listeners: VMID -> &struct gunyah_rm_listener; written under @rx_lock
 * @event: woken after each notification about a VM
 * @poll: looks for messages while there are listeners. With @rx_irq it does
 *	so, too, but seldom: an interrupt may get lost.
 * @counters: events
 *
 * Lifetime: from probe to the removal of the device or the end of the last VM,
 * whichever is later. Lock order, outermost first: the locks of a VM, then
 * @tx_lock or @rx_lock, never both.
 */
struct gunyah_rm {
	struct kref ref;
	struct device *dev;
	u64 tx_cap;
	u64 rx_cap;
	int tx_irq;
	int rx_irq;
	u16 vmid;
	bool demand_paging;
	bool boot_context;
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

#endif /* _GMEM_GUNYAH_RM_CONNECTION_H */
