// SPDX-License-Identifier: GPL-2.0-only
/* The module and its device. */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>

#include "binding.h"
#include "call.h"
#include "charge.h"
#include "debugfs.h"
#include "guestmem.h"
#include "gunyah/provider.h"
#include "huge.h"
#include "live.h"
#include "mock.h"
#include "netlink.h"
#include "objects.h"
#include "opener.h"
#include "paged.h"
#include "provider.h"
#include "stats.h"
#include "vm_file.h"
#include "work.h"

/* The first provider that is present is the default. */
static const struct gmem_provider *const gmem_providers[] = {
#ifdef CONFIG_ARM64
	&gmem_gunyah_provider,
#endif
	&gmem_paged_provider,
#ifdef CONFIG_GMEM_TEST
	&gmem_mock_provider,
#endif
};

static u64 gmem_features(void)
{
	return GMEM_FEATURE_VIEW | GMEM_FEATURE_NAME | GMEM_FEATURE_CHANGE |
	       GMEM_FEATURE_MAP | GMEM_FEATURE_RUNS |
	       (IS_ENABLED(CONFIG_NUMA) ? GMEM_FEATURE_NUMA : 0) |
	       (gmem_huge_order() ? GMEM_FEATURE_HUGEPAGE : 0) |
	       (gmem_live_present() ? GMEM_FEATURE_LIVE |
				      GMEM_FEATURE_WINDOW |
				      GMEM_FEATURE_WAIT : 0) |
	       (gmem_live_takes_huge() ? GMEM_FEATURE_LIVE_HUGE : 0) |
	       (gmem_charge_present() ? GMEM_FEATURE_CGROUP : 0);
}

static int gmem_info_call(void *obj, void *arg)
{
	struct gmem_info *info = arg;
	const struct gmem_provider *provider;
	struct gmem_provider_limits limits;
	unsigned int huge_order = gmem_huge_order();

	provider = gmem_provider_at(info->provider_index);
	if (!provider)
		return -ENOENT;

	info->abi_version = GMEM_ABI_VERSION;
	info->nr_providers = gmem_nr_providers();
	info->features = gmem_features();
	info->page_size = PAGE_SIZE;
	info->huge_page_size = huge_order ? PAGE_SIZE << huge_order : 0;
	gmem_provider_limits(provider, &limits);
	info->max_guest_addr_bits = limits.max_guest_addr_bits;
	info->provider_flags = limits.flags;
	info->min_guest_addr = limits.min_guest_addr;
	strscpy_pad((char *)info->provider_name, provider->name,
		    sizeof(info->provider_name));
	info->map_access = provider->map_access;
	info->max_bindings = GMEM_MAX_BINDINGS;
	info->max_user_bindings = gmem_opener_max_bindings();
	info->user_bindings = gmem_opener_nr_bindings(obj);
	return 0;
}

static const struct gmem_call gmem_device_calls[] = {
	{
		.cmd = GMEM_CREATE_VM,
		.kind = GMEM_CALL_VALUE,
		.fn = gmem_vm_create_default_call,
	},
	GMEM_CALL(GMEM_CREATE_MEM, GMEM_CALL_FIXED,
		  gmem_mem_create_default_call, struct gmem_create_mem,
		  reserved),
	GMEM_CALL(GMEM_INFO, GMEM_CALL_INOUT, gmem_info_call,
		  struct gmem_info, max_bindings),
	GMEM_CALL(GMEM_VM_CREATE, GMEM_CALL_IN, gmem_vm_create_call,
		  struct gmem_vm_create, guest_addr_bits),
	GMEM_CALL_OPENS(GMEM_MEM_CREATE, gmem_mem_create_call,
			struct gmem_mem_create, nodes),
	GMEM_CALL(GMEM_MEM_FROM_SECRET, GMEM_CALL_IN, gmem_mem_from_secret_call,
		  struct gmem_mem_from_secret, reserved),
	GMEM_CALL(GMEM_STATS, GMEM_CALL_INOUT, gmem_stats_call,
		  struct gmem_stats, refused),
};

static long gmem_device_ioctl(struct file *file, unsigned int cmd,
			      unsigned long arg)
{
	return gmem_call(gmem_call_find(gmem_device_calls,
					ARRAY_SIZE(gmem_device_calls), cmd),
			 file->private_data, arg);
}

static int gmem_device_open(struct inode *inode, struct file *file)
{
	struct gmem_opener *opener = gmem_opener_get();

	if (IS_ERR(opener))
		return PTR_ERR(opener);
	file->private_data = opener;
	return 0;
}

static int gmem_device_release(struct inode *inode, struct file *file)
{
	gmem_opener_put(file->private_data);
	return 0;
}

static const struct file_operations gmem_device_fops = {
	.owner = THIS_MODULE,
	.open = gmem_device_open,
	.release = gmem_device_release,
	.unlocked_ioctl = gmem_device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice gmem_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmem",
	.fops = &gmem_device_fops,
	.mode = 0660,
};

static int __init gmem_init(void)
{
	int err;

	err = gmem_work_init();
	if (err)
		return err;
	err = gmem_binding_cache_init();
	if (err)
		goto exit_work;
	err = gmem_mem_init();
	if (err)
		goto exit_bindings;
	err = gmem_netlink_init();
	if (err)
		goto exit_mem;
	err = gmem_providers_init(gmem_providers, ARRAY_SIZE(gmem_providers));
	if (err)
		goto exit_netlink;
	err = misc_register(&gmem_device);
	if (err)
		goto exit_providers;
	gmem_debugfs_init();
	return 0;

exit_providers:
	gmem_providers_exit();
exit_netlink:
	gmem_netlink_exit();
exit_mem:
	gmem_mem_exit();
exit_bindings:
	gmem_binding_cache_exit();
exit_work:
	gmem_work_exit();
	return err;
}

static void __exit gmem_exit(void)
{
	gmem_debugfs_exit();
	misc_deregister(&gmem_device);
	/* The work needs all the others. */
	gmem_work_exit();
	gmem_providers_exit();
	gmem_netlink_exit();
	gmem_mem_exit();
	gmem_binding_cache_exit();
}

module_init(gmem_init);
module_exit(gmem_exit);

MODULE_AUTHOR("The gmem authors");
MODULE_DESCRIPTION("Guest memory for virtual machines: lend, share, reclaim");
MODULE_LICENSE("GPL");
MODULE_VERSION(GMEM_VERSION);
