// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events on their way to the multicast group.
 *
 * The core reports an event where it may neither sleep for long nor fail: under
 * a folio lock, in the middle of a guest's page fault. So the event goes into a
 * preallocated ring, and a work item turns the events of the ring into
 * messages. A little delay lets neighbouring pages become one message.
 *
 * When the ring is full, events are lost. An overrun event in their place has
 * their number. When the socket of a receiver is full, the receiver gets
 * ENOBUFS and sees a gap in the sequence numbers.
 */
#include <linux/cache.h>
#include <linux/capability.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "notify.h"

#define GMEM_NOTIFY_CAPACITY 2048
#define GMEM_NOTIFY_DELAY msecs_to_jiffies(10)
/* Messages per buffer: as many as fit into a page. */
#define GMEM_NOTIFY_BATCH 16
/* How many of the newest events to look at for one that can be extended. */
#define GMEM_NOTIFY_LOOK_BACK 8

static void gmem_notify_work_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(gmem_notify_work, gmem_notify_work_fn);
static struct workqueue_struct *gmem_notify_wq;

/* The family with the group; set before anything can report an event. */
static const struct genl_family *gmem_notify_family __ro_after_init;

/**
 * struct gmem_notify_queue - events that are yet to be sent
 * @lock: protects all below; never taken in interrupts
 * @on: events are taken; READ_ONCE() without the lock for a first look
 * @hold: nothing is sent
 * @head: index of the oldest event
 * @nr: events in @ring
 * @lost: events lost since the newest one in @ring
 * @ring: room for GMEM_NOTIFY_CAPACITY
 */
static struct gmem_notify_queue {
	spinlock_t lock;
	bool on;
	bool hold;
	unsigned int head;
	unsigned int nr;
	u64 lost;
	struct gmem_event_record *ring;
} gmem_notify_queue = {
	.lock = __SPIN_LOCK_UNLOCKED(gmem_notify_queue.lock),
};

/*
 * The work item's own: number of the last message, and the events that it
 * sends.
 */
static u64 gmem_notify_seq;
static struct gmem_event_record gmem_notify_batch[GMEM_NOTIFY_BATCH];

/* ---- putting in ---- */

bool gmem_notify_wanted(void)
{
	return READ_ONCE(gmem_notify_queue.on) &&
	       genl_has_listeners(gmem_notify_family, &init_net, 0);
}

static struct gmem_event_record *gmem_notify_at(struct gmem_notify_queue *q,
						unsigned int i)
{
	return &q->ring[(q->head + i) % GMEM_NOTIFY_CAPACITY];
}

static bool gmem_notify_alike(const struct gmem_event_record *a,
			      const struct gmem_event_record *b)
{
	return a->type == b->type && a->vm_id == b->vm_id &&
	       a->mem_id == b->mem_id && a->flags == b->flags &&
	       a->cause == b->cause && a->error == b->error &&
	       a->access == b->access && a->reason == b->reason;
}

/* Merge @new into @old; false if the two can't be one event. */
static bool gmem_notify_merge(struct gmem_event_record *old,
			      const struct gmem_event_record *new)
{
	if (!gmem_notify_alike(old, new))
		return false;

	switch (new->type) {
	case GMEM_EVENT_REFUSED:
	case GMEM_EVENT_RECLAIM_REFUSED:
		/* The same event happened again. */
		if (old->guest_addr != new->guest_addr ||
		    old->length != new->length || old->offset != new->offset)
			return false;
		old->count += new->count;
		return true;
	case GMEM_EVENT_UNMAP:
	case GMEM_EVENT_CHANGE:
	case GMEM_EVENT_LEND:
	case GMEM_EVENT_SHARE:
	case GMEM_EVENT_RECLAIM:
	case GMEM_EVENT_LEAK:
		if (old->guest_addr + old->length != new->guest_addr)
			return false;
		fallthrough;
	case GMEM_EVENT_HWPOISON:
		if (old->offset + old->length != new->offset)
			return false;
		old->length += new->length;
		return true;
	}
	return false;
}

/*
 * Several guests may be busy at a time, so look further back than to the newest
 * event; but events that concern the same VM or guestmem keep their order.
 */
static bool gmem_notify_extend(struct gmem_notify_queue *q,
			       const struct gmem_event_record *new)
{
	unsigned int i, n = min(q->nr, GMEM_NOTIFY_LOOK_BACK);
	struct gmem_event_record *old;

	/* The lost events came after those in the ring. */
	if (q->lost)
		return false;
	for (i = 1; i <= n; i++) {
		old = gmem_notify_at(q, q->nr - i);
		if (gmem_notify_merge(old, new))
			return true;
		if (old->vm_id == new->vm_id || old->mem_id == new->mem_id ||
		    old->type == GMEM_EVENT_OVERRUN)
			return false;
	}
	return false;
}

