/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _STAGE2_H
#define _STAGE2_H

#include "el2.h"

/* Width of intermediate physical addresses: three levels of one page each. */
#define IPA_BITS		39
#define IPA_END			(1ULL << IPA_BITS)

/* An address space. @stale: a TLB may still hold an entry that was removed. */
struct stage2 {
	u64 *root;
	u64 vmid;
	bool stale;
};

/* NOMEM or OK. */
int stage2_init(struct stage2 *s2, u64 vmid);
void stage2_destroy(struct stage2 *s2);
/* Use the address space on this CPU from the next ERET on. */
void stage2_load(const struct stage2 *s2);

/* Map the 1 GiB block at 0 to itself, as device memory. */
void stage2_map_devices(struct stage2 *s2);
/* Map 2 MiB of RAM to itself. NOMEM or OK. */
int stage2_map_ram_block(struct stage2 *s2, u64 ipa);

/*
 * Split each block in the range, so that setting an entry can't fail. OK, or
 * NOMEM, which leaves all mappings in place.
 */
int stage2_prepare(struct stage2 *s2, u64 ipa, u64 size);

/* Set the entry of a page in a prepared range; 0 removes it. */
void stage2_set(struct stage2 *s2, u64 ipa, u64 pte);
u64 stage2_pte(u64 pa, u8 access, u8 memtype);
/* The entry of a page, or 0. */
u64 stage2_get(const struct stage2 *s2, u64 ipa);
u64 stage2_pa(u64 pte);
u8 stage2_access(u64 pte);
u8 stage2_memtype(u64 pte);

/* Flush the removed entries from the TLBs. */
void stage2_sync(struct stage2 *s2);

#endif /* _STAGE2_H */
