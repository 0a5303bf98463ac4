/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ACCEPT_H
#define _ACCEPT_H

#include "parcel.h"
#include "vm.h"

/*
 * The public platform: a VM accepts a parcel, which it can't give back before
 * its reset. The functions return errors of the Resource Manager.
 */

/* At one place. */
u32 accept_at(struct vm *vm, struct parcel *parcel, u64 gpa);
/*
 * Each piece at the lowest free address for it. Another VM must not have the
 * parcel in this way.
 */
u32 accept_lowest(struct vm *vm, struct parcel *parcel);
/*
 * The first part of VM_START, before it reads the device tree again: accept the
 * image, the parcels of vdevices, and the image's further memory.
 */
u32 accept_configured(struct vm *vm);
/* In one run, at the lowest free address. */
u32 accept_lowest_run(struct vm *vm, struct parcel *parcel);
/* The parcel that was accepted last. NULL: there is none. */
struct parcel *last_accepted(const struct vm *vm);
/* The VM gives an accepted parcel back. */
void release(struct vm *vm, struct parcel *parcel);

static inline bool is_accepted(struct parcel *parcel, u16 vmid)
{
	return parcel_entry(parcel, vmid)->placed;
}

/* Is the parcel more RAM of its only VM? */
bool is_private_memory(struct parcel *parcel, u16 vmid);

#endif /* _ACCEPT_H */