static struct gmem_event_record gmem_notify_overrun(struct gmem_notify_queue *q)
{
	struct gmem_event_record rec = {
		.type = GMEM_EVENT_OVERRUN,
		.count = q->lost,
	};

	q->lost = 0;
	return rec;
}

static void gmem_notify_append(struct gmem_notify_queue *q,
			       const struct gmem_event_record *rec)
{
	if (q->nr + !!q->lost >= GMEM_NOTIFY_CAPACITY) {
		q->lost++;
		return;
	}
	if (q->lost)
		*gmem_notify_at(q, q->nr++) = gmem_notify_overrun(q);
	*gmem_notify_at(q, q->nr++) = *rec;
}

void gmem_notify(const struct gmem_event_record *rec)
{
	struct gmem_notify_queue *q = &gmem_notify_queue;

	spin_lock(&q->lock);
	if (q->on) {
		if (!gmem_notify_extend(q, rec))
			gmem_notify_append(q, rec);
		if (q->nr < GMEM_NOTIFY_CAPACITY / 2)
			queue_delayed_work(gmem_notify_wq, &gmem_notify_work,
					   GMEM_NOTIFY_DELAY);
		else
			mod_delayed_work(gmem_notify_wq, &gmem_notify_work, 0);
	}
	spin_unlock(&q->lock);
}

/* ---- sending ---- */

static size_t gmem_notify_msg_size(void)
{
	return NLMSG_ALIGN(nlmsg_msg_size(GENL_HDRLEN)) +
	       7 * nla_total_size_64bit(sizeof(u64)) +
	       9 * nla_total_size(sizeof(u32)) +
	       nla_total_size(GMEM_OBJECT_NAME_LEN);
}

static int gmem_notify_put_u64(struct sk_buff *skb, int type, u64 value)
{
	return nla_put_u64_64bit(skb, type, value, GMEM_A_EVENT_PAD);
}

static int gmem_notify_put_range(struct sk_buff *skb,
				 const struct gmem_event_record *rec)
{
	if (!rec->length)
		return 0;
	if (rec->vm_id && gmem_notify_put_u64(skb, GMEM_A_EVENT_GUEST_ADDR,
					      rec->guest_addr))
		return -EMSGSIZE;
	if (rec->mem_id &&
	    gmem_notify_put_u64(skb, GMEM_A_EVENT_OFFSET, rec->offset))
		return -EMSGSIZE;
	return gmem_notify_put_u64(skb, GMEM_A_EVENT_LENGTH, rec->length);
}

/* An attribute without a value isn't in the message. */
static int gmem_notify_put(struct sk_buff *skb,
			   const struct gmem_event_record *rec)
{
	if (gmem_notify_put_u64(skb, GMEM_A_EVENT_SEQ, ++gmem_notify_seq) ||
	    nla_put_u32(skb, GMEM_A_EVENT_TYPE, rec->type) ||
	    (rec->vm_id &&
	     nla_put_u32(skb, GMEM_A_EVENT_VM_ID, rec->vm_id)) ||
	    (rec->mem_id &&
	     gmem_notify_put_u64(skb, GMEM_A_EVENT_MEM_ID, rec->mem_id)) ||
	    gmem_notify_put_range(skb, rec) ||
	    (rec->flags &&
	     nla_put_u32(skb, GMEM_A_EVENT_FLAGS, rec->flags)) ||
	    (rec->cause &&
	     nla_put_u32(skb, GMEM_A_EVENT_CAUSE, rec->cause)) ||
	    (rec->error &&
	     nla_put_u32(skb, GMEM_A_EVENT_ERROR, rec->error)) ||
	    (rec->access &&
	     nla_put_u32(skb, GMEM_A_EVENT_ACCESS, rec->access)) ||
	    (rec->reason &&
	     nla_put_u32(skb, GMEM_A_EVENT_REASON, rec->reason)) ||
	    (*rec->name &&
	     nla_put_string(skb, GMEM_A_EVENT_NAME, rec->name)) ||
	    (rec->view_id &&
	     nla_put_u32(skb, GMEM_A_EVENT_VIEW_ID, rec->view_id)) ||
	    (rec->window_id &&
	     nla_put_u32(skb, GMEM_A_EVENT_WINDOW_ID, rec->window_id)) ||
	    (rec->window_kind &&
	     nla_put_u32(skb, GMEM_A_EVENT_WINDOW_KIND, rec->window_kind)))
		return -EMSGSIZE;
	if (!rec->count)
		return 0;
	return gmem_notify_put_u64(skb, rec->type == GMEM_EVENT_OVERRUN ?
					GMEM_A_EVENT_LOST : GMEM_A_EVENT_COUNT,
				   rec->count);
}

