// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family: requests.
 *
 * The kernel sends a dump in pieces, one for each buffer that the receiver
 * reads. Between two pieces, a dump keeps only a position: the number of an
 * object, and a guest address. A change between two pieces shows in a
 * generation count, and the receiver learns of it (NLM_F_DUMP_INTR).
 *
 * Policies and operations agree with Documentation/netlink/specs/gmem.yaml; a
 * test compares them.
 */
#include <linux/capability.h>
#include <linux/gmem_netlink.h>
#include <linux/maple_tree.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <net/genetlink.h>
#include <net/netlink.h>

#include "binding.h"
#include "fault.h"
#include "netlink.h"
#include "notify.h"
#include "objects.h"
#include "provider.h"
#include "registry.h"
#include "stats.h"
#include "vm.h"

static struct genl_family gmem_nl_family;

/* GENL_ADMIN_PERM asks for CAP_NET_ADMIN, but VMs aren't about networks. */
static int gmem_nl_check(const struct genl_split_ops *ops, struct sk_buff *skb,
			 const struct nlmsghdr *nlh,
			 struct netlink_ext_ack *extack)
{
	if (!netlink_capable(skb, CAP_SYS_ADMIN)) {
		NL_SET_ERR_MSG(extack,
			       "CAP_SYS_ADMIN is needed in the initial user namespace");
		return -EPERM;
	}
	/* Without a policy, generic netlink doesn't check attributes. */
	if (!ops->policy && nlmsg_attrlen(nlh, GENL_HDRLEN)) {
		NL_SET_ERR_MSG(extack, "the request takes no attribute");
		return -EINVAL;
	}
	return 0;
}

static int gmem_nl_pre_doit(const struct genl_split_ops *ops,
			    struct sk_buff *skb, struct genl_info *info)
{
	return gmem_nl_check(ops, skb, info->nlhdr, info->extack);
}

static int gmem_nl_dump_start(struct netlink_callback *cb)
{
	return gmem_nl_check(&genl_dumpit_info(cb)->op, cb->skb, cb->nlh,
			     cb->extack);
}

/* The kernel takes 0 for "don't compare". */
static void gmem_nl_set_generation(struct netlink_callback *cb, u32 generation)
{
	cb->seq = generation ?: 1;
}

/**
 * struct gmem_nl_dump - the position of a dump, in netlink_callback.ctx
 * @id: the next object to dump
 * @gfn: the next GFN of VM @id to dump
 * @seq: the last row of refused accesses of VM @id that is dumped
 * @end: the last row of VM @id to dump: its newest when the dump came to it; 0: it
 *	hasn't come to it yet
 */
struct gmem_nl_dump {
	u64 id;
	unsigned long gfn;
	u64 seq;
	u64 end;
};

static_assert(sizeof(struct gmem_nl_dump) <=
	      sizeof_field(struct netlink_callback, ctx));

static struct gmem_nl_dump *gmem_nl_dump(struct netlink_callback *cb)
{
	return (struct gmem_nl_dump *)cb->ctx;
}

static void *gmem_nl_dump_put(struct sk_buff *skb, struct netlink_callback *cb,
			      u8 cmd)
{
	void *hdr;

	hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
			  &gmem_nl_family, NLM_F_MULTI, cmd);
	if (hdr)
		genl_dump_check_consistent(cb, hdr);
	return hdr;
}

/* End a message into which attributes were put with the result @err. */
static int gmem_nl_dump_end(struct sk_buff *skb, void *hdr, int err)
{
	if (err)
		genlmsg_cancel(skb, hdr);
	else
		genlmsg_end(skb, hdr);
	return err;
}

/* The return value of dumpit: 0 at the end of the dump. */
static int gmem_nl_dump_result(struct sk_buff *skb, int err)
{
	/* A full buffer is no error unless not even one message fits. */
	if (err == -EMSGSIZE && skb->len)
		err = 0;
	return err ?: skb->len;
}

