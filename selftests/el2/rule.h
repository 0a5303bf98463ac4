/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _RULE_H
#define _RULE_H

#include "control.h"
#include "el2.h"

/* Is a rule of that kind due for this call? Counts the call. */
bool rule_hits(enum el2_rule_kind kind, u64 match, u64 *value);
/* Add a rule; the arguments are those of EL2_RULE. */
s64 rule_add(u64 kind, u64 match, u64 nth, u64 value, u64 count);
u64 nr_rule_hits(void);

#endif /* _RULE_H */
