// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's services for tests under the EL2 monitor; see gmem_el2.h. */
#define pr_fmt(fmt) "gmem_el2: " fmt

#include <linux/arm-smccc.h>
#include <linux/device.h>
#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/of_irq.h>
#include <linux/of_platform.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../control.h"
#include "gmem_el2.h"

struct pages {
	struct list_head node;
	struct page *first;
	unsigned int order;
};

struct file_state {
	/* Protects the rest. */
	struct mutex lock;
	struct list_head pages;
	/* 0: not watched */
	int irqs[2];
	atomic_t counts[2];
};

static void call(u64 *x)
{
	struct arm_smccc_1_2_regs regs = { };

	memcpy(&regs, x, 9 * sizeof(*x));
	arm_smccc_1_2_hvc(&regs, &regs);
	memcpy(x, &regs, 9 * sizeof(*x));
}

static long do_call(unsigned long arg)
{
	struct gmem_el2_call c;

	if (copy_from_user(&c, (void __user *)arg, sizeof(c)))
		return -EFAULT;
	call(c.x);
	return copy_to_user((void __user *)arg, &c, sizeof(c)) ? -EFAULT : 0;
}

static long do_alloc(struct file_state *state, unsigned long arg)
{
	struct gmem_el2_alloc a;
	struct pages *pages;

	if (copy_from_user(&a, (void __user *)arg, sizeof(a)))
		return -EFAULT;
	if (a.order > MAX_PAGE_ORDER)
		return -EINVAL;
	pages = kmalloc(sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	pages->order = a.order;
	pages->first =
		alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, a.order);
	if (!pages->first) {
		kfree(pages);
		return -ENOMEM;
	}
	mutex_lock(&state->lock);
	list_add(&pages->node, &state->pages);
	mutex_unlock(&state->lock);
	a.pa = page_to_phys(pages->first);
	a.va = (u64)page_address(pages->first);
	return copy_to_user((void __user *)arg, &a, sizeof(a)) ? -EFAULT : 0;
}

static long do_touch(unsigned long arg)
{
	struct gmem_el2_touch t;
	u64 *p;

	if (copy_from_user(&t, (void __user *)arg, sizeof(t)))
		return -EFAULT;
	if (!pfn_valid(PHYS_PFN(t.pa)) || !IS_ALIGNED(t.pa, sizeof(*p)))
		return -EINVAL;
	p = phys_to_virt(t.pa);
	if (t.write)
		WRITE_ONCE(*p, t.value);
	else
		t.value = READ_ONCE(*p);
	return copy_to_user((void __user *)arg, &t, sizeof(t)) ? -EFAULT : 0;
}

static irqreturn_t count(int irq, void *counter)
{
	atomic_inc(counter);
	return IRQ_HANDLED;
}

static void unwatch(struct file_state *state)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(state->irqs); i++) {
		if (state->irqs[i])
			free_irq(state->irqs[i], &state->counts[i]);
		state->irqs[i] = 0;
	}
}

static int watch(struct file_state *state)
{
	struct device_node *node;
	int i, irq, ret = 0;

	unwatch(state);
	node = of_find_compatible_node(NULL, NULL, "gunyah-resource-manager");
	if (!node)
		return -ENODEV;
	for (i = 0; !ret && i < ARRAY_SIZE(state->irqs); i++) {
		irq = of_irq_get(node, i);
		if (irq <= 0) {
			ret = irq ?: -ENXIO;
			break;
		}
		atomic_set(&state->counts[i], 0);
		ret = request_irq(irq, count, 0, "gmem_el2", &state->counts[i]);
		if (!ret)
			state->irqs[i] = irq;
	}
	of_node_put(node);
	if (ret)
		unwatch(state);
	return ret;
}

static long do_watch(struct file_state *state)
{
	long ret;

	mutex_lock(&state->lock);
	ret = watch(state);
	mutex_unlock(&state->lock);
	return ret;
}

static long do_unwatch(struct file_state *state)
{
	mutex_lock(&state->lock);
	unwatch(state);
	mutex_unlock(&state->lock);
	return 0;
}

static long do_irqs(struct file_state *state, unsigned long arg)
{
	const struct gmem_el2_irqs irqs = {
		.tx = atomic_read(&state->counts[0]),
		.rx = atomic_read(&state->counts[1]),
	};

	return copy_to_user((void __user *)arg, &irqs, sizeof(irqs)) ? -EFAULT :
								       0;
}

