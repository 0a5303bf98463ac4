// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs: a descriptor each, a page shared with the VMM, and the loop that runs the guest
 * until the VMM has something to do.
 *
 * Gunyah schedules a vCPU when asked to, for as long as nothing comes up. What is
 * about memory is handled here: a page that is bound is provided, and the guest goes on.
 */
#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gmem_gunyah.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../fault.h"
#include "../vm.h"
#include "hypercall.h"
#include "rm.h"
#include "vcpu.h"
#include "vm.h"

/* The host may take a page back as fast as the guest touches it, but not for ever. */
#define GUNYAH_VCPU_FAULTS 100
/* After the guest said that it is off, until the RM says so, too. */
#define GUNYAH_VCPU_EXIT_MS 1000
/* For a vCPU that waits for something, between two looks at whether that came. */
#define GUNYAH_VCPU_IDLE_US 1000

/**
 * struct gunyah_vcpu - a vCPU descriptor
 * @vm_file: the VM, held
 * @g: its data
 * @label: which vCPU it is
 * @run: shared with the VMM, which may change it at any time
 * @run_lock: one at a time runs it; outermost. Protects what follows.
 * @resume: what Gunyah gets to know with the next run
 * @answer: the exit whose answer has yet to be read from @run
 * @mmio: Gunyah took the access for one outside of memory, and wants to know what
 *	becomes of it
 * @mmio_write: and it was a write
 * @fault_addr: address of the last page fault, if nothing else came since
 * @nr_faults: how many there were
 * @gone: it was removed from the VM; under gunyah_vm.life_lock
 *
 * Lifetime: from ADD_FUNCTION to the end of the descriptor and its mappings.
 */
struct gunyah_vcpu {
	struct file *vm_file;
	struct gunyah_vm *g;
	u32 label;
	struct gmem_gunyah_vcpu_run *run;
	struct mutex run_lock;
	u64 resume[3];
	u32 answer;
	bool mmio;
	bool mmio_write;
	u64 fault_addr;
	unsigned int nr_faults;
	bool gone;
};

/*
 * An entry of gunyah_vm.vcpus: what there is of a label. Under gunyah_vm.life_lock; goes
 * with the VM.
 */
struct gunyah_vcpu_slot {
	struct gunyah_vcpu *vcpu;
	u64 cap;
	bool found;
};

static struct gunyah_vcpu_slot *gunyah_vcpu_slot(struct gunyah_vm *g, u32 label)
{
	struct gunyah_vcpu_slot *slot;

	lockdep_assert_held(&g->life_lock);
	slot = xa_load(&g->vcpus, label);
	if (slot)
		return slot;
	slot = kzalloc(sizeof(*slot), GFP_KERNEL_ACCOUNT);
	if (slot && xa_err(xa_store(&g->vcpus, label, slot,
				    GFP_KERNEL_ACCOUNT))) {
		kfree(slot);
		slot = NULL;
	}
	return slot;
}

int gunyah_vcpu_found(struct gunyah_vm *g, u32 label, u64 cap)
{
	struct gunyah_vcpu_slot *slot = gunyah_vcpu_slot(g, label);

	if (!slot)
		return -ENOMEM;
	slot->cap = cap;
	slot->found = true;
	return 0;
}

void gunyah_vcpus_free(struct gunyah_vm *g)
{
	struct gunyah_vcpu_slot *slot;
	unsigned long label;

	xa_for_each(&g->vcpus, label, slot)
		kfree(slot);
	xa_destroy(&g->vcpus);
}

/* ---- what happened ---- */

static void gunyah_vcpu_answer(struct gunyah_vcpu *vcpu, u32 exit_reason)
{
	vcpu->answer = exit_reason;
	WRITE_ONCE(vcpu->run->exit_reason, exit_reason);
}

/* The VM has ended; how, unless nobody said. */
static void gunyah_vcpu_tell_status(struct gunyah_vcpu *vcpu,
				    enum gmem_gunyah_vm_status status)
{
	struct gunyah_vm *g = vcpu->g;

	vcpu->run->status.status = status;
	spin_lock(&g->status_lock);
	vcpu->run->status.exit_info = g->exit_info;
	spin_unlock(&g->status_lock);
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_STATUS);
}

