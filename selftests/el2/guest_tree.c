// SPDX-License-Identifier: GPL-2.0-only
/*
 * Change a guest's device tree as the public Resource Manager does at VM_START:
 * patch and add the nodes of parcels and /memory, in guest_regions.c, and
 * /chosen, /hypervisor and /vsoc.
 */
#include "guest_regions.h"
#include "guest_tree.h"
#include "rm.h"
#include "tree.h"

static u8 blob[TREE_MAX_SIZE] __attribute__((aligned(8)));

static const struct parcel *image_of(const struct vm *vm)
{
	struct parcel *parcel = parcel_find(vm->image_handle);

	return parcel && parcel_entry(parcel, vm->vmid) ? parcel : NULL;
}

static u32 open_tree(const struct vm *vm, struct tree *t)
{
	const struct parcel *image = image_of(vm);
	u32 size;

	if (!image || vm->place.dtb_size < TREE_HEADER_SIZE ||
	    vm->place.dtb_offset + vm->place.dtb_size > parcel_size(image))
		return RM_MEM_INVALID;
	pieces_copy(&image->pieces, vm->place.dtb_offset, blob, TREE_HEADER_SIZE,
		    false);
	size = tree_total_size(blob);
	if (!size || size > vm->place.dtb_size)
		return RM_MEM_INVALID;
	pieces_copy(&image->pieces, vm->place.dtb_offset, blob, size, false);
	return tree_open(t, blob) ? RM_OK : RM_MEM_INVALID;
}

u32 guest_tree_read(struct vm *vm)
{
	struct tree t;

	return open_tree(vm, &t) ?: guest_config_read(&vm->config);
}

static void write_hypervisor(const struct vm *vm, struct tree *t)
{
	static const char compatible[] = "gunyah-hypervisor\0"
		"qcom,gunyah-hypervisor-1.0\0qcom,gunyah-hypervisor\0"
		"simple-bus";
	u32 node = tree_add(t, ROOT_NODE, "hypervisor");

	if (node == NO_NODE)
		return;
	tree_set_u32(t, node, "#address-cells", 2);
	tree_set_u32(t, node, "#size-cells", 0);
	tree_set(t, node, "compatible", compatible, sizeof(compatible));
	node = tree_add(t, node, "qcom,gunyah-vm");
	if (node == NO_NODE)
		return;
	tree_set_string(t, node, "compatible", "qcom,gunyah-vm-id");
	tree_set_u32(t, node, "qcom,vmid", vm->vmid);
	tree_set_u32(t, node, "qcom,owner-vmid", VMID_HOST);
	tree_set_string(t, node, "qcom,image-name", vm->config.name);
}

/* The guest's queues to and from the Resource Manager */
static void write_rpc(struct tree *t)
{
	static const char compatible[] = "gunyah-resource-manager\0"
		"qcom,resource-manager\0qcom,resource-manager-1-0\0"
		"qcom,gunyah-message-queue\0qcom,gunyah-capability";
	const u64 reg[] = {
		__builtin_bswap64(GUEST_TX_CAP), __builtin_bswap64(GUEST_RX_CAP),
	};
	u32 parent = tree_child(ROOT_NODE, "hypervisor");
	u32 node = tree_add(t, parent, "qcom,resource-manager-rpc");

	if (node == NO_NODE)
		return;
	tree_set(t, node, "compatible", compatible, sizeof(compatible));
	tree_set(t, node, "reg", reg, sizeof(reg));
	tree_set(t, node, "qcom,is-full-duplex", NULL, 0);
	tree_set_u32(t, node, "qcom,tx-message-size", MSGQUEUE_MAX_SIZE);
	tree_set_u32(t, node, "qcom,rx-message-size", MSGQUEUE_MAX_SIZE);
}

static void write_vsoc(struct tree *t)
{
	u32 node = tree_child(ROOT_NODE, "vsoc");

	if (node == NO_NODE)
		node = tree_add(t, ROOT_NODE, "vsoc");
	if (node == NO_NODE)
		return;
	tree_set_u32(t, node, "#address-cells", 2);
	tree_set_u32(t, node, "#size-cells", 2);
	tree_set(t, node, "ranges", NULL, 0);
	tree_set_string(t, node, "compatible", "simple-bus");
}

static u32 write_nodes(struct vm *vm, struct tree *t)
{
	u32 error, chosen = tree_child(ROOT_NODE, "chosen");

	/* The overlay is applied to /chosen, which it can't make. */
	if (tree_child(ROOT_NODE, "hypervisor") != NO_NODE ||
	    chosen == NO_NODE || !vm->config.gic)
		return RM_DENIED;
	tree_set_u64(t, chosen, "kaslr-seed", sysreg_read(cntpct_el0));
	error = write_reserved(vm, t);
	if (error)
		return error;
	write_memory(vm, t);
	write_vsoc(t);
	write_hypervisor(vm, t);
	if (vm->config.rpc && !t->full)
		write_rpc(t);
	for (u32 i = 0; i < vm->config.nr_shm && !error; i++)
		error = write_shm(vm, t, &vm->config.shm[i]);
	return error;
}

u32 guest_tree_write(struct vm *vm)
{
	struct tree t;
	u32 size, error = open_tree(vm, &t);

	if (!error)
		error = write_nodes(vm, &t);
	if (error)
		return error;
	size = tree_close(&t, blob, sizeof(blob));
	if (!size || size > vm->place.dtb_size)
		return RM_ARG_INVALID;
	pieces_copy(&image_of(vm)->pieces, vm->place.dtb_offset, blob, size, true);
	return RM_OK;
}
