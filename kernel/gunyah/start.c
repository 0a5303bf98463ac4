// SPDX-License-Identifier: GPL-2.0
/*
 * The start of a VM, in steps. gunyah_vm.phase records how far the start has
 * come, so that the end of the VM undoes exactly these steps, whether the start
 * has failed or the process was killed.
 *
 * Two steps find out how memory gets to the guest. A Resource Manager without
 * demand paging takes parcels, and needs them before VM_INIT. One with demand
 * paging grants extents at VM_INIT; if it grants none, the provider gives
 * parcels after VM_INIT.
 */
#include <linux/device.h>
#include <linux/slab.h>

#include "../binding.h"
#include "../map.h"
#include "../objects.h"
#include "objects.h"
#include "parcels.h"
#include "rm_calls.h"
#include "rm_receive.h"
#include "rm_wire.h"
#include "start.h"
#include "vcpu_file.h"
#include "vm.h"

enum gunyah_addrspace_label { GUNYAH_LABEL_ADDRSPACE = 0 };

enum gunyah_extent_label {
	GUNYAH_LABEL_GUEST_PRIVATE = 0,
	GUNYAH_LABEL_HOST_SHARED = 1,
	GUNYAH_LABEL_HOST_PRIVATE = 2,
	GUNYAH_LABEL_GUEST_SHARED = 3,
};

static void gunyah_start_set_memory(struct gunyah_vm *g,
				    enum gunyah_memory memory)
{
	mutex_lock(&g->mem_lock);
	WRITE_ONCE(g->memory, memory);
	mutex_unlock(&g->mem_lock);
}

static int gunyah_start_alloc_vmid(struct gunyah_vm *g)
{
	u16 vmid;
	int err;

	err = gunyah_rm_alloc_vmid(g->rm, &vmid, &g->late);
	if (err)
		return err;
	err = gunyah_rm_listen(g->rm, &g->listener, vmid);
	if (err) {
		gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_DEALLOC_VMID, vmid);
		return err;
	}
	g->vmid = vmid;
	WRITE_ONCE(g->phase, GUNYAH_PHASE_LOADING);
	return 0;
}

/* The pages of the device tree, widened to whole pages of their guestmem. */
static int gunyah_start_find_dtb(struct gunyah_vm *g)
{
	g->first = PHYS_PFN(g->dtb_addr);
	g->last = PHYS_PFN(g->dtb_addr + g->dtb_size - 1);
	return gmem_vm_widen_lent(g->vm, &g->first, &g->last);
}

/* Every platform takes the device tree in a parcel. */
static int gunyah_start_lend_dtb(struct gunyah_vm *g)
{
	u64 nr_pages = 0;
	int err;

	/*
	 * No other thread can provide a page in a parcel now, since the lock is
	 * held until the memory type is NONE again.
	 */
	if (mutex_lock_killable(&g->vm->lock))
		return -EINTR;
	err = gunyah_start_find_dtb(g);
	if (!err) {
		gunyah_start_set_memory(g, GUNYAH_MEMORY_PARCELS);
		err = gmem_vm_populate(g->vm, g->first, g->last, &nr_pages);
		gunyah_start_set_memory(g, GUNYAH_MEMORY_NONE);
	}
	mutex_unlock(&g->vm->lock);
	return err;
}

static int gunyah_start_config_image(struct gunyah_vm *g)
{
	struct gunyah_rm_image image = { .dtb_size = g->dtb_size };
	unsigned long first;
	int err;

	mutex_lock(&g->mem_lock);
	err = gunyah_parcels_find(g, PHYS_PFN(g->dtb_addr), &image.handle,
				  &first);
	if (!err)
		g->image = image.handle;
	mutex_unlock(&g->mem_lock);
	if (err)
		return err;
	image.dtb_offset = g->dtb_addr - PFN_PHYS(first);
	return gunyah_rm_vm_config_image(g->rm, g->vmid, &image);
}

/*
 * Collect the lent guest ranges; adjacent ranges become one. If there are more
 * than one message may have, the rest is left out: Gunyah reports a touch there
 * as an access to a device, and gunyah_vcpu_mmio() finds that a binding is
 * there.
 */
static u32 gunyah_start_collect(struct gmem_vm *vm,
				struct gunyah_rm_range *ranges)
{
	struct gunyah_rm_range *range = NULL;
	struct gmem_binding *b;
	unsigned long gfn = 0;
	u64 base, end;
	u32 nr = 0;

