/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMs with a guest in them, whatever their provider: a window is what a guest sees,
 * the mock has a call, and under Gunyah runs the guest of gunyah_util.h. With what
 * tests of every provider have in common.
 */
#ifndef GUEST_UTIL_H
#define GUEST_UTIL_H

#include "gmem_util.h"
#include "gunyah_util.h"

#include "el2/el2_util.h"

#include <limits.h>
#include <pthread.h>

/* ---- a real guest ---- */

#define MAX_GUNYAH_GUESTS 4
#define NO_GUEST INT_MIN

/*
 * A guest, and the descriptor that its VM goes by. Threads may share them: who holds
 * the lock may run the guest, or put another one in its place.
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

/* That of @vm, or with NO_GUEST an empty one, locked. NULL: there is none. */
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

/* A guest that has run: what it lives in is bound and lent. */
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
 * Does the guest of @vm have its memory in parcels? Such a guest keeps each page from
 * the moment it gets it until its end: while it runs, the host can't take a page back,
 * unbind it or punch it.
 */
static inline bool has_parcels(int vm)
{
	struct gunyah_slot *slot = lock_gunyah_slot(vm);
	bool parcels = slot && !slot->guest.extents;

	if (slot)
		pthread_mutex_unlock(&slot->lock);
	return parcels;
}

/* Counts made from now on are of what the test does. */
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

/* The guest goes, and with it the VM, unless that has other descriptors. */
static inline void close_gunyah_guest(struct gunyah_slot *slot)
{
	slot->vm = NO_GUEST;
	gunyah_guest_close(&slot->guest);
	pthread_mutex_unlock(&slot->lock);
}

/*
 * A refused access is made to fail, so that the guest goes on. It can't where Gunyah
 * has no way to say so: a page that is there for other accesses. From then on -EBUSY.
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
 * With parcels, what was bound after the start comes when the VMM says so, and a
 * touch of what isn't there would end the guest: it isn't let.
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

/* ---- any guest ---- */

/* What tests bind lies below, and what a guest lives in isn't. */
#define GUEST_END GUNYAH_AGENT

/* A VM for guest_access(), to be closed by close_guest(). */
static inline int new_guest(const char *provider, __u32 policy)
{
	if (!strcmp(provider, "gunyah"))
		return new_gunyah_guest(policy);
	return new_vm(provider, policy);
}

static inline void close_guest(int vm)
{
	struct gunyah_slot *slot = vm < 0 ? NULL : lock_gunyah_slot(vm);

	if (slot)
		close_gunyah_guest(slot);
	else
		close(vm);
}

/* The number of the guestmem that the guest lives in, and no test binds; else 0. */
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
 * The end of a guest and of its VM, and new ones under the same descriptor, which
 * other threads may use all the while.
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
	dup3(fresh.vm, vm, O_CLOEXEC);
	close(fresh.vm);
	if (!slot)
		return 0;
	old = slot->guest;
	old.vm = -1;
	slot->guest = fresh;
	slot->guest.vm = vm;
	pthread_mutex_unlock(&slot->lock);
	/* Its vCPU has held it until now. */
	gunyah_guest_close(&old);
	return 0;
}

/* Another descriptor of the VM, by which guest_access() knows it from now on. */
static inline int dup_guest(int vm)
{
	struct gunyah_slot *slot = lock_gunyah_slot(vm);
	int copy = err_of(dup(vm));

	if (slot) {
		if (copy >= 0)
			slot->vm = slot->guest.vm = copy;
		pthread_mutex_unlock(&slot->lock);
	}
	return copy;
}

/*
 * Access up to a page's memory as the guest. -EFAULT where the access is refused. A
 * window is mapped anew each time.
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
	window = map_window(vm, gpa & ~(PAGE - 1), PAGE, prot);
	if (window == MAP_FAILED) {
		if (errno == ENODEV)
			return mock_access(vm, gpa, access, buf, length);
		return -errno;
	}
	if (access == GMEM_ACCESS_WRITE)
		ret = touch_copy(window + gpa % PAGE, buf, length);
	else
		ret = touch_copy(buf, window + gpa % PAGE, length);
	munmap(window, PAGE);
	return ret ? -EFAULT : 0;
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

/* Write to @count addresses, @stride apart, until one is refused: if it can, in one go. */
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

/* Of all that tests bind. */
static inline int query_guest(int vm, struct gmem_binding_info *entries,
			      __u32 max)
{
	return query_vm_range(vm, 0, GUEST_END, entries, max);
}

