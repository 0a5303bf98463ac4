/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The users who have opened /dev/gmem. The bindings of all VMs that a user's
 * descriptors of the device have made count together, and have a limit: see
 * GMEM_MAX_BINDINGS.
 */
#ifndef _GMEM_OPENER_H
#define _GMEM_OPENER_H

#include <linux/types.h>

struct gmem_opener;

/* The caller's user, with a reference; or an error pointer. */
struct gmem_opener *gmem_opener_get(void);
struct gmem_opener *gmem_opener_hold(struct gmem_opener *opener);
void gmem_opener_put(struct gmem_opener *opener);

/* One more binding; -ENOSPC at the limit. */
int gmem_opener_add_binding(struct gmem_opener *opener);
void gmem_opener_remove_binding(struct gmem_opener *opener);

u64 gmem_opener_nr_bindings(const struct gmem_opener *opener);
u64 gmem_opener_max_bindings(void);

#endif /* _GMEM_OPENER_H */
