/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_GUNYAH_END_H
#define _GMEM_GUNYAH_END_H

#include <linux/types.h>

struct gmem_vm;

/* See gmem_provider.vm_stop and .vm_release. */
bool gunyah_vm_stop(struct gmem_vm *vm, bool wait);
bool gunyah_vm_release(struct gmem_vm *vm, bool wait);

#endif /* _GMEM_GUNYAH_END_H */
