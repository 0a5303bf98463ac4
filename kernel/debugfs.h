/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_DEBUGFS_H
#define _GMEM_DEBUGFS_H

/*
 * The state as text, for humans: VMs with their bindings, guestmems with their
 * page counts. The format may change; programs use netlink.
 */
#ifdef CONFIG_DEBUG_FS
void gmem_debugfs_init(void);
/* Waits for running readers. */
void gmem_debugfs_exit(void);
#else
static inline void gmem_debugfs_init(void)
{
}

static inline void gmem_debugfs_exit(void)
{
}
#endif

#endif /* _GMEM_DEBUGFS_H */
