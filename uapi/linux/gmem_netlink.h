/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * gmem: the generic netlink family. It shows a host's operator all guest
 * memory, its owners and its events. Documentation/netlink/specs/gmem.yaml
 * specifies the family and describes every attribute; a test compares the two
 * files.
 */
#ifndef _UAPI_LINUX_GMEM_NETLINK_H
#define _UAPI_LINUX_GMEM_NETLINK_H

#define GMEM_FAMILY_NAME "gmem"
#define GMEM_FAMILY_VERSION 1

/**
 * enum gmem_event - types of events
 * @GMEM_EVENT_OVERRUN: the queue was full; LOST is the number of missing events
 * @GMEM_EVENT_VM_CREATED: a VM was created
 * @GMEM_EVENT_VM_DESTROYED: a VM is gone, after all its bindings
 * @GMEM_EVENT_MEM_CREATED: a guestmem was created
 * @GMEM_EVENT_MEM_DESTROYED: a guestmem is gone
 * @GMEM_EVENT_MAP: a guest range was bound to a guestmem range
 * @GMEM_EVENT_UNMAP: a guest range was unbound
 * @GMEM_EVENT_LEND: pages went from the host to a guest
 * @GMEM_EVENT_SHARE: a guest is the first to use pages through a shared binding, or
 *	lent pages became shared
 * @GMEM_EVENT_RECLAIM: lent pages came back to the host
 * @GMEM_EVENT_RECLAIM_REFUSED: pages could not be taken back; the guest keeps
 *	them
 * @GMEM_EVENT_LEAK: a VM is gone and its provider kept pages; they are lost
 *	until reboot
 * @GMEM_EVENT_HWPOISON: memory of a guestmem broke
 * @GMEM_EVENT_REFUSED: a guest access was refused
 * @GMEM_EVENT_VIEW_CREATED: a view was created
 * @GMEM_EVENT_VIEW_DESTROYED: a view is gone, with its mappings
 * @GMEM_EVENT_VIEW_REVOKED: a view no longer gives access to memory
 * @GMEM_EVENT_WINDOW_CREATED: a window descriptor was created
 * @GMEM_EVENT_WINDOW_DESTROYED: a window descriptor is gone, with its mappings
 * @GMEM_EVENT_CHANGE: a bound range has got other flags
 */
enum gmem_event {
	GMEM_EVENT_OVERRUN = 1,
	GMEM_EVENT_VM_CREATED,
	GMEM_EVENT_VM_DESTROYED,
	GMEM_EVENT_MEM_CREATED,
	GMEM_EVENT_MEM_DESTROYED,
	GMEM_EVENT_MAP,
	GMEM_EVENT_UNMAP,
	GMEM_EVENT_LEND,
	GMEM_EVENT_SHARE,
	GMEM_EVENT_RECLAIM,
	GMEM_EVENT_RECLAIM_REFUSED,
	GMEM_EVENT_LEAK,
	GMEM_EVENT_HWPOISON,
	GMEM_EVENT_REFUSED,
	GMEM_EVENT_VIEW_CREATED,
	GMEM_EVENT_VIEW_DESTROYED,
	GMEM_EVENT_VIEW_REVOKED,
	GMEM_EVENT_WINDOW_CREATED,
	GMEM_EVENT_WINDOW_DESTROYED,
	GMEM_EVENT_CHANGE,
};

/**
 * enum gmem_reclaim_cause - reasons to take pages back
 * @GMEM_RECLAIM_CAUSE_HOST: the host wants to use the pages
 * @GMEM_RECLAIM_CAUSE_PUNCH: a hole is punched over the pages
 * @GMEM_RECLAIM_CAUSE_UNBIND: the binding of the pages goes
 * @GMEM_RECLAIM_CAUSE_TEARDOWN: the VM goes
 * @GMEM_RECLAIM_CAUSE_POISON: the pages broke
 * @GMEM_RECLAIM_CAUSE_DISCARD: the guest gives the pages back
 * @GMEM_RECLAIM_CAUSE_CHANGE: the range changes in place
 */
enum gmem_reclaim_cause {
	GMEM_RECLAIM_CAUSE_HOST = 1,
	GMEM_RECLAIM_CAUSE_PUNCH,
	GMEM_RECLAIM_CAUSE_UNBIND,
	GMEM_RECLAIM_CAUSE_TEARDOWN,
	GMEM_RECLAIM_CAUSE_POISON,
	GMEM_RECLAIM_CAUSE_DISCARD,
	GMEM_RECLAIM_CAUSE_CHANGE,
};

