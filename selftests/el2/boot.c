// SPDX-License-Identifier: GPL-2.0-only
/*
 * Set-up of the CPUs' EL2 registers, the monitor's memory and the host's stage
 * 2.
 */
#include "cpu.h"
#include "fdt.h"
#include "memdb.h"
#include "msgqueue.h"
#include "setting.h"
#include "stage2.h"

#define HOST_BLOCK_SIZE		(1UL << 21)

struct cpu cpus[MAX_CPUS];

static struct page {
	struct page *next;
} *free_pages;
static u64 nr_free;
static bool public;
static u64 el2_map[512] __attribute__((aligned(PAGE_SIZE)));

void *alloc_page(void)
{
	struct page *page = free_pages;

	if (!page)
		return NULL;
	free_pages = page->next;
	nr_free--;
	return memset(page, 0, PAGE_SIZE);
}

void free_page(void *p)
{
	struct page *page = p;

	page->next = free_pages;
	free_pages = page;
	nr_free++;
}

u64 nr_free_pages(void)
{
	return nr_free;
}

bool rm_is_public(void)
{
	return public;
}

/*
 * Map all memory to itself in blocks of 1 GiB: exclusive accesses need the MMU.
 */
static void enable_mmu(void)
{
	const u64 block = 1 | 1 << 6 | 3 << 8 | 1 << 10;

	el2_map[0] = block | 1UL << 54;
	for (u64 i = 1; i < 4; i++)
		el2_map[i] = block | i << 30 | 1 << 2;
	/* Attribute 0 is device memory, 1 is normal, write-back memory. */
	sysreg_write(mair_el2, 0xff00);
	/* 39 bits, 4 KiB, write-back, inner shareable, 40 physical bits */
	sysreg_write(tcr_el2, 1UL << 31 | 1 << 23 | 2 << 16 | 3 << 12 |
				      1 << 10 | 1 << 8 | (64 - 39));
	sysreg_write(ttbr0_el2, (u64)el2_map);
	asm volatile("tlbi alle2\n"
		     "dsb ish\n"
		     "isb" : : : "memory");
	sysreg_write(sctlr_el2, 0x30c51835 & ~(1UL << 1));
	isb();
}

static void init_cpu(struct cpu *cpu, struct regs *regs)
{
	sysreg_write(tpidr_el2, (u64)cpu);
	sysreg_write(vbar_el2, (u64)vectors);
	/*
	 * The format of struct stage2: 39 bits from level 1, write-back, 40
	 * physical bits
	 */
	sysreg_write(vtcr_el2, 1UL << 31 | 2 << 16 | 3 << 12 | 1 << 10 |
				       1 << 8 | 1 << 6 | (64 - IPA_BITS));
	stage2_load(&host_stage2);
	asm volatile("tlbi alle1\n"
		     "dsb ish" : : : "memory");
	set_host_traps();
	sysreg_write(cnthctl_el2, 3);
	sysreg_write(cntvoff_el2, 0);
	sysreg_write(hstr_el2, 0);
	sysreg_write(vpidr_el2, sysreg_read(midr_el1));
	sysreg_write(vmpidr_el2, sysreg_read(mpidr_el1));
	/*
	 * ICC_SRE_EL2 and ICH_HCR_EL2: the host drives the interrupt
	 * controller.
	 */
	sysreg_write(S3_4_C12_C9_5, 0xf);
	sysreg_write(S3_4_C12_C11_0, 0);
	sysreg_write(sctlr_el1, SCTLR_EL1_RESET);

	memset(regs, 0, sizeof(*regs));
	regs->x[0] = cpu->context;
	regs->pc = cpu->entry;
	regs->pstate = PSTATE_RESET;
}

static void map_host(u64 ram_end)
{
	if (stage2_init(&host_stage2, VMID_HOST))
		fatal("no memory for the host's tables", ram_end, 0, 0);
	stage2_map_devices(&host_stage2);
	for (u64 at = HOST_RAM_BASE; at < ram_end; at += HOST_BLOCK_SIZE) {
		if (stage2_map_ram_block(&host_stage2, at))
			fatal("no memory for the host's tables", ram_end, at,
			      0);
	}
}

void boot_primary(void *dtb, struct regs *regs)
{
	u64 ram_end, pool;

	enable_mmu();
	ram_end = fdt_hide_monitor(dtb) & ~(HOST_BLOCK_SIZE - 1);
	public = has_word(fdt_bootargs(dtb), "el2.platform=public");
	settings_reset();
	fdt_use_hvc(dtb);
	fdt_add_resource_manager(dtb);

	pool = memdb_init((u64)image_end, HOST_RAM_BASE, ram_end);
	if (pool >= HOST_RAM_BASE)
		fatal("more RAM than its database has room for", ram_end, pool,
		      0);
	for (; pool < HOST_RAM_BASE; pool += PAGE_SIZE)
		free_page((void *)pool);
	map_host(ram_end);
	msgqueue_init();

	cpus[0].entry = HOST_RAM_BASE;
	cpus[0].context = (u64)dtb;
	init_cpu(&cpus[0], regs);
}

void boot_secondary(u64 cpu, struct regs *regs)
{
	enable_mmu();
	init_cpu(&cpus[cpu], regs);
}