static int gunyah_vcpu_ended(struct gunyah_vcpu *vcpu)
{
	bool exited = gunyah_rm_wait(vcpu->g->rm, READ_ONCE(vcpu->g->exited),
				     GUNYAH_VCPU_EXIT_MS);

	gunyah_vcpu_tell_status(vcpu, exited ? GMEM_GUNYAH_VM_STATUS_EXITED :
					       GMEM_GUNYAH_VM_STATUS_CRASHED);
	return 0;
}

/* The guest asked for a reset; its exit may yet be told. */
static int gunyah_vcpu_reset(struct gunyah_vcpu *vcpu)
{
	gunyah_vcpu_ended(vcpu);
	if (vcpu->run->status.status != GMEM_GUNYAH_VM_STATUS_EXITED) {
		vcpu->run->status.status = GMEM_GUNYAH_VM_STATUS_EXITED;
		vcpu->run->status.exit_info.type = GMEM_GUNYAH_EXIT_RESET;
	}
	return 0;
}

/* Without extents, Gunyah resumes in one way: the access is done. */
static bool gunyah_vcpu_retries(const struct gunyah_vcpu *vcpu)
{
	return READ_ONCE(vcpu->g->memory) == GUNYAH_MEMORY_EXTENTS;
}

static bool gunyah_vcpu_bound(struct gunyah_vcpu *vcpu, u64 addr)
{
	bool bound;

	if (PHYS_PFN(addr) > vcpu->g->vm->max_gfn)
		return false;
	rcu_read_lock();
	bound = mtree_load(&vcpu->g->vm->bindings, PHYS_PFN(addr));
	rcu_read_unlock();
	return bound;
}

/* Provide the page at @addr: 0, or why not. */
static int gunyah_vcpu_provide(struct gunyah_vcpu *vcpu, u64 addr, bool write)
{
	if (PHYS_PFN(addr) > vcpu->g->vm->max_gfn)
		return -ENOENT;
	return gmem_fault_resolve(vcpu->g->vm, PHYS_PFN(addr),
				  write ? GMEM_ACCESS_WRITE : GMEM_ACCESS_READ);
}

/* 1: the guest may go on; 0: the VMM has to know. */
static int gunyah_vcpu_page_fault(struct gunyah_vcpu *vcpu, u64 addr,
				  bool write)
{
	struct gmem_gunyah_vcpu_run *run = vcpu->run;
	int err;

	if (addr != vcpu->fault_addr)
		vcpu->nr_faults = 0;
	vcpu->fault_addr = addr;
	err = gunyah_vcpu_provide(vcpu, addr, write);
	if (!err && ++vcpu->nr_faults < GUNYAH_VCPU_FAULTS)
		return 1;
	/* The page is there: it wants to do what it may not. */
	if (!err)
		err = -EACCES;
	vcpu->nr_faults = 0;
	if (err == -EINTR)
		return err;
	run->page_fault.phys_addr = addr;
	run->page_fault.attempt = err;
	run->page_fault.resume_action = GMEM_GUNYAH_VCPU_RESUME_RETRY;
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT);
	return 0;
}

static int gunyah_vcpu_mmio(struct gunyah_vcpu *vcpu, const u64 data[3],
			    bool write)
{
	struct gmem_gunyah_vcpu_run *run = vcpu->run;
	int ret;

	/* Memory that was bound after the start is no device, but with parcels. */
	if (gunyah_vcpu_retries(vcpu) && gunyah_vcpu_bound(vcpu, data[0])) {
		ret = gunyah_vcpu_page_fault(vcpu, data[0], write);
		if (ret > 0)
			vcpu->resume[1] = GUNYAH_VCPU_RESUME_RETRY;
		return ret;
	}
	run->mmio.phys_addr = data[0];
	run->mmio.len = min_t(u64, data[1], sizeof(run->mmio.data));
	run->mmio.is_write = write;
	run->mmio.resume_action = GMEM_GUNYAH_VCPU_RESUME_HANDLED;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (write)
		memcpy(run->mmio.data, &data[2], sizeof(run->mmio.data));
	vcpu->mmio_write = write;
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_MMIO);
	return 0;
}

/* ---- running ---- */

