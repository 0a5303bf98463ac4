/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The window of a live VM, found by the descriptor of the VM. A test's guest
 * uses one window from its first access to its end, as a real guest does: then
 * the window shows whether a page that was taken away is really gone.
 */
#ifndef LIB_LIVE_SLOT_H
#define LIB_LIVE_SLOT_H

#include "gmem.h"

#include <pthread.h>

#define MAX_LIVE_GUESTS 8
/* The window has the addresses from 0 on; tests rarely go beyond them. */
#define LIVE_SPAN GIB(8)

/*
 * The inode distinguishes the VM from a later file with the same descriptor. A
 * child process has the slot, but no window.
 */
static struct live_slot {
	int vm;
	ino_t inode;
	pid_t pid;
	__u8 *window;
} live_slots[MAX_LIVE_GUESTS];

/* Held for reading while a window is in use. */
static pthread_rwlock_t live_lock = PTHREAD_RWLOCK_INITIALIZER;

static inline struct live_slot *find_live_slot(int vm)
{
	struct live_slot *slot;
	struct stat st;

	for (slot = live_slots; slot < live_slots + MAX_LIVE_GUESTS; slot++)
		if (slot->window && slot->vm == vm && slot->pid == getpid() &&
		    !fstat(vm, &st) && st.st_ino == slot->inode)
			return slot;
	return NULL;
}

/*
 * The address of @gpa in the window of @vm, with the lock held: release it by
 * end_live_access(). NULL: there is no such window.
 */
static inline __u8 *begin_live_access(int vm, __u64 gpa)
{
	struct live_slot *slot;

	if (gpa >= LIVE_SPAN)
		return NULL;
	pthread_rwlock_rdlock(&live_lock);
	slot = find_live_slot(vm);
	if (slot)
		return slot->window + gpa;
	pthread_rwlock_unlock(&live_lock);
	return NULL;
}

static inline void end_live_access(void)
{
	pthread_rwlock_unlock(&live_lock);
}

/*
 * Unmap the windows of all VMs that this process has had under that number: two
 * threads may renew a guest at the same time. The lock is held.
 */
static inline void clear_live_slots(int vm)
{
	struct live_slot *slot;

	for (slot = live_slots; slot < live_slots + MAX_LIVE_GUESTS; slot++)
		if (slot->window && slot->vm == vm && slot->pid == getpid()) {
			munmap(slot->window, LIVE_SPAN);
			slot->window = NULL;
		}
}

/* Map the window of a new VM. */
static inline void open_live_slot(int vm)
{
	struct live_slot *slot;
	struct stat st;
	__u8 *window;

	if (fstat(vm, &st))
		return;
	window = map_window(vm, 0, LIVE_SPAN, PROT_READ | PROT_WRITE);
	if (window == MAP_FAILED)
		return;
	pthread_rwlock_wrlock(&live_lock);
	clear_live_slots(vm);
	for (slot = live_slots; slot < live_slots + MAX_LIVE_GUESTS; slot++)
		if (!slot->window || slot->pid != getpid()) {
			*slot = (struct live_slot){ vm, st.st_ino, getpid(),
						    window };
			window = NULL;
			break;
		}
	pthread_rwlock_unlock(&live_lock);
	if (window)
		munmap(window, LIVE_SPAN);
}

/* Unmap the window, which keeps the VM. No error if there is none. */
static inline void close_live_slot(int vm)
{
	pthread_rwlock_wrlock(&live_lock);
	clear_live_slots(vm);
	pthread_rwlock_unlock(&live_lock);
}

/* From now on @copy is the descriptor of the slot. */
static inline void move_live_slot(int vm, int copy)
{
	struct live_slot *slot;

	pthread_rwlock_wrlock(&live_lock);
	slot = find_live_slot(vm);
	if (slot)
		slot->vm = copy;
	pthread_rwlock_unlock(&live_lock);
}

#endif /* LIB_LIVE_SLOT_H */
