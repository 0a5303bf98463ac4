// SPDX-License-Identifier: GPL-2.0-only
/*
 * load MEBIBYTES: write to memory all the time, and check it.
 *
 * Each page of a buffer is filled from its number and the count of its writes. A
 * table, elsewhere in memory, has the counts. The program takes a page at random,
 * checks all of it, writes it once more, and so on. A page that loses a write, or
 * that holds another page's contents, is found at its next turn, or at the end.
 *
 * A file "stop" in the current folder ends the program. A file "writes" has the
 * number of writes so far.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORDS (PAGE / sizeof(uint64_t))

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void fill(uint64_t *page, uint64_t number, uint64_t count)
{
	uint64_t seed = mix(number << 32 ^ count);
	size_t i;

	for (i = 0; i < WORDS; i++)
		page[i] = seed + i;
}

static bool check(const uint64_t *page, uint64_t number, uint64_t count)
{
	uint64_t seed = mix(number << 32 ^ count);
	size_t i;

	for (i = 0; i < WORDS; i++) {
		if (page[i] == seed + i)
			continue;
		printf("load: page %" PRIu64 ", write %" PRIu64 ": word %zu is wrong\n",
		       number, count, i);
		return false;
	}
	return true;
}

static void report(uint64_t nr_writes)
{
	FILE *file = fopen("writes", "w");

	if (!file)
		return;
	fprintf(file, "%" PRIu64 "\n", nr_writes);
	fclose(file);
}

int main(int argc, char **argv)
{
	uint64_t nr_pages = argc == 2 ? strtoull(argv[1], NULL, 10) * 256 : 0;
	uint64_t nr_writes = 0, random = 1, number;
	uint64_t *buffer, *counts;

	if (!nr_pages)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	buffer = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	counts = calloc(nr_pages, sizeof(*counts));
	if (buffer == MAP_FAILED || !counts)
		return 2;
	for (number = 0; number < nr_pages; number++)
		fill(buffer + number * WORDS, number, 0);
	report(0);
	while (access("stop", F_OK)) {
		random = mix(random);
		number = random % nr_pages;
		if (!check(buffer + number * WORDS, number, counts[number]))
			return 1;
		fill(buffer + number * WORDS, number, ++counts[number]);
		if (++nr_writes % 16 == 0)
			report(nr_writes);
	}
	for (number = 0; number < nr_pages; number++) {
		if (!check(buffer + number * WORDS, number, counts[number]))
			return 1;
	}
	printf("load: all %" PRIu64 " pages are right after %" PRIu64 " writes\n",
	       nr_pages, nr_writes);
	return 0;
}
