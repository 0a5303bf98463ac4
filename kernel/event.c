// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>

#include "event.h"
#include "notify.h"
#include "objects.h"
#include "provider.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* Does a tracepoint or a netlink listener want the event? */
#define gmem_event_wanted(tp) (trace_##tp##_enabled() || gmem_notify_wanted())

#define gmem_event_tell(tp, rec)					\
	do {								\
		trace_##tp(rec);					\
		if (gmem_notify_wanted())				\
			gmem_notify(rec);				\
	} while (0)

static u32 gmem_event_cause(enum gmem_reclaim_reason reason)
{
	switch (reason) {
	case GMEM_RECLAIM_HOST:
	case GMEM_RECLAIM_READ:
		return GMEM_RECLAIM_CAUSE_HOST;
	case GMEM_RECLAIM_PUNCH:
		return GMEM_RECLAIM_CAUSE_PUNCH;
	case GMEM_RECLAIM_DISCARD:
		return GMEM_RECLAIM_CAUSE_DISCARD;
	case GMEM_RECLAIM_UNBIND:
		return GMEM_RECLAIM_CAUSE_UNBIND;
	case GMEM_RECLAIM_TEARDOWN:
		return GMEM_RECLAIM_CAUSE_TEARDOWN;
	case GMEM_RECLAIM_POISON:
		return GMEM_RECLAIM_CAUSE_POISON;
	case GMEM_RECLAIM_CHANGE:
		return GMEM_RECLAIM_CAUSE_CHANGE;
	}
	return 0;
}

/* An object was created, and has the name, or it is gone, and @name is "". */
static void gmem_event_of_object(struct gmem_event_record rec, const char *name)
{
	strscpy(rec.name, name, sizeof(rec.name));
	if (gmem_notify_wanted())
		gmem_notify(&rec);
}

static void gmem_event_of_mem(const struct gmem_mem *mem, enum gmem_event type,
			      const char *name)
{
	gmem_event_of_object((struct gmem_event_record) {
		.type = type,
		.mem_id = mem->inode.i_ino,
	}, name);
}

static struct gmem_event_record
gmem_event_of_view(const struct gmem_view *view, enum gmem_event type)
{
	return (struct gmem_event_record) {
		.type = type,
		.mem_id = view->mem->inode.i_ino,
		.view_id = view->d.id,
		.offset = (u64)view->d.first << PAGE_SHIFT,
		.length = gmem_descriptor_length(&view->d),
	};
}

static struct gmem_event_record
gmem_event_of_window(const struct gmem_window_desc *window,
		     enum gmem_event type)
{
	return (struct gmem_event_record) {
		.type = type,
		.vm_id = window->vm_id,
		.window_id = window->d.id,
		.guest_addr = (u64)window->d.first << PAGE_SHIFT,
		.length = gmem_descriptor_length(&window->d),
	};
}

/* An event of pages [@first, @last] bound by @b. */
static struct gmem_event_record gmem_event_of_pages(const struct gmem_binding *b,
						    pgoff_t first, pgoff_t last,
						    enum gmem_event type)
{
	return (struct gmem_event_record) {
		.type = type,
		.vm_id = b->vm->id,
		.mem_id = b->mem->inode.i_ino,
		.guest_addr = (u64)gmem_binding_gfn(b, first) << PAGE_SHIFT,
		.offset = (u64)first << PAGE_SHIFT,
		.length = (u64)(last - first + 1) << PAGE_SHIFT,
	};
}

static struct gmem_event_record gmem_event_of_folio(const struct gmem_binding *b,
						    const struct folio *folio,
						    enum gmem_event type)
{
	return gmem_event_of_pages(b, folio->index,
				   folio->index + folio_nr_pages(folio) - 1,
				   type);
}

void gmem_event_vm_created(const struct gmem_vm *vm)
{
	trace_gmem_vm_created(vm->id);
	gmem_event_of_object((struct gmem_event_record) {
		.type = GMEM_EVENT_VM_CREATED,
		.vm_id = vm->id,
		.window_kind = vm->provider->window_kind,
	}, vm->name);
}

void gmem_event_vm_destroyed(const struct gmem_vm *vm)
{
	trace_gmem_vm_destroyed(vm->id);
	gmem_event_of_object((struct gmem_event_record) {
		.type = GMEM_EVENT_VM_DESTROYED,
		.vm_id = vm->id,
	}, "");
}

void gmem_event_mem_created(const struct gmem_mem *mem)
{
	trace_gmem_mem_created(mem->inode.i_ino);
	gmem_event_of_mem(mem, GMEM_EVENT_MEM_CREATED, mem->name);
}

void gmem_event_mem_destroyed(const struct gmem_mem *mem)
{
	trace_gmem_mem_destroyed(mem->inode.i_ino);
	gmem_event_of_mem(mem, GMEM_EVENT_MEM_DESTROYED, "");
}

