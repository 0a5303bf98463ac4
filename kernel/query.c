// SPDX-License-Identifier: GPL-2.0-only
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "binding.h"
#include "call.h"
#include "objects.h"
#include "query.h"
#include "unmap.h"
#include "vm.h"

/* The size of an entry in its first version. */
#define GMEM_QUERY_FIRST_SIZE 40
#define GMEM_QUERY_BATCH (PAGE_SIZE / sizeof(struct gmem_binding_info))

/* Fill up to @max entries from *gfn on; *gfn moves behind the last one. */
static u32 gmem_query_batch(struct gmem_vm *vm, unsigned long *gfn,
			    unsigned long last,
			    struct gmem_binding_info *entries, u32 max)
{
	struct gmem_binding *b;
	u32 nr;

	for (nr = 0; nr < max; nr++) {
		b = gmem_binding_next(vm, gfn, last);
		if (!b)
			break;
		entries[nr] = (struct gmem_binding_info) {
			.guest_addr = (u64)gmem_binding_gfn(b, b->first)
				      << PAGE_SHIFT,
			.length = (u64)(b->last - b->first + 1) << PAGE_SHIFT,
			.offset = (u64)b->first << PAGE_SHIFT,
			.mem_id = b->mem->inode.i_ino,
			.flags = b->flags,
		};
		gmem_binding_describe_policy(b, &entries[nr]);
	}
	return nr;
}

int gmem_vm_query_call(void *obj, void *arg)
{
	struct gmem_vm_query *query = arg;
	struct gmem_binding_info *entries;
	struct gmem_vm *vm = obj;
	unsigned long gfn, last;
	u32 nr = 0, got, room;
	u64 end;
	int err;

	/* A caller that doesn't know the field has these: they haven't grown. */
	if (!query->entry_size)
		query->entry_size = GMEM_QUERY_FIRST_SIZE;
	err = gmem_call_entry_size(&query->entry_size, query->size,
				   offsetofend(typeof(*query), entry_size),
				   GMEM_QUERY_FIRST_SIZE);
	if (err || query->reserved)
		return -EINVAL;
	err = gmem_vm_range(vm, query->guest_addr, query->length, &gfn, &last);
	if (err)
		return err;
	end = query->guest_addr + query->length;

	entries = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	do {
		room = min_t(u32, query->nr_entries - nr, GMEM_QUERY_BATCH);
		if (fatal_signal_pending(current) ||
		    gmem_vm_lock_killable(vm)) {
			err = -EINTR;
			break;
		}
		got = gmem_query_batch(vm, &gfn, last, entries, room);
		mutex_unlock(&vm->lock);

		/* User memory may fault into a window: not under the lock. */
		err = gmem_call_put_entries(query->entries, query->entry_size,
					    nr, entries, sizeof(*entries), got);
		nr += got;
	} while (!err && got == GMEM_QUERY_BATCH);
	kfree(entries);
	if (err)
		return err;

	query->nr_entries = nr;
	query->entry_size = min_t(u32, query->entry_size, sizeof(*entries));
	query->guest_addr = end;
	query->length = 0;
	/* If the room is full, there may be more bindings. */
	if (got == room && gfn <= last) {
		query->guest_addr = (u64)gfn << PAGE_SHIFT;
		query->length = end - query->guest_addr;
	}
	return 0;
}
