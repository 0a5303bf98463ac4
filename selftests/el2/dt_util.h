/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flattened device trees for tests: a writer, and the tree of a guest with one
 * vCPU or more that the public Resource Manager takes.
 */
#ifndef _DT_UTIL_H
#define _DT_UTIL_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define DT_MAGIC		0xd00dfeedU

/* Where a guest's interrupt controller is; a redistributor for each vCPU */
#define GIC_DIST		0x8000000ULL
#define GIC_REDIST		0x80a0000ULL
#define GIC_REDIST_SIZE		0x20000ULL

/* A tree that is being written; what has no room is left out. */
struct dt {
	uint8_t *blob;
	uint32_t room, at;
	char names[2048];
	uint32_t nr_names;
	bool full;
};

static inline void dt_put(struct dt *dt, const void *data, uint32_t size)
{
	uint32_t padded = (size + 3) & ~3U;

	if (padded > dt->room - dt->at) {
		dt->full = true;
		return;
	}
	memset(dt->blob + dt->at, 0, padded);
	if (size)
		memcpy(dt->blob + dt->at, data, size);
	dt->at += padded;
}

static inline void dt_put_u32(struct dt *dt, uint32_t value)
{
	value = htobe32(value);
	dt_put(dt, &value, sizeof(value));
}

/* Begin with the root. @room is for the whole tree. */
static inline void dt_begin(struct dt *dt, void *blob, uint32_t room)
{
	*dt = (struct dt) { .blob = blob, .room = room };
	/* The header, and an empty list of reserved ranges */
	for (int i = 0; i < 14; i++)
		dt_put_u32(dt, 0);
	dt_put_u32(dt, 1);
	dt_put_u32(dt, 0);
}

static inline void dt_node(struct dt *dt, const char *name)
{
	dt_put_u32(dt, 1);
	dt_put(dt, name, strlen(name) + 1);
}

static inline void dt_end_node(struct dt *dt)
{
	dt_put_u32(dt, 2);
}

static inline uint32_t dt_name(struct dt *dt, const char *name)
{
	uint32_t at = 0, size = strlen(name) + 1;

	for (; at < dt->nr_names; at += strlen(dt->names + at) + 1) {
		if (!strcmp(dt->names + at, name))
			return at;
	}
	if (size > sizeof(dt->names) - at) {
		dt->full = true;
		return 0;
	}
	memcpy(dt->names + at, name, size);
	dt->nr_names += size;
	return at;
}

static inline void dt_property(struct dt *dt, const char *name,
			       const void *value, uint32_t size)
{
	dt_put_u32(dt, 3);
	dt_put_u32(dt, size);
	dt_put_u32(dt, dt_name(dt, name));
	dt_put(dt, value, size);
}

static inline void dt_flag(struct dt *dt, const char *name)
{
	dt_property(dt, name, NULL, 0);
}

static inline void dt_string(struct dt *dt, const char *name, const char *value)
{
	dt_property(dt, name, value, strlen(value) + 1);
}

static inline void dt_u32(struct dt *dt, const char *name, uint32_t value)
{
	value = htobe32(value);
	dt_property(dt, name, &value, sizeof(value));
}

static inline void dt_u64(struct dt *dt, const char *name, uint64_t value)
{
	value = htobe64(value);
	dt_property(dt, name, &value, sizeof(value));
}

/* Two addresses or sizes of two cells each */
static inline void dt_range(struct dt *dt, const char *name, uint64_t start,
			    uint64_t size)
{
	const uint64_t range[] = { htobe64(start), htobe64(size) };

	dt_property(dt, name, range, sizeof(range));
}

/* End the root, and write the header. Returns the tree's size; 0: no room. */
static inline uint32_t dt_finish(struct dt *dt)
{
	uint32_t strings, header[10];

	dt_end_node(dt);
	dt_put_u32(dt, 9);
	strings = dt->at;
	dt_put(dt, dt->names, dt->nr_names);
	if (dt->full)
		return 0;
	memcpy(header, (uint32_t []){
		DT_MAGIC, strings + dt->nr_names, 56, strings, 40, 17, 16, 0,
		dt->nr_names, strings - 56,
	}, sizeof(header));
	for (int i = 0; i < 10; i++)
		header[i] = htobe32(header[i]);
	memcpy(dt->blob, header, sizeof(header));
	return strings + dt->nr_names;
}

/* A region for a shared parcel: a vdevice */
struct guest_dt_shm {
	uint32_t label;
	uint64_t base;
	bool optional;
};

