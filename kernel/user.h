/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The users of a guestmem: while it has one, it keeps its pages. Its files are
 * users; a binding holds one of them. A view is one until it is revoked.
 *
 * The inode may live longer: a revoked view and the window of a binding that is
 * gone hold it while they are mapped, because their mappings stand in its
 * i_mapping. None of these can reach a page.
 */
#ifndef _GMEM_USER_H
#define _GMEM_USER_H

struct gmem_mem;

/*
 * A caller that isn't a user holds the inode, and may have to wait: -EINTR on a
 * fatal signal.
 */
int gmem_user_get(struct gmem_mem *mem);
/* The caller holds the inode. */
void gmem_user_put(struct gmem_mem *mem);
/* For a new guestmem. */
void gmem_user_init(struct gmem_mem *mem);

#endif /* _GMEM_USER_H */
