// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where an RM grants extents, the image is only the device tree; the guest's
 * other memory comes on demand.
 *
 * Where memory goes in parcels, the guest's device tree says at which address
 * the image is, and which other parcels are where. The image is all memory that
 * the guest can use as RAM, so it is the whole binding that has the device
 * tree. The RM doesn't set the registers of a vCPU: the guest starts at an
 * offset in the image, and X0 has the address of the device tree.
 */
#include <linux/align.h>
#include <linux/device.h>
#include <linux/gmem.h>
#include <linux/mm.h>
#include <linux/sizes.h>

#include "../map.h"
#include "../objects.h"
#include "image.h"
#include "objects.h"
#include "parcels.h"
#include "rm_calls.h"

/* The RM rounds the address of the image up to a multiple of this. */
#define GUNYAH_IMAGE_ALIGN SZ_2M

int gunyah_image_find(struct gunyah_vm *g)
{
	g->first = PHYS_PFN(g->dtb_addr);
	g->last = PHYS_PFN(g->dtb_addr + g->dtb_size - 1);
	if (g->rm->demand_paging)
		return gmem_vm_widen_lent(g->vm, &g->first, &g->last);
	return gmem_vm_widen_to_binding(g->vm, &g->first, &g->last,
					GMEM_MAP_FORCE_LEND |
						GMEM_MAP_ALLOW_RWX);
}

static int gunyah_image_refuse(struct gunyah_vm *g, int err, const char *why)
{
	dev_warn_ratelimited(g->rm->dev, "VM %u can't start: %s\n", g->vm->id,
			     why);
	return err;
}

static bool gunyah_image_has(const struct gunyah_vm *g, u64 addr)
{
	return PHYS_PFN(addr) >= g->first && PHYS_PFN(addr) <= g->last;
}

int gunyah_image_check(struct gunyah_vm *g)
{
	int err = gunyah_image_find(g);

	if (g->rm->demand_paging)
		return err;
	if (err == -EINVAL)
		return gunyah_image_refuse(g, err, "the binding with the device tree must be lent, and allow read, write and execute");
	if (!err && !IS_ALIGNED(PFN_PHYS(g->first), GUNYAH_IMAGE_ALIGN))
		return gunyah_image_refuse(g, -EINVAL, "the binding with the device tree must begin at a multiple of 2 MiB");
	if (err || g->rm->boot_context)
		return err;
	if (test_bit(GUNYAH_REG_DTB, g->boot_set) &&
	    g->boot_value[GUNYAH_REG_DTB] != g->dtb_addr)
		return gunyah_image_refuse(g, -EOPNOTSUPP, "this Resource Manager can only set X0 to the address of the device tree");
	if (test_bit(GUNYAH_REG_PC, g->boot_set) &&
	    !gunyah_image_has(g, g->boot_value[GUNYAH_REG_PC]))
		return gunyah_image_refuse(g, -EOPNOTSUPP, "this Resource Manager can only start a guest in the binding that has the device tree");
	return 0;
}

int gunyah_image_describe(struct gunyah_vm *g, struct gunyah_rm_image *image)
{
	unsigned long first;
	int err;

	err = gunyah_parcels_find(g, PHYS_PFN(g->dtb_addr), &image->handle,
				  &first);
	if (err)
		return err;
	image->dtb_offset = g->dtb_addr - PFN_PHYS(first);
	image->dtb_size = g->dtb_size;
	if (!g->rm->boot_context && test_bit(GUNYAH_REG_PC, g->boot_set))
		image->image_offset = g->boot_value[GUNYAH_REG_PC] -
				      PFN_PHYS(first);
	return 0;
}