/* What the VMM made of the last exit, for Gunyah. */
static int gunyah_vcpu_take_answer(struct gunyah_vcpu *vcpu)
{
	const struct gmem_gunyah_vcpu_run *run = vcpu->run;
	u64 value = 0;
	u8 action;

	switch (vcpu->answer) {
	case GMEM_GUNYAH_VCPU_EXIT_MMIO:
		action = READ_ONCE(run->mmio.resume_action);
		break;
	case GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT:
		action = READ_ONCE(run->page_fault.resume_action);
		if (action == GMEM_GUNYAH_VCPU_RESUME_HANDLED)
			return -EINVAL;
		break;
	default:
		return 0;
	}

	/* A page fault is made again by itself. */
	if (!vcpu->mmio) {
		if (action == GMEM_GUNYAH_VCPU_RESUME_FAULT)
			return -EOPNOTSUPP;
		if (action != GMEM_GUNYAH_VCPU_RESUME_RETRY)
			return -EINVAL;
		vcpu->answer = GMEM_GUNYAH_VCPU_EXIT_UNKNOWN;
		return 0;
	}
	if (action != GMEM_GUNYAH_VCPU_RESUME_HANDLED &&
	    !gunyah_vcpu_retries(vcpu))
		return -EOPNOTSUPP;
	switch (action) {
	case GMEM_GUNYAH_VCPU_RESUME_HANDLED:
		if (!vcpu->mmio_write) {
			memcpy(&value, run->mmio.data, sizeof(value));
			vcpu->resume[0] = value;
		}
		break;
	case GMEM_GUNYAH_VCPU_RESUME_FAULT:
		vcpu->resume[1] = GUNYAH_VCPU_RESUME_FAULT;
		break;
	case GMEM_GUNYAH_VCPU_RESUME_RETRY:
		vcpu->resume[1] = GUNYAH_VCPU_RESUME_RETRY;
		break;
	default:
		return -EINVAL;
	}
	vcpu->answer = GMEM_GUNYAH_VCPU_EXIT_UNKNOWN;
	return 0;
}

static void gunyah_vcpu_idle(struct gunyah_vcpu *vcpu)
{
	wait_event_interruptible_timeout(vcpu->g->rm->event,
					 READ_ONCE(vcpu->g->exited),
					 usecs_to_jiffies(GUNYAH_VCPU_IDLE_US));
}

/* 1: go on; 0 or an errno: that is the call's result. */
static int gunyah_vcpu_exit(struct gunyah_vcpu *vcpu, u64 state,
			    const u64 data[3])
{
	switch (state) {
	case GUNYAH_VCPU_READY:
		return 1;
	case GUNYAH_VCPU_POWERED_OFF:
		/* Another one may turn it on; the end of the VM is told by the RM. */
	case GUNYAH_VCPU_EXPECTS_WAKEUP:
	case GUNYAH_VCPU_BLOCKED:
		gunyah_vcpu_idle(vcpu);
		return 1;
	case GUNYAH_VCPU_FAULT:
		return gunyah_vcpu_ended(vcpu);
	case GUNYAH_VCPU_SYSTEM_RESET:
		return gunyah_vcpu_reset(vcpu);
	case GUNYAH_VCPU_VMMIO_READ:
	case GUNYAH_VCPU_VMMIO_WRITE:
		return gunyah_vcpu_mmio(vcpu, data,
					state == GUNYAH_VCPU_VMMIO_WRITE);
	case GUNYAH_VCPU_PAGE_FAULT:
		return gunyah_vcpu_page_fault(vcpu, data[0], data[1]);
	}
	dev_warn_ratelimited(vcpu->g->rm->dev,
			     "VM %u (VMID %u): vCPU %u in unknown state %#llx\n",
			     vcpu->g->vm->id, vcpu->g->vmid, vcpu->label, state);
	gunyah_vcpu_answer(vcpu, GMEM_GUNYAH_VCPU_EXIT_UNKNOWN);
	return 0;
}

