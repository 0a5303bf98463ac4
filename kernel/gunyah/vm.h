/* SPDX-License-Identifier: GPL-2.0 */
/* The life of a VM, except for its start. */
#ifndef _GMEM_GUNYAH_VM_H
#define _GMEM_GUNYAH_VM_H

struct gmem_vm;
struct gunyah_vm;

int gunyah_vm_init(struct gmem_vm *vm);
void gunyah_vm_stop(struct gmem_vm *vm);
void gunyah_vm_release(struct gmem_vm *vm);

/* The RM has carried out VM_START: note that. Under gunyah_vm.mem_lock. */
void gunyah_vm_started(struct gunyah_vm *g);

int gunyah_vm_set_dtb_call(void *obj, void *arg);
int gunyah_vm_set_boot_context_call(void *obj, void *arg);

#endif /* _GMEM_GUNYAH_VM_H */
