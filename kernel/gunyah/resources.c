// SPDX-License-Identifier: GPL-2.0-only
#include <linux/errno.h>
#include <linux/types.h>

#include "irqfd.h"
#include "objects.h"
#include "resources.h"
#include "rm_calls.h"
#include "rm_wire.h"
#include "vcpu_file.h"

enum gunyah_addrspace_label { GUNYAH_LABEL_ADDRSPACE = 0 };

enum gunyah_extent_label {
	GUNYAH_LABEL_GUEST_PRIVATE = 0,
	GUNYAH_LABEL_HOST_SHARED = 1,
	GUNYAH_LABEL_HOST_PRIVATE = 2,
	GUNYAH_LABEL_GUEST_SHARED = 3,
};

static int gunyah_resource_extent(struct gunyah_vm *g, u32 label, u64 cap)
{
	switch (label) {
	case GUNYAH_LABEL_GUEST_PRIVATE:
		g->extents.guest_private = cap;
		break;
	case GUNYAH_LABEL_HOST_SHARED:
		g->extents.host_shared = cap;
		break;
	case GUNYAH_LABEL_HOST_PRIVATE:
		g->extents.host_private = cap;
		break;
	case GUNYAH_LABEL_GUEST_SHARED:
		g->extents.guest_shared = cap;
		break;
	}
	return 0;
}

static int gunyah_resource(void *data, const struct gunyah_rm_resource *res)
{
	struct gunyah_vm *g = data;
	u32 label = le32_to_cpu(res->label);
	u64 cap = le64_to_cpu(res->cap);
	int err;

	switch (res->type) {
	case GUNYAH_RM_RESOURCE_BELL:
		mutex_lock(&g->functions_lock);
		err = gunyah_bell_found(g, label, cap);
		mutex_unlock(&g->functions_lock);
		return err;
	case GUNYAH_RM_RESOURCE_VCPU:
		mutex_lock(&g->functions_lock);
		err = gunyah_vcpu_found(g, label, cap, le32_to_cpu(res->virq));
		mutex_unlock(&g->functions_lock);
		return err;
	case GUNYAH_RM_RESOURCE_MEM_EXTENT:
		return gunyah_resource_extent(g, label, cap);
	case GUNYAH_RM_RESOURCE_ADDR_SPACE:
		if (label == GUNYAH_LABEL_ADDRSPACE)
			g->extents.addrspace = cap;
		break;
	}
	return 0;
}

int gunyah_resources_get(struct gunyah_vm *g)
{
	struct gunyah_extents *x = &g->extents;
	int err;

	WRITE_ONCE(g->connected, true);
	err = gunyah_rm_vm_get_resources(g->rm, g->vmid, gunyah_resource,
					 g);
	if (!err) {
		mutex_lock(&g->functions_lock);
		gunyah_bells_check(g);
		mutex_unlock(&g->functions_lock);
	}
	if (err || g->memory == GUNYAH_MEMORY_PARCELS)
		return err;

	/* On some platforms, one extent of the host serves both uses. */
	if (!x->host_private)
		x->host_private = x->host_shared;
	if (!x->host_shared)
		x->host_shared = x->host_private;
	if (!x->addrspace || !x->guest_private || !x->guest_shared ||
	    !x->host_private)
		return -EOPNOTSUPP;
	return 0;
}
