/* SPDX-License-Identifier: GPL-2.0-only */
/* Remote procedure calls to the RM. */
#ifndef _GMEM_GUNYAH_RM_H
#define _GMEM_GUNYAH_RM_H

#include <linux/interrupt.h>
#include <linux/types.h>

struct gunyah_rm;
struct gunyah_rpc;

/* How long to wait for a reply or a notification; a module parameter. */
extern unsigned int gunyah_rm_timeout_ms;

/* Set up the connection, except for its interrupts. -ENOMEM */
int gunyah_rm_open(struct gunyah_rm *rm);
/* The caller has freed the interrupts, and no call or listener is left. */
void gunyah_rm_close(struct gunyah_rm *rm);

irqreturn_t gunyah_rm_tx_interrupt(int irq, void *data);

/*
 * Send a request to the RM and wait for the reply: 0 or an errno. -ETIMEDOUT:
 * the RM hasn't answered in time, and may still carry out the request. @rpc, if
 * not NULL, becomes a reference to the request, or NULL if it wasn't sent.
 */
int gunyah_rm_call(struct gunyah_rm *rm, u32 message, const void *request,
		   size_t size, struct gunyah_rpc **rpc);

#endif /* _GMEM_GUNYAH_RM_H */
