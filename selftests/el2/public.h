/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _PUBLIC_H
#define _PUBLIC_H

#include "rm.h"
#include "vm.h"

/*
 * The life of VMs under the public Resource Manager. It has one thread: while
 * it works on a request or releases a parcel, it reads no other request.
 *
 * These return errors of the Resource Manager.
 */
u32 public_config_image(struct vm *vm, u16 auth, u32 handle,
			const struct image_place *place);
u32 public_init(struct vm *vm);
u32 public_start(struct vm *vm);
/* The guest's vCPU no longer runs. */
u32 public_stop(struct vm *vm, bool force);
/* The VM_STATUS of the end comes later. */
u32 public_reset(struct vm *vm);
u32 public_dealloc(struct vm *vm);

/*
 * Begin to work on a request. Returns how long that takes at least, in
 * microseconds.
 */
u64 public_begin(const struct rm_request *request);
/* Does the request wait for a vCPU, longer than that? */
bool public_must_wait(const struct rm_request *request);
/* The request has been handled, or refused. */
void public_end(const struct rm_request *request);

/*
 * Do what is due without a request: ends of guests, and the next step of a
 * reset. Returns whether there was something. The caller reads the requests
 * that have come before it calls this again.
 */
bool public_work(void);
/* The first part of it; and is such an end still to come? */
bool public_ends_guests(void);
bool public_awaits_ends(void);
/* Is a step of a reset under way? */
bool public_is_busy(void);
/* Will something be due later? */
bool public_has_work(void);

/*
 * The guest has ended by itself, or by a fault: the Resource Manager learns of
 * that later. @halt has what the vCPU knows.
 */
void public_halted(struct vm *vm, const struct halt *halt);
/*
 * Answer vcpu_run in place of running the guest. Returns false if the guest may
 * run.
 */
bool public_refuses_run(struct vm *vm, u64 *x);

#endif /* _PUBLIC_H */
