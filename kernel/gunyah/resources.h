/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_RESOURCES_H
#define _GMEM_GUNYAH_RESOURCES_H

struct gunyah_vm;

/*
 * Ask the RM for the VM's capabilities: vCPUs, and unless memory goes in
 * parcels, the extents and the address space. -EOPNOTSUPP: there are none of
 * these.
 */
int gunyah_resources_get(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_RESOURCES_H */
