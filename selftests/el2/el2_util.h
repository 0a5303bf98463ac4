/* SPDX-License-Identifier: GPL-2.0-only */
/* The EL2 monitor's calls and its database, for tests. */
#ifndef _EL2_UTIL_H
#define _EL2_UTIL_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "driver/gmem_el2.h"

#define EL2_PAGE_SIZE		4096UL

/* Hypercall number n. */
#define GUNYAH(n)		(0xc6008000ULL + (n))

struct el2 {
	int fd;
	enum el2_platform platform;
	uint64_t ram_start, ram_end;
	/* The kernel's address of a page for arguments, and its mapping here */
	uint64_t buffer_va;
	void *buffer;
};

/*
 * Make a hypercall with registers x0 to x8, which get the results. Returns x0.
 */
static inline int64_t el2_call(const struct el2 *el2, uint64_t *x)
{
	struct gmem_el2_call c;

	memcpy(c.x, x, sizeof(c.x));
	if (ioctl(el2->fd, EL2_IOC_CALL, &c))
		return INT64_MIN;
	memcpy(x, c.x, sizeof(c.x));
	return x[0];
}

/* Make a hypercall with up to nine arguments; drop the results in x1 to x8. */
#define el2_hvc(el2, ...) el2_call(el2, (uint64_t [9]){ __VA_ARGS__ })

/* Allocate 1 << order pages of the kernel's. The physical address, or 0. */
static inline uint64_t el2_alloc(const struct el2 *el2, uint32_t order,
				 uint64_t *va)
{
	struct gmem_el2_alloc a = { .order = order };

	if (ioctl(el2->fd, EL2_IOC_ALLOC, &a))
		return 0;
	if (va)
		*va = a.va;
	return a.pa;
}

/* NULL: failure. */
static inline void *el2_map(const struct el2 *el2, uint64_t pa, uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, el2->fd,
		       pa);

	return p == MAP_FAILED ? NULL : p;
}

/* False: no monitor, or no module. */
static inline bool el2_open(struct el2 *el2)
{
	uint64_t x[9] = { EL2_VERSION }, pa;

	el2->fd = open("/dev/gmem_el2", O_RDWR | O_CLOEXEC);
	if (el2->fd < 0 || el2_call(el2, x))
		return false;
	el2->platform = x[2];
	el2->ram_start = x[3];
	el2->ram_end = x[4];
	pa = el2_alloc(el2, 0, &el2->buffer_va);
	el2->buffer = pa ? el2_map(el2, pa, EL2_PAGE_SIZE) : NULL;
	return el2->buffer;
}

static inline void el2_close(struct el2 *el2)
{
	munmap(el2->buffer, EL2_PAGE_SIZE);
	close(el2->fd);
}

/*
 * Expect the same counts of pages that aren't plainly the host's, parcels and
 * VMs.
 */
#define EXPECT_EL2_SAME(before, now)				\
	do {							\
		struct el2_stats _before = (before);		\
		struct el2_stats _now = (now);			\
								\
		EXPECT_EQ(_before.pages, _now.pages);		\
		EXPECT_EQ(_before.parcels, _now.parcels);	\
		EXPECT_EQ(_before.vms, _now.vms);		\
	} while (0)
#define EXPECT_EL2_AS(before, el2) EXPECT_EL2_SAME(before, el2_stats(el2))
#define EXPECT_EL2_CLEAN(el2) EXPECT_EL2_AS((struct el2_stats){ 0 }, el2)

static inline int64_t el2_rule(const struct el2 *el2, enum el2_rule_kind kind,
			       uint64_t match, uint64_t nth, uint64_t value)
{
	return el2_hvc(el2, EL2_RULE, kind, match, nth, value);
}

/* Change a setting of the public Resource Manager. Returns the old value. */
static inline uint64_t el2_setting(const struct el2 *el2,
				   enum el2_setting which, uint64_t value)
{
	uint64_t x[9] = { EL2_SETTING, which, value };

	return el2_call(el2, x) ? UINT64_MAX : x[1];
}

struct el2_stats {
	uint64_t pages, parcels, vms, free_tables, rule_hits, hypercalls, rpcs,
		unsynced;
};

static inline struct el2_stats el2_stats(const struct el2 *el2)
{
	uint64_t x[9] = { EL2_STATS };

	el2_call(el2, x);
	return (struct el2_stats){
		x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8],
	};
}

static inline uint64_t el2_peek(const struct el2 *el2, uint64_t pa)
{
	uint64_t x[9] = { EL2_PEEK, pa };

	return el2_call(el2, x) ? UINT64_MAX : x[1];
}

/*
 * Find the first page from @pa on that isn't plainly the host's. False: there
 * is none. To walk the database, go on from page->pa + EL2_PAGE_SIZE.
 */
static inline bool el2_next_page(const struct el2 *el2, uint64_t pa,
				 struct el2_page *page)
{
	uint64_t x[9] = { EL2_DUMP, pa, el2->buffer_va, 1 };

	if (el2_call(el2, x) || !x[1])
		return false;
	memcpy(page, el2->buffer, sizeof(*page));
	return true;
}

/* The database's record of a page, which may be plainly the host's. */
static inline struct el2_page el2_page_at(const struct el2 *el2, uint64_t pa)
{
	struct el2_page page;

	if (el2_next_page(el2, pa, &page) && page.pa == pa)
		return page;
	return (struct el2_page) {
		.pa = pa, .gpa = EL2_NO_ADDR, .parcel = EL2_NO_PARCEL,
		.owner_vmid = 3, .extent = EL2_EXTENT_HOST, .host_access = 7,
	};
}

/*
 * Let a child process read or write there. Returns the signal that killed it,
 * or 0.
 */
static inline int el2_touch(volatile uint64_t *p, bool write)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (write)
			*p = 1;
		else
			(void)*p;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

#endif /* _EL2_UTIL_H */
