/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _TREE_H
#define _TREE_H

#include "el2.h"

/*
 * A guest's flattened device tree. The owner of the VM wrote it, so nothing in
 * it is trusted: tree_open() checks all of its structure, and the functions
 * below rely on that.
 *
 * There is one tree at a time. A node is the offset of its first token in the
 * structure block; adding or removing something moves the nodes behind it.
 */
struct tree {
	u32 size, strings_size;
	/* Something had no room. */
	bool full;
};

#define NO_NODE			(~0U)
#define ROOT_NODE		0U
#define TREE_MAX_SIZE		(64U << 10)

/*
 * The size of the whole tree whose header is at @header, 40 bytes; 0: it is no
 * device tree.
 */
u32 tree_total_size(const void *header);
#define TREE_HEADER_SIZE	40U

/* False: the tree is malformed. @blob has tree_total_size() bytes. */
bool tree_open(struct tree *t, const void *blob);
/* Write the tree to @blob. Returns its size, or 0 if @room is too small. */
u32 tree_close(const struct tree *t, void *blob, u32 room);

const char *tree_name(u32 node);
/* The first child, for NO_NODE, or the one behind @previous; NO_NODE: none. */
u32 tree_next_child(u32 parent, u32 previous);
/* A unit address is optional if @name has none. */
u32 tree_child(u32 parent, const char *name);
/* An absolute path, such as "/cpus". */
u32 tree_path(const char *path);
u32 tree_by_phandle(u32 from, u32 phandle);

/* NULL: there is no such property. */
const void *tree_get(u32 node, const char *name, u32 *size);
bool tree_has(u32 node, const char *name);
/* False: there is no such property, or it has another size. */
bool tree_get_number(u32 node, const char *name, u32 cells, u64 *value);
/* The first string, or NULL. */
const char *tree_get_string(u32 node, const char *name);
/* Is @want one of the strings? */
bool tree_has_string(u32 node, const char *name, const char *want);
/* @cells at @at as a number. */
u64 tree_number(const void *at, u32 cells);

/* A failure of these sets "full". */
void tree_set(struct tree *t, u32 node, const char *name, const void *value,
	      u32 size);
void tree_set_string(struct tree *t, u32 node, const char *name,
		     const char *value);
void tree_set_u32(struct tree *t, u32 node, const char *name, u32 value);
void tree_set_u64(struct tree *t, u32 node, const char *name, u64 value);
/* Returns the new child, which comes before the others; NO_NODE if full. */
u32 tree_add(struct tree *t, u32 parent, const char *name);
void tree_remove(struct tree *t, u32 node);

#endif /* _TREE_H */
