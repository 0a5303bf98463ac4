// SPDX-License-Identifier: GPL-2.0-only
/* Requests of a guest to the Resource Manager: it accepts and releases parcels. */
#include "accept.h"
#include "guest_rpc.h"
#include "rm.h"
#include "rm_lists.h"
#include "rm_messages.h"

#define FUNCTION_SEND		0xc600801b
#define FUNCTION_RECEIVE	0xc600801c

#define RPC_API			0x21
#define TYPE_REQUEST		1
#define TYPE_REPLY		2

#define TRANS_LEND		1
#define TRANS_SHARE		2

/* Flags of MEM_ACCEPT */
#define VALIDATE_SANITIZED	1
#define VALIDATE_ACL		2
#define VALIDATE_LABEL		4
#define MAP_OTHER		8
#define MAP_CONTIGUOUS		0x10
#define ACCEPT_SANITIZE		0x20
#define ACCEPT_DONE		0x80

#define RELEASE_SANITIZE	1

#define NOTIFY_RELEASED		2
#define NOTIFY_ACCEPTED		4

struct message {
	u8 api, type;
	u16 sequence;
	u32 id;
	u8 payload[RM_FRAGMENT_SIZE];
};

#define HEADER_SIZE		offsetof(struct message, payload)

struct accept_header {
	u32 handle;
	u8 type, transaction, flags, reserved;
	u32 label;
};

/* Of MEM_RELEASE and MEM_NOTIFY */
struct handle_header {
	u32 handle;
	u8 flags, reserved[3];
};

struct accept_reply {
	u16 count;
	u8 flags, reserved;
	struct wire_range ranges[13];
};

/* The guest's bytes at @va; 0 if it may not access them. */
static u64 translate(const void *data, u64 va, u8 access)
{
	const struct vm *vm = data;
	u64 ipa = stage1_page(va, access);
	u64 pte = ipa == NO_PAGE ? 0 : stage2_get(&vm->stage2, ipa);

	if (!(stage2_access(pte) & access))
		return 0;
	return stage2_pa(pte) | (va & (PAGE_SIZE - 1));
}

/* Is that the parcel's list, in any order? */
static bool is_acl(struct parcel *parcel, const struct wire_acl *acl, u32 count)
{
	if (count != parcel->nr_acl + (parcel->host_access ? 1U : 0U))
		return false;
	for (; count--; acl++) {
		const struct acl_entry *entry;

		if (acl->vmid == VMID_HOST) {
			if (acl->access != parcel->host_access)
				return false;
			continue;
		}
		entry = parcel_entry(parcel, acl->vmid);
		if (!entry || entry->access != acl->access)
			return false;
	}
	return true;
}

static u32 validate(struct parcel *parcel, const struct accept_header *header,
		    const struct wire_acl *acl, u32 nr_acl)
{
	u8 transaction = parcel->host_access ? TRANS_SHARE : TRANS_LEND;

	if (header->type || header->transaction != transaction)
		return RM_ARG_INVALID;
	if ((header->flags & VALIDATE_SANITIZED && !parcel->sanitize) ||
	    (header->flags & VALIDATE_LABEL &&
	     header->label != parcel->label) ||
	    (header->flags & VALIDATE_ACL && !is_acl(parcel, acl, nr_acl)))
		return RM_VALIDATE_FAILED;
	return header->flags & MAP_OTHER ? RM_DENIED : RM_OK;
}

/*
 * At the range, or without one where there is room. All is accepted in one
 * call, in one run or piece by piece; a list of ranges isn't implemented.
 */
static u32 accept(struct vm *vm, struct parcel *parcel, u8 flags,
		  const struct wire_range *range, u32 nr_ranges)
{
	bool run = flags & MAP_CONTIGUOUS || parcel->pieces.count == 1;

	if (parcel_entry(parcel, vm->vmid)->placed)
		return RM_DENIED;
	if (parcel->open || !(flags & ACCEPT_DONE) || nr_ranges > 1)
		return RM_ARG_INVALID;
	if (!nr_ranges)
		return run ? accept_lowest_run(vm, parcel) :
			     accept_lowest(vm, parcel);
	if (!run || range->size != parcel_size(parcel))
		return RM_ARG_INVALID;
	return accept_at(vm, parcel, range->pa);
}

/* List where the pieces are, as far as there is room. */
static u32 list_ranges(const struct vm *vm, struct parcel *parcel,
		       struct accept_reply *reply)
{
	const struct acl_entry *acl = parcel_entry(parcel, vm->vmid);
	struct piece_cursor cursor = { };
	const struct piece *piece;
	u32 n = 0;

	if (!acl->scattered) {
		reply->ranges[n++] = (struct wire_range) {
			acl->gpa, parcel_size(parcel),
		};
	} else {
		while (n < ARRAY_SIZE(reply->ranges) &&
		       (piece = pieces_next(&parcel->pieces, &cursor)))
			reply->ranges[n++] = (struct wire_range) {
				parcel_gpa(acl, piece->pa), piece->size,
			};
	}
	reply->count = n;
	return offsetof(struct accept_reply, ranges) +
	       n * sizeof(struct wire_range);
}

static u32 handle_accept(struct vm *vm, struct rm_reader *r,
			 struct accept_reply *reply, u32 *reply_size)
{
	const struct accept_header *header = rm_take(r, sizeof(*header));
	const struct wire_range *ranges;
	const struct wire_acl *acl;
	u32 nr_acl, nr_ranges, count, error;
	const void *attributes;
	struct parcel *parcel;

