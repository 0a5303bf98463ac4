/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls on the device. Every call returns the result of the ioctl, or
 * -errno.
 */
#ifndef LIB_DEVICE_H
#define LIB_DEVICE_H

#include "test.h"

/* The device, opened once per process. */
static inline int gmem_dev(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/gmem", O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static inline int get_info(__u32 index, struct gmem_info *info)
{
	*info = (struct gmem_info){
		.size = sizeof(*info),
		.provider_index = index,
	};
	return err_of(ioctl(gmem_dev(), GMEM_INFO, info));
}

static inline __u64 get_features(void)
{
	struct gmem_info info;

	return get_info(0, &info) ? 0 : info.features;
}

/*
 * "live" stands for the provider "window" with live windows; "window" alone has
 * paged ones.
 */
static inline bool is_live(const char *provider)
{
	return !strcmp(provider, "live");
}

static inline bool find_provider(const char *name, struct gmem_info *info)
{
	__u32 i;

	if (is_live(name))
		name = "window";
	for (i = 0; !get_info(i, info); i++)
		if (!strcmp((char *)info->provider_name, name))
			return true;
	return false;
}

static inline bool have_provider(const char *name)
{
	struct gmem_info info;

	if (is_live(name))
		return get_features() & GMEM_FEATURE_LIVE;
	return find_provider(name, &info);
}

/* Does a guest of this provider get all its memory when it starts? */
static inline bool binds_first(const char *provider)
{
	struct gmem_info info;

	return find_provider(provider, &info) &&
	       (info.provider_flags & GMEM_PROVIDER_BIND_FIRST);
}

static inline bool have_huge(void)
{
	return get_features() & GMEM_FEATURE_HUGEPAGE;
}

/* Does a VM of this kind have windows, of either kind? */
static inline bool has_window(const char *provider)
{
	return is_live(provider) || !strcmp(provider, "window");
}

/* Can a VM of this kind bind a guestmem with huge pages? */
static inline bool takes_huge(const char *provider)
{
	return have_huge() && (!is_live(provider) ||
			       (get_features() & GMEM_FEATURE_LIVE_HUGE));
}

#define NO_HUGE "provider %s takes no huge pages on this kernel"

static inline void set_name(__u8 *to, const char *name)
{
	memcpy(to, name, strnlen(name, GMEM_OBJECT_NAME_LEN - 1));
}

static inline int create_vm(const char *provider, struct gmem_vm_create create)
{
	create.size = sizeof(create);
	if (is_live(provider)) {
		create.flags |= GMEM_VM_LIVE;
		provider = "window";
	}
	strncpy((char *)create.provider_name, provider, GMEM_NAME_LEN - 1);
	return err_of(ioctl(gmem_dev(), GMEM_VM_CREATE, &create));
}

static inline int new_vm_bits(const char *provider, __u32 policy, __u32 bits)
{
	return create_vm(provider, (struct gmem_vm_create){
		.policy = policy,
		.guest_addr_bits = bits,
	});
}

static inline int new_vm_flags(const char *provider, __u32 policy, __u32 flags)
{
	return create_vm(provider, (struct gmem_vm_create){
		.policy = policy,
		.flags = flags,
	});
}

static inline int new_vm(const char *provider, __u32 policy)
{
	return new_vm_bits(provider, policy, 0);
}

static inline int new_vm_named(const char *provider, const char *name)
{
	struct gmem_vm_create create = {};

	set_name(create.name, name);
	return create_vm(provider, create);
}

static inline int new_mem_named(__u64 size, __u64 flags, const char *name)
{
	struct gmem_create_mem create = {
		.flags = flags | GMEM_MEM_CLOEXEC,
		.size = size,
	};

	set_name(create.name, name);
	return err_of(ioctl(gmem_dev(), GMEM_CREATE_MEM, &create));
}

static inline int new_mem(__u64 size, __u64 flags)
{
	return new_mem_named(size, flags, "");
}

/* A guestmem with a NUMA policy. @nodes: a mask. */
static inline int new_mem_numa(__u64 size, __u64 flags, __u32 mode, __u64 nodes)
{
	struct gmem_mem_create create = {
		.size = sizeof(create),
		.flags = flags,
		.length = size,
		.numa_mode = mode,
		.nr_nodes = nodes ? 64 : 0,
		.nodes = (uintptr_t)&nodes,
	};

	return err_of(ioctl(gmem_dev(), GMEM_MEM_CREATE, &create));
}

static inline int get_stats(struct gmem_stats *stats)
{
	*stats = (struct gmem_stats){ .size = sizeof(*stats) };
	return err_of(ioctl(gmem_dev(), GMEM_STATS, stats));
}

/*
 * Are the counts of objects as before? Objects that end in the background get
 * some seconds. Leaked pages stay for ever, so they don't count; nor do the
 * counters of events.
 */
static inline bool stats_settle(const struct gmem_stats *before)
{
	double end = now() + 20;
	struct gmem_stats after;

	do {
		if (get_stats(&after))
			return false;
		if (after.vms == before->vms && after.mems == before->mems &&
		    after.bindings == before->bindings &&
		    after.lent_pages == before->lent_pages)
			return true;
		usleep(10000);
	} while (now() < end);

	printf("# left over: %lld VMs, %lld guestmems, %lld bindings, %lld lent pages\n",
	       after.vms - before->vms, after.mems - before->mems,
	       after.bindings - before->bindings,
	       after.lent_pages - before->lent_pages);
	return false;
}

#endif /* LIB_DEVICE_H */
