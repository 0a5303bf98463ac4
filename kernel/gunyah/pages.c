// SPDX-License-Identifier: GPL-2.0-only
#include <linux/align.h>
#include <linux/build_bug.h>
#include <linux/minmax.h>

#include "objects.h"
#include "pages.h"

/* The pages of one entry: the 63 bits of an XArray value hold their flags. */
#define GUNYAH_ENTRY_PAGES 8
#define GUNYAH_FLAG_BITS 7
#define GUNYAH_FLAG_MASK GENMASK(GUNYAH_FLAG_BITS - 1, 0)
static_assert(GUNYAH_ENTRY_PAGES * GUNYAH_FLAG_BITS < BITS_PER_LONG);

static unsigned int gunyah_entry_shift(unsigned long gfn)
{
	return gfn % GUNYAH_ENTRY_PAGES * GUNYAH_FLAG_BITS;
}

static unsigned long gunyah_entry(struct gunyah_vm *g, unsigned long gfn)
{
	void *entry = xa_load(&g->pages, gfn / GUNYAH_ENTRY_PAGES);

	return entry ? xa_to_value(entry) : 0;
}

u32 gunyah_pages_get(struct gunyah_vm *g, unsigned long gfn)
{
	lockdep_assert_held(&g->mem_lock);
	return gunyah_entry(g, gfn) >> gunyah_entry_shift(gfn) &
	       GUNYAH_FLAG_MASK;
}

static int gunyah_entry_store(struct gunyah_vm *g, unsigned long gfn,
			      unsigned long value)
{
	unsigned long index = gfn / GUNYAH_ENTRY_PAGES;

	/* Neither erasing an entry nor replacing its value needs memory. */
	if (!value) {
		xa_erase(&g->pages, index);
		return 0;
	}
	return xa_err(xa_store(&g->pages, index, xa_mk_value(value),
			       GFP_KERNEL));
}

int gunyah_pages_set(struct gunyah_vm *g, unsigned long gfn, unsigned long nr,
		     u32 flags)
{
	unsigned long value, next, first = gfn, end = gfn + nr;
	int err;

	lockdep_assert_held(&g->mem_lock);
	while (gfn < end) {
		next = min(end, ALIGN(gfn + 1, GUNYAH_ENTRY_PAGES));
		value = gunyah_entry(g, gfn);
		for (nr = gfn; nr < next; nr++) {
			value &= ~((unsigned long)GUNYAH_FLAG_MASK
				   << gunyah_entry_shift(nr));
			value |= (unsigned long)flags << gunyah_entry_shift(nr);
		}
		err = gunyah_entry_store(g, gfn, value);
		if (err) {
			gunyah_pages_set(g, first, gfn - first, 0);
			return err;
		}
		gfn = next;
	}
	return 0;
}
