/* SPDX-License-Identifier: GPL-2.0-only */
/* The vCPUs of a VM, and their descriptors. */
#ifndef _GMEM_GUNYAH_VCPU_FILE_H
#define _GMEM_GUNYAH_VCPU_FILE_H

#include <linux/types.h>

struct gunyah_vm;

/*
 * Gunyah has a vCPU of this label, and wakes it by interrupt @virq, if that isn't
 * 0. These functions need gunyah_vm.functions_lock. -ENOMEM
 */
int gunyah_vcpu_found(struct gunyah_vm *g, u32 label, u64 cap, u32 virq);
/* The VM ends, and all descriptors are closed. */
void gunyah_vcpus_end(struct gunyah_vm *g);

/*
 * GMEM_GUNYAH_FN_VCPU: add or remove a vCPU. The argument is a
 * &struct gmem_gunyah_fn_vcpu_arg.
 */
int gunyah_vcpu_add(struct gunyah_vm *g, const void *arg);
int gunyah_vcpu_remove(struct gunyah_vm *g, const void *arg);

#endif /* _GMEM_GUNYAH_VCPU_FILE_H */
