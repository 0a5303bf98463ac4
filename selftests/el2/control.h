/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The EL2 monitor's calls for tests: SMCCC fast calls by HVC #0 that no real
 * hypervisor has. The monitor, the test driver and the tests include this.
 *
 * Results come in x0 (0, or an error of the hypercalls) and x1 to x8.
 */
#ifndef _GMEM_EL2_CONTROL_H
#define _GMEM_EL2_CONTROL_H

#include <linux/types.h>

#define EL2_CONTROL_BASE	0xc600f000ULL
#define EL2_CONTROL(n)		(EL2_CONTROL_BASE + (n))

/*
 * Results come in x0 (0, or an error of the hypercalls' numbers) and x1 to x8.
 */

/*
 * -> x1 EL2_CONTROL_ABI, x2 enum el2_platform, x3 start and x4 end of the
 * host's RAM
 */
#define EL2_VERSION		EL2_CONTROL(0)
#define EL2_CONTROL_ABI		1

enum el2_platform {
	/* Extents with demand paging, as in the Linux v17 series. */
	EL2_PLATFORM_EXTENTS,
	/*
	 * Parcels only, as in the public Gunyah snapshot: the guest's device
	 * tree places them, and everything takes time.
	 */
	EL2_PLATFORM_PUBLIC,
};

/*
 * x1 kind, x2 the value to match (EL2_ANY: any), x3 the first match on which
 * the rule acts (1: the next one), x4 value, x5 how many times it acts in a row
 * (0: once). Up to EL2_MAX_RULES at a time; a rule ends after it has acted that
 * often.
 */
#define EL2_RULE		EL2_CONTROL(1)
#define EL2_ANY			(~0ULL)
#define EL2_MAX_RULES		8

enum el2_rule_kind {
	/*
	 * Forget all rules, and make all settings the defaults. Takes no other
	 * argument.
	 */
	EL2_RULE_CLEAR,
	/* Hypercall x2 (n of 0xc6008000 + n) does nothing and returns x4. */
	EL2_RULE_HYPERCALL_ERROR,
	/* RPC x2 (message id) does nothing and replies the error x4. */
	EL2_RULE_RPC_ERROR,
	/* The reply to RPC x2, and all later ones, arrive x4 ms late. */
	EL2_RULE_RPC_DELAY,
	/* The monitor handles RPC x2, but its reply is lost. */
	EL2_RULE_RPC_LOSE_REPLY,
	/* Notification x2 (message id) is lost. */
	EL2_RULE_LOSE_NOTIFICATION,
	/*
	 * A VM_STATUS of the host's own VMID arrives between the fragments of
	 * the reply.
	 */
	EL2_RULE_RPC_INTERLEAVE,
	/*
	 * RPC x2 is handled x4 ms late; until then, the monitor doesn't read
	 * the host's queue.
	 */
	EL2_RULE_RPC_STALL,
	/*
	 * The monitor handles RPC x2; if that succeeds, the reply has only x4
	 * in 4 bytes, or nothing for EL2_ANY.
	 */
	EL2_RULE_RPC_ANSWER,
	/*
	 * A vCPU of VM x2 (VMID) doesn't run when told to, and reports state
	 * x4.
	 */
	EL2_RULE_VCPU_STATE,
	/*
	 * Public: the halt of a vCPU of VM x2 (VMID) is lost. The Resource
	 * Manager doesn't learn that the guest has ended.
	 */
	EL2_RULE_LOSE_HALT,
};

/*
 * x1 first physical address, x2 address of a struct el2_page array (a kernel
 * address, as in any hypercall), x3 its length. Lists the pages that are not
 * plainly the host's. -> x1 their number, x2 the address to go on with, 0: no
 * more pages
 */
#define EL2_DUMP		EL2_CONTROL(2)

#define EL2_NO_PARCEL		0xffffffffU
#define EL2_NO_ADDR		(~0ULL)

