/* SPDX-License-Identifier: GPL-2.0-only */
/* Doorbells between the host and a guest, and what wakes a vCPU. */
#ifndef _BELL_H
#define _BELL_H

#include "el2.h"

struct vcpu;
struct vm;

/* The types in the list of a VM's resources. */
enum {
	RESOURCE_BELL_TX = 0,
	RESOURCE_BELL_RX = 1,
};

struct bell {
	/* 0: not in use */
	u16 vmid;
	/* The guest rings, and the host receives. */
	bool to_host;
	/* The interrupt in the guest; 0: it has none, and is woken. */
	u32 interrupt;
	u32 label;
	/* The host's capability. */
	u64 cap;
	u64 flags, enable, ack;
	/* How often its interrupt was asserted. */
	u64 asserted;
};

/*
 * Add a doorbell to a VM. @can_clear: its source may receive and set masks, too.
 * NULL: there is no room.
 */
struct bell *bell_add(struct vm *vm, u32 label, bool to_host, bool can_clear);
/*
 * VMs that are initialised later get such a doorbell, as if their device trees
 * had it: see EL2_BELL_PLAN.
 */
s64 bell_plan(u64 label, u64 flags);
/*
 * Create and revoke the doorbells of a VM: those of its device tree, and the
 * planned ones.
 */
bool bells_add(struct vm *vm);
void bells_remove(struct vm *vm);

/* The doorbell @i of a VM; NULL: it has fewer. */
struct bell *bell_at(u16 vmid, u32 i);
struct bell *bell_labelled(u16 vmid, u32 label);

/* The number of the interrupt that wakes a vCPU; 0: none */
u32 wake_virq(const struct vcpu *vcpu);

s64 call_doorbell_send(u64 *x);
s64 call_doorbell_receive(u64 *x);
s64 call_doorbell_mask(u64 *x);

#endif /* _BELL_H */
