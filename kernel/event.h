/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What happens to VMs, guestmems and pages, told to those who listen. Each function
 * is called once the change is there, under the locks that keep it there, so that
 * events of one page come in their order. They neither sleep nor fail.
 */
#ifndef _GMEM_EVENT_H
#define _GMEM_EVENT_H

#include <linux/gmem_netlink.h>
#include <linux/types.h>

#include "lend.h"

struct folio;
struct gmem_binding;
struct gmem_mem;
struct gmem_vm;

/**
 * struct gmem_event_record - an event on its way to the listeners
 * @type: one of &enum gmem_event
 * @vm_id: the VM, or 0
 * @mem_id: the guestmem, or 0
 * @guest_addr: bytes
 * @offset: bytes
 * @length: bytes; 0 if the event is of no range
 * @flags: of a binding
 * @cause: one of &enum gmem_reclaim_cause, or 0
 * @error: an errno, or 0
 * @access: bits of &enum gmem_access
 * @reason: one of &enum gmem_fault_reason, or 0
 * @count: how many equal ones, where they count; of overrun: events lost
 */
struct gmem_event_record {
	u32 type;
	u32 vm_id;
	u64 mem_id;
	u64 guest_addr;
	u64 offset;
	u64 length;
	u32 flags;
	u32 cause;
	u32 error;
	u32 access;
	u32 reason;
	u64 count;
};

void gmem_event_vm_created(const struct gmem_vm *vm);
void gmem_event_vm_destroyed(const struct gmem_vm *vm);
void gmem_event_mem_created(const struct gmem_mem *mem);
void gmem_event_mem_destroyed(const struct gmem_mem *mem);

/* Pages [@first, @last] of the guestmem. */
void gmem_event_map(const struct gmem_binding *b);
void gmem_event_unmap(const struct gmem_binding *b, pgoff_t first,
		      pgoff_t last);

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
