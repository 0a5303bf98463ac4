// SPDX-License-Identifier: GPL-2.0-only
/* The calls on a guestmem, and fallocate() and lseek() on all that has a range. */
#include "fuzz.h"

static void op_query(struct thread *t)
{
	struct gmem_mem_query query = { .size = sizeof(query) };
	int mem = pick_fd(t, KIND_MEM);

	pick_range(t, PAGE, &query.offset, &query.length);
	clip_range(t, mem, &query.offset, &query.length);
	fuzz_ioctl(t, mem, GMEM_MEM_QUERY, &query, sizeof(query));
}

static void op_runs(struct thread *t)
{
	struct gmem_mem_runs runs = {
		.size = sizeof(runs),
		.nr_entries = rnd(t, 65),
		.entry_size = once(t, 4) ? (rnd(t, 16) + 1) * 8 :
					   sizeof(struct gmem_mem_run),
	};
	int mem = pick_fd(t, KIND_MEM);

	pick_range(t, PAGE, &runs.offset, &runs.length);
	clip_range(t, mem, &runs.offset, &runs.length);
	runs.entries = ptr_u64(pick_buffer(t, runs.nr_entries * runs.entry_size));
	fuzz_ioctl(t, mem, GMEM_MEM_RUNS, &runs, sizeof(runs));
}

static void op_view(struct thread *t)
{
	int mem = pick_fd(t, KIND_MEM);
	struct gmem_mem_view view = {
		.size = sizeof(view),
		.flags = rnd(t, 3) ? 0 : GMEM_VIEW_READ_ONLY,
	};

	pick_range(t, unit_of(mem), &view.offset, &view.length);
	clip_range(t, mem, &view.offset, &view.length);
	put_fd(t, KIND_VIEW,
	       fuzz_ioctl(t, mem, GMEM_MEM_VIEW, &view, sizeof(view)));
}

static void op_revoke(struct thread *t)
{
	struct gmem_mem_revoke revoke = { .size = sizeof(revoke) };
	struct stat st = {};

	fstat(pick_fd(t, KIND_VIEW), &st);
	revoke.id = st.st_ino;
	fuzz_ioctl(t, pick_fd(t, KIND_MEM), GMEM_MEM_REVOKE, &revoke, sizeof(revoke));
}

static void op_fallocate(struct thread *t)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, PUNCH, PUNCH, PUNCH, FALLOC_FL_PUNCH_HOLE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE,
	};
	enum object kind = rnd(t, 3) ? KIND_MEM : KIND_WINDOW;
	int fd = pick_fd(t, kind), mode = modes[rnd(t, ARRAY_SIZE(modes))];
	__u64 offset, length;

	pick_range(t, unit_of(fd), &offset, &length);
	clip_range(t, fd, &offset, &length);
	maybe_fail(t);
	fallocate(fd, mode, offset, length);
	end_fail(t);
}

/* A discard: the pages must be bound, writable, and bound nowhere else. */
static void op_discard(struct thread *t)
{
	int fd = pick_fd(t, KIND_WINDOW);
	__u64 offset, length;

	pick_range(t, PAGE, &offset, &length);
	clip_range(t, fd, &offset, &length);
	maybe_fail(t);
	fallocate(fd, PUNCH, offset, length);
	end_fail(t);
}

static void op_lseek(struct thread *t)
{
	__u64 offset, length;

	pick_range(t, PAGE, &offset, &length);
	lseek(pick_fd(t, KIND_MEM + rnd(t, 3)), offset, rnd(t, 6));
}

/* Change attributes, which fails, and ask for some. */
static void op_attributes(struct thread *t)
{
	int fd = pick_fd(t, rnd(t, 4));
	struct stat st;

	switch (rnd(t, 6)) {
	case 0:
		fchmod(fd, rnd(t, 01000));
		break;
	case 1:
		(void)!ftruncate(fd, odd_number(t) >> rnd(t, 32));
		break;
	case 2:
		futimens(fd, NULL);
		break;
	case 3:
		(void)!fchown(fd, rnd(t, 2), rnd(t, 2));
		break;
	case 4:
		fsync(fd);
		break;
	default:
		fstat(fd, &st);
		posix_fadvise(fd, 0, 0, rnd(t, 6));
		break;
	}
}

const struct op mem_ops[] = {
	{ "GMEM_MEM_QUERY", 4, op_query },
	{ "GMEM_MEM_RUNS", 6, op_runs },
	{ "GMEM_MEM_VIEW", 8, op_view },
	{ "GMEM_MEM_REVOKE", 5, op_revoke },
	{ "fallocate()", 14, op_fallocate },
	{ "a discard", 12, op_discard },
	{ "lseek()", 3, op_lseek },
	{ "a change of attributes", 3, op_attributes },
	{}
};
