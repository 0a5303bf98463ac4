// SPDX-License-Identifier: GPL-2.0-only
/*
 * Eventfds that the guest's writes to devices signal: such a write doesn't
 * return to the VMM, and the guest goes on at once.
 *
 * A VM's ioeventfds are one array, sorted by address. A vCPU searches it under
 * a read lock, so that no signal follows once REMOVE_FUNCTION has
 * returned.
 */
#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/gmem_gunyah.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "ioeventfd.h"
#include "objects.h"

/**
 * struct gunyah_ioeventfd - an entry of gunyah_vm.ioeventfds
 * @addr: guest address
 * @len: the length of the writes that match; 0: any
 * @match: only writes of the value @data match
 * @data: see @match
 * @eventfd: a reference
 */
struct gunyah_ioeventfd {
	u64 addr;
	u32 len;
	bool match;
	u64 data;
	struct eventfd_ctx *eventfd;
};

struct gunyah_ioeventfds {
	unsigned int nr;
	struct gunyah_ioeventfd entries[];
};

/* The values that a write of @len bytes can have, not 0. */
static u64 gunyah_ioeventfd_values(u64 len)
{
	return len < sizeof(u64) ? BIT_ULL(8 * len) - 1 : U64_MAX;
}

/* The first entry at @addr or above; the number of entries if there is none. */
static unsigned int gunyah_ioeventfd_at(const struct gunyah_ioeventfds *all,
					u64 addr)
{
	unsigned int low = 0, high = all ? all->nr : 0, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (all->entries[mid].addr < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

#define gunyah_for_each_at(all, i, where)				\
	for (i = gunyah_ioeventfd_at(all, where);			\
	     all && i < all->nr && all->entries[i].addr == (where); i++)

/* ---- writes of the guest ---- */

bool gunyah_ioeventfd_write(struct gunyah_vm *g, u64 addr, u64 len, u64 data)
{
	const struct gunyah_ioeventfds *all;
	const struct gunyah_ioeventfd *io;
	bool taken = false;
	unsigned int i;

	data &= gunyah_ioeventfd_values(len);
	read_lock(&g->ioeventfds_lock);
	all = g->ioeventfds;
	gunyah_for_each_at(all, i, addr) {
		io = &all->entries[i];
		if ((io->len && io->len != len) ||
		    (io->match && io->data != data))
			continue;
		eventfd_signal(io->eventfd);
		/* No two entries match the same write. */
		taken = true;
		break;
	}
	read_unlock(&g->ioeventfds_lock);
	return taken;
}

/* ---- changes ---- */

static bool gunyah_ioeventfd_overlap(const struct gunyah_ioeventfd *a,
				     const struct gunyah_ioeventfd *b)
{
	if (a->len && b->len && a->len != b->len)
		return false;
	return !a->match || !b->match || a->data == b->data;
}

static int gunyah_ioeventfd_check(const struct gmem_gunyah_fn_ioeventfd_arg *arg)
{
	bool match = arg->flags & GMEM_GUNYAH_IOEVENTFD_DATAMATCH;
	u64 end;

	if (arg->flags & ~GMEM_GUNYAH_IOEVENTFD_DATAMATCH)
		return -EINVAL;
	switch (arg->len) {
	case 0:
		if (match)
			return -EINVAL;
		break;
	case 1:
	case 2:
	case 4:
	case 8:
		break;
	default:
		return -EINVAL;
	}
	if (check_add_overflow(arg->addr, (u64)arg->len, &end))
		return -EINVAL;
	/* No write could match. */
	if (match && arg->datamatch & ~gunyah_ioeventfd_values(arg->len))
		return -EINVAL;
	return 0;
}

static struct gunyah_ioeventfd
gunyah_ioeventfd_of(const struct gmem_gunyah_fn_ioeventfd_arg *arg)
{
	bool match = arg->flags & GMEM_GUNYAH_IOEVENTFD_DATAMATCH;

	return (struct gunyah_ioeventfd) {
		.addr = arg->addr,
		.len = arg->len,
		.match = match,
		.data = match ? arg->datamatch : 0,
	};
}

/* A copy with room for one more entry, at @at. */
static struct gunyah_ioeventfds *
gunyah_ioeventfds_widen(const struct gunyah_ioeventfds *old, unsigned int at)
{
	unsigned int nr = old ? old->nr : 0;
	struct gunyah_ioeventfds *all;

	all = kvmalloc(struct_size(all, entries, nr + 1), GFP_KERNEL_ACCOUNT);
	if (!all)
		return NULL;
	all->nr = nr + 1;
	if (!old)
		return all;
	memcpy(all->entries, old->entries, at * sizeof(*old->entries));
	memcpy(all->entries + at + 1, old->entries + at,
	       (nr - at) * sizeof(*old->entries));
	return all;
}

int gunyah_ioeventfd_add(struct gunyah_vm *g, const void *data)
{
	const struct gmem_gunyah_fn_ioeventfd_arg *arg = data;
	struct gunyah_ioeventfd io = gunyah_ioeventfd_of(arg);
	struct gunyah_ioeventfds *old = g->ioeventfds, *all;
	unsigned int i;
	int err;

	lockdep_assert_held(&g->functions_lock);
	err = gunyah_ioeventfd_check(arg);
	if (err)
		return err;
	gunyah_for_each_at(old, i, io.addr)
		if (gunyah_ioeventfd_overlap(&io, &old->entries[i]))
			return -EEXIST;
	if (old && old->nr == GMEM_GUNYAH_MAX_IOEVENTFDS)
		return -ENOSPC;
	io.eventfd = eventfd_ctx_fdget(arg->fd);
	if (IS_ERR(io.eventfd))
		return PTR_ERR(io.eventfd);
	all = gunyah_ioeventfds_widen(old, i);
	if (!all) {
		eventfd_ctx_put(io.eventfd);
		return -ENOMEM;
	}
	all->entries[i] = io;
	write_lock(&g->ioeventfds_lock);
	g->ioeventfds = all;
	write_unlock(&g->ioeventfds_lock);
	kvfree(old);
	return 0;
}

/* Remove the entries [@from, @to): in place, so that this can't fail. */
static void gunyah_ioeventfds_cut(struct gunyah_vm *g, unsigned int from,
				  unsigned int to)
{
	struct gunyah_ioeventfds *all = g->ioeventfds;
	struct eventfd_ctx *eventfd;

	for (; from < to; to--) {
		eventfd = all->entries[from].eventfd;
		write_lock(&g->ioeventfds_lock);
		all->nr--;
		memmove(&all->entries[from], &all->entries[from + 1],
			(all->nr - from) * sizeof(*all->entries));
		write_unlock(&g->ioeventfds_lock);
		eventfd_ctx_put(eventfd);
	}
}

int gunyah_ioeventfd_remove(struct gunyah_vm *g, const void *data)
{
	const struct gmem_gunyah_fn_ioeventfd_arg *arg = data;
	struct gunyah_ioeventfd io = gunyah_ioeventfd_of(arg);
	struct gunyah_ioeventfds *all = g->ioeventfds;
	unsigned int i, first;

	lockdep_assert_held(&g->functions_lock);
	if (gunyah_ioeventfd_check(arg))
		return -EINVAL;
	first = gunyah_ioeventfd_at(all, io.addr);
	gunyah_for_each_at(all, i, io.addr) {
		if (io.len && all->entries[i].len == io.len &&
		    all->entries[i].match == io.match &&
		    all->entries[i].data == io.data) {
			gunyah_ioeventfds_cut(g, i, i + 1);
			return 0;
		}
	}
	/* Without a length, the address alone names them. */
	if (io.len || i == first)
		return -ENOENT;
	gunyah_ioeventfds_cut(g, first, i);
	return 0;
}

void gunyah_ioeventfds_end(struct gunyah_vm *g)
{
	unsigned int i;

	for (i = 0; g->ioeventfds && i < g->ioeventfds->nr; i++)
		eventfd_ctx_put(g->ioeventfds->entries[i].eventfd);
	kvfree(g->ioeventfds);
	g->ioeventfds = NULL;
}
