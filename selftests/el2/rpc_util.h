/* SPDX-License-Identifier: GPL-2.0-only */
/* A polling client of the Resource Manager, for the monitor's tests. */
#ifndef _RPC_UTIL_H
#define _RPC_UTIL_H

#include <time.h>

#include "el2_util.h"
#include "rm_messages.h"

#include <kselftest_harness.h>

/* An emulated machine on a busy host may be ten times slower. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 240

#define HYP_MSGQUEUE_SEND	GUNYAH(0x1b)
#define HYP_MSGQUEUE_RECEIVE	GUNYAH(0x1c)

#define TX_CAP			0
#define RX_CAP			1
#define MESSAGE_SIZE		240
#define FRAGMENT_SIZE		232

/* Results of rpc() besides the Resource Manager's errors. */
#define RPC_TIMEOUT		-1
#define RPC_BROKEN		-2

struct rpc {
	struct el2 *el2;
	uint16_t sequence;
	/* The payload of the last reply */
	uint8_t reply[4096];
	uint32_t reply_size;
	/*
	 * Of notifications: a bit for each state, the number of exits, the type
	 * of the last one, the number of others.
	 */
	uint32_t states, exits, exit_type, others;
	/*
	 * Their order: for VM_STATUS the state, for VM_EXITED LOG_EXIT and the
	 * type, for the others LOG_OTHER. The latest ones are lost.
	 */
	uint8_t log[64];
	uint32_t nr_log;
	/* Of the last VM_EXITED: the size of the reason, and its words */
	uint32_t reason_size, reason[4];
	/* 0 means 10 s. */
	uint32_t timeout_ms;
};

struct rpc_header {
	uint8_t api, type;
	uint16_t sequence;
	uint32_t id;
};

#define LOG_EXIT		0x80
#define LOG_OTHER		0x40

static inline uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

/* Receive a message into the buffer. Returns the hypercall's error. */
static inline int64_t rpc_receive(struct rpc *rpc, uint64_t *size)
{
	uint64_t x[9] = { HYP_MSGQUEUE_RECEIVE, RX_CAP, rpc->el2->buffer_va,
			  MESSAGE_SIZE };
	int64_t error = el2_call(rpc->el2, x);

	*size = x[1];
	return error;
}

static inline int64_t rpc_send(struct rpc *rpc, const void *message,
			       uint32_t size, bool push)
{
	memcpy(rpc->el2->buffer, message, size);
	return el2_hvc(rpc->el2, HYP_MSGQUEUE_SEND, TX_CAP, size,
		       rpc->el2->buffer_va, push);
}

static inline void rpc_notification(struct rpc *rpc, uint32_t id,
				    const uint8_t *payload)
{
	uint8_t entry = LOG_OTHER;
	uint16_t type;

	if (id == RM_VM_STATUS) {
		entry = payload[4];
		rpc->states |= 1U << entry;
	} else if (id == RM_VM_EXITED) {
		memcpy(&type, payload + 2, sizeof(type));
		memcpy(&rpc->reason_size, payload + 4, 4);
		memcpy(rpc->reason, payload + 8, sizeof(rpc->reason));
		entry = LOG_EXIT | type;
		rpc->exit_type = type;
		rpc->exits++;
	} else {
		rpc->others++;
	}
	if (rpc->nr_log < sizeof(rpc->log))
		rpc->log[rpc->nr_log++] = entry;
}

/*
 * Wait for a message, and count notifications. Returns its size, or 0 after a
 * timeout.
 */
static inline uint64_t rpc_next(struct rpc *rpc, uint8_t *message,
				uint64_t until_ms)
{
	struct rpc_header *header = (void *)message;
	uint64_t size;

	for (;;) {
		if (rpc_receive(rpc, &size)) {
			if (clock_ms() >= until_ms)
				return 0;
			usleep(200);
			continue;
		}
		memcpy(message, rpc->el2->buffer, size);
		if ((header->type & 3) != 3)
			return size;
		rpc_notification(rpc, header->id, message + sizeof(*header));
	}
}

static inline int rpc_request(struct rpc *rpc, uint32_t id, const void *payload,
			      uint32_t size)
{
	uint32_t fragments = size ? (size - 1) / FRAGMENT_SIZE : 0;
	struct {
		struct rpc_header header;
		uint8_t payload[FRAGMENT_SIZE];
	} message = { .header = { 0x21, 1, ++rpc->sequence, id } };

	for (uint32_t i = 0; i <= fragments; i++) {
		uint32_t n = size < FRAGMENT_SIZE ? size : FRAGMENT_SIZE;

		message.header.type = (i ? 0 : 1) | fragments << 2;
		memcpy(message.payload, payload, n);
		if (rpc_send(rpc, &message, sizeof(message.header) + n,
			     i == fragments))
			return RPC_BROKEN;
		payload = (const uint8_t *)payload + n;
		size -= n;
	}
	return 0;
}

