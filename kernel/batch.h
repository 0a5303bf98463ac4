/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_BATCH_H
#define _GMEM_BATCH_H

#include <linux/types.h>

struct gmem_binding;

/*
 * Provide all of [@first, @last], pages of @b's guestmem, in one step: for a
 * provider with batches. All or nothing; @nr grows by the pages. -ERESTART if
 * a page is being punched. Under gmem_vm.lock.
 */
int gmem_batch_provide(struct gmem_binding *b, pgoff_t first, pgoff_t last,
		       u64 *nr);

/*
 * Undo a partial reclaim: of [@first, @last], provide again the pages that are
 * still the guest's. A page that fails is provided when the guest next uses it,
 * and so is a page that is being punched. Under gmem_vm.lock, so that no unmap is
 * halfway through these pages. Goes in pieces.
 */
void gmem_batch_restore(struct gmem_binding *b, pgoff_t first, pgoff_t last);

#endif /* _GMEM_BATCH_H */
