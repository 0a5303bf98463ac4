// SPDX-License-Identifier: GPL-2.0-only
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/gmem_netlink.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "binding.h"
#include "cover.h"
#include "debugfs.h"
#include "fault.h"
#include "objects.h"
#include "provider.h"
#include "registry.h"
#include "vm.h"

static struct dentry *gmem_debugfs_dir;

static const char *const gmem_debugfs_kinds[] = {
	[GMEM_WINDOW_KIND_NONE] = "",
	[GMEM_WINDOW_KIND_PAGED] = "paged window, ",
	[GMEM_WINDOW_KIND_LIVE] = "live window, ",
};

static const char *const gmem_debugfs_policies[] = {
	[GMEM_POLICY_ALLOW] = "allow",
	[GMEM_POLICY_SCRUB] = "scrub",
	[GMEM_POLICY_DENY] = "deny",
};

/* Continue the line that begins with an object's kind and number. */
static void gmem_debugfs_show_name(struct seq_file *seq, const char *name)
{
	if (*name)
		seq_printf(seq, " \"%s\"", name);
	seq_puts(seq, ": ");
}

/**
 * struct gmem_debugfs_vms - the position of a reader of "vms": one line
 * @id: number of the VM
 * @in_vm: true: the line is one of its bindings; false: the VM itself
 * @gfn: the binding is the first one from here on
 * @vm: VM @id; NULL at the end. Valid between start and stop, which lock VMs.
 * @info: the binding
 */
struct gmem_debugfs_vms {
	u32 id;
	bool in_vm;
	unsigned long gfn;
	struct gmem_vm *vm;
	struct gmem_binding_info info;
};

/* Move @at to the next existing line, unless it is at one; NULL at the end. */
static void *gmem_debugfs_vms_find(struct gmem_debugfs_vms *at)
{
	for (;;) {
		at->vm = gmem_registry_next_vm(at->id);
		if (!at->vm)
			return NULL;
		if (at->vm->id != at->id) {
			at->id = at->vm->id;
			at->in_vm = false;
		}
		if (!at->in_vm || gmem_binding_peek(at->vm, at->gfn, &at->info))
			return at;
		at->id++;
		at->in_vm = false;
	}
}

static void *gmem_debugfs_vms_start(struct seq_file *seq, loff_t *pos)
{
	struct gmem_debugfs_vms *at = seq->private;

	gmem_registry_lock_vms();
	if (!*pos)
		memset(at, 0, sizeof(*at));
	return gmem_debugfs_vms_find(at);
}

static void *gmem_debugfs_vms_next(struct seq_file *seq, void *v, loff_t *pos)
{
	struct gmem_debugfs_vms *at = v;

	++*pos;
	at->gfn = at->in_vm ? (at->info.guest_addr + at->info.length) >>
			      PAGE_SHIFT : 0;
	at->in_vm = true;
	return gmem_debugfs_vms_find(at);
}

static void gmem_debugfs_vms_stop(struct seq_file *seq, void *v)
{
	gmem_registry_unlock_vms();
}

static int gmem_debugfs_vms_show(struct seq_file *seq, void *v)
{
	const struct gmem_debugfs_vms *at = v;
	const struct gmem_binding_info *b = &at->info;
	struct gmem_vm *vm = at->vm;
	struct gmem_vm_detail detail;
	unsigned int i;

	if (!at->in_vm) {
		seq_printf(seq, "vm %u", vm->id);
		gmem_debugfs_show_name(seq, vm->name);
		seq_printf(seq, "%s, policy %s, %u bits, %sby %*pE[%d]: %ld bindings, %ld pages lent, %llu accesses refused",
			   vm->provider->name,
			   gmem_debugfs_policies[READ_ONCE(vm->policy)],
			   gmem_vm_guest_addr_bits(vm),
			   gmem_debugfs_kinds[vm->provider->window_kind],
			   (int)strlen(vm->comm), vm->comm, vm->pid,
			   atomic_long_read(&vm->nr_bindings),
			   atomic_long_read(&vm->lent_pages),
			   gmem_fault_count(&vm->faults));
		for (i = 0; gmem_provider_vm_detail(vm, i, &detail); i++)
			seq_printf(seq, ", %s %llu", detail.name, detail.value);
		seq_putc(seq, '\n');
		return 0;
	}
	seq_printf(seq, "  %#014llx-%#014llx %s %c%c%c guestmem %llu offset %#llx%s%s\n",
		   b->guest_addr, b->guest_addr + b->length - 1,
		   (b->flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND ?
		   "lend " : "share",
		   b->flags & GMEM_MAP_ALLOW_READ ? 'r' : '-',
		   b->flags & GMEM_MAP_ALLOW_WRITE ? 'w' : '-',
		   b->flags & GMEM_MAP_ALLOW_EXEC ? 'x' : '-', b->mem_id,
		   b->offset, b->flags & GMEM_MAP_POLICY ? ", policy " : "",
		   b->flags & GMEM_MAP_POLICY ?
		   gmem_debugfs_policies[b->policy] : "");
	return 0;
}

static const struct seq_operations gmem_debugfs_vms_ops = {
	.start = gmem_debugfs_vms_start,
	.next = gmem_debugfs_vms_next,
	.stop = gmem_debugfs_vms_stop,
	.show = gmem_debugfs_vms_show,
};

static int gmem_debugfs_vms_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &gmem_debugfs_vms_ops,
				sizeof(struct gmem_debugfs_vms));
}

