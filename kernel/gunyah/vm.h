/* SPDX-License-Identifier: GPL-2.0-only */
/* The life of a VM, except for its start and its end. */
#ifndef _GMEM_GUNYAH_VM_H
#define _GMEM_GUNYAH_VM_H

#include <linux/types.h>

struct gmem_vm;
struct gunyah_vm;

int gunyah_vm_init(struct gmem_vm *vm);

/* The VM has a VMID. Under gunyah_vm.life_lock, or at the end of the VM. */
void gunyah_vm_set_vmid(struct gunyah_vm *g, u16 vmid);

/* The RM has carried out VM_START: note that. Under gunyah_vm.mem_lock. */
void gunyah_vm_started(struct gunyah_vm *g);

/* The guest has ended, for this reason; only the first call counts. */
void gunyah_vm_exited(struct gunyah_vm *g, u16 type, const void *reason,
		      size_t size);

int gunyah_vm_set_dtb_call(void *obj, void *arg);
int gunyah_vm_set_boot_context_call(void *obj, void *arg);

#endif /* _GMEM_GUNYAH_VM_H */
