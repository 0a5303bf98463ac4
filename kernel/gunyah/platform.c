// SPDX-License-Identifier: GPL-2.0-only
/* Finds the Resource Manager in the device tree and connects to it. */
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/gmem.h>
#include <linux/interrupt.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/of_platform.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <asm/virt.h>

#include "../provider.h"
#include "cache.h"
#include "hypercall.h"
#include "platform.h"
#include "pm.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_connection.h"
#include "rm_receive.h"

/* The width of a guest's address space where memory goes in parcels. */
#define GUNYAH_PARCEL_ADDR_BITS 36

/* Protects the next three. */
static DEFINE_MUTEX(gunyah_rm_lock);
/* The connection for new VMs; READ_ONCE() tells without the lock whether one is. */
static struct gunyah_rm *gunyah_rm;
/*
 * A connection uses the message queues: gunyah_rm, one that opens, or one whose
 * device is gone and that lives on for its VMs.
 */
static bool gunyah_rm_busy;
/*
 * The last connection found that memory goes in parcels. The limits of new VMs
 * follow from that, also while there is no connection: there may be one again
 * before the VM gets it.
 */
static bool gunyah_has_parcels;
/* The device of the node, if this module created it. */
static struct platform_device *gunyah_pdev;

static const struct of_device_id gunyah_of_match[] = {
	{ .compatible = "gunyah-resource-manager" },
	{}
};
MODULE_DEVICE_TABLE(of, gunyah_of_match);

/* Check that the hypervisor is a Gunyah with the features that VMs need. */
static int gunyah_identify(struct device *dev)
{
	const u64 needed = GUNYAH_FEATURE_MSGQUEUE | GUNYAH_FEATURE_VCPU |
			   GUNYAH_FEATURE_MEMEXTENT;
	struct gunyah_api api;

	/* A kernel that runs in EL2 would take the HVC itself, and crash. */
	if (is_kernel_in_hyp_mode() || !gunyah_hyp_present()) {
		dev_err(dev, "the device tree names Gunyah, but the hypervisor isn't Gunyah\n");
		return -ENODEV;
	}
	gunyah_hyp_identify(&api);
	dev_info(dev, "Gunyah: API version %llu, variant %#llx, features %#llx\n",
		 GUNYAH_API_VERSION(api.info), GUNYAH_API_VARIANT(api.info),
		 api.flags[0]);
	if (GUNYAH_API_VERSION(api.info) != 1 ||
	    !(api.info & GUNYAH_API_64BIT) ||
	    (api.info & GUNYAH_API_BIG_ENDIAN)) {
		dev_err(dev, "gmem doesn't know this version of Gunyah: the provider isn't offered\n");
		return -EOPNOTSUPP;
	}
	if (~api.flags[0] & needed) {
		dev_err(dev, "Gunyah lacks features %#llx: the provider isn't offered\n",
			~api.flags[0] & needed);
		return -EOPNOTSUPP;
	}
	return 0;
}

static void gunyah_free_interrupts(struct gunyah_rm *rm)
{
	if (rm->tx_irq)
		free_irq(rm->tx_irq, rm);
	if (rm->rx_irq)
		free_irq(rm->rx_irq, rm);
}

/*
 * Take interrupt @index of the Resource Manager's node, and set *@taken. No error
 * if there is no such interrupt: the function that waits for it polls the queue.
 *
 * An interrupt that is in use means that another driver reads the queues. It may
 * have bound no device, as the driver that is built into Android's kernels: so
 * this is where gmem meets it. To poll would take its messages from it.
 */
static int gunyah_request_interrupt(struct platform_device *pdev,
				    struct gunyah_rm *rm, unsigned int index,
				    irq_handler_t handler, irq_handler_t thread,
				    const char *name, int *taken)
{
	int irq, err;

	irq = platform_get_irq_optional(pdev, index);
	if (irq == -EPROBE_DEFER)
		return irq;
	if (irq <= 0)
		return 0;
	err = request_threaded_irq(irq, handler, thread,
				   handler ? 0 : IRQF_ONESHOT, name, rm);
	if (err == -EBUSY)
		dev_err(&pdev->dev,
			"another driver has interrupt %d of the Resource Manager, and so its queues (/proc/interrupts names it; kernels with CONFIG_GUNYAH=y have one built in): the provider isn't offered. Use that driver, or unload it, or boot a kernel without it\n",
			irq);
	if (!err)
		*taken = irq;
	return err;
}

static int gunyah_request_interrupts(struct platform_device *pdev,
				     struct gunyah_rm *rm)
{
	int err;

