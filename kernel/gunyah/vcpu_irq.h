/* SPDX-License-Identifier: GPL-2.0-only */
/* The interrupts by which Gunyah asks to run a vCPU again. */
#ifndef _GMEM_GUNYAH_VCPU_IRQ_H
#define _GMEM_GUNYAH_VCPU_IRQ_H

#include <linux/types.h>

struct gunyah_vcpu;
struct gunyah_vcpu_slot;
struct gunyah_vm;

/*
 * Gunyah wakes a vCPU by interrupt @virq; 0: it doesn't. If the interrupt can't
 * be had, the log says so, and the vCPU polls. This and the next function need
 * gunyah_vm.functions_lock.
 */
void gunyah_vcpu_take_irq(struct gunyah_vm *g, struct gunyah_vcpu_slot *slot,
			  u32 label, u32 virq);
/* Give the interrupts back: the guest has ended. */
void gunyah_vcpus_disconnect(struct gunyah_vm *g);

/* The vCPU is about to run: from here on, an interrupt ends the next wait. */
void gunyah_vcpu_expect(struct gunyah_vcpu *vcpu);
/* Wait until the vCPU may have something to do, or for a signal. */
void gunyah_vcpu_wait(struct gunyah_vcpu *vcpu);
/* Wait for a moment: nothing will wake the vCPU. */
void gunyah_vcpu_pause(struct gunyah_vcpu *vcpu);

#endif /* _GMEM_GUNYAH_VCPU_IRQ_H */