struct guest_dt {
	/* Where the image goes, aligned to 2 MiB */
	uint64_t base;
	const struct guest_dt_shm *shm;
	uint32_t nr_shm;
	/* Add nodes to the root, or NULL. */
	void (*add)(struct dt *dt);
	/* 0: one */
	uint32_t nr_cpus;
	/* The guest may call the Resource Manager. */
	bool rpc;
	/* Leave out what the Resource Manager needs. */
	bool no_config, no_name, no_proxy, no_gic, no_chosen;
};

static inline void guest_dt_config(struct dt *dt, const struct guest_dt *guest)
{
	dt_node(dt, "gunyah-vm-config");
	if (!guest->no_name)
		dt_string(dt, "image-name", "test");
	dt_string(dt, "os-type", "linux");
	dt_node(dt, "memory");
	dt_u32(dt, "#address-cells", 2);
	dt_u32(dt, "#size-cells", 2);
	dt_u64(dt, "base-address", guest->base);
	dt_end_node(dt);
	dt_node(dt, "vcpus");
	dt_string(dt, "config", "/cpus");
	if (!guest->no_proxy)
		dt_string(dt, "affinity", "proxy");
	dt_end_node(dt);
	dt_node(dt, "vdevices");
	dt_string(dt, "generate", "/hypervisor");
	for (uint32_t i = 0; i < guest->nr_shm; i++) {
		const struct guest_dt_shm *shm = &guest->shm[i];
		char name[] = "shm-0", path[] = "/hypervisor/shm-0";

		name[4] += i;
		path[sizeof(path) - 2] += i;
		dt_node(dt, name);
		dt_string(dt, "vdevice-type", "shm");
		dt_string(dt, "generate", path);
		dt_flag(dt, "peer-default");
		dt_node(dt, "memory");
		dt_u32(dt, "qcom,label", shm->label);
		dt_u64(dt, "base", shm->base);
		if (shm->optional)
			dt_flag(dt, "optional");
		dt_end_node(dt);
		dt_end_node(dt);
	}
	if (guest->rpc) {
		dt_node(dt, "rm-rpc");
		dt_string(dt, "vdevice-type", "rm-rpc");
		dt_string(dt, "generate", "/hypervisor/qcom,resource-manager-rpc");
		dt_flag(dt, "peer-default");
		dt_end_node(dt);
	}
	dt_end_node(dt);
	dt_end_node(dt);
}

/* Write the tree. Returns its size; 0: no room. */
static inline uint32_t guest_dt_write(void *blob, uint32_t room,
				      const struct guest_dt *guest)
{
	struct dt dt;

	dt_begin(&dt, blob, room);
	dt_u32(&dt, "#address-cells", 2);
	dt_u32(&dt, "#size-cells", 2);
	dt_u32(&dt, "interrupt-parent", 1);
	dt_string(&dt, "compatible", "gmem,test");
	if (!guest->no_config)
		guest_dt_config(&dt, guest);
	if (!guest->no_chosen) {
		dt_node(&dt, "chosen");
		dt_end_node(&dt);
	}
	dt_node(&dt, "cpus");
	dt_u32(&dt, "#address-cells", 1);
	dt_u32(&dt, "#size-cells", 0);
	for (uint32_t i = 0; !i || i < guest->nr_cpus; i++) {
		char name[] = "cpu@0";

		name[4] += i;
		dt_node(&dt, name);
		dt_string(&dt, "device_type", "cpu");
		dt_string(&dt, "compatible", "arm,armv8");
		dt_string(&dt, "enable-method", "psci");
		dt_u32(&dt, "reg", i);
		dt_end_node(&dt);
	}
	dt_end_node(&dt);
	dt_node(&dt, "psci");
	dt_string(&dt, "compatible", "arm,psci-1.0");
	dt_string(&dt, "method", "hvc");
	dt_end_node(&dt);
	if (!guest->no_gic) {
		const uint64_t reg[] = {
			htobe64(GIC_DIST), htobe64(0x10000),
			htobe64(GIC_REDIST), htobe64(0x100000),
		};

		dt_node(&dt, "intc@8000000");
		dt_string(&dt, "compatible", "arm,gic-v3");
		dt_flag(&dt, "interrupt-controller");
		dt_u32(&dt, "#interrupt-cells", 3);
		dt_property(&dt, "reg", reg, sizeof(reg));
		dt_u32(&dt, "phandle", 1);
		dt_end_node(&dt);
	}
	if (guest->add)
		guest->add(&dt);
	return dt_finish(&dt);
}

#endif /* _DT_UTIL_H */
