/* SPDX-License-Identifier: GPL-2.0-only */
/* The functions of a VM: vCPUs, irqfds and ioeventfds. */
#ifndef _GMEM_GUNYAH_FUNCTION_H
#define _GMEM_GUNYAH_FUNCTION_H

#include <linux/types.h>

struct gunyah_vm;

int gunyah_vm_add_function_call(void *obj, void *arg);
int gunyah_vm_remove_function_call(void *obj, void *arg);

void gunyah_functions_init(struct gunyah_vm *g);
/*
 * The guest has ended: stop to use its doorbells and the interrupts of its
 * vCPUs. The Resource Manager may give them to another VM once it has reset
 * this one. False: that takes long, or the task was killed.
 */
bool gunyah_functions_disconnect(struct gunyah_vm *g);
/* The VM ends, and all descriptors are closed. May be called again. */
void gunyah_functions_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_FUNCTION_H */
