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

/* ---- a real guest ---- */

#define MAX_GUNYAH_GUESTS 4
static struct gunyah_guest *gunyah_guests[MAX_GUNYAH_GUESTS];

/* Where that of @vm is, or with -1, where one can be. NULL: there is none. */
static inline struct gunyah_guest **find_gunyah_guest(int vm)
{
	struct gunyah_guest *guest;
	int i;

	for (i = 0; i < MAX_GUNYAH_GUESTS; i++) {
		guest = gunyah_guests[i];
		if ((guest ? guest->vm : -1) == vm)
			return gunyah_guests + i;
	}
	return NULL;
}

/*
 * A VM whose guest has run: what it lives in is bound and lent, so that counts made
 * from now on are of what the test does.
 */
static inline int new_gunyah_guest(__u32 policy)
{
	struct gunyah_guest **slot = find_gunyah_guest(-1);
	struct gunyah_guest *guest;
	int err;

	if (!slot)
		return -EMFILE;
	guest = malloc(sizeof(*guest));
	if (!guest)
		return -ENOMEM;
	err = gunyah_guest_open(guest, policy);
	if (!err)
		err = gunyah_guest_start(guest);
	if (!err && gunyah_read(guest, GUNYAH_AGENT) < 0)
		err = -EIO;
	if (err) {
		gunyah_guest_close(guest);
		free(guest);
		return err;
	}
	*slot = guest;
	return guest->vm;
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
	struct gunyah_guest **guest = vm < 0 ? NULL : find_gunyah_guest(vm);

	if (!guest) {
		close(vm);
		return;
	}
	gunyah_guest_close(*guest);
	free(*guest);
	*guest = NULL;
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
	struct gunyah_guest **guest = find_gunyah_guest(vm);
	__u8 *window;
	int sig;

	if (guest)
		return gunyah_access(*guest, gpa, access, buf, length);
	window = map_window(vm, gpa & ~(PAGE - 1), PAGE, prot);
	if (window == MAP_FAILED) {
		if (errno == ENODEV)
			return mock_access(vm, gpa, access, buf, length);
		return -errno;
	}
	if (access == GMEM_ACCESS_WRITE)
		sig = touch_copy(window + gpa % PAGE, buf, length);
	else
		sig = touch_copy(buf, window + gpa % PAGE, length);
	munmap(window, PAGE);
	return sig ? -EFAULT : 0;
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

/* Of all that tests bind. */
static inline int query_guest(int vm, struct gmem_binding_info *entries,
			      __u32 max)
{
	return query_vm_range(vm, 0, GUEST_END, entries, max);
}

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
		ASSERT_EQ(0, get_stats(&self->before));			\
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
		EXPECT_TRUE(stats_settle(&self->before));		\
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
#define EACH_PROVIDER_SIZE(add, fixture, ...)				\
	EACH_SIZE(add, fixture, gunyah, .provider = "gunyah", __VA_ARGS__)
#else
#define EACH_PROVIDER_SIZE(add, fixture, ...)				\
	EACH_SIZE(add, fixture, window, .provider = "window", __VA_ARGS__); \
	EACH_SIZE(add, fixture, mock, .provider = "mock", __VA_ARGS__)
#endif

#define VARIANTS_PROVIDER_SIZE(fixture, ...)				\
	EACH_PROVIDER_SIZE(VARIANT, fixture, __VA_ARGS__)

#endif /* GUEST_UTIL_H */
