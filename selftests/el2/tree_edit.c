// SPDX-License-Identifier: GPL-2.0-only
/* Change a guest's device tree. */
#include "tree_block.h"

/* Make room for @size bytes. */
static bool insert(struct tree *t, u32 at, u32 size)
{
	if (size > TREE_MAX_SIZE - t->size) {
		t->full = true;
		return false;
	}
	memmove(&tree_structure[at + size], &tree_structure[at], t->size - at);
	memset(&tree_structure[at], 0, size);
	t->size += size;
	return true;
}

static void cut(struct tree *t, u32 at, u32 end)
{
	memmove(&tree_structure[at], &tree_structure[end], t->size - end);
	t->size -= end - at;
}

static void put_token(u32 at, u32 value)
{
	*(u32 *)&tree_structure[at] = be32(value);
}

/* The offset of @name in the strings, where it is added if it is missing. */
static u32 name_offset(struct tree *t, const char *name)
{
	u32 size = strlen(name) + 1, at = 0;

	while (at < t->strings_size) {
		if (!strcmp(&tree_strings[at], name))
			return at;
		at += strlen(&tree_strings[at]) + 1;
	}
	if (size > TREE_MAX_STRINGS - t->strings_size) {
		t->full = true;
		return 0;
	}
	memcpy(&tree_strings[at], name, size);
	t->strings_size = at + size;
	return at;
}

void tree_set(struct tree *t, u32 node, const char *name, const void *value,
	      u32 size)
{
	u32 at = tree_find_property(node, name);

	if (at != NO_NODE)
		cut(t, at, tree_skip(at));
	at = tree_skip(node);
	if (!insert(t, at, 12 + ((size + 3) & ~3U)))
		return;
	put_token(at, FDT_PROP);
	put_token(at + 4, size);
	put_token(at + 8, name_offset(t, name));
	memcpy(&tree_structure[at + 12], value, size);
}

void tree_set_string(struct tree *t, u32 node, const char *name,
		     const char *value)
{
	tree_set(t, node, name, value, strlen(value) + 1);
}

void tree_set_u32(struct tree *t, u32 node, const char *name, u32 value)
{
	value = be32(value);
	tree_set(t, node, name, &value, sizeof(value));
}

void tree_set_u64(struct tree *t, u32 node, const char *name, u64 value)
{
	value = __builtin_bswap64(value);
	tree_set(t, node, name, &value, sizeof(value));
}

u32 tree_add(struct tree *t, u32 parent, const char *name)
{
	u32 size = (strlen(name) + 4) & ~3U, at = tree_skip(parent);

	while (tree_token(at) == FDT_PROP || tree_token(at) == FDT_NOP)
		at = tree_skip(at);
	if (!insert(t, at, size + 8))
		return NO_NODE;
	put_token(at, FDT_BEGIN_NODE);
	memcpy(&tree_structure[at + 4], name, strlen(name));
	put_token(at + 4 + size, FDT_END_NODE);
	return at;
}

void tree_remove(struct tree *t, u32 node)
{
	cut(t, node, tree_skip(tree_end(node)));
}

u32 tree_close(const struct tree *t, void *blob, u32 room)
{
	/* The header, no reserved ranges, the structure, the strings */
	const u32 reserved = sizeof(struct fdt_header);
	const u32 structure = reserved + 16;
	const u32 structure_size = t->size + 4;
	const u32 strings = structure + structure_size;
	const u32 total = strings + t->strings_size;
	const struct fdt_header header = {
		.magic = be32(FDT_MAGIC),
		.totalsize = be32(total),
		.off_dt_struct = be32(structure),
		.off_dt_strings = be32(strings),
		.off_mem_rsvmap = be32(reserved),
		.version = be32(17),
		.last_comp_version = be32(16),
		.size_dt_strings = be32(t->strings_size),
		.size_dt_struct = be32(structure_size),
	};
	const u32 end = be32(FDT_END);

	if (t->full || total > room)
		return 0;
	memcpy(blob, &header, sizeof(header));
	memset(blob + reserved, 0, 16);
	memcpy(blob + structure, tree_structure, t->size);
	memcpy(blob + structure + t->size, &end, sizeof(end));
	memcpy(blob + strings, tree_strings, t->strings_size);
	return total;
}