static void gmem_notify_put_msg(struct sk_buff *skb,
				const struct gmem_event_record *rec)
{
	void *hdr;

	hdr = genlmsg_put(skb, 0, 0, gmem_notify_family, 0, GMEM_CMD_EVENT);
	/* gmem_notify_msg_size() is the room that the largest one needs. */
	if (WARN_ON_ONCE(!hdr || gmem_notify_put(skb, rec)))
		return;
	genlmsg_end(skb, hdr);
}

/* How many messages there are to be sent, up to a batch. */
static unsigned int gmem_notify_ready(struct gmem_notify_queue *q)
{
	unsigned int nr = 0;

	spin_lock(&q->lock);
	if (!q->hold)
		nr = min(q->nr + !!q->lost, GMEM_NOTIFY_BATCH);
	spin_unlock(&q->lock);
	return nr;
}

/* Take up to @max events out of the queue. */
static unsigned int gmem_notify_take(struct gmem_notify_queue *q,
				     unsigned int max)
{
	unsigned int nr;

	spin_lock(&q->lock);
	for (nr = 0; nr < max && q->nr; nr++, q->nr--) {
		gmem_notify_batch[nr] = *gmem_notify_at(q, 0);
		q->head = (q->head + 1) % GMEM_NOTIFY_CAPACITY;
	}
	/* The ring is empty, so the lost events come next. */
	if (nr < max && q->lost)
		gmem_notify_batch[nr++] = gmem_notify_overrun(q);
	spin_unlock(&q->lock);
	return nr;
}

/*
 * The kernel checks the group's capability only when a socket joins. A socket
 * may have joined this group number before the family got it.
 */
static int gmem_notify_filter(struct sock *sk, struct sk_buff *skb, void *data)
{
	const struct file *file = sk->sk_socket ? sk->sk_socket->file : NULL;

	return !file || !file_ns_capable(file, &init_user_ns, CAP_SYS_ADMIN);
}

static void gmem_notify_work_fn(struct work_struct *work)
{
	struct gmem_notify_queue *q = &gmem_notify_queue;
	struct sk_buff *skb;
	unsigned int i, nr;

	while ((nr = gmem_notify_ready(q))) {
		skb = nlmsg_new(nr * gmem_notify_msg_size(), GFP_KERNEL);
		if (!skb) {
			/* The events wait in the ring, which may overrun. */
			queue_delayed_work(gmem_notify_wq, &gmem_notify_work,
					   GMEM_NOTIFY_DELAY);
			return;
		}
		nr = gmem_notify_take(q, nr);
		for (i = 0; i < nr; i++)
			gmem_notify_put_msg(skb, &gmem_notify_batch[i]);
		/*
		 * A receiver without room for it learns that from its socket.
		 */
		genlmsg_multicast_netns_filtered(gmem_notify_family, &init_net,
						 skb, 0, 0, GFP_KERNEL,
						 gmem_notify_filter, NULL);
		cond_resched();
	}
}

#ifdef CONFIG_GMEM_TEST
void gmem_notify_hold(bool hold)
{
	struct gmem_notify_queue *q = &gmem_notify_queue;

	spin_lock(&q->lock);
	q->hold = hold;
	if (q->on && !hold)
		mod_delayed_work(gmem_notify_wq, &gmem_notify_work, 0);
	spin_unlock(&q->lock);
}
#endif

int gmem_notify_init(const struct genl_family *family)
{
	struct gmem_notify_queue *q = &gmem_notify_queue;

	q->ring = kvcalloc(GMEM_NOTIFY_CAPACITY, sizeof(*q->ring), GFP_KERNEL);
	if (!q->ring)
		return -ENOMEM;
	gmem_notify_wq = alloc_workqueue("gmem_notify", WQ_UNBOUND, 0);
	if (!gmem_notify_wq) {
		kvfree(q->ring);
		return -ENOMEM;
	}
	gmem_notify_family = family;
	WRITE_ONCE(q->on, true);
	return 0;
}

void gmem_notify_exit(void)
{
	struct gmem_notify_queue *q = &gmem_notify_queue;

	/* Guestmems may still end, but from now on nobody reports that. */
	spin_lock(&q->lock);
	WRITE_ONCE(q->on, false);
	spin_unlock(&q->lock);
	/* Send the queued events, unless there is no memory for that. */
	flush_delayed_work(&gmem_notify_work);
	cancel_delayed_work_sync(&gmem_notify_work);
	destroy_workqueue(gmem_notify_wq);
	kvfree(q->ring);
}
