/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest under Gunyah that runs the agent: the functions answer its questions.
 *
 * Every call is 0 or -errno.
 */
#ifndef LIB_GUNYAH_GUEST_H
#define LIB_GUNYAH_GUEST_H

#include "gmem.h"
#include "gunyah_agent.h"
#include "gunyah_dtb.h"

#include <linux/gmem_gunyah.h>

/* Allow or forbid lending memory that is in the kernel's linear map. */
static inline int gunyah_allow_mapped(bool may)
{
	return write_file("/sys/module/gmem/parameters/gunyah_lend_mapped",
			  may ? "1" : "0");
}

/**
 * struct gunyah_guest - a VM with one vCPU, which runs the agent
 * @nr_cpus: how many CPUs its device tree has; the others are off
 * @extents: the guest gets memory at its first access; valid after the start
 * @stuck: the vCPU stands at a refused access, and repeats it when it runs
 * @error: the error of the access that the guest has reported as failed
 */
struct gunyah_guest {
	int vm;
	int vcpu;
	int agent_mem;
	struct gmem_gunyah_vcpu_run *run;
	size_t run_size;
	__u32 nr_cpus;
	bool extents;
	bool stuck;
	int error;
};

static inline int gunyah_set_register(int vm, __u32 reg, __u64 value)
{
	struct gmem_gunyah_boot_context context = {
		.reg = reg,
		.value = value,
	};

	return err_of(ioctl(vm, GMEM_GUNYAH_SET_BOOT_CONTEXT, &context));
}

static inline int gunyah_add_vcpu(int vm, __u32 id)
{
	struct gmem_gunyah_fn_vcpu_arg arg = { .id = id };
	struct gmem_gunyah_fn_desc desc = {
		.type = GMEM_GUNYAH_FN_VCPU,
		.arg_size = sizeof(arg),
		.arg = ptr_u64(&arg),
	};

	return err_of(ioctl(vm, GMEM_GUNYAH_ADD_FUNCTION, &desc));
}

/* Write and bind the agent's memory. */
static inline int gunyah_place_agent(struct gunyah_guest *guest)
{
	__u8 *host;

	guest->agent_mem = new_mem(GUNYAH_AGENT_SIZE, 0);
	if (guest->agent_mem < 0)
		return guest->agent_mem;
	host = map_host(guest->agent_mem, 0, GUNYAH_AGENT_SIZE);
	if (host == MAP_FAILED)
		return -errno;
	memcpy(host, gunyah_code, sizeof(gunyah_code));
	memcpy(host + GUNYAH_VECTOR, gunyah_vector_code,
	       sizeof(gunyah_vector_code));
	munmap(host, GUNYAH_AGENT_SIZE);
	return map_mem(guest->vm, GUNYAH_AGENT, guest->agent_mem, 0,
		       GUNYAH_AGENT_SIZE, LEND | RWX);
}

/* Add the vCPU that runs the agent. 0 or -errno. */
static inline int gunyah_open_vcpu(struct gunyah_guest *guest)
{
	int ret;

	guest->vcpu = gunyah_add_vcpu(guest->vm, 0);
	if (guest->vcpu < 0)
		return guest->vcpu;
	ret = err_of(ioctl(guest->vcpu, GMEM_GUNYAH_VCPU_MMAP_SIZE, 0));
	if (ret < 0)
		return ret;
	guest->run_size = ret;
	guest->run = mmap(NULL, guest->run_size, PROT_READ | PROT_WRITE,
			  MAP_SHARED, guest->vcpu, 0);
	return guest->run == MAP_FAILED ? -errno : 0;
}

/* Close its descriptor. */
static inline void gunyah_close_vcpu(struct gunyah_guest *guest)
{
	if (guest->run != MAP_FAILED)
		munmap(guest->run, guest->run_size);
	if (guest->vcpu >= 0)
		close(guest->vcpu);
	guest->run = MAP_FAILED;
	guest->vcpu = -1;
}

/*
 * Create a VM, with flags of GMEM_VM_CREATE, that can be started. Call
 * gunyah_guest_close() even after an error.
 */
static inline int gunyah_guest_open_flags(struct gunyah_guest *guest,
					  __u32 policy, __u32 flags)
{
	struct gmem_gunyah_dtb_config dtb = {
		.guest_phys_addr = GUNYAH_DTB,
		.size = GUNYAH_DTB_SIZE,
	};
	int err;

	*guest = (struct gunyah_guest){
		.vm = -1, .vcpu = -1, .agent_mem = -1, .run = MAP_FAILED,
		.nr_cpus = 1,
	};
	guest->vm = new_vm_flags("gunyah", policy, flags);
	if (guest->vm < 0)
		return guest->vm;
	err = gunyah_place_agent(guest);
	if (!err)
		err = err_of(
			ioctl(guest->vm, GMEM_GUNYAH_SET_DTB_CONFIG, &dtb));
	/* No other register can be set on every platform. */
	if (!err)
		err = gunyah_set_register(
			guest->vm, GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_PC, 0),
			GUNYAH_AGENT);
	if (err)
		return err;
	return gunyah_open_vcpu(guest);
}

static inline int gunyah_guest_open(struct gunyah_guest *guest, __u32 policy)
{
	return gunyah_guest_open_flags(guest, policy, 0);
}