enum el2_extent {
	EL2_EXTENT_HOST,
	EL2_EXTENT_PRIVATE,
	EL2_EXTENT_SHARED,
};

/*
 * Accesses are read from the stage-2 tables, not from the database: X 1, W 2, R
 * 4. A mapping of an extent that doesn't own the page has an address, but no
 * access.
 */
struct el2_page {
	__u64 pa;
	/* The guest address, or EL2_NO_ADDR. */
	__u64 gpa;
	/* The parcel's handle, or EL2_NO_PARCEL. */
	__u32 parcel;
	/*
	 * The VM whose extent owns the page: the host while the page is in a
	 * parcel.
	 */
	__u16 owner_vmid;
	/* The VM of @gpa; the first of a parcel's VMs. */
	__u16 guest_vmid;
	/* enum el2_extent */
	__u8 extent;
	__u8 host_access;
	__u8 guest_access;
	__u8 reserved[5];
};

/*
 * -> x1 pages not plainly the host's, x2 parcels, x3 VMIDs, x4 free table
 * pages, x5 actions of rules, x6 hypercalls so far, x7 RPCs so far, x8
 * donations of a guest's pages while one of its unmaps was not synchronised
 * yet: each is a mistake, since the guest may still access the page
 */
#define EL2_STATS		EL2_CONTROL(3)

/*
 * x1 physical address of 8 bytes of the host's RAM, of any owner -> x1
 * value
 */
#define EL2_PEEK		EL2_CONTROL(4)
/* x1 physical address, x2 value */
#define EL2_POKE		EL2_CONTROL(5)

/*
 * x1 address, x2 size (1 to 240) of a message to deliver to the host, x3 1:
 * with an interrupt at once, 0: by the queue's threshold or delay
 */
#define EL2_INJECT		EL2_CONTROL(6)

/* x1 VMID, x2 interrupt (32 to 1019): raise an edge of it in the guest */
#define EL2_RAISE		EL2_CONTROL(10)

/* x1 enum el2_setting, x2 value -> x1 the value before */
#define EL2_SETTING		EL2_CONTROL(7)

/* How the public Resource Manager is built, and how fast it is. */
enum el2_setting {
	/* VM_START takes this time for each piece of the VM's parcels. */
	EL2_START_PIECE_US,
	/* The release of a parcel takes this time for each of its pieces. */
	EL2_RESET_PIECE_US,
	/* A reply comes this late; each other step of a reset takes as long. */
	EL2_REPLY_US,
	/* The time from the end of a guest, or its kill, to VM_EXITED */
	EL2_HALT_US,
	/*
	 * 0: a production build, which checks the ACL of the image. 1: a debug
	 * build.
	 */
	EL2_DEBUG_BUILD,
	EL2_NR_SETTINGS,
};

/*
 * x1 label, x2 EL2_BELL flags: VMs that are initialised from now on get a doorbell
 * of that label, as if their device trees had it. x1 EL2_ANY: no VM gets any.
 */
#define EL2_BELL_PLAN		EL2_CONTROL(8)
#define EL2_MAX_BELLS		64
/* The guest rings, and the host receives. */
#define EL2_BELL_TO_HOST	1
/* The host may also set the masks of a doorbell that it rings. */
#define EL2_BELL_CAN_CLEAR	2

/*
 * x1 VMID, x2 label -> x1 flags, x2 enable mask, x3 acknowledge mask, x4 how often
 * the interrupt was asserted
 */
#define EL2_BELL_STATE		EL2_CONTROL(9)

/*
 * An address of MMIO on both platforms. On the public one, all accesses below
 * 1 GiB are MMIO. With extents, every data access outside the VM's demand-paged
 * ranges is MMIO, if its instruction can be emulated.
 */
#define EL2_MMIO_BASE		0x10000000ULL

#endif /* _GMEM_EL2_CONTROL_H */
