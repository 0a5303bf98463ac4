/* SPDX-License-Identifier: GPL-2.0 */
/* The functions of a VM: vCPUs, irqfds and ioeventfds. */
#ifndef _GMEM_GUNYAH_FUNCTION_H
#define _GMEM_GUNYAH_FUNCTION_H

struct gunyah_vm;

int gunyah_vm_add_function_call(void *obj, void *arg);
int gunyah_vm_remove_function_call(void *obj, void *arg);

void gunyah_functions_init(struct gunyah_vm *g);
/* The VM ends, and all descriptors are closed. May be called again. */
void gunyah_functions_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_FUNCTION_H */