	err = gunyah_request_interrupt(pdev, rm, 0, gunyah_rm_tx_interrupt,
				       NULL, "gmem-gunyah-tx", &rm->tx_irq);
	if (!err)
		err = gunyah_request_interrupt(pdev, rm, 1, NULL,
					       gunyah_rm_rx_interrupt,
					       "gmem-gunyah-rx", &rm->rx_irq);
	if (!err && (!rm->tx_irq || !rm->rx_irq))
		dev_warn(&pdev->dev,
			 "no interrupt for messages %s the Resource Manager: gmem polls\n",
			 rm->tx_irq ? "from" : rm->rx_irq ? "to" : "to and from");
	return err;
}

/* A second connection would take messages of the first from the queues. */
static bool gunyah_claim_queues(void)
{
	bool busy;

	mutex_lock(&gunyah_rm_lock);
	busy = gunyah_rm_busy;
	gunyah_rm_busy = true;
	mutex_unlock(&gunyah_rm_lock);
	return !busy;
}

static void gunyah_release_queues(void)
{
	mutex_lock(&gunyah_rm_lock);
	gunyah_rm_busy = false;
	mutex_unlock(&gunyah_rm_lock);
}

/* A connection with one reference. */
static struct gunyah_rm *gunyah_connect(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct gunyah_rm *rm;
	int err;

	rm = kzalloc(sizeof(*rm), GFP_KERNEL);
	if (!rm)
		return ERR_PTR(-ENOMEM);
	kref_init(&rm->ref);
	rm->dev = get_device(dev);
	if (of_property_read_u64_index(dev->of_node, "reg", 0, &rm->tx_cap) ||
	    of_property_read_u64_index(dev->of_node, "reg", 1, &rm->rx_cap)) {
		dev_err(dev, "the node lacks the two message queues in \"reg\"\n");
		err = -EINVAL;
		goto free_rm;
	}
	err = gunyah_rm_open(rm);
	if (err)
		goto free_rm;
	err = gunyah_request_interrupts(pdev, rm);
	if (err)
		goto free_interrupts;

	err = gunyah_rm_get_vmid(rm, &rm->vmid);
	if (err) {
		dev_err(dev, "the Resource Manager doesn't report the VMID of this VM (error %d): the provider isn't offered\n",
			err);
		goto free_interrupts;
	}
	err = gunyah_rm_probe(rm);
	if (err) {
		dev_err(dev, "the Resource Manager doesn't say what it can do (error %d): the provider isn't offered\n",
			err);
		goto free_interrupts;
	}
	dev_info(dev, "connected to the Resource Manager as VM %u; memory by %s, %s boot registers\n",
		 rm->vmid, rm->demand_paging ? "extents" : "parcels",
		 rm->boot_context ? "any" : "few");
	return rm;

free_interrupts:
	gunyah_free_interrupts(rm);
	gunyah_rm_close(rm);
free_rm:
	put_device(dev);
	kfree(rm);
	return ERR_PTR(err);
}

static void gunyah_disconnect(struct kref *ref)
{
	struct gunyah_rm *rm = container_of(ref, struct gunyah_rm, ref);

	gunyah_free_interrupts(rm);
	gunyah_rm_close(rm);
	put_device(rm->dev);
	kfree(rm);
	gunyah_release_queues();
}

static int gunyah_probe(struct platform_device *pdev)
{
	struct gunyah_rm *rm;
	int err;

	if (!gunyah_claim_queues())
		return -EBUSY;
	err = gunyah_identify(&pdev->dev);
	rm = err ? ERR_PTR(err) : gunyah_connect(pdev);
	if (IS_ERR(rm)) {
		gunyah_release_queues();
		return PTR_ERR(rm);
	}
	mutex_lock(&gunyah_rm_lock);
	gunyah_has_parcels = !rm->demand_paging;
	WRITE_ONCE(gunyah_rm, rm);
	mutex_unlock(&gunyah_rm_lock);
	return 0;
}

/* VMs that exist keep the connection; no new one gets it. */
static void gunyah_remove(struct platform_device *pdev)
{
	struct gunyah_rm *rm;

	mutex_lock(&gunyah_rm_lock);
	rm = gunyah_rm;
	WRITE_ONCE(gunyah_rm, NULL);
	mutex_unlock(&gunyah_rm_lock);
	gunyah_platform_put_rm(rm);
}

