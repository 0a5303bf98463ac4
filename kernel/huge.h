/* SPDX-License-Identifier: GPL-2.0-only */
/* Huge pages: how large they are, and where mappings begin so that they fit. */
#ifndef _GMEM_HUGE_H
#define _GMEM_HUGE_H

struct file;

/* The page order of a huge guestmem, 0 if the kernel has none. */
unsigned int gmem_huge_order(void);

/*
 * An address for a mapping of a file from page @pgoff on, unless the caller of
 * mmap() has chosen one: huge pages of the file lie at multiples of their size.
 */
unsigned long gmem_huge_get_unmapped_area(struct file *file, unsigned long addr,
					  unsigned long length,
					  unsigned long pgoff,
					  unsigned long flags);

#endif /* _GMEM_HUGE_H */
