// SPDX-License-Identifier: GPL-2.0-only
/*
 * The start of a VM, in steps. gunyah_vm.phase records how far the start has
 * come, so that the end of the VM undoes exactly these steps, whether the start
 * has failed or the process was killed.
 *
 * A Resource Manager with demand paging grants extents at VM_INIT. A Resource
 * Manager without it takes all memory in parcels, which reach the guest at
 * VM_START.
 */
#include <linux/device.h>
#include <linux/slab.h>

#include "../binding.h"
#include "../map.h"
#include "../objects.h"
#include "../unmap.h"
#include "image.h"
#include "objects.h"
#include "parcels.h"
#include "resources.h"
#include "rm_calls.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"
#include "start.h"
#include "vcpu_file.h"
#include "vm.h"

/*
 * How long the RM may take to map a piece. The public one takes about 0.5 ms.
 */
#define GUNYAH_START_PIECE_MS 5

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
	gunyah_vm_set_vmid(g, vmid);
	return 0;
}

static int gunyah_start_listen(struct gunyah_vm *g)
{
	return gunyah_rm_listen(g->rm, &g->listener, g->vmid);
}

/* Every platform takes the image in a parcel. */
static int gunyah_start_lend_image(struct gunyah_vm *g)
{
	u64 nr_pages = 0;
	int err;

	/*
	 * No other thread can provide a page in a parcel now, since the lock is
	 * held until the memory type is NONE again.
	 */
	if (gmem_vm_lock_killable(g->vm))
		return -EINTR;
	err = gunyah_image_find(g);
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
	struct gunyah_rm_image image = {};
	int err;

	mutex_lock(&g->mem_lock);
	err = gunyah_image_describe(g, &image);
	if (!err)
		g->image = image.handle;
	mutex_unlock(&g->mem_lock);
	if (err)
		return err;
	WRITE_ONCE(g->phase, GUNYAH_PHASE_CONFIGURING);
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

	if (!g->rm->demand_paging) {
		gunyah_start_set_memory(g, GUNYAH_MEMORY_PARCELS);
		return 0;
	}
	ranges = kcalloc(GUNYAH_RM_MAX_RANGES, sizeof(*ranges), GFP_KERNEL);
	if (!ranges)
		return -ENOMEM;
	if (gmem_vm_lock_killable(g->vm)) {
		kfree(ranges);
		return -EINTR;
	}
	nr = gunyah_start_collect(g->vm, ranges);
	mutex_unlock(&g->vm->lock);
	err = gunyah_rm_vm_set_demand_paging(g->rm, g->vmid, ranges, nr);
	kfree(ranges);
	return err;
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
	if (gmem_vm_lock_killable(g->vm))
		return -EINTR;
	err = gmem_vm_populate_all(g->vm);
	if (!err) {
		mutex_lock(&g->mem_lock);
		WRITE_ONCE(g->sealed, true);
		mutex_unlock(&g->mem_lock);
	}
	mutex_unlock(&g->vm->lock);
	return err;
}

static int gunyah_start_init(struct gunyah_vm *g)
{
	WRITE_ONCE(g->phase, GUNYAH_PHASE_INITIALISING);
	return gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_INIT, g->vmid);
}

static int gunyah_start_resources(struct gunyah_vm *g)
{
	int err = gunyah_resources_get(g);

	if (!err && g->memory == GUNYAH_MEMORY_NONE)
		gunyah_start_set_memory(g, GUNYAH_MEMORY_EXTENTS);
	return err;
}

static int gunyah_start_boot_context(struct gunyah_vm *g)
{
	unsigned int reg;
	u8 set, index;
	int err;

	/* The registers are in the description of the image. */
	if (!g->rm->boot_context)
		return 0;
	for_each_set_bit(reg, g->boot_set, GUNYAH_NR_BOOT_REGS) {
		if (reg < GUNYAH_NR_X) {
			set = GMEM_GUNYAH_REG_SET_X;
			index = reg;
		} else if (reg == GUNYAH_REG_PC) {
			set = GMEM_GUNYAH_REG_SET_PC;
			index = 0;
		} else {
			set = GMEM_GUNYAH_REG_SET_SP;
			index = reg - GUNYAH_REG_SP;
		}
		err = gunyah_rm_vm_set_boot_context(g->rm, g->vmid, set, index,
						    g->boot_value[reg]);
		if (err)
			return err;
	}
	return 0;
}

/*
 * The RM maps each physical piece of each parcel to the guest before it
 * answers. Wait longer for more pieces.
 */
static int gunyah_start_wait(struct gunyah_vm *g)
{
	unsigned long end = jiffies + msecs_to_jiffies(READ_ONCE(g->nr_pieces) *
						       GUNYAH_START_PIECE_MS);
	struct gunyah_rpc *late = g->late;
	int err;

	while (!completion_done(&late->done)) {
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		if (wait_for_completion_killable_timeout(&late->done,
							 gunyah_rm_slice(g->rm)) < 0)
			return -EINTR;
		gunyah_rm_receive(g->rm);
	}
	err = late->err;
	g->late = NULL;
	gunyah_rpc_put(late);
	return err;
}

static int gunyah_start_ask(struct gunyah_vm *g)
{
	return gunyah_rm_vm_call_late(g->rm, GUNYAH_RM_VM_START, g->vmid,
				      &g->late);
}

static int gunyah_start_finish(struct gunyah_vm *g, int err)
{
	lockdep_assert_held(&g->mem_lock);
	if (!err)
		gunyah_vm_started(g);
	else if (!g->late)
		WRITE_ONCE(g->phase, GUNYAH_PHASE_INITIALISING);
	/*
	 * NORESOURCE: memory can't be where the guest's device tree wants it.
	 */
	return err == -ENODEV ? -EADDRNOTAVAIL : err;
}

static int gunyah_start_run(struct gunyah_vm *g)
{
	int err;

	/*
	 * From here on, no parcel comes back before the guest's end. With
	 * extents, a reclaim must find the guest not started, or running.
	 */
	mutex_lock(&g->mem_lock);
	WRITE_ONCE(g->phase, GUNYAH_PHASE_STARTING);
	if (g->memory == GUNYAH_MEMORY_PARCELS) {
		mutex_unlock(&g->mem_lock);
		err = gunyah_start_ask(g);
		if (err == -ETIMEDOUT)
			err = gunyah_start_wait(g);
		mutex_lock(&g->mem_lock);
	} else {
		err = gunyah_start_ask(g);
	}
	err = gunyah_start_finish(g, err);
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
	{ "wait for notifications", gunyah_start_listen, .again = true },
	{ "lend the image", gunyah_start_lend_image, .again = true },
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

static int gunyah_start_check_image(struct gunyah_vm *g)
{
	int err;

	if (gmem_vm_lock_killable(g->vm))
		return -EINTR;
	err = gunyah_image_check(g);
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
		err = gunyah_start_check_image(g);
	if (!err) {
		err = gunyah_start(g);
		g->started = !err || !gunyah_start_again(g, err);
		WRITE_ONCE(g->failed, err && g->started);
	}
	mutex_unlock(&g->life_lock);
	/* These are internal: the uAPI doesn't have them. */
	return err == -ETIMEDOUT || err == -EBADMSG || err == -EBADFD ? -EIO :
									err;
}
