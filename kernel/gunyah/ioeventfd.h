/* SPDX-License-Identifier: GPL-2.0-only */
/* Eventfds that the guest's writes to devices signal. */
#ifndef _GMEM_GUNYAH_IOEVENTFD_H
#define _GMEM_GUNYAH_IOEVENTFD_H

#include <linux/types.h>

struct gunyah_vm;

/*
 * GMEM_GUNYAH_FN_IOEVENTFD: add or remove an eventfd. The argument is a
 * &struct gmem_gunyah_fn_ioeventfd_arg. Under gunyah_vm.functions_lock.
 */
int gunyah_ioeventfd_add(struct gunyah_vm *g, const void *arg);
int gunyah_ioeventfd_remove(struct gunyah_vm *g, const void *arg);

/*
 * The guest has written @len bytes, of the value @data, to an address without
 * memory. True: an eventfd takes the write, and has been signalled.
 */
bool gunyah_ioeventfd_write(struct gunyah_vm *g, u64 addr, u64 len, u64 data);

/* The VM ends, and no vCPU can run. The same lock; may be called again. */
void gunyah_ioeventfds_end(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_IOEVENTFD_H */