static int gunyah_vcpu_loop(struct gunyah_vcpu *vcpu, u64 cap)
{
	u64 state, data[3];
	s64 error;
	int ret = 1;

	do {
		if (READ_ONCE(vcpu->g->exited)) {
			gunyah_vcpu_tell_status(vcpu,
						GMEM_GUNYAH_VM_STATUS_EXITED);
			return 0;
		}
		if (signal_pending(current) ||
		    READ_ONCE(vcpu->run->immediate_exit))
			return -EINTR;
		error = gunyah_vcpu_run(cap, vcpu->resume, &state, data);
		if (error == GUNYAH_ERROR_RETRY) {
			ret = 1;
			continue;
		}
		memset(vcpu->resume, 0, sizeof(vcpu->resume));
		if (error == GUNYAH_ERROR_BUSY) {
			/* By a descriptor whose vCPU was removed meanwhile. */
			ret = -EBUSY;
		} else if (error) {
			dev_warn_ratelimited(vcpu->g->rm->dev,
					     "VM %u (VMID %u): can't run vCPU %u: %s (%lld)\n",
					     vcpu->g->vm->id, vcpu->g->vmid,
					     vcpu->label,
					     gunyah_error_name(error), error);
			/* That is what it looks like when the VM has ended. */
			ret = gunyah_vcpu_ended(vcpu);
		} else {
			vcpu->mmio = state == GUNYAH_VCPU_VMMIO_READ ||
				     state == GUNYAH_VCPU_VMMIO_WRITE;
			if (state != GUNYAH_VCPU_PAGE_FAULT &&
			    state != GUNYAH_VCPU_READY)
				vcpu->nr_faults = 0;
			ret = gunyah_vcpu_exit(vcpu, state, data);
		}
		cond_resched();
	} while (ret > 0);
	return ret;
}

/* The capability to run it with. */
static int gunyah_vcpu_ready(struct gunyah_vcpu *vcpu, u64 *cap)
{
	struct gunyah_vm *g = vcpu->g;
	struct gunyah_vcpu_slot *slot;
	int err = 0;

	if (mutex_lock_killable(&g->life_lock))
		return -EINTR;
	slot = xa_load(&g->vcpus, vcpu->label);
	if (vcpu->gone)
		err = -ENODEV;
	else if (g->failed)
		err = 1;
	else if (g->phase != GUNYAH_PHASE_STARTED || !slot->found)
		err = -ENODEV;
	else
		*cap = slot->cap;
	mutex_unlock(&g->life_lock);
	return err;
}

static int gunyah_vcpu_run_call(struct gunyah_vcpu *vcpu)
{
	u64 cap;
	int ret;

	if (mutex_lock_interruptible(&vcpu->run_lock))
		return -EINTR;
	ret = gunyah_vcpu_ready(vcpu, &cap);
	if (ret > 0) {
		gunyah_vcpu_tell_status(vcpu, GMEM_GUNYAH_VM_STATUS_LOAD_FAILED);
		ret = 0;
	} else if (!ret) {
		ret = gunyah_vcpu_take_answer(vcpu);
		if (!ret)
			ret = gunyah_vcpu_loop(vcpu, cap);
	}
	mutex_unlock(&vcpu->run_lock);
	return ret;
}

/* ---- the descriptor ---- */

static long gunyah_vcpu_ioctl(struct file *file, unsigned int cmd,
			      unsigned long arg)
{
	switch (cmd) {
	case GMEM_GUNYAH_VCPU_RUN:
		return arg ? -EINVAL :
			     gunyah_vcpu_run_call(file->private_data);
	case GMEM_GUNYAH_VCPU_MMAP_SIZE:
		return arg ? -EINVAL : PAGE_SIZE;
	}
	return -ENOTTY;
}

