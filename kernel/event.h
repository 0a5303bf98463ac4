/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reports changes of VMs, guestmems and pages to tracepoints and to netlink.
 * The caller makes a change, then reports it, and only then drops the locks
 * that protect it, so that the events of one page come in their order. No
 * function sleeps or fails.
 */
#ifndef _GMEM_EVENT_H
#define _GMEM_EVENT_H

#include "objects.h"

struct folio;
struct gmem_view;
struct gmem_window_desc;

void gmem_event_vm_created(const struct gmem_vm *vm);
void gmem_event_vm_destroyed(const struct gmem_vm *vm);
void gmem_event_mem_created(const struct gmem_mem *mem);
void gmem_event_mem_destroyed(const struct gmem_mem *mem);

void gmem_event_view_created(const struct gmem_view *view);
void gmem_event_view_destroyed(const struct gmem_view *view);
void gmem_event_view_revoked(const struct gmem_view *view);
void gmem_event_window_created(const struct gmem_window_desc *window);
void gmem_event_window_destroyed(const struct gmem_window_desc *window);

/* Pages [@first, @last] of the guestmem. */
void gmem_event_map(const struct gmem_binding *b);
void gmem_event_unmap(const struct gmem_binding *b, pgoff_t first,
		      pgoff_t last);

void gmem_event_change(const struct gmem_binding *b);

void gmem_event_lend(const struct gmem_binding *b, const struct folio *folio);
void gmem_event_share(const struct gmem_binding *b, const struct folio *folio);
void gmem_event_reclaim(const struct gmem_binding *b, const struct folio *folio,
			enum gmem_reclaim_reason reason);
void gmem_event_reclaim_refused(const struct gmem_binding *b,
				const struct folio *folio,
				enum gmem_reclaim_reason reason, int err);
void gmem_event_leak(const struct gmem_binding *b, const struct folio *folio);

void gmem_event_refused(const struct gmem_vm *vm, u64 guest_addr, u32 access,
			u32 reason);
void gmem_event_hwpoison(const struct gmem_mem *mem, struct folio *folio);

#endif /* _GMEM_EVENT_H */