/**
 * enum gmem_window_kind - kinds of windows; a VM has one
 * @GMEM_WINDOW_KIND_NONE: none: its guest memory can't be mapped
 * @GMEM_WINDOW_KIND_PAGED: each piece is a mapping of one binding's pages
 * @GMEM_WINDOW_KIND_LIVE: a window shows whatever is bound at the moment
 */
enum gmem_window_kind {
	GMEM_WINDOW_KIND_NONE,
	GMEM_WINDOW_KIND_PAGED,
	GMEM_WINDOW_KIND_LIVE,
};

/* Attributes of GMEM_CMD_VM_GET. */
enum {
	GMEM_A_VM_ID = 1,		/* u32 */
	GMEM_A_VM_PROVIDER,		/* string */
	GMEM_A_VM_POLICY,		/* u32, enum gmem_policy */
	GMEM_A_VM_GUEST_ADDR_BITS,	/* u32 */
	GMEM_A_VM_PID,			/* u32 */
	GMEM_A_VM_COMM,			/* string */
	GMEM_A_VM_BINDINGS,		/* u64 */
	GMEM_A_VM_LENT_PAGES,		/* u64 */
	GMEM_A_VM_REFUSED,		/* u64 */
	GMEM_A_VM_PAD,
	GMEM_A_VM_DETAIL,		/* nest, any number of them */
	GMEM_A_VM_NAME,			/* string */
	GMEM_A_VM_WINDOW_KIND,		/* u32, enum gmem_window_kind */

	__GMEM_A_VM_MAX,
	GMEM_A_VM_MAX = (__GMEM_A_VM_MAX - 1)
};

/* Attributes in GMEM_A_VM_DETAIL. */
enum {
	GMEM_A_DETAIL_NAME = 1,		/* string */
	GMEM_A_DETAIL_VALUE,		/* u64 */
	GMEM_A_DETAIL_PAD,

	__GMEM_A_DETAIL_MAX,
	GMEM_A_DETAIL_MAX = (__GMEM_A_DETAIL_MAX - 1)
};

/* Attributes of GMEM_CMD_BINDING_GET. */
enum {
	GMEM_A_BINDING_VM_ID = 1,	/* u32 */
	GMEM_A_BINDING_MEM_ID,		/* u64 */
	GMEM_A_BINDING_GUEST_ADDR,	/* u64, bytes */
	GMEM_A_BINDING_OFFSET,		/* u64, bytes */
	GMEM_A_BINDING_LENGTH,		/* u64, bytes */
	GMEM_A_BINDING_FLAGS,		/* u32, enum gmem_map_flags */
	GMEM_A_BINDING_PAD,
	GMEM_A_BINDING_POLICY,		/* u32, enum gmem_policy */

	__GMEM_A_BINDING_MAX,
	GMEM_A_BINDING_MAX = (__GMEM_A_BINDING_MAX - 1)
};

/* Attributes of GMEM_CMD_MEM_GET. */
enum {
	GMEM_A_MEM_ID = 1,		/* u64 */
	GMEM_A_MEM_SIZE,		/* u64, bytes */
	GMEM_A_MEM_PAGE_SIZE,		/* u64, bytes */
	GMEM_A_MEM_ABSENT,		/* u64, base pages */
	GMEM_A_MEM_HOST,		/* u64, base pages */
	GMEM_A_MEM_LENT,		/* u64, base pages */
	GMEM_A_MEM_SHARED,		/* u64, base pages */
	GMEM_A_MEM_LEAKED,		/* u64, base pages */
	GMEM_A_MEM_PAD,
	GMEM_A_MEM_NAME,		/* string */

	__GMEM_A_MEM_MAX,
	GMEM_A_MEM_MAX = (__GMEM_A_MEM_MAX - 1)
};

/* Attributes of GMEM_CMD_VIEW_GET. */
enum {
	GMEM_A_VIEW_ID = 1,		/* u32 */
	GMEM_A_VIEW_MEM_ID,		/* u64 */
	GMEM_A_VIEW_OFFSET,		/* u64, bytes */
	GMEM_A_VIEW_LENGTH,		/* u64, bytes */
	GMEM_A_VIEW_FLAGS,		/* u32, enum gmem_view_flags */
	GMEM_A_VIEW_REVOKED,		/* flag */
	GMEM_A_VIEW_NAME,		/* string */
	GMEM_A_VIEW_PID,		/* u32 */
	GMEM_A_VIEW_PAD,

	__GMEM_A_VIEW_MAX,
	GMEM_A_VIEW_MAX = (__GMEM_A_VIEW_MAX - 1)
};

