/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_PLATFORM_H
#define _GMEM_GUNYAH_PLATFORM_H

struct dentry;
struct gunyah_rm;

/*
 * Look for the Resource Manager and connect to it. No error if there is none, or if
 * something is wrong with it, which the log then tells.
 */
int gunyah_platform_init(void);
void gunyah_platform_exit(void);
/* The connection; NULL without. Stays until gunyah_platform_exit(). */
struct gunyah_rm *gunyah_platform_rm(void);
void gunyah_platform_debugfs(struct dentry *dir);

#endif /* _GMEM_GUNYAH_PLATFORM_H */
