/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_TOUCH_H
#define _GMEM_TOUCH_H

#include <linux/mm_types.h>
#include <linux/types.h>

struct folio;
struct gmem_mem;
struct vm_fault;

/*
 * The fault of a mapping, not a guest's, that reaches pages of @mem: @get gets
 * the folio at vmf->pgoff, locked and referenced, as gmem_lend_host_get() does.
 */
vm_fault_t gmem_touch(struct vm_fault *vmf, struct gmem_mem *mem,
		      int (*get)(struct vm_fault *vmf, bool wait,
				 struct folio **folio));

/*
 * The last step of a fault: hand @folio, locked and referenced, to the kernel. The
 * kernel may map all of it. So where a page of it is broken, wait until it is split;
 * VM_FAULT_SIGBUS if it can't be.
 */
vm_fault_t gmem_touch_hand_over(struct vm_fault *vmf, struct gmem_mem *mem,
				struct folio *folio);

#endif /* _GMEM_TOUCH_H */
