// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a VM, except for its start: the configuration before the start,
 * and the end.
 *
 * A VM ends when its last descriptor is closed, so no vCPU can run. The end
 * never fails: it logs every refusal and every missing answer of the RM, and
 * the core leaks the memory that the RM keeps. The steps:
 *
 *   VM_STOP, VM_EXITED    if the guest runs
 *   VM_RESET, VM_STATUS   with parcels: the RM keeps the memory that the guest
 *                         has accepted until the guest is reset
 *   (the core takes all memory back)
 *   VM_RESET, VM_STATUS   with extents
 *   VM_DEALLOC_VMID
 */
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "../objects.h"
#include "../vm.h"
#include "objects.h"
#include "parcels.h"
#include "platform.h"
#include "reset.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_receive.h"
#include "rm_rpc.h"
#include "rm_wire.h"
#include "vcpu_file.h"
#include "vm.h"

/* ---- notifications ---- */

static void gunyah_vm_exited(struct gunyah_vm *g, u16 type, const void *reason,
			     size_t size)
{
	size = min(size, sizeof(g->exit_info.reason));
	spin_lock(&g->status_lock);
	if (!g->exited) {
		g->exit_info.type = type;
		g->exit_info.reason_size = size;
		memcpy(g->exit_info.reason, reason, size);
		WRITE_ONCE(g->exited, true);
	}
	spin_unlock(&g->status_lock);
}

static void gunyah_vm_notify(struct gunyah_rm_listener *listener, u32 message,
			     const void *payload, size_t size)
{
	struct gunyah_vm *g = container_of(listener, struct gunyah_vm,
					   listener);
	const struct gunyah_rm_vm_exited *exited = payload;
	const struct gunyah_rm_vm_status *status = payload;

	switch (message) {
	case GUNYAH_RM_NOTIFY_VM_EXITED:
		size -= sizeof(*exited);
		gunyah_vm_exited(g, le16_to_cpu(exited->type), exited->reason,
				 min_t(size_t, size,
				       le32_to_cpu(exited->reason_size)));
		break;
	case GUNYAH_RM_NOTIFY_VM_STATUS:
		if (status->vm_status == GUNYAH_RM_VM_HAS_RESET)
			WRITE_ONCE(g->has_reset, true);
		break;
	}
}

/* ---- the beginning ---- */

int gunyah_vm_init(struct gmem_vm *vm)
{
	struct gunyah_vm *g;

	g = kzalloc(sizeof(*g), GFP_KERNEL_ACCOUNT);
	if (!g)
		return -ENOMEM;
	g->vm = vm;
	g->rm = gunyah_platform_rm();
	g->listener.notify = gunyah_vm_notify;
	mutex_init(&g->life_lock);
	mutex_init(&g->mem_lock);
	spin_lock_init(&g->status_lock);
	xa_init(&g->vcpus);
	xa_init_flags(&g->pages, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&g->parcels);
	spin_lock_init(&g->parcels_lock);
	g->image = GUNYAH_RM_NO_HANDLE;
	vm->provider_data = g;
	return 0;
}

/* ---- configuration ---- */

int gunyah_vm_set_dtb_call(void *obj, void *arg)
{
	const struct gmem_gunyah_dtb_config *config = arg;
	struct gmem_vm *vm = obj;
	struct gunyah_vm *g = vm->provider_data;
	unsigned long first, last;
	int err;

	if (!config->size || config->size > U32_MAX)
		return -EINVAL;
	err = gmem_vm_range(vm, config->guest_phys_addr,
			    PAGE_ALIGN(config->size), &first, &last);
	if (err)
		return err;

	if (mutex_lock_killable(&g->life_lock))
		return -EINTR;
	/* The device tree can't move once it is lent. */
	if (g->started || g->image != GUNYAH_RM_NO_HANDLE) {
		err = -EBUSY;
	} else {
		g->dtb_addr = config->guest_phys_addr;
		g->dtb_size = config->size;
	}
	mutex_unlock(&g->life_lock);
	return err;
}

/* The index of a register in gunyah_vm.boot_value, or -EINVAL. */
static int gunyah_boot_reg(u32 reg)
{
	u8 index = reg & 0xff;

	switch (reg >> 8) {
	case GMEM_GUNYAH_REG_SET_X:
		return index < GUNYAH_NR_X ? index : -EINVAL;
	case GMEM_GUNYAH_REG_SET_PC:
		return index ? -EINVAL : GUNYAH_NR_X;
	case GMEM_GUNYAH_REG_SET_SP:
		return index < GUNYAH_NR_SP ? GUNYAH_NR_X + 1 + index : -EINVAL;
	}
	return -EINVAL;
}

