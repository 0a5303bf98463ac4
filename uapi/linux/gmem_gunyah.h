/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * gmem: calls of VMs whose provider is "gunyah".
 *
 * Type, numbers, struct layouts and values are those of the Gunyah v17 series
 * for Linux, so that a VMM written for it works unchanged. On VMs of other
 * providers these calls return -ENOTTY. The calls of <linux/gmem.h> bind,
 * populate and take back memory.
 *
 * A VMM makes its calls in this order: bind memory, write a device tree to it
 * and set the tree's address (GMEM_GUNYAH_SET_DTB_CONFIG), add a vCPU, set its
 * registers, start the VM, run the vCPU.
 */
#ifndef _UAPI_LINUX_GMEM_GUNYAH_H
#define _UAPI_LINUX_GMEM_GUNYAH_H

#include <linux/gmem.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: Parcels
 *
 * GMEM_INFO has GMEM_PROVIDER_BIND_FIRST where the host's Resource Manager
 * takes memory in parcels. Each binding is one parcel, and each parcel has a
 * label.
 *
 * - The binding that has the device tree is the image: all that the guest starts
 *   with, and all memory that Linux uses as RAM. It must be lent, allow read, write
 *   and execute, and begin at a multiple of 2 MiB. Its label is 0. The device tree
 *   must say the same address in /gunyah-vm-config/memory, base-address, and must
 *   have spare room: the Resource Manager adds to it.
 * - The label of any other parcel is its guest address divided by 4096. It gets to
 *   that address if the device tree has a node for this label.
 * - The guest starts at the address in PC, or at the begin of the image, with the
 *   address of the device tree in X0. No other register can be set.
 *
 * The kernel can't read the device tree: what is wrong there fails
 * GMEM_GUNYAH_START.
 */

/**
 * DOC: Memory after the start
 *
 * With parcels, a guest gets its memory when it starts. A later binding, or a
 * later GMEM_VM_POPULATE of a page that it doesn't have, fails with
 * -EOPNOTSUPP, and the log reports that.
 *
 * In a VM with GMEM_VM_GUEST_ACCEPTS both work, and the host loses access to
 * lent memory as always. But the guest gets the memory only when it has sent
 * the Resource Manager MEM_ACCEPT with the handle of the parcel. fdinfo of the
 * VM shows the handle of each such parcel ("gmem-handle:") behind its label
 * ("gmem-label:"). How the guest learns it is between the VMM and the guest.
 * Until the guest has accepted, the host can take the parcel back.
 */

/**
 * struct gmem_gunyah_dtb_config - argument of GMEM_GUNYAH_SET_DTB_CONFIG
 * @guest_phys_addr: guest address of the device tree; a multiple of 4 KiB
 * @size: its size in bytes, not 0
 */
struct gmem_gunyah_dtb_config {
	__u64 guest_phys_addr;
	__u64 size;
};

/**
 * GMEM_GUNYAH_SET_DTB_CONFIG - ioctl on a VM: set the device tree's address
 *
 * The device tree must lie within one lent binding when GMEM_GUNYAH_START is
 * called, which lends its pages. Where the Resource Manager takes memory in
 * parcels, see "Parcels". -EBUSY once GMEM_GUNYAH_START has lent them;
 * -EINVAL for an address that isn't aligned, a size of 0 or a range beyond the
 * VM's address width.
 */
#define GMEM_GUNYAH_SET_DTB_CONFIG \
	_IOW(GMEM_IOCTL_TYPE, 0x2, struct gmem_gunyah_dtb_config)

/**
 * GMEM_GUNYAH_START - ioctl on a VM: set it up and start it
 *
 * The argument must be 0. -EINVAL without a device tree, or if the device tree
 * isn't in a lent binding; -ENOENT if it isn't in any binding. With parcels,
 * -EINVAL also if that binding can't be the image, and -EOPNOTSUPP if the guest
 * can't start with these registers: see "Parcels". These errors use nothing up,
 * and the VMM can correct the mistake and call again.
 *
 * -ENOSPC: the host has as many VMs as it can have. -EADDRNOTAVAIL: the device
 * tree wants memory at a guest address that isn't free, or names a parcel that
 * doesn't exist. Other errors come from the Resource Manager. The kernel's log
 * names the step that failed.
 *
 * A VM can be started once: after a success or a failure the call returns
 * -EALREADY. There is one exception: if the call couldn't provide memory
 * because a page is pinned (-EBUSY), or because there was no memory (-ENOMEM),
 * the VMM may repeat the call, which continues with the step that failed. Only
 * some steps can be repeated; the log says so if this one can, else the next
 * call returns -EALREADY. Between the two calls the pages of the image can't be
 * taken back (-EBUSY).
 *
 * Before the first call no page can be provided: GMEM_VM_POPULATE returns
 * -EAGAIN. With parcels, the call provides all bound memory.
 */
