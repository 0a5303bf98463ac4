// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of a VM. Its last descriptor is closed, so no vCPU can run. The
 * steps:
 *
 *   VM_STOP, VM_EXITED    if the guest runs
 *   VM_INIT               if the start may have ended before that
 *   VM_RESET, VM_STATUS   if there are parcels: the RM keeps what the guest has
 *                         accepted until the guest is reset
 *   MEM_RECLAIM           all parcels
 *   (the core takes all other memory back)
 *   VM_RESET, VM_STATUS   if there were no parcels
 *   VM_DEALLOC_VMID       unless the RM keeps parcels of the VM
 *
 * A reset takes the RM time for each physical piece: many seconds for a large
 * guest of small pages. So slow isn't lost: each step can be repeated, and
 * after one wait a work item of the core's goes on, for as long as it takes. It
 * tries again when the RM has reset the guest, at late replies, and now and
 * then. Until then, the memory counts as lent. The operator can end the wait.
 *
 * The end never fails. It logs every refusal of the RM, and the core leaks the
 * memory that the RM keeps.
 */
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "../objects.h"
#include "end.h"
#include "function.h"
#include "objects.h"
#include "parcels.h"
#include "platform.h"
#include "pm.h"
#include "reset.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"
#include "vm.h"

static unsigned int gunyah_give_up_s;
module_param_named(gunyah_give_up_s, gunyah_give_up_s, uint, 0644);
MODULE_PARM_DESC(gunyah_give_up_s,
		 "Gunyah: after so many seconds, memory that the Resource Manager still hasn't given back after the end of a VM counts as lost, until reboot. 0: never. (default: 0)");

static void gunyah_end_complain(struct gunyah_vm *g, const char *what, int err)
{
	dev_warn_ratelimited(g->rm->dev, "VM %u (VMID %u): %s: error %d\n",
			     g->vm->id, g->vmid, what, err);
}

/* ---- waiting ---- */

/* The longest wait between two tries, in units of gunyah_rm_timeout_ms. */
#define GUNYAH_END_ROUNDS 12U

/* The facts that a step may wait for. A change of one is news. */
struct gunyah_end_news {
	bool exited;
	bool has_reset;
	s64 late_replies;
};

static struct gunyah_end_news gunyah_end_news(struct gunyah_vm *g)
{
	const struct gunyah_rm_counters *counters = &g->rm->counters;

	return (struct gunyah_end_news) {
		.exited = READ_ONCE(g->exited),
		.has_reset = READ_ONCE(g->has_reset),
		.late_replies = atomic64_read_acquire(&counters->late_replies),
	};
}

static bool gunyah_end_has_news(struct gunyah_vm *g,
				const struct gunyah_end_news *old)
{
	struct gunyah_end_news now = gunyah_end_news(g);

	return now.exited != old->exited || now.has_reset != old->has_reset ||
	       now.late_replies != old->late_replies;
}

static bool gunyah_end_time_is_up(const struct gunyah_vm *g)
{
	unsigned long s = READ_ONCE(gunyah_give_up_s);

	return s && time_after(jiffies, g->end_began + s * HZ);
}

static void gunyah_end_say_waits(struct gunyah_vm *g)
{
	if (g->end_waits)
		return;
	g->end_waits = true;
	atomic64_inc(&g->rm->counters.vms_waiting);
	dev_info(g->rm->dev,
		 "VM %u (VMID %u) has ended, and the Resource Manager still works on that: gmem waits for its memory (gmem.gunyah_give_up_s ends the wait)\n",
		 g->vm->id, g->vmid);
}

/*
 * Repeat @step until it is done. False: that takes long; call this again, with
 * @wait, in a work item.
 */
static bool gunyah_end_repeat(struct gunyah_vm *g, bool wait,
			      bool (*step)(struct gunyah_vm *g))
{
	struct gunyah_end_news news;
	unsigned int round;

	for (round = 1;; round++) {
		news = gunyah_end_news(g);
		if (step(g))
			return true;
		if (round > 1 && !wait)
			return false;
		if (!g->end_began)
			g->end_began = jiffies ?: 1;
		if (round > 1)
			gunyah_end_say_waits(g);
		/* Without news, ask a slow RM less and less often. */
		gunyah_rm_wait(g->rm, gunyah_end_has_news(g, &news) ||
			       (!g->gave_up && gunyah_end_time_is_up(g)),
			       READ_ONCE(gunyah_rm_timeout_ms) *
			       min(round, GUNYAH_END_ROUNDS));
		if (gunyah_end_time_is_up(g))
			WRITE_ONCE(g->gave_up, true);
	}
}

/* ---- the steps; each returns false if it must be repeated ---- */

/*
 * Find out whether the RM has carried out a request of the start that timed
 * out. If that is VM_START with extents, the RM no longer knows the parcel of
 * the image, so the host can't take the image back before this function has
 * run.
 */
