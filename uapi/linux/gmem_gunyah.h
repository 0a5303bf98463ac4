/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * gmem: calls of VMs whose provider is "gunyah".
 *
 * Type, numbers, struct layouts and values are those of the Gunyah v17 series for
 * Linux, so that a VMM written for it works unchanged. On VMs of other providers the
 * calls are -ENOTTY. Memory is bound, populated and taken back by the calls of
 * <linux/gmem.h>.
 *
 * The order: bind memory, place a device tree in it and say where
 * (GMEM_GUNYAH_SET_DTB_CONFIG), add a vCPU, set what its registers hold, start, run.
 */
#ifndef _UAPI_LINUX_GMEM_GUNYAH_H
#define _UAPI_LINUX_GMEM_GUNYAH_H

#include <linux/gmem.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct gmem_gunyah_dtb_config - argument of GMEM_GUNYAH_SET_DTB_CONFIG
 * @guest_phys_addr: where the guest's device tree lies; a multiple of 4 KiB
 * @size: its size in bytes, not 0
 */
struct gmem_gunyah_dtb_config {
	__u64 guest_phys_addr;
	__u64 size;
};

/**
 * GMEM_GUNYAH_SET_DTB_CONFIG - ioctl on a VM: where the guest's device tree is
 *
 * Must lie within one lent binding when the VM is started: its pages are lent then.
 * -EBUSY once GMEM_GUNYAH_START has come so far as to need it; -EINVAL for an address
 * that isn't aligned, a size of 0 or a range beyond the VM's address width.
 */
#define GMEM_GUNYAH_SET_DTB_CONFIG \
	_IOW(GMEM_IOCTL_TYPE, 0x2, struct gmem_gunyah_dtb_config)

/**
 * GMEM_GUNYAH_START - ioctl on a VM: set it up and start it
 *
 * The argument must be 0. -EINVAL without a device tree, or if that isn't in a lent
 * binding (-ENOENT: in none); else what the Resource Manager says; the kernel's log
 * names the step that failed. A VM is started once: after that, and after a failure,
 * -EALREADY. But where memory couldn't be provided because somebody holds a page
 * pinned (-EBUSY), or none was to be had (-ENOMEM), the call may be repeated, and
 * goes on from there, unless it is -EALREADY too late; the log says so. The device
 * tree's pages can't be taken back meanwhile (-EBUSY). Until the call, no page can be
 * provided: GMEM_VM_POPULATE is -EAGAIN.
 *
 * Where the host's Resource Manager takes memory in parcels, the call provides all
 * that is bound.
 */
#define GMEM_GUNYAH_START _IO(GMEM_IOCTL_TYPE, 0x3)

/**
 * enum gmem_gunyah_fn_type - what can be added to a VM
 * @GMEM_GUNYAH_FN_VCPU: a vCPU; the argument is &struct gmem_gunyah_fn_vcpu_arg, and
 *	the call returns a vCPU descriptor
 * @GMEM_GUNYAH_FN_IRQFD: not supported: -EOPNOTSUPP
 * @GMEM_GUNYAH_FN_IOEVENTFD: not supported: -EOPNOTSUPP
 */
enum gmem_gunyah_fn_type {
	GMEM_GUNYAH_FN_VCPU = 1,
	GMEM_GUNYAH_FN_IRQFD = 2,
	GMEM_GUNYAH_FN_IOEVENTFD = 3,
};

#define GMEM_GUNYAH_FN_MAX_ARG_SIZE 256

/**
 * struct gmem_gunyah_fn_vcpu_arg - argument of GMEM_GUNYAH_FN_VCPU
 * @id: label of the vCPU
 */
struct gmem_gunyah_fn_vcpu_arg {
	__u32 id;
};

/**
 * struct gmem_gunyah_fn_desc - argument of GMEM_GUNYAH_ADD_ and _REMOVE_FUNCTION
 * @type: one of &enum gmem_gunyah_fn_type; another value is -EINVAL
 * @arg_size: size of what is at @arg; -EINVAL unless it is that of the type's argument
 * @arg: address of the type's argument
 */
struct gmem_gunyah_fn_desc {
	__u32 type;
	__u32 arg_size;
	__u64 arg;
};

/**
 * GMEM_GUNYAH_ADD_FUNCTION - ioctl on a VM: add a vCPU
 *
 * Return: a vCPU descriptor (close-on-exec), which holds the VM. -EEXIST if the VM has
 * one of that label.
 */
