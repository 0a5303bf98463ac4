// SPDX-License-Identifier: GPL-2.0-only
/*
 * Read a guest's device tree as the Resource Manager does at VM_INIT. Types of
 * vdevices that no test needs are ignored: message queues and virtio-mmio.
 */
#include "guest_config.h"
#include "rm.h"
#include "tree.h"

#define DEFAULT_ADDRESS_CELLS	2
#define DEFAULT_SIZE_CELLS	1
#define IMAGE_ALIGNMENT		(2UL << 20)

/* Cells of addresses and sizes in the children of a node. */
struct cells {
	u32 address, size;
};

static struct cells child_cells(u32 node)
{
	struct cells cells = { DEFAULT_ADDRESS_CELLS, DEFAULT_SIZE_CELLS };
	u64 n;

	if (tree_get_number(node, "#address-cells", 1, &n))
		cells.address = n;
	if (tree_get_number(node, "#size-cells", 1, &n))
		cells.size = n;
	return cells;
}

/* The first of the labels that there is. */
static bool read_label(u32 node, u32 *label)
{
	u64 n;

	if (!tree_get_number(node, "qcom,label", 1, &n) &&
	    !tree_get_number(node, "label", 1, &n))
		return false;
	*label = n;
	return true;
}

static bool read_name(struct guest_config *config, u32 node)
{
	const char *name = tree_get_string(node, "image-name");

	if (!name || strlen(name) >= sizeof(config->name))
		return false;
	memcpy(config->name, name, strlen(name) + 1);
	return true;
}

static bool read_memory(struct guest_config *config, u32 node,
			struct cells cells)
{
	u64 n;

	if (tree_get_number(node, "base-address", cells.address, &n)) {
		if (!ALIGNED(n, PAGE_SIZE))
			return false;
		config->base = (n + IMAGE_ALIGNMENT - 1) &
			       ~(IMAGE_ALIGNMENT - 1);
	}
	if (tree_get_number(node, "size-max", cells.size, &n)) {
		if (!ALIGNED(n, PAGE_SIZE) || config->base + n < config->base)
			return false;
		config->size_max = n;
	}
	return true;
}

/* Returns false if the node is bad. */
static bool read_cpu(u32 node, const char *method, u32 *nr_enabled, u32 *nr)
{
	const char *type = tree_get_string(node, "device_type");
	const char *status = tree_get_string(node, "status");
	const char *own = tree_get_string(node, "enable-method");
	bool enabled = status ? !strcmp(status, "okay") : !*nr_enabled;

	if (!type || strcmp(type, "cpu"))
		return true;
	if (status && !enabled && strcmp(status, "disabled"))
		return false;
	method = own ?: method;
	if (enabled)
		++*nr_enabled;
	else if (!method || (strcmp(method, "psci") &&
			     strcmp(method, "qcom,gunyah-hvc")))
		return false;
	++*nr;
	return true;
}

static bool read_cpus(struct guest_config *config, u32 node)
{
	const char *affinity = tree_get_string(node, "affinity");
	const char *path = tree_get_string(node, "config") ?: "/cpus";
	const char *method;
	u32 cpus, cpu = NO_NODE, nr_enabled = 0, nr = 0;

	config->proxy = affinity && !strcmp(affinity, "proxy");
	if (!config->proxy && !tree_has(node, "affinity-map"))
		return false;
	cpus = tree_path(path);
	if (cpus == NO_NODE)
		return false;
	method = tree_get_string(cpus, "enable-method");
	while ((cpu = tree_next_child(cpus, cpu)) != NO_NODE) {
		if (!read_cpu(cpu, method, &nr_enabled, &nr))
			return false;
	}
	config->nr_cpus = nr <= MAX_CPUS ? nr : MAX_CPUS + 1;
	return nr_enabled;
}

static bool is_gic(u32 node)
{
	u64 cells;

	return node != NO_NODE &&
	       tree_has_string(node, "compatible", "arm,gic-v3") &&
	       tree_has(node, "interrupt-controller") &&
	       tree_get_number(node, "#interrupt-cells", 1, &cells) &&
	       cells == 3;
}

/* The root's children have addresses and sizes of two cells each. */
static void read_gic(struct guest_config *config, u32 node)
{
	const u32 *reg;
	u32 size;

	config->gic = is_gic(node);
	reg = config->gic ? tree_get(node, "reg", &size) : NULL;
	if (!reg || size < 8 * sizeof(*reg))
		return;
	config->gic_dist = tree_number(reg, 2);
	config->gic_redist = tree_number(reg + 4, 2);
}

static bool read_interrupts(struct guest_config *config, u32 node)
{
	const char *path = tree_get_string(node, "config");

	if (path)
		read_gic(config, tree_path(path));
	return config->gic;
}

