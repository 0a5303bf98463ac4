// SPDX-License-Identifier: GPL-2.0-only
#include <linux/device.h>
#include <linux/gmem_gunyah.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>

#include "../objects.h"
#include "halt.h"
#include "objects.h"
#include "rm.h"
#include "rm_calls.h"
#include "vcpu.h"
#include "vm.h"

/* A vCPU that is off is looked at every 100 ms, or later under load. */
#define GUNYAH_HALT_LEAST_MS 500U

static bool gunyah_halt_is_off(const struct gunyah_vcpu_slot *slot,
			       unsigned long limit)
{
	unsigned long since = READ_ONCE(slot->off_since);
	unsigned long last = READ_ONCE(slot->off_last), now = jiffies;

	/* One without a descriptor can't run. */
	if (!slot->found || (!slot->vcpu && !READ_ONCE(slot->on)))
		return true;
	return since && !time_after(since + limit, now) &&
	       !time_after(now, last + limit);
}

/*
 * Have all vCPUs been off for @limit? A vCPU that nobody runs may be on. But if it
 * was off less than @limit ago, all others were off then, and none of them can have
 * turned it on since.
 */
static bool gunyah_halt_all_off(struct gunyah_vm *g, unsigned long limit)
{
	struct gunyah_vcpu_slot *slot;
	unsigned long label;
	bool off = true;

	mutex_lock(&g->functions_lock);
	xa_for_each(&g->vcpus, label, slot)
		off = off && gunyah_halt_is_off(slot, limit);
	mutex_unlock(&g->functions_lock);
	return off;
}

static void gunyah_halt_stop(struct gunyah_vm *g)
{
	int err;

	dev_info_ratelimited(g->rm->dev,
			     "VM %u (VMID %u): all its vCPUs are off, and the Resource Manager doesn't report its end: stop it\n",
			     g->vm->id, g->vmid);
	err = gunyah_rm_vm_stop(g->rm, g->vmid);
	/* It has ended, and only the report is missing. */
	if (err == -EBADFD)
		gunyah_vm_exited(g, GMEM_GUNYAH_EXIT_OFF, NULL, 0);
	else if (err)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): can't be stopped: error %d\n",
				     g->vm->id, g->vmid, err);
}

void gunyah_halt_off(struct gunyah_vcpu *vcpu)
{
	struct gunyah_vcpu_slot *slot = vcpu->slot;
	unsigned long limit, now = jiffies;
	struct gunyah_vm *g = vcpu->g;

	limit = msecs_to_jiffies(max(READ_ONCE(gunyah_rm_timeout_ms),
				     GUNYAH_HALT_LEAST_MS));
	/* A vCPU that nobody has run for longer may have been on. */
	if (!slot->off_since || time_after(now, slot->off_last + limit))
		WRITE_ONCE(slot->off_since, now ?: 1);
	WRITE_ONCE(slot->off_last, now);
	WRITE_ONCE(slot->on, false);
	if (time_before(now, slot->off_since + limit) ||
	    !mutex_trylock(&g->life_lock))
		return;
	/* If the RM doesn't take the request, try again after the same time. */
	if (!READ_ONCE(g->exited) && gunyah_halt_all_off(g, limit)) {
		gunyah_halt_stop(g);
		WRITE_ONCE(slot->off_since, jiffies ?: 1);
	}
	mutex_unlock(&g->life_lock);
}

void gunyah_halt_on(struct gunyah_vcpu *vcpu)
{
	WRITE_ONCE(vcpu->slot->off_since, 0);
	WRITE_ONCE(vcpu->slot->on, true);
}