/* A reply to a request for one object or set of counters. */
static struct sk_buff *gmem_nl_reply_new(struct genl_info *info, void **hdr)
{
	struct sk_buff *skb;

	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!skb)
		return NULL;
	*hdr = genlmsg_put_reply(skb, info, &gmem_nl_family, 0,
				 info->genlhdr->cmd);
	if (!*hdr) {
		nlmsg_free(skb);
		return NULL;
	}
	return skb;
}

static int gmem_nl_reply(struct sk_buff *skb, struct genl_info *info, void *hdr,
			 int err)
{
	if (err) {
		nlmsg_free(skb);
		return err;
	}
	genlmsg_end(skb, hdr);
	return genlmsg_reply(skb, info);
}

/* ---- VMs ---- */

/* More of them may not fit into one message with the rest about a VM. */
#define GMEM_NL_MAX_DETAILS 80

static int gmem_nl_put_vm_details(struct sk_buff *skb, struct gmem_vm *vm)
{
	struct gmem_vm_detail detail;
	struct nlattr *nest;
	unsigned int i;

	for (i = 0; i < GMEM_NL_MAX_DETAILS &&
		    gmem_provider_vm_detail(vm, i, &detail); i++) {
		nest = nla_nest_start(skb, GMEM_A_VM_DETAIL);
		if (!nest ||
		    nla_put_string(skb, GMEM_A_DETAIL_NAME, detail.name) ||
		    nla_put_u64_64bit(skb, GMEM_A_DETAIL_VALUE, detail.value,
				      GMEM_A_DETAIL_PAD))
			return -EMSGSIZE;
		nla_nest_end(skb, nest);
	}
	return 0;
}

static int gmem_nl_put_vm(struct sk_buff *skb, struct gmem_vm *vm)
{
	if (nla_put_u32(skb, GMEM_A_VM_ID, vm->id) ||
	    nla_put_string(skb, GMEM_A_VM_PROVIDER, vm->provider->name) ||
	    nla_put_u32(skb, GMEM_A_VM_POLICY, READ_ONCE(vm->policy)) ||
	    nla_put_u32(skb, GMEM_A_VM_GUEST_ADDR_BITS,
			gmem_vm_guest_addr_bits(vm)) ||
	    nla_put_u32(skb, GMEM_A_VM_PID, vm->pid) ||
	    nla_put_string(skb, GMEM_A_VM_COMM, vm->comm) ||
	    nla_put_u64_64bit(skb, GMEM_A_VM_BINDINGS,
			      atomic_long_read(&vm->nr_bindings),
			      GMEM_A_VM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_VM_LENT_PAGES,
			      atomic_long_read(&vm->lent_pages),
			      GMEM_A_VM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_VM_REFUSED,
			      gmem_fault_count(&vm->faults), GMEM_A_VM_PAD) ||
	    nla_put_string(skb, GMEM_A_VM_NAME, vm->name) ||
	    nla_put_u32(skb, GMEM_A_VM_WINDOW_KIND, vm->provider->window_kind))
		return -EMSGSIZE;
	return gmem_nl_put_vm_details(skb, vm);
}

static int gmem_nl_vm_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sk_buff *reply;
	struct gmem_vm *vm;
	int err = -ENOENT;
	void *hdr;

	if (GENL_REQ_ATTR_CHECK(info, GMEM_A_VM_ID))
		return -EINVAL;
	reply = gmem_nl_reply_new(info, &hdr);
	if (!reply)
		return -ENOMEM;

	gmem_registry_lock_vms();
	vm = gmem_registry_find_vm(nla_get_u32(info->attrs[GMEM_A_VM_ID]));
	if (vm)
		err = gmem_nl_put_vm(reply, vm);
	gmem_registry_unlock_vms();

	if (err == -ENOENT)
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[GMEM_A_VM_ID],
				    "no such VM");
	return gmem_nl_reply(reply, info, hdr, err);
}

