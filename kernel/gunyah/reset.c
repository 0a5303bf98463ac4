// SPDX-License-Identifier: GPL-2.0-only
#include <linux/device.h>

#include "../objects.h"
#include "../piece.h"
#include "function.h"
#include "objects.h"
#include "reset.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_receive.h"
#include "rm_wire.h"

/*
 * Between VM_CONFIG_IMAGE and VM_INIT, the RM neither resets a VM nor frees its
 * VMID. So carry on with the start to get out of this state, which the VM may
 * be in until VM_INIT is known to have succeeded. The answer doesn't matter.
 */
static int gunyah_vm_leave_config(struct gunyah_vm *g)
{
	int err;

	if (g->phase >= GUNYAH_PHASE_STARTING)
		return 0;
	err = gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_INIT, g->vmid);
	return gunyah_rm_is_slow(err) ? -EAGAIN : 0;
}

int gunyah_vm_reset(struct gunyah_vm *g)
{
	int err;

	lockdep_assert_held(&g->mem_lock);
	if (READ_ONCE(g->has_reset))
		return 0;
	if (g->reset_err || g->reset_asked)
		return g->reset_err ?: -EAGAIN;
	err = gunyah_vm_leave_config(g);
	if (err)
		return err;
	if (!gunyah_functions_disconnect(g))
		return -EAGAIN;

	err = gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_RESET, g->vmid);
	if (gunyah_rm_is_slow(err)) {
		g->reset_sent = true;
		return -EAGAIN;
	}
	/* An earlier request, whose reply didn't come, has begun the reset. */
	if (err == -EBADFD && g->reset_sent)
		err = 0;
	if (err == -EBUSY)
		return -EAGAIN;
	g->reset_asked = !err;
	if (!err)
		return READ_ONCE(g->has_reset) ? 0 : -EAGAIN;
	/* While the VM is open, the next call asks again. */
	if (g->stopped)
		g->reset_err = err;
	dev_warn_ratelimited(g->rm->dev,
			     "VM %u (VMID %u): the Resource Manager doesn't reset it: error %d\n",
			     g->vm->id, g->vmid, err);
	return err;
}

int gunyah_vm_reset_wait(struct gunyah_vm *g)
{
	int err = gunyah_vm_reset(g);

	if (err != -EAGAIN || !g->reset_asked)
		return err;
	if (!g->reset_awaited)
		gunyah_rm_wait(g->rm, READ_ONCE(g->has_reset) || gmem_killed(),
			       READ_ONCE(gunyah_rm_timeout_ms));
	g->reset_awaited = true;
	return 0;
}
