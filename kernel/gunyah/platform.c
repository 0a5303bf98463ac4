// SPDX-License-Identifier: GPL-2.0
/* Finds the Resource Manager in the device tree and connects to it. */
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/interrupt.h>
#include <linux/of.h>
#include <linux/of_platform.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include <asm/virt.h>

#include "hypercall.h"
#include "platform.h"
#include "rm.h"
#include "rm_calls.h"
#include "rm_connection.h"
#include "rm_receive.h"

/* Probe writes this before the module's device appears, or later. */
static struct gunyah_rm *gunyah_rm;
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

/* Without an interrupt, the function that waits for it polls the queue. */
static int gunyah_request_interrupts(struct platform_device *pdev,
				     struct gunyah_rm *rm)
{
	int irq;

	irq = platform_get_irq_optional(pdev, 0);
	if (irq == -EPROBE_DEFER)
		return irq;
	if (irq > 0 && !request_irq(irq, gunyah_rm_tx_interrupt, 0,
				    "gmem-gunyah-tx", rm))
		rm->tx_irq = irq;
	irq = platform_get_irq_optional(pdev, 1);
	if (irq > 0 && !request_threaded_irq(irq, NULL, gunyah_rm_rx_interrupt,
					     IRQF_ONESHOT, "gmem-gunyah-rx",
					     rm))
		rm->rx_irq = irq;
	if (!rm->tx_irq || !rm->rx_irq)
		dev_warn(&pdev->dev,
			 "no interrupt for messages %s the Resource Manager: gmem polls\n",
			 rm->tx_irq ? "from" : rm->rx_irq ? "to" : "to and from");
	return 0;
}

static int gunyah_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct gunyah_rm *rm;
	int err;

	if (gunyah_rm)
		return -EBUSY;
	err = gunyah_identify(dev);
	if (err)
		return err;

	rm = kzalloc(sizeof(*rm), GFP_KERNEL);
	if (!rm)
		return -ENOMEM;
	rm->dev = dev;
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
	dev_info(dev, "connected to the Resource Manager as VM %u\n", rm->vmid);
	platform_set_drvdata(pdev, rm);
	/* Pairs with the readers' address dependency: they see @rm complete. */
	smp_store_release(&gunyah_rm, rm);
	return 0;

free_interrupts:
	gunyah_free_interrupts(rm);
	gunyah_rm_close(rm);
free_rm:
	kfree(rm);
	return err;
}

static void gunyah_remove(struct platform_device *pdev)
{
	struct gunyah_rm *rm = platform_get_drvdata(pdev);

	WRITE_ONCE(gunyah_rm, NULL);
	gunyah_free_interrupts(rm);
	gunyah_rm_close(rm);
	kfree(rm);
}

static struct platform_driver gunyah_driver = {
	.probe = gunyah_probe,
	.remove = gunyah_remove,
	.driver = {
		.name = "gmem-gunyah",
		.of_match_table = gunyah_of_match,
		/* A VM holds only the module, so userspace must not unbind. */
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

	gunyah_make_device();
	err = platform_driver_register(&gunyah_driver);
	if (err && gunyah_pdev)
		of_platform_device_destroy(&gunyah_pdev->dev, NULL);
	return err;
}

void gunyah_platform_exit(void)
{
	platform_driver_unregister(&gunyah_driver);
	if (gunyah_pdev)
		of_platform_device_destroy(&gunyah_pdev->dev, NULL);
}

struct gunyah_rm *gunyah_platform_rm(void)
{
	return READ_ONCE(gunyah_rm);
}

static void gunyah_show_count(struct seq_file *seq, const char *name,
			      atomic64_t *count)
{
	seq_printf(seq, "%-24s %lld\n", name, atomic64_read(count));
}

static int gunyah_counters_show(struct seq_file *seq, void *v)
{
	struct gunyah_rm *rm = gunyah_platform_rm();
	struct gunyah_rm_counters *counters;

	/* The device may appear later than the module, or never. */
	if (!rm)
		return -ENODEV;
	counters = &rm->counters;
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
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(gunyah_counters);

void gunyah_platform_debugfs(struct dentry *dir)
{
	debugfs_create_file("gunyah", 0400, dir, NULL, &gunyah_counters_fops);
}
