// SPDX-License-Identifier: GPL-2.0-only
/*
 * mark WORD MEBIBYTES: fill so much memory with a word of 64 bits, and free it. A
 * guest that reads another's word has that guest's memory.
 *
 * mark find WORD...: how often is each word in the standard input, which is memory?
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_WORDS 8

static int fill(uint64_t word, size_t mebibytes)
{
	size_t nr = (mebibytes << 20) / sizeof(word), i;
	volatile uint64_t *memory;

	memory = mmap(NULL, nr * sizeof(word), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 2;
	for (i = 0; i < nr; i++)
		memory[i] = word;
	for (i = 0; i < nr; i++)
		if (memory[i] != word)
			return 1;
	return 0;
}

static int find(int nr, char **texts)
{
	uint64_t words[MAX_WORDS], counts[MAX_WORDS] = {};
	static uint64_t buffer[1 << 13];
	size_t got, i;
	int word;

	if (nr > MAX_WORDS)
		return 2;
	for (word = 0; word < nr; word++)
		words[word] = strtoull(texts[word], NULL, 16);
	while ((got = fread(buffer, sizeof(*buffer), 1 << 13, stdin)))
		for (i = 0; i < got; i++)
			for (word = 0; word < nr; word++)
				counts[word] += buffer[i] == words[word];
	for (word = 0; word < nr; word++)
		printf("%s: %" PRIu64 "\n", texts[word], counts[word]);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "find"))
		return find(argc - 2, argv + 2);
	return argc == 3 ? fill(strtoull(argv[1], NULL, 16),
				strtoull(argv[2], NULL, 10)) : 2;
}
