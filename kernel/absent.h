/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_ABSENT_H
#define _GMEM_ABSENT_H

/* The calls on a VM whose accesses to unbound pages wait. */
int gmem_vm_waiters_call(void *obj, void *arg);
int gmem_vm_set_absent_call(void *obj, void *arg);

#endif /* _GMEM_ABSENT_H */
