/* SPDX-License-Identifier: GPL-2.0-only */
/* The differences between the kernels that gmem builds for. */
#ifndef _GMEM_COMPAT_H
#define _GMEM_COMPAT_H

#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/version.h>
/* For struct folio_batch, whose own header changed its name. */
#include <linux/writeback.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#error "gmem needs Linux 6.12 or later"
#endif

#ifndef CONFIG_64BIT
#error "gmem needs a 64-bit kernel: guest frame numbers are unsigned long"
#endif

#ifndef GMEM_PROBED
#error "Kbuild defines what this file asks for: build by make -C KDIR M=.../kernel"
#endif

/* 6.19 added a memory policy. */
#ifdef GMEM_ALLOC_TAKES_POLICY
#define gmem_filemap_alloc_folio(gfp, order) filemap_alloc_folio(gfp, order, NULL)
#else
#define gmem_filemap_alloc_folio(gfp, order) filemap_alloc_folio(gfp, order)
#endif

/* 6.19 always takes the mm of the caller. */
#ifdef GMEM_UNMAPPED_AREA_TAKES_MM
#define gmem_mm_get_unmapped_area(file, addr, length, pgoff, flags) \
	mm_get_unmapped_area(current->mm, file, addr, length, pgoff, flags)
#else
#define gmem_mm_get_unmapped_area(file, addr, length, pgoff, flags) \
	mm_get_unmapped_area(file, addr, length, pgoff, flags)
#endif

/* 6.17 has no type pfn_t. */
#ifdef GMEM_INSERT_TAKES_PFN_T
#include <linux/pfn_t.h>
#define gmem_insert_pfn_pmd(vmf, pfn, write) \
	vmf_insert_pfn_pmd(vmf, pfn_to_pfn_t(pfn), write)
#else
#define gmem_insert_pfn_pmd(vmf, pfn, write) vmf_insert_pfn_pmd(vmf, pfn, write)
#endif

/*
 * From 6.13 on, KVM takes no reference to a page of a PFN mapping. The function
 * that finds a page says since then whether it took one.
 */
#ifdef GMEM_KVM_TELLS_REFCOUNTED
#define GMEM_KVM_MAPS_TAIL_PAGES 1
#else
#define GMEM_KVM_MAPS_TAIL_PAGES 0
#endif

/*
 * From 6.18 on, a fault that is handed a page maps all pages of its folio. That
 * is a change within a function, so Kbuild can't find it. For an older kernel
 * that has it, build with GMEM_FAULT_MAPS_FOLIO=1.
 */
#ifndef GMEM_FAULT_MAPS_FOLIO
#define GMEM_FAULT_MAPS_FOLIO \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0))
#endif

#endif /* _GMEM_COMPAT_H */
