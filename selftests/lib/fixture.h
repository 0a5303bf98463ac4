/* SPDX-License-Identifier: GPL-2.0-only */
/* The common parts of fixtures of tests that run with every provider. */
#ifndef LIB_FIXTURE_H
#define LIB_FIXTURE_H

#include "gmem.h"
#include "guest.h"

#include "el2/el2_util.h"

/* The monitor's counts; all zeroes under another hypervisor. */
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

/*
 * Note the counts before the test, and check after it that they are the same.
 */
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

/* For a fixture whose guest gets memory while it runs. */
#define SKIP_UNLESS_PROVIDER(name)					\
	do {								\
		ASSERT_LE(0, gmem_dev());				\
		if (!have_provider(name))				\
			SKIP(return, "no provider %s", name);		\
		if (binds_first(name))					\
			SKIP(return, "provider %s: a guest gets memory only at its start", \
			     name);					\
	} while (0)

/* For a fixture whose variant has a provider and mem_flags. */
#define SKIP_UNLESS_POSSIBLE(variant)					\
	do {								\
		SKIP_UNLESS_PROVIDER((variant)->provider);		\
		if (((variant)->mem_flags & GMEM_MEM_ALLOW_HUGEPAGE) &&	\
		    !takes_huge((variant)->provider))			\
			SKIP(return, NO_HUGE, (variant)->provider);	\
	} while (0)

/*
 * For a fixture that has before, vm, mem, unit and size: a VM for
 * guest_access() and a guestmem of @units.
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

/* Map the whole guestmem at host. */
#define SETUP_HOST()							\
	do {								\
		self->host = map_host(self->mem, 0, self->size);	\
		ASSERT_NE(MAP_FAILED, self->host);			\
	} while (0)

#define TEARDOWN_HOST() munmap(self->host, self->size)

/* The test may have closed both. */
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
 * @add(@fixture, name, ...) for each page size and provider; the further
 * arguments are passed on. Gunyah needs another machine, so a program of its
 * own is built from the same source.
 */
#ifdef GMEM_TEST_GUNYAH
#define VARIANTS_PROVIDER(fixture)					\
	VARIANT(fixture, gunyah, .provider = "gunyah")
#define EACH_PROVIDER_SIZE(add, fixture, ...)				\
	EACH_SIZE(add, fixture, gunyah, .provider = "gunyah", __VA_ARGS__)
#else
#define VARIANTS_PROVIDER(fixture)					\
	VARIANT(fixture, window, .provider = "window");			\
	VARIANT(fixture, live, .provider = "live");			\
	VARIANT(fixture, mock, .provider = "mock")
#define EACH_PROVIDER_SIZE(add, fixture, ...)				\
	EACH_SIZE(add, fixture, window, .provider = "window", __VA_ARGS__); \
	EACH_SIZE(add, fixture, live, .provider = "live", __VA_ARGS__);	\
	EACH_SIZE(add, fixture, mock, .provider = "mock", __VA_ARGS__)
#endif

/* An argument for EACH_PROVIDER_SIZE(). */
#define VARIANTS_ACCESS(fixture, name, ...)				\
	VARIANT(fixture, name##_lend, .access = LEND, __VA_ARGS__);	\
	VARIANT(fixture, name##_share, .access = SHARE, __VA_ARGS__)

#define VARIANTS_PROVIDER_SIZE(fixture, ...)				\
	EACH_PROVIDER_SIZE(VARIANT, fixture, __VA_ARGS__)

#endif /* LIB_FIXTURE_H */
