/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_VCPU_H
#define _GMEM_GUNYAH_VCPU_H

#include <linux/types.h>

struct gunyah_vm;

/* The VM has a vCPU of this label. Under gunyah_vm.life_lock. -ENOMEM */
int gunyah_vcpu_found(struct gunyah_vm *g, u32 label, u64 cap);
/* The VM is gone, and all descriptors with it. */
void gunyah_vcpus_free(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_VCPU_H */
