/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GUEST_TREE_H
#define _GUEST_TREE_H

#include "vm.h"

/*
 * The device tree in a VM's image, on the public platform. The functions return
 * errors of the Resource Manager.
 */

/* VM_INIT: read the VM's configuration. */
u32 guest_tree_read(struct vm *vm);
/*
 * VM_START: accept the VM's remaining parcels, and describe the VM in its tree,
 * for which the tree's region needs spare room.
 */
u32 guest_tree_write(struct vm *vm);

#endif /* _GUEST_TREE_H */
