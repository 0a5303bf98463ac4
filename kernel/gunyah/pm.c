// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hibernation. While it writes its image, the kernel reads all memory that is in
 * its linear map. A page there that a guest has is a fatal external abort. The
 * kernel asks before it freezes anything, so this is the place to refuse.
 *
 * Memory of memfd_secret() isn't in the linear map, and the kernel itself refuses
 * to hibernate while there is any.
 */
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/printk.h>
#include <linux/suspend.h>

#include "../objects.h"
#include "../stats.h"
#include "objects.h"
#include "pm.h"

/* Protects the next three, and gunyah_vm.lends_mapped. */
static DEFINE_MUTEX(gunyah_pm_lock);
/* VMs that may have been lent such memory. */
static unsigned long gunyah_pm_vms;
/* There has been such a VM: a lost page may be one of such memory. */
static bool gunyah_pm_ever;
/* Hibernation has begun. */
static bool gunyah_pm_busy;

static int gunyah_pm_prepare(void)
{
	unsigned long vms;
	u64 lost;

	mutex_lock(&gunyah_pm_lock);
	vms = gunyah_pm_vms;
	lost = gunyah_pm_ever ? gmem_stat_read(GMEM_STAT_LEAKED_PAGES) : 0;
	gunyah_pm_busy = !vms && !lost;
	mutex_unlock(&gunyah_pm_lock);
	if (vms)
		pr_warn("gmem: refused to hibernate: %lu VMs under Gunyah lend memory that is in the kernel's linear map (gunyah_lend_mapped=1), and to read it would be fatal. Close them first\n",
			vms);
	else if (lost)
		pr_warn("gmem: refused to hibernate: %llu pages never came back from guests, and to read them may be fatal\n",
			lost);
	return vms || lost ? -EBUSY : 0;
}

static int gunyah_pm_notify(struct notifier_block *nb, unsigned long event,
			    void *data)
{
	switch (event) {
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		return notifier_from_errno(gunyah_pm_prepare());
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		mutex_lock(&gunyah_pm_lock);
		gunyah_pm_busy = false;
		mutex_unlock(&gunyah_pm_lock);
		return NOTIFY_OK;
	}
	return NOTIFY_DONE;
}

static struct notifier_block gunyah_pm_notifier = {
	.notifier_call = gunyah_pm_notify,
};

int gunyah_pm_init(void)
{
	return register_pm_notifier(&gunyah_pm_notifier);
}

void gunyah_pm_exit(void)
{
	unregister_pm_notifier(&gunyah_pm_notifier);
}

int gunyah_pm_lend_mapped(struct gunyah_vm *g)
{
	int err = 0;

	mutex_lock(&gunyah_pm_lock);
	if (gunyah_pm_busy) {
		err = -EBUSY;
	} else if (!g->lends_mapped) {
		g->lends_mapped = true;
		gunyah_pm_ever = true;
		gunyah_pm_vms++;
	}
	mutex_unlock(&gunyah_pm_lock);
	return err;
}

void gunyah_pm_end(struct gunyah_vm *g)
{
	mutex_lock(&gunyah_pm_lock);
	if (g->lends_mapped)
		gunyah_pm_vms--;
	mutex_unlock(&gunyah_pm_lock);
}
