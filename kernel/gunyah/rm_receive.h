/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Messages from the RM: a reply goes to its request, a notification to the
 * listener of its VM.
 */
#ifndef _GMEM_GUNYAH_RM_RECEIVE_H
#define _GMEM_GUNYAH_RM_RECEIVE_H

#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "rm_connection.h"

/* 0 or -ENOMEM. */
int gunyah_rm_receive_init(struct gunyah_rm *rm);
void gunyah_rm_receive_exit(struct gunyah_rm *rm);

irqreturn_t gunyah_rm_rx_interrupt(int irq, void *data);

/* Read every message that is in the queue, without waiting for an interrupt. */
void gunyah_rm_receive(struct gunyah_rm *rm);

/* From here on @listener receives the notifications about @vmid. -ENOMEM */
int gunyah_rm_listen(struct gunyah_rm *rm, struct gunyah_rm_listener *listener,
		     u16 vmid);
/* Does nothing for a listener that never listened. */
void gunyah_rm_unlisten(struct gunyah_rm *rm,
			struct gunyah_rm_listener *listener);

/*
 * Has another listener taken the place of @listener? Then the RM has given its
 * VMID away.
 */
bool gunyah_rm_replaced(struct gunyah_rm *rm,
			const struct gunyah_rm_listener *listener);

/* How long to wait between two looks into the queue, in jiffies. */
unsigned long gunyah_rm_slice(const struct gunyah_rm *rm);

/*
 * Wait until @condition, which a notification can make true; false after
 * @timeout_ms. Not interruptible, since the teardown of a VM waits this way.
 */
#define gunyah_rm_wait(rm, condition, timeout_ms)			\
({									\
	unsigned long __end = jiffies + msecs_to_jiffies(timeout_ms);	\
	bool __met;							\
									\
	while (!(__met = !!(condition)) &&				\
	       time_before(jiffies, __end)) {				\
		wait_event_timeout((rm)->event, condition,		\
				   gunyah_rm_slice(rm));		\
		gunyah_rm_receive(rm);					\
	}								\
	__met;								\
})

#endif /* _GMEM_GUNYAH_RM_RECEIVE_H */