/* Write the device tree, unless the guest has it already. 0 or -errno. */
static inline int gunyah_guest_describe(struct gunyah_guest *guest)
{
	__u8 *host = map_host(guest->agent_mem, PAGE, GUNYAH_DTB_SIZE);
	int err = 0;

	if (host == MAP_FAILED)
		return -errno;
	if (peek(host) >= 0 &&
	    !write_gunyah_dtb(guest->vm, host, GUNYAH_DTB_SIZE,
			      guest->nr_cpus))
		err = -ENOSPC;
	munmap(host, GUNYAH_DTB_SIZE);
	return err;
}

static inline int gunyah_guest_start(struct gunyah_guest *guest)
{
	int err = gunyah_guest_describe(guest);

	if (!err)
		err = err_of(ioctl(guest->vm, GMEM_GUNYAH_START, 0));
	guest->extents = fd_number(guest->vm, "gmem-extents:");
	return err;
}

static inline void gunyah_guest_close(struct gunyah_guest *guest)
{
	gunyah_close_vcpu(guest);
	if (guest->vm >= 0)
		close(guest->vm);
	if (guest->agent_mem >= 0)
		close(guest->agent_mem);
}

/*
 * Handle an MMIO exit. 1: the guest goes on. 0: it has reported, or an access
 * has failed with guest->error.
 */
static inline int gunyah_mmio(struct gunyah_guest *guest, const __u64 **words,
			      int *nr_words, __u8 *report)
{
	struct gmem_gunyah_vcpu_run *run = guest->run;

	if (run->mmio.phys_addr == GUNYAH_PORT_FAILED)
		return 0;
	if (run->mmio.phys_addr != GUNYAH_PORT) {
		/* There is no memory. */
		guest->error = -EFAULT;
		run->mmio.resume_action = GMEM_GUNYAH_VCPU_RESUME_FAULT;
		return 1;
	}
	if (run->mmio.is_write) {
		if (report)
			*report = run->mmio.data[0];
		return 0;
	}
	if (!*nr_words)
		return -EPROTO;
	memcpy(run->mmio.data, (*words)++, sizeof(**words));
	(*nr_words)--;
	return 1;
}

/*
 * Run until the guest reports; it reads its commands from @words. -EFAULT: it
 * accessed an address without memory. -ESHUTDOWN: the VM has ended, see
 * run->status. Another error has kept a page from being provided, and the vCPU
 * stands at the access.
 */
static inline int gunyah_run(struct gunyah_guest *guest, const __u64 *words,
			     int nr_words, __u8 *report)
{
	int ret;

	guest->error = 0;
	do {
		ret = err_of(ioctl(guest->vcpu, GMEM_GUNYAH_VCPU_RUN, 0));
		if (ret)
			return ret;
		switch (guest->run->exit_reason) {
		case GMEM_GUNYAH_VCPU_EXIT_MMIO:
			ret = gunyah_mmio(guest, &words, &nr_words, report);
			break;
		case GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT:
			guest->stuck = true;
			return guest->run->page_fault.attempt ?: -EFAULT;
		case GMEM_GUNYAH_VCPU_EXIT_STATUS:
			return -ESHUTDOWN;
		default:
			return -EIO;
		}
	} while (ret == 1);
	return ret ?: guest->error;
}

/* Let the vCPU repeat the access at which it stands. */
static inline int gunyah_resume(struct gunyah_guest *guest, __u8 *report)
{
	guest->stuck = false;
	return gunyah_run(guest, NULL, 0, report);
}

static inline int gunyah_command(struct gunyah_guest *guest,
				 enum gunyah_command command, __u64 addr,
				 __u64 value, __u64 stride, __u8 *report)
{
	const __u64 words[] = { command, addr, value, stride };
	int nr = command == GUNYAH_TOUCH ? 4 : command == GUNYAH_WRITE ? 3 : 2;

	return gunyah_run(guest, words, nr, report);
}

/* The byte there, or -errno. */
static inline int gunyah_read(struct gunyah_guest *guest, __u64 addr)
{
	__u8 byte = 0;
	int err = gunyah_command(guest, GUNYAH_READ, addr, 0, 0, &byte);

	return err ?: byte;
}

static inline int gunyah_write(struct gunyah_guest *guest, __u64 addr,
			       __u8 byte)
{
	return gunyah_command(guest, GUNYAH_WRITE, addr, byte, 0, NULL);
}

static inline int gunyah_touch(struct gunyah_guest *guest, __u64 addr,
			       __u64 count, __u64 stride)
{
	return gunyah_command(guest, GUNYAH_TOUCH, addr, count, stride, NULL);
}

/* Number the pages, each in its first two bytes. */
static inline void number_pages(__u8 *host, __u64 pages)
{
	__u64 i;

	/*
	 * This order makes it unlikely that neighbours in the file are
	 * neighbours in memory.
	 */
	for (i = 0; i < pages; i += 2)
		*(__u16 *)(host + i * PAGE) = i;
	for (i = pages - 1; i < pages; i -= 2)
		*(__u16 *)(host + i * PAGE) = i;
}

#endif /* LIB_GUNYAH_GUEST_H */