#define GMEM_GUNYAH_START _IO(GMEM_IOCTL_TYPE, 0x3)

/**
 * enum gmem_gunyah_fn_type - functions that GMEM_GUNYAH_ADD_FUNCTION knows
 * @GMEM_GUNYAH_FN_VCPU: a vCPU. The argument is
 *	&struct gmem_gunyah_fn_vcpu_arg; the call returns a vCPU descriptor.
 * @GMEM_GUNYAH_FN_IRQFD: an eventfd that rings a doorbell of the guest, which is
 *	an interrupt to it. The argument is &struct gmem_gunyah_fn_irqfd_arg.
 * @GMEM_GUNYAH_FN_IOEVENTFD: an eventfd that the guest's writes to an address
 *	signal. The argument is &struct gmem_gunyah_fn_ioeventfd_arg.
 */
enum gmem_gunyah_fn_type {
	GMEM_GUNYAH_FN_VCPU = 1,
	GMEM_GUNYAH_FN_IRQFD = 2,
	GMEM_GUNYAH_FN_IOEVENTFD = 3,
};

#define GMEM_GUNYAH_FN_MAX_ARG_SIZE 256

/**
 * struct gmem_gunyah_fn_vcpu_arg - argument of GMEM_GUNYAH_FN_VCPU
 * @id: label of the vCPU, its name in the VM
 */
struct gmem_gunyah_fn_vcpu_arg {
	__u32 id;
};

/**
 * enum gmem_gunyah_irqfd_flags - flags of an irqfd
 * @GMEM_GUNYAH_IRQFD_LEVEL: the hypervisor clears the doorbell as soon as it has
 *	asserted the interrupt: the guest need not. Without this flag the interrupt
 *	stays asserted until the guest clears the doorbell by a hypercall. The
 *	hypervisor may refuse the flag, unless the doorbell's node in the device
 *	tree has "source-can-clear"; then the log says so, and the doorbell is like
 *	one without the flag.
 */
enum gmem_gunyah_irqfd_flags {
	GMEM_GUNYAH_IRQFD_LEVEL = 1UL << 0,
};

/* How many irqfds a VM can have at a time. */
#define GMEM_GUNYAH_MAX_IRQFDS 1024

/**
 * struct gmem_gunyah_fn_irqfd_arg - argument of GMEM_GUNYAH_FN_IRQFD
 * @fd: the eventfd
 * @label: label of the doorbell, as in the guest's device tree ("qcom,label")
 * @flags: bits of &enum gmem_gunyah_irqfd_flags; an unknown one gives -EINVAL
 * @padding: ignored
 *
 * Each write to the eventfd rings the doorbell, and empties the eventfd: nobody
 * needs to read from it. An eventfd that isn't empty when it is added rings
 * once. An irqfd may be added before the start, which rings once for all earlier
 * writes. -ENODEV if the VM has started and has no doorbell of this label; a
 * start writes the labels of irqfds without a doorbell to the log. -EEXIST: the
 * label has an irqfd already. -ENOSPC: too many irqfds. -EBADF or -EINVAL: @fd
 * isn't an eventfd.
 *
 * To remove an irqfd, only the label counts. When all descriptors of the eventfd
 * are closed, the irqfd is gone, as if it had been removed.
 */
struct gmem_gunyah_fn_irqfd_arg {
	__u32 fd;
	__u32 label;
	__u32 flags;
	__u32 padding;
};

/**
 * enum gmem_gunyah_ioeventfd_flags - flags of an ioeventfd
 * @GMEM_GUNYAH_IOEVENTFD_DATAMATCH: only writes of a certain value count
 */
enum gmem_gunyah_ioeventfd_flags {
	GMEM_GUNYAH_IOEVENTFD_DATAMATCH = 1UL << 0,
};

/* How many ioeventfds a VM can have at a time. */
#define GMEM_GUNYAH_MAX_IOEVENTFDS 1024

