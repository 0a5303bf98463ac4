/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A client of the generic netlink family, over libnl. Every call returns 0 or
 * more, or -errno.
 */
#ifndef LIB_NETLINK_CLIENT_H
#define LIB_NETLINK_CLIENT_H

#include "test.h"

#include <sys/socket.h>

#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <linux/gmem_netlink.h>

/* The largest number of attributes in a message. */
#define MAX_ATTR 32

struct client {
	struct nl_sock *sk;
	int family;
	/* The result of the current request. */
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
	/* The last message of a dump has its error. */
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
	nl_socket_modify_cb(c->sk, NL_CB_FINISH, NL_CB_CUSTOM, client_finish,
			    c);
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

/* Create a request without attributes. */
static inline struct nl_msg *request_new(const struct client *c, int cmd,
					 int flags)
{
	struct nl_msg *msg = nlmsg_alloc();

	if (!msg || !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, c->family, 0,
				 NLM_F_REQUEST | flags, cmd,
				 GMEM_FAMILY_VERSION))
		abort();
	return msg;
}

/* Send @msg and free it; call @fn for each message of the answer. */
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

/* Copy a string of a name's length; "absent" without the attribute. */
static inline void attr_name(struct nlattr **attrs, int type, char *name)
{
	memcpy(name, "absent", sizeof("absent"));
	if (attrs[type])
		nla_strlcpy(name, attrs[type], GMEM_OBJECT_NAME_LEN);
}

#endif /* LIB_NETLINK_CLIENT_H */
