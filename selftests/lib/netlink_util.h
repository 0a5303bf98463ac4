/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A client of the generic netlink family, over libnl. Every call returns 0 or more,
 * or -errno.
 */
#ifndef NETLINK_UTIL_H
#define NETLINK_UTIL_H

#include "guest_util.h"

#include <poll.h>
#include <sys/socket.h>

#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <linux/gmem_netlink.h>

/* No set of attributes has more. */
#define MAX_ATTR 16

struct client {
	struct nl_sock *sk;
	int family;
	/* The answer to the request that is under way. */
	int err;
	bool done;
	bool interrupted;
	void (*fn)(struct nlattr **attrs, void *arg);
	void *arg;
};

static inline int client_valid(struct nl_msg *msg, void *arg)
{
	struct nlattr *attrs[MAX_ATTR + 1];
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	struct client *c = arg;

	if (hdr->nlmsg_flags & NLM_F_DUMP_INTR)
		c->interrupted = true;
	if (c->fn && !genlmsg_parse(hdr, 0, attrs, MAX_ATTR, NULL))
		c->fn(attrs, c->arg);
	return NL_OK;
}

static inline int client_finish(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	struct client *c = arg;

	if (hdr->nlmsg_flags & NLM_F_DUMP_INTR)
		c->interrupted = true;
	/* A dump that fails says so at its end. */
	if (hdr->nlmsg_len >= (__u32)nlmsg_size(sizeof(int)))
		c->err = *(int *)nlmsg_data(hdr);
	c->done = true;
	return NL_STOP;
}

static inline int client_ack(struct nl_msg *msg, void *arg)
{
	struct client *c = arg;

	(void)msg;
	c->done = true;
	return NL_STOP;
}

static inline int client_error(struct sockaddr_nl *addr, struct nlmsgerr *err,
			void *arg)
{
	struct client *c = arg;

	(void)addr;
	c->err = err->error;
	c->done = true;
	return NL_STOP;
}

static inline int client_interrupted(struct nl_msg *msg, void *arg)
{
	struct client *c = arg;

	(void)msg;
	c->interrupted = true;
	return NL_OK;
}

static inline int client_open(struct client *c)
{
	memset(c, 0, sizeof(*c));
	c->sk = nl_socket_alloc();
	if (!c->sk || genl_connect(c->sk))
		return -EIO;
	c->family = genl_ctrl_resolve(c->sk, GMEM_FAMILY_NAME);
	if (c->family < 0)
		return -ENOENT;
	nl_socket_modify_cb(c->sk, NL_CB_VALID, NL_CB_CUSTOM, client_valid, c);
	nl_socket_modify_cb(c->sk, NL_CB_FINISH, NL_CB_CUSTOM, client_finish, c);
	nl_socket_modify_cb(c->sk, NL_CB_ACK, NL_CB_CUSTOM, client_ack, c);
	nl_socket_modify_cb(c->sk, NL_CB_DUMP_INTR, NL_CB_CUSTOM,
			    client_interrupted, c);
	nl_socket_modify_err_cb(c->sk, NL_CB_CUSTOM, client_error, c);
	return 0;
}

static inline void client_close(struct client *c)
{
	nl_socket_free(c->sk);
	c->sk = NULL;
}

/* A request without attributes yet. */
static inline struct nl_msg *request_new(const struct client *c, int cmd, int flags)
{
	struct nl_msg *msg = nlmsg_alloc();

	if (!msg || !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, c->family, 0,
				 NLM_F_REQUEST | flags, cmd,
				 GMEM_FAMILY_VERSION))
		abort();
	return msg;
}

/* Send, and call @fn for each message of the answer. Frees @msg. */
static inline int request_send(struct client *c, struct nl_msg *msg,
			void (*fn)(struct nlattr **attrs, void *arg), void *arg)
{
	int ret;

	c->err = 0;
	c->done = false;
	c->interrupted = false;
	c->fn = fn;
	c->arg = arg;
	ret = nl_send_auto(c->sk, msg);
	nlmsg_free(msg);
	if (ret < 0)
		return -EIO;
	while (!c->done) {
		ret = nl_recvmsgs_default(c->sk);
		if (ret == -NLE_DUMP_INTR)
			c->interrupted = true;
		else if (ret < 0 && !c->done)
			return -EIO;
	}
	return c->err;
}

static inline int request_dump(struct client *c, int cmd,
			void (*fn)(struct nlattr **attrs, void *arg), void *arg)
{
	return request_send(c, request_new(c, cmd, NLM_F_DUMP), fn, arg);
}

static inline int request_do(struct client *c, int cmd,
		      void (*fn)(struct nlattr **attrs, void *arg), void *arg)
{
	return request_send(c, request_new(c, cmd, NLM_F_ACK), fn, arg);
}

static inline int request_u32(struct client *c, int cmd, int flags, int attr,
		       __u32 value,
		       void (*fn)(struct nlattr **attrs, void *arg), void *arg)
{
	struct nl_msg *msg = request_new(c, cmd, flags);

	nla_put_u32(msg, attr, value);
	return request_send(c, msg, fn, arg);
}

static inline int request_u64(struct client *c, int cmd, int flags, int attr,
		       __u64 value,
		       void (*fn)(struct nlattr **attrs, void *arg), void *arg)
{
	struct nl_msg *msg = request_new(c, cmd, flags);

	nla_put_u64(msg, attr, value);
	return request_send(c, msg, fn, arg);
}

static inline __u32 attr_u32(struct nlattr **attrs, int type)
{
	return attrs[type] ? nla_get_u32(attrs[type]) : 0;
}

static inline __u64 attr_u64(struct nlattr **attrs, int type)
{
	return attrs[type] ? nla_get_u64(attrs[type]) : 0;
}

/* ---- events ---- */

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
};

#define MAX_EVENTS 8192

struct listener {
	struct client client;
	int nr;
	/* The socket was full at some time. */
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

/* Read what comes until nothing has come for @ms milliseconds. */
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
 * Read all events of what has happened so far, however slow the machine is: up to
 * those of a guestmem that comes and goes now, which aren't kept.
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

#endif /* NETLINK_UTIL_H */