/**
 * struct gmem_gunyah_fn_ioeventfd_arg - argument of GMEM_GUNYAH_FN_IOEVENTFD
 * @datamatch: with DATAMATCH, the value; it must fit in @len bytes
 * @addr: guest address of the writes. Where memory is bound, the guest writes to
 *	that instead.
 * @len: their length: 1, 2, 4 or 8 bytes; 0: any, but not with DATAMATCH
 * @fd: the eventfd
 * @flags: bits of &enum gmem_gunyah_ioeventfd_flags; an unknown one gives
 *	-EINVAL
 * @padding: ignored
 *
 * A write that matches adds 1 to the eventfd, and GMEM_GUNYAH_VCPU_RUN doesn't
 * return for it. -EEXIST: there is an ioeventfd that a same write could match.
 * -ENOSPC: too many ioeventfds. -EBADF or -EINVAL: @fd isn't an eventfd.
 *
 * To remove an ioeventfd, all fields except @fd have to be as they were; or @len
 * and @flags are 0: that removes all ioeventfds of the address. When the call
 * returns, the eventfd is no longer signalled. If all descriptors of the
 * eventfd are closed, the ioeventfd stays, and nobody sees its signals.
 */
struct gmem_gunyah_fn_ioeventfd_arg {
	__u64 datamatch;
	__u64 addr;
	__u32 len;
	__s32 fd;
	__u32 flags;
	__u32 padding;
};

/**
 * struct gmem_gunyah_fn_desc - argument of the ADD and REMOVE calls
 * @type: one of &enum gmem_gunyah_fn_type; another value gives -EINVAL
 * @arg_size: size of the argument at @arg; another size than that of the type's
 *	argument gives -EINVAL
 * @arg: address of the type's argument
 */
struct gmem_gunyah_fn_desc {
	__u32 type;
	__u32 arg_size;
	__u64 arg;
};

/**
 * GMEM_GUNYAH_ADD_FUNCTION - ioctl on a VM: add a vCPU, an irqfd or an ioeventfd
 *
 * Return: for a vCPU, a descriptor of it (close-on-exec), which holds the VM;
 * -EEXIST if the VM has a vCPU of that label. For the others 0; their structs
 * have the errors.
 */
#define GMEM_GUNYAH_ADD_FUNCTION \
	_IOW(GMEM_IOCTL_TYPE, 0x4, struct gmem_gunyah_fn_desc)

/**
 * GMEM_GUNYAH_REMOVE_FUNCTION - ioctl on a VM: undo GMEM_GUNYAH_ADD_FUNCTION
 *
 * The descriptor of a removed vCPU stays open, but GMEM_GUNYAH_VCPU_RUN returns
 * -ENODEV, also a call that runs the vCPU at that moment. -ENOENT if the VM has no such function.
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
 * @value: the register's value when the first vCPU starts
 */
struct gmem_gunyah_boot_context {
	__u32 reg;
	__u32 reserved;
	__u64 value;
};

/**
 * GMEM_GUNYAH_SET_BOOT_CONTEXT - ioctl on a VM: set a boot register
 *
 * The first vCPU starts with the values that these calls have set. -EINVAL for
 * an unknown register. -EBUSY once the VM has been started. -EOPNOTSUPP if the
 * Resource Manager can't set the register: see "Parcels".
 */
#define GMEM_GUNYAH_SET_BOOT_CONTEXT \
	_IOW(GMEM_IOCTL_TYPE, 0xa, struct gmem_gunyah_boot_context)

/**
 * enum gmem_gunyah_vm_status - why a VM doesn't run
 * @GMEM_GUNYAH_VM_STATUS_LOAD_FAILED: GMEM_GUNYAH_START has failed
 * @GMEM_GUNYAH_VM_STATUS_EXITED: the guest is off, or has asked for a reset
 * @GMEM_GUNYAH_VM_STATUS_CRASHED: the guest has ended, and Gunyah gave no
 *	reason
 */
enum gmem_gunyah_vm_status {
	GMEM_GUNYAH_VM_STATUS_LOAD_FAILED = 1,
	GMEM_GUNYAH_VM_STATUS_EXITED = 2,
	GMEM_GUNYAH_VM_STATUS_CRASHED = 3,
};

#define GMEM_GUNYAH_VM_MAX_EXIT_REASON_SIZE 8

/**
 * enum gmem_gunyah_exit_type - Gunyah's reason for an exit
 * @GMEM_GUNYAH_EXIT_VM: the guest ended itself
 * @GMEM_GUNYAH_EXIT_OFF: the guest switched itself off by PSCI
 * @GMEM_GUNYAH_EXIT_RESET: the guest asked for a reset by PSCI SYSTEM_RESET
 * @GMEM_GUNYAH_EXIT_RESET2: the guest asked for a reset by PSCI SYSTEM_RESET2
 * @GMEM_GUNYAH_EXIT_WATCHDOG: the guest's watchdog expired
 * @GMEM_GUNYAH_EXIT_SOFTWARE: an error of the guest's software
 * @GMEM_GUNYAH_EXIT_HARDWARE: an error of the hardware
 * @GMEM_GUNYAH_EXIT_STOPPED: the host stopped the guest
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
 * struct gmem_gunyah_vm_exit_info - Gunyah's report of an exit
 * @type: one of &enum gmem_gunyah_exit_type
 * @padding: 0
 * @reason_size: number of valid bytes of @reason
 * @reason: details from Gunyah, whose meaning depends on @type
 */
