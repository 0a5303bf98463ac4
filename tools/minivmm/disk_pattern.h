/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The words that the guest's program writes to its disk, and that the VMM expects there. */
#ifndef GMEM_TOOLS_MINIVMM_DISK_PATTERN_H_
#define GMEM_TOOLS_MINIVMM_DISK_PATTERN_H_

#include <stdint.h>

#define DISK_BLOCK 4096u
#define DISK_BLOCK_WORDS (DISK_BLOCK / sizeof(uint32_t))

/* Each word is another one, and none is 0. */
static inline uint32_t disk_word(uint32_t block, uint32_t word)
{
	return block * (uint32_t)DISK_BLOCK_WORDS + word + 1;
}

#endif /* GMEM_TOOLS_MINIVMM_DISK_PATTERN_H_ */
