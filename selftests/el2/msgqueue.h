/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MSGQUEUE_H
#define _MSGQUEUE_H

#include "el2.h"

/* The host's capabilities of the two queues to and from the Resource Manager. */
#define TX_CAP			0
#define RX_CAP			1

#define MSGQUEUE_DEPTH		8
#define MSGQUEUE_MAX_SIZE	240

void msgqueue_init(void);

/* The Resource Manager's side. A message of the host's, or 0: there is none. */
u32 msgqueue_take(void *message);
/* False: the host's queue is full. @push: have the host read it now. */
bool msgqueue_put(const void *message, u32 size, bool push);

/* Raise an interrupt that was put off, once it is due. Is one still to come? */
bool msgqueue_poll(void);

#endif /* _MSGQUEUE_H */
