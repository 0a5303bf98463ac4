// SPDX-License-Identifier: GPL-2.0-only
/* Capabilities of the host, which name objects in hypercalls. */
#include "cap.h"

/*
 * Two for the message queues, up to six for each VM, some vCPUs more, and the
 * doorbells.
 */
static struct cap caps[2 + 64 * 6 + 64 + 256];

/* Ids need more than 32 bits, as Gunyah's do. */
static u64 cap_id(const struct cap *cap)
{
	return (u64)cap->generation << 32 | (cap - caps);
}

s64 cap_find(u64 id, enum cap_type type, u8 rights, struct cap **found)
{
	u32 index = id;
	struct cap *cap;

	if (index >= ARRAY_SIZE(caps))
		return CAP_NULL;
	cap = &caps[index];
	if (id >> 32 < cap->generation)
		return CAP_REVOKED;
	if (id >> 32 != cap->generation || cap->type == CAP_NONE)
		return CAP_NULL;
	if (cap->type != type)
		return WRONG_OBJECT_TYPE;
	if ((cap->rights & rights) != rights)
		return INSUFFICIENT_RIGHTS;
	*found = cap;
	return OK;
}

bool cap_create(enum cap_type type, u8 rights, u8 label, void *object, u64 *id)
{
	for (struct cap *cap = caps; cap < caps + ARRAY_SIZE(caps); cap++) {
		if (cap->type != CAP_NONE)
			continue;
		cap->type = type;
		cap->rights = rights;
		cap->label = label;
		cap->object = object;
		*id = cap_id(cap);
		return true;
	}
	return false;
}

void cap_revoke(u64 id)
{
	struct cap *cap = &caps[(u32)id];

	cap->type = CAP_NONE;
	cap->generation++;
}
