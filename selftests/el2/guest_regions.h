/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GUEST_REGIONS_H
#define _GUEST_REGIONS_H

#include "parcel.h"
#include "tree.h"
#include "vm.h"

/*
 * Parts of guest_tree_write(), in their order. These return errors of the
 * Resource Manager.
 */

/*
 * /reserved-memory: accept the parcels of the nodes there, and the rest at any
 * place, for which there are new nodes.
 */
u32 write_reserved(struct vm *vm, struct tree *t);
/* /memory: all that the guest has */
void write_memory(struct vm *vm, struct tree *t);
/* The node of a region, which refers to that of its parcel */
u32 write_shm(struct vm *vm, struct tree *t, const struct shm_config *shm);

#endif /* _GUEST_REGIONS_H */
