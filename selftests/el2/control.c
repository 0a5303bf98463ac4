// SPDX-License-Identifier: GPL-2.0-only
/* The calls for tests. */
#include "bell.h"
#include "control.h"
#include "hypercall.h"
#include "msgqueue.h"
#include "parcel.h"
#include "rm.h"
#include "rule.h"
#include "setting.h"
#include "vm.h"

static void describe_parcel(const struct parcel *parcel, struct el2_page *d)
{
	const struct acl_entry *acl = &parcel->acl[0];
	const struct vm *vm = vm_find(acl->vmid);

	d->parcel = parcel->handle;
	if (parcel->open)
		return;
	d->guest_vmid = acl->vmid;
	if (acl->placed) {
		d->gpa = parcel_gpa(acl, d->pa);
		d->guest_access =
			stage2_access(stage2_get(&vm->stage2, d->gpa));
	}
}

static void describe(u64 pa, struct el2_page *d)
{
	const struct page_info *page = memdb_page(pa);
	const struct extent *owner = extent_by_id(page->owner);
	u64 pte;

	*d = (struct el2_page) {
		.pa = pa, .gpa = EL2_NO_ADDR, .parcel = EL2_NO_PARCEL,
		.owner_vmid = owner->vm ? owner->vm->vmid : VMID_HOST,
		.extent = owner->kind,
		.host_access = stage2_access(stage2_get(&host_stage2, pa)),
	};
	if (page->parcel) {
		describe_parcel(parcel_in_slot(page->parcel - 1), d);
	} else if (page->mapper) {
		const struct vm *vm = extent_by_id(page->mapper)->vm;

		d->guest_vmid = vm->vmid;
		d->gpa = (u64)page->map_gfn << PAGE_SHIFT;
		pte = stage2_get(&vm->stage2, d->gpa);
		if (stage2_pa(pte) == pa)
			d->guest_access = stage2_access(pte);
	}
}

static s64 dump(u64 *x)
{
	u64 pa = x[1] < memdb_start() ? memdb_start() : x[1] & ~(PAGE_SIZE - 1);
	u64 n = 0;
	struct el2_page d;

	for (pa = memdb_next_special(pa); pa < memdb_end() && n < x[3]; n++) {
		describe(pa, &d);
		if (copy_to_host(x[2] + n * sizeof(d), &d, sizeof(d)))
			return ADDR_INVALID;
		pa = memdb_next_special(pa + PAGE_SIZE);
	}
	x[1] = n;
	x[2] = pa < memdb_end() ? pa : 0;
	return OK;
}

static u64 nr_special(void)
{
	u64 n = 0;

	for (u64 pa = memdb_next_special(memdb_start()); pa < memdb_end();
	     pa = memdb_next_special(pa + PAGE_SIZE))
		n++;
	return n;
}

static s64 bell_state(u64 *x)
{
	const struct bell *bell = bell_labelled(x[1], x[2]);

	if (!bell)
		return ARG_INVALID;
	x[1] = bell->flags;
	x[2] = bell->enable;
	x[3] = bell->ack;
	x[4] = bell->asserted;
	return OK;
}

static s64 raise(u64 *x)
{
	struct vm *vm = vm_find(x[1]);

	if (!vm)
		return ARG_INVALID;
	vgic_raise(vm, x[2]);
	return OK;
}

static s64 inject(u64 *x)
{
	u8 message[MSGQUEUE_MAX_SIZE];

	if (!x[2] || x[2] > sizeof(message))
		return ARG_SIZE;
	if (copy_from_host(message, x[1], x[2]))
		return ADDR_INVALID;
	rm_send_raw(message, x[2], x[3]);
	return OK;
}

s64 handle_control(u64 function, u64 *x)
{
	switch (function) {
	case EL2_VERSION:
		x[1] = EL2_CONTROL_ABI;
		x[2] = rm_is_public() ? EL2_PLATFORM_PUBLIC :
					EL2_PLATFORM_EXTENTS;
		x[3] = memdb_start();
		x[4] = memdb_end();
		return OK;
	case EL2_RULE:
		if (x[1] == EL2_RULE_CLEAR)
			settings_reset();
		return rule_add(x[1], x[2], x[3], x[4], x[5]);
	case EL2_SETTING:
		if (x[1] >= EL2_NR_SETTINGS)
			return ARG_INVALID;
		x[1] = setting_change(x[1], x[2]);
		return OK;
	case EL2_DUMP:
		return dump(x);
	case EL2_STATS:
		x[1] = nr_special();
		x[2] = nr_parcels();
		x[3] = nr_vms();
		x[4] = nr_free_pages();
		x[5] = nr_rule_hits();
		x[6] = nr_hypercalls();
		x[7] = nr_rpcs();
		x[8] = nr_unsynced_donations();
		return OK;
	case EL2_PEEK:
	case EL2_POKE:
		if (!ALIGNED(x[1], 8) || !memdb_contains(x[1], 8))
			return ADDR_INVALID;
		if (function == EL2_PEEK)
			x[1] = *(u64 *)x[1];
		else
			*(u64 *)x[1] = x[2];
		return OK;
	case EL2_BELL_PLAN:
		return bell_plan(x[1], x[2]);
	case EL2_BELL_STATE:
		return bell_state(x);
	case EL2_INJECT:
		return inject(x);
	case EL2_RAISE:
		return raise(x);
	default:
		return UNIMPLEMENTED;
	}
}