#define GMEM_GUNYAH_ADD_FUNCTION \
	_IOW(GMEM_IOCTL_TYPE, 0x4, struct gmem_gunyah_fn_desc)

/**
 * GMEM_GUNYAH_REMOVE_FUNCTION - ioctl on a VM: remove a vCPU
 *
 * Its descriptor stays open, but is of no use any more (-ENODEV). -ENOENT if there is
 * none of that label.
 */
#define GMEM_GUNYAH_REMOVE_FUNCTION \
	_IOW(GMEM_IOCTL_TYPE, 0x7, struct gmem_gunyah_fn_desc)

/**
 * enum gmem_gunyah_reg_set - sets of registers
 * @GMEM_GUNYAH_REG_SET_X: general registers, index 0 to 31
 * @GMEM_GUNYAH_REG_SET_PC: the program counter, index 0
 * @GMEM_GUNYAH_REG_SET_SP: stack pointers, index 0 to 2
 */
enum gmem_gunyah_reg_set {
	GMEM_GUNYAH_REG_SET_X = 0,
	GMEM_GUNYAH_REG_SET_PC = 1,
	GMEM_GUNYAH_REG_SET_SP = 2,
};

#define GMEM_GUNYAH_REG(set, index) ((((set) & 0xff) << 8) | ((index) & 0xff))

/**
 * struct gmem_gunyah_boot_context - argument of GMEM_GUNYAH_SET_BOOT_CONTEXT
 * @reg: GMEM_GUNYAH_REG(set, index)
 * @reserved: must be 0
 * @value: what the first vCPU starts with there
 */
struct gmem_gunyah_boot_context {
	__u32 reg;
	__u32 reserved;
	__u64 value;
};

/**
 * GMEM_GUNYAH_SET_BOOT_CONTEXT - ioctl on a VM: a register of the first vCPU
 *
 * -EBUSY once the VM has been started.
 */
#define GMEM_GUNYAH_SET_BOOT_CONTEXT \
	_IOW(GMEM_IOCTL_TYPE, 0xa, struct gmem_gunyah_boot_context)

/**
 * enum gmem_gunyah_vm_status - why a VM doesn't run
 * @GMEM_GUNYAH_VM_STATUS_LOAD_FAILED: it was never started, because that failed
 * @GMEM_GUNYAH_VM_STATUS_EXITED: it is off, or asked to be reset
 * @GMEM_GUNYAH_VM_STATUS_CRASHED: it came to an end that nobody explains
 */
enum gmem_gunyah_vm_status {
	GMEM_GUNYAH_VM_STATUS_LOAD_FAILED = 1,
	GMEM_GUNYAH_VM_STATUS_EXITED = 2,
	GMEM_GUNYAH_VM_STATUS_CRASHED = 3,
};

#define GMEM_GUNYAH_VM_MAX_EXIT_REASON_SIZE 8

/**
 * enum gmem_gunyah_exit_type - &struct gmem_gunyah_vm_exit_info.type, from Gunyah
 * @GMEM_GUNYAH_EXIT_VM: the VM ended itself
 * @GMEM_GUNYAH_EXIT_OFF: it was switched off by PSCI
 * @GMEM_GUNYAH_EXIT_RESET: it asked for a reset by PSCI
 * @GMEM_GUNYAH_EXIT_RESET2: the same, by SYSTEM_RESET2
 * @GMEM_GUNYAH_EXIT_WATCHDOG: its watchdog bit
 * @GMEM_GUNYAH_EXIT_SOFTWARE: an error of its software
 * @GMEM_GUNYAH_EXIT_HARDWARE: an error of the hardware
 * @GMEM_GUNYAH_EXIT_STOPPED: it was stopped from outside
 */
enum gmem_gunyah_exit_type {
	GMEM_GUNYAH_EXIT_VM = 0,
	GMEM_GUNYAH_EXIT_OFF = 1,
	GMEM_GUNYAH_EXIT_RESET = 2,
	GMEM_GUNYAH_EXIT_RESET2 = 3,
	GMEM_GUNYAH_EXIT_WATCHDOG = 4,
	GMEM_GUNYAH_EXIT_SOFTWARE = 5,
	GMEM_GUNYAH_EXIT_HARDWARE = 6,
	GMEM_GUNYAH_EXIT_STOPPED = 7,
};

/**
 * struct gmem_gunyah_vm_exit_info - what Gunyah said of an exit
 * @type: one of &enum gmem_gunyah_exit_type
 * @padding: 0
 * @reason_size: valid bytes of @reason
 * @reason: as the type has it
 */
