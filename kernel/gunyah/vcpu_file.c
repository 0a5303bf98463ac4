// SPDX-License-Identifier: GPL-2.0-only
/* A vCPU's descriptor, and the page that it shares with the VMM. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gmem_gunyah.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "../objects.h"
#include "objects.h"
#include "vcpu.h"
#include "vcpu_file.h"
#include "vcpu_irq.h"

static struct gunyah_vcpu_slot *gunyah_vcpu_slot(struct gunyah_vm *g, u32 label)
{
	struct gunyah_vcpu_slot *slot;

	lockdep_assert_held(&g->functions_lock);
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

/* Free a slot that nobody needs. */
static void gunyah_vcpu_drop_slot(struct gunyah_vm *g, u32 label,
				  struct gunyah_vcpu_slot *slot)
{
	if (slot->vcpu || slot->found)
		return;
	xa_erase(&g->vcpus, label);
	kfree(slot);
}

int gunyah_vcpu_found(struct gunyah_vm *g, u32 label, u64 cap, u32 virq)
{
	struct gunyah_vcpu_slot *slot = gunyah_vcpu_slot(g, label);

	if (!slot)
		return -ENOMEM;
	slot->cap = cap;
	slot->found = true;
	gunyah_vcpu_take_irq(g, slot, label, virq);
	return 0;
}

void gunyah_vcpus_end(struct gunyah_vm *g)
{
	struct gunyah_vcpu_slot *slot;
	unsigned long label;

	gunyah_vcpus_disconnect(g);
	xa_for_each(&g->vcpus, label, slot)
		kfree(slot);
	xa_destroy(&g->vcpus);
}

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

	/* In a private mapping the kernel wouldn't see the VMM's writes. */
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

/* Take the vCPU from its VM. */
static void gunyah_vcpu_leave(struct gunyah_vcpu *vcpu)
{
	struct gunyah_vm *g = vcpu->g;
	struct gunyah_vcpu_slot *slot = xa_load(&g->vcpus, vcpu->label);

	WRITE_ONCE(vcpu->gone, true);
	slot->vcpu = NULL;
	gunyah_vcpu_drop_slot(g, vcpu->label, slot);
}

static int gunyah_vcpu_release(struct inode *inode, struct file *file)
{
	struct gunyah_vcpu *vcpu = file->private_data;

	mutex_lock(&vcpu->g->functions_lock);
	if (!vcpu->gone)
		gunyah_vcpu_leave(vcpu);
	mutex_unlock(&vcpu->g->functions_lock);
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

int gunyah_vcpu_add(struct gunyah_vm *g, const void *data)
{
	const struct gmem_gunyah_fn_vcpu_arg *arg = data;
	struct gunyah_vcpu_slot *slot;
	struct gunyah_vcpu *vcpu;
	struct file *file;
	int fd, err;

	lockdep_assert_held(&g->functions_lock);
	slot = gunyah_vcpu_slot(g, arg->id);
	if (!slot)
		return -ENOMEM;
	if (slot->vcpu)
		return -EEXIST;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		err = fd;
		goto drop_slot;
	}
	vcpu = gunyah_vcpu_alloc(g, arg->id);
	if (!vcpu) {
		err = -ENOMEM;
		goto put_fd;
	}
	file = anon_inode_getfile("[gmem-vcpu]", &gunyah_vcpu_fops, vcpu,
				  O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto free_vcpu;
	}
	vcpu->vm_file = get_file(g->vm->file);
	slot->vcpu = vcpu;
	fd_install(fd, file);
	return fd;

free_vcpu:
	gunyah_vcpu_free(vcpu);
put_fd:
	put_unused_fd(fd);
drop_slot:
	gunyah_vcpu_drop_slot(g, arg->id, slot);
	return err;
}

int gunyah_vcpu_remove(struct gunyah_vm *g, const void *data)
{
	const struct gmem_gunyah_fn_vcpu_arg *arg = data;
	struct gunyah_vcpu_slot *slot = xa_load(&g->vcpus, arg->id);

	lockdep_assert_held(&g->functions_lock);
	if (!slot || !slot->vcpu)
		return -ENOENT;
	gunyah_vcpu_leave(slot->vcpu);
	return 0;
}
