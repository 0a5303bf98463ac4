// SPDX-License-Identifier: GPL-2.0-only
/* Read a guest's device tree; tree_edit.c changes it. */
#include "tree.h"
#include "tree_block.h"

#define MAX_DEPTH		16
#define VERSION			17
#define OLDEST_VERSION		16

u8 tree_structure[TREE_MAX_SIZE] __attribute__((aligned(8)));
char tree_strings[TREE_MAX_STRINGS];

u32 tree_total_size(const void *blob)
{
	const struct fdt_header *header = blob;
	u32 size = be32(header->totalsize);

	if (be32(header->magic) != FDT_MAGIC ||
	    be32(header->version) < VERSION ||
	    be32(header->last_comp_version) > VERSION ||
	    be32(header->last_comp_version) < OLDEST_VERSION ||
	    size < sizeof(*header) || size > TREE_MAX_SIZE)
		return 0;
	return size;
}

/* The size of a string with its end, in at most @room bytes; 0: no end. */
static u32 string_size(const char *s, u32 room)
{
	for (u32 n = 0; n < room; n++) {
		if (!s[n])
			return n + 1;
	}
	return 0;
}

u32 tree_token(u32 at)
{
	return be32(*(u32 *)&tree_structure[at]);
}

/*
 * Check the token at *@at, and go to the next one. The depth of the node that
 * follows is *@depth.
 */
static bool check_token(const struct tree *t, u32 *at, int *depth)
{
	u32 token, size;

	if (t->size - *at < sizeof(u32))
		return false;
	token = tree_token(*at);
	*at += sizeof(u32);
	switch (token) {
	case FDT_BEGIN_NODE:
		size = string_size((char *)&tree_structure[*at], t->size - *at);
		if (!size || ++*depth > MAX_DEPTH)
			return false;
		break;
	case FDT_END_NODE:
		return --*depth >= 0;
	case FDT_NOP:
		return true;
	case FDT_PROP:
		if (!*depth || t->size - *at < 2 * sizeof(u32))
			return false;
		size = tree_token(*at);
		token = tree_token(*at + sizeof(u32));
		*at += 2 * sizeof(u32);
		if (size > t->size - *at || token >= t->strings_size)
			return false;
		break;
	default:
		return false;
	}
	/* The block's size is a multiple of 4, too. */
	*at += (size + 3) & ~3U;
	return true;
}

/* The root is one node, which comes first, and FDT_END follows it. */
static bool check(struct tree *t)
{
	u32 at = 0;
	int depth = 0;

	if (t->size < 2 * sizeof(u32) || tree_token(0) != FDT_BEGIN_NODE)
		return false;
	do {
		if (!check_token(t, &at, &depth))
			return false;
	} while (depth);
	t->size = at;
	return true;
}

static bool is_part(u32 offset, u32 size, u32 total)
{
	return ALIGNED(offset, 4) && offset <= total && size <= total - offset;
}

bool tree_open(struct tree *t, const void *blob)
{
	const struct fdt_header *header = blob;
	u32 total = tree_total_size(blob);
	u32 structure = be32(header->off_dt_struct);
	u32 strings = be32(header->off_dt_strings);

	*t = (struct tree) {
		.size = be32(header->size_dt_struct) & ~3U,
		.strings_size = be32(header->size_dt_strings),
	};
	if (!is_part(structure, t->size, total) ||
	    !is_part(strings & ~3U, t->strings_size, total) ||
	    strings + t->strings_size > total ||
	    t->strings_size > TREE_MAX_STRINGS)
		return false;
	memcpy(tree_structure, blob + structure, t->size);
	memcpy(tree_strings, blob + strings, t->strings_size);
	/* tree_edit.c goes from string to string. */
	if (t->strings_size && tree_strings[t->strings_size - 1])
		return false;
	return check(t);
}

u32 tree_skip(u32 at)
{
	u32 token = tree_token(at);

	at += sizeof(u32);
	if (token == FDT_BEGIN_NODE)
		at += (strlen((char *)&tree_structure[at]) + 4) & ~3U;
	else if (token == FDT_PROP)
		at += 2 * sizeof(u32) + ((tree_token(at) + 3) & ~3U);
	return at;
}

