/* SPDX-License-Identifier: GPL-2.0 */
/* The head of a message of the RM's queues. */
#ifndef _GMEM_GUNYAH_RM_WIRE_H
#define _GMEM_GUNYAH_RM_WIRE_H

#include <linux/bits.h>
#include <linux/types.h>

#define GUNYAH_RM_API 0x21
#define GUNYAH_RM_TYPE GENMASK(1, 0)
#define GUNYAH_RM_FRAGMENTS GENMASK(7, 2)

enum gunyah_rm_type {
	GUNYAH_RM_CONTINUATION = 0,
	GUNYAH_RM_REQUEST = 1,
	GUNYAH_RM_REPLY = 2,
	GUNYAH_RM_NOTIFICATION = 3,
};

struct gunyah_rm_header {
	u8 api;
	u8 type;
	__le16 seq;
	__le32 message;
} __packed;

#endif /* _GMEM_GUNYAH_RM_WIRE_H */
