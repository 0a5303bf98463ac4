// SPDX-License-Identifier: GPL-2.0-only
/* Random numbers that calls find interesting. */
#include "fuzz.h"

__u64 odd_number(struct thread *t)
{
	static const __u64 odd[] = {
		0, 1, 2, 3, 7, 8, PAGE - 1, PAGE, PAGE + 1, HUGE_PAGE, SPAN,
		SPAN - PAGE, 1ULL << 31, 1ULL << 32, 1ULL << 36, 1ULL << 47,
		1ULL << 51, 1ULL << 52, 1ULL << 62, 1ULL << 63, ~0ULL, -PAGE,
		-HUGE_PAGE, 0x7fffffffffffffffULL, 0x7ffffffffffff000ULL,
		0xffff888000000000ULL, 0xffffffff81000000ULL,
	};

	switch (rnd(t, 4)) {
	case 0:
		return rnd64(t);
	case 1:
		return 1ULL << rnd(t, 64);
	default:
		return odd[rnd(t, ARRAY_SIZE(odd))];
	}
}

void pick_range(struct thread *t, __u64 unit, __u64 *start, __u64 *length)
{
	__u64 units = SPAN / unit;
	__u64 hot = unit == PAGE ? HOT_PAGES : units;

	*start = rnd(t, rnd(t, 8) ? hot : units) * unit;
	switch (rnd(t, 10)) {
	case 0:
		/* The whole, in large units. */
		*start &= ~(HUGE_PAGE - 1);
		*length = (1 + rnd(t, 4)) * HUGE_PAGE;
		break;
	case 1:
		*start = 0;
		*length = SPAN;
		break;
	case 2 ... 5:
		*length = unit;
		break;
	default:
		*length = (1 + rnd(t, unit == PAGE ? 16 : 3)) * unit;
		break;
	}
	if (*start + *length > SPAN && rnd(t, 8))
		*length = SPAN - *start;
	if (once(t, 40))
		*start = odd_number(t);
	if (once(t, 40))
		*length = odd_number(t);
}

__u32 pick_map_flags(struct thread *t)
{
	static const __u32 rights[] = {
		RWX, RWX, RWX, RWX, RWX, RWX, RWX, RX, RX, GMEM_MAP_ALLOW_READ,
		GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_WRITE, 0,
	};

	if (once(t, 40))
		return odd_number(t);
	return (once(t, 2) ? LEND : SHARE) | rights[rnd(t, ARRAY_SIZE(rights))];
}