static int gunyah_vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gunyah_vcpu *vcpu = file->private_data;

	/* A private mapping would keep what the VMM writes from us. */
	if (vma->vm_pgoff || vma_pages(vma) != 1 ||
	    !(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	return vm_insert_page(vma, vma->vm_start, virt_to_page(vcpu->run));
}

static void gunyah_vcpu_free(struct gunyah_vcpu *vcpu)
{
	free_page((unsigned long)vcpu->run);
	mutex_destroy(&vcpu->run_lock);
	kfree(vcpu);
}

/* The VM has the vCPU no more; but if Gunyah has it, its slot stays. */
static void gunyah_vcpu_leave(struct gunyah_vcpu *vcpu)
{
	struct gunyah_vm *g = vcpu->g;
	struct gunyah_vcpu_slot *slot = xa_load(&g->vcpus, vcpu->label);

	vcpu->gone = true;
	slot->vcpu = NULL;
	if (slot->found)
		return;
	xa_erase(&g->vcpus, vcpu->label);
	kfree(slot);
}

static int gunyah_vcpu_release(struct inode *inode, struct file *file)
{
	struct gunyah_vcpu *vcpu = file->private_data;

	mutex_lock(&vcpu->g->life_lock);
	if (!vcpu->gone)
		gunyah_vcpu_leave(vcpu);
	mutex_unlock(&vcpu->g->life_lock);
	fput(vcpu->vm_file);
	gunyah_vcpu_free(vcpu);
	return 0;
}

static const struct file_operations gunyah_vcpu_fops = {
	.owner = THIS_MODULE,
	.release = gunyah_vcpu_release,
	.unlocked_ioctl = gunyah_vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = gunyah_vcpu_mmap,
	.llseek = noop_llseek,
};

static struct gunyah_vcpu *gunyah_vcpu_alloc(struct gunyah_vm *g, u32 label)
{
	struct gunyah_vcpu *vcpu;

	vcpu = kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);
	if (!vcpu)
		return NULL;
	mutex_init(&vcpu->run_lock);
	vcpu->g = g;
	vcpu->label = label;
	vcpu->run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vcpu->run) {
		gunyah_vcpu_free(vcpu);
		return NULL;
	}
	return vcpu;
}

static int gunyah_vcpu_add(struct gunyah_vm *g, u32 label)
{
	struct gunyah_vcpu_slot *slot;
	struct gunyah_vcpu *vcpu;
	struct file *file;
	int fd;

	lockdep_assert_held(&g->life_lock);
	slot = gunyah_vcpu_slot(g, label);
	if (!slot)
		return -ENOMEM;
	if (slot->vcpu)
		return -EEXIST;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	vcpu = gunyah_vcpu_alloc(g, label);
	if (!vcpu) {
		put_unused_fd(fd);
		return -ENOMEM;
	}
	file = anon_inode_getfile("[gmem-vcpu]", &gunyah_vcpu_fops, vcpu,
				  O_RDWR);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		gunyah_vcpu_free(vcpu);
		return PTR_ERR(file);
	}
	vcpu->vm_file = get_file(g->vm->file);
	slot->vcpu = vcpu;
	fd_install(fd, file);
	return fd;
}

static int gunyah_vcpu_remove(struct gunyah_vm *g, u32 label)
{
	struct gunyah_vcpu_slot *slot = xa_load(&g->vcpus, label);

	lockdep_assert_held(&g->life_lock);
	if (!slot || !slot->vcpu)
		return -ENOENT;
	gunyah_vcpu_leave(slot->vcpu);
	return 0;
}

static int gunyah_vm_function_call(struct gmem_vm *vm,
				   const struct gmem_gunyah_fn_desc *desc,
				   int (*fn)(struct gunyah_vm *g, u32 label))
{
	struct gunyah_vm *g = vm->provider_data;
	struct gmem_gunyah_fn_vcpu_arg arg;
	int ret;

	if (desc->type == GMEM_GUNYAH_FN_IRQFD ||
	    desc->type == GMEM_GUNYAH_FN_IOEVENTFD)
		return -EOPNOTSUPP;
	if (desc->type != GMEM_GUNYAH_FN_VCPU || desc->arg_size != sizeof(arg))
		return -EINVAL;
	if (copy_from_user(&arg, u64_to_user_ptr(desc->arg), sizeof(arg)))
		return -EFAULT;

	if (mutex_lock_killable(&g->life_lock))
		return -EINTR;
	ret = fn(g, arg.id);
	mutex_unlock(&g->life_lock);
	return ret;
}

int gunyah_vm_add_function_call(void *obj, void *arg)
{
	return gunyah_vm_function_call(obj, arg, gunyah_vcpu_add);
}

int gunyah_vm_remove_function_call(void *obj, void *arg)
{
	return gunyah_vm_function_call(obj, arg, gunyah_vcpu_remove);
}
