/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_CHANGE_H
#define _GMEM_CHANGE_H

/* GMEM_VM_CHANGE */
int gmem_vm_change_call(void *obj, void *arg);

#endif /* _GMEM_CHANGE_H */
