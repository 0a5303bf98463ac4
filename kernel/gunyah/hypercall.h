/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gunyah's hypercalls, by SMCCC. Each returns 0 or one of &enum gunyah_error,
 * which gunyah_error_errno() turns into an errno. No function here takes a
 * lock; the caller's context must be one that may sleep, except for
 * gunyah_doorbell_send().
 */
#ifndef _GMEM_GUNYAH_HYPERCALL_H
#define _GMEM_GUNYAH_HYPERCALL_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/types.h>

/* The hypervisor's result of a call: a signed 64-bit number. */
enum gunyah_error {
	GUNYAH_ERROR_UNIMPLEMENTED = -1,
	GUNYAH_ERROR_RETRY = -2,
	GUNYAH_ERROR_OK = 0,
	GUNYAH_ERROR_ARG_INVALID = 1,
	GUNYAH_ERROR_ARG_SIZE = 2,
	GUNYAH_ERROR_ARG_ALIGN = 3,
	GUNYAH_ERROR_NOMEM = 10,
	GUNYAH_ERROR_NORESOURCES = 11,
	GUNYAH_ERROR_ADDR_OVERFLOW = 20,
	GUNYAH_ERROR_ADDR_UNDERFLOW = 21,
	GUNYAH_ERROR_ADDR_INVALID = 22,
	GUNYAH_ERROR_DENIED = 30,
	GUNYAH_ERROR_BUSY = 31,
	GUNYAH_ERROR_IDLE = 32,
	GUNYAH_ERROR_OBJECT_STATE = 33,
	GUNYAH_ERROR_OBJECT_CONFIG = 34,
	GUNYAH_ERROR_OBJECT_CONFIGURED = 35,
	GUNYAH_ERROR_FAILURE = 36,
	GUNYAH_ERROR_VIRQ_BOUND = 40,
	GUNYAH_ERROR_VIRQ_NOT_BOUND = 41,
	GUNYAH_ERROR_CAP_NULL = 50,
	GUNYAH_ERROR_CAP_REVOKED = 51,
	GUNYAH_ERROR_WRONG_OBJECT_TYPE = 52,
	GUNYAH_ERROR_INSUFFICIENT_RIGHTS = 53,
	GUNYAH_ERROR_CSPACE_FULL = 54,
	GUNYAH_ERROR_MSGQUEUE_EMPTY = 60,
	GUNYAH_ERROR_MSGQUEUE_FULL = 61,
	GUNYAH_ERROR_MEMDB_NOT_OWNER = 111,
	GUNYAH_ERROR_MAPPINGS_FULL = 120,
	GUNYAH_ERROR_MEMEXTENT_TYPE = 121,
	GUNYAH_ERROR_EXISTING_MAPPING = 200,
};

int gunyah_error_errno(s64 error);
const char *gunyah_error_name(s64 error);

/* The result of gunyah_hyp_identify(). */
struct gunyah_api {
	u64 info;
	u64 flags[3];
};

#define GUNYAH_API_VERSION(info) ((info) & GENMASK_ULL(13, 0))
#define GUNYAH_API_BIG_ENDIAN BIT_ULL(14)
#define GUNYAH_API_64BIT BIT_ULL(15)
#define GUNYAH_API_VARIANT(info) ((info) >> 56)

#define GUNYAH_FEATURE_MSGQUEUE BIT_ULL(2)
#define GUNYAH_FEATURE_VCPU BIT_ULL(5)
#define GUNYAH_FEATURE_MEMEXTENT BIT_ULL(6)

/*
 * True if the hypervisor is Gunyah. An HVC without any hypervisor is fatal:
 * call this only where the device tree names Gunyah.
 */
bool gunyah_hyp_present(void);
void gunyah_hyp_identify(struct gunyah_api *api);

/*
 * Set flags of a doorbell; those of its enable mask assert the guest's interrupt.
 * May be called from any context.
 */
