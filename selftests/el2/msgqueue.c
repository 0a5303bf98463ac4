// SPDX-License-Identifier: GPL-2.0-only
/*
 * Message queues: one from the host to the Resource Manager, one for the way
 * back.
 */
#include "cap.h"
#include "hypercall.h"
#include "msgqueue.h"

#define FLAG_PUSH		1
#define KEEP			(~0ULL)

static struct msgqueue {
	u8 messages[MSGQUEUE_DEPTH][MSGQUEUE_MAX_SIZE];
	u32 sizes[MSGQUEUE_DEPTH];
	u32 head, count;
	/*
	 * tx: interrupt a sender that found the queue full when no more than
	 * @threshold messages are left. rx: interrupt the receiver when there
	 * are @threshold messages, or fewer for longer than @delay_us (0:
	 * never).
	 */
	u32 threshold, spi;
	u64 delay_us, due_us;
	bool sender_waits;
} tx, rx;

static void push(struct msgqueue *q, const void *message, u32 size)
{
	u32 tail = (q->head + q->count) % MSGQUEUE_DEPTH;

	memcpy(q->messages[tail], message, size);
	q->sizes[tail] = size;
	q->count++;
}

static void pop(struct msgqueue *q)
{
	q->head = (q->head + 1) % MSGQUEUE_DEPTH;
	q->count--;
}

static void wake_sender(void)
{
	if (tx.sender_waits && tx.count <= tx.threshold) {
		tx.sender_waits = false;
		raise_spi(tx.spi);
	}
}

void msgqueue_init(void)
{
	u64 id;

	tx.threshold = MSGQUEUE_DEPTH - 1;
	tx.spi = TX_SPI;
	rx.threshold = 1;
	rx.spi = RX_SPI;
	/* The first two capabilities have ids 0 and 1. */
	cap_create(CAP_MSGQUEUE, MSGQUEUE_SEND, 0, &tx, &id);
	cap_create(CAP_MSGQUEUE, MSGQUEUE_RECEIVE, 0, &rx, &id);
}

u32 msgqueue_take(void *message)
{
	u32 size;

	if (!tx.count)
		return 0;
	size = tx.sizes[tx.head];
	memcpy(message, tx.messages[tx.head], size);
	pop(&tx);
	wake_sender();
	return size;
}

bool msgqueue_put(const void *message, u32 size, bool now)
{
	if (rx.count == MSGQUEUE_DEPTH)
		return false;
	push(&rx, message, size);
	if (now || rx.count >= rx.threshold) {
		rx.due_us = 0;
		raise_spi(rx.spi);
	} else if (rx.delay_us && !rx.due_us) {
		rx.due_us = now_us() + rx.delay_us;
	}
	return true;
}

bool msgqueue_poll(void)
{
	if (!rx.count)
		rx.due_us = 0;
	if (rx.due_us && now_us() >= rx.due_us) {
		rx.due_us = 0;
		raise_spi(rx.spi);
	}
	return rx.due_us;
}

static s64 find(u64 id, u8 right, struct msgqueue **q)
{
	struct cap *cap;
	s64 error = cap_find(id, CAP_MSGQUEUE, right, &cap);

	if (!error)
		*q = cap->object;
	return error;
}

/* x1 cap, x2 size, x3 buffer, x4 flags -> x1 not full */
s64 call_msgqueue_send(u64 *x)
{
	u8 message[MSGQUEUE_MAX_SIZE];
	struct msgqueue *q;
	s64 error = find(x[1], MSGQUEUE_SEND, &q);

	if (error)
		return error;
	if ((x[4] & ~FLAG_PUSH) || x[5])
		return ARG_INVALID;
	if (!x[2] || x[2] > MSGQUEUE_MAX_SIZE)
		return ARG_SIZE;
	if (q->count == MSGQUEUE_DEPTH) {
		q->sender_waits = true;
		return MSGQUEUE_FULL;
	}
	error = copy_from_host(message, x[3], x[2]);
	if (error)
		return error;
	push(q, message, x[2]);
	q->sender_waits = q->count == MSGQUEUE_DEPTH;
	x[1] = !q->sender_waits;
	return OK;
}

/* x1 cap, x2 buffer, x3 its size -> x1 size, x2 not empty */
s64 call_msgqueue_receive(u64 *x)
{
	struct msgqueue *q;
	s64 error = find(x[1], MSGQUEUE_RECEIVE, &q);
	u32 size;

	if (error)
		return error;
	if (x[4])
		return ARG_INVALID;
	if (!q->count)
		return MSGQUEUE_EMPTY;
	size = q->sizes[q->head];
	if (size > x[3])
		return ADDR_OVERFLOW;
	error = copy_to_host(x[2], q->messages[q->head], size);
	if (error)
		return error;
	pop(q);
	x[1] = size;
	x[2] = q->count > 0;
	return OK;
}

/* x1 cap */
s64 call_msgqueue_flush(u64 *x)
{
	struct msgqueue *q;
	s64 error = find(x[1], 0, &q);

	if (error)
		return error;
	if (x[2])
		return ARG_INVALID;
	q->count = 0;
	wake_sender();
	return OK;
}

/* x1 cap, x2 threshold, x3 delay in microseconds, x4 must keep */
static s64 configure(u64 *x, u8 right, u32 lowest)
{
	struct msgqueue *q;
	s64 error = find(x[1], right, &q);

	if (error)
		return error;
	if (x[4] != KEEP)
		return ARG_INVALID;
	if (x[2] != KEEP && x[2] - lowest >= MSGQUEUE_DEPTH)
		return ARG_INVALID;
	if (x[3] != KEEP && x[3] >> 32)
		return ARG_INVALID;
	if (x[2] != KEEP)
		q->threshold = x[2];
	if (x[3] != KEEP)
		q->delay_us = x[3];
	return OK;
}

s64 call_msgqueue_configure_send(u64 *x)
{
	return configure(x, MSGQUEUE_SEND, 0);
}

s64 call_msgqueue_configure_receive(u64 *x)
{
	return configure(x, MSGQUEUE_RECEIVE, 1);
}

/* Only the creator of a queue may configure it, and that is never the host. */
s64 call_msgqueue_configure(u64 *x)
{
	struct msgqueue *q;
	s64 error = find(x[1], 0, &q);

	return error ?: OBJECT_STATE;
}