/* ---- nothing is left ---- */

/* For tests, in the hypervisor's eyes; all zeroes where it isn't one that tells. */
static inline struct el2_stats hypervisor_stats(void)
{
	struct el2_stats stats = {};
	struct el2 el2;

	if (el2_open(&el2)) {
		stats = el2_stats(&el2);
		el2_close(&el2);
	}
	return stats;
}

static __attribute__((unused)) struct el2_stats hypervisor_before;

/* Of a fixture: how things are before the test, and that they are so again. */
#define SETUP_STATS()							\
	do {								\
		ASSERT_EQ(0, get_stats(&self->before));			\
		hypervisor_before = hypervisor_stats();			\
	} while (0)

#define TEARDOWN_STATS()						\
	do {								\
		EXPECT_TRUE(stats_settle(&self->before));		\
		EXPECT_EL2_SAME(hypervisor_before, hypervisor_stats());	\
	} while (0)

/* ---- fixtures and variants ---- */

/* For the setup of a fixture whose variant names a provider and mem_flags. */
#define SKIP_UNLESS_POSSIBLE(variant)					\
	do {								\
		ASSERT_LE(0, gmem_dev());				\
		if (!have_provider((variant)->provider))		\
			SKIP(return, "no provider %s",			\
			     (variant)->provider);			\
		if (((variant)->mem_flags & GMEM_MEM_ALLOW_HUGEPAGE) &&	\
		    !have_huge())					\
			SKIP(return, "no huge pages");			\
	} while (0)

/*
 * What most fixtures have: before, vm, mem, unit, size; a VM for guest_access() and a
 * guestmem of @units as the variant has them.
 */
#define SETUP_VM_AND_MEM(units, vm_policy)				\
	do {								\
		SKIP_UNLESS_POSSIBLE(variant);				\
		SETUP_STATS();						\
		self->unit = variant->mem_flags &			\
			     GMEM_MEM_ALLOW_HUGEPAGE ? HUGE_PAGE : PAGE; \
		self->size = (units) * self->unit;			\
		self->vm = new_guest(variant->provider, vm_policy);	\
		ASSERT_LE(0, self->vm);					\
		self->mem = new_mem(self->size, variant->mem_flags);	\
		ASSERT_LE(0, self->mem);				\
	} while (0)

/* And host: all of the guestmem. */
#define SETUP_HOST()							\
	do {								\
		self->host = map_host(self->mem, 0, self->size);	\
		ASSERT_NE(MAP_FAILED, self->host);			\
	} while (0)

#define TEARDOWN_HOST() munmap(self->host, self->size)

/* A test may have closed them. */
#define TEARDOWN_VM_AND_MEM()						\
	do {								\
		close_guest(self->vm);					\
		close(self->mem);					\
		TEARDOWN_STATS();					\
	} while (0)

#define EACH_SIZE(add, fixture, name, ...)				\
	add(fixture, name##_4k, __VA_ARGS__);				\
	add(fixture, name##_2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE,	\
	    __VA_ARGS__)

/*
 * @add(@fixture, name, ...) for page size x provider, @... added to each. Gunyah
 * wants another machine, so for it there is another program of the same source.
 */
#ifdef GMEM_TEST_GUNYAH
#define VARIANTS_PROVIDER(fixture)					\
	VARIANT(fixture, gunyah, .provider = "gunyah")
#define EACH_PROVIDER_SIZE(add, fixture, ...)				\
	EACH_SIZE(add, fixture, gunyah, .provider = "gunyah", __VA_ARGS__)
#else
#define VARIANTS_PROVIDER(fixture)					\
	VARIANT(fixture, window, .provider = "window");			\
	VARIANT(fixture, mock, .provider = "mock")
#define EACH_PROVIDER_SIZE(add, fixture, ...)				\
	EACH_SIZE(add, fixture, window, .provider = "window", __VA_ARGS__); \
	EACH_SIZE(add, fixture, mock, .provider = "mock", __VA_ARGS__)
#endif

/* For EACH_PROVIDER_SIZE(). */
#define VARIANTS_ACCESS(fixture, name, ...)				\
	VARIANT(fixture, name##_lend, .access = LEND, __VA_ARGS__);	\
	VARIANT(fixture, name##_share, .access = SHARE, __VA_ARGS__)

#define VARIANTS_PROVIDER_SIZE(fixture, ...)				\
	EACH_PROVIDER_SIZE(VARIANT, fixture, __VA_ARGS__)

#endif /* GUEST_UTIL_H */
