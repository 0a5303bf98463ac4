/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The driver's side of a vhost device in the kernel. Rings and buffers lie in
 * the guest memory that @base maps, where a guest would have them.
 */
#ifndef LIB_VRING_H
#define LIB_VRING_H

#include "gmem.h"

#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/eventfd.h>

#define VRING_SIZE 16
/* The space of a ring in guest memory. */
#define VRING_BYTES KIB(4)

struct vring_queue {
	struct vring ring;
	__u8 *base;
	int kick;
	int call;
	__u16 added;
	__u16 used;
};

struct vring_buffer {
	__u64 gpa;
	__u32 length;
	bool device_writes;
};

/*
 * @size bytes of guest memory: behind a window of @vm, lent; or, if @vm is -1, a
 * memfd. @mem is its file. MAP_FAILED if that fails.
 */
static inline __u8 *vhost_guest_memory(int vm, __u64 size, __u64 mem_flags,
				       int *mem)
{
	if (vm < 0) {
		*mem = memfd_create("guest", MFD_CLOEXEC);
		return ftruncate(*mem, size) ? MAP_FAILED :
					       map_host(*mem, 0, size);
	}
	*mem = new_mem(size, mem_flags);
	return map_mem(vm, 0, *mem, 0, size, LEND | RWX) ?
		       MAP_FAILED :
		       map_window(vm, 0, size, PROT_READ | PROT_WRITE);
}

/* Give the device its owner, the features and the guest memory. 0 or -errno. */
static inline int vhost_open(int vhost, __u64 features, void *base, __u64 size)
{
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region region;
	} table = {
		.memory.nregions = 1,
		.region = {
			.memory_size = size,
			.userspace_addr = ptr_u64(base),
		},
	};

	if (ioctl(vhost, VHOST_SET_OWNER, NULL) ||
	    ioctl(vhost, VHOST_SET_FEATURES, &features) ||
	    ioctl(vhost, VHOST_SET_MEM_TABLE, &table))
		return -errno;
	return 0;
}

/* Set up ring @index of a device, at guest address @gpa. 0 or -errno. */
static inline int vring_open(struct vring_queue *q, int vhost, unsigned int index,
			     __u8 *base, __u64 gpa)
{
	struct vhost_vring_state state = { .index = index, .num = VRING_SIZE };
	struct vhost_vring_file file = { .index = index };
	struct vhost_vring_addr addr = { .index = index };

	memset(q, 0, sizeof(*q));
	q->base = base;
	q->kick = eventfd(0, EFD_CLOEXEC);
	q->call = eventfd(0, EFD_CLOEXEC);
	memset(base + gpa, 0, VRING_BYTES);
	vring_init(&q->ring, VRING_SIZE, base + gpa, 64);
	addr.desc_user_addr = ptr_u64(q->ring.desc);
	addr.avail_user_addr = ptr_u64(q->ring.avail);
	addr.used_user_addr = ptr_u64(q->ring.used);

	if (ioctl(vhost, VHOST_SET_VRING_NUM, &state))
		return -errno;
	state.num = 0;
	if (ioctl(vhost, VHOST_SET_VRING_BASE, &state) ||
	    ioctl(vhost, VHOST_SET_VRING_ADDR, &addr))
		return -errno;
	file.fd = q->kick;
	if (ioctl(vhost, VHOST_SET_VRING_KICK, &file))
		return -errno;
	file.fd = q->call;
	return ioctl(vhost, VHOST_SET_VRING_CALL, &file) ? -errno : 0;
}

static inline void vring_close(struct vring_queue *q)
{
	close(q->kick);
	close(q->call);
}

/* Give the device a chain of up to four buffers. At most four chains are out. */
static inline void vring_add(struct vring_queue *q,
			     const struct vring_buffer *buffers, int nr)
{
	__u16 head = q->added * 4 % VRING_SIZE;
	struct vring_desc *desc;
	__u64 one = 1;
	int i;

	for (i = 0; i < nr; i++) {
		desc = &q->ring.desc[head + i];
		desc->addr = buffers[i].gpa;
		desc->len = buffers[i].length;
		desc->flags = buffers[i].device_writes ? VRING_DESC_F_WRITE : 0;
		if (i + 1 < nr) {
			desc->flags |= VRING_DESC_F_NEXT;
			desc->next = head + i + 1;
		}
	}
	q->ring.avail->ring[q->added % VRING_SIZE] = head;
	q->added++;
	__atomic_store_n(&q->ring.avail->idx, q->added, __ATOMIC_RELEASE);
	if (write(q->kick, &one, sizeof(one)) < 0)
		perror("kick");
}

/* The bytes that the device wrote to the next chain, or -ETIMEDOUT. */
static inline int vring_wait(struct vring_queue *q, int seconds)
{
	struct vring_used_elem *element;
	double end = now() + seconds;

	while (__atomic_load_n(&q->ring.used->idx, __ATOMIC_ACQUIRE) == q->used) {
		if (now() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	element = &q->ring.used->ring[q->used++ % VRING_SIZE];
	return element->len;
}

#endif /* LIB_VRING_H */