void gmem_event_view_created(const struct gmem_view *view)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_view_created))
		return;
	rec = gmem_event_of_view(view, GMEM_EVENT_VIEW_CREATED);
	strscpy(rec.name, view->d.name);
	gmem_event_tell(gmem_view_created, &rec);
}

void gmem_event_view_destroyed(const struct gmem_view *view)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_view_destroyed))
		return;
	rec = gmem_event_of_view(view, GMEM_EVENT_VIEW_DESTROYED);
	gmem_event_tell(gmem_view_destroyed, &rec);
}

void gmem_event_view_revoked(const struct gmem_view *view)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_view_revoked))
		return;
	rec = gmem_event_of_view(view, GMEM_EVENT_VIEW_REVOKED);
	gmem_event_tell(gmem_view_revoked, &rec);
}

void gmem_event_window_created(const struct gmem_window_desc *window)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_window_created))
		return;
	rec = gmem_event_of_window(window, GMEM_EVENT_WINDOW_CREATED);
	strscpy(rec.name, window->d.name);
	gmem_event_tell(gmem_window_created, &rec);
}

void gmem_event_window_destroyed(const struct gmem_window_desc *window)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_window_destroyed))
		return;
	rec = gmem_event_of_window(window, GMEM_EVENT_WINDOW_DESTROYED);
	gmem_event_tell(gmem_window_destroyed, &rec);
}

void gmem_event_map(const struct gmem_binding *b)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_map))
		return;
	rec = gmem_event_of_pages(b, b->first, b->last, GMEM_EVENT_MAP);
	rec.flags = b->flags;
	gmem_event_tell(gmem_map, &rec);
}

void gmem_event_unmap(const struct gmem_binding *b, pgoff_t first, pgoff_t last)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_unmap))
		return;
	rec = gmem_event_of_pages(b, first, last, GMEM_EVENT_UNMAP);
	rec.flags = b->flags;
	gmem_event_tell(gmem_unmap, &rec);
}

void gmem_event_change(const struct gmem_binding *b)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_change))
		return;
	rec = gmem_event_of_pages(b, b->first, b->last, GMEM_EVENT_CHANGE);
	rec.flags = b->flags;
	gmem_event_tell(gmem_change, &rec);
}

void gmem_event_lend(const struct gmem_binding *b, const struct folio *folio)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_lend))
		return;
	rec = gmem_event_of_folio(b, folio, GMEM_EVENT_LEND);
	gmem_event_tell(gmem_lend, &rec);
}

void gmem_event_share(const struct gmem_binding *b, const struct folio *folio)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_share))
		return;
	rec = gmem_event_of_folio(b, folio, GMEM_EVENT_SHARE);
	gmem_event_tell(gmem_share, &rec);
}

void gmem_event_reclaim(const struct gmem_binding *b, const struct folio *folio,
			enum gmem_reclaim_reason reason)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_reclaim))
		return;
	rec = gmem_event_of_folio(b, folio, GMEM_EVENT_RECLAIM);
	rec.cause = gmem_event_cause(reason);
	gmem_event_tell(gmem_reclaim, &rec);
}

void gmem_event_reclaim_refused(const struct gmem_binding *b,
				const struct folio *folio,
				enum gmem_reclaim_reason reason, int err)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_reclaim_refused))
		return;
	rec = gmem_event_of_folio(b, folio, GMEM_EVENT_RECLAIM_REFUSED);
	rec.cause = gmem_event_cause(reason);
	rec.error = -err;
	rec.count = 1;
	gmem_event_tell(gmem_reclaim_refused, &rec);
}

void gmem_event_leak(const struct gmem_binding *b, const struct folio *folio)
{
	struct gmem_event_record rec;

	if (!gmem_event_wanted(gmem_leak))
		return;
	rec = gmem_event_of_folio(b, folio, GMEM_EVENT_LEAK);
	gmem_event_tell(gmem_leak, &rec);
}

void gmem_event_refused(const struct gmem_vm *vm, u64 guest_addr, u32 access,
			u32 reason)
{
	struct gmem_event_record rec = {
		.type = GMEM_EVENT_REFUSED,
		.vm_id = vm->id,
		.guest_addr = guest_addr,
		.length = PAGE_SIZE,
		.access = access,
		.reason = reason,
		.count = 1,
	};

	gmem_event_tell(gmem_refused, &rec);
}

void gmem_event_hwpoison(const struct gmem_mem *mem, struct folio *folio)
{
	struct gmem_event_record rec = {
		.type = GMEM_EVENT_HWPOISON,
		.mem_id = mem->inode.i_ino,
		.length = PAGE_SIZE,
	};
	long i;

	if (!gmem_event_wanted(gmem_hwpoison))
		return;
	for (i = 0; i < folio_nr_pages(folio); i++) {
		if (!PageHWPoison(folio_page(folio, i)))
			continue;
		rec.offset = (u64)(folio->index + i) << PAGE_SHIFT;
		gmem_event_tell(gmem_hwpoison, &rec);
	}
}
