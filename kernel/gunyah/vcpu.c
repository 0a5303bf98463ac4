// SPDX-License-Identifier: GPL-2.0-only
/*
 * The loop that runs a vCPU until the VMM has something to do.
 *
 * A hypercall runs the vCPU until an event. The loop handles page faults
 * itself: it provides the page if it is bound, and runs the vCPU again.
 */
#include <linux/device.h>
#include <linux/gmem_gunyah.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "../fault.h"
#include "../objects.h"
#include "halt.h"
#include "hypercall.h"
#include "ioeventfd.h"
#include "objects.h"
#include "rm_receive.h"
#include "vcpu.h"
#include "vcpu_irq.h"

/*
 * Page faults in a row at one address before the VMM gets to know. The host may
 * take the page back again and again, but not without end.
 */
#define GUNYAH_VCPU_FAULTS 100
/* How long to wait for the RM's notification after a vCPU reports the end. */
#define GUNYAH_VCPU_EXIT_MS 1000

/* ---- exits ---- */

static void gunyah_vcpu_answer(struct gunyah_vcpu *vcpu, u32 exit_reason)
{
	vcpu->answer = exit_reason;
	WRITE_ONCE(vcpu->run->exit_reason, exit_reason);
}

/* Report the end of the VM to the VMM, with the RM's reason if there is one. */
static void gunyah_vcpu_tell_status(struct gunyah_vcpu *vcpu,
				    enum gmem_gunyah_vm_status status)
{
	struct gunyah_vm *g = vcpu->g;

	vcpu->run->status.status = status;
	spin_lock(&g->status_lock);
	vcpu->run->status.exit_info = g->exit_info;
	spin_unlock(&g->status_lock);
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_STATUS);
}

static int gunyah_vcpu_ended(struct gunyah_vcpu *vcpu)
{
	bool exited = gunyah_rm_wait(vcpu->g->rm, READ_ONCE(vcpu->g->exited),
				     GUNYAH_VCPU_EXIT_MS);

	gunyah_vcpu_tell_status(vcpu, exited ? GMEM_GUNYAH_VM_STATUS_EXITED :
					       GMEM_GUNYAH_VM_STATUS_CRASHED);
	return 0;
}

/* The guest has asked for a reset. The RM's notification of it may not come. */
static int gunyah_vcpu_reset(struct gunyah_vcpu *vcpu)
{
	gunyah_vcpu_ended(vcpu);
	if (vcpu->run->status.status != GMEM_GUNYAH_VM_STATUS_EXITED) {
		vcpu->run->status.status = GMEM_GUNYAH_VM_STATUS_EXITED;
		vcpu->run->status.exit_info.type = GMEM_GUNYAH_EXIT_RESET;
	}
	return 0;
}

/* Only with extents can Gunyah repeat or fail an access. */
static bool gunyah_vcpu_retries(const struct gunyah_vcpu *vcpu)
{
	return READ_ONCE(vcpu->g->memory) == GUNYAH_MEMORY_EXTENTS;
}

static bool gunyah_vcpu_bound(struct gunyah_vcpu *vcpu, u64 addr)
{
	bool bound;

	if (PHYS_PFN(addr) > vcpu->g->vm->max_gfn)
		return false;
	rcu_read_lock();
	bound = mtree_load(&vcpu->g->vm->bindings, PHYS_PFN(addr));
	rcu_read_unlock();
	return bound;
}

/* Provide the page at @addr. 0 or an errno. */
static int gunyah_vcpu_provide(struct gunyah_vcpu *vcpu, u64 addr, bool write)
{
	struct gmem_guest_access access = {
		.vm = vcpu->g->vm,
		.gfn = PHYS_PFN(addr),
		.access = write ? GMEM_ACCESS_WRITE : GMEM_ACCESS_READ,
	};

	if (access.gfn > access.vm->max_gfn)
		return -ENOENT;
	return gmem_fault_resolve(&access);
}

/* 1: run the guest again; 0: return to the VMM; or -EINTR. */
static int gunyah_vcpu_page_fault(struct gunyah_vcpu *vcpu, u64 addr,
				  bool write)
{
	struct gmem_gunyah_vcpu_run *run = vcpu->run;
	int err;

	if (addr != vcpu->fault_addr)
		vcpu->nr_faults = 0;
	vcpu->fault_addr = addr;
	err = gunyah_vcpu_provide(vcpu, addr, write);
	if (!err && ++vcpu->nr_faults < GUNYAH_VCPU_FAULTS)
		return 1;
	/* The page is there, so the guest lacks the right to this access. */
	if (!err)
		err = -EACCES;
	vcpu->nr_faults = 0;
	if (err == -EINTR)
		return err;
	run->page_fault.phys_addr = addr;
	run->page_fault.attempt = err;
	run->page_fault.resume_action = GMEM_GUNYAH_VCPU_RESUME_RETRY;
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT);
	return 0;
}

