// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bits.h>
#include <linux/cache.h>
#include <linux/gmem.h>
#include <linux/string.h>

#include "objects.h"
#include "provider.h"

/* The arguments of gmem_providers_init(). */
static const struct gmem_provider *const *gmem_providers __ro_after_init;
static size_t gmem_nr_all_providers __ro_after_init;

static bool gmem_provider_present(const struct gmem_provider *provider)
{
	return !provider->present || provider->present();
}

u32 gmem_nr_providers(void)
{
	u32 nr = 0;

	while (gmem_provider_at(nr))
		nr++;
	return nr;
}

const struct gmem_provider *gmem_provider_at(u32 index)
{
	size_t i;

	for (i = 0; i < gmem_nr_all_providers; i++)
		if (gmem_provider_present(gmem_providers[i]) && !index--)
			return gmem_providers[i];
	return NULL;
}

const struct gmem_provider *gmem_provider_find(const char *name)
{
	size_t i;

	for (i = 0; i < gmem_nr_all_providers; i++)
		if ((!*name || !strcmp(gmem_providers[i]->name, name)) &&
		    gmem_provider_present(gmem_providers[i]))
			return gmem_providers[i];
	return NULL;
}

bool gmem_provider_vm_detail(struct gmem_vm *vm, unsigned int index,
			     struct gmem_vm_detail *detail)
{
	return vm->provider->vm_detail &&
	       vm->provider->vm_detail(vm, index, detail);
}

static void gmem_providers_undo(size_t nr)
{
	while (nr--)
		if (gmem_providers[nr]->exit)
			gmem_providers[nr]->exit();
}

int gmem_providers_init(const struct gmem_provider *const *providers, size_t nr)
{
	size_t i;
	int err;

	gmem_providers = providers;
	gmem_nr_all_providers = nr;
	for (i = 0; i < nr; i++) {
		if (!providers[i]->init)
			continue;
		err = providers[i]->init();
		if (err) {
			gmem_providers_undo(i);
			return err;
		}
	}
	return 0;
}

void gmem_providers_exit(void)
{
	gmem_providers_undo(gmem_nr_all_providers);
}

void gmem_providers_debugfs(struct dentry *dir)
{
	size_t i;

	for (i = 0; i < gmem_nr_all_providers; i++)
		if (gmem_providers[i]->debugfs)
			gmem_providers[i]->debugfs(dir);
}

void gmem_provider_limits(const struct gmem_provider *provider,
			  struct gmem_provider_limits *limits)
{
	*limits = (struct gmem_provider_limits) {
		.flags = provider->flags,
		.max_guest_addr_bits = provider->max_guest_addr_bits,
	};
	if (provider->limits)
		provider->limits(limits);
}

bool gmem_provider_can(const struct gmem_provider *provider, u32 map_flags)
{
	unsigned int combination = 0;

	if (map_flags & GMEM_MAP_ALLOW_READ)
		combination |= GMEM_ACCESS_READ;
	if (map_flags & GMEM_MAP_ALLOW_WRITE)
		combination |= GMEM_ACCESS_WRITE;
	if (map_flags & GMEM_MAP_ALLOW_EXEC)
		combination |= GMEM_ACCESS_EXEC;
	return provider->map_access & BIT(combination);
}

bool gmem_provider_batches(struct gmem_vm *vm)
{
	return vm->provider->batches && vm->provider->batches(vm);
}

bool gmem_provider_shares_again(const struct gmem_provider *provider)
{
	return provider->flags & GMEM_PROVIDER_SHARE_MULTI;
}
