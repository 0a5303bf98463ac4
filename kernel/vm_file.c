// SPDX-License-Identifier: GPL-2.0-only
/* The VM's descriptor: how it is made, its calls, its mappings and its end. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gmem_netlink.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "absent.h"
#include "call.h"
#include "change.h"
#include "fault.h"
#include "file.h"
#include "huge.h"
#include "map.h"
#include "objects.h"
#include "provider.h"
#include "query.h"
#include "vm.h"
#include "vm_file.h"
#include "wait.h"
#include "window_desc.h"

#define GMEM_VM_FLAGS \
	((u32)(GMEM_VM_LIVE | GMEM_VM_WAIT | GMEM_VM_WAIT_SIGNALS | \
	       GMEM_VM_GUEST_ACCEPTS))

static int gmem_vm_set_policy_call(void *obj, void *arg)
{
	const struct gmem_vm_set_policy *set = arg;
	struct gmem_vm *vm = obj;

	if (set->policy > GMEM_POLICY_DENY)
		return -EINVAL;
	WRITE_ONCE(vm->policy, set->policy);
	return 0;
}

static const struct gmem_call gmem_vm_calls[] = {
	GMEM_CALL(GMEM_VM_MAP_MEM, GMEM_CALL_FIXED, gmem_vm_map_mem_call,
		  struct gmem_map_mem, size),
	GMEM_CALL(GMEM_VM_UNMAP, GMEM_CALL_INOUT, gmem_vm_unmap_call,
		  struct gmem_vm_range, nr_pages),
	GMEM_CALL(GMEM_VM_RECLAIM, GMEM_CALL_PARTIAL, gmem_vm_reclaim_call,
		  struct gmem_vm_range, nr_pages),
	GMEM_CALL(GMEM_VM_POPULATE, GMEM_CALL_PARTIAL, gmem_vm_populate_call,
		  struct gmem_vm_range, nr_pages),
	GMEM_CALL(GMEM_VM_QUERY, GMEM_CALL_INOUT, gmem_vm_query_call,
		  struct gmem_vm_query, entries),
	GMEM_CALL(GMEM_VM_FAULTS, GMEM_CALL_INOUT, gmem_vm_faults_call,
		  struct gmem_vm_faults, entries),
	GMEM_CALL(GMEM_VM_SET_POLICY, GMEM_CALL_IN, gmem_vm_set_policy_call,
		  struct gmem_vm_set_policy, policy),
	GMEM_CALL(GMEM_VM_WAITERS, GMEM_CALL_INOUT, gmem_vm_waiters_call,
		  struct gmem_vm_waiters, entries),
	GMEM_CALL(GMEM_VM_SET_ABSENT, GMEM_CALL_IN, gmem_vm_set_absent_call,
		  struct gmem_vm_set_absent, length),
	GMEM_CALL(GMEM_VM_FILL, GMEM_CALL_IN, gmem_vm_fill_call,
		  struct gmem_vm_fill, source),
	GMEM_CALL(GMEM_VM_CHANGE, GMEM_CALL_IN, gmem_vm_change_call,
		  struct gmem_vm_change, length),
	GMEM_CALL(GMEM_VM_MAP, GMEM_CALL_IN, gmem_vm_map_call,
		  struct gmem_vm_map, policy),
	GMEM_CALL_OPENS(GMEM_VM_WINDOW, gmem_vm_window_call,
			struct gmem_vm_window, name),
};

static long gmem_vm_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct gmem_vm *vm = file->private_data;
	const struct gmem_provider *provider = vm->provider;
	const struct gmem_call *call;

	call = gmem_call_find(gmem_vm_calls, ARRAY_SIZE(gmem_vm_calls), cmd);
	if (!call)
		call = gmem_call_find(provider->vm_calls,
				      provider->nr_vm_calls, cmd);
	return gmem_call(call, vm, arg);
}

/* The last descriptor is closed. Windows may keep the VM. */
static int gmem_vm_release(struct inode *inode, struct file *file)
{
	struct gmem_vm *vm = file->private_data;

	/* From now on, nobody can bind what a task waits for. */
	gmem_wait_shut(vm);
	fput(vm->file);
	return 0;
}

/*
 * Number and name of the VM and details of its provider, for the VMM and its
 * operator.
 */
static void gmem_vm_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct gmem_vm *vm = file->private_data;
	struct gmem_vm_detail detail;
	unsigned int i;

	seq_printf(seq, "gmem-vm:\t%u\n", vm->id);
	if (*vm->name)
		seq_printf(seq, "gmem-name:\t%s\n", vm->name);
	if (vm->provider->window_kind == GMEM_WINDOW_KIND_LIVE)
		seq_puts(seq, "gmem-windows:\tlive\n");
	for (i = 0; gmem_provider_vm_detail(vm, i, &detail); i++)
		seq_printf(seq, "gmem-%s:\t%llu\n", detail.name, detail.value);
}

static int gmem_vm_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct gmem_vm *vm = file->private_data;

	return vm->provider->mmap ? vm->provider->mmap(vm, vma) : -ENODEV;
}

