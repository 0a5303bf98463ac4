// SPDX-License-Identifier: GPL-2.0-only
/* The functions of a VM, which the VMM adds and removes: one call for all. */
#include <linux/gmem_gunyah.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "../objects.h"
#include "function.h"
#include "ioeventfd.h"
#include "irqfd.h"
#include "objects.h"
#include "rm.h"
#include "vcpu_file.h"
#include "vcpu_irq.h"

union gunyah_function_arg {
	struct gmem_gunyah_fn_vcpu_arg vcpu;
	struct gmem_gunyah_fn_irqfd_arg irqfd;
	struct gmem_gunyah_fn_ioeventfd_arg ioeventfd;
};

/* Both calls run under gunyah_vm.functions_lock. */
static const struct gunyah_function {
	u32 type;
	u32 arg_size;
	int (*add)(struct gunyah_vm *g, const void *arg);
	int (*remove)(struct gunyah_vm *g, const void *arg);
} gunyah_functions[] = {
	{ GMEM_GUNYAH_FN_VCPU, sizeof(struct gmem_gunyah_fn_vcpu_arg),
	  gunyah_vcpu_add, gunyah_vcpu_remove },
	{ GMEM_GUNYAH_FN_IRQFD, sizeof(struct gmem_gunyah_fn_irqfd_arg),
	  gunyah_irqfd_add, gunyah_irqfd_remove },
	{ GMEM_GUNYAH_FN_IOEVENTFD,
	  sizeof(struct gmem_gunyah_fn_ioeventfd_arg),
	  gunyah_ioeventfd_add, gunyah_ioeventfd_remove },
};

static const struct gunyah_function *
gunyah_function(const struct gmem_gunyah_fn_desc *desc)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gunyah_functions); i++)
		if (gunyah_functions[i].type == desc->type &&
		    gunyah_functions[i].arg_size == desc->arg_size)
			return &gunyah_functions[i];
	return NULL;
}

static int gunyah_vm_function_call(struct gmem_vm *vm,
				   const struct gmem_gunyah_fn_desc *desc,
				   bool add)
{
	const struct gunyah_function *fn = gunyah_function(desc);
	struct gunyah_vm *g = vm->provider_data;
	union gunyah_function_arg arg;
	int ret;

	if (!fn)
		return -EINVAL;
	if (copy_from_user(&arg, u64_to_user_ptr(desc->arg), fn->arg_size))
		return -EFAULT;
	if (mutex_lock_killable(&g->functions_lock))
		return -EINTR;
	ret = add ? fn->add(g, &arg) : fn->remove(g, &arg);
	mutex_unlock(&g->functions_lock);
	return ret;
}

int gunyah_vm_add_function_call(void *obj, void *arg)
{
	return gunyah_vm_function_call(obj, arg, true);
}

int gunyah_vm_remove_function_call(void *obj, void *arg)
{
	return gunyah_vm_function_call(obj, arg, false);
}

/* ---- the beginning and the end ---- */

static void gunyah_functions_work(struct work_struct *work)
{
	struct gunyah_vm *g = container_of(work, struct gunyah_vm, disconnect);

	mutex_lock(&g->functions_lock);
	gunyah_bells_disconnect(g);
	gunyah_vcpus_disconnect(g);
	WRITE_ONCE(g->connected, false);
	mutex_unlock(&g->functions_lock);
	wake_up_all(&g->wake);
}

void gunyah_functions_init(struct gunyah_vm *g)
{
	mutex_init(&g->functions_lock);
	INIT_WORK(&g->disconnect, gunyah_functions_work);
	xa_init(&g->vcpus);
	xa_init(&g->bells);
	rwlock_init(&g->ioeventfds_lock);
}

bool gunyah_functions_disconnect(struct gunyah_vm *g)
{
	unsigned long timeout =
		msecs_to_jiffies(READ_ONCE(gunyah_rm_timeout_ms));

	if (!READ_ONCE(g->connected))
		return true;
	/*
	 * To free an interrupt, the kernel waits for the readers of its files
	 * in /proc. Such a reader may need a lock of this task, so a work item
	 * waits instead.
	 */
	schedule_work(&g->disconnect);
	return wait_event_killable_timeout(g->wake, !READ_ONCE(g->connected),
					   timeout) > 0;
}

void gunyah_functions_end(struct gunyah_vm *g)
{
	cancel_work_sync(&g->disconnect);
	mutex_lock(&g->functions_lock);
	gunyah_bells_end(g);
	gunyah_vcpus_end(g);
	gunyah_ioeventfds_end(g);
	WRITE_ONCE(g->connected, false);
	mutex_unlock(&g->functions_lock);
}
