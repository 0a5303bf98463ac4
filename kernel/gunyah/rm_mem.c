// SPDX-License-Identifier: GPL-2.0-only
/* Calls to the RM about parcels. */
#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../piece.h"
#include "hypercall.h"
#include "rm.h"
#include "rm_connection.h"
#include "rm_mem.h"
#include "rm_rpc.h"
#include "rm_wire.h"

/* The largest message: its first two lists are full. */
#define GUNYAH_RM_GIVE_SIZE						\
	(sizeof(struct gunyah_rm_give) +				\
	 3 * sizeof(struct gunyah_rm_list) +				\
	 2 * sizeof(struct gunyah_rm_acl_entry) +			\
	 GUNYAH_RM_MAX_ENTRIES * sizeof(struct gunyah_rm_sgl_entry))

static void *gunyah_rm_put_list(void *to, const void *entries, size_t nr,
				size_t entry_size)
{
	struct gunyah_rm_list *list = to;

	list->nr = cpu_to_le16(nr);
	list->reserved = 0;
	memcpy(list + 1, entries, nr * entry_size);
	return (void *)(list + 1) + nr * entry_size;
}

int gunyah_rm_mem_handle(const struct gunyah_rpc *rpc, u32 *handle)
{
	__le32 value;

	if (rpc->size < sizeof(value))
		return -EBADMSG;
	memcpy(&value, rpc->reply, sizeof(value));
	*handle = le32_to_cpu(value);
	return *handle == GUNYAH_RM_NO_HANDLE ? -EBADMSG : 0;
}

/* Send the first message of a parcel, with its first @nr entries. */
static int gunyah_rm_mem_first(struct gunyah_rm *rm, void *buf,
			       const struct gunyah_rm_parcel *parcel, size_t nr,
			       u32 *handle, struct gunyah_rpc **late)
{
	struct gunyah_rm_give *give = buf;
	struct gunyah_rm_acl_entry acl[] = {
		{ .vmid = cpu_to_le16(parcel->vmid), .access = parcel->access },
		/* A shared parcel names its owner, too; a lent one must not. */
		{
			.vmid = cpu_to_le16(rm->vmid),
			.access = GUNYAH_ACCESS_R | GUNYAH_ACCESS_W |
				  GUNYAH_ACCESS_X,
		},
	};
	struct gunyah_rpc *rpc;
	void *end = give + 1;
	int err;

	memset(give, 0, sizeof(*give));
	if (nr < parcel->nr_entries)
		give->flags = GUNYAH_RM_GIVE_APPEND;
	give->label = cpu_to_le32(parcel->label);
	end = gunyah_rm_put_list(end, acl, parcel->lend ? 1 : 2,
				 sizeof(acl[0]));
	end = gunyah_rm_put_list(end, parcel->entries, nr,
				 sizeof(*parcel->entries));
	/* The list of attributes is empty. */
	end = gunyah_rm_put_list(end, NULL, 0, 0);

	err = gunyah_rm_call(rm, parcel->lend ? GUNYAH_RM_MEM_LEND :
						GUNYAH_RM_MEM_SHARE,
			     buf, end - buf, &rpc);
	if (!err)
		err = gunyah_rm_mem_handle(rpc, handle);
	/* Unless the RM has refused the request, it may have carried it out. */
	if (err && rpc && !rpc->rm_error)
		*late = rpc;
	else
		gunyah_rpc_put(rpc);
	return err;
}

static int gunyah_rm_mem_append(struct gunyah_rm *rm, void *buf, u32 handle,
				const struct gunyah_rm_sgl_entry *entries,
				size_t nr, bool last)
{
	struct gunyah_rm_append *append = buf;
	void *end;

	memset(append, 0, sizeof(*append));
	append->handle = cpu_to_le32(handle);
	append->flags = last ? GUNYAH_RM_APPEND_END : 0;
	end = gunyah_rm_put_list(append + 1, entries, nr, sizeof(*entries));
	return gunyah_rm_call(rm, GUNYAH_RM_MEM_APPEND, buf, end - buf, NULL);
}

int gunyah_rm_mem_give(struct gunyah_rm *rm,
		       const struct gunyah_rm_parcel *parcel, u32 *handle,
		       struct gunyah_rpc **late)
{
	size_t nr = min_t(size_t, parcel->nr_entries, GUNYAH_RM_MAX_ENTRIES);
	size_t sent;
	void *buf;
	int err;

	*handle = GUNYAH_RM_NO_HANDLE;
	*late = NULL;
	buf = kmalloc(GUNYAH_RM_GIVE_SIZE, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;

	err = gunyah_rm_mem_first(rm, buf, parcel, nr, handle, late);
	for (sent = nr; !err && sent < parcel->nr_entries; sent += nr) {
		/* A slow RM may need long for each of many messages. */
		if (parcel->killable && gmem_killed()) {
			err = -EINTR;
			break;
		}
		nr = min_t(size_t, parcel->nr_entries - sent,
			   GUNYAH_RM_MAX_ENTRIES);
		err = gunyah_rm_mem_append(rm, buf, *handle,
					   parcel->entries + sent, nr,
					   sent + nr == parcel->nr_entries);
	}
	kfree(buf);
	if (!err)
		atomic64_add(parcel->nr_entries, &rm->counters.pieces);
	return err;
}

int gunyah_rm_mem_reclaim(struct gunyah_rm *rm, u32 handle, bool sanitize,
			  struct gunyah_rpc **late)
{
	const struct gunyah_rm_reclaim request = {
		.handle = cpu_to_le32(handle),
		.flags = sanitize ? GUNYAH_RM_RECLAIM_SANITIZE : 0,
	};
	struct gunyah_rpc *rpc;
	int err;

	*late = NULL;
	err = gunyah_rm_call(rm, GUNYAH_RM_MEM_RECLAIM, &request,
			     sizeof(request), &rpc);
	if (err == -EINVAL && rpc->rm_error == GUNYAH_RM_ERROR_HANDLE_INVALID)
		err = -ENOENT;
	if (err == -ETIMEDOUT)
		*late = rpc;
	else
		gunyah_rpc_put(rpc);
	return err;
}
