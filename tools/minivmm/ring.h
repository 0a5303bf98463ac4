/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring in shared memory, between the guest's program and the VMM. The guest puts
 * numbers in, and rings: it writes to the address of a bell. The VMM doubles them in
 * their places. Both counts only grow: the place of number N is N % RING_SIZE.
 */
#ifndef GMEM_TOOLS_MINIVMM_RING_H_
#define GMEM_TOOLS_MINIVMM_RING_H_

#include <stdint.h>

#define RING_SIZE 16

struct ring {
	/* How many numbers the guest has put in, and how many the VMM has doubled */
	uint32_t sent, done;
	uint32_t numbers[RING_SIZE];
};

#endif /* GMEM_TOOLS_MINIVMM_RING_H_ */
