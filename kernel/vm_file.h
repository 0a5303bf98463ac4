/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_VM_FILE_H
#define _GMEM_VM_FILE_H

/* Calls of the device that create a VM and return its descriptor. */
int gmem_vm_create_default_call(void *obj, void *arg);
int gmem_vm_create_call(void *obj, void *arg);

#endif /* _GMEM_VM_FILE_H */