static int gmem_nl_vm_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_vm *vm;
	int err = 0;
	void *hdr;

	gmem_registry_lock_vms();
	gmem_nl_set_generation(cb, gmem_registry_vms_generation());
	while (!err && (vm = gmem_registry_next_vm(dump->id))) {
		hdr = gmem_nl_dump_put(skb, cb, GMEM_CMD_VM_GET);
		err = hdr ? gmem_nl_dump_end(skb, hdr, gmem_nl_put_vm(skb, vm)) :
			    -EMSGSIZE;
		if (!err)
			dump->id = vm->id + 1;
	}
	gmem_registry_unlock_vms();
	return gmem_nl_dump_result(skb, err);
}

/* ---- bindings ---- */

static int gmem_nl_put_binding(struct sk_buff *skb, struct netlink_callback *cb,
			       const struct gmem_vm *vm,
			       const struct gmem_binding_info *info)
{
	void *hdr;
	int err = 0;

	hdr = gmem_nl_dump_put(skb, cb, GMEM_CMD_BINDING_GET);
	if (!hdr)
		return -EMSGSIZE;
	if (nla_put_u32(skb, GMEM_A_BINDING_VM_ID, vm->id) ||
	    nla_put_u64_64bit(skb, GMEM_A_BINDING_MEM_ID, info->mem_id,
			      GMEM_A_BINDING_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_BINDING_GUEST_ADDR, info->guest_addr,
			      GMEM_A_BINDING_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_BINDING_OFFSET, info->offset,
			      GMEM_A_BINDING_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_BINDING_LENGTH, info->length,
			      GMEM_A_BINDING_PAD) ||
	    nla_put_u32(skb, GMEM_A_BINDING_FLAGS,
			info->flags & ~(u32)GMEM_MAP_POLICY) ||
	    (info->flags & GMEM_MAP_POLICY &&
	     nla_put_u32(skb, GMEM_A_BINDING_POLICY, info->policy)))
		err = -EMSGSIZE;
	return gmem_nl_dump_end(skb, hdr, err);
}

/* The bindings of one VM, from dump->gfn on. VMs locked. */
static int gmem_nl_dump_bindings(struct sk_buff *skb,
				 struct netlink_callback *cb,
				 struct gmem_vm *vm)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_binding_info info;
	int err = 0;

	while (!err && gmem_binding_peek(vm, dump->gfn, &info)) {
		err = gmem_nl_put_binding(skb, cb, vm, &info);
		if (!err)
			dump->gfn = (info.guest_addr + info.length) >> PAGE_SHIFT;
	}
	return err;
}

static int gmem_nl_dump_all_bindings(struct sk_buff *skb,
				     struct netlink_callback *cb)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_vm *vm;
	int err = 0;

	gmem_nl_set_generation(cb, gmem_registry_vms_generation() +
				   gmem_bindings_generation());
	while (!err && (vm = gmem_registry_next_vm(dump->id))) {
		if (vm->id != dump->id) {
			dump->id = vm->id;
			dump->gfn = 0;
		}
		err = gmem_nl_dump_bindings(skb, cb, vm);
		if (!err) {
			dump->id++;
			dump->gfn = 0;
		}
	}
	return err;
}

static int gmem_nl_dump_vm_bindings(struct sk_buff *skb,
				    struct netlink_callback *cb)
{
	struct gmem_vm *vm = gmem_registry_find_vm(gmem_nl_dump(cb)->id);

	if (!vm) {
		/* The VM ended during the dump: no generation is 0. */
		cb->seq = 0;
		return 0;
	}
	/* Pairs with the release in gmem_binding_changed(). */
	gmem_nl_set_generation(cb, smp_load_acquire(&vm->generation));
	return gmem_nl_dump_bindings(skb, cb, vm);
}

static struct nlattr *gmem_nl_dump_attr(struct netlink_callback *cb, int type)
{
	return genl_info_dump(cb)->attrs[type];
}

