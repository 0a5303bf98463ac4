/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_NETLINK_H
#define _GMEM_NETLINK_H

/* The generic netlink family; see Documentation/netlink.rst. */
#ifdef CONFIG_NET
int gmem_netlink_init(void);
void gmem_netlink_exit(void);
#else
static inline int gmem_netlink_init(void)
{
	return 0;
}

static inline void gmem_netlink_exit(void)
{
}
#endif

#endif /* _GMEM_NETLINK_H */
