// SPDX-License-Identifier: GPL-2.0-only
/*
 * Window descriptors: ranges of a VM's guest memory, for those who need the
 * memory and not the VM's calls. A mapping is a window of the VM, with a file of
 * the descriptor.
 */
#include <linux/err.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "call.h"
#include "descriptor.h"
#include "discard.h"
#include "event.h"
#include "objects.h"
#include "provider.h"
#include "registry.h"
#include "unmap.h"
#include "vm.h"
#include "window_desc.h"

static struct gmem_window_desc *gmem_window_desc_of(const struct file *file)
{
	return container_of(gmem_descriptor_of(file), struct gmem_window_desc,
			    d);
}

static int gmem_window_desc_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gmem_window_desc *window = gmem_window_desc_of(file);
	struct gmem_vm *vm = window->vm_file->private_data;
	int err;

	err = gmem_descriptor_check_mmap(&window->d, vma);
	if (err)
		return err;
	err = gmem_descriptor_map(vma, window->vm_file->f_mapping);
	if (err)
		return err;
	/* The new file holds the descriptor, and that the VM. */
	vma->vm_file->private_data = window->vm_file;
	vm->provider->set_window(vma);
	return 0;
}

static long gmem_window_desc_fallocate(struct file *file, int mode,
				       loff_t offset, loff_t length)
{
	struct gmem_window_desc *window = gmem_window_desc_of(file);
	struct gmem_vm *vm = window->vm_file->private_data;
	unsigned long first, last;
	int err;

	if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ||
	    (window->d.flags & GMEM_WINDOW_NO_DISCARD))
		return -EOPNOTSUPP;
	err = gmem_call_range(offset, length, &first, &last);
	if (err)
		return err;
	if (last > window->d.last - window->d.first)
		return -EINVAL;

	return gmem_vm_discard(vm, window->d.first + first,
			       window->d.first + last);
}

static void gmem_window_desc_show_fdinfo(struct seq_file *seq,
					 struct file *file)
{
	const struct gmem_window_desc *window = gmem_window_desc_of(file);

	seq_printf(seq, "gmem-window:\t%u\n", window->d.id);
	seq_printf(seq, "gmem-window-vm:\t%u\n", window->vm_id);
	gmem_descriptor_show(seq, &window->d);
}

static const struct file_operations gmem_window_desc_fops = {
	.owner = THIS_MODULE,
	.open = gmem_descriptor_open,
	.mmap = gmem_window_desc_mmap,
	.get_unmapped_area = gmem_descriptor_get_unmapped_area,
	.fallocate = gmem_window_desc_fallocate,
	.llseek = generic_file_llseek,
	.show_fdinfo = gmem_window_desc_show_fdinfo,
};

static void gmem_window_desc_free(struct gmem_window_desc *window)
{
	fput(window->vm_file);
	kfree_rcu(window, d.rcu);
}

static void gmem_window_desc_release(struct gmem_descriptor *d)
{
	struct gmem_window_desc *window =
		container_of(d, struct gmem_window_desc, d);

	gmem_registry_remove_window(window);
	gmem_event_window_destroyed(window);
	gmem_window_desc_free(window);
}

static struct gmem_descriptor_kind gmem_window_desc_kind = {
	.fs = {
		.owner = THIS_MODULE,
		.name = "gmem_window",
		.init_fs_context = gmem_descriptor_init_fs_context,
		.kill_sb = kill_anon_super,
	},
	.magic = GMEM_WINDOW_MAGIC,
	.name = "[gmem-window]",
	.fops = &gmem_window_desc_fops,
	.release = gmem_window_desc_release,
};

/* A window descriptor without a file and a number. */
static struct gmem_window_desc *
gmem_window_desc_alloc(struct gmem_vm *vm, const struct gmem_vm_window *arg)
{
	struct gmem_window_desc *window;
	int err;

	/* First of all: the errno for an empty range tells the kind of a VM. */
	if (!vm->provider->set_window)
		return ERR_PTR(-EOPNOTSUPP);
	if (arg->flags & ~(u32)(GMEM_WINDOW_READ_ONLY | GMEM_WINDOW_NO_DISCARD))
		return ERR_PTR(-EINVAL);
	window = kzalloc(sizeof(*window), GFP_KERNEL_ACCOUNT);
	if (!window)
		return ERR_PTR(-ENOMEM);
	err = gmem_vm_range(vm, arg->guest_addr, arg->length, &window->d.first,
			    &window->d.last);
	if (!err)
		err = gmem_call_name(window->d.name, arg->name);
	if (err) {
		kfree(window);
		return ERR_PTR(err);
	}

	gmem_descriptor_init(&window->d);
	window->d.flags = arg->flags;
	window->vm_file = get_file(vm->file);
	window->vm_id = vm->id;
	return window;
}

struct file *gmem_vm_window_call(void *obj, void *arg)
{
	struct gmem_vm_window *call = arg;
	struct gmem_window_desc *window;
	struct file *file;
	int err;

	window = gmem_window_desc_alloc(obj, call);
	if (IS_ERR(window))
		return ERR_CAST(window);
	err = gmem_registry_add_window(window);
	if (err) {
		file = ERR_PTR(err);
		goto free_window;
	}
	file = gmem_descriptor_file(&gmem_window_desc_kind, &window->d,
				    call->flags & GMEM_WINDOW_READ_ONLY, 0);
	if (IS_ERR(file))
		goto remove_window;
	call->id = window->d.id;
	gmem_event_window_created(window);
	return file;

remove_window:
	gmem_registry_remove_window(window);
free_window:
	gmem_window_desc_free(window);
	return file;
}
