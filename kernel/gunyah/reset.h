/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _GMEM_GUNYAH_RESET_H
#define _GMEM_GUNYAH_RESET_H

struct gunyah_vm;

/*
 * Send VM_RESET and wait until the RM reports it: the guest, which no longer
 * runs, releases all memory that it has accepted. Only the first call for a VM
 * does anything, whatever its result. Under gunyah_vm.mem_lock.
 */
void gunyah_vm_reset(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_RESET_H */
