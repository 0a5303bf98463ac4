/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _GUEST_CONFIG_H
#define _GUEST_CONFIG_H

#include "el2.h"

#define MAX_SHM			16
#define MAX_BELLS		16

/* A region for a shared parcel: a vdevice of type "shm" */
struct shm_config {
	u32 label;
	/* The Resource Manager chooses the address. */
	bool allocate;
	/* The parcel may be missing. */
	bool optional;
	u64 base;
	/* Of the node that the Resource Manager makes for it */
	char path[64];
};

/* A doorbell: a vdevice of type "doorbell", or "doorbell-source" */
struct bell_config {
	u32 label;
	/* The guest's interrupt, if the host rings and the tree names one; or 0 */
	u32 interrupt;
	/* The guest rings. */
	bool source;
	bool source_can_clear;
};

/* A VM's configuration in the guest's device tree */
struct guest_config {
	u64 base;
	u64 size_max;
	/* The host runs the vCPUs: affinity = "proxy". */
	bool proxy;
	/* An interrupt controller that the Resource Manager knows */
	bool gic;
	/* The addresses of its registers, or 0 */
	u64 gic_dist, gic_redist;
	/* The guest may call the Resource Manager. */
	bool rpc;
	/* There is the node, and in it are vCPUs. */
	bool has_config;
	u8 nr_cpus, nr_shm, nr_bells;
	struct shm_config shm[MAX_SHM];
	struct bell_config bells[MAX_BELLS];
	char name[80];
};

/*
 * Read the configuration from the open tree. Returns an error of the Resource
 * Manager.
 */
u32 guest_config_read(struct guest_config *config);

#endif /* _GUEST_CONFIG_H */