static int gunyah_vcpu_mmio(struct gunyah_vcpu *vcpu, const u64 data[3],
			    bool write)
{
	struct gmem_gunyah_vcpu_run *run = vcpu->run;
	int ret;

	/*
	 * Gunyah reports memory that was bound after the start as a device.
	 * With extents it can be provided; with parcels it can't.
	 */
	if (gunyah_vcpu_retries(vcpu) && gunyah_vcpu_bound(vcpu, data[0])) {
		ret = gunyah_vcpu_page_fault(vcpu, data[0], write);
		if (ret > 0)
			vcpu->resume[1] = GUNYAH_VCPU_RESUME_RETRY;
		return ret;
	}
	if (write && gunyah_ioeventfd_write(vcpu->g, data[0], data[1], data[2]))
		return 1;
	run->mmio.phys_addr = data[0];
	run->mmio.len = min_t(u64, data[1], sizeof(run->mmio.data));
	run->mmio.is_write = write;
	run->mmio.resume_action = GMEM_GUNYAH_VCPU_RESUME_HANDLED;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (write)
		memcpy(run->mmio.data, &data[2], sizeof(run->mmio.data));
	vcpu->mmio_write = write;
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_MMIO);
	return 0;
}

/* ---- running ---- */

/* Turn the VMM's answer to the last exit into the values for Gunyah. */
static int gunyah_vcpu_take_answer(struct gunyah_vcpu *vcpu)
{
	const struct gmem_gunyah_vcpu_run *run = vcpu->run;
	u64 value = 0;
	u8 action;

	switch (vcpu->answer) {
	case GMEM_GUNYAH_VCPU_EXIT_MMIO:
		action = READ_ONCE(run->mmio.resume_action);
		break;
	case GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT:
		action = READ_ONCE(run->page_fault.resume_action);
		if (action == GMEM_GUNYAH_VCPU_RESUME_HANDLED)
			return -EINVAL;
		break;
	default:
		return 0;
	}

	/* After a page fault the guest always repeats the access. */
	if (!vcpu->mmio) {
		if (action == GMEM_GUNYAH_VCPU_RESUME_FAULT)
			return -EOPNOTSUPP;
		if (action != GMEM_GUNYAH_VCPU_RESUME_RETRY)
			return -EINVAL;
		vcpu->answer = GMEM_GUNYAH_VCPU_EXIT_UNKNOWN;
		return 0;
	}
	if (action != GMEM_GUNYAH_VCPU_RESUME_HANDLED &&
	    !gunyah_vcpu_retries(vcpu))
		return -EOPNOTSUPP;
	switch (action) {
	case GMEM_GUNYAH_VCPU_RESUME_HANDLED:
		if (!vcpu->mmio_write) {
			memcpy(&value, run->mmio.data, sizeof(value));
			vcpu->resume[0] = value;
		}
		break;
	case GMEM_GUNYAH_VCPU_RESUME_FAULT:
		vcpu->resume[1] = GUNYAH_VCPU_RESUME_FAULT;
		break;
	case GMEM_GUNYAH_VCPU_RESUME_RETRY:
		vcpu->resume[1] = GUNYAH_VCPU_RESUME_RETRY;
		break;
	default:
		return -EINVAL;
	}
	vcpu->answer = GMEM_GUNYAH_VCPU_EXIT_UNKNOWN;
	return 0;
}

/* 1: run the guest again; 0 or an errno: the result of the ioctl. */
static int gunyah_vcpu_exit(struct gunyah_vcpu *vcpu, u64 state,
			    const u64 data[3])
{
	if (state != GUNYAH_VCPU_POWERED_OFF)
		gunyah_halt_on(vcpu);
	switch (state) {
	case GUNYAH_VCPU_READY:
		return 1;
	case GUNYAH_VCPU_POWERED_OFF:
		/*
		 * Another vCPU may turn this one on; the RM notifies the end of
		 * the VM.
		 */
		gunyah_halt_off(vcpu);
		fallthrough;
	case GUNYAH_VCPU_EXPECTS_WAKEUP:
		gunyah_vcpu_wait(vcpu);
		return 1;
	case GUNYAH_VCPU_BLOCKED:
		/* The hypervisor needs the vCPU for a moment: no interrupt. */
		gunyah_vcpu_pause(vcpu);
		return 1;
	case GUNYAH_VCPU_FAULT:
		return gunyah_vcpu_ended(vcpu);
	case GUNYAH_VCPU_SYSTEM_RESET:
		return gunyah_vcpu_reset(vcpu);
	case GUNYAH_VCPU_VMMIO_READ:
	case GUNYAH_VCPU_VMMIO_WRITE:
		return gunyah_vcpu_mmio(vcpu, data,
					state == GUNYAH_VCPU_VMMIO_WRITE);
	case GUNYAH_VCPU_PAGE_FAULT:
		return gunyah_vcpu_page_fault(vcpu, data[0], data[1]);
	}
	dev_warn_ratelimited(vcpu->g->rm->dev,
			     "VM %u (VMID %u): vCPU %u in unknown state %#llx\n",
			     vcpu->g->vm->id, vcpu->g->vmid, vcpu->label,
			     state);
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_UNKNOWN);
	return 0;
}

