// SPDX-License-Identifier: GPL-2.0-only
/*
 * A socket joins the group of events before the module exists, when the kernel
 * checks no capability. The test unloads the module for a moment.
 */
#include "lib/netlink_listener.h"

#include <sys/syscall.h>

#define NOBODY 65534

/* The module's path in the virtual machine. */
static const char *module_path(void)
{
	const char *path = getenv("GMEM_MODULE");

	return path ? path : "/modules/gmem.ko";
}

static int unload(void)
{
	int tries, err = -EAGAIN;

	/* Descriptors that were closed last may still end in the background. */
	for (tries = 0; err == -EAGAIN && tries < 100; tries++) {
		err = err_of(syscall(SYS_delete_module, "gmem", O_NONBLOCK));
		usleep(10000);
	}
	return err;
}

static int load(void)
{
	int fd = open(module_path(), O_RDONLY | O_CLOEXEC), err;

	err = err_of(syscall(SYS_finit_module, fd, "", 0));
	close(fd);
	return err;
}

/* A socket in all groups that need no capability. */
static int join_all(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	int fd, group, joined = 0;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_GENERIC);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -1;
	for (group = 1; group <= 1024; group++)
		joined += !setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP,
				      &group, sizeof(group));
	return joined ? fd : -1;
}

/* How many messages of a family are waiting? */
static int count_messages(int fd, int family)
{
	struct nlmsghdr *hdr;
	char buf[16384];
	int n = 0, len;

	while ((len = recv(fd, buf, sizeof(buf), 0)) > 0)
		for (hdr = (struct nlmsghdr *)buf; NLMSG_OK(hdr, len);
		     hdr = NLMSG_NEXT(hdr, len))
			n += hdr->nlmsg_type == family;
	return n;
}

TEST(join_before_the_module)
{
	struct listener *l;
	int nobody, root, mem;

	if (access(module_path(), R_OK))
		SKIP(return, "no module to load");
	ASSERT_EQ(0, unload());
	ASSERT_EQ(0, seteuid(NOBODY));
	nobody = join_all();
	ASSERT_EQ(0, seteuid(0));
	root = join_all();
	ASSERT_EQ(0, load());
	ASSERT_LE(0, nobody);
	ASSERT_LE(0, root);

	l = listener_open();
	ASSERT_EQ(0, listener_join(l));
	mem = new_mem(PAGE, 0);
	ASSERT_LE(0, mem);
	close(mem);
	listener_sync(l);
	/*
	 * Root's socket proves that the other one would have been in the group.
	 */
	EXPECT_LT(0, count_messages(root, l->client.family));
	EXPECT_EQ(0, count_messages(nobody, l->client.family));
	listener_close(l);
	close(nobody);
	close(root);
}

TEST_HARNESS_MAIN