static long do_bind(bool bind)
{
	struct platform_device *pdev;
	struct device_node *node;
	int ret = 0;

	node = of_find_compatible_node(NULL, NULL, "gunyah-resource-manager");
	pdev = node ? of_find_device_by_node(node) : NULL;
	of_node_put(node);
	if (!pdev)
		return -ENODEV;
	if (!bind)
		device_release_driver(&pdev->dev);
	else if (device_attach(&pdev->dev) <= 0)
		ret = -EBUSY;
	put_device(&pdev->dev);
	return ret;
}

static long do_twin(void)
{
	struct platform_device_info info = {
		.name = "gmem-el2-twin",
		.id = PLATFORM_DEVID_AUTO,
	};
	struct platform_device *pdev;
	struct device_node *node;
	bool taken;

	node = of_find_compatible_node(NULL, NULL, "gunyah-resource-manager");
	if (!node)
		return -ENODEV;
	info.fwnode = of_fwnode_handle(node);
	pdev = platform_device_register_full(&info);
	of_node_put(node);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	taken = device_is_bound(&pdev->dev);
	platform_device_unregister(pdev);
	return taken ? 0 : -EBUSY;
}

static long el2_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case EL2_IOC_CALL:
		return do_call(arg);
	case EL2_IOC_ALLOC:
		return do_alloc(file->private_data, arg);
	case EL2_IOC_TOUCH:
		return do_touch(arg);
	case EL2_IOC_WATCH:
		return do_watch(file->private_data);
	case EL2_IOC_UNWATCH:
		return do_unwatch(file->private_data);
	case EL2_IOC_IRQS:
		return do_irqs(file->private_data, arg);
	case EL2_IOC_UNBIND:
		return do_bind(false);
	case EL2_IOC_BIND:
		return do_bind(true);
	case EL2_IOC_TWIN:
		return do_twin();
	default:
		return -ENOTTY;
	}
}

static int el2_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long pfn;

	for (pfn = vma->vm_pgoff; pfn < vma->vm_pgoff + vma_pages(vma); pfn++) {
		if (!pfn_valid(pfn))
			return -EINVAL;
	}
	return remap_pfn_range(vma, vma->vm_start, vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static int el2_open(struct inode *inode, struct file *file)
{
	struct file_state *state = kzalloc(sizeof(*state), GFP_KERNEL);

	if (!state)
		return -ENOMEM;
	mutex_init(&state->lock);
	INIT_LIST_HEAD(&state->pages);
	file->private_data = state;
	return 0;
}

/*
 * Are all pages plainly the host's? The kernel would die if it used another
 * page.
 */
static bool is_plain(const struct pages *pages)
{
	phys_addr_t pa = page_to_phys(pages->first);
	struct el2_page *found = kmalloc(sizeof(*found), GFP_KERNEL);
	u64 x[9] = { EL2_DUMP, pa, (u64)found, 1 };
	bool plain;

	if (!found)
		return false;
	call(x);
	plain = !x[0] &&
		(!x[1] || found->pa >= pa + (PAGE_SIZE << pages->order));
	kfree(found);
	return plain;
}

static int el2_release(struct inode *inode, struct file *file)
{
	struct file_state *state = file->private_data;
	struct pages *pages, *next;

	unwatch(state);
	list_for_each_entry_safe(pages, next, &state->pages, node) {
		if (is_plain(pages))
			__free_pages(pages->first, pages->order);
		else
			pr_warn("pages at %pa are lost\n",
				&(phys_addr_t){ page_to_phys(pages->first) });
		kfree(pages);
	}
	kfree(state);
	return 0;
}

static const struct file_operations el2_fops = {
	.owner = THIS_MODULE,
	.open = el2_open,
	.release = el2_release,
	.unlocked_ioctl = el2_ioctl,
	.mmap = el2_mmap,
};

static struct miscdevice el2_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmem_el2",
	.fops = &el2_fops,
	.mode = 0600,
};

static int __init el2_init(void)
{
	u64 x[9] = { EL2_VERSION };

	call(x);
	if (x[0] || x[1] != EL2_CONTROL_ABI) {
		pr_err("the EL2 monitor isn't there, or another version of it\n");
		return -ENODEV;
	}
	return misc_register(&el2_device);
}
module_init(el2_init);

static void __exit el2_exit(void)
{
	misc_deregister(&el2_device);
}
module_exit(el2_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hypercalls and pages for tests under gmem's EL2 monitor");
