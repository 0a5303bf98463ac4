// SPDX-License-Identifier: GPL-2.0-only
/*
 * gunyah_bench: how long a VM's start and end take under the public Gunyah, by
 * the number of pieces of physical memory, and what secret memory costs.
 *
 * Under the monitor, its own time for each piece is taken as 0: what is left is
 * the module's work and the monitor's bookkeeping.
 */
#include "lib/gunyah_guest.h"
#include "lib/secret.h"

#include "el2/el2_util.h"

#define GPA GIB(4)
#define ROUNDS 5

struct cost {
	double touch, start, end;
	__u64 pieces;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "gunyah_bench: %s: %s\n", what, strerror(-err));
	exit(1);
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), by_value);
	return values[ROUNDS / 2];
}

enum mem_kind { SCATTERED, WHOLE, SECRET };

/* Touch each page for the first time; sets @seconds. */
static int make_mem(enum mem_kind kind, __u64 size, double *seconds)
{
	int fd = kind == SECRET ? new_secret(size) :
		 new_mem(size, kind == WHOLE ? GMEM_MEM_ALLOW_HUGEPAGE : 0);
	__u8 *host = map_host(fd, 0, size);
	double start;

	if (host == MAP_FAILED)
		return fd < 0 ? fd : -errno;
	/* See fill_secret(). */
	run_on(1);
	start = now();
	number_pages(host, size / PAGE);
	*seconds = now() - start;
	run_on(0);
	munmap(host, size);
	return kind == SECRET ? from_secret(fd, GMEM_MEM_CLOEXEC) : fd;
}

/* The time until the module has all of a VM's memory back. */
static double end_guest(struct gunyah_guest *guest, __u64 lent)
{
	double start = now();
	struct gmem_stats stats;

	gunyah_guest_close(guest);
	do {
		if (get_stats(&stats))
			die("can't read the counts", -errno);
		usleep(500);
	} while (stats.lent_pages > lent);
	return now() - start;
}

static struct cost run_once(enum mem_kind kind, __u64 size)
{
	struct gunyah_guest guest;
	struct gmem_stats before;
	struct cost cost = {};
	double start;
	int mem, err;

	get_stats(&before);
	mem = make_mem(kind, size, &cost.touch);
	if (mem < 0)
		die("no guestmem", mem);
	err = gunyah_guest_open(&guest, GMEM_POLICY_ALLOW);
	if (!err)
		err = map_mem(guest.vm, GPA, mem, 0, size, LEND | RWX);
	if (!err)
		err = gunyah_guest_describe(&guest);
	if (err)
		die("no guest", err);
	start = now();
	err = gunyah_guest_start(&guest);
	cost.start = now() - start;
	if (err)
		die("the guest doesn't start", err);
	cost.pieces = fd_number(guest.vm, "gmem-pieces:");
	cost.end = end_guest(&guest, before.lent_pages);
	close(mem);
	return cost;
}

static struct cost run(enum mem_kind kind, __u64 size)
{
	double touch[ROUNDS], start[ROUNDS], end[ROUNDS];
	struct cost cost;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		cost = run_once(kind, size);
		touch[i] = cost.touch;
		start[i] = cost.start;
		end[i] = cost.end;
	}
	cost.touch = median(touch);
	cost.start = median(start);
	cost.end = median(end);
	return cost;
}

static void row(const char *name, struct cost cost)
{
	printf("%-28s %7lld %9.1f %9.1f %9.1f\n", name, cost.pieces,
	       cost.touch * 1e3, cost.start * 1e3, cost.end * 1e3);
}

int main(void)
{
	const __u64 size = MIB(8);
	struct cost few, many, secret;
	struct el2 el2;
	double pieces;

	if (!binds_first("gunyah")) {
		fprintf(stderr, "gunyah_bench: not the public Gunyah\n");
		return 1;
	}
	if (el2_open(&el2)) {
		el2_setting(&el2, EL2_START_PIECE_US, 0);
		el2_setting(&el2, EL2_RESET_PIECE_US, 0);
	}
	gunyah_allow_mapped(true);
	printf("%lld MiB, medians of %d; ms:\n", size >> 20, ROUNDS);
	printf("%-28s %7s %9s %9s %9s\n", "memory", "pieces", "touch",
	       "START", "end");
	few = run(WHOLE, size);
	row("pages of 2 MiB", few);
	many = run(SCATTERED, size);
	row("pages of 4 KiB", many);
	secret = run(SECRET, size);
	row("secret memory", secret);
	pieces = (many.pieces - few.pieces) / 1e3;
	printf("for 1,000 pieces more: START %.1f ms, end %.1f ms\n",
	       (many.start - few.start) * 1e3 / pieces,
	       (many.end - few.end) * 1e3 / pieces);
	printf("first touch, secret : 4 KiB pages: %.2fx\n",
	       secret.touch / many.touch);
	return 0;
}
