/* SPDX-License-Identifier: GPL-2.0-only */
/* The format of flattened device trees, and the blocks of the one tree. */
#ifndef _TREE_BLOCK_H
#define _TREE_BLOCK_H

#include "tree.h"

#define FDT_MAGIC		0xd00dfeed
#define FDT_BEGIN_NODE		1
#define FDT_END_NODE		2
#define FDT_PROP		3
#define FDT_NOP			4
#define FDT_END			9

struct fdt_header {
	u32 magic, totalsize, off_dt_struct, off_dt_strings, off_mem_rsvmap;
	u32 version, last_comp_version, boot_cpuid_phys;
	u32 size_dt_strings, size_dt_struct;
};

static inline u32 be32(u32 n)
{
	return __builtin_bswap32(n);
}

#define TREE_MAX_STRINGS	(16U << 10)

extern u8 tree_structure[TREE_MAX_SIZE];
extern char tree_strings[TREE_MAX_STRINGS];

u32 tree_token(u32 at);
/* The token behind the one at @at. */
u32 tree_skip(u32 at);
/* The token that ends the node. */
u32 tree_end(u32 node);
/* The token of the property, or NO_NODE. */
u32 tree_find_property(u32 node, const char *name);

#endif /* _TREE_BLOCK_H */