	while ((b = gmem_binding_next(vm, &gfn, vm->max_gfn))) {
		if (!gmem_binding_lent(b))
			continue;
		base = PFN_PHYS(gmem_binding_gfn(b, b->first));
		end = PFN_PHYS(gmem_binding_gfn(b, b->last) + 1);
		if (!range || le64_to_cpu(range->base) +
			      le64_to_cpu(range->size) != base) {
			if (nr == GUNYAH_RM_MAX_RANGES)
				break;
			range = &ranges[nr++];
			range->base = cpu_to_le64(base);
		}
		range->size = cpu_to_le64(end - le64_to_cpu(range->base));
	}
	return nr;
}

static int gunyah_start_demand_paging(struct gunyah_vm *g)
{
	struct gunyah_rm_range *ranges;
	int err;
	u32 nr;

	ranges = kcalloc(GUNYAH_RM_MAX_RANGES, sizeof(*ranges), GFP_KERNEL);
	if (!ranges)
		return -ENOMEM;
	if (mutex_lock_killable(&g->vm->lock)) {
		kfree(ranges);
		return -EINTR;
	}
	nr = gunyah_start_collect(g->vm, ranges);
	mutex_unlock(&g->vm->lock);
	err = gunyah_rm_vm_set_demand_paging(g->rm, g->vmid, ranges, nr);
	kfree(ranges);
	if (err != -EOPNOTSUPP)
		return err;
	gunyah_start_set_memory(g, GUNYAH_MEMORY_PARCELS);
	return 0;
}

static int gunyah_start_layout(struct gunyah_vm *g)
{
	if (g->memory == GUNYAH_MEMORY_PARCELS)
		return 0;
	return gunyah_rm_vm_set_address_layout(g->rm, g->vmid,
					       PFN_PHYS(g->first),
					       PFN_PHYS(g->last + 1 -
							g->first));
}

/* With parcels, provide all bound memory: the guest can't ask for it later. */
static int gunyah_start_provide(struct gunyah_vm *g)
{
	int err;

	if (g->memory != GUNYAH_MEMORY_PARCELS)
		return 0;
	if (mutex_lock_killable(&g->vm->lock))
		return -EINTR;
	err = gmem_vm_populate_all(g->vm);
	mutex_unlock(&g->vm->lock);
	return err;
}

static int gunyah_start_init(struct gunyah_vm *g)
{
	WRITE_ONCE(g->phase, GUNYAH_PHASE_INITIALISING);
	return gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_INIT, g->vmid);
}

static int gunyah_start_extent(struct gunyah_vm *g, u32 label, u64 cap)
{
	switch (label) {
	case GUNYAH_LABEL_GUEST_PRIVATE:
		g->extents.guest_private = cap;
		break;
	case GUNYAH_LABEL_HOST_SHARED:
		g->extents.host_shared = cap;
		break;
	case GUNYAH_LABEL_HOST_PRIVATE:
		g->extents.host_private = cap;
		break;
	case GUNYAH_LABEL_GUEST_SHARED:
		g->extents.guest_shared = cap;
		break;
	}
	return 0;
}

static int gunyah_start_resource(void *data,
				 const struct gunyah_rm_resource *res)
{
	struct gunyah_vm *g = data;
	u32 label = le32_to_cpu(res->label);
	u64 cap = le64_to_cpu(res->cap);

	switch (res->type) {
	case GUNYAH_RM_RESOURCE_VCPU:
		return gunyah_vcpu_found(g, label, cap);
	case GUNYAH_RM_RESOURCE_MEM_EXTENT:
		return gunyah_start_extent(g, label, cap);
	case GUNYAH_RM_RESOURCE_ADDR_SPACE:
		if (label == GUNYAH_LABEL_ADDRSPACE)
			g->extents.addrspace = cap;
		break;
	}
	return 0;
}

static int gunyah_start_resources(struct gunyah_vm *g)
{
	struct gunyah_extents *x = &g->extents;
	bool complete;
	int err;

	err = gunyah_rm_vm_get_resources(g->rm, g->vmid, gunyah_start_resource,
					 g);
	if (err || g->memory == GUNYAH_MEMORY_PARCELS)
		return err;

	/* On some platforms, one extent of the host serves both uses. */
	if (!x->host_private)
		x->host_private = x->host_shared;
	if (!x->host_shared)
		x->host_shared = x->host_private;
	complete = x->addrspace && x->guest_private && x->guest_shared &&
		   x->host_private;
	gunyah_start_set_memory(g, complete ? GUNYAH_MEMORY_EXTENTS :
					      GUNYAH_MEMORY_PARCELS);
	return gunyah_start_provide(g);
}

