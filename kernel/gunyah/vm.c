// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a VM: what the RM notifies of, and the configuration before the
 * start. start.c has the start, end.c the end.
 */
#include <linux/device.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "../objects.h"
#include "../vm.h"
#include "function.h"
#include "objects.h"
#include "parcels.h"
#include "platform.h"
#include "rm_receive.h"
#include "rm_wire.h"
#include "vm.h"

/* ---- notifications ---- */

void gunyah_vm_exited(struct gunyah_vm *g, u16 type, const void *reason,
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
	wake_up_all(&g->wake);
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
	g->rm = gunyah_platform_get_rm();
	/* The device has gone since the core found the provider. */
	if (!g->rm) {
		kfree(g);
		return -EOPNOTSUPP;
	}
	g->listener.notify = gunyah_vm_notify;
	mutex_init(&g->life_lock);
	mutex_init(&g->mem_lock);
	spin_lock_init(&g->status_lock);
	gunyah_functions_init(g);
	init_waitqueue_head(&g->wake);
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
		return index ? -EINVAL : GUNYAH_REG_PC;
	case GMEM_GUNYAH_REG_SET_SP:
		return index < GUNYAH_NR_SP ? GUNYAH_REG_SP + index : -EINVAL;
	}
	return -EINVAL;
}

/* An RM that sets no registers starts a vCPU with these two; see image.c. */
static bool gunyah_boot_reg_settable(const struct gunyah_vm *g, int reg)
{
	return g->rm->boot_context || reg == GUNYAH_REG_PC ||
	       reg == GUNYAH_REG_DTB;
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
	if (!gunyah_boot_reg_settable(g, reg)) {
		dev_warn_ratelimited(g->rm->dev,
				     "VM %u: this Resource Manager sets no registers: a guest starts at an address in the image, with that of the device tree in X0\n",
				     vm->id);
		return -EOPNOTSUPP;
	}
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

void gunyah_vm_set_vmid(struct gunyah_vm *g, u16 vmid)
{
	WRITE_ONCE(g->vmid, vmid);
	WRITE_ONCE(g->phase, GUNYAH_PHASE_LOADING);
}

void gunyah_vm_started(struct gunyah_vm *g)
{
	lockdep_assert_held(&g->mem_lock);
	if (g->memory == GUNYAH_MEMORY_EXTENTS)
		gunyah_parcels_adopt(g, g->image);
	WRITE_ONCE(g->phase, GUNYAH_PHASE_STARTED);
}
