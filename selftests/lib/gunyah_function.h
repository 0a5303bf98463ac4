/* SPDX-License-Identifier: GPL-2.0-only */
/* Doorbells and eventfds of a VM under Gunyah. Every call is 0 or -errno. */
#ifndef LIB_GUNYAH_FUNCTION_H
#define LIB_GUNYAH_FUNCTION_H

#include "gunyah_fixture.h"

#include <sys/eventfd.h>

static inline int gunyah_function(int vm, unsigned long call, __u32 type,
				  const void *arg, __u32 size)
{
	struct gmem_gunyah_fn_desc desc = {
		.type = type,
		.arg_size = size,
		.arg = ptr_u64(arg),
	};

	return err_of(ioctl(vm, call, &desc));
}

static inline int add_irqfd(int vm, int fd, __u32 label, __u32 flags)
{
	struct gmem_gunyah_fn_irqfd_arg arg = {
		.fd = fd, .label = label, .flags = flags,
	};

	return gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
			       GMEM_GUNYAH_FN_IRQFD, &arg, sizeof(arg));
}

/* Only the label counts. */
static inline int remove_irqfd(int vm, __u32 label)
{
	struct gmem_gunyah_fn_irqfd_arg arg = { .fd = -1, .label = label };

	return gunyah_function(vm, GMEM_GUNYAH_REMOVE_FUNCTION,
			       GMEM_GUNYAH_FN_IRQFD, &arg, sizeof(arg));
}

static inline int add_ioeventfd(int vm,
				const struct gmem_gunyah_fn_ioeventfd_arg *arg)
{
	return gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
			       GMEM_GUNYAH_FN_IOEVENTFD, arg, sizeof(*arg));
}

static inline int
remove_ioeventfd(int vm, const struct gmem_gunyah_fn_ioeventfd_arg *arg)
{
	return gunyah_function(vm, GMEM_GUNYAH_REMOVE_FUNCTION,
			       GMEM_GUNYAH_FN_IOEVENTFD, arg, sizeof(*arg));
}

static inline int new_eventfd(void)
{
	return err_of(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/* Add to an eventfd. */
static inline int signal_eventfd(int fd, __u64 n)
{
	return write(fd, &n, sizeof(n)) == sizeof(n) ? 0 : -errno;
}

/* Read and clear an eventfd. */
static inline __u64 eventfd_count(int fd)
{
	__u64 n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* VMs that start from now on have such a doorbell. */
static inline int64_t plan_bell(const struct el2 *el2, __u32 label, __u64 flags)
{
	return el2_hvc(el2, EL2_BELL_PLAN, label, flags);
}

static inline int64_t forget_bells(const struct el2 *el2)
{
	return el2_hvc(el2, EL2_BELL_PLAN, EL2_ANY);
}

struct bell_state {
	__u64 flags, enable, ack, asserted;
};

static inline struct bell_state bell_state(const struct el2 *el2, __u64 vmid,
					   __u32 label)
{
	uint64_t x[9] = { EL2_BELL_STATE, vmid, label };

	if (el2_call(el2, x))
		return (struct bell_state){ .asserted = ~0ULL };
	return (struct bell_state){ x[1], x[2], x[3], x[4] };
}

#endif /* LIB_GUNYAH_FUNCTION_H */
