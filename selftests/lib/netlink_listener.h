/* SPDX-License-Identifier: GPL-2.0-only */
/* A listener for the events of the generic netlink family. */
#ifndef LIB_NETLINK_LISTENER_H
#define LIB_NETLINK_LISTENER_H

#include "gmem.h"
#include "netlink_client.h"

#include <poll.h>

struct event {
	__u64 seq;
	__u32 type;
	__u32 vm;
	__u64 mem;
	__u64 guest_addr;
	__u64 offset;
	__u64 length;
	__u32 flags;
	__u32 cause;
	__u32 error;
	__u32 access;
	__u32 reason;
	__u64 count;
	__u64 lost;
	char name[GMEM_OBJECT_NAME_LEN];
	__u32 window;
	__u32 view;
	__u32 window_kind;
};

#define MAX_EVENTS 8192

struct listener {
	struct client client;
	int nr;
	/* The socket has been full. */
	bool enobufs;
	/* The number of the last message. */
	__u64 last_seq;
	struct event events[MAX_EVENTS];
};

static inline void listener_event(struct nlattr **attrs, void *arg)
{
	struct listener *l = arg;
	struct event *e = &l->events[l->nr];

	if (l->nr == MAX_EVENTS)
		abort();
	l->nr++;
	e->seq = attr_u64(attrs, GMEM_A_EVENT_SEQ);
	l->last_seq = e->seq;
	e->type = attr_u32(attrs, GMEM_A_EVENT_TYPE);
	e->vm = attr_u32(attrs, GMEM_A_EVENT_VM_ID);
	e->mem = attr_u64(attrs, GMEM_A_EVENT_MEM_ID);
	e->guest_addr = attr_u64(attrs, GMEM_A_EVENT_GUEST_ADDR);
	e->offset = attr_u64(attrs, GMEM_A_EVENT_OFFSET);
	e->length = attr_u64(attrs, GMEM_A_EVENT_LENGTH);
	e->flags = attr_u32(attrs, GMEM_A_EVENT_FLAGS);
	e->cause = attr_u32(attrs, GMEM_A_EVENT_CAUSE);
	e->error = attr_u32(attrs, GMEM_A_EVENT_ERROR);
	e->access = attr_u32(attrs, GMEM_A_EVENT_ACCESS);
	e->reason = attr_u32(attrs, GMEM_A_EVENT_REASON);
	e->count = attr_u64(attrs, GMEM_A_EVENT_COUNT);
	e->lost = attr_u64(attrs, GMEM_A_EVENT_LOST);
	attr_name(attrs, GMEM_A_EVENT_NAME, e->name);
	e->window = attr_u32(attrs, GMEM_A_EVENT_WINDOW_ID);
	e->view = attr_u32(attrs, GMEM_A_EVENT_VIEW_ID);
	e->window_kind = attr_u32(attrs, GMEM_A_EVENT_WINDOW_KIND);
}

static inline int listener_join(struct listener *l)
{
	int group;

	group = genl_ctrl_resolve_grp(l->client.sk, GMEM_FAMILY_NAME,
				      GMEM_MCGRP_EVENTS);
	if (group < 0)
		return -ENOENT;
	return err_of(setsockopt(nl_socket_get_fd(l->client.sk), SOL_NETLINK,
				 NETLINK_ADD_MEMBERSHIP, &group,
				 sizeof(group)));
}

static inline struct listener *listener_open(void)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l || client_open(&l->client))
		abort();
	nl_socket_disable_seq_check(l->client.sk);
	nl_socket_set_nonblocking(l->client.sk);
	l->client.fn = listener_event;
	l->client.arg = l;
	return l;
}

static inline void listener_close(struct listener *l)
{
	client_close(&l->client);
	free(l);
}

/* Read until no message arrives for @ms milliseconds. */
static inline void listener_read(struct listener *l, int ms)
{
	struct pollfd pfd = {
		.fd = nl_socket_get_fd(l->client.sk),
		.events = POLLIN,
	};

	while (poll(&pfd, 1, ms) > 0)
		if (nl_recvmsgs_default(l->client.sk) == -NLE_NOMEM)
			l->enobufs = true;
}

static inline bool listener_saw_end(const struct listener *l, __u64 mem)
{
	return l->nr && l->events[l->nr - 1].mem == mem &&
	       l->events[l->nr - 1].type == GMEM_EVENT_MEM_DESTROYED;
}

/*
 * Read all events so far, however slow the machine is: create and close a
 * guestmem, and read up to its events, which aren't kept.
 */
static inline void listener_sync(struct listener *l)
{
	int fd = new_mem(PAGE, 0), i, nr = 0, tries;
	__u64 mem = mem_id(fd);

	close(fd);
	for (tries = 0; tries < 1000 && !listener_saw_end(l, mem); tries++)
		listener_read(l, 10);
	for (i = 0; i < l->nr; i++)
		if (l->events[i].mem != mem)
			l->events[nr++] = l->events[i];
	l->nr = nr;
}

#endif /* LIB_NETLINK_LISTENER_H */
