/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _MSGQUEUE_H
#define _MSGQUEUE_H

#include "el2.h"

/*
 * The host's capabilities of the two queues to and from the Resource Manager.
 */
#define TX_CAP			0
#define RX_CAP			1

/* A guest's capabilities of its queues */
#define GUEST_TX_CAP		2
#define GUEST_RX_CAP		3

#define MSGQUEUE_DEPTH		8
#define MSGQUEUE_MAX_SIZE	240

void msgqueue_init(void);

/*
 * The Resource Manager's side: take a message of the host's. Returns its size,
 * or 0.
 */
u32 msgqueue_take(void *message);
/*
 * Send a message to the host. False: the queue is full. @push: interrupt the
 * host at once.
 */
bool msgqueue_put(const void *message, u32 size, bool push);

/*
 * Raise a delayed interrupt once it is due. Returns whether one is still
 * delayed.
 */
bool msgqueue_poll(void);

#endif /* _MSGQUEUE_H */
