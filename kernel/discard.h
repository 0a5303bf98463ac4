/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GMEM_DISCARD_H
#define _GMEM_DISCARD_H

struct gmem_vm;

/*
 * The guest no longer needs [@first, @last]: empty what is bound there, all or
 * nothing. -EACCES, -EBUSY, -EINTR or -ENOMEM. Takes gmem_vm.lock. Only for a VM
 * whose guest loses pages by page table entries alone: its next access brings
 * back a page that it has lost for nothing.
 */
int gmem_vm_discard(struct gmem_vm *vm, unsigned long first,
		    unsigned long last);

#endif /* _GMEM_DISCARD_H */