/* Begin the dump of something that VMs have: of the VM in @type, or of all. */
static int gmem_nl_start_vm(struct netlink_callback *cb, int type)
{
	struct nlattr *attr = gmem_nl_dump_attr(cb, type);
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	int err;

	err = gmem_nl_dump_start(cb);
	if (err || !attr)
		return err;

	dump->id = nla_get_u32(attr);
	gmem_registry_lock_vms();
	if (!gmem_registry_find_vm(dump->id))
		err = -ENOENT;
	gmem_registry_unlock_vms();
	if (err)
		NL_SET_ERR_MSG_ATTR(cb->extack, attr, "no such VM");
	return err;
}

static int gmem_nl_binding_get_start(struct netlink_callback *cb)
{
	return gmem_nl_start_vm(cb, GMEM_A_BINDING_VM_ID);
}

static int gmem_nl_binding_get_dumpit(struct sk_buff *skb,
				      struct netlink_callback *cb)
{
	int err;

	gmem_registry_lock_vms();
	if (gmem_nl_dump_attr(cb, GMEM_A_BINDING_VM_ID))
		err = gmem_nl_dump_vm_bindings(skb, cb);
	else
		err = gmem_nl_dump_all_bindings(skb, cb);
	gmem_registry_unlock_vms();
	return gmem_nl_dump_result(skb, err);
}

/* ---- refused accesses ---- */

static int gmem_nl_put_fault(struct sk_buff *skb, struct netlink_callback *cb,
			     const struct gmem_vm *vm,
			     const struct gmem_fault_info *info)
{
	void *hdr;
	int err = 0;

	hdr = gmem_nl_dump_put(skb, cb, GMEM_CMD_FAULT_GET);
	if (!hdr)
		return -EMSGSIZE;
	if (nla_put_u32(skb, GMEM_A_FAULT_VM_ID, vm->id) ||
	    nla_put_u64_64bit(skb, GMEM_A_FAULT_SEQ, info->seq,
			      GMEM_A_FAULT_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_FAULT_GUEST_ADDR, info->guest_addr,
			      GMEM_A_FAULT_PAD) ||
	    nla_put_u32(skb, GMEM_A_FAULT_ACCESS, info->access) ||
	    nla_put_u32(skb, GMEM_A_FAULT_REASON, info->reason) ||
	    nla_put_u64_64bit(skb, GMEM_A_FAULT_COUNT, info->count,
			      GMEM_A_FAULT_PAD) ||
	    nla_put_u32(skb, GMEM_A_FAULT_TID, info->pid))
		err = -EMSGSIZE;
	return gmem_nl_dump_end(skb, hdr, err);
}

/*
 * The rows of one VM after dump->seq. A guest may cause rows faster than a reader
 * reads them: the dump ends with the row that was the newest when it began. VMs locked.
 */
static int gmem_nl_dump_faults(struct sk_buff *skb, struct netlink_callback *cb,
			       struct gmem_vm *vm)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_fault_info info;
	int err = 0;

	if (!dump->end)
		dump->end = gmem_fault_count(&vm->faults);
	while (!err && dump->seq < dump->end &&
	       gmem_fault_peek(&vm->faults, dump->seq, &info)) {
		err = gmem_nl_put_fault(skb, cb, vm, &info);
		if (!err)
			dump->seq = info.seq;
	}
	return err;
}

static int gmem_nl_dump_all_faults(struct sk_buff *skb,
				   struct netlink_callback *cb)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_vm *vm;
	int err = 0;

	/* A new row is no change: it comes in this dump, or in the next. */
	gmem_nl_set_generation(cb, gmem_registry_vms_generation());
	while (!err && (vm = gmem_registry_next_vm(dump->id))) {
		if (vm->id != dump->id) {
			dump->id = vm->id;
			dump->seq = 0;
			dump->end = 0;
		}
		err = gmem_nl_dump_faults(skb, cb, vm);
		if (!err) {
			dump->id++;
			dump->seq = 0;
			dump->end = 0;
		}
	}
	return err;
}

