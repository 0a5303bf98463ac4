/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replacing a pinned page in its file.
 *
 * Pages of a paged window can be pinned, while they are lent, too. The holder of
 * the pin keeps access to the page when its binding goes. So that page leaves the
 * file, and another one takes its place: no later owner shares memory with the
 * holder.
 */
#ifndef _GMEM_REPLACE_H
#define _GMEM_REPLACE_H

#include <linux/gfp_types.h>

#include "objects.h"

struct folio;

/*
 * Must @folio be replaced before it gets another owner? No page table has it.
 * Folio lock held.
 */
bool gmem_replace_needed(const struct gmem_mem *mem, struct folio *folio);

/*
 * Get a folio that can take the place of @folio, unless there is one already.
 * -ENOMEM; -EBUSY if a part of @folio is broken, because no page of the host's
 * can stand for that. The binding of @folio stays until gmem_replace_forget().
 * Folio lock held.
 */
int gmem_replace_prepare(struct gmem_mem *mem, struct folio *folio);

/*
 * Let the prepared folio take the place of @folio, with its contents or zeroed.
 * @folio leaves the file. False if no folio was prepared. Folio lock held; dropped
 * and taken again meanwhile.
 */
bool gmem_replace(struct gmem_mem *mem, struct folio *folio, bool contents);

/*
 * A hole takes the place of @folio, which has no state. Folio lock held, and kept.
 */
void gmem_replace_by_hole(struct folio *folio);

/* Free the prepared folios of [@first, @last] that weren't needed. */
void gmem_replace_forget(struct gmem_mem *mem, pgoff_t first, pgoff_t last);

#endif /* _GMEM_REPLACE_H */