static struct platform_driver gunyah_driver = {
	.probe = gunyah_probe,
	.remove = gunyah_remove,
	.driver = {
		.name = "gmem-gunyah",
		.of_match_table = gunyah_of_match,
		/* Without the device, there is no provider for new VMs. */
		.suppress_bind_attrs = true,
	},
};

/* The kernel creates no device for a node whose parent isn't a bus. */
static void gunyah_make_device(void)
{
	struct platform_device *pdev;
	struct device_node *node;

	node = of_find_matching_node(NULL, gunyah_of_match);
	if (!node)
		return;
	pdev = of_find_device_by_node(node);
	if (pdev)
		put_device(&pdev->dev);
	else
		gunyah_pdev = of_platform_device_create(node, NULL, NULL);
	of_node_put(node);
}

int gunyah_platform_init(void)
{
	int err;

	gunyah_cache_init();
	err = gunyah_pm_init();
	if (err)
		return err;
	gunyah_make_device();
	err = platform_driver_register(&gunyah_driver);
	if (!err)
		return 0;
	if (gunyah_pdev)
		of_platform_device_destroy(&gunyah_pdev->dev, NULL);
	gunyah_pm_exit();
	return err;
}

void gunyah_platform_exit(void)
{
	platform_driver_unregister(&gunyah_driver);
	if (gunyah_pdev)
		of_platform_device_destroy(&gunyah_pdev->dev, NULL);
	gunyah_pm_exit();
}

bool gunyah_platform_present(void)
{
	return READ_ONCE(gunyah_rm);
}

struct gunyah_rm *gunyah_platform_get_rm(void)
{
	struct gunyah_rm *rm;

	mutex_lock(&gunyah_rm_lock);
	rm = gunyah_rm;
	if (rm)
		kref_get(&rm->ref);
	mutex_unlock(&gunyah_rm_lock);
	return rm;
}

void gunyah_platform_limits(struct gmem_provider_limits *limits)
{
	/*
	 * An RM without demand paging gives a guest 36 bits of addresses, the
	 * first GiB of which is for devices, and its memory when it starts.
	 */
	mutex_lock(&gunyah_rm_lock);
	if (gunyah_has_parcels) {
		limits->max_guest_addr_bits = GUNYAH_PARCEL_ADDR_BITS;
		limits->min_guest_addr = SZ_1G;
		limits->flags |= GMEM_PROVIDER_BIND_FIRST;
	}
	mutex_unlock(&gunyah_rm_lock);
}

void gunyah_platform_put_rm(struct gunyah_rm *rm)
{
	kref_put(&rm->ref, gunyah_disconnect);
}

static void gunyah_show_count(struct seq_file *seq, const char *name,
			      atomic64_t *count)
{
	seq_printf(seq, "%-24s %lld\n", name, atomic64_read(count));
}

static void gunyah_show_counters(struct seq_file *seq,
				 struct gunyah_rm_counters *counters)
{
	gunyah_show_count(seq, "hypercalls", &gunyah_nr_hypercalls);
	gunyah_show_count(seq, "hypercall_errors", &gunyah_nr_hypercall_errors);
	gunyah_show_count(seq, "rm_calls", &counters->calls);
	gunyah_show_count(seq, "rm_errors", &counters->errors);
	gunyah_show_count(seq, "rm_timeouts", &counters->timeouts);
	gunyah_show_count(seq, "rm_late_replies", &counters->late_replies);
	gunyah_show_count(seq, "rm_notifications", &counters->notifications);
	gunyah_show_count(seq, "rm_bad_messages", &counters->bad_messages);
	gunyah_show_count(seq, "rm_interrupts", &counters->interrupts);
	gunyah_show_count(seq, "rm_found_by_polling",
			  &counters->found_by_polling);
	gunyah_show_count(seq, "pieces_given", &counters->pieces);
	gunyah_show_count(seq, "vms_waiting", &counters->vms_waiting);
}

/* Under the lock: a reference would keep the queues from the next driver. */
static int gunyah_counters_show(struct seq_file *seq, void *v)
{
	/* The device may appear later than the module, or never. */
	int err = -ENODEV;

	mutex_lock(&gunyah_rm_lock);
	if (gunyah_rm) {
		gunyah_show_counters(seq, &gunyah_rm->counters);
		err = 0;
	}
	mutex_unlock(&gunyah_rm_lock);
	return err;
}
DEFINE_SHOW_ATTRIBUTE(gunyah_counters);

void gunyah_platform_debugfs(struct dentry *dir)
{
	debugfs_create_file("gunyah", 0400, dir, NULL, &gunyah_counters_fops);
}