/* Attributes of GMEM_CMD_WINDOW_GET. */
enum {
	GMEM_A_WINDOW_ID = 1,		/* u32 */
	GMEM_A_WINDOW_VM_ID,		/* u32 */
	GMEM_A_WINDOW_GUEST_ADDR,	/* u64, bytes */
	GMEM_A_WINDOW_LENGTH,		/* u64, bytes */
	GMEM_A_WINDOW_FLAGS,		/* u32, enum gmem_window_flags */
	GMEM_A_WINDOW_NAME,		/* string */
	GMEM_A_WINDOW_PID,		/* u32 */
	GMEM_A_WINDOW_PAD,

	__GMEM_A_WINDOW_MAX,
	GMEM_A_WINDOW_MAX = (__GMEM_A_WINDOW_MAX - 1)
};

/* Attributes of GMEM_CMD_FAULT_GET. */
enum {
	GMEM_A_FAULT_VM_ID = 1,		/* u32 */
	GMEM_A_FAULT_SEQ,		/* u64 */
	GMEM_A_FAULT_GUEST_ADDR,	/* u64, bytes */
	GMEM_A_FAULT_ACCESS,		/* u32, enum gmem_access */
	GMEM_A_FAULT_REASON,		/* u32, enum gmem_fault_reason */
	GMEM_A_FAULT_COUNT,		/* u64 */
	GMEM_A_FAULT_TID,		/* u32 */
	GMEM_A_FAULT_PAD,

	__GMEM_A_FAULT_MAX,
	GMEM_A_FAULT_MAX = (__GMEM_A_FAULT_MAX - 1)
};

/* Attributes of GMEM_CMD_STATS_GET: the members of struct gmem_stats. */
enum {
	GMEM_A_STATS_VMS = 1,		/* u64, as all below */
	GMEM_A_STATS_MEMS,
	GMEM_A_STATS_BINDINGS,
	GMEM_A_STATS_LENT_PAGES,
	GMEM_A_STATS_LEAKED_PAGES,
	GMEM_A_STATS_LENDS,
	GMEM_A_STATS_RECLAIMS,
	GMEM_A_STATS_REFUSED,
	GMEM_A_STATS_PAD,

	__GMEM_A_STATS_MAX,
	GMEM_A_STATS_MAX = (__GMEM_A_STATS_MAX - 1)
};

/* Attributes of GMEM_CMD_EVENT. */
enum {
	GMEM_A_EVENT_SEQ = 1,		/* u64 */
	GMEM_A_EVENT_TYPE,		/* u32, enum gmem_event */
	GMEM_A_EVENT_VM_ID,		/* u32 */
	GMEM_A_EVENT_MEM_ID,		/* u64 */
	GMEM_A_EVENT_GUEST_ADDR,	/* u64, bytes */
	GMEM_A_EVENT_OFFSET,		/* u64, bytes */
	GMEM_A_EVENT_LENGTH,		/* u64, bytes */
	GMEM_A_EVENT_FLAGS,		/* u32, enum gmem_map_flags */
	GMEM_A_EVENT_CAUSE,		/* u32, enum gmem_reclaim_cause */
	GMEM_A_EVENT_ERROR,		/* u32, an errno */
	GMEM_A_EVENT_ACCESS,		/* u32, enum gmem_access */
	GMEM_A_EVENT_REASON,		/* u32, enum gmem_fault_reason */
	GMEM_A_EVENT_COUNT,		/* u64 */
	GMEM_A_EVENT_LOST,		/* u64 */
	GMEM_A_EVENT_PAD,
	GMEM_A_EVENT_NAME,		/* string */
	GMEM_A_EVENT_VIEW_ID,		/* u32 */
	GMEM_A_EVENT_WINDOW_ID,		/* u32 */
	GMEM_A_EVENT_WINDOW_KIND,	/* u32, enum gmem_window_kind */

	__GMEM_A_EVENT_MAX,
	GMEM_A_EVENT_MAX = (__GMEM_A_EVENT_MAX - 1)
};

enum {
	GMEM_CMD_VM_GET = 1,		/* do, dump */
	GMEM_CMD_BINDING_GET,		/* dump */
	GMEM_CMD_MEM_GET,		/* do, dump */
	GMEM_CMD_STATS_GET,		/* do */
	GMEM_CMD_EVENT,			/* from the kernel, to the group */
	GMEM_CMD_VIEW_GET,		/* do, dump */
	GMEM_CMD_WINDOW_GET,		/* do, dump */
	GMEM_CMD_FAULT_GET,		/* dump */

	__GMEM_CMD_MAX,
	GMEM_CMD_MAX = (__GMEM_CMD_MAX - 1)
};

#define GMEM_MCGRP_EVENTS "events"

#endif /* _UAPI_LINUX_GMEM_NETLINK_H */