struct gmem_gunyah_vm_exit_info {
	__u16 type;
	__u16 padding;
	__u32 reason_size;
	__u8 reason[GMEM_GUNYAH_VM_MAX_EXIT_REASON_SIZE];
};

/**
 * enum gmem_gunyah_vcpu_exit - why GMEM_GUNYAH_VCPU_RUN returned 0
 * @GMEM_GUNYAH_VCPU_EXIT_UNKNOWN: none of the others
 * @GMEM_GUNYAH_VCPU_EXIT_MMIO: the guest touched an address without memory
 * @GMEM_GUNYAH_VCPU_EXIT_STATUS: the VM doesn't run any more
 * @GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT: the guest touched memory that could not be provided
 */
enum gmem_gunyah_vcpu_exit {
	GMEM_GUNYAH_VCPU_EXIT_UNKNOWN = 0,
	GMEM_GUNYAH_VCPU_EXIT_MMIO = 1,
	GMEM_GUNYAH_VCPU_EXIT_STATUS = 2,
	GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT = 3,
};

/**
 * enum gmem_gunyah_vcpu_resume_action - what is to become of the guest's access
 * @GMEM_GUNYAH_VCPU_RESUME_HANDLED: it is done; a read gives the data
 * @GMEM_GUNYAH_VCPU_RESUME_FAULT: it fails
 * @GMEM_GUNYAH_VCPU_RESUME_RETRY: the guest makes it again
 */
enum gmem_gunyah_vcpu_resume_action {
	GMEM_GUNYAH_VCPU_RESUME_HANDLED = 0,
	GMEM_GUNYAH_VCPU_RESUME_FAULT = 1,
	GMEM_GUNYAH_VCPU_RESUME_RETRY = 2,
};

/**
 * struct gmem_gunyah_vcpu_run - the first page of a mapping of a vCPU descriptor
 * @immediate_exit: in: not 0: GMEM_GUNYAH_VCPU_RUN is -EINTR at once
 * @padding: 0
 * @exit_reason: one of &enum gmem_gunyah_vcpu_exit; says which of the following holds
 * @mmio: an access outside of memory
 * @mmio.phys_addr: guest address
 * @mmio.data: what is written; in: what is read
 * @mmio.len: bytes, at most 8
 * @mmio.is_write: or a read
 * @mmio.resume_action: in: one of &enum gmem_gunyah_vcpu_resume_action; HANDLED when the
 *	call returns
 * @status: the end of the VM
 * @status.status: one of &enum gmem_gunyah_vm_status
 * @status.exit_info: if that is EXITED
 * @page_fault: an access to memory that can't be provided
 * @page_fault.phys_addr: guest address
 * @page_fault.attempt: a negative errno: what kept it from being provided. -ENOENT:
 *	nothing is bound there.
 * @page_fault.resume_action: in: RETRY, as it is when the call returns; FAULT only where
 *	Gunyah took the access for one of a device
 */
struct gmem_gunyah_vcpu_run {
	__u8 immediate_exit;
	__u8 padding[7];
	__u32 exit_reason;
	union {
		struct {
			__u64 phys_addr;
			__u8 data[8];
			__u32 len;
			__u8 is_write;
			__u8 resume_action;
		} mmio;
		struct {
			__u32 status;
			struct gmem_gunyah_vm_exit_info exit_info;
		} status;
		struct {
			__u64 phys_addr;
			__s32 attempt;
			__u8 resume_action;
		} page_fault;
	};
};

/**
 * GMEM_GUNYAH_VCPU_RUN - ioctl on a vCPU: run it until something is to be done
 *
 * 0 with the reason in the mapped &struct gmem_gunyah_vcpu_run. -EINTR on a signal,
 * -ENODEV while the VM isn't started or has no vCPU of this label, -EINVAL for an unknown
 * resume action, -EOPNOTSUPP for one that can't be done: where memory comes in parcels,
 * there is only HANDLED, and after a page fault only RETRY. A vCPU that is off waits
 * to be turned on by another.
 */
#define GMEM_GUNYAH_VCPU_RUN _IO(GMEM_IOCTL_TYPE, 0x5)

/** GMEM_GUNYAH_VCPU_MMAP_SIZE - ioctl on a vCPU: bytes of the mapping for mmap() */
#define GMEM_GUNYAH_VCPU_MMAP_SIZE _IO(GMEM_IOCTL_TYPE, 0x6)

#endif /* _UAPI_LINUX_GMEM_GUNYAH_H */
