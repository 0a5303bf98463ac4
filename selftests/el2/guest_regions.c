// SPDX-License-Identifier: GPL-2.0-only
/* The nodes for parcels in a guest's device tree, and those parcels' places. */
#include "accept.h"
#include "guest_regions.h"
#include "rm.h"

#define MAX_RANGES		1024

/* Cells of addresses and sizes, as the parent of a node gives them */
static u32 address_cells, size_cells;

static u32 cells_of(u32 node, const char *name, u32 missing)
{
	u64 n;

	return tree_get_number(node, name, 1, &n) ? n : missing;
}

static void use_cells_of(u32 parent)
{
	address_cells = cells_of(parent, "#address-cells", 2);
	size_cells = cells_of(parent, "#size-cells", 1);
}

/* ---- ranges of guest addresses ---- */

struct range {
	u64 start, end;
};

static struct range ranges[MAX_RANGES];
static u32 nr_ranges;

static void add_range(struct tree *t, u64 start, u64 size)
{
	if (nr_ranges == MAX_RANGES)
		t->full = true;
	else
		ranges[nr_ranges++] = (struct range) { start, start + size };
}

/* One range for each mapping: the pieces of a scattered parcel have their own. */
static void add_parcel_ranges(struct tree *t, const struct parcel *parcel,
			      const struct acl_entry *acl)
{
	struct piece_cursor cursor = { };
	const struct piece *piece;

	if (!acl->scattered) {
		add_range(t, acl->gpa, parcel_size(parcel));
		return;
	}
	while ((piece = pieces_next(&parcel->pieces, &cursor)))
		add_range(t, parcel_gpa(acl, piece->pa), piece->size);
}

/* Sort the ranges, and join those that touch. */
static void join_ranges(void)
{
	u32 n = 0;

	for (u32 i = 1; i < nr_ranges; i++) {
		const struct range range = ranges[i];
		u32 at = i;

		for (; at && ranges[at - 1].start > range.start; at--)
			ranges[at] = ranges[at - 1];
		ranges[at] = range;
	}
	for (u32 i = 0; i < nr_ranges; i++) {
		if (n && ranges[n - 1].end >= ranges[i].start)
			ranges[n - 1].end = ranges[i].end;
		else
			ranges[n++] = ranges[i];
	}
	nr_ranges = n;
}

static u32 *put_number(u32 *cell, u64 n, u32 cells)
{
	if (cells == 2)
		*cell++ = __builtin_bswap32(n >> 32);
	*cell++ = __builtin_bswap32(n);
	return cell;
}

/* Set "reg" to the ranges, and forget them. */
static void set_reg(struct tree *t, u32 node)
{
	static u32 cells[MAX_RANGES * 4];
	u32 *end = cells;

	for (u32 i = 0; i < nr_ranges; i++) {
		u64 size = ranges[i].end - ranges[i].start;

		end = put_number(end, ranges[i].start, address_cells);
		end = put_number(end, size, size_cells);
	}
	tree_set(t, node, "reg", cells, (void *)end - (void *)cells);
	nr_ranges = 0;
}

/* ---- parcels ---- */

static u32 next_phandle;

static void find_last_phandle(u32 node)
{
	u64 n;

	if (tree_get_number(node, "phandle", 1, &n) && n >= next_phandle)
		next_phandle = n + 1;
	for (u32 child = tree_next_child(node, NO_NODE); child != NO_NODE;
	     child = tree_next_child(node, child))
		find_last_phandle(child);
}

static u32 phandle_of(struct tree *t, u32 node)
{
	u64 n;

	if (tree_get_number(node, "phandle", 1, &n))
		return n;
	tree_set_u32(t, node, "phandle", next_phandle);
	return next_phandle++;
}