static int gmem_nl_dump_vm_faults(struct sk_buff *skb,
				  struct netlink_callback *cb)
{
	struct gmem_vm *vm = gmem_registry_find_vm(gmem_nl_dump(cb)->id);

	/* If the VM ended during the dump, its rows end, too. */
	return vm ? gmem_nl_dump_faults(skb, cb, vm) : 0;
}

static int gmem_nl_fault_get_start(struct netlink_callback *cb)
{
	return gmem_nl_start_vm(cb, GMEM_A_FAULT_VM_ID);
}

static int gmem_nl_fault_get_dumpit(struct sk_buff *skb,
				    struct netlink_callback *cb)
{
	int err;

	gmem_registry_lock_vms();
	if (gmem_nl_dump_attr(cb, GMEM_A_FAULT_VM_ID))
		err = gmem_nl_dump_vm_faults(skb, cb);
	else
		err = gmem_nl_dump_all_faults(skb, cb);
	gmem_registry_unlock_vms();
	return gmem_nl_dump_result(skb, err);
}

/* ---- guestmems ---- */

static int gmem_nl_put_mem(struct sk_buff *skb,
			   const struct gmem_mem_info *info)
{
	if (nla_put_u64_64bit(skb, GMEM_A_MEM_ID, info->id, GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_SIZE, info->size,
			      GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_PAGE_SIZE, info->page_size,
			      GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_ABSENT, info->absent,
			      GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_HOST, info->host,
			      GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_LENT, info->lent,
			      GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_SHARED, info->shared,
			      GMEM_A_MEM_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_MEM_LEAKED, info->leaked,
			      GMEM_A_MEM_PAD) ||
	    nla_put_string(skb, GMEM_A_MEM_NAME, info->name))
		return -EMSGSIZE;
	return 0;
}

static int gmem_nl_mem_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct gmem_mem_info mem;
	struct sk_buff *reply;
	void *hdr;
	u64 id;

	if (GENL_REQ_ATTR_CHECK(info, GMEM_A_MEM_ID))
		return -EINVAL;
	id = nla_get_u64(info->attrs[GMEM_A_MEM_ID]);
	if (!gmem_registry_next_mem(id, &mem) || mem.id != id) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[GMEM_A_MEM_ID],
				    "no such guestmem");
		return -ENOENT;
	}
	reply = gmem_nl_reply_new(info, &hdr);
	if (!reply)
		return -ENOMEM;
	return gmem_nl_reply(reply, info, hdr, gmem_nl_put_mem(reply, &mem));
}

static int gmem_nl_mem_get_dumpit(struct sk_buff *skb,
				  struct netlink_callback *cb)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_mem_info mem;
	int err = 0;
	void *hdr;

	gmem_nl_set_generation(cb, gmem_registry_mems_generation());
	while (!err && gmem_registry_next_mem(dump->id, &mem)) {
		hdr = gmem_nl_dump_put(skb, cb, GMEM_CMD_MEM_GET);
		err = hdr ? gmem_nl_dump_end(skb, hdr,
					     gmem_nl_put_mem(skb, &mem)) :
			    -EMSGSIZE;
		if (!err)
			dump->id = mem.id + 1;
	}
	return gmem_nl_dump_result(skb, err);
}

/* ---- views ---- */

static int gmem_nl_put_view(struct sk_buff *skb,
			    const struct gmem_view_info *info)
{
	if (nla_put_u32(skb, GMEM_A_VIEW_ID, info->id) ||
	    nla_put_u64_64bit(skb, GMEM_A_VIEW_MEM_ID, info->mem_id,
			      GMEM_A_VIEW_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_VIEW_OFFSET, info->offset,
			      GMEM_A_VIEW_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_VIEW_LENGTH, info->length,
			      GMEM_A_VIEW_PAD) ||
	    nla_put_u32(skb, GMEM_A_VIEW_FLAGS, info->flags) ||
	    (info->revoked && nla_put_flag(skb, GMEM_A_VIEW_REVOKED)) ||
	    nla_put_string(skb, GMEM_A_VIEW_NAME, info->name) ||
	    nla_put_u32(skb, GMEM_A_VIEW_PID, info->pid))
		return -EMSGSIZE;
	return 0;
}

