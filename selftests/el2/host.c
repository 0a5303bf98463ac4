// SPDX-License-Identifier: GPL-2.0-only
/* The monitor's access to the host's buffers, and interrupts for the host. */
#include "memdb.h"

#define GICD_ISPENDR		0x200
#define FIRST_SPI		32

#define PAR_FAULT		1
#define PAR_ADDR		0x0000fffffffff000UL

u64 stage1_page(u64 va, u8 access)
{
	u64 saved = sysreg_read(par_el1), par;

	if (access == ACCESS_W)
		asm volatile("at s1e1w, %0" : : "r" (va) : "memory");
	else
		asm volatile("at s1e1r, %0" : : "r" (va) : "memory");
	isb();
	par = sysreg_read(par_el1);
	sysreg_write(par_el1, saved);
	return par & PAR_FAULT ? NO_PAGE : par & PAR_ADDR;
}

/*
 * The physical address of the host's page at @va; 0 if the host may not access
 * it.
 */
static u64 translate(const void *data, u64 va, u8 access)
{
	u64 pa = stage1_page(va, access);
	struct page_info *page = memdb_page(pa);

	(void)data;
	if (!page || !(memdb_host_access(page) & access))
		return 0;
	return pa | (va & (PAGE_SIZE - 1));
}

bool copy_pages(translate_fn translate, const void *data, void *mine, u64 va,
		u64 size, u8 access)
{
	while (size) {
		u64 pa = translate(data, va, access);
		u64 n = PAGE_SIZE - (va & (PAGE_SIZE - 1));

		if (!pa)
			return false;
		if (n > size)
			n = size;
		if (access == ACCESS_W)
			memcpy((void *)pa, mine, n);
		else
			memcpy(mine, (void *)pa, n);
		mine += n;
		va += n;
		size -= n;
	}
	return true;
}

static int copy(void *mine, u64 va, u64 size, u8 access)
{
	return copy_pages(translate, NULL, mine, va, size, access) ?
		       OK : ADDR_INVALID;
}

int copy_from_host(void *to, u64 va, u64 size)
{
	return copy(to, va, size, ACCESS_R);
}

int copy_to_host(u64 va, const void *from, u64 size)
{
	return copy((void *)from, va, size, ACCESS_W);
}

void raise_spi(u32 spi)
{
	u32 interrupt = FIRST_SPI + spi;
	volatile u32 *pending =
		(u32 *)(GICD_BASE + GICD_ISPENDR + interrupt / 32 * 4);

	/* The host must see the data before the interrupt. */
	asm volatile("dsb ish" : : : "memory");
	*pending = 1U << interrupt % 32;
}

u64 now_us(void)
{
	u64 ticks = sysreg_read(cntpct_el0);
	u64 per_second = sysreg_read(cntfrq_el0);

	/* The ticks in a microsecond are no whole number: QEMU has 62.5. */
	return ticks / per_second * 1000000 +
	       ticks % per_second * 1000000 / per_second;
}