static int gunyah_vcpu_loop(struct gunyah_vcpu *vcpu, u64 cap)
{
	u64 state, data[3];
	s64 error;
	int ret = 1;

	do {
		if (READ_ONCE(vcpu->g->exited)) {
			gunyah_vcpu_tell_status(vcpu,
						GMEM_GUNYAH_VM_STATUS_EXITED);
			return 0;
		}
		if (READ_ONCE(vcpu->gone))
			return -ENODEV;
		if (signal_pending(current) ||
		    READ_ONCE(vcpu->run->immediate_exit))
			return -EINTR;
		gunyah_vcpu_expect(vcpu);
		error = gunyah_vcpu_run(cap, vcpu->resume, &state, data);
		if (error == GUNYAH_ERROR_RETRY) {
			ret = 1;
			continue;
		}
		if (error == GUNYAH_ERROR_BUSY) {
			/*
			 * Another thread runs it: the RM, to stop the guest or
			 * because the guest has switched itself off; or that of
			 * a removed vCPU's descriptor.
			 */
			gunyah_halt_on(vcpu);
			gunyah_vcpu_pause(vcpu);
			ret = 1;
			continue;
		}
		memset(vcpu->resume, 0, sizeof(vcpu->resume));
		if (error) {
			dev_warn_ratelimited(vcpu->g->rm->dev,
					     "VM %u (VMID %u): can't run vCPU %u: %s (%lld)\n",
					     vcpu->g->vm->id, vcpu->g->vmid,
					     vcpu->label,
					     gunyah_error_name(error), error);
			/* The hypercall fails like this if the VM has ended. */
			ret = gunyah_vcpu_ended(vcpu);
		} else {
			vcpu->mmio = state == GUNYAH_VCPU_VMMIO_READ ||
				     state == GUNYAH_VCPU_VMMIO_WRITE;
			if (state != GUNYAH_VCPU_PAGE_FAULT &&
			    state != GUNYAH_VCPU_READY)
				vcpu->nr_faults = 0;
			ret = gunyah_vcpu_exit(vcpu, state, data);
		}
		cond_resched();
	} while (ret > 0);
	return ret;
}

/* 0: @cap is the capability for running the vCPU; 1: the start has failed. */
static int gunyah_vcpu_ready(struct gunyah_vcpu *vcpu, u64 *cap)
{
	struct gunyah_vm *g = vcpu->g;
	struct gunyah_vcpu_slot *slot;
	int err = 0;

	if (mutex_lock_killable(&g->life_lock))
		return -EINTR;
	mutex_lock(&g->functions_lock);
	slot = xa_load(&g->vcpus, vcpu->label);
	if (vcpu->gone)
		err = -ENODEV;
	else if (g->failed)
		err = 1;
	else if (g->phase != GUNYAH_PHASE_STARTED || !slot->found)
		err = -ENODEV;
	else
		*cap = slot->cap;
	vcpu->slot = slot;
	mutex_unlock(&g->functions_lock);
	mutex_unlock(&g->life_lock);
	return err;
}

int gunyah_vcpu_run_call(struct gunyah_vcpu *vcpu)
{
	u64 cap;
	int ret;

	if (mutex_lock_interruptible(&vcpu->run_lock))
		return -EINTR;
	ret = gunyah_vcpu_ready(vcpu, &cap);
	if (ret > 0) {
		gunyah_vcpu_tell_status(vcpu,
					GMEM_GUNYAH_VM_STATUS_LOAD_FAILED);
		ret = 0;
	} else if (!ret) {
		ret = gunyah_vcpu_take_answer(vcpu);
		if (!ret)
			ret = gunyah_vcpu_loop(vcpu, cap);
	}
	mutex_unlock(&vcpu->run_lock);
	return ret;
}
