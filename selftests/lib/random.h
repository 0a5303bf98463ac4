/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LIB_RANDOM_H
#define LIB_RANDOM_H

#include <linux/types.h>

/* A random number below @sides. Each thread has its own @state. */
static inline __u32 roll(__u64 *state, __u32 sides)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (*state >> 33) % sides;
}

#endif /* LIB_RANDOM_H */
