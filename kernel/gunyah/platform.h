/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_PLATFORM_H
#define _GMEM_GUNYAH_PLATFORM_H

struct dentry;
struct gunyah_rm;

/*
 * Look for the Resource Manager and connect to it. No error if there is none,
 * or if the connection fails: the log says why.
 */
int gunyah_platform_init(void);
void gunyah_platform_exit(void);
/* The connection, or NULL. It stays until gunyah_platform_exit(). */
struct gunyah_rm *gunyah_platform_rm(void);
void gunyah_platform_debugfs(struct dentry *dir);

#endif /* _GMEM_GUNYAH_PLATFORM_H */
