/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_NOTIFY_H
#define _GMEM_NOTIFY_H

#include <linux/gmem.h>
#include <linux/gmem_netlink.h>
#include <linux/types.h>

struct genl_family;

/**
 * struct gmem_event_record - an event on its way to the listeners
 * @type: one of &enum gmem_event
 * @vm_id: the VM, or 0
 * @mem_id: the guestmem, or 0
 * @view_id: the view, or 0
 * @window_id: the window descriptor, or 0
 * @guest_addr: bytes
 * @offset: bytes
 * @length: bytes; 0 if the event is of no range
 * @flags: of a binding
 * @cause: one of &enum gmem_reclaim_cause, or 0
 * @error: an errno, or 0
 * @access: bits of &enum gmem_access
 * @reason: one of &enum gmem_fault_reason, or 0
 * @count: number of equal events, or 0; of overrun: events lost
 * @window_kind: of a new VM: one of &enum gmem_window_kind
 * @name: of a new object, or empty
 */
struct gmem_event_record {
	u32 type;
	u32 vm_id;
	u64 mem_id;
	u32 view_id;
	u32 window_id;
	u64 guest_addr;
	u64 offset;
	u64 length;
	u32 flags;
	u32 cause;
	u32 error;
	u32 access;
	u32 reason;
	u64 count;
	u32 window_kind;
	char name[GMEM_OBJECT_NAME_LEN];
};

/* Events for the multicast group: a queue of bounded length, and its sender. */
#ifdef CONFIG_NET
/* Is anybody in the group? If not, the caller needs no record. */
bool gmem_notify_wanted(void);
/* Queue an event. Doesn't sleep. */
void gmem_notify(const struct gmem_event_record *rec);

/* The group of @family gets the events. Call this before registering it. */
int gmem_notify_init(const struct genl_family *family);
/* Call this before the family is unregistered. */
void gmem_notify_exit(void);

#ifdef CONFIG_GMEM_TEST
/* Keep the queue from being sent. */
void gmem_notify_hold(bool hold);
#endif
#else
static inline bool gmem_notify_wanted(void)
{
	return false;
}

static inline void gmem_notify(const struct gmem_event_record *rec)
{
}

static inline void gmem_notify_hold(bool hold)
{
}
#endif

#endif /* _GMEM_NOTIFY_H */
