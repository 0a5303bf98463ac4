/* SPDX-License-Identifier: GPL-2.0-only */
/* For tests: faults that spend time where other tasks may come between. */
#ifndef _GMEM_SLOW_H
#define _GMEM_SLOW_H

#include <linux/gmem_test.h>

#ifdef CONFIG_GMEM_TEST
void gmem_slow_at(enum gmem_test_fault_point point);
#else
static inline void gmem_slow_at(enum gmem_test_fault_point point) {}
#endif

/* From now on, every fault spends @ms milliseconds at @point. */
void gmem_slow_down(enum gmem_test_fault_point point, unsigned int ms);

#endif /* _GMEM_SLOW_H */
