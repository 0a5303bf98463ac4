/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: one for each kind of change, with the numbers by which netlink,
 * fdinfo and debugfs know the objects. Addresses, offsets and lengths are
 * bytes.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gmem

#if !defined(_GMEM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _GMEM_TRACE_H

#include <linux/gmem.h>
#include <linux/gmem_netlink.h>
#include <linux/tracepoint.h>

#include "notify.h"

/* User space needs these values to print the texts below. */
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_HOST);
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_PUNCH);
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_UNBIND);
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_TEARDOWN);
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_POISON);
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_DISCARD);
TRACE_DEFINE_ENUM(GMEM_RECLAIM_CAUSE_CHANGE);
TRACE_DEFINE_ENUM(GMEM_FAULT_UNBOUND);
TRACE_DEFINE_ENUM(GMEM_FAULT_STALE);
TRACE_DEFINE_ENUM(GMEM_FAULT_PERM);
TRACE_DEFINE_ENUM(GMEM_FAULT_PINNED);
TRACE_DEFINE_ENUM(GMEM_FAULT_NOMEM);
TRACE_DEFINE_ENUM(GMEM_FAULT_PROVIDER);
TRACE_DEFINE_ENUM(GMEM_FAULT_HWPOISON);
TRACE_DEFINE_ENUM(GMEM_FAULT_LEAKED);
TRACE_DEFINE_ENUM(GMEM_FAULT_INTERRUPTED);

#define show_gmem_cause(cause)						\
	__print_symbolic(cause,						\
			 { GMEM_RECLAIM_CAUSE_HOST, "host" },		\
			 { GMEM_RECLAIM_CAUSE_PUNCH, "punch" },		\
			 { GMEM_RECLAIM_CAUSE_UNBIND, "unbind" },	\
			 { GMEM_RECLAIM_CAUSE_TEARDOWN, "teardown" },	\
			 { GMEM_RECLAIM_CAUSE_POISON, "poison" },	\
			 { GMEM_RECLAIM_CAUSE_DISCARD, "discard" },	\
			 { GMEM_RECLAIM_CAUSE_CHANGE, "change" })

#define show_gmem_reason(reason)					\
	__print_symbolic(reason,					\
			 { GMEM_FAULT_UNBOUND, "unbound" },		\
			 { GMEM_FAULT_STALE, "stale" },			\
			 { GMEM_FAULT_PERM, "perm" },			\
			 { GMEM_FAULT_PINNED, "pinned" },		\
			 { GMEM_FAULT_NOMEM, "nomem" },			\
			 { GMEM_FAULT_PROVIDER, "provider" },		\
			 { GMEM_FAULT_HWPOISON, "hwpoison" },		\
			 { GMEM_FAULT_LEAKED, "leaked" },	\
			 { GMEM_FAULT_INTERRUPTED, "interrupted" })

#define show_gmem_flags(flags)						\
	__print_flags(flags, "|",					\
		      { GMEM_MAP_FORCE_LEND, "lend" },			\
		      { GMEM_MAP_FORCE_SHARE, "share" },		\
		      { GMEM_MAP_ALLOW_READ, "r" },			\
		      { GMEM_MAP_ALLOW_WRITE, "w" },			\
		      { GMEM_MAP_ALLOW_EXEC, "x" })

#define show_gmem_access(access)					\
	__print_flags(access, "|",					\
		      { GMEM_ACCESS_READ, "r" },			\
		      { GMEM_ACCESS_WRITE, "w" },			\
		      { GMEM_ACCESS_EXEC, "x" })

DECLARE_EVENT_CLASS(gmem_vm,
	TP_PROTO(u32 vm),
	TP_ARGS(vm),
	TP_STRUCT__entry(__field(u32, vm)),
	TP_fast_assign(__entry->vm = vm;),
	TP_printk("vm=%u", __entry->vm)
);

DEFINE_EVENT(gmem_vm, gmem_vm_created, TP_PROTO(u32 vm), TP_ARGS(vm));
DEFINE_EVENT(gmem_vm, gmem_vm_destroyed, TP_PROTO(u32 vm), TP_ARGS(vm));

DECLARE_EVENT_CLASS(gmem_mem,
	TP_PROTO(u64 mem),
	TP_ARGS(mem),
	TP_STRUCT__entry(__field(u64, mem)),
	TP_fast_assign(__entry->mem = mem;),
	TP_printk("mem=%llu", __entry->mem)
);

DEFINE_EVENT(gmem_mem, gmem_mem_created, TP_PROTO(u64 mem), TP_ARGS(mem));
DEFINE_EVENT(gmem_mem, gmem_mem_destroyed, TP_PROTO(u64 mem), TP_ARGS(mem));

DECLARE_EVENT_CLASS(gmem_view,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, view)
		__field(u64, mem)
		__field(u64, offset)
		__field(u64, length)
	),
	TP_fast_assign(
		__entry->view = rec->view_id;
		__entry->mem = rec->mem_id;
		__entry->offset = rec->offset;
		__entry->length = rec->length;
	),
	TP_printk("view=%u mem=%llu offset=0x%llx length=0x%llx",
		  __entry->view, __entry->mem, __entry->offset,
		  __entry->length)
);

