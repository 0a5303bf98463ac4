/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_COVER_H
#define _GMEM_COVER_H

struct dentry;

#ifdef CONFIG_GMEM_COVER
/* The compiler makes the calls. */
void __sanitizer_cov_trace_pc(void);

/* Add the file that lists the places in the module's code that have run. */
void gmem_cover_debugfs(struct dentry *dir);
#else
static inline void gmem_cover_debugfs(struct dentry *dir)
{
}
#endif

#endif /* _GMEM_COVER_H */