static int gmem_nl_view_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct gmem_view_info view;
	struct sk_buff *reply;
	void *hdr;
	u32 id;

	if (GENL_REQ_ATTR_CHECK(info, GMEM_A_VIEW_ID))
		return -EINVAL;
	id = nla_get_u32(info->attrs[GMEM_A_VIEW_ID]);
	if (!gmem_registry_next_view(id, &view) || view.id != id) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[GMEM_A_VIEW_ID],
				    "no such view");
		return -ENOENT;
	}
	reply = gmem_nl_reply_new(info, &hdr);
	if (!reply)
		return -ENOMEM;
	return gmem_nl_reply(reply, info, hdr, gmem_nl_put_view(reply, &view));
}

static int gmem_nl_view_get_dumpit(struct sk_buff *skb,
				   struct netlink_callback *cb)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_view_info view;
	int err = 0;
	void *hdr;

	gmem_nl_set_generation(cb, gmem_registry_views_generation());
	while (!err && gmem_registry_next_view(dump->id, &view)) {
		hdr = gmem_nl_dump_put(skb, cb, GMEM_CMD_VIEW_GET);
		err = hdr ? gmem_nl_dump_end(skb, hdr,
					     gmem_nl_put_view(skb, &view)) :
			    -EMSGSIZE;
		if (!err)
			dump->id = view.id + 1;
	}
	return gmem_nl_dump_result(skb, err);
}

/* ---- window descriptors ---- */

static int gmem_nl_put_window(struct sk_buff *skb,
			      const struct gmem_window_info *info)
{
	if (nla_put_u32(skb, GMEM_A_WINDOW_ID, info->id) ||
	    nla_put_u32(skb, GMEM_A_WINDOW_VM_ID, info->vm_id) ||
	    nla_put_u64_64bit(skb, GMEM_A_WINDOW_GUEST_ADDR, info->guest_addr,
			      GMEM_A_WINDOW_PAD) ||
	    nla_put_u64_64bit(skb, GMEM_A_WINDOW_LENGTH, info->length,
			      GMEM_A_WINDOW_PAD) ||
	    nla_put_u32(skb, GMEM_A_WINDOW_FLAGS, info->flags) ||
	    nla_put_string(skb, GMEM_A_WINDOW_NAME, info->name) ||
	    nla_put_u32(skb, GMEM_A_WINDOW_PID, info->pid))
		return -EMSGSIZE;
	return 0;
}

static int gmem_nl_window_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct gmem_window_info window;
	struct sk_buff *reply;
	void *hdr;
	u32 id;

	if (GENL_REQ_ATTR_CHECK(info, GMEM_A_WINDOW_ID))
		return -EINVAL;
	id = nla_get_u32(info->attrs[GMEM_A_WINDOW_ID]);
	if (!gmem_registry_next_window(id, &window) || window.id != id) {
		NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[GMEM_A_WINDOW_ID],
				    "no such window descriptor");
		return -ENOENT;
	}
	reply = gmem_nl_reply_new(info, &hdr);
	if (!reply)
		return -ENOMEM;
	return gmem_nl_reply(reply, info, hdr,
			     gmem_nl_put_window(reply, &window));
}

static int gmem_nl_window_get_dumpit(struct sk_buff *skb,
				     struct netlink_callback *cb)
{
	struct gmem_nl_dump *dump = gmem_nl_dump(cb);
	struct gmem_window_info window;
	int err = 0;
	void *hdr;

