/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _CAP_H
#define _CAP_H

#include "el2.h"

enum cap_type {
	CAP_NONE,
	CAP_MSGQUEUE,
	CAP_EXTENT,
	CAP_ADDRSPACE,
	CAP_VCPU,
	CAP_DOORBELL,
};

enum {
	MSGQUEUE_SEND = 1,
	MSGQUEUE_RECEIVE = 2,
	EXTENT_MAP = 1,
	EXTENT_LOOKUP = 8,
	EXTENT_DONATE = 0x10,
	ADDRSPACE_MAP = 2,
	ADDRSPACE_LOOKUP = 4,
	VCPU_RUN = 1,
	BELL_SEND = 1,
	BELL_RECEIVE = 2,
};

/* A capability of the host. A revoked capability's id is never reused. */
struct cap {
	u8 type;
	u8 rights;
	/*
	 * An extent's label in the resources of its VM: the use of the extent.
	 */
	u8 label;
	u32 generation;
	void *object;
};

/* Returns an error or OK, which sets @cap. */
s64 cap_find(u64 id, enum cap_type type, u8 rights, struct cap **cap);
/* Returns false if there are too many capabilities. */
bool cap_create(enum cap_type type, u8 rights, u8 label, void *object, u64 *id);
void cap_revoke(u64 id);

#endif /* _CAP_H */
