/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_PLATFORM_H
#define _GMEM_GUNYAH_PLATFORM_H

#include <linux/types.h>

struct dentry;
struct gmem_provider_limits;
struct gunyah_rm;

/*
 * Look for the Resource Manager and connect to it. No error if there is none,
 * or if the connection fails: the log says why.
 */
int gunyah_platform_init(void);
void gunyah_platform_exit(void);
/* Is there a connection for new VMs? It may be gone at any time. */
bool gunyah_platform_present(void);
/* That connection, with a reference; NULL: there is none. */
struct gunyah_rm *gunyah_platform_get_rm(void);
/* The last reference closes the connection. */
void gunyah_platform_put_rm(struct gunyah_rm *rm);
/* See gmem_provider.limits. */
void gunyah_platform_limits(struct gmem_provider_limits *limits);
void gunyah_platform_debugfs(struct dentry *dir);

#endif /* _GMEM_GUNYAH_PLATFORM_H */
