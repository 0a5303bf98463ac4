/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages of a memfd_secret() file, for a guestmem: the kernel's own way to keep
 * pages out of its linear map. No part of the kernel can read such a page by
 * its linear address; gmem maps one for a moment to reach it.
 */
#ifndef _GMEM_SECRET_H
#define _GMEM_SECRET_H

#include <linux/types.h>

struct file;
struct folio;

/*
 * Take over the memfd_secret() file behind @fd: from now on nobody else has it
 * or can map it. Each of its pages is there, and out of the linear map. -EBADF;
 * -EINVAL if it is another kind of file, or empty; -EBUSY if it is mapped, or
 * another descriptor refers to it; -ENODATA if pages are missing; -EOPNOTSUPP
 * if its pages are in the linear map. On failure the descriptor stays open,
 * unless another task interfered.
 */
struct file *gmem_secret_take(int fd);

bool gmem_folio_is_secret(const struct folio *folio);
/* Map such a folio into the kernel for a while; NULL without memory. */
void *gmem_secret_map(struct folio *folio);
void gmem_secret_unmap(const void *addr);

#endif /* _GMEM_SECRET_H */
