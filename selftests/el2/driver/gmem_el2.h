/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/gmem_el2: hypercalls, pages and interrupts for tests under the EL2 monitor.
 * For root: it can do anything to the machine that the kernel could.
 *
 * mmap() with a physical address of RAM as the offset maps it, whoever it belongs to.
 */
#ifndef _GMEM_EL2_H
#define _GMEM_EL2_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Registers x0 to x8 of an HVC #0, in and out. */
struct gmem_el2_call {
	__u64 x[9];
};

/*
 * Pages of the kernel's, zeroed. They are freed with the descriptor, but not if they
 * aren't plainly the host's then: such are lost.
 */
struct gmem_el2_alloc {
	__u32 order;
	__u32 reserved;
	/* out: where, and the kernel's address */
	__u64 pa;
	__u64 va;
};

/* Access 8 bytes through the kernel's linear map. */
struct gmem_el2_touch {
	__u64 pa;
	__u32 write;
	__u32 reserved;
	__u64 value;
};

/* Interrupts of the Resource Manager's queues since EL2_IOC_WATCH. */
struct gmem_el2_irqs {
	__u32 tx;
	__u32 rx;
};

#define EL2_IOC_CALL	_IOWR('E', 0, struct gmem_el2_call)
#define EL2_IOC_ALLOC	_IOWR('E', 1, struct gmem_el2_alloc)
#define EL2_IOC_TOUCH	_IOWR('E', 2, struct gmem_el2_touch)
/* EBUSY where a driver has them. */
#define EL2_IOC_WATCH	_IO('E', 3)
#define EL2_IOC_IRQS	_IOR('E', 4, struct gmem_el2_irqs)

#endif /* _GMEM_EL2_H */
