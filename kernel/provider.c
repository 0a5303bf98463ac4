// SPDX-License-Identifier: GPL-2.0
#include <linux/bits.h>
#include <linux/gmem.h>
#include <linux/kernel.h>
#include <linux/nospec.h>
#include <linux/string.h>

#include "mock.h"
#include "provider.h"
#include "window.h"

/* The first is the default. */
static const struct gmem_provider *const gmem_providers[] = {
	&gmem_window_provider,
#ifdef CONFIG_GMEM_TEST
	&gmem_mock_provider,
#endif
};

u32 gmem_nr_providers(void)
{
	return ARRAY_SIZE(gmem_providers);
}

const struct gmem_provider *gmem_provider_at(u32 index)
{
	if (index >= ARRAY_SIZE(gmem_providers))
		return NULL;
	return gmem_providers[array_index_nospec(index,
						 ARRAY_SIZE(gmem_providers))];
}

const struct gmem_provider *gmem_provider_find(const char *name)
{
	size_t i;

	if (!*name)
		return gmem_providers[0];
	for (i = 0; i < ARRAY_SIZE(gmem_providers); i++)
		if (!strcmp(gmem_providers[i]->name, name))
			return gmem_providers[i];
	return NULL;
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

bool gmem_provider_shares_again(const struct gmem_provider *provider)
{
	return provider->flags & GMEM_PROVIDER_SHARE_MULTI;
}
