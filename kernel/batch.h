/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_BATCH_H
#define _GMEM_BATCH_H

#include <linux/types.h>

struct gmem_binding;

/*
 * Provide all of [@first, @last], pages of @b's guestmem, at one stroke: for a provider
 * with batches. All or nothing; @nr grows by the pages. Under gmem_vm.lock.
 */
int gmem_batch_provide(struct gmem_binding *b, pgoff_t first, pgoff_t last,
		       u64 *nr);

#endif /* _GMEM_BATCH_H */
