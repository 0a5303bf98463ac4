/* SPDX-License-Identifier: GPL-2.0 */
/* The differences between the kernels that gmem builds for. */
#ifndef _GMEM_COMPAT_H
#define _GMEM_COMPAT_H

#include <linux/pagemap.h>
#include <linux/version.h>
/* For struct folio_batch, whose own header changed its name. */
#include <linux/writeback.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#error "gmem needs Linux 6.12 or later"
#endif

#ifndef CONFIG_64BIT
#error "gmem needs a 64-bit kernel: guest frame numbers are unsigned long"
#endif

/* 6.19 added a memory policy. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define gmem_filemap_alloc_folio(gfp, order) filemap_alloc_folio(gfp, order, NULL)
#else
#define gmem_filemap_alloc_folio(gfp, order) filemap_alloc_folio(gfp, order)
#endif

/* 6.17 has no type pfn_t. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#include <linux/pfn_t.h>
#define gmem_insert_pfn_pmd(vmf, pfn, write) \
	vmf_insert_pfn_pmd(vmf, pfn_to_pfn_t(pfn), write)
#else
#define gmem_insert_pfn_pmd(vmf, pfn, write) vmf_insert_pfn_pmd(vmf, pfn, write)
#endif

/* From 6.13 on, KVM takes no reference to a page of a PFN mapping. */
#define GMEM_KVM_MAPS_TAIL_PAGES \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0))

#endif /* _GMEM_COMPAT_H */
