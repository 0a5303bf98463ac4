// SPDX-License-Identifier: GPL-2.0-only
/* Rules that inject failures. */
#include "rule.h"

static struct rule {
	u64 match, value;
	/*
	 * The rule lets @skip matches pass, then acts on @count matches. @count
	 * 0: there is no rule.
	 */
	u64 skip, count;
	u8 kind;
} rules[EL2_MAX_RULES];

static u64 hits;

u64 nr_rule_hits(void)
{
	return hits;
}

bool rule_hits(enum el2_rule_kind kind, u64 match, u64 *value)
{
	for (struct rule *rule = rules; rule < rules + ARRAY_SIZE(rules);
	     rule++) {
		if (!rule->count || rule->kind != kind ||
		    (rule->match != EL2_ANY && rule->match != match))
			continue;
		if (rule->skip) {
			rule->skip--;
			continue;
		}
		rule->count--;
		hits++;
		*value = rule->value;
		return true;
	}
	return false;
}

s64 rule_add(u64 kind, u64 match, u64 nth, u64 value, u64 count)
{
	if (kind == EL2_RULE_CLEAR) {
		memset(rules, 0, sizeof(rules));
		return OK;
	}
	if (kind > EL2_RULE_LOSE_HALT || !nth)
		return ARG_INVALID;
	for (struct rule *rule = rules; rule < rules + ARRAY_SIZE(rules);
	     rule++) {
		if (rule->count)
			continue;
		*rule = (struct rule) {
			.kind = kind, .match = match, .value = value,
			.skip = nth - 1, .count = count ?: 1,
		};
		return OK;
	}
	return NORESOURCES;
}