static const struct file_operations gmem_debugfs_vms_fops = {
	.owner = THIS_MODULE,
	.open = gmem_debugfs_vms_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

static int gmem_debugfs_mems_show(struct seq_file *seq, void *v)
{
	const struct gmem_mem_info *at = v;

	seq_printf(seq, "guestmem %llu", at->id);
	gmem_debugfs_show_name(seq, at->name);
	seq_printf(seq, "%llu KiB, pages of %llu KiB: %llu absent, %llu host, %llu lent, %llu shared, %llu leaked\n",
		   at->size >> 10, at->page_size >> 10, at->absent,
		   at->host, at->lent, at->shared, at->leaked);
	return 0;
}

static int gmem_debugfs_views_show(struct seq_file *seq, void *v)
{
	const struct gmem_view_info *at = v;

	seq_printf(seq, "view %u", at->id);
	gmem_debugfs_show_name(seq, at->name);
	seq_printf(seq, "guestmem %llu offset %#llx, %llu KiB, %s%s, by process %d\n",
		   at->mem_id, at->offset, at->length >> 10,
		   at->flags & GMEM_VIEW_READ_ONLY ? "read-only" : "read-write",
		   at->revoked ? ", revoked" : "", at->pid);
	return 0;
}

static int gmem_debugfs_windows_show(struct seq_file *seq, void *v)
{
	const struct gmem_window_info *at = v;

	seq_printf(seq, "window %u", at->id);
	gmem_debugfs_show_name(seq, at->name);
	seq_printf(seq, "vm %u %#014llx-%#014llx, %s, by process %d\n",
		   at->vm_id, at->guest_addr, at->guest_addr + at->length - 1,
		   at->flags & GMEM_WINDOW_READ_ONLY ? "read-only" :
		   at->flags & GMEM_WINDOW_NO_DISCARD ? "read-write" :
		   "read-write, discard", at->pid);
	return 0;
}

static void gmem_debugfs_list_stop(struct seq_file *seq, void *v)
{
}

/*
 * A file with a line for each object of a kind. The position of a reader is the
 * description of an object.
 */
#define GMEM_DEBUGFS_LIST(_kind)					\
static void *gmem_debugfs_##_kind##s_start(struct seq_file *seq, loff_t *pos) \
{									\
	struct gmem_##_kind##_info *at = seq->private;			\
									\
	return gmem_registry_next_##_kind(*pos ? at->id : 0, at) ? at : NULL; \
}									\
									\
static void *gmem_debugfs_##_kind##s_next(struct seq_file *seq, void *v, \
					  loff_t *pos)			\
{									\
	struct gmem_##_kind##_info *at = v;				\
									\
	++*pos;								\
	at->id++;							\
	return gmem_registry_next_##_kind(at->id, at) ? at : NULL;	\
}									\
									\
static const struct seq_operations gmem_debugfs_##_kind##s_ops = {	\
	.start = gmem_debugfs_##_kind##s_start,				\
	.next = gmem_debugfs_##_kind##s_next,				\
	.stop = gmem_debugfs_list_stop,					\
	.show = gmem_debugfs_##_kind##s_show,				\
};									\
									\
static int gmem_debugfs_##_kind##s_open(struct inode *inode,		\
					struct file *file)		\
{									\
	return seq_open_private(file, &gmem_debugfs_##_kind##s_ops,	\
				sizeof(struct gmem_##_kind##_info));	\
}									\
									\
static const struct file_operations gmem_debugfs_##_kind##s_fops = {	\
	.owner = THIS_MODULE,						\
	.open = gmem_debugfs_##_kind##s_open,				\
	.read = seq_read,						\
	.llseek = seq_lseek,						\
	.release = seq_release_private,					\
}

GMEM_DEBUGFS_LIST(mem);
GMEM_DEBUGFS_LIST(view);
GMEM_DEBUGFS_LIST(window);

/* The module works without its files, so errors don't matter. */
void gmem_debugfs_init(void)
{
	gmem_debugfs_dir = debugfs_create_dir("gmem", NULL);
	debugfs_create_file("vms", 0400, gmem_debugfs_dir, NULL,
			    &gmem_debugfs_vms_fops);
	debugfs_create_file("guestmems", 0400, gmem_debugfs_dir, NULL,
			    &gmem_debugfs_mems_fops);
	debugfs_create_file("views", 0400, gmem_debugfs_dir, NULL,
			    &gmem_debugfs_views_fops);
	debugfs_create_file("windows", 0400, gmem_debugfs_dir, NULL,
			    &gmem_debugfs_windows_fops);
	gmem_providers_debugfs(gmem_debugfs_dir);
	gmem_cover_debugfs(gmem_debugfs_dir);
}

void gmem_debugfs_exit(void)
{
	debugfs_remove(gmem_debugfs_dir);
}
