/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device tree for a guest under Gunyah: what the Resource Manager wants, with
 * a region for each binding of the VM. The guest itself doesn't read it.
 */
#ifndef LIB_GUNYAH_DTB_H
#define LIB_GUNYAH_DTB_H

#include "gmem.h"
#include "gunyah_agent.h"

#include "el2/dt_util.h"

/* Each binding more gets an address that the Resource Manager chooses. */
#define MAX_GUNYAH_REGIONS 16

/*
 * Write a tree for the VM, with its bindings as they are now, to @size bytes at
 * @blob. The rest is room for the Resource Manager's additions. False: the tree
 * needs more.
 */
static inline bool write_gunyah_dtb(int vm, void *blob, __u32 size,
				    __u32 nr_cpus)
{
	struct gmem_binding_info b[MAX_GUNYAH_REGIONS];
	struct guest_dt_shm shm[MAX_GUNYAH_REGIONS];
	struct guest_dt dt = {
		.base = GUNYAH_AGENT,
		.shm = shm,
		.nr_cpus = nr_cpus,
		/* The guest may accept memory by itself. */
		.rpc = true,
	};
	int i, nr = query_vm_range(vm, 0, GUNYAH_AGENT, b,
				   MAX_GUNYAH_REGIONS);

	for (i = 0; i < nr; i++)
		shm[dt.nr_shm++] = (struct guest_dt_shm){
			.label = b[i].guest_addr >> 12,
			.base = b[i].guest_addr,
		};
	return guest_dt_write(blob, size, &dt);
}

#endif /* LIB_GUNYAH_DTB_H */
