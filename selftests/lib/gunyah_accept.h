/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest of the public Gunyah accepts a parcel by itself: it sends the
 * Resource Manager a message over queues of its own.
 */
#ifndef LIB_GUNYAH_ACCEPT_H
#define LIB_GUNYAH_ACCEPT_H

#include "gunyah_guest.h"

#include "el2/rm_messages.h"

/* Unused parts of the agent's page: the registers of a call, and a message. */
#define GUNYAH_BLOCK (GUNYAH_AGENT + 0xb00)
#define GUNYAH_MESSAGE (GUNYAH_AGENT + 0xc00)

#define GUNYAH_MESSAGE_SIZE 240
#define GUNYAH_HVC_SEND 0xc600801bULL
#define GUNYAH_HVC_RECEIVE 0xc600801cULL
/* The capabilities of the guest's queues. */
#define GUNYAH_GUEST_TX 2
#define GUNYAH_GUEST_RX 3

struct gunyah_accept {
	__u8 api;
	__u8 type;
	__u16 sequence;
	__u32 id;
	__u32 handle;
	__u8 memory_type;
	__u8 transaction;
	__u8 flags;
	__u8 reserved;
	__u32 label;
	__u16 nr_acl, pad1;
	__u16 nr_ranges, pad2;
	__u64 base;
	__u64 size;
	__u16 nr_attributes, pad3;
} __attribute__((__packed__));

/* Let the guest write to its own memory. 0 or -errno. */
static inline int gunyah_write_all(struct gunyah_guest *guest, __u64 addr,
				   const void *data, size_t size)
{
	const __u8 *bytes = data;
	size_t i;
	int ret = 0;

	for (i = 0; !ret && i < size; i++)
		ret = gunyah_write(guest, addr + i, bytes[i]);
	return ret;
}

/* Let the guest make a hypercall. The low byte of its error, or -errno. */
static inline int gunyah_guest_call(struct gunyah_guest *guest,
				    const __u64 x[5])
{
	__u8 error = 0xff;
	int ret = gunyah_write_all(guest, GUNYAH_BLOCK, x, 5 * sizeof(*x));

	if (!ret)
		ret = gunyah_command(guest, GUNYAH_CALL, GUNYAH_BLOCK, 0, 0,
				     &error);
	return ret ?: error;
}

/*
 * Let the guest accept the parcel, in one run at @gpa. The low byte of the
 * Resource Manager's error, or -errno.
 */
static inline int gunyah_accept(struct gunyah_guest *guest, __u32 handle,
				__u64 gpa, __u64 size, bool share)
{
	const struct gunyah_accept accept = {
		.api = 0x21,
		.type = 1,
		.id = RM_MEM_ACCEPT,
		.handle = handle,
		.transaction = share ? 2 : 1,
		/* Contiguous, and complete. */
		.flags = 0x90,
		.nr_ranges = 1,
		.base = gpa,
		.size = size,
	};
	const __u64 send[5] = { GUNYAH_HVC_SEND, GUNYAH_GUEST_TX,
				sizeof(accept), GUNYAH_MESSAGE, 1 };
	const __u64 receive[5] = { GUNYAH_HVC_RECEIVE, GUNYAH_GUEST_RX,
				   GUNYAH_MESSAGE, GUNYAH_MESSAGE_SIZE, 0 };
	double end = now() + 10;
	int ret;

	ret = gunyah_write_all(guest, GUNYAH_MESSAGE, &accept, sizeof(accept));
	if (!ret)
		ret = gunyah_guest_call(guest, send);
	if (ret)
		return ret < 0 ? ret : -EIO;
	/* 60: no message yet. */
	do {
		ret = gunyah_guest_call(guest, receive);
	} while (ret == 60 && now() < end);
	if (ret)
		return ret < 0 ? ret : -EIO;
	/* The error is behind the header. */
	return gunyah_read(guest, GUNYAH_MESSAGE + 8);
}

#endif /* LIB_GUNYAH_ACCEPT_H */
