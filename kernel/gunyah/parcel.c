// SPDX-License-Identifier: GPL-2.0-only
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "../objects.h"
#include "objects.h"
#include "parcel.h"
#include "reset.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_mem.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"

struct gunyah_parcel *gunyah_parcel_alloc(unsigned long gfn, bool lend,
					  u8 access, u32 label)
{
	struct gunyah_parcel *p;

	p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	if (!p)
		return NULL;
	p->handle = GUNYAH_RM_NO_HANDLE;
	p->gfn = gfn;
	p->lend = lend;
	p->access = access;
	p->label = label;
	return p;
}

void gunyah_parcel_free(struct gunyah_parcel *p)
{
	gunyah_rpc_put(p->late);
	kvfree(p->entries);
	kfree(p);
}

/* 32 bits are enough: see gmem_gunyah_provider.max_guest_addr_bits. */
u32 gunyah_parcel_label(unsigned long gfn)
{
	return PFN_PHYS(gfn) >> GUNYAH_LABEL_SHIFT;
}

int gunyah_parcel_add(struct gunyah_parcel *p, u64 base, u64 size)
{
	struct gunyah_rm_sgl_entry *entry, *entries;
	size_t room;

	entry = p->nr_entries ? &p->entries[p->nr_entries - 1] : NULL;
	if (entry &&
	    le64_to_cpu(entry->base) + le64_to_cpu(entry->size) == base) {
		le64_add_cpu(&entry->size, size);
	} else {
		if (p->nr_entries == p->room) {
			room = max_t(size_t, 16, p->room * 2);
			entries = kvrealloc(p->entries,
					    array_size(room, sizeof(*entries)),
					    GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
			if (!entries)
				return -ENOMEM;
			p->entries = entries;
			p->room = room;
		}
		p->entries[p->nr_entries++] = (struct gunyah_rm_sgl_entry) {
			.base = cpu_to_le64(base),
			.size = cpu_to_le64(size),
		};
	}
	p->nr += size >> PAGE_SHIFT;
	return 0;
}

struct gunyah_parcel *gunyah_parcel_slice(const struct gunyah_parcel *p,
					  unsigned long gfn, unsigned long nr)
{
	u64 skip = (u64)(gfn - p->gfn) << PAGE_SHIFT;
	u64 left = (u64)nr << PAGE_SHIFT;
	struct gunyah_parcel *slice;
	size_t i;

	slice = gunyah_parcel_alloc(gfn, p->lend, p->access,
				    gunyah_parcel_label(gfn));
	if (!slice)
		return NULL;
	for (i = 0; left && i < p->nr_entries; i++) {
		u64 base = le64_to_cpu(p->entries[i].base);
		u64 size = le64_to_cpu(p->entries[i].size);
		u64 part;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		part = min(size - skip, left);
		if (gunyah_parcel_add(slice, base + skip, part)) {
			gunyah_parcel_free(slice);
			return NULL;
		}
		left -= part;
		skip = 0;
	}
	return slice;
}

int gunyah_parcel_give(struct gunyah_vm *g, struct gunyah_parcel *p,
		       bool killable)
{
	const struct gunyah_rm_parcel parcel = {
		.vmid = g->vmid,
		.lend = p->lend,
		.access = p->access,
		.label = p->label,
		.entries = p->entries,
		.nr_entries = p->nr_entries,
		.killable = killable,
	};
	int err;

	p->added = g->phase >= GUNYAH_PHASE_STARTING;
	err = gunyah_rm_mem_give(g->rm, &parcel, &p->handle, &p->late);
	if (err && err != -EINTR)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): the Resource Manager doesn't %s %lu pages in %zu pieces: error %d (the VM has %u parcels; some versions grant only %u)\n",
				     g->vm->id, g->vmid,
				     p->lend ? "lend" : "share", p->nr,
				     p->nr_entries, err, g->nr_parcels,
				     GUNYAH_USUAL_PARCELS);
	return err;
}

/*
 * Look for the answer to gunyah_parcel.late. 0: the RM has the parcel; -ENOENT:
 * the RM doesn't have it; another error: still unknown.
 */
static int gunyah_parcel_catch_up(struct gunyah_vm *g, struct gunyah_parcel *p)
{
	struct gunyah_rpc *late = p->late;
	int err;

	gunyah_rm_receive(g->rm);
	if (!completion_done(&late->done)) {
		/* While the VM is open, a task that asks waits, with locks held. */
		if (p->handle == GUNYAH_RM_NO_HANDLE ||
		    (!g->stopped && time_before(jiffies, p->ask_again)))
			return -ETIMEDOUT;
		/*
		 * The reply may be lost: ask again. If the RM still works on
		 * the first request, it then answers that it has no such
		 * parcel, since it doesn't use a handle twice.
		 */
		p->asked = true;
		p->late = NULL;
		gunyah_rpc_put(late);
		return 0;
	}

	if (p->handle != GUNYAH_RM_NO_HANDLE)
		err = late->rm_error ? 0 : -ENOENT;
	else if (late->rm_error)
		err = -ENOENT;
	else
		err = gunyah_rm_mem_handle(late, &p->handle);
	if (err == -EBADMSG) {
		p->handle = GUNYAH_RM_NO_HANDLE;
		return err;
	}
	p->late = NULL;
	gunyah_rpc_put(late);
	return err;
}

static int gunyah_parcel_do_return(struct gunyah_vm *g, struct gunyah_parcel *p,
				   bool sanitize)
{
	int err = 0;

	if (p->late)
		err = gunyah_parcel_catch_up(g, p);
	if (err || p->handle == GUNYAH_RM_NO_HANDLE)
		return err == -ENOENT ? 0 : err;
	/* The guest has accepted it, so the RM would refuse. */
	if (gunyah_vm_runs(g) && !p->added)
		return -EBUSY;
	/* Until the reset, the RM keeps what the guest has accepted. */
	if (g->memory == GUNYAH_MEMORY_PARCELS && READ_ONCE(g->exited) &&
	    !g->stopped && gunyah_vm_reset_wait(g) == -EAGAIN)
		return -EBUSY;
	err = gunyah_rm_mem_reclaim(g->rm, p->handle, sanitize, &p->late);
	if (p->late)
		p->ask_again = jiffies +
			       msecs_to_jiffies(READ_ONCE(gunyah_rm_timeout_ms));
	if (err == -ENOENT)
		return p->asked ? 0 : -EINVAL;
	return err;
}

int gunyah_parcel_return(struct gunyah_vm *g, struct gunyah_parcel *p,
			 bool sanitize)
{
	/* Look before the RM answers: it reports the reset last. */
	bool waits = g->reset_asked && !READ_ONCE(g->has_reset);
	bool gave_up = READ_ONCE(g->gave_up);
	int err;

	if (p->refused)
		return p->refused;
	err = gave_up ? -ETIMEDOUT : gunyah_parcel_do_return(g, p, sanitize);
	if (!err)
		return 0;
	/*
	 * The guest uses it, or the RM is slow: no refusal, and nothing that a
	 * user should be able to fill the log with.
	 */
	if (!gave_up && (gunyah_rm_is_slow(err) ||
			 (err == -EBUSY && (waits || !g->stopped))))
		return err;
	dev_warn_ratelimited(g->rm->dev,
			     "VM %u (VMID %u): the Resource Manager doesn't give back parcel %u of %lu pages: error %d\n",
			     g->vm->id, g->vmid, p->handle, p->nr, err);
	/* The core asks for each page of the parcel: remember the refusal. */
	if (g->stopped)
		p->refused = err;
	return err;
}