	gmem_nl_set_generation(cb, gmem_registry_windows_generation());
	while (!err && gmem_registry_next_window(dump->id, &window)) {
		hdr = gmem_nl_dump_put(skb, cb, GMEM_CMD_WINDOW_GET);
		err = hdr ? gmem_nl_dump_end(skb, hdr,
					     gmem_nl_put_window(skb, &window)) :
			    -EMSGSIZE;
		if (!err)
			dump->id = window.id + 1;
	}
	return gmem_nl_dump_result(skb, err);
}

/* ---- counters ---- */

static int gmem_nl_put_stats(struct sk_buff *skb, const struct gmem_stats *stats)
{
	const struct {
		int type;
		u64 value;
	} attrs[] = {
		{ GMEM_A_STATS_VMS, stats->vms },
		{ GMEM_A_STATS_MEMS, stats->mems },
		{ GMEM_A_STATS_BINDINGS, stats->bindings },
		{ GMEM_A_STATS_LENT_PAGES, stats->lent_pages },
		{ GMEM_A_STATS_LEAKED_PAGES, stats->leaked_pages },
		{ GMEM_A_STATS_LENDS, stats->lends },
		{ GMEM_A_STATS_RECLAIMS, stats->reclaims },
		{ GMEM_A_STATS_REFUSED, stats->refused },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(attrs); i++)
		if (nla_put_u64_64bit(skb, attrs[i].type, attrs[i].value,
				      GMEM_A_STATS_PAD))
			return -EMSGSIZE;
	return 0;
}

static int gmem_nl_stats_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct gmem_stats stats = {};
	struct sk_buff *reply;
	void *hdr;
	int err;

	reply = gmem_nl_reply_new(info, &hdr);
	if (!reply)
		return -ENOMEM;
	err = gmem_stats_call(NULL, &stats);
	if (!err)
		err = gmem_nl_put_stats(reply, &stats);
	return gmem_nl_reply(reply, info, hdr, err);
}

/* ---- the family ---- */

static const struct nla_policy gmem_vm_get_nl_policy[GMEM_A_VM_ID + 1] = {
	[GMEM_A_VM_ID] = NLA_POLICY_MIN(NLA_U32, 1),
};

static const struct nla_policy
gmem_binding_get_nl_policy[GMEM_A_BINDING_VM_ID + 1] = {
	[GMEM_A_BINDING_VM_ID] = NLA_POLICY_MIN(NLA_U32, 1),
};

static const struct nla_policy gmem_mem_get_nl_policy[GMEM_A_MEM_ID + 1] = {
	[GMEM_A_MEM_ID] = { .type = NLA_U64, },
};

static const struct nla_policy gmem_view_get_nl_policy[GMEM_A_VIEW_ID + 1] = {
	[GMEM_A_VIEW_ID] = NLA_POLICY_MIN(NLA_U32, 1),
};

static const struct nla_policy
gmem_window_get_nl_policy[GMEM_A_WINDOW_ID + 1] = {
	[GMEM_A_WINDOW_ID] = NLA_POLICY_MIN(NLA_U32, 1),
};

static const struct nla_policy
gmem_fault_get_nl_policy[GMEM_A_FAULT_VM_ID + 1] = {
	[GMEM_A_FAULT_VM_ID] = NLA_POLICY_MIN(NLA_U32, 1),
};

