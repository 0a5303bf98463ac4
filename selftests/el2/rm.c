// SPDX-License-Identifier: GPL-2.0-only
/*
 * The Resource Manager's end of the RPC: fragments, sequence numbers, dispatch.
 *
 * It has no thread. At the end of each exit of the host, it reads requests
 * while there is room for their replies, and moves outgoing messages to the
 * queue while that has room. It checks delayed replies at the same time; while
 * there are any, WFI of the host traps.
 */
#include "msgqueue.h"
#include "public.h"
#include "rm.h"
#include "rm_messages.h"
#include "rule.h"
#include "setting.h"

#define RPC_API			0x21
#define TYPE_CONTINUATION	0
#define TYPE_REQUEST		1
#define TYPE_REPLY		2
#define TYPE_NOTIFICATION	3
#define TYPE_MASK		3
#define FRAGMENTS_SHIFT		2

struct rpc_header {
	u8 api;
	u8 type;
	u16 sequence;
	u32 id;
};

struct rpc_message {
	struct rpc_header header;
	u8 payload[RM_FRAGMENT_SIZE];
};

static const struct {
	u32 id;
	rm_handler handler;
	/* Only the platform of extents has the message. */
	bool not_public;
} rpcs[] = {
	{ RM_MEM_LEND, rm_mem_lend },
	{ RM_MEM_SHARE, rm_mem_share },
	{ RM_MEM_RECLAIM, rm_mem_reclaim },
	{ RM_MEM_APPEND, rm_mem_append },
	{ RM_VM_ALLOC_VMID, rm_alloc_vmid },
	{ RM_VM_DEALLOC_VMID, rm_dealloc_vmid },
	{ RM_VM_START, rm_start },
	{ RM_VM_STOP, rm_stop },
	{ RM_VM_RESET, rm_reset },
	{ RM_VM_CONFIG_IMAGE, rm_config_image },
	{ RM_VM_INIT, rm_init },
	{ RM_VM_GET_STATE, rm_get_state },
	{ RM_VM_GET_RESOURCES, rm_get_resources },
	{ RM_VM_GET_VMID, rm_get_vmid },
	{ RM_VM_SET_BOOT_CONTEXT, rm_set_boot_context, .not_public = true },
	{ RM_VM_SET_DEMAND_PAGING, rm_set_demand_paging, .not_public = true },
	{ RM_VM_SET_ADDRESS_LAYOUT, rm_set_address_layout, .not_public = true },
};

/* Outgoing messages for the host's queue */
#define OUT_SLOTS		128
static struct {
	u8 message[MSGQUEUE_MAX_SIZE];
	u32 size;
	bool push;
	u64 due_us;
} out[OUT_SLOTS];
static u32 out_head, out_count;

/* The request whose fragments are being collected */
static struct {
	struct rpc_header header;
	u32 fragments_left, size;
	u8 payload[RM_MAX_SIZE];
} in;

/* Notifications of the handler, which follow its reply */
static struct {
	u32 id, size;
	u8 payload[32];
} later[4];
static u32 nr_later;
static bool handling;

/* The monitor ignores the waiting request and the queue until then. */
static bool stalled;
static u64 stalled_until_us;
/* The first outgoing message isn't due yet. */
static bool late;
static bool timer_pending;
static u64 calls;
static u16 notification_sequence;

u64 nr_rpcs(void)
{
	return calls;
}

static void enqueue(const void *message, u32 size, bool push, u64 due_us)
{
	u32 tail = (out_head + out_count) % OUT_SLOTS;

	/*
	 * Requests wait for room, so these are notifications that the host
	 * doesn't read.
	 */
	if (out_count == OUT_SLOTS)
		return;
	memcpy(out[tail].message, message, size);
	out[tail].size = size;
	out[tail].push = push;
	out[tail].due_us = due_us;
	out_count++;
}

void rm_send_raw(const void *message, u32 size, bool push)
{
	enqueue(message, size, push, 0);
}

static void send_notification(u32 id, const void *payload, u32 size)
{
	struct rpc_message message = {
		.header = {
			.api = RPC_API, .type = TYPE_NOTIFICATION,
			.sequence = notification_sequence++, .id = id,
		},
	};
	u64 value;

	if (rule_hits(EL2_RULE_LOSE_NOTIFICATION, id, &value))
		return;
	memcpy(message.payload, payload, size);
	enqueue(&message, sizeof(message.header) + size, true, 0);
}

void rm_notify(u32 id, const void *payload, u32 size)
{
	/* The public one notifies before it replies. */
	if (!handling || rm_is_public()) {
		send_notification(id, payload, size);
		return;
	}
	if (nr_later == ARRAY_SIZE(later) || size > sizeof(later[0].payload))
		fatal("too much to notify of", id, size, 0);
	later[nr_later].id = id;
	later[nr_later].size = size;
	memcpy(later[nr_later++].payload, payload, size);
}

static void interleave(void)
{
	const struct {
		u16 vmid, reserved;
		u8 vm_status, os_status;
		u16 app_status;
	} payload = { .vmid = VMID_HOST };

	send_notification(RM_VM_STATUS, &payload, sizeof(payload));
}

