/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_MAP_H
#define _GMEM_MAP_H

/* The calls that change a VM's bindings and who has their pages. */
int gmem_vm_map_call(void *obj, void *arg);
int gmem_vm_unmap_call(void *obj, void *arg);
int gmem_vm_reclaim_call(void *obj, void *arg);
int gmem_vm_populate_call(void *obj, void *arg);

#endif /* _GMEM_MAP_H */