static const struct genl_split_ops gmem_nl_ops[] = {
	{
		.cmd = GMEM_CMD_VM_GET,
		.pre_doit = gmem_nl_pre_doit,
		.doit = gmem_nl_vm_get_doit,
		.policy = gmem_vm_get_nl_policy,
		.maxattr = GMEM_A_VM_ID,
		.flags = GENL_CMD_CAP_DO,
	},
	{
		.cmd = GMEM_CMD_VM_GET,
		.start = gmem_nl_dump_start,
		.dumpit = gmem_nl_vm_get_dumpit,
		.flags = GENL_CMD_CAP_DUMP,
	},
	{
		.cmd = GMEM_CMD_BINDING_GET,
		.start = gmem_nl_binding_get_start,
		.dumpit = gmem_nl_binding_get_dumpit,
		.policy = gmem_binding_get_nl_policy,
		.maxattr = GMEM_A_BINDING_VM_ID,
		.flags = GENL_CMD_CAP_DUMP,
	},
	{
		.cmd = GMEM_CMD_MEM_GET,
		.pre_doit = gmem_nl_pre_doit,
		.doit = gmem_nl_mem_get_doit,
		.policy = gmem_mem_get_nl_policy,
		.maxattr = GMEM_A_MEM_ID,
		.flags = GENL_CMD_CAP_DO,
	},
	{
		.cmd = GMEM_CMD_MEM_GET,
		.start = gmem_nl_dump_start,
		.dumpit = gmem_nl_mem_get_dumpit,
		.flags = GENL_CMD_CAP_DUMP,
	},
	{
		.cmd = GMEM_CMD_STATS_GET,
		.pre_doit = gmem_nl_pre_doit,
		.doit = gmem_nl_stats_get_doit,
		.flags = GENL_CMD_CAP_DO,
	},
	{
		.cmd = GMEM_CMD_VIEW_GET,
		.pre_doit = gmem_nl_pre_doit,
		.doit = gmem_nl_view_get_doit,
		.policy = gmem_view_get_nl_policy,
		.maxattr = GMEM_A_VIEW_ID,
		.flags = GENL_CMD_CAP_DO,
	},
	{
		.cmd = GMEM_CMD_VIEW_GET,
		.start = gmem_nl_dump_start,
		.dumpit = gmem_nl_view_get_dumpit,
		.flags = GENL_CMD_CAP_DUMP,
	},
	{
		.cmd = GMEM_CMD_WINDOW_GET,
		.pre_doit = gmem_nl_pre_doit,
		.doit = gmem_nl_window_get_doit,
		.policy = gmem_window_get_nl_policy,
		.maxattr = GMEM_A_WINDOW_ID,
		.flags = GENL_CMD_CAP_DO,
	},
	{
		.cmd = GMEM_CMD_WINDOW_GET,
		.start = gmem_nl_dump_start,
		.dumpit = gmem_nl_window_get_dumpit,
		.flags = GENL_CMD_CAP_DUMP,
	},
	{
		.cmd = GMEM_CMD_FAULT_GET,
		.start = gmem_nl_fault_get_start,
		.dumpit = gmem_nl_fault_get_dumpit,
		.policy = gmem_fault_get_nl_policy,
		.maxattr = GMEM_A_FAULT_VM_ID,
		.flags = GENL_CMD_CAP_DUMP,
	},
};

static const struct genl_multicast_group gmem_nl_mcgrps[] = {
	{
		.name = GMEM_MCGRP_EVENTS,
		.flags = GENL_MCAST_CAP_SYS_ADMIN,
	},
};

static struct genl_family gmem_nl_family __ro_after_init = {
	.name = GMEM_FAMILY_NAME,
	.version = GMEM_FAMILY_VERSION,
	/* VMs belong to no network namespace: their operator is the host's. */
	.netnsok = false,
	/* No request waits for another one, or for the lock of a VM. */
	.parallel_ops = true,
	.module = THIS_MODULE,
	.split_ops = gmem_nl_ops,
	.n_split_ops = ARRAY_SIZE(gmem_nl_ops),
	.mcgrps = gmem_nl_mcgrps,
	.n_mcgrps = ARRAY_SIZE(gmem_nl_mcgrps),
};

int gmem_netlink_init(void)
{
	int err;

	err = gmem_notify_init(&gmem_nl_family);
	if (err)
		return err;
	err = genl_register_family(&gmem_nl_family);
	if (err)
		gmem_notify_exit();
	return err;
}

void gmem_netlink_exit(void)
{
	gmem_notify_exit();
	/* Waits for requests that are being answered. */
	genl_unregister_family(&gmem_nl_family);
}