/* @payload begins with the error. */
static void send_reply(const struct rpc_header *request, const u8 *payload,
		       u32 size)
{
	u32 fragments = (size - 1) / RM_FRAGMENT_SIZE;
	struct rpc_message message = { .header = *request };
	u64 value, due_us = now_us() + setting(EL2_REPLY_US);
	bool between = rule_hits(EL2_RULE_RPC_INTERLEAVE, request->id, &value);

	if (rule_hits(EL2_RULE_RPC_LOSE_REPLY, request->id, &value))
		return;
	if (rule_hits(EL2_RULE_RPC_DELAY, request->id, &value))
		due_us += value * 1000;
	for (u32 i = 0; i <= fragments; i++) {
		u32 n = size < RM_FRAGMENT_SIZE ? size : RM_FRAGMENT_SIZE;

		message.header.type = (i ? TYPE_CONTINUATION : TYPE_REPLY) |
				      fragments << FRAGMENTS_SHIFT;
		memcpy(message.payload, payload, n);
		enqueue(&message, sizeof(message.header) + n, i == fragments,
			due_us);
		if (!i && between)
			interleave();
		payload += n;
		size -= n;
	}
}

static void garble(u32 id, struct rm_reply *reply)
{
	u64 value;

	if (!rule_hits(EL2_RULE_RPC_ANSWER, id, &value))
		return;
	reply->size = value == EL2_ANY ? 0 : sizeof(u32);
	memcpy(reply->payload, &value, reply->size);
}

static u32 dispatch(const struct rm_request *request, struct rm_reply *reply)
{
	u64 error;

	if (rule_hits(EL2_RULE_RPC_ERROR, request->id, &error))
		return error;
	for (u32 i = 0; i < ARRAY_SIZE(rpcs); i++) {
		if (rpcs[i].id == request->id &&
		    (!rpcs[i].not_public || !rm_is_public()))
			return rpcs[i].handler(request, reply);
	}
	return RM_UNIMPLEMENTED;
}

static struct rm_request request_in(void)
{
	return (struct rm_request) {
		.id = in.header.id, .size = in.size, .payload = in.payload,
	};
}

static void handle_request(void)
{
	const struct rm_request request = request_in();
	/* Too large for the stack. */
	static struct {
		u32 error;
		struct rm_reply reply;
	} answer;
	static u8 payload[sizeof(u32) + sizeof(answer.reply.payload)];

	calls++;
	answer.reply.size = 0;
	handling = true;
	answer.error = dispatch(&request, &answer.reply);
	handling = false;
	public_end(&request);
	garble(in.header.id, &answer.reply);
	if (answer.error)
		answer.reply.size = 0;
	memcpy(payload, &answer.error, sizeof(u32));
	memcpy(payload + sizeof(u32), answer.reply.payload, answer.reply.size);
	send_reply(&in.header, payload, sizeof(u32) + answer.reply.size);
	for (u32 i = 0; i < nr_later; i++)
		send_notification(later[i].id, later[i].payload, later[i].size);
	nr_later = 0;
}

/*
 * Handle the request that has arrived, now or, if that takes time, later. Till
 * then, the monitor reads no other.
 */
static void begin_request(void)
{
	const struct rm_request request = request_in();
	u64 ms = 0, us;

	rule_hits(EL2_RULE_RPC_STALL, request.id, &ms);
	us = ms * 1000 + public_begin(&request);
	stalled_until_us = now_us() + us;
	stalled = us || public_must_wait(&request);
	if (!stalled)
		handle_request();
}

/* Handle a stalled request, if it is due. */
static bool end_request(void)
{
	const struct rm_request request = request_in();

	if (!stalled || now_us() < stalled_until_us ||
	    public_must_wait(&request))
		return false;
	stalled = false;
	handle_request();
	return true;
}

/* Drop an invalid message, and the request that it interrupts. */
static void read_message(const struct rpc_message *message, u32 size)
{
	const struct rpc_header *header = &message->header;
	u32 type = header->type & TYPE_MASK;
	u32 fragments = header->type >> FRAGMENTS_SHIFT;

	if (size < sizeof(*header) || header->api != RPC_API ||
	    fragments > RM_MAX_FRAGMENTS)
		return;
	size -= sizeof(*header);
	if (type == TYPE_REQUEST) {
		in.header = *header;
		in.fragments_left = fragments;
		in.size = 0;
	} else if (type == TYPE_CONTINUATION && in.fragments_left &&
		   header->sequence == in.header.sequence &&
		   header->id == in.header.id &&
		   fragments == in.header.type >> FRAGMENTS_SHIFT) {
		in.fragments_left--;
	} else {
		in.fragments_left = 0;
		return;
	}
	memcpy(in.payload + in.size, message->payload, size);
	in.size += size;
	if (!in.fragments_left)
		begin_request();
}

static bool read_requests(void)
{
	struct rpc_message message;
	bool progress = end_request();
	u32 size;

	/*
	 * Leave room for the longest reply, a message between its fragments,
	 * and the notifications that follow it.
	 */
	while (!stalled && !public_is_busy() && OUT_SLOTS - out_count > 32) {
		size = msgqueue_take(&message);
		if (!size)
			break;
		read_message(&message, size);
		progress = true;
	}
	return progress;
}

static bool write_messages(void)
{
	bool progress = false;

	late = false;
	while (out_count) {
		/*
		 * Use this result below: at a second look at the clock, the
		 * message could be due, although it is still here.
		 */
		late = out[out_head].due_us > now_us();
		if (late ||
		    !msgqueue_put(out[out_head].message, out[out_head].size,
				  out[out_head].push))
			break;
		out_head = (out_head + 1) % OUT_SLOTS;
		out_count--;
		progress = true;
	}
	return progress;
}

void rm_poll(void)
{
	while ((rm_is_public() && !stalled && public_work()) |
	       read_requests() | write_messages())
		;
	timer_pending = msgqueue_poll();
}

bool rm_is_waiting(void)
{
	return stalled || late || timer_pending || public_has_work();
}
