// SPDX-License-Identifier: GPL-2.0-only
/* Functions that the compiler expects, strings, and the last message. */
#include "el2.h"

#define PSCI_SYSTEM_OFF		0x84000008

void *memmove(void *to, const void *from, size_t n)
{
	u8 *t = to;
	const u8 *f = from;

	if (t < f) {
		while (n--)
			*t++ = *f++;
	} else {
		while (n--)
			t[n] = f[n];
	}
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	return memmove(to, from, n);
}

void *memset(void *to, int c, size_t n)
{
	u8 *t = to;

	/* Most calls clear whole pages. */
	if (!c && ALIGNED((u64)to | n, 8)) {
		u64 *words = to;

		for (size_t i = 0; i < n / 8; i++)
			words[i] = 0;
		return to;
	}
	while (n--)
		*t++ = c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n--; x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a - *b;
}

bool has_word(const char *s, const char *word)
{
	size_t n = strlen(word);

	while (*s) {
		if (!memcmp(s, word, n) && (s[n] == ' ' || !s[n]))
			return true;
		while (*s && *s != ' ')
			s++;
		while (*s == ' ')
			s++;
	}
	return false;
}

static void put(char c)
{
	*(volatile u32 *)UART_BASE = c;
}

static void put_text(const char *s)
{
	while (*s)
		put(*s++);
}

static void put_number(u64 n)
{
	put(' ');
	for (int shift = 60; shift >= 0; shift -= 4)
		put("0123456789abcdef"[n >> shift & 15]);
}

void fatal(const char *text, u64 a, u64 b, u64 c)
{
	put_text("\r\nel2 monitor: the end: ");
	put_text(text);
	put_number(a);
	put_number(b);
	put_number(c);
	put_text("\r\n");
	smc(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		asm volatile("wfi");
}
