/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Finds a guest under Gunyah by the descriptor of its VM, so that tests of
 * every provider can use such guests.
 */
#ifndef LIB_GUNYAH_SLOT_H
#define LIB_GUNYAH_SLOT_H

#include "gmem.h"
#include "gunyah_guest.h"

#include <limits.h>
#include <pthread.h>

#define MAX_GUNYAH_GUESTS 4
#define NO_GUEST INT_MIN

/*
 * A guest, and the descriptor of its VM. Threads may share a slot: the owner of
 * the lock may run the guest, or replace it.
 */
static struct gunyah_slot {
	pthread_mutex_t lock;
	volatile int vm;
	struct gunyah_guest guest;
} gunyah_slots[MAX_GUNYAH_GUESTS] = {
	[0 ... MAX_GUNYAH_GUESTS - 1] = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.vm = NO_GUEST,
	},
};

/*
 * The slot of @vm, or an empty one for NO_GUEST, locked. NULL: there is none.
 */
static inline struct gunyah_slot *lock_gunyah_slot(int vm)
{
	int i;

	for (i = 0; i < MAX_GUNYAH_GUESTS; i++) {
		if (gunyah_slots[i].vm != vm)
			continue;
		pthread_mutex_lock(&gunyah_slots[i].lock);
		if (gunyah_slots[i].vm == vm)
			return gunyah_slots + i;
		pthread_mutex_unlock(&gunyah_slots[i].lock);
	}
	return NULL;
}

/* Create a guest and let it run, so that its own memory is bound and lent. */
static inline int run_gunyah_guest(struct gunyah_guest *guest, __u32 policy)
{
	int err = gunyah_guest_open(guest, policy);

	if (!err)
		err = gunyah_guest_start(guest);
	if (!err && gunyah_read(guest, GUNYAH_AGENT) < 0)
		err = -EIO;
	if (err)
		gunyah_guest_close(guest);
	return err;
}

static inline bool is_gunyah_guest(int vm)
{
	struct gunyah_slot *slot = lock_gunyah_slot(vm);

	if (slot)
		pthread_mutex_unlock(&slot->lock);
	return slot;
}

/*
 * Does the guest of @vm have its memory in parcels? Such a guest keeps each
 * page from the moment it gets it until its end: while it runs, the host can't
 * take a page back, unbind it or punch it.
 */
static inline bool has_parcels(int vm)
{
	struct gunyah_slot *slot = lock_gunyah_slot(vm);
	bool parcels = slot && !slot->guest.extents;

	if (slot)
		pthread_mutex_unlock(&slot->lock);
	return parcels;
}

/* The guest has run, so it doesn't change the counts of objects later. */
static inline int new_gunyah_guest(__u32 policy)
{
	struct gunyah_slot *slot = lock_gunyah_slot(NO_GUEST);
	int ret;

	if (!slot)
		return -EMFILE;
	ret = run_gunyah_guest(&slot->guest, policy);
	if (!ret)
		ret = slot->vm = slot->guest.vm;
	pthread_mutex_unlock(&slot->lock);
	return ret;
}

/* End the guest, and its VM unless that has other descriptors. */
static inline void close_gunyah_guest(struct gunyah_slot *slot)
{
	slot->vm = NO_GUEST;
	gunyah_guest_close(&slot->guest);
	pthread_mutex_unlock(&slot->lock);
}

/*
 * Let a refused access fail, so that the guest goes on. Gunyah can't do that
 * for a page that is there for other accesses: such a guest is stuck, and later
 * accesses return -EBUSY.
 */
static inline int gunyah_refused(struct gunyah_guest *guest)
{
	guest->run->page_fault.resume_action = GMEM_GUNYAH_VCPU_RESUME_FAULT;
	if (gunyah_resume(guest, NULL) == -EOPNOTSUPP) {
		guest->run->page_fault.resume_action =
			GMEM_GUNYAH_VCPU_RESUME_RETRY;
		guest->stuck = true;
	}
	return -EFAULT;
}

/*
 * With parcels, only the VMM can provide a page that was bound after the start,
 * and an access to a missing page ends the guest: populate the page, or don't
 * let the guest access it.
 */
static inline int gunyah_prepare(struct gunyah_guest *guest, __u64 gpa)
{
	if (guest->extents ||
	    !populate_range(guest->vm, gpa & ~(PAGE - 1), PAGE, NULL) ||
	    !populate_range(guest->vm, gpa & ~(HUGE_PAGE - 1), HUGE_PAGE, NULL))
		return 0;
	return -EFAULT;
}

static inline int gunyah_access(struct gunyah_guest *guest, __u64 gpa,
				__u32 access, __u8 *bytes, size_t length)
{
	size_t i;
	int ret;

	if (guest->stuck)
		return -EBUSY;
	ret = gunyah_prepare(guest, gpa);
	if (ret)
		return ret;
	for (i = 0; i < length; i++) {
		if (access == GMEM_ACCESS_WRITE)
			ret = gunyah_write(guest, gpa + i, bytes[i]);
		else
			ret = gunyah_read(guest, gpa + i);
		if (guest->stuck)
			return gunyah_refused(guest);
		if (ret < 0)
			return ret;
		if (access != GMEM_ACCESS_WRITE)
			bytes[i] = ret;
	}
	return 0;
}

static inline int gunyah_sweep(struct gunyah_guest *guest, __u64 gpa,
			       __u64 count, __u64 stride)
{
	__u64 i;
	int ret = 0;

	if (guest->stuck)
		return -EBUSY;
	for (i = 0; i < count && !ret; i++)
		ret = gunyah_prepare(guest, gpa + i * stride);
	if (!ret)
		ret = gunyah_touch(guest, gpa, count, stride);
	return guest->stuck ? gunyah_refused(guest) : ret;
}

#endif /* LIB_GUNYAH_SLOT_H */
