/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The reset of a guest that no longer runs: it releases all memory that it has
 * accepted. The RM takes the request, releases parcel by parcel, and reports
 * the end of the reset last.
 */
#ifndef _GMEM_GUNYAH_RESET_H
#define _GMEM_GUNYAH_RESET_H

struct gunyah_vm;

/*
 * Ask the RM for the reset. 0: the guest has been reset; -EAGAIN: it hasn't
 * yet, so call this again; another error: the RM has refused. Under
 * gunyah_vm.mem_lock.
 */
int gunyah_vm_reset(struct gunyah_vm *g);
/*
 * Ask for the reset, and wait for the report of its end once, for
 * gunyah_rm_timeout_ms at most: the report may be lost. 0: the RM resets the
 * guest, or has done so, and its answer to a request for memory tells which.
 * Errors are as above.
 */
int gunyah_vm_reset_wait(struct gunyah_vm *g);

#endif /* _GMEM_GUNYAH_RESET_H */
