// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest starts with its MMU off, so it reads memory past the caches. By then
 * all that the host wrote must be in memory, including the zeroes that hide the
 * data of a previous owner. No cache line of the page may be left either: it
 * would be stale when the host gets the page back.
 */
#include <linux/bitfield.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/smp.h>

#include <asm/barrier.h>
#include <asm/cacheflush.h>
#include <asm/cputype.h>
#include <asm/sysreg.h>

#include "../folio.h"
#include "../secret.h"
#include "cache.h"

/*
 * The smallest line of the data caches of all CPUs, in bytes: an instruction of
 * one CPU works on the caches of all. A smaller step is right everywhere.
 */
static size_t gunyah_cache_line __ro_after_init;

static void gunyah_cache_measure(void *arg)
{
	/* The number of 4-byte words in a line, as a power of 2. */
	unsigned int words = SYS_FIELD_GET(CTR_EL0, DminLine,
					   read_cpuid_cachetype());

	gunyah_cache_line = min_t(size_t, gunyah_cache_line, 4UL << words);
}

void gunyah_cache_init(void)
{
	int cpu;

	gunyah_cache_line = PAGE_SIZE;
	cpus_read_lock();
	for_each_online_cpu(cpu)
		smp_call_function_single(cpu, gunyah_cache_measure, NULL, 1);
	cpus_read_unlock();
}

/*
 * Write the lines to memory, to the point of coherency, and drop them. A line
 * that is clean is only dropped. The kernel has functions for this, but exports
 * them only as those for persistent memory, which many configurations lack.
 */
static void gunyah_cache_flush_range(void *addr, size_t size)
{
	unsigned long line = (unsigned long)addr, end = line + size;

	/* Pages are aligned to any line. */
	for (; line < end; line += gunyah_cache_line)
		asm volatile("dc civac, %0" : : "r" (line) : "memory");
	dsb(sy);
}

static void gunyah_cache_clean_range(void *addr, size_t size)
{
	gunyah_cache_flush_range(addr, size);
	/* The instruction caches may hold code that was there before. */
	caches_clean_inval_pou((unsigned long)addr, (unsigned long)addr + size);
}

int gunyah_cache_clean(struct folio *folio)
{
	void *addr;

	if (gmem_folio_broken(folio))
		return -EHWPOISON;
	if (!gmem_folio_is_secret(folio)) {
		gunyah_cache_clean_range(folio_address(folio),
					 folio_size(folio));
		return 0;
	}
	/* Any mapping of the page reaches its cache lines. */
	addr = gmem_secret_map(folio);
	if (!addr)
		return -ENOMEM;
	gunyah_cache_clean_range(addr, folio_size(folio));
	gmem_secret_unmap(addr);
	return 0;
}

void gunyah_cache_refresh(struct folio *folio)
{
	/*
	 * Nobody but the guest has written to a lent page, so its lines are
	 * clean, and are only dropped; the writes of the host to a shared page
	 * aren't lost. A secret page has no linear address: only its users can
	 * have brought lines into a cache.
	 */
	if (!gmem_folio_broken(folio) && !gmem_folio_is_secret(folio))
		gunyah_cache_flush_range(folio_address(folio),
					 folio_size(folio));
}