static int gunyah_start_boot_context(struct gunyah_vm *g)
{
	unsigned int reg;
	u8 set, index;
	int err;

	for_each_set_bit(reg, g->boot_set, GUNYAH_NR_BOOT_REGS) {
		if (reg < GUNYAH_NR_X) {
			set = GMEM_GUNYAH_REG_SET_X;
			index = reg;
		} else if (reg == GUNYAH_NR_X) {
			set = GMEM_GUNYAH_REG_SET_PC;
			index = 0;
		} else {
			set = GMEM_GUNYAH_REG_SET_SP;
			index = reg - GUNYAH_NR_X - 1;
		}
		err = gunyah_rm_vm_set_boot_context(g->rm, g->vmid, set, index,
						    g->boot_value[reg]);
		if (err)
			return err;
	}
	return 0;
}

/* Under mem_lock, so that a reclaim finds the guest not started, or running. */
static int gunyah_start_run(struct gunyah_vm *g)
{
	int err;

	mutex_lock(&g->mem_lock);
	WRITE_ONCE(g->phase, GUNYAH_PHASE_STARTING);
	err = gunyah_rm_vm_start(g->rm, g->vmid, &g->late);
	if (!err)
		gunyah_vm_started(g);
	mutex_unlock(&g->mem_lock);
	return err;
}

/* @again: START may repeat the step: its failure leaves no trace. */
static const struct {
	const char *what;
	int (*fn)(struct gunyah_vm *g);
	bool again;
} gunyah_start_steps[] = {
	{ "get a VMID", gunyah_start_alloc_vmid, .again = true },
	{ "lend the device tree", gunyah_start_lend_dtb, .again = true },
	{ "configure the image", gunyah_start_config_image },
	{ "announce demand paging", gunyah_start_demand_paging },
	{ "announce the layout", gunyah_start_layout },
	{ "provide memory", gunyah_start_provide, .again = true },
	{ "initialise", gunyah_start_init },
	{ "get its resources", gunyah_start_resources },
	{ "set its registers", gunyah_start_boot_context },
	{ "start", gunyah_start_run },
};

/* -EBUSY (a pinned page) and -ENOMEM may go away: is another START allowed? */
static bool gunyah_start_again(const struct gunyah_vm *g, int err)
{
	return (err == -EBUSY || err == -ENOMEM) &&
	       gunyah_start_steps[g->step].again;
}

/* Begin with the step that failed in the last START. */
static int gunyah_start(struct gunyah_vm *g)
{
	int err;

	for (; g->step < ARRAY_SIZE(gunyah_start_steps); g->step++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = gunyah_start_steps[g->step].fn(g);
		if (!err)
			continue;
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u) can't %s: error %d%s\n",
				     g->vm->id, g->vmid,
				     gunyah_start_steps[g->step].what, err,
				     gunyah_start_again(g, err) ?
					     "; START may be called again" : "");
		return err;
	}
	dev_dbg(g->rm->dev, "VM %u (VMID %u) runs, with memory by %s\n",
		g->vm->id, g->vmid,
		g->memory == GUNYAH_MEMORY_EXTENTS ? "extents" : "parcels");
	return 0;
}

static int gunyah_start_check_dtb(struct gunyah_vm *g)
{
	int err;

	if (mutex_lock_killable(&g->vm->lock))
		return -EINTR;
	err = gunyah_start_find_dtb(g);
	mutex_unlock(&g->vm->lock);
	return err;
}

int gunyah_vm_start_call(void *obj, void *arg)
{
	const unsigned long *value = arg;
	struct gmem_vm *vm = obj;
	struct gunyah_vm *g = vm->provider_data;
	int err;

	if (*value)
		return -EINVAL;
	if (mutex_lock_killable(&g->life_lock))
		return -EINTR;
	/* Report the caller's mistakes before the first step. */
	if (g->started)
		err = -EALREADY;
	else if (!g->dtb_size)
		err = -EINVAL;
	else
		err = gunyah_start_check_dtb(g);
	if (!err) {
		err = gunyah_start(g);
		g->started = !err || !gunyah_start_again(g, err);
		WRITE_ONCE(g->failed, err && g->started);
	}
	mutex_unlock(&g->life_lock);
	/* -ETIMEDOUT and -EBADMSG are internal: the uAPI doesn't have them. */
	return err == -ETIMEDOUT || err == -EBADMSG ? -EIO : err;
}
