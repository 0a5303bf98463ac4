/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls on a guestmem. Every call returns the result of the ioctl, or
 * -errno.
 */
#ifndef LIB_GUESTMEM_H
#define LIB_GUESTMEM_H

#include "proc.h"
#include "test.h"

static inline int query_mem(int mem, __u64 offset, __u64 length,
			    struct gmem_mem_query *query)
{
	*query = (struct gmem_mem_query){
		.size = sizeof(*query),
		.offset = offset,
		.length = length,
	};
	return err_of(ioctl(mem, GMEM_MEM_QUERY, query));
}

/* Read up to @max runs of a range. Returns their number, or -errno. */
static inline int get_runs(int mem, __u64 offset, __u64 length,
			   struct gmem_mem_run *runs, __u32 max,
			   struct gmem_mem_runs *answer)
{
	struct gmem_mem_runs call = {
		.size = sizeof(call),
		.offset = offset,
		.length = length,
		.entries = ptr_u64(runs),
		.nr_entries = max,
		.entry_size = sizeof(*runs),
	};
	int ret = err_of(ioctl(mem, GMEM_MEM_RUNS, &call));

	if (answer)
		*answer = call;
	return ret < 0 ? ret : (int)call.nr_entries;
}

/* The state of the page at @offset, by its field's first letter. */
static inline char page_state(int mem, __u64 offset)
{
	struct gmem_mem_query q;

	if (query_mem(mem, offset, PAGE, &q))
		return '?';
	return q.absent ? 'a' : q.host ? 'h' : q.lent ? 'l' : q.shared ? 's' :
	       q.leaked ? 'x' : '?';
}

static inline int mem_alloc(int mem, int mode, __u64 offset, __u64 length)
{
	return err_of(fallocate(mem, mode, offset, length));
}

static inline __u8 *map_host(int mem, __u64 offset, __u64 size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, mem,
		    offset);
}

static inline __u64 mem_id(int mem)
{
	return fd_number(mem, "gmem-mem:");
}

#endif /* LIB_GUESTMEM_H */
