// SPDX-License-Identifier: GPL-2.0-only
#include <linux/arm-smccc.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/sched.h>

#include "hypercall.h"
#include "trace.h"

/* Vendor hypervisor service calls: a fast call, 64 bits wide, owner 6. */
#define GUNYAH_FUNCTION(nr) (0xc6008000UL + (nr))

enum gunyah_hypercall {
	GUNYAH_HYP_IDENTIFY = 0x00,
	GUNYAH_DOORBELL_SEND = 0x12,
	GUNYAH_DOORBELL_MASK = 0x15,
	GUNYAH_MSGQUEUE_SEND = 0x1b,
	GUNYAH_MSGQUEUE_RECEIVE = 0x1c,
	GUNYAH_ADDRSPACE_MAP = 0x2b,
	GUNYAH_ADDRSPACE_UNMAP = 0x2c,
	GUNYAH_MEMEXTENT_MODIFY = 0x30,
	GUNYAH_MEMEXTENT_DONATE = 0x61,
	GUNYAH_VCPU_RUN = 0x65,
};

/* How often a call is made again while the hypervisor answers RETRY. */
#define GUNYAH_RETRIES 1000

atomic64_t gunyah_nr_hypercalls;
atomic64_t gunyah_nr_hypercall_errors;

static const struct {
	s64 error;
	int err;
	const char *name;
} gunyah_errors[] = {
	{ GUNYAH_ERROR_OK, 0, "OK" },
	{ GUNYAH_ERROR_UNIMPLEMENTED, -EOPNOTSUPP, "UNIMPLEMENTED" },
	{ GUNYAH_ERROR_RETRY, -EAGAIN, "RETRY" },
	{ GUNYAH_ERROR_ARG_INVALID, -EINVAL, "ARGUMENT_INVALID" },
	{ GUNYAH_ERROR_ARG_SIZE, -EINVAL, "ARGUMENT_SIZE" },
	{ GUNYAH_ERROR_ARG_ALIGN, -EINVAL, "ARGUMENT_ALIGNMENT" },
	{ GUNYAH_ERROR_NOMEM, -ENOMEM, "NOMEM" },
	{ GUNYAH_ERROR_NORESOURCES, -EIO, "NORESOURCES" },
	{ GUNYAH_ERROR_ADDR_OVERFLOW, -EINVAL, "ADDR_OVERFLOW" },
	{ GUNYAH_ERROR_ADDR_UNDERFLOW, -EINVAL, "ADDR_UNDERFLOW" },
	{ GUNYAH_ERROR_ADDR_INVALID, -EINVAL, "ADDR_INVALID" },
	{ GUNYAH_ERROR_DENIED, -EACCES, "DENIED" },
	{ GUNYAH_ERROR_BUSY, -EBUSY, "BUSY" },
	{ GUNYAH_ERROR_IDLE, -EBUSY, "IDLE" },
	{ GUNYAH_ERROR_OBJECT_STATE, -EIO, "OBJECT_STATE" },
	{ GUNYAH_ERROR_OBJECT_CONFIG, -EIO, "OBJECT_CONFIG" },
	{ GUNYAH_ERROR_OBJECT_CONFIGURED, -EIO, "OBJECT_CONFIGURED" },
	{ GUNYAH_ERROR_FAILURE, -EIO, "FAILURE" },
	{ GUNYAH_ERROR_VIRQ_BOUND, -EIO, "VIRQ_BOUND" },
	{ GUNYAH_ERROR_VIRQ_NOT_BOUND, -EIO, "VIRQ_NOT_BOUND" },
	{ GUNYAH_ERROR_CAP_NULL, -EACCES, "CSPACE_CAP_NULL" },
	{ GUNYAH_ERROR_CAP_REVOKED, -EACCES, "CSPACE_CAP_REVOKED" },
	{ GUNYAH_ERROR_WRONG_OBJECT_TYPE, -EACCES, "CSPACE_WRONG_OBJECT_TYPE" },
	{ GUNYAH_ERROR_INSUFFICIENT_RIGHTS, -EACCES,
	  "CSPACE_INSUFFICIENT_RIGHTS" },
	{ GUNYAH_ERROR_CSPACE_FULL, -EBUSY, "CSPACE_FULL" },
	{ GUNYAH_ERROR_MSGQUEUE_EMPTY, -EIO, "MSGQUEUE_EMPTY" },
	{ GUNYAH_ERROR_MSGQUEUE_FULL, -EIO, "MSGQUEUE_FULL" },
	{ GUNYAH_ERROR_MEMDB_NOT_OWNER, -EIO, "MEMDB_NOT_OWNER" },
	{ GUNYAH_ERROR_MAPPINGS_FULL, -EIO, "MEMEXTENT_MAPPINGS_FULL" },
	{ GUNYAH_ERROR_MEMEXTENT_TYPE, -EIO, "MEMEXTENT_TYPE" },
	{ GUNYAH_ERROR_EXISTING_MAPPING, -EIO, "EXISTING_MAPPING" },
};

int gunyah_error_errno(s64 error)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gunyah_errors); i++)
		if (gunyah_errors[i].error == error)
			return gunyah_errors[i].err;
	return -EIO;
}

const char *gunyah_error_name(s64 error)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(gunyah_errors); i++)
		if (gunyah_errors[i].error == error)
			return gunyah_errors[i].name;
	return "unknown error";
}

/*
 * The arguments are in regs->a1 to a8; the results come back in a1 to a4. @pause:
 * what to do before another try.
 */
