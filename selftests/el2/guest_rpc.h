/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GUEST_RPC_H
#define _GUEST_RPC_H

#include "vm.h"

/*
 * A running guest's hypercall for its queues to the Resource Manager, on the
 * public platform: @x are its registers. Returns false if it is another call.
 *
 * The answer to a request is there at once. A queue holds one message, and a
 * message has one fragment.
 */
bool guest_rpc_call(struct vm *vm, u64 *x);

#endif /* _GUEST_RPC_H */