DEFINE_EVENT(gmem_view, gmem_view_created,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_view, gmem_view_destroyed,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_view, gmem_view_revoked,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));

DECLARE_EVENT_CLASS(gmem_window,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, window)
		__field(u32, vm)
		__field(u64, guest_addr)
		__field(u64, length)
	),
	TP_fast_assign(
		__entry->window = rec->window_id;
		__entry->vm = rec->vm_id;
		__entry->guest_addr = rec->guest_addr;
		__entry->length = rec->length;
	),
	TP_printk("window=%u vm=%u guest_addr=0x%llx length=0x%llx",
		  __entry->window, __entry->vm, __entry->guest_addr,
		  __entry->length)
);

DEFINE_EVENT(gmem_window, gmem_window_created,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_window, gmem_window_destroyed,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));

DECLARE_EVENT_CLASS(gmem_binding,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, vm)
		__field(u32, flags)
		__field(u64, mem)
		__field(u64, guest_addr)
		__field(u64, offset)
		__field(u64, length)
	),
	TP_fast_assign(
		__entry->vm = rec->vm_id;
		__entry->flags = rec->flags;
		__entry->mem = rec->mem_id;
		__entry->guest_addr = rec->guest_addr;
		__entry->offset = rec->offset;
		__entry->length = rec->length;
	),
	TP_printk("vm=%u guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx flags=%s",
		  __entry->vm, __entry->guest_addr, __entry->length,
		  __entry->mem, __entry->offset, show_gmem_flags(__entry->flags))
);

DEFINE_EVENT(gmem_binding, gmem_map,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_binding, gmem_unmap,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_binding, gmem_change,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));

DECLARE_EVENT_CLASS(gmem_pages,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, vm)
		__field(u64, mem)
		__field(u64, guest_addr)
		__field(u64, offset)
		__field(u64, length)
	),
	TP_fast_assign(
		__entry->vm = rec->vm_id;
		__entry->mem = rec->mem_id;
		__entry->guest_addr = rec->guest_addr;
		__entry->offset = rec->offset;
		__entry->length = rec->length;
	),
	TP_printk("vm=%u guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx",
		  __entry->vm, __entry->guest_addr, __entry->length,
		  __entry->mem, __entry->offset)
);

DEFINE_EVENT(gmem_pages, gmem_lend,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_pages, gmem_share,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));
DEFINE_EVENT(gmem_pages, gmem_leak,
	TP_PROTO(const struct gmem_event_record *rec), TP_ARGS(rec));

TRACE_EVENT(gmem_reclaim,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, vm)
		__field(u32, cause)
		__field(u64, mem)
		__field(u64, guest_addr)
		__field(u64, offset)
		__field(u64, length)
	),
	TP_fast_assign(
		__entry->vm = rec->vm_id;
		__entry->cause = rec->cause;
		__entry->mem = rec->mem_id;
		__entry->guest_addr = rec->guest_addr;
		__entry->offset = rec->offset;
		__entry->length = rec->length;
	),
	TP_printk("vm=%u guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx cause=%s",
		  __entry->vm, __entry->guest_addr, __entry->length,
		  __entry->mem, __entry->offset, show_gmem_cause(__entry->cause))
);

TRACE_EVENT(gmem_reclaim_refused,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, vm)
		__field(u32, cause)
		__field(u64, mem)
		__field(u64, guest_addr)
		__field(u64, offset)
		__field(u64, length)
		__field(u32, error)
	),
	TP_fast_assign(
		__entry->vm = rec->vm_id;
		__entry->cause = rec->cause;
		__entry->mem = rec->mem_id;
		__entry->guest_addr = rec->guest_addr;
		__entry->offset = rec->offset;
		__entry->length = rec->length;
		__entry->error = rec->error;
	),
	TP_printk("vm=%u guest_addr=0x%llx length=0x%llx mem=%llu offset=0x%llx cause=%s error=%u",
		  __entry->vm, __entry->guest_addr, __entry->length,
		  __entry->mem, __entry->offset, show_gmem_cause(__entry->cause),
		  __entry->error)
);

TRACE_EVENT(gmem_refused,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u32, vm)
		__field(u32, access)
		__field(u64, guest_addr)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->vm = rec->vm_id;
		__entry->access = rec->access;
		__entry->guest_addr = rec->guest_addr;
		__entry->reason = rec->reason;
	),
	TP_printk("vm=%u guest_addr=0x%llx access=%s reason=%s",
		  __entry->vm, __entry->guest_addr,
		  show_gmem_access(__entry->access),
		  show_gmem_reason(__entry->reason))
);

TRACE_EVENT(gmem_hwpoison,
	TP_PROTO(const struct gmem_event_record *rec),
	TP_ARGS(rec),
	TP_STRUCT__entry(
		__field(u64, mem)
		__field(u64, offset)
	),
	TP_fast_assign(
		__entry->mem = rec->mem_id;
		__entry->offset = rec->offset;
	),
	TP_printk("mem=%llu offset=0x%llx", __entry->mem, __entry->offset)
);

#endif /* _GMEM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