static __poll_t gmem_vm_poll(struct file *file, struct poll_table_struct *wait)
{
	struct gmem_vm *vm = file->private_data;

	poll_wait(file, &vm->pollers, wait);
	return (gmem_fault_unread(&vm->faults) ? EPOLLPRI : 0) |
	       (gmem_wait_pending(vm) ? EPOLLIN | EPOLLRDNORM : 0);
}

static const struct file_operations gmem_vm_fops = {
	.owner = THIS_MODULE,
	.release = gmem_vm_release,
	.poll = gmem_vm_poll,
	.unlocked_ioctl = gmem_vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = gmem_vm_mmap,
	.get_unmapped_area = gmem_huge_get_unmapped_area,
	.llseek = noop_llseek,
	.show_fdinfo = gmem_vm_show_fdinfo,
};

static int gmem_vm_inner_release(struct inode *inode, struct file *file)
{
	gmem_vm_destroy(file->private_data);
	return 0;
}

static const struct file_operations gmem_vm_inner_fops = {
	.owner = THIS_MODULE,
	.release = gmem_vm_inner_release,
};

/* The VM's file, without a descriptor. */
static struct file *gmem_vm_inner_file(struct gmem_vm *vm)
{
	struct file *file;

	/*
	 * Give the VM an inode of its own: with the shared anonymous inode,
	 * zapping one VM's windows would zap mappings of other files.
	 */
	file = anon_inode_create_getfile("[gmem-vm]", &gmem_vm_inner_fops, vm,
					 O_RDWR, NULL);
	if (IS_ERR(file)) {
		gmem_vm_destroy(vm);
		return file;
	}
	/* Windows' files have this inode: a fault must not update its times. */
	file_inode(file)->i_flags |= S_NOATIME | S_NOCMTIME;
	vm->file = file;
	vm->inode = file_inode(file);
	ihold(vm->inode);
	return file;
}

/* The file of a new VM's descriptor; it holds the VM. */
static struct file *gmem_vm_file(struct gmem_opener *opener,
				 const struct gmem_provider *provider,
				 u32 policy, u32 guest_addr_bits, u32 flags,
				 const char *name)
{
	struct file *file, *inner;
	struct gmem_vm *vm;

	vm = gmem_vm_alloc(opener, provider, policy, guest_addr_bits, flags,
			   name);
	if (IS_ERR(vm))
		return ERR_CAST(vm);
	vm->wait.on = flags & GMEM_VM_WAIT;
	vm->wait.signals = flags & GMEM_VM_WAIT_SIGNALS;

	inner = gmem_vm_inner_file(vm);
	if (IS_ERR(inner))
		return inner;
	file = gmem_file_create(vm->inode, inner->f_path.mnt, "[gmem-vm]",
				O_RDWR, &gmem_vm_fops);
	if (IS_ERR(file))
		fput(inner);
	else
		file->private_data = vm;
	return file;
}

static int gmem_vm_create(struct gmem_opener *opener,
			  const struct gmem_provider *provider, u32 policy,
			  u32 guest_addr_bits, u32 flags, const char *name)
{
	struct file *file;
	int fd;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = gmem_vm_file(opener, provider, policy, guest_addr_bits, flags,
			    name);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	fd_install(fd, file);
	return fd;
}

int gmem_vm_create_default_call(void *obj, void *arg)
{
	const struct gmem_provider *provider = gmem_provider_find("");
	static const char name[GMEM_OBJECT_NAME_LEN];
	const unsigned long *value = arg;
	struct gmem_provider_limits limits;

	if (*value)
		return -EINVAL;
	gmem_provider_limits(provider, &limits);
	return gmem_vm_create(obj, provider, GMEM_POLICY_ALLOW,
			      limits.max_guest_addr_bits, 0, name);
}

int gmem_vm_create_call(void *obj, void *arg)
{
	const struct gmem_vm_create *create = arg;
	const struct gmem_provider *provider;
	const char *provider_name = create->provider_name;
	u32 bits = create->guest_addr_bits;
	struct gmem_provider_limits limits;
	char name[GMEM_OBJECT_NAME_LEN];

	if (create->flags & ~GMEM_VM_FLAGS || create->policy > GMEM_POLICY_DENY)
		return -EINVAL;
	if (create->flags & GMEM_VM_WAIT_SIGNALS &&
	    !(create->flags & GMEM_VM_WAIT))
		return -EINVAL;
	if (strnlen(provider_name, GMEM_NAME_LEN) == GMEM_NAME_LEN ||
	    gmem_call_name(name, create->name))
		return -EINVAL;

	provider = gmem_provider_find(provider_name);
	if (provider && create->flags & GMEM_VM_LIVE)
		provider = provider->live;
	if (!provider)
		return -EOPNOTSUPP;
	/* A fault of another kind of window can come from KVM's kernel threads. */
	if (create->flags & GMEM_VM_WAIT && !(create->flags & GMEM_VM_LIVE))
		return -EOPNOTSUPP;
	if (create->flags & GMEM_VM_GUEST_ACCEPTS & ~provider->vm_flags)
		return -EOPNOTSUPP;
	gmem_provider_limits(provider, &limits);
	if (!bits)
		bits = limits.max_guest_addr_bits;
	if (bits <= PAGE_SHIFT || bits > limits.max_guest_addr_bits)
		return -EINVAL;
	return gmem_vm_create(obj, provider, create->policy, bits, create->flags,
			      name);
}