struct gmem_gunyah_vm_exit_info {
	__u16 type;
	__u16 padding;
	__u32 reason_size;
	__u8 reason[GMEM_GUNYAH_VM_MAX_EXIT_REASON_SIZE];
};

/**
 * enum gmem_gunyah_vcpu_exit - why GMEM_GUNYAH_VCPU_RUN returned 0
 * @GMEM_GUNYAH_VCPU_EXIT_UNKNOWN: another reason
 * @GMEM_GUNYAH_VCPU_EXIT_MMIO: the guest touched an address without memory
 * @GMEM_GUNYAH_VCPU_EXIT_STATUS: the VM has ended
 * @GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT: the guest touched memory that can't be
 *	provided
 */
enum gmem_gunyah_vcpu_exit {
	GMEM_GUNYAH_VCPU_EXIT_UNKNOWN = 0,
	GMEM_GUNYAH_VCPU_EXIT_MMIO = 1,
	GMEM_GUNYAH_VCPU_EXIT_STATUS = 2,
	GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT = 3,
};

/**
 * enum gmem_gunyah_vcpu_resume_action - the VMM's answer to an access
 * @GMEM_GUNYAH_VCPU_RESUME_HANDLED: the VMM has done the access; a read returns
 *	the VMM's data to the guest
 * @GMEM_GUNYAH_VCPU_RESUME_FAULT: the access fails
 * @GMEM_GUNYAH_VCPU_RESUME_RETRY: the guest repeats the access
 */
enum gmem_gunyah_vcpu_resume_action {
	GMEM_GUNYAH_VCPU_RESUME_HANDLED = 0,
	GMEM_GUNYAH_VCPU_RESUME_FAULT = 1,
	GMEM_GUNYAH_VCPU_RESUME_RETRY = 2,
};

/**
 * struct gmem_gunyah_vcpu_run - the page that a vCPU descriptor maps
 * @immediate_exit: in: if not 0, GMEM_GUNYAH_VCPU_RUN returns -EINTR at once
 * @padding: 0
 * @exit_reason: one of &enum gmem_gunyah_vcpu_exit; says which of the members
 *	below is valid
 * @mmio: an access outside of memory
 * @mmio.phys_addr: guest address of the access
 * @mmio.data: out: the data of a write; in: the data for a read
 * @mmio.len: number of bytes, at most 8
 * @mmio.is_write: 1: a write; 0: a read
 * @mmio.resume_action: in: one of &enum gmem_gunyah_vcpu_resume_action; the
 *	call sets it to HANDLED
 * @status: the end of the VM
 * @status.status: one of &enum gmem_gunyah_vm_status
 * @status.exit_info: valid if @status.status is EXITED
 * @page_fault: an access to memory that can't be provided
 * @page_fault.phys_addr: guest address of the access
 * @page_fault.attempt: the negative errno of the attempt to provide the page;
 *	-ENOENT: nothing is bound there
 * @page_fault.resume_action: in: RETRY or FAULT; the call sets it to RETRY.
 *	FAULT is possible only if Gunyah treated the access as one to a device.
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
 * GMEM_GUNYAH_VCPU_RUN - ioctl on a vCPU: run it until the VMM has to act
 *
 * The argument must be 0. The call returns 0 and writes the reason to the
 * mapped &struct gmem_gunyah_vcpu_run. -EINTR on a signal; -ENODEV while the VM
 * isn't started or has no vCPU of this label; -EINVAL for an unknown resume
 * action; -EOPNOTSUPP for a resume action that is impossible: if memory comes
 * in parcels, only HANDLED is possible, and after a page fault only RETRY. If
 * the vCPU is off, the call waits until another vCPU turns it on. If all are
 * off, the VM ends; if the hypervisor doesn't notice that, the call stops the
 * VM after gmem.gunyah_rm_timeout_ms, and reports GMEM_GUNYAH_EXIT_STOPPED.
 */
#define GMEM_GUNYAH_VCPU_RUN _IO(GMEM_IOCTL_TYPE, 0x5)

/** GMEM_GUNYAH_VCPU_MMAP_SIZE - ioctl on a vCPU: the size to pass to mmap() */
#define GMEM_GUNYAH_VCPU_MMAP_SIZE _IO(GMEM_IOCTL_TYPE, 0x6)

#endif /* _UAPI_LINUX_GMEM_GUNYAH_H */
