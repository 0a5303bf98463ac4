/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _PIECE_H
#define _PIECE_H

#include "el2.h"

/* A run of pages, as the host has listed it */
struct piece {
	u64 pa, size;
};

/* The pieces of a parcel, in their order. Zeroed: none. */
struct pieces {
	struct piece_page *first, *last;
	u32 count;
};

/* False: no memory. */
bool pieces_add(struct pieces *pieces, u64 pa, u64 size);
/* Shorten the list to @nr_bytes; the last piece left may lose its end. */
void pieces_truncate(struct pieces *pieces, u64 nr_bytes);

/* A place in the list: zeroed, the beginning. */
struct piece_cursor {
	struct piece_page *page;
	u32 i;
};

/* The next piece; NULL: the end. */
const struct piece *pieces_next(const struct pieces *pieces,
				struct piece_cursor *cursor);
/*
 * Copy @size bytes from the offset in the memory of the pieces, or to it. They
 * must be in it.
 */
void pieces_copy(const struct pieces *pieces, u64 offset, void *mine, u64 size,
		 bool write);

#endif /* _PIECE_H */
