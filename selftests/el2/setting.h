/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _SETTING_H
#define _SETTING_H

#include "control.h"
#include "el2.h"

/* Settings of the public Resource Manager; on other platforms all are 0. */
u64 setting(enum el2_setting which);
/* Returns the value before. */
u64 setting_change(enum el2_setting which, u64 value);
/* Make all of them the platform's defaults. */
void settings_reset(void);

#endif /* _SETTING_H */
