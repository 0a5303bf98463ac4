/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_NOTIFY_H
#define _GMEM_NOTIFY_H

#include <linux/types.h>

struct gmem_event_record;

/* Events for the multicast group: a queue of bounded length, and its sender. */
#ifdef CONFIG_NET
/* Is anybody in the group? Else there is no need to make up a record. */
bool gmem_notify_wanted(void);
/* Queue an event. Doesn't sleep; innermost of all locks. */
void gmem_notify(const struct gmem_event_record *rec);

/* Before the family is registered, and before it is unregistered. */
int gmem_notify_init(void);
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