s64 gunyah_doorbell_send(u64 cap, u64 flags);
/*
 * @ack: the flags that are cleared as soon as they have asserted the interrupt;
 * by default none, and @enable is all.
 */
s64 gunyah_doorbell_mask(u64 cap, u64 enable, u64 ack);

#define GUNYAH_MSGQUEUE_PUSH BIT_ULL(0)

s64 gunyah_msgqueue_send(u64 cap, const void *msg, size_t size, u64 flags,
			 bool *not_full);
s64 gunyah_msgqueue_receive(u64 cap, void *msg, size_t room, size_t *size,
			    bool *not_empty);

/* Access rights, in mappings of extents and in the RM's lists for parcels. */
#define GUNYAH_ACCESS_X BIT(0)
#define GUNYAH_ACCESS_W BIT(1)
#define GUNYAH_ACCESS_R BIT(2)

#define GUNYAH_MEMTYPE_NORMAL_WB 0xfULL

/* Flags of gunyah_addrspace_map() and _unmap(). */
#define GUNYAH_MAP_PARTIAL BIT_ULL(0)
#define GUNYAH_MAP_PRIVATE BIT_ULL(1)
#define GUNYAH_MAP_VMMIO BIT_ULL(2)
#define GUNYAH_MAP_NOSYNC BIT_ULL(31)

/* The operation of gunyah_memextent_sync(). */
#define GUNYAH_MODIFY_SYNC_ALL 255

/* Types of gunyah_memextent_donate(). */
#define GUNYAH_DONATE_TO_SIBLING 2
#define GUNYAH_DONATE_TO_PROTECTED 3
#define GUNYAH_DONATE_FROM_PROTECTED 4

/**
 * struct gunyah_mapping - a range of an extent in an address space
 * @addrspace: capability of the address space
 * @extent: capability of the extent
 * @base: guest address
 * @flags: GUNYAH_MAP bits
 * @offset: where the range begins in the extent: the physical address
 * @size: in bytes
 */
struct gunyah_mapping {
	u64 addrspace;
	u64 extent;
	u64 base;
	u64 flags;
	u64 offset;
	u64 size;
};

/* @access: GUNYAH_ACCESS bits, for the guest's user and kernel mode alike. */
s64 gunyah_addrspace_map(const struct gunyah_mapping *mapping, u64 access);
s64 gunyah_addrspace_unmap(const struct gunyah_mapping *mapping);
/*
 * Wait until no vCPU uses the mappings of @extent that were unmapped with
 * GUNYAH_MAP_NOSYNC.
 */
s64 gunyah_memextent_sync(u64 extent);
s64 gunyah_memextent_donate(u64 type, u64 from, u64 to, u64 offset, u64 size);

/* Why a vCPU stopped. */
enum gunyah_vcpu_state {
	GUNYAH_VCPU_READY = 0,
	GUNYAH_VCPU_EXPECTS_WAKEUP = 1,
	GUNYAH_VCPU_POWERED_OFF = 2,
	GUNYAH_VCPU_BLOCKED = 3,
	GUNYAH_VCPU_VMMIO_READ = 4,
	GUNYAH_VCPU_VMMIO_WRITE = 5,
	GUNYAH_VCPU_FAULT = 6,
	GUNYAH_VCPU_PAGE_FAULT = 7,
	GUNYAH_VCPU_SYSTEM_RESET = 0x100,
};

/* The second of the three values that resume a vCPU. */
enum gunyah_vcpu_resume {
	GUNYAH_VCPU_RESUME_EMULATE = 0,
	GUNYAH_VCPU_RESUME_RETRY = 1,
	GUNYAH_VCPU_RESUME_FAULT = 2,
};

s64 gunyah_vcpu_run(u64 cap, const u64 resume[3], u64 *state, u64 data[3]);

/* The number of hypercalls, and of those that failed. */
extern atomic64_t gunyah_nr_hypercalls;
extern atomic64_t gunyah_nr_hypercall_errors;

#endif /* _GMEM_GUNYAH_HYPERCALL_H */
