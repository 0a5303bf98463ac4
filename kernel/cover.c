// SPDX-License-Identifier: GPL-2.0-only
/*
 * For test builds: the compiler begins each basic block of the module's other
 * files with a call of __sanitizer_cov_trace_pc(), which notes its caller. Both
 * work without the kernel's own coverage, CONFIG_KCOV.
 */
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/types.h>

#include "cover.h"

/* More than the module's code has, in bytes. */
#define GMEM_COVER_SIZE (4UL << 20)

/* A byte for each byte of code; those that follow a call are set once it ran. */
static u8 gmem_cover_ran[GMEM_COVER_SIZE];

/* This may run anywhere, with any lock held: it calls nothing. */
void notrace __sanitizer_cov_trace_pc(void)
{
	unsigned long at = (unsigned long)__builtin_return_address(0) -
			   (unsigned long)THIS_MODULE->mem[MOD_TEXT].base;

	if (at < GMEM_COVER_SIZE && !READ_ONCE(gmem_cover_ran[at]))
		WRITE_ONCE(gmem_cover_ran[at], 1);
}

/* A line for each call that ran: the address behind it. */
static int gmem_cover_show(struct seq_file *seq, void *v)
{
	unsigned long base = (unsigned long)THIS_MODULE->mem[MOD_TEXT].base;
	unsigned long at;

	for (at = 0; at < GMEM_COVER_SIZE; at++)
		if (READ_ONCE(gmem_cover_ran[at]))
			seq_printf(seq, "%lx\n", base + at);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(gmem_cover);

void gmem_cover_debugfs(struct dentry *dir)
{
	debugfs_create_file("cover", 0400, dir, NULL, &gmem_cover_fops);
}