static s64 gunyah_hypercall_with(enum gunyah_hypercall nr,
				 struct arm_smccc_1_2_regs *regs,
				 void (*pause)(void))
{
	struct arm_smccc_1_2_regs args = *regs;
	int tries;
	s64 error;

	args.a0 = GUNYAH_FUNCTION(nr);
	for (tries = 0; tries < GUNYAH_RETRIES; tries++) {
		arm_smccc_1_2_hvc(&args, regs);
		error = regs->a0;
		if (error != GUNYAH_ERROR_RETRY)
			break;
		pause();
	}

	atomic64_inc(&gunyah_nr_hypercalls);
	/* An empty queue is no failure. */
	if (error && error != GUNYAH_ERROR_MSGQUEUE_EMPTY)
		atomic64_inc(&gunyah_nr_hypercall_errors);
	trace_gmem_gunyah_hypercall(nr, &args, regs);
	return error;
}

static void gunyah_let_others_run(void)
{
	cond_resched();
}

static s64 gunyah_hypercall(enum gunyah_hypercall nr,
			    struct arm_smccc_1_2_regs *regs)
{
	return gunyah_hypercall_with(nr, regs, gunyah_let_others_run);
}

static void gunyah_relax(void)
{
	cpu_relax();
}

bool gunyah_hyp_present(void)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_hvc(ARM_SMCCC_VENDOR_HYP_CALL_UID_FUNC_ID, &res);
	return lower_32_bits(res.a0) == 0xcd8fd5c1 &&
	       lower_32_bits(res.a1) == 0xdb5f53a4 &&
	       lower_32_bits(res.a2) == 0x36ce6592 &&
	       lower_32_bits(res.a3) == 0x145f3d67;
}

void gunyah_hyp_identify(struct gunyah_api *api)
{
	struct arm_smccc_1_2_regs regs = {
		.a0 = GUNYAH_FUNCTION(GUNYAH_HYP_IDENTIFY),
	};

	/* This is the only call without an error code: x0 is a result, too. */
	arm_smccc_1_2_hvc(&regs, &regs);
	api->info = regs.a0;
	api->flags[0] = regs.a1;
	api->flags[1] = regs.a2;
	api->flags[2] = regs.a3;
}

s64 gunyah_doorbell_send(u64 cap, u64 flags)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = cap,
		.a2 = flags,
	};

	return gunyah_hypercall_with(GUNYAH_DOORBELL_SEND, &regs, gunyah_relax);
}

s64 gunyah_doorbell_mask(u64 cap, u64 enable, u64 ack)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = cap,
		.a2 = enable,
		.a3 = ack,
	};

	return gunyah_hypercall(GUNYAH_DOORBELL_MASK, &regs);
}

s64 gunyah_msgqueue_send(u64 cap, const void *msg, size_t size, u64 flags,
			 bool *not_full)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = cap,
		.a2 = size,
		.a3 = (unsigned long)msg,
		.a4 = flags,
	};
	s64 error = gunyah_hypercall(GUNYAH_MSGQUEUE_SEND, &regs);

	*not_full = !error && regs.a1;
	return error;
}

s64 gunyah_msgqueue_receive(u64 cap, void *msg, size_t room, size_t *size,
			    bool *not_empty)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = cap,
		.a2 = (unsigned long)msg,
		.a3 = room,
	};
	s64 error = gunyah_hypercall(GUNYAH_MSGQUEUE_RECEIVE, &regs);

	*size = error ? 0 : min_t(u64, regs.a1, room);
	*not_empty = !error && regs.a2;
	return error;
}

s64 gunyah_addrspace_map(const struct gunyah_mapping *mapping, u64 access)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = mapping->addrspace,
		.a2 = mapping->extent,
		.a3 = mapping->base,
		.a4 = access | access << 4 | GUNYAH_MEMTYPE_NORMAL_WB << 16,
		.a5 = mapping->flags,
		.a6 = mapping->offset,
		.a7 = mapping->size,
	};

	return gunyah_hypercall(GUNYAH_ADDRSPACE_MAP, &regs);
}

s64 gunyah_addrspace_unmap(const struct gunyah_mapping *mapping)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = mapping->addrspace,
		.a2 = mapping->extent,
		.a3 = mapping->base,
		.a4 = mapping->flags,
		.a5 = mapping->offset,
		.a6 = mapping->size,
	};

	return gunyah_hypercall(GUNYAH_ADDRSPACE_UNMAP, &regs);
}

s64 gunyah_memextent_sync(u64 extent)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = extent,
		.a2 = GUNYAH_MODIFY_SYNC_ALL,
	};

	return gunyah_hypercall(GUNYAH_MEMEXTENT_MODIFY, &regs);
}

s64 gunyah_memextent_donate(u64 type, u64 from, u64 to, u64 offset, u64 size)
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = type,
		.a2 = from,
		.a3 = to,
		.a4 = offset,
		.a5 = size,
	};

	return gunyah_hypercall(GUNYAH_MEMEXTENT_DONATE, &regs);
}

s64 gunyah_vcpu_run(u64 cap, const u64 resume[3], u64 *state, u64 data[3])
{
	struct arm_smccc_1_2_regs regs = {
		.a1 = cap,
		.a2 = resume[0],
		.a3 = resume[1],
		.a4 = resume[2],
	};
	s64 error = gunyah_hypercall(GUNYAH_VCPU_RUN, &regs);

	*state = regs.a1;
	data[0] = regs.a2;
	data[1] = regs.a3;
	data[2] = regs.a4;
	return error;
}
