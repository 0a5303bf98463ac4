// SPDX-License-Identifier: GPL-2.0-only
/*
 * Change the host's device tree in place: QEMU puts it behind the initial RAM
 * disk, with free RAM behind it. QEMU made the tree, so it is taken to be
 * well-formed; anything unexpected ends the boot.
 */
#include "fdt.h"
#include "msgqueue.h"
#include "tree_block.h"

#define GIC_SPI			0
#define GIC_EDGE_RISING		1

/* Cells are 4-byte aligned, 64-bit numbers are two of them. */
static u64 get_u64(const u32 *cells)
{
	return (u64)be32(cells[0]) << 32 | be32(cells[1]);
}

static void set_u64(u32 *cells, u64 n)
{
	cells[0] = be32(n >> 32);
	cells[1] = be32(n);
}

static bool named(const char *name, const char *want)
{
	size_t n = strlen(want);

	return !memcmp(name, want, n) && (name[n] == '@' || !name[n]);
}

/*
 * The value of a property of a child of the root, or NULL. Without @node: the
 * end of the root's node.
 */
static u32 *find(void *dtb, const char *node, const char *property)
{
	const struct fdt_header *header = dtb;
	const char *strings = dtb + be32(header->off_dt_strings);
	u32 *at = dtb + be32(header->off_dt_struct);
	bool here = false;
	int depth = 0;

	if (be32(header->magic) != FDT_MAGIC)
		fatal("no device tree", (u64)dtb, header->magic, 0);
	for (;;) {
		switch (be32(*at++)) {
		case FDT_BEGIN_NODE:
			depth++;
			here = node && depth == 2 && named((char *)at, node);
			at += strlen((char *)at) / 4 + 1;
			break;
		case FDT_PROP:
			if (here && !strcmp(strings + be32(at[1]), property))
				return at + 2;
			at += 2 + (be32(at[0]) + 3) / 4;
			break;
		case FDT_END_NODE:
			here = false;
			if (--depth == 0)
				return node ? NULL : at - 1;
			break;
		case FDT_NOP:
			break;
		default:
			fatal("bad device tree", (u64)dtb, (u64)at, 0);
		}
	}
}

u64 fdt_hide_monitor(void *dtb)
{
	u32 *reg = find(dtb, "memory", "reg");
	u64 end;

	if (!reg || get_u64(reg) != MONITOR_BASE)
		fatal("RAM is not where it should be", reg ? get_u64(reg) : 0,
		      0, 0);
	end = MONITOR_BASE + get_u64(reg + 2);
	set_u64(reg, HOST_RAM_BASE);
	set_u64(reg + 2, end - HOST_RAM_BASE);
	return end;
}

const char *fdt_bootargs(void *dtb)
{
	const char *args = (char *)find(dtb, "chosen", "bootargs");

	return args ?: "";
}

void fdt_use_hvc(void *dtb)
{
	char *method = (char *)find(dtb, "psci", "method");

	if (!method || strcmp(method, "smc"))
		fatal("PSCI is not by SMC", 0, 0, 0);
	memcpy(method, "hvc", 3);
}

/* A new node, and the names of its properties. */
struct writer {
	u32 cells[256];
	char names[512];
	u32 nr_cells, names_size;
	/* The offset of the first name in the tree's strings. */
	u32 names_offset;
};

static void put_string(struct writer *w, const char *s, u32 size)
{
	memcpy(&w->cells[w->nr_cells], s, size);
	w->nr_cells += (size + 3) / 4;
}

static void begin_node(struct writer *w, const char *name)
{
	w->cells[w->nr_cells++] = be32(FDT_BEGIN_NODE);
	put_string(w, name, strlen(name) + 1);
}

static void end_node(struct writer *w)
{
	w->cells[w->nr_cells++] = be32(FDT_END_NODE);
}

static void begin_property(struct writer *w, const char *name, u32 size)
{
	w->cells[w->nr_cells++] = be32(FDT_PROP);
	w->cells[w->nr_cells++] = be32(size);
	w->cells[w->nr_cells++] = be32(w->names_offset + w->names_size);
	memcpy(w->names + w->names_size, name, strlen(name) + 1);
	w->names_size += strlen(name) + 1;
}

static void put_cells(struct writer *w, const char *name, const u32 *cells,
		      u32 n)
{
	begin_property(w, name, n * sizeof(u32));
	for (u32 i = 0; i < n; i++)
		w->cells[w->nr_cells++] = be32(cells[i]);
}

static void put_cell(struct writer *w, const char *name, u32 cell)
{
	put_cells(w, name, &cell, 1);
}

static void write_nodes(struct writer *w)
{
	static const char hypervisor[] = "qcom,gunyah-hypervisor-1.0\0"
		"qcom,gunyah-hypervisor\0simple-bus";
	static const char manager[] = "gunyah-resource-manager\0"
		"qcom,resource-manager-1-0\0qcom,resource-manager";
	static const u32 reg[] = { 0, TX_CAP, 0, RX_CAP };
	static const u32 interrupts[] = {
		GIC_SPI, TX_SPI, GIC_EDGE_RISING,
		GIC_SPI, RX_SPI, GIC_EDGE_RISING,
	};

	begin_node(w, "hypervisor");
	begin_property(w, "compatible", sizeof(hypervisor));
	put_string(w, hypervisor, sizeof(hypervisor));
	put_cell(w, "#address-cells", 2);
	put_cell(w, "#size-cells", 0);
	begin_node(w, "qcom,resource-manager-rpc@0000000000000000");
	begin_property(w, "compatible", sizeof(manager));
	put_string(w, manager, sizeof(manager));
	put_cells(w, "reg", reg, ARRAY_SIZE(reg));
	put_cells(w, "interrupts", interrupts, ARRAY_SIZE(interrupts));
	begin_property(w, "qcom,is-full-duplex", 0);
	put_cell(w, "qcom,tx-message-size", MSGQUEUE_MAX_SIZE);
	put_cell(w, "qcom,rx-message-size", MSGQUEUE_MAX_SIZE);
	put_cell(w, "qcom,tx-queue-depth", MSGQUEUE_DEPTH);
	put_cell(w, "qcom,rx-queue-depth", MSGQUEUE_DEPTH);
	put_cell(w, "qcom,free-irq-start", 960);
	end_node(w);
	end_node(w);
}

void fdt_add_resource_manager(void *dtb)
{
	static struct writer w;
	struct fdt_header *header = dtb;
	u32 strings = be32(header->off_dt_strings);
	u32 structure = be32(header->off_dt_struct);
	u32 size, *root_end = find(dtb, NULL, NULL);

	w.names_offset = be32(header->size_dt_strings);
	write_nodes(&w);
	size = w.nr_cells * sizeof(u32);
	if (strings < structure)
		fatal("the device tree's strings come first", strings,
		      structure, 0);

	/*
	 * The strings come last: make room for the nodes in front, and add the
	 * names.
	 */
	memmove(dtb + strings + size, dtb + strings, w.names_offset);
	memcpy(dtb + strings + size + w.names_offset, w.names, w.names_size);
	memmove((void *)root_end + size, root_end,
		dtb + strings - (void *)root_end);
	memcpy(root_end, w.cells, size);

	header->off_dt_strings = be32(strings + size);
	header->size_dt_strings = be32(w.names_offset + w.names_size);
	header->size_dt_struct = be32(be32(header->size_dt_struct) + size);
	size += strings + w.names_offset + w.names_size;
	if (be32(header->totalsize) < size)
		header->totalsize = be32(size);
}
