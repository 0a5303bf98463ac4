/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_LIVE_H
#define _GMEM_LIVE_H

#include <linux/kconfig.h>
#include <linux/types.h>

#include "compat.h"

struct gmem_provider;

/* The provider "window" for a VM whose windows are live. */
extern const struct gmem_provider gmem_live_provider;

/*
 * KVM on arm64 derives the block size of a PFN mapping from vm_pgoff, as if that
 * were a physical address, and has no dirty log for such a mapping.
 */
static inline bool gmem_live_present(void)
{
	return IS_ENABLED(CONFIG_X86_64);
}

/* Can a live VM take guestmems with huge pages? */
static inline bool gmem_live_takes_huge(void)
{
	return gmem_live_present() && GMEM_KVM_MAPS_TAIL_PAGES &&
	       IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) &&
	       IS_ENABLED(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP);
}

#endif /* _GMEM_LIVE_H */
