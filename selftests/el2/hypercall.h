/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _HYPERCALL_H
#define _HYPERCALL_H

#include "el2.h"

/*
 * A hypercall of the host: @x are its registers x0 to x8. Returns the error for
 * x0. Results go to x[1] and up, which an error leaves unchanged.
 */
typedef s64 (*hypercall_fn)(u64 *x);

void handle_hypercall(struct regs *regs);
u64 nr_hypercalls(void);

/* memory.c */
s64 call_addrspace_map(u64 *x);
s64 call_addrspace_unmap(u64 *x);
s64 call_addrspace_update_access(u64 *x);
s64 call_addrspace_lookup(u64 *x);
s64 call_memextent_modify(u64 *x);
s64 call_memextent_donate(u64 *x);
/*
 * The number of donations while a TLB might still have had mappings of the
 * guest.
 */
u64 nr_unsynced_donations(void);

/* msgqueue.c */
s64 call_msgqueue_send(u64 *x);
s64 call_msgqueue_receive(u64 *x);
s64 call_msgqueue_flush(u64 *x);
s64 call_msgqueue_configure_send(u64 *x);
s64 call_msgqueue_configure_receive(u64 *x);
s64 call_msgqueue_configure(u64 *x);

/* control.c: @function is the whole function id */
s64 handle_control(u64 function, u64 *x);

#endif /* _HYPERCALL_H */
