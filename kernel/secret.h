/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guestmems whose pages come from a memfd_secret() file: the kernel's own way to keep
 * pages out of its linear map. What else in the kernel takes a page for its contents
 * finds nothing there; neither do we, but for the moment of a mapping of our own.
 */
#ifndef _GMEM_SECRET_H
#define _GMEM_SECRET_H

#include <linux/types.h>

struct file;
struct folio;

/*
 * Take the memfd_secret() file behind @fd over: nobody else has it, or can map it, any
 * more. Each of its pages is there, and out of the linear map. -EBADF; -EINVAL it is
 * something else, or empty; -EBUSY it is mapped, or another descriptor refers to it;
 * -ENODATA pages are missing; -EOPNOTSUPP its pages are in the linear map. On failure
 * the descriptor stays open, unless others interfered.
 */
struct file *gmem_secret_take(int fd);

bool gmem_folio_is_secret(const struct folio *folio);
/* Such a folio in the kernel's address space, for a while; NULL without memory. */
void *gmem_secret_map(struct folio *folio);
void gmem_secret_unmap(const void *addr);

int gmem_mem_from_secret_call(void *obj, void *arg);

#endif /* _GMEM_SECRET_H */
