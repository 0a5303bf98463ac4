// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stage-2 tables: 39 bits, from level 1 down. The host's RAM begins as 2 MiB
 * blocks. A block is split when a page of it has to differ, and never joined
 * again.
 *
 * Before an entry changes its output address or size, it becomes invalid and
 * the TLBs are flushed (break before make). Meanwhile, another CPU may fault on
 * it: the fault handlers check again, under the lock, before they believe a
 * fault.
 */
#include "stage2.h"

#define ENTRIES			512
#define BLOCK_SIZE		(1UL << 21)

#define PTE_VALID		1UL
#define PTE_TABLE		2UL	/* a page, at the last level */
#define PTE_MEMTYPE_SHIFT	2
#define PTE_READ		(1UL << 6)
#define PTE_WRITE		(1UL << 7)
#define PTE_INNER_SHAREABLE	(3UL << 8)
#define PTE_ACCESSED		(1UL << 10)
#define PTE_NOEXEC		(1UL << 54)
#define PTE_ADDR		0x0000fffffffff000UL

#define MEMTYPE_DEVICE		1

static u64 *table_of(u64 entry)
{
	return (u64 *)(entry & PTE_ADDR);
}

static bool is_table(u64 entry)
{
	return (entry & (PTE_VALID | PTE_TABLE)) == (PTE_VALID | PTE_TABLE);
}

static unsigned int index(u64 ipa, int level)
{
	return ipa >> (39 - 9 * level) & (ENTRIES - 1);
}

static u64 block(u64 pa, u8 access, u8 memtype)
{
	return stage2_pte(pa, access, memtype) & ~PTE_TABLE;
}

u64 stage2_pte(u64 pa, u8 access, u8 memtype)
{
	if (!access)
		return 0;
	return pa | PTE_VALID | PTE_TABLE | PTE_ACCESSED | PTE_INNER_SHAREABLE |
	       (u64)memtype << PTE_MEMTYPE_SHIFT |
	       (access & ACCESS_R ? PTE_READ : 0) |
	       (access & ACCESS_W ? PTE_WRITE : 0) |
	       (access & ACCESS_X ? 0 : PTE_NOEXEC);
}

u64 stage2_pa(u64 pte)
{
	return pte & PTE_ADDR;
}

u8 stage2_access(u64 pte)
{
	if (!(pte & PTE_VALID))
		return 0;
	return (pte & PTE_READ ? ACCESS_R : 0) |
	       (pte & PTE_WRITE ? ACCESS_W : 0) |
	       (pte & PTE_NOEXEC ? 0 : ACCESS_X);
}

u8 stage2_memtype(u64 pte)
{
	return pte >> PTE_MEMTYPE_SHIFT & 0xf;
}

int stage2_init(struct stage2 *s2, u64 vmid)
{
	s2->root = alloc_page();
	s2->vmid = vmid;
	s2->stale = false;
	return s2->root ? OK : NOMEM;
}

void stage2_destroy(struct stage2 *s2)
{
	/* A CPU may cache the walk even without a leaf. */
	s2->stale = true;
	stage2_sync(s2);
	for (int i = 0; i < ENTRIES; i++) {
		if (!is_table(s2->root[i]))
			continue;
		for (int j = 0; j < ENTRIES; j++) {
			u64 entry = table_of(s2->root[i])[j];

			if (is_table(entry))
				free_page(table_of(entry));
		}
		free_page(table_of(s2->root[i]));
	}
	free_page(s2->root);
	s2->root = NULL;
}

void stage2_load(const struct stage2 *s2)
{
	sysreg_write(vttbr_el2, s2->vmid << 48 | (u64)s2->root);
	isb();
}

void stage2_sync(struct stage2 *s2)
{
	u64 vttbr = sysreg_read(vttbr_el2);

	if (!s2->stale)
		return;
	/* The flush affects the VMID that is loaded. */
	stage2_load(s2);
	asm volatile("dsb ish\n"
		     "tlbi vmalls12e1is\n"
		     "dsb ish\n"
		     "isb" : : : "memory");
	sysreg_write(vttbr_el2, vttbr);
	isb();
	s2->stale = false;
}

void stage2_map_devices(struct stage2 *s2)
{
	s2->root[0] = block(0, ACCESS_R | ACCESS_W, MEMTYPE_DEVICE);
}

/* The level-2 table, created if missing. NULL: no memory. */
static u64 *level2(struct stage2 *s2, u64 ipa)
{
	u64 *entry = &s2->root[index(ipa, 1)];

	if (!*entry) {
		void *table = alloc_page();

		if (!table)
			return NULL;
		*entry = (u64)table | PTE_VALID | PTE_TABLE;
	}
	return table_of(*entry);
}

int stage2_map_ram_block(struct stage2 *s2, u64 ipa)
{
	u64 *table = level2(s2, ipa);

	if (!table)
		return NOMEM;
	table[index(ipa, 2)] = block(ipa, ACCESS_RWX, MEMTYPE_NORMAL_WB);
	return OK;
}

static int prepare_block(struct stage2 *s2, u64 ipa)
{
	u64 *table = level2(s2, ipa), *entry, *pages;
	u64 old;

	if (!table)
		return NOMEM;
	entry = &table[index(ipa, 2)];
	old = *entry;
	if (is_table(old))
		return OK;
	pages = alloc_page();
	if (!pages)
		return NOMEM;
	if (old) {
		for (u64 i = 0; i < ENTRIES; i++)
			pages[i] = (old | PTE_TABLE) + i * PAGE_SIZE;
		*entry = 0;
		s2->stale = true;
		stage2_sync(s2);
	}
	asm volatile("dsb ishst" : : : "memory");
	*entry = (u64)pages | PTE_VALID | PTE_TABLE;
	asm volatile("dsb ishst" : : : "memory");
	return OK;
}

int stage2_prepare(struct stage2 *s2, u64 ipa, u64 size)
{
	for (u64 at = ipa & ~(BLOCK_SIZE - 1); at < ipa + size;
	     at += BLOCK_SIZE) {
		if (prepare_block(s2, at))
			return NOMEM;
	}
	return OK;
}

void stage2_set(struct stage2 *s2, u64 ipa, u64 pte)
{
	u64 *entry = &table_of(table_of(s2->root[index(ipa, 1)])[index(ipa, 2)])
		      [index(ipa, 3)];

	if (*entry == pte)
		return;
	if (*entry)
		s2->stale = true;
	if (*entry && pte && stage2_pa(*entry) != stage2_pa(pte)) {
		*entry = 0;
		stage2_sync(s2);
	}
	*entry = pte;
	asm volatile("dsb ishst" : : : "memory");
}

u64 stage2_get(const struct stage2 *s2, u64 ipa)
{
	u64 entry;

	if (!s2->root || ipa >= IPA_END)
		return 0;
	entry = s2->root[index(ipa, 1)];
	if (!is_table(entry))
		return entry ? entry | PTE_TABLE | (ipa & 0x3ffff000) : 0;
	entry = table_of(entry)[index(ipa, 2)];
	if (!is_table(entry))
		return entry ? entry | PTE_TABLE | (ipa & 0x1ff000) : 0;
	return table_of(entry)[index(ipa, 3)];
}