u32 tree_end(u32 node)
{
	int depth = 0;

	for (u32 at = node;; at = tree_skip(at)) {
		u32 token = tree_token(at);

		if (token == FDT_BEGIN_NODE)
			depth++;
		else if (token == FDT_END_NODE && --depth == 0)
			return at;
	}
}

const char *tree_name(u32 node)
{
	return (char *)&tree_structure[node + sizeof(u32)];
}

u32 tree_next_child(u32 parent, u32 previous)
{
	u32 at = previous == NO_NODE ? tree_skip(parent) :
				       tree_skip(tree_end(previous));

	for (;; at = tree_skip(at)) {
		u32 token = tree_token(at);

		if (token == FDT_BEGIN_NODE)
			return at;
		if (token == FDT_END_NODE)
			return NO_NODE;
	}
}

static bool has_name(u32 node, const char *name, size_t size)
{
	const char *own = tree_name(node);

	if (strlen(own) < size || memcmp(own, name, size))
		return false;
	return !own[size] || own[size] == '@';
}

static u32 find_child(u32 parent, const char *name, size_t size)
{
	u32 node = NO_NODE;

	do {
		node = tree_next_child(parent, node);
	} while (node != NO_NODE && !has_name(node, name, size));
	return node;
}

u32 tree_child(u32 parent, const char *name)
{
	return find_child(parent, name, strlen(name));
}

u32 tree_path(const char *path)
{
	u32 node = ROOT_NODE;

	while (node != NO_NODE && *path) {
		const char *name = ++path;

		while (*path && *path != '/')
			path++;
		if (path > name)
			node = find_child(node, name, path - name);
	}
	return node;
}

u32 tree_by_phandle(u32 from, u32 phandle)
{
	u64 own;

	if (tree_get_number(from, "phandle", 1, &own) && own == phandle)
		return from;
	for (u32 child = tree_next_child(from, NO_NODE); child != NO_NODE;
	     child = tree_next_child(from, child)) {
		u32 found = tree_by_phandle(child, phandle);

		if (found != NO_NODE)
			return found;
	}
	return NO_NODE;
}

u32 tree_find_property(u32 node, const char *name)
{
	for (u32 at = tree_skip(node);; at = tree_skip(at)) {
		u32 token = tree_token(at);

		if (token == FDT_BEGIN_NODE || token == FDT_END_NODE)
			return NO_NODE;
		if (token == FDT_PROP &&
		    !strcmp(&tree_strings[tree_token(at + 8)], name))
			return at;
	}
}

const void *tree_get(u32 node, const char *name, u32 *size)
{
	u32 at = tree_find_property(node, name);

	if (at == NO_NODE)
		return NULL;
	*size = tree_token(at + 4);
	return &tree_structure[at + 12];
}

bool tree_has(u32 node, const char *name)
{
	return tree_find_property(node, name) != NO_NODE;
}

u64 tree_number(const void *at, u32 cells)
{
	const u32 *cell = at;
	u64 value = 0;

	while (cells--)
		value = value << 32 | be32(*cell++);
	return value;
}

bool tree_get_number(u32 node, const char *name, u32 cells, u64 *value)
{
	u32 size;
	const void *at = tree_get(node, name, &size);

	if (!at || size != cells * sizeof(u32) || !cells || cells > 2)
		return false;
	*value = tree_number(at, cells);
	return true;
}

const char *tree_get_string(u32 node, const char *name)
{
	u32 size;
	const char *s = tree_get(node, name, &size);

	return s && string_size(s, size) ? s : NULL;
}

bool tree_has_string(u32 node, const char *name, const char *want)
{
	u32 size, n;
	const char *s = tree_get(node, name, &size);

	if (!s)
		return false;
	while ((n = string_size(s, size))) {
		if (!strcmp(s, want))
			return true;
		s += n;
		size -= n;
	}
	return false;
}
