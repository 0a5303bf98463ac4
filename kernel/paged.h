/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_PAGED_H
#define _GMEM_PAGED_H

struct gmem_provider;

/* The provider "window" for a VM whose windows are paged. */
extern const struct gmem_provider gmem_paged_provider;

#endif /* _GMEM_PAGED_H */
