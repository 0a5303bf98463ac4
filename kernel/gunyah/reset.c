// SPDX-License-Identifier: GPL-2.0
#include <linux/device.h>

#include "../objects.h"
#include "objects.h"
#include "reset.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_receive.h"
#include "rm_wire.h"

void gunyah_vm_reset(struct gunyah_vm *g)
{
	int err;

	lockdep_assert_held(&g->mem_lock);
	if (g->reset_asked)
		return;
	g->reset_asked = true;
	err = gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_RESET, g->vmid);
	if (!err && !gunyah_rm_wait(g->rm, READ_ONCE(g->has_reset),
				    READ_ONCE(gunyah_rm_timeout_ms)))
		err = -ETIMEDOUT;
	if (err)
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u (VMID %u): not known to have been reset: error %d\n",
				     g->vm->id, g->vmid, err);
}