/*
 * Wait for a reply. Returns the Resource Manager's error, or one of the errors
 * above.
 */
static inline int64_t rpc_reply(struct rpc *rpc, uint32_t id)
{
	uint64_t until = clock_ms() + (rpc->timeout_ms ?: 10000);
	uint8_t message[MESSAGE_SIZE];
	struct rpc_header *header = (void *)message;
	uint32_t error = 0, skip = 4;
	uint64_t size;

	rpc->reply_size = 0;
	for (uint32_t left = 1; left;) {
		size = rpc_next(rpc, message, until);
		if (!size)
			return RPC_TIMEOUT;
		/* Skip late replies to earlier requests. */
		if (skip && header->sequence != rpc->sequence)
			continue;
		if (size < sizeof(*header) + skip || header->api != 0x21 ||
		    (header->type & 3) != (skip ? 2 : 0) || header->id != id)
			return RPC_BROKEN;
		if (skip) {
			left = 1 + (header->type >> 2);
			memcpy(&error, message + sizeof(*header),
			       sizeof(error));
		}
		size -= sizeof(*header) + skip;
		memcpy(rpc->reply + rpc->reply_size,
		       message + sizeof(*header) + skip, size);
		rpc->reply_size += size;
		skip = 0;
		left--;
	}
	return error;
}

static inline int64_t rpc(struct rpc *rpc, uint32_t id, const void *payload,
			  uint32_t size)
{
	int error = rpc_request(rpc, id, payload, size);

	return error ?: rpc_reply(rpc, id);
}

/* Make a request that takes only a VMID. */
static inline int64_t rpc_vmid(struct rpc *r, uint32_t id, uint16_t vmid)
{
	return rpc(r, id, (uint16_t [2]){ vmid }, 4);
}

/* Allocate a VMID. 0: failure. */
static inline uint16_t rpc_alloc(struct rpc *r)
{
	uint16_t vmid;

	if (rpc_vmid(r, RM_VM_ALLOC_VMID, 0) || r->reply_size != 4)
		return 0;
	memcpy(&vmid, r->reply, sizeof(vmid));
	return vmid;
}

/* Read all waiting messages, and count notifications. */
static inline void rpc_drain(struct rpc *rpc)
{
	uint8_t message[MESSAGE_SIZE];

	while (rpc_next(rpc, message, 0))
		;
}

struct parcel_range {
	uint64_t pa, size;
};

struct parcel_acl {
	uint16_t vmid;
	uint8_t access, reserved;
};

/* Write the payload of MEM_LEND or MEM_SHARE. Returns its size. */
static inline uint32_t parcel_payload(uint8_t *p, uint8_t flags, uint32_t label,
				      const struct parcel_acl *acl,
				      uint16_t nr_acl,
				      const struct parcel_range *ranges,
				      uint16_t nr_ranges)
{
	const uint8_t *start = p;

	memset(p, 0, 8);
	p[2] = flags;
	memcpy(p + 4, &label, 4);
	memcpy(p + 8, (uint16_t [2]){ nr_acl }, 4);
	p = mempcpy(p + 12, acl, nr_acl * sizeof(*acl));
	memcpy(p, (uint16_t [2]){ nr_ranges }, 4);
	p = mempcpy(p + 4, ranges, nr_ranges * sizeof(*ranges));
	memset(p, 0, 4);
	return p + 4 - start;
}

/*
 * Lend one range with all rights. Returns the error; the reply has the handle.
 */
static inline int64_t rpc_lend(struct rpc *r, uint16_t vmid, uint32_t label,
			       uint8_t flags, uint64_t pa, uint64_t size)
{
	uint8_t payload[64];
	const struct parcel_acl acl = { vmid, 7, 0 };
	const struct parcel_range range = { pa, size };

	return rpc(r, RM_MEM_LEND, payload,
		   parcel_payload(payload, flags, label, &acl, 1, &range, 1));
}

static inline uint32_t rpc_handle(const struct rpc *r)
{
	uint32_t handle;

	memcpy(&handle, r->reply, sizeof(handle));
	return handle;
}

/* The number of the first entry, or -1. */
static inline int rpc_logged(const struct rpc *r, uint8_t entry)
{
	const uint8_t *at = memchr(r->log, entry, r->nr_log);

	return at ? at - r->log : -1;
}

static inline int64_t rpc_reclaim(struct rpc *r, uint32_t handle, uint8_t flags)
{
	return rpc(r, RM_MEM_RECLAIM, (uint32_t [2]){ handle, flags }, 8);
}

#endif /* _RPC_UTIL_H */
