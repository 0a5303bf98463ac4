/* SPDX-License-Identifier: GPL-2.0-only */
/* Doorbells of the guest, and the eventfds that ring them. */
#ifndef _GMEM_GUNYAH_IRQFD_H
#define _GMEM_GUNYAH_IRQFD_H

#include <linux/types.h>

struct gunyah_vm;

/*
 * GMEM_GUNYAH_FN_IRQFD: add or remove an eventfd that rings a doorbell. The
 * argument is a &struct gmem_gunyah_fn_irqfd_arg. These and the functions below
 * need gunyah_vm.functions_lock.
 */
int gunyah_irqfd_add(struct gunyah_vm *g, const void *arg);
int gunyah_irqfd_remove(struct gunyah_vm *g, const void *arg);

/* Gunyah has a doorbell of this label, which the host may ring. -ENOMEM */
int gunyah_bell_found(struct gunyah_vm *g, u32 label, u64 cap);
/* The start knows all doorbells: log the labels that have only an eventfd. */
void gunyah_bells_check(struct gunyah_vm *g);
/*
 * Disconnect all irqfds: from now on, they ring no doorbell, and find none.
 * They stay until they are removed.
 */
void gunyah_bells_disconnect(struct gunyah_vm *g);
/* The VM ends: also free the irqfds. */
void gunyah_bells_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_IRQFD_H */
