// SPDX-License-Identifier: GPL-2.0-only
/* Readers of state: poll(), fdinfo, /proc, debugfs, netlink. */
#include "fuzz.h"

#include "lib/proc.h"

#include <linux/genetlink.h>
#include <linux/gmem_netlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/vfs.h>

static void read_all(struct thread *t, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), tries = 64;
	char *buffer = pick_buffer(t, KIB(16));

	if (fd < 0)
		return;
	while (tries-- && read(fd, buffer, KIB(4)) > 0)
		;
	close(fd);
}

static void op_poll(struct thread *t)
{
	struct pollfd poll_fd = {
		.fd = pick_fd(t, KIND_VM),
		.events = POLLIN | POLLPRI | POLLOUT,
	};
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI | EPOLLET };
	int set;

	if (once(t, 2)) {
		poll(&poll_fd, 1, rnd(t, 4));
		return;
	}
	set = epoll_create1(EPOLL_CLOEXEC);
	if (!epoll_ctl(set, EPOLL_CTL_ADD, poll_fd.fd, &event))
		epoll_wait(set, &event, 1, rnd(t, 4));
	close(set);
}

static void op_proc(struct thread *t)
{
	static const char *const paths[] = {
		"/proc/self/smaps", "/proc/self/numa_maps", "/proc/self/maps",
		"/sys/kernel/debug/gmem/vms", "/sys/kernel/debug/gmem/guestmems",
		"/sys/kernel/debug/gmem/views", "/sys/kernel/debug/gmem/windows",
	};
	struct statfs fs;
	char path[64];
	int fd;

	if (once(t, 2)) {
		read_all(t, paths[rnd(t, ARRAY_SIZE(paths))]);
		return;
	}
	fd = pick_fd(t, rnd(t, NR_KINDS));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	read_all(t, path);
	fstatfs(fd, &fs);
}

/* ---- netlink ---- */

struct request {
	struct nlmsghdr hdr;
	struct genlmsghdr genl;
	__u8 attrs[256];
};

/* Room for an attribute: its header, and @size bytes. */
static void add_attr(struct request *request, __u16 type, const void *value, __u16 size)
{
	struct nlattr *attr = (void *)((__u8 *)request + request->hdr.nlmsg_len);

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + size;
	memcpy((__u8 *)attr + NLA_HDRLEN, value, size);
	request->hdr.nlmsg_len += NLA_ALIGN(attr->nla_len);
}

/* An attribute in the attributes from @at to @end; NULL without it. */
static struct nlattr *find_attr(__u8 *at, const __u8 *end, __u16 type)
{
	while (at + NLA_HDRLEN <= end) {
		struct nlattr *attr = (void *)at;

		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return attr;
		if (attr->nla_len < NLA_HDRLEN)
			return NULL;
		at += NLA_ALIGN(attr->nla_len);
	}
	return NULL;
}

static __u16 family;
static __u32 event_group;

/* Ask for the numbers of the family and of its group of events. */
static void find_family(int sock)
{
	struct request request = {
		.hdr = {
			.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN,
			.nlmsg_type = GENL_ID_CTRL,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.genl = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 },
	};
	static __thread __u64 room[KIB(1)];
	__u8 *answer = (__u8 *)room;
	__u8 *begin = answer + NLMSG_HDRLEN + GENL_HDRLEN;
	struct nlattr *attr;
	ssize_t got;

	add_attr(&request, CTRL_ATTR_FAMILY_NAME, GMEM_FAMILY_NAME,
		 sizeof(GMEM_FAMILY_NAME));
	if (send(sock, &request, request.hdr.nlmsg_len, 0) < 0)
		return;
	got = recv(sock, answer, sizeof(room), 0);
	if (got <= begin - answer)
		return;
	attr = find_attr(begin, answer + got, CTRL_ATTR_FAMILY_ID);
	if (attr)
		memcpy(&family, (__u8 *)attr + NLA_HDRLEN, sizeof(family));
	/* A nest of groups, each a nest of an ID and a name; the first group. */
	attr = find_attr(begin, answer + got, CTRL_ATTR_MCAST_GROUPS);
	if (!attr)
		return;
	begin = (__u8 *)attr + 2 * NLA_HDRLEN;
	attr = find_attr(begin, (__u8 *)attr + attr->nla_len, CTRL_ATTR_MCAST_GRP_ID);
	if (attr)
		memcpy(&event_group, (__u8 *)attr + NLA_HDRLEN, sizeof(event_group));
}

/* Ask for objects, one or all, and read a part of the answer. */
static void op_netlink(struct thread *t)
{
	static const __u16 flags[] = {
		NLM_F_REQUEST | NLM_F_DUMP, NLM_F_REQUEST | NLM_F_ACK, NLM_F_REQUEST,
	};
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			  NETLINK_GENERIC);
	struct request request = {
		.hdr = {
			.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN,
			.nlmsg_flags = flags[rnd(t, ARRAY_SIZE(flags))],
		},
		.genl = { .cmd = 1 + rnd(t, 10), .version = 1 },
	};
	__u32 attrs = rnd(t, 3), reads = rnd(t, 8), type;
	char *buffer = pick_buffer(t, KIB(32));
	__u64 value;

	if (sock < 0)
		return;
	if (!family)
		find_family(sock);
	request.hdr.nlmsg_type = family;
	while (attrs--) {
		type = rnd(t, 16);
		value = rnd(t, 3) ? rnd(t, 64) : odd_number(t);
		add_attr(&request, type, &value, 4 << rnd(t, 2));
	}
	if (once(t, 4) && event_group)
		setsockopt(sock, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &event_group,
			   sizeof(event_group));
	/* An end in the middle of a dump is a case of its own. */
	if (send(sock, &request, request.hdr.nlmsg_len, 0) > 0)
		while (reads-- && recv(sock, buffer, KIB(32), 0) > 0)
			;
	if (once(t, 4))
		put_fd(t, KIND_SOCKET, sock);
	else
		close(sock);
}

const struct op observe_ops[] = {
	{ "poll()", 4, op_poll },
	{ "a read of /proc", 6, op_proc },
	{ "netlink", 8, op_netlink },
	{}
};
