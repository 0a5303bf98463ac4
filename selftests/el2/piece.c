// SPDX-License-Identifier: GPL-2.0-only
/* Lists of pieces, in pages of the monitor's. */
#include "piece.h"

struct piece_page {
	struct piece_page *next;
	u64 count;
	struct piece pieces[(PAGE_SIZE - 16) / sizeof(struct piece)];
};

bool pieces_add(struct pieces *pieces, u64 pa, u64 size)
{
	struct piece_page *page = pieces->last;

	if (!page || page->count == ARRAY_SIZE(page->pieces)) {
		page = alloc_page();
		if (!page)
			return false;
		if (pieces->last)
			pieces->last->next = page;
		else
			pieces->first = page;
		pieces->last = page;
	}
	page->pieces[page->count++] = (struct piece) { pa, size };
	pieces->count++;
	return true;
}

/* Keep the part of a page that is in the first @nr_bytes of the list. */
static void truncate_page(struct piece_page *page, u64 *nr_bytes)
{
	u64 i;

	for (i = 0; i < page->count && *nr_bytes; i++) {
		if (page->pieces[i].size > *nr_bytes)
			page->pieces[i].size = *nr_bytes;
		*nr_bytes -= page->pieces[i].size;
	}
	page->count = i;
}

void pieces_truncate(struct pieces *pieces, u64 nr_bytes)
{
	struct piece_page *page = pieces->first, *next;

	*pieces = (struct pieces) { };
	for (; page; page = next) {
		next = page->next;
		truncate_page(page, &nr_bytes);
		if (!page->count) {
			free_page(page);
			continue;
		}
		page->next = NULL;
		if (pieces->last)
			pieces->last->next = page;
		else
			pieces->first = page;
		pieces->last = page;
		pieces->count += page->count;
	}
}

const struct piece *pieces_next(const struct pieces *pieces,
				struct piece_cursor *cursor)
{
	if (!cursor->page) {
		cursor->page = pieces->first;
		cursor->i = 0;
	} else if (cursor->i == cursor->page->count) {
		if (!cursor->page->next)
			return NULL;
		cursor->page = cursor->page->next;
		cursor->i = 0;
	}
	return cursor->page ? &cursor->page->pieces[cursor->i++] : NULL;
}

void pieces_copy(const struct pieces *pieces, u64 offset, void *mine, u64 size,
		 bool write)
{
	struct piece_cursor cursor = { };
	const struct piece *piece;

	while (size && (piece = pieces_next(pieces, &cursor))) {
		u64 n = piece->size - offset;
		void *theirs = (void *)(piece->pa + offset);

		if (offset >= piece->size) {
			offset -= piece->size;
			continue;
		}
		if (n > size)
			n = size;
		memcpy(write ? theirs : mine, write ? mine : theirs, n);
		mine += n;
		size -= n;
		offset = 0;
	}
}
