/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/gmem_el2: hypercalls, pages and interrupts for tests under the EL2
 * monitor. It is for root: its users control the machine as the kernel does.
 *
 * mmap() with a physical address of RAM as the offset maps that address, which
 * may have any owner.
 */
#ifndef _GMEM_EL2_H
#define _GMEM_EL2_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The registers x0 to x8 of an HVC #0, in and out. */
struct gmem_el2_call {
	__u64 x[9];
};

/*
 * Allocate zeroed pages of the kernel's. Closing the descriptor frees the pages
 * that are plainly the host's then; the others are lost.
 */
struct gmem_el2_alloc {
	__u32 order;
	__u32 reserved;
	/* out: the physical address, and the kernel's address */
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

/*
 * The numbers of interrupts of the Resource Manager's queues since
 * EL2_IOC_WATCH.
 */
struct gmem_el2_irqs {
	__u32 tx;
	__u32 rx;
};

#define EL2_IOC_CALL	_IOWR('E', 0, struct gmem_el2_call)
#define EL2_IOC_ALLOC	_IOWR('E', 1, struct gmem_el2_alloc)
#define EL2_IOC_TOUCH	_IOWR('E', 2, struct gmem_el2_touch)
/*
 * Take the interrupts, without binding the device: EBUSY if a driver uses them. To
 * other drivers, this is a driver that has the queues.
 */
#define EL2_IOC_WATCH	_IO('E', 3)
#define EL2_IOC_IRQS	_IOR('E', 4, struct gmem_el2_irqs)
/*
 * Take the Resource Manager's device from its driver, as its removal does, or
 * offer it to the drivers: EBUSY if none takes it.
 */
#define EL2_IOC_UNBIND	_IO('E', 5)
#define EL2_IOC_BIND	_IO('E', 6)
/* Undo EL2_IOC_WATCH, as closing the descriptor does. */
#define EL2_IOC_UNWATCH	_IO('E', 7)
/*
 * Make a second device of the Resource Manager's node, offer it to the drivers, and
 * remove it: EBUSY if none took it.
 */
#define EL2_IOC_TWIN	_IO('E', 8)

#endif /* _GMEM_EL2_H */