	error = header ? rm_take_list(r, sizeof(*acl), (const void **)&acl,
				      &nr_acl) : RM_MSG_INVALID;
	error = error ?: rm_take_list(r, sizeof(*ranges),
				      (const void **)&ranges, &nr_ranges);
	error = error ?: rm_take_list(r, sizeof(u32), &attributes, &count);
	if (error || r->left)
		return error ?: RM_MSG_INVALID;
	parcel = parcel_find(header->handle);
	if (!parcel || !parcel_entry(parcel, vm->vmid))
		return RM_HANDLE_INVALID;
	error = validate(parcel, header, acl, nr_acl);
	error = error ?: accept(vm, parcel, header->flags, ranges, nr_ranges);
	if (error)
		return error;
	parcel->sanitize_last |= header->flags & ACCEPT_SANITIZE;
	if (!nr_ranges)
		*reply_size = list_ranges(vm, parcel, reply);
	return RM_OK;
}

static struct parcel *take_handle(struct vm *vm, struct rm_reader *r, u8 *flags)
{
	const struct handle_header *header = rm_take(r, sizeof(*header));
	struct parcel *parcel = header ? parcel_find(header->handle) : NULL;

	if (!parcel || !parcel_entry(parcel, vm->vmid))
		return NULL;
	*flags = header->flags;
	return parcel;
}

static u32 handle_release(struct vm *vm, struct rm_reader *r)
{
	u8 flags;
	struct parcel *parcel = take_handle(vm, r, &flags);

	if (!parcel)
		return RM_HANDLE_INVALID;
	if (!parcel_entry(parcel, vm->vmid)->placed)
		return RM_MEM_NOT_ACCEPTED;
	parcel->sanitize_last |= flags & RELEASE_SANITIZE;
	release(vm, parcel);
	return RM_OK;
}

/* Only the guest lets the host know that it has accepted or released. */
static u32 handle_notify(struct vm *vm, struct rm_reader *r)
{
	struct {
		u32 handle;
		u16 vmid, reserved;
		u32 tag;
	} payload = { .vmid = vm->vmid };
	u8 flags;
	struct parcel *parcel = take_handle(vm, r, &flags);
	bool accepted;

	if (!parcel)
		return RM_HANDLE_INVALID;
	accepted = parcel_entry(parcel, vm->vmid)->placed;
	if (flags != (accepted ? NOTIFY_ACCEPTED : NOTIFY_RELEASED))
		return accepted ? RM_MEM_INUSE : RM_MEM_NOT_ACCEPTED;
	payload.handle = parcel->handle;
	rm_notify(accepted ? RM_MEM_ACCEPTED : RM_MEM_RELEASED, &payload,
		  sizeof(payload));
	return RM_OK;
}

/* Answer a request of @size bytes, and ignore another message. */
static void handle_message(struct vm *vm, const struct message *m, u32 size)
{
	struct rm_reader r = { m->payload, size - HEADER_SIZE };
	struct message answer = {
		.api = RPC_API, .type = TYPE_REPLY, .sequence = m->sequence,
		.id = m->id,
	};
	struct accept_reply reply = { };
	u32 error, reply_size = 0;

	if (size < HEADER_SIZE || m->api != RPC_API || m->type != TYPE_REQUEST)
		return;
	switch (m->id) {
	case RM_MEM_ACCEPT:
		error = handle_accept(vm, &r, &reply, &reply_size);
		break;
	case RM_MEM_RELEASE:
		error = handle_release(vm, &r);
		break;
	case RM_MEM_NOTIFY:
		error = handle_notify(vm, &r);
		break;
	default:
		error = RM_UNIMPLEMENTED;
	}
	memcpy(answer.payload, &error, sizeof(error));
	memcpy(answer.payload + sizeof(error), &reply, reply_size);
	vm->answer_size = HEADER_SIZE + sizeof(error) + reply_size;
	memcpy(vm->answer, &answer, vm->answer_size);
}

/* x1 cap, x2 size, x3 buffer, x4 flags -> x1 not full */
static s64 call_send(struct vm *vm, u64 *x)
{
	struct message m;

	if (!vm->config.rpc || x[1] != GUEST_TX_CAP)
		return CAP_NULL;
	if (!x[2] || x[2] > sizeof(m))
		return ARG_SIZE;
	if (vm->answer_size)
		return MSGQUEUE_FULL;
	if (!copy_pages(translate, vm, &m, x[3], x[2], ACCESS_R))
		return ADDR_INVALID;
	handle_message(vm, &m, x[2]);
	x[1] = !vm->answer_size;
	return OK;
}

/* x1 cap, x2 buffer, x3 its size -> x1 size, x2 not empty */
static s64 call_receive(struct vm *vm, u64 *x)
{
	if (!vm->config.rpc || x[1] != GUEST_RX_CAP)
		return CAP_NULL;
	if (!vm->answer_size)
		return MSGQUEUE_EMPTY;
	if (x[3] < vm->answer_size)
		return ADDR_OVERFLOW;
	if (!copy_pages(translate, vm, vm->answer, x[2], vm->answer_size,
			ACCESS_W))
		return ADDR_INVALID;
	x[1] = vm->answer_size;
	x[2] = 0;
	vm->answer_size = 0;
	return OK;
}

bool guest_rpc_call(struct vm *vm, u64 *x)
{
	if (x[0] == FUNCTION_SEND)
		x[0] = call_send(vm, x);
	else if (x[0] == FUNCTION_RECEIVE)
		x[0] = call_receive(vm, x);
	else
		return false;
	return true;
}
