// SPDX-License-Identifier: GPL-2.0-only
#include <linux/err.h>
#include <linux/math.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>

#include "compat.h"
#include "huge.h"

/*
 * On arm64 with 64 KiB pages, the page cache takes no folio as large as a PMD;
 * contiguous page table entries map 2 MiB there.
 */
unsigned int gmem_huge_order(void)
{
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		return 0;
	if (HPAGE_PMD_ORDER <= MAX_PAGECACHE_ORDER)
		return HPAGE_PMD_ORDER;
	return get_order(SZ_2M);
}

/* Does a mapping hold a huge page as a whole? */
static bool gmem_huge_fits(unsigned long pgoff, unsigned long length)
{
	unsigned long nr = 1UL << gmem_huge_order();

	return pgoff + (length >> PAGE_SHIFT) >= round_up(pgoff, nr) + nr;
}

/* The bytes from @addr to the next address that suits the page @pgoff. */
static unsigned long gmem_huge_skip(unsigned long addr, unsigned long pgoff)
{
	return ((pgoff << PAGE_SHIFT) - addr) &
	       ((PAGE_SIZE << gmem_huge_order()) - 1);
}

/* thp_get_unmapped_area() is for pages of the size of a PMD alone. */
unsigned long gmem_huge_get_unmapped_area(struct file *file, unsigned long addr,
					  unsigned long length,
					  unsigned long pgoff,
					  unsigned long flags)
{
	unsigned long found, wide;

	found = gmem_mm_get_unmapped_area(file, addr, length, pgoff, flags);
	if (IS_ERR_VALUE(found) || found == addr ||
	    !gmem_huge_fits(pgoff, length) || !gmem_huge_skip(found, pgoff))
		return found;
	wide = gmem_mm_get_unmapped_area(file, addr,
					 length + (PAGE_SIZE << gmem_huge_order()),
					 pgoff, flags);
	/* There may be room for the mapping alone. */
	return IS_ERR_VALUE(wide) ? found : wide + gmem_huge_skip(wide, pgoff);
}