static bool gunyah_end_catch_up(struct gunyah_vm *g)
{
	struct gunyah_rpc *late = g->late;
	u16 vmid;

	if (!late)
		return true;
	if (!completion_done(&late->done)) {
		if (!g->gave_up)
			return false;
		gunyah_end_complain(g, "no answer to a step of its start",
				    -ETIMEDOUT);
	} else if (late->message == GUNYAH_RM_VM_START) {
		mutex_lock(&g->mem_lock);
		if (late->err)
			WRITE_ONCE(g->phase, GUNYAH_PHASE_INITIALISING);
		else
			gunyah_vm_started(g);
		mutex_unlock(&g->mem_lock);
	} else if (!late->err && !gunyah_rm_reply_vmid(late, &vmid)) {
		gunyah_vm_set_vmid(g, vmid);
	}
	g->late = NULL;
	gunyah_rpc_put(late);
	return true;
}

static bool gunyah_end_guest(struct gunyah_vm *g)
{
	int err;

	if (g->phase < GUNYAH_PHASE_STARTING || READ_ONCE(g->exited))
		return true;
	err = gunyah_rm_vm_stop(g->rm, g->vmid);
	/* It doesn't run: it has ended by itself. */
	if (err == -EBADFD || READ_ONCE(g->exited))
		return true;
	if ((!err || gunyah_rm_is_slow(err)) && !g->gave_up)
		return false;
	gunyah_end_complain(g, "not known to have stopped", err ?: -ETIMEDOUT);
	return true;
}

/* False: it isn't known to have been reset; wait before the next step. */
static bool gunyah_end_try_reset(struct gunyah_vm *g)
{
	bool awaited = g->reset_awaited;

	if (g->phase < GUNYAH_PHASE_CONFIGURING || g->gave_up ||
	    gunyah_vm_reset(g) != -EAGAIN)
		return true;
	/* Wait for the report once. It may be lost, and the next step tells. */
	g->reset_awaited = g->reset_asked;
	return awaited;
}

static bool gunyah_end_parcels(struct gunyah_vm *g)
{
	bool done;

	mutex_lock(&g->mem_lock);
	/* The core takes all memory back next. */
	WRITE_ONCE(g->stopped, true);
	done = (!g->nr_parcels || gunyah_end_try_reset(g)) &&
	       gunyah_parcels_settle(g);
	mutex_unlock(&g->mem_lock);
	return done;
}

static bool gunyah_end_reset(struct gunyah_vm *g)
{
	bool done;

	mutex_lock(&g->mem_lock);
	done = gunyah_end_try_reset(g);
	mutex_unlock(&g->mem_lock);
	return done;
}

static bool gunyah_end_vmid(struct gunyah_vm *g)
{
	/* Look before the RM answers: it reports the reset last. */
	bool resetting = g->reset_asked && !READ_ONCE(g->has_reset);
	struct gunyah_rpc *late = g->freeing;
	int err;

	if (g->phase < GUNYAH_PHASE_LOADING)
		return true;
	/* The RM would give this memory to the next VM that has the VMID. */
	if (g->nr_parcels) {
		gunyah_end_complain(g, "its VMID stays in use, for parcels that the Resource Manager keeps",
				    -EBUSY);
		return true;
	}
	if (!late) {
		err = gunyah_rm_vm_call_late(g->rm, GUNYAH_RM_VM_DEALLOC_VMID,
					     g->vmid, &g->freeing);
	} else if (completion_done(&late->done)) {
		err = late->err;
		g->freeing = NULL;
		gunyah_rpc_put(late);
	} else {
		/*
		 * Don't ask again: another VM may have the VMID by now. If it
		 * has, the RM has carried out the request.
		 */
		err = gunyah_rm_replaced(g->rm, &g->listener) ? 0 : -ETIMEDOUT;
	}
	if (!g->gave_up && (gunyah_rm_is_slow(err) ||
			    (resetting && (err == -EBADFD || err == -EBUSY))))
		return false;
	if (err)
		gunyah_end_complain(g, "its VMID stays in use", err);
	return true;
}

/* ---- for the core ---- */

bool gunyah_vm_stop(struct gmem_vm *vm, bool wait)
{
	struct gunyah_vm *g = vm->provider_data;

	gunyah_functions_end(g);
	return gunyah_end_repeat(g, wait, gunyah_end_catch_up) &&
	       gunyah_end_repeat(g, wait, gunyah_end_guest) &&
	       gunyah_end_repeat(g, wait, gunyah_end_parcels);
}

bool gunyah_vm_release(struct gmem_vm *vm, bool wait)
{
	struct gunyah_vm *g = vm->provider_data;

	if (!gunyah_end_repeat(g, wait, gunyah_end_reset) ||
	    !gunyah_end_repeat(g, wait, gunyah_end_vmid))
		return false;
	gunyah_parcels_end(g);
	gunyah_rm_unlisten(g->rm, &g->listener);
	gunyah_rpc_put(g->freeing);
	if (g->end_waits)
		atomic64_dec(&g->rm->counters.vms_waiting);

	gunyah_pm_end(g);
	/* The entries that are left belong to leaked pages. */
	xa_destroy(&g->pages);
	mutex_destroy(&g->mem_lock);
	mutex_destroy(&g->functions_lock);
	mutex_destroy(&g->life_lock);
	gunyah_platform_put_rm(g->rm);
	kfree(g);
	return true;
}
