/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lost halts. When a guest has switched itself off, its vCPUs are off for ever,
 * and the RM reports the end of the VM. Under load, the hypervisor sometimes
 * doesn't tell the RM. So if all vCPUs are off, none can turn on another, and
 * the report doesn't come, stop the VM: then the RM reports its end.
 */
#ifndef _GMEM_GUNYAH_HALT_H
#define _GMEM_GUNYAH_HALT_H

struct gunyah_vcpu;

/* The hypervisor says that the vCPU is off. Under gunyah_vcpu.run_lock. */
void gunyah_halt_off(struct gunyah_vcpu *vcpu);
/* The vCPU isn't off. */
void gunyah_halt_on(struct gunyah_vcpu *vcpu);

#endif /* _GMEM_GUNYAH_HALT_H */