int gunyah_vm_set_boot_context_call(void *obj, void *arg)
{
	const struct gmem_gunyah_boot_context *context = arg;
	struct gmem_vm *vm = obj;
	struct gunyah_vm *g = vm->provider_data;
	int reg = gunyah_boot_reg(context->reg);
	int err = 0;

	if (reg < 0 || context->reserved)
		return -EINVAL;
	if (mutex_lock_killable(&g->life_lock))
		return -EINTR;
	if (g->started) {
		err = -EBUSY;
	} else {
		__set_bit(reg, g->boot_set);
		g->boot_value[reg] = context->value;
	}
	mutex_unlock(&g->life_lock);
	return err;
}

/* ---- the end ---- */

static void gunyah_vm_complain(struct gunyah_vm *g, const char *what, int err)
{
	dev_warn_ratelimited(g->rm->dev, "VM %u (VMID %u): %s: error %d\n",
			     g->vm->id, g->vmid, what, err);
}

void gunyah_vm_started(struct gunyah_vm *g)
{
	lockdep_assert_held(&g->mem_lock);
	if (g->memory == GUNYAH_MEMORY_EXTENTS)
		gunyah_parcels_adopt(g, g->image);
	WRITE_ONCE(g->phase, GUNYAH_PHASE_STARTED);
}

/*
 * Find out whether the RM has carried out a request of the start that timed
 * out. If that is VM_START with extents, the RM no longer knows the parcel of
 * the image, so the host can't take the image back before this function has
 * run.
 */
static void gunyah_vm_catch_up(struct gunyah_vm *g)
{
	struct gunyah_rpc *late = g->late;
	u16 vmid;

	if (!late)
		return;
	if (!gunyah_rm_wait(g->rm, completion_done(&late->done),
			    READ_ONCE(gunyah_rm_timeout_ms))) {
		gunyah_vm_complain(g, "no answer to a step of its start",
				   -ETIMEDOUT);
	} else if (!late->err && late->message == GUNYAH_RM_VM_START) {
		mutex_lock(&g->mem_lock);
		gunyah_vm_started(g);
		mutex_unlock(&g->mem_lock);
	} else if (!late->err && !gunyah_rm_reply_vmid(late, &vmid)) {
		g->vmid = vmid;
		g->phase = GUNYAH_PHASE_LOADING;
	}
	g->late = NULL;
	gunyah_rpc_put(late);
}

void gunyah_vm_stop(struct gmem_vm *vm)
{
	struct gunyah_vm *g = vm->provider_data;
	int err = 0;

	gunyah_vm_catch_up(g);
	if (g->phase >= GUNYAH_PHASE_STARTING && !READ_ONCE(g->exited)) {
		err = gunyah_rm_vm_stop(g->rm, g->vmid);
		if (!err && !gunyah_rm_wait(g->rm, READ_ONCE(g->exited),
					    READ_ONCE(gunyah_rm_timeout_ms)))
			err = -ETIMEDOUT;
		if (err)
			gunyah_vm_complain(g, "not known to have stopped", err);
	}
	/* No vCPU can run, and the core takes all memory back next. */
	mutex_lock(&g->mem_lock);
	g->stopped = true;
	if (g->phase >= GUNYAH_PHASE_INITIALISING &&
	    g->memory == GUNYAH_MEMORY_PARCELS)
		gunyah_vm_reset(g);
	mutex_unlock(&g->mem_lock);
}

static int gunyah_vm_dealloc(struct gunyah_vm *g)
{
	int err;

	err = gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_DEALLOC_VMID, g->vmid);
	if (err != -EBUSY || g->reset_asked)
		return err;
	/* Some RMs free the VMID of a VM with an image only after a reset. */
	gunyah_vm_reset(g);
	return gunyah_rm_vm_call(g->rm, GUNYAH_RM_VM_DEALLOC_VMID, g->vmid);
}

void gunyah_vm_release(struct gmem_vm *vm)
{
	struct gunyah_vm *g = vm->provider_data;
	int err;

	gunyah_parcels_end(g);
	if (g->phase >= GUNYAH_PHASE_LOADING) {
		mutex_lock(&g->mem_lock);
		if (g->phase >= GUNYAH_PHASE_INITIALISING)
			gunyah_vm_reset(g);
		err = gunyah_vm_dealloc(g);
		mutex_unlock(&g->mem_lock);
		if (err)
			gunyah_vm_complain(g, "its VMID stays in use", err);
		gunyah_rm_unlisten(g->rm, &g->listener);
	}

	/* The entries that are left belong to leaked pages. */
	xa_destroy(&g->pages);
	gunyah_vcpus_free(g);
	mutex_destroy(&g->mem_lock);
	mutex_destroy(&g->life_lock);
	kfree(g);
}