static void put_hex(char *to, u64 n)
{
	int shift = 60;

	while (shift && !(n >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*to++ = "0123456789abcdef"[n >> shift & 15];
	*to = 0;
}

/* A node for a parcel that the guest's own tree doesn't have. */
static void add_buffer(struct tree *t, u32 parent, struct parcel *parcel,
		       struct acl_entry *acl)
{
	char name[32] = "buffer@";
	u32 peers[MAX_ACL + 1], n = 0, node;

	put_hex(name + strlen(name), acl->gpa);
	node = tree_add(t, parent, name);
	if (node == NO_NODE)
		return;
	add_parcel_ranges(t, parcel, acl);
	set_reg(t, node);
	if (parcel->host_access)
		peers[n++] = __builtin_bswap32(VMID_HOST);
	for (u32 i = 0; i < parcel->nr_acl; i++)
		peers[n++] = __builtin_bswap32(parcel->acl[i].vmid);
	tree_set(t, node, "qcom,shared-memory", NULL, 0);
	tree_set(t, node, "no-map", NULL, 0);
	tree_set(t, node, "peers", peers, n * sizeof(*peers));
	tree_set_u32(t, node, "qcom,rm-mem-handle", parcel->handle);
	tree_set_u32(t, node, "qcom,label", parcel->label);
	acl->phandle = phandle_of(t, node);
}

/*
 * The parcel of a node in the guest's own /reserved-memory. NULL: there is
 * none, or it isn't there.
 */
static struct parcel *parcel_of_node(struct vm *vm, u32 node)
{
	struct parcel *parcel = NULL;
	u64 base, size, label;
	u32 length;
	const void *reg = tree_get(node, "reg", &length);

	if (!reg || length != (address_cells + size_cells) * sizeof(u32))
		return NULL;
	base = tree_number(reg, address_cells);
	size = tree_number(reg + address_cells * sizeof(u32), size_cells);
	if (!tree_get_number(node, "qcom,label", 1, &label))
		label = ~0UL;
	while ((parcel = parcel_next(vm->vmid, parcel))) {
		struct acl_entry *acl = parcel_entry(parcel, vm->vmid);

		if (label <= ~0U && parcel->label != label)
			continue;
		if (acl->placed && !acl->scattered && acl->gpa == base &&
		    parcel_size(parcel) == size)
			return parcel;
		/* Without a label, another parcel may be there. */
		if (label > ~0U)
			continue;
		if (acl->placed || parcel->open || parcel->pieces.count != 1 ||
		    parcel_size(parcel) != size ||
		    accept_at(vm, parcel, base))
			return NULL;
		return parcel;
	}
	return NULL;
}

/* Does Linux choose the region's place? */
static bool is_dynamic(u32 node)
{
	return !tree_has(node, "qcom,label") && tree_has(node, "size") &&
	       !tree_has(node, "reg");
}

static u32 patch_reserved(struct vm *vm, struct tree *t, u32 parent)
{
	u32 node = NO_NODE;

	while ((node = tree_next_child(parent, node)) != NO_NODE) {
		struct parcel *parcel;
		struct acl_entry *acl;

		if (is_dynamic(node))
			continue;
		parcel = parcel_of_node(vm, node);
		if (!parcel)
			return RM_DENIED;
		acl = parcel_entry(parcel, vm->vmid);
		if ((parcel->nr_acl > 1 || parcel->host_access) &&
		    tree_has(node, "reusable"))
			return RM_DENIED;
		tree_set_u32(t, node, "qcom,rm-mem-handle", parcel->handle);
		acl->phandle = phandle_of(t, node);
	}
	return RM_OK;
}

/*
 * Accept what is left, and add nodes. As in the original, only the outcome of
 * the last parcel counts.
 */
static u32 add_reserved(struct vm *vm, struct tree *t, u32 parent)
{
	struct parcel *parcel = NULL;
	u32 error = RM_OK;

	while ((parcel = parcel_next(vm->vmid, parcel))) {
		struct acl_entry *acl = parcel_entry(parcel, vm->vmid);

		if (parcel->open)
			continue;
		if (!acl->placed) {
			error = accept_lowest(vm, parcel);
			if (error)
				continue;
		}
		error = RM_OK;
		if (!is_private_memory(parcel, vm->vmid) && !acl->phandle)
			add_buffer(t, parent, parcel, acl);
	}
	return error;
}

u32 write_reserved(struct vm *vm, struct tree *t)
{
	u32 node = tree_child(ROOT_NODE, "reserved-memory"), error = RM_OK;

	next_phandle = 1;
	find_last_phandle(ROOT_NODE);
	use_cells_of(ROOT_NODE);
	if (node != NO_NODE) {
		use_cells_of(node);
		error = patch_reserved(vm, t, node);
	} else {
		node = tree_add(t, ROOT_NODE, "reserved-memory");
		if (node == NO_NODE)
			return RM_NOMEM;
		tree_set_u32(t, node, "#address-cells", address_cells);
		tree_set_u32(t, node, "#size-cells", size_cells);
		tree_set(t, node, "ranges", NULL, 0);
	}
	return error ?: add_reserved(vm, t, node);
}

/* ---- memory, and the vdevices of regions ---- */

void write_memory(struct vm *vm, struct tree *t)
{
	struct parcel *parcel = NULL;
	u32 node;

	use_cells_of(ROOT_NODE);
	while ((parcel = parcel_next(vm->vmid, parcel))) {
		if (is_accepted(parcel, vm->vmid))
			add_parcel_ranges(t, parcel,
					  parcel_entry(parcel, vm->vmid));
	}
	node = tree_child(ROOT_NODE, "memory");
	if (node == NO_NODE)
		node = tree_add(t, ROOT_NODE, "memory");
	join_ranges();
	if (node != NO_NODE) {
		set_reg(t, node);
		tree_set_string(t, node, "device_type", "memory");
	}
	nr_ranges = 0;
}

/* Add the path's missing nodes. */
static u32 add_path(struct tree *t, const char *path)
{
	char name[64];
	u32 node = ROOT_NODE;

	while (node != NO_NODE && *path) {
		const char *begin = ++path;
		u32 child;

		while (*path && *path != '/')
			path++;
		if (path == begin || path - begin >= (long)sizeof(name))
			return NO_NODE;
		memcpy(name, begin, path - begin);
		name[path - begin] = 0;
		child = tree_child(node, name);
		node = child == NO_NODE ? tree_add(t, node, name) : child;
	}
	return node;
}

/* A region's node refers to that of its parcel, which must exist. */
u32 write_shm(struct vm *vm, struct tree *t, const struct shm_config *shm)
{
	struct parcel *parcel = NULL;
	u32 node = add_path(t, shm->path), phandle = 0;

	while ((parcel = parcel_next(vm->vmid, parcel))) {
		if (parcel->label == shm->label) {
			phandle = parcel_entry(parcel, vm->vmid)->phandle;
			break;
		}
	}
	if (!phandle && !shm->optional)
		return RM_ARG_INVALID;
	if (node == NO_NODE)
		return RM_NOMEM;
	tree_set_string(t, node, "compatible", "qcom,shared-memory");
	if (phandle) {
		tree_set_u32(t, node, "buffer", phandle);
		tree_set_u32(t, node, "memory-region", phandle);
	}
	tree_set_u32(t, node, "peer", VMID_HOST);
	tree_set_u32(t, node, "qcom,label", shm->label);
	tree_set_u32(t, node, "label", shm->label);
	return RM_OK;
}

