/* SPDX-License-Identifier: GPL-2.0 */
/* The vCPUs of a VM, and their descriptors. */
#ifndef _GMEM_GUNYAH_VCPU_FILE_H
#define _GMEM_GUNYAH_VCPU_FILE_H

#include <linux/types.h>

struct gunyah_vm;

/* Gunyah has a vCPU of this label. Under gunyah_vm.life_lock. -ENOMEM */
int gunyah_vcpu_found(struct gunyah_vm *g, u32 label, u64 cap);
/* The VM ends, and all descriptors are closed. */
void gunyah_vcpus_free(struct gunyah_vm *g);

int gunyah_vm_add_function_call(void *obj, void *arg);
int gunyah_vm_remove_function_call(void *obj, void *arg);

#endif /* _GMEM_GUNYAH_VCPU_FILE_H */