/* Children of the VM's configuration; false if one is bad. */
static bool read_config_node(struct guest_config *config, u32 node)
{
	const struct cells cells = child_cells(node);
	u32 child = NO_NODE;

	config->has_config = true;
	if (!read_name(config, node))
		return false;
	while ((child = tree_next_child(node, child)) != NO_NODE) {
		const char *name = tree_name(child);

		if (!strcmp(name, "memory")) {
			if (!read_memory(config, child, cells))
				return false;
		} else if (!strcmp(name, "vcpus")) {
			if (!read_cpus(config, child))
				return false;
		} else if (!strcmp(name, "interrupts")) {
			if (!read_interrupts(config, child))
				return false;
		}
	}
	return true;
}

/* The only child is "memory", with a label and a base, or none to allocate. */
static bool read_shm(struct guest_config *config, u32 node)
{
	struct shm_config *shm = &config->shm[config->nr_shm];
	const char *path = tree_get_string(node, "generate");
	u32 memory = tree_next_child(node, NO_NODE);
	bool has_base;

	if (config->nr_shm == MAX_SHM || !tree_has(node, "peer-default") ||
	    memory == NO_NODE || strcmp(tree_name(memory), "memory") ||
	    tree_next_child(node, memory) != NO_NODE ||
	    !read_label(memory, &shm->label))
		return false;
	if (!path || strlen(path) >= sizeof(shm->path))
		path = "/hypervisor/qcom,shm";
	memcpy(shm->path, path, strlen(path) + 1);
	shm->base = 0;
	shm->optional = tree_has(memory, "optional");
	shm->allocate = tree_has(memory, "allocate-base");
	has_base = tree_get_number(memory, "base", child_cells(node).address,
				   &shm->base);
	if (has_base == shm->allocate || !ALIGNED(shm->base, PAGE_SIZE))
		return false;
	/* The vdevice's own label counts, if it has one. */
	read_label(node, &shm->label);
	config->nr_shm++;
	return true;
}

/* A shared interrupt of the GIC: 0, its number less 32, and flags */
static u32 read_spi(u32 node)
{
	const u32 *cells;
	u32 size;

	cells = tree_get(node, "interrupts", &size);
	if (!cells || size != 3 * sizeof(*cells) || tree_number(cells, 1))
		return 0;
	return 32 + tree_number(cells + 1, 1);
}

static bool read_bell(struct guest_config *config, u32 node, bool source)
{
	struct bell_config *bell = &config->bells[config->nr_bells];

	if (config->nr_bells == MAX_BELLS || !tree_has(node, "peer-default"))
		return false;
	*bell = (struct bell_config) {
		.source = source,
		.source_can_clear = tree_has(node, "source-can-clear"),
		.interrupt = source ? 0 : read_spi(node),
	};
	read_label(node, &bell->label);
	config->nr_bells++;
	return true;
}

static bool read_vdevice(struct guest_config *config, u32 node)
{
	if (tree_has_string(node, "vdevice-type", "shm"))
		return read_shm(config, node);
	if (tree_has_string(node, "vdevice-type", "doorbell"))
		return read_bell(config, node, false);
	if (tree_has_string(node, "vdevice-type", "doorbell-source"))
		return read_bell(config, node, true);
	if (tree_has_string(node, "vdevice-type", "rm-rpc"))
		config->rpc = true;
	return true;
}

/* Only the root may have memory, in a node of that very name. */
static bool is_allowed(u32 node, bool in_root)
{
	return !tree_has_string(node, "device_type", "memory") ||
	       (in_root && !strcmp(tree_name(node), "memory"));
}

static bool read_node(struct guest_config *config, u32 node, bool in_root)
{
	const char *name = tree_name(node);
	u32 child = NO_NODE;

	if (!is_allowed(node, in_root) || !read_vdevice(config, node))
		return false;
	if (in_root && (!strcmp(name, "gunyah-vm-config") ||
			!strcmp(name, "qcom,vm-config")) &&
	    !read_config_node(config, node))
		return false;
	while ((child = tree_next_child(node, child)) != NO_NODE) {
		if (!read_node(config, child, node == ROOT_NODE))
			return false;
	}
	return true;
}

u32 guest_config_read(struct guest_config *config)
{
	u64 parent;

	memset(config, 0, sizeof(*config));
	config->size_max = GUEST_END;
	if (tree_get_number(ROOT_NODE, "interrupt-parent", 1, &parent))
		read_gic(config, tree_by_phandle(ROOT_NODE, parent));
	if (!read_node(config, ROOT_NODE, false))
		return RM_MEM_INVALID;
	if (config->base >= GUEST_END)
		return RM_ARG_INVALID;
	if (!config->has_config || !config->nr_cpus ||
	    config->nr_cpus > MAX_CPUS)
		return RM_NORESOURCE;
	return RM_OK;
}
