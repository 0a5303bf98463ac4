/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A VM with a guest, whatever its provider: under "window" and "live" a window
 * stands for the guest, under "mock" a call; under "gunyah" a guest runs.
 */
#ifndef LIB_GUEST_H
#define LIB_GUEST_H

#include "gmem.h"
#include "gunyah_slot.h"
#include "live_slot.h"

/* Tests bind below this address; the guest's own memory is above. */
#define GUEST_END GUNYAH_AGENT

/* Create a VM for guest_access(). Close it with close_guest(). */
static inline int new_guest(const char *provider, __u32 policy)
{
	int vm;

	if (!strcmp(provider, "gunyah"))
		return new_gunyah_guest(policy);
	vm = new_vm(provider, policy);
	if (vm >= 0 && is_live(provider))
		open_live_slot(vm);
	return vm;
}

static inline void close_guest(int vm)
{
	struct gunyah_slot *slot = vm < 0 ? NULL : lock_gunyah_slot(vm);

	if (slot) {
		close_gunyah_guest(slot);
	} else {
		close_live_slot(vm);
		close(vm);
	}
}

/*
 * The number of the guest's own guestmem, which no test binds; 0 without one.
 */
static inline __u64 guest_mem_id(int vm)
{
	struct gunyah_slot *slot = lock_gunyah_slot(vm);
	__u64 id = 0;

	if (slot) {
		id = mem_id(slot->guest.agent_mem);
		pthread_mutex_unlock(&slot->lock);
	}
	return id;
}

/*
 * End a guest and its VM, and create new ones under the same descriptor number,
 * which other threads may use meanwhile.
 */
static inline int renew_guest(int vm, const char *provider, __u32 policy)
{
	struct gunyah_guest fresh = { .vm = -1 }, old;
	struct gunyah_slot *slot = NULL;
	int ret;

	if (strcmp(provider, "gunyah"))
		ret = fresh.vm = new_vm(provider, policy);
	else
		ret = run_gunyah_guest(&fresh, policy);
	if (ret < 0)
		return ret;
	slot = lock_gunyah_slot(vm);
	close_live_slot(vm);
	dup3(fresh.vm, vm, O_CLOEXEC);
	close(fresh.vm);
	if (is_live(provider))
		open_live_slot(vm);
	if (!slot)
		return 0;
	old = slot->guest;
	old.vm = -1;
	slot->guest = fresh;
	slot->guest.vm = vm;
	pthread_mutex_unlock(&slot->lock);
	/* The vCPU's descriptor has kept the old VM until now. */
	gunyah_guest_close(&old);
	return 0;
}

/*
 * Duplicate the VM's descriptor; from now on, guest_access() knows the VM by
 * the copy.
 */
static inline int dup_guest(int vm)
{
	struct gunyah_slot *slot = lock_gunyah_slot(vm);
	int copy = err_of(dup(vm));

	if (slot) {
		if (copy >= 0)
			slot->vm = slot->guest.vm = copy;
		pthread_mutex_unlock(&slot->lock);
	} else if (copy >= 0) {
		move_live_slot(vm, copy);
	}
	return copy;
}

static inline int window_access(__u8 *at, __u32 access, void *buf, size_t length)
{
	if (access == GMEM_ACCESS_WRITE)
		return touch_copy(at, buf, length) ? -EFAULT : 0;
	return touch_copy(buf, at, length) ? -EFAULT : 0;
}

/*
 * Access memory of at most a page as the guest. -EFAULT: the access is refused.
 * For a paged window, each access makes a mapping of its own.
 */
static inline int guest_access(int vm, __u64 gpa, __u32 access, void *buf,
			       size_t length)
{
	int prot = access == GMEM_ACCESS_WRITE ? PROT_READ | PROT_WRITE :
						 PROT_READ;
	struct gunyah_slot *slot = vm < 0 ? NULL : lock_gunyah_slot(vm);
	__u8 *window;
	int ret;

	if (slot) {
		ret = gunyah_access(&slot->guest, gpa, access, buf, length);
		pthread_mutex_unlock(&slot->lock);
		return ret;
	}
	window = begin_live_access(vm, gpa);
	if (window) {
		ret = window_access(window, access, buf, length);
		end_live_access();
		return ret;
	}
	window = map_window(vm, gpa & ~(PAGE - 1), PAGE, prot);
	if (window == MAP_FAILED) {
		if (errno == ENODEV)
			return mock_access(vm, gpa, access, buf, length);
		return -errno;
	}
	ret = window_access(window + gpa % PAGE, access, buf, length);
	munmap(window, PAGE);
	return ret;
}

static inline int guest_write(int vm, __u64 gpa, __u8 byte)
{
	return guest_access(vm, gpa, GMEM_ACCESS_WRITE, &byte, 1);
}

/* The byte there, or -errno. */
static inline int guest_read(int vm, __u64 gpa)
{
	__u8 byte = 0;
	int ret = guest_access(vm, gpa, GMEM_ACCESS_READ, &byte, 1);

	return ret ? ret : byte;
}

/*
 * Write to @count addresses, @stride apart, until one write is refused; by a
 * single command if the guest takes commands.
 */
static inline int guest_touch(int vm, __u64 gpa, __u64 count, __u64 stride)
{
	struct gunyah_slot *slot = vm < 0 ? NULL : lock_gunyah_slot(vm);
	int ret = 0;

	if (slot) {
		ret = gunyah_sweep(&slot->guest, gpa, count, stride);
		pthread_mutex_unlock(&slot->lock);
		return ret;
	}
	while (count-- && !ret) {
		ret = guest_write(vm, gpa, 1);
		gpa += stride;
	}
	return ret;
}

/* Read the bindings that the test has made. */
static inline int query_guest(int vm, struct gmem_binding_info *entries,
			      __u32 max)
{
	return query_vm_range(vm, 0, GUEST_END, entries, max);
}

#endif /* LIB_GUEST_H */
