// SPDX-License-Identifier: GPL-2.0-only
#include <linux/compiler.h>
#include <linux/delay.h>

#include "slow.h"

static unsigned int gmem_slow[GMEM_TEST_NR_FAULT_POINTS];

void gmem_slow_down(enum gmem_test_fault_point point, unsigned int ms)
{
	WRITE_ONCE(gmem_slow[point], ms);
}

void gmem_slow_at(enum gmem_test_fault_point point)
{
	unsigned int ms = READ_ONCE(gmem_slow[point]);

	/* No task may sleep under RCU. */
	if (point == GMEM_TEST_FAULT_FOUND)
		mdelay(ms);
	else if (ms)
		msleep(ms);
}
