// SPDX-License-Identifier: GPL-2.0-only
/*
 * The defaults are shorter than on the public Gunyah, where a piece of 4 KiB
 * takes about 0.4 ms at the start and 0.2 ms at the reset, and a reply some
 * milliseconds.
 */
#include "setting.h"

static const u64 defaults[EL2_NR_SETTINGS] = {
	[EL2_START_PIECE_US] = 50,
	[EL2_RESET_PIECE_US] = 50,
	[EL2_REPLY_US] = 300,
	[EL2_HALT_US] = 2000,
};

static u64 values[EL2_NR_SETTINGS];

u64 setting(enum el2_setting which)
{
	return values[which];
}

u64 setting_change(enum el2_setting which, u64 value)
{
	u64 before = values[which];

	values[which] = value;
	return before;
}

void settings_reset(void)
{
	memset(values, 0, sizeof(values));
	if (rm_is_public())
		memcpy(values, defaults, sizeof(values));
}
