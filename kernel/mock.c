// SPDX-License-Identifier: GPL-2.0-only
/*
 * A provider whose second stage is an array of page pointers, driven by
 * GMEM_TEST. It works like a hypervisor with donation: a page is first donated,
 * then mapped. A test can make either step fail, and the way back.
 */
#include <linux/bits.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "call.h"
#include "fault.h"
#include "mock.h"
#include "notify.h"
#include "objects.h"
#include "provider.h"
#include "slow.h"

/**
 * struct gmem_mock_entry - a page that was donated
 * @page: the page
 * @access: bits of &enum gmem_access
 * @lent: false for shared
 * @mapped: the guest reaches it
 */
struct gmem_mock_entry {
	struct page *page;
	u32 access;
	bool lent;
	bool mapped;
};

/* The GFN of no page. */
#define GMEM_MOCK_HOLD_NONE ULONG_MAX

/**
 * struct gmem_mock - provider_data of a mock VM
 * @held: reclaims wait here until @hold changes
 * @hold: GFN of the page whose reclaim waits; needs no lock
 * @hold_ms: the longest wait, in case the test dies; needs no lock
 * @lock: the provider's own of the core's lock order; protects all below
 * @stage2: GFN -> &struct gmem_mock_entry
 * @nr_pages: entries in @stage2
 * @fail: per point: passes until the first that fails, and how many fail
 */
struct gmem_mock {
	wait_queue_head_t held;
	unsigned long hold;
	unsigned int hold_ms;
	struct mutex lock;
	struct xarray stage2;
	u64 nr_pages;
	struct {
		u32 nth;
		u32 times;
	} fail[GMEM_TEST_NR_POINTS];
};

static int gmem_mock_vm_init(struct gmem_vm *vm)
{
	struct gmem_mock *mock;

	mock = kzalloc(sizeof(*mock), GFP_KERNEL_ACCOUNT);
	if (!mock)
		return -ENOMEM;
	init_waitqueue_head(&mock->held);
	mock->hold = GMEM_MOCK_HOLD_NONE;
	mutex_init(&mock->lock);
	xa_init(&mock->stage2);
	vm->provider_data = mock;
	return 0;
}

static bool gmem_mock_vm_release(struct gmem_vm *vm, bool wait)
{
	struct gmem_mock *mock = vm->provider_data;
	struct gmem_mock_entry *entry;
	unsigned long gfn;

	/* The entries that are left are those of leaked pages. */
	xa_for_each(&mock->stage2, gfn, entry)
		kfree(entry);
	xa_destroy(&mock->stage2);
	mutex_destroy(&mock->lock);
	kfree(mock);
	return true;
}

/* Count a pass of @point. True if it must fail. */
static bool gmem_mock_fails(struct gmem_mock *mock, enum gmem_test_point point)
{
	if (!mock->fail[point].nth)
		return false;
	if (mock->fail[point].nth > 1) {
		mock->fail[point].nth--;
		return false;
	}
	if (!--mock->fail[point].times)
		mock->fail[point].nth = 0;
	return true;
}

static int gmem_mock_donate(struct gmem_mock *mock, unsigned long gfn,
			    struct page *page, u32 access, bool lent)
{
	struct gmem_mock_entry *entry;
	int err;

	if (xa_load(&mock->stage2, gfn))
		return 0;
	if (gmem_mock_fails(mock, GMEM_TEST_DONATE))
		return -EIO;
	entry = kmalloc(sizeof(*entry), GFP_KERNEL);
	if (!entry)
		return -ENOMEM;
	entry->page = page;
	entry->access = access;
	entry->lent = lent;
	entry->mapped = false;
	err = xa_insert(&mock->stage2, gfn, entry, GFP_KERNEL);
	if (err) {
		kfree(entry);
		return err;
	}
	WRITE_ONCE(mock->nr_pages, mock->nr_pages + 1);
	return 0;
}

static void gmem_mock_drop(struct gmem_mock *mock, unsigned long gfn)
{
	struct gmem_mock_entry *entry = xa_erase(&mock->stage2, gfn);

	if (entry)
		WRITE_ONCE(mock->nr_pages, mock->nr_pages - 1);
	kfree(entry);
}

/* Give the donated pages of [@gfn, @gfn + @nr) back: all or none. */
static int gmem_mock_take_back(struct gmem_mock *mock, unsigned long gfn,
			       unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++)
		if (xa_load(&mock->stage2, gfn + i) &&
		    gmem_mock_fails(mock, GMEM_TEST_RECLAIM))
			return -EIO;
	for (i = 0; i < nr; i++)
		gmem_mock_drop(mock, gfn + i);
	return 0;
}

static int gmem_mock_map(struct gmem_mock *mock, unsigned long gfn)
{
	struct gmem_mock_entry *entry = xa_load(&mock->stage2, gfn);

	if (entry->mapped)
		return 0;
	if (gmem_mock_fails(mock, GMEM_TEST_MAP))
		return -EIO;
	entry->mapped = true;
	return 0;
}

static int gmem_mock_provide_folio(struct gmem_mock *mock, unsigned long gfn,
				   struct folio *folio, u32 access, bool lent)
{
	unsigned long nr = folio_nr_pages(folio);
	unsigned long i;
	int err;

	for (i = 0; i < nr; i++) {
		if (PageHWPoison(folio_page(folio, i)))
			err = -EHWPOISON;
		else
			err = gmem_mock_donate(mock, gfn + i,
					       folio_page(folio, i), access,
					       lent);
		if (err)
			goto rollback;
	}
	for (i = 0; i < nr; i++) {
		err = gmem_mock_map(mock, gfn + i);
		if (err)
			goto rollback;
	}
	return 0;

rollback:
	return gmem_mock_take_back(mock, gfn, nr) ? -EUCLEAN : err;
}

static int gmem_mock_provide(struct gmem_vm *vm, unsigned long gfn,
			     struct folio *folio, u32 map_flags)
{
	bool lent = (map_flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND;
	struct gmem_mock *mock = vm->provider_data;
	u32 access = 0;
	int err;

	if (map_flags & GMEM_MAP_ALLOW_READ)
		access |= GMEM_ACCESS_READ;
	if (map_flags & GMEM_MAP_ALLOW_WRITE)
		access |= GMEM_ACCESS_WRITE;
	if (map_flags & GMEM_MAP_ALLOW_EXEC)
		access |= GMEM_ACCESS_EXEC;

	mutex_lock(&mock->lock);
	err = gmem_mock_provide_folio(mock, gfn, folio, access, lent);
	mutex_unlock(&mock->lock);
	return err;
}

/* Take no lock here: only the core's locks may block other users meanwhile. */
static void gmem_mock_wait(struct gmem_mock *mock, unsigned long gfn)
{
	wait_event_killable_timeout(mock->held, READ_ONCE(mock->hold) != gfn,
				    msecs_to_jiffies(READ_ONCE(mock->hold_ms)));
}

static int gmem_mock_reclaim(struct gmem_vm *vm, unsigned long gfn,
			     struct folio *folio, bool sanitize)
{
	struct gmem_mock *mock = vm->provider_data;
	int err;

	gmem_mock_wait(mock, gfn);
	mutex_lock(&mock->lock);
	err = gmem_mock_take_back(mock, gfn, folio_nr_pages(folio));
	mutex_unlock(&mock->lock);
	return err;
}

/* The guest's rights at @gfn; 0 if nothing is mapped there. */
static u32 gmem_mock_reach(struct gmem_mock *mock, unsigned long gfn)
{
	struct gmem_mock_entry *entry = xa_load(&mock->stage2, gfn);

	return entry && entry->mapped ? entry->access : 0;
}

static void gmem_mock_copy(struct gmem_mock *mock, struct gmem_test *test,
			   unsigned long gfn, void *buf)
{
	struct gmem_mock_entry *entry = xa_load(&mock->stage2, gfn);
	size_t offset = offset_in_page(test->guest_addr);

	if (test->access == GMEM_ACCESS_WRITE)
		memcpy_to_page(entry->page, offset, buf, test->length);
	else
		memcpy_from_page(buf, entry->page, offset, test->length);
}

/* The host may take the page back between fault and access: try again. */
#define GMEM_MOCK_TRIES 100

static int gmem_mock_access_page(struct gmem_vm *vm, struct gmem_test *test,
				 unsigned long gfn, void *buf)
{
	struct gmem_guest_access access = {
		.vm = vm,
		.gfn = gfn,
		.access = test->access,
	};
	struct gmem_mock *mock = vm->provider_data;
	int tries, err;
	u32 reach;

	for (tries = 0; tries < GMEM_MOCK_TRIES; tries++) {
		mutex_lock(&mock->lock);
		reach = gmem_mock_reach(mock, gfn);
		if (reach & test->access)
			gmem_mock_copy(mock, test, gfn, buf);
		mutex_unlock(&mock->lock);

		if (reach & test->access)
			return 0;
		if (reach)
			return gmem_fault_refuse(vm, gfn, test->access,
						 GMEM_FAULT_PERM);
		err = gmem_fault_resolve(&access);
		if (err)
			return err;
	}
	return gmem_fault_refuse(vm, gfn, test->access, GMEM_FAULT_PROVIDER);
}

static int gmem_mock_access(struct gmem_vm *vm, struct gmem_test *test)
{
	unsigned long gfn = test->guest_addr >> PAGE_SHIFT;
	void __user *ubuf = u64_to_user_ptr(test->buffer);
	bool write = test->access == GMEM_ACCESS_WRITE;
	void *buf;
	int err = 0;

	if (hweight32(test->access) != 1 || test->access > GMEM_ACCESS_EXEC)
		return -EINVAL;
	if (!test->length ||
	    test->length > PAGE_SIZE - offset_in_page(test->guest_addr))
		return -EINVAL;

	buf = kmalloc(test->length, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	/* A bounce buffer: @ubuf may be a mapping of the page itself. */
	if (write && copy_from_user(buf, ubuf, test->length))
		err = -EFAULT;
	if (!err && gmem_mock_access_page(vm, test, gfn, buf))
		err = -EFAULT;
	if (!err && !write && copy_to_user(ubuf, buf, test->length))
		err = -EFAULT;
	kfree(buf);
	return err;
}

static int gmem_mock_set_fail(struct gmem_mock *mock,
			      const struct gmem_test *test)
{
	if (test->point >= GMEM_TEST_NR_POINTS || (test->nth && !test->times))
		return -EINVAL;

	mutex_lock(&mock->lock);
	mock->fail[test->point].nth = test->nth;
	mock->fail[test->point].times = test->times;
	mutex_unlock(&mock->lock);
	return 0;
}

static int gmem_mock_set_hold(struct gmem_mock *mock,
			      const struct gmem_test *test)
{
	WRITE_ONCE(mock->hold_ms, test->nth);
	WRITE_ONCE(mock->hold, test->nth ? test->guest_addr >> PAGE_SHIFT :
					   GMEM_MOCK_HOLD_NONE);
	wake_up_all(&mock->held);
	return 0;
}

static int gmem_mock_slow_fault(const struct gmem_test *test)
{
	if (test->point >= GMEM_TEST_NR_FAULT_POINTS ||
	    test->nth >= MSEC_PER_SEC)
		return -EINVAL;
	gmem_slow_down(test->point, test->nth);
	return 0;
}

static int gmem_mock_lookup(struct gmem_mock *mock, struct gmem_test *test)
{
	unsigned long gfn = test->guest_addr >> PAGE_SHIFT;
	struct gmem_mock_entry *entry;

	mutex_lock(&mock->lock);
	test->provided = gmem_mock_reach(mock, gfn);
	entry = xa_load(&mock->stage2, gfn);
	if (test->provided && entry->lent)
		test->provided |= GMEM_TEST_PROVIDED_LENT;
	test->length = mock->nr_pages;
	mutex_unlock(&mock->lock);
	return 0;
}

static int gmem_mock_call(void *obj, void *arg)
{
	struct gmem_test *test = arg;
	struct gmem_vm *vm = obj;

	switch (test->op) {
	case GMEM_TEST_ACCESS:
		return gmem_mock_access(vm, test);
	case GMEM_TEST_FAIL:
		return gmem_mock_set_fail(vm->provider_data, test);
	case GMEM_TEST_LOOKUP:
		return gmem_mock_lookup(vm->provider_data, test);
	case GMEM_TEST_HOLD_EVENTS:
		gmem_notify_hold(test->nth);
		return 0;
	case GMEM_TEST_HOLD_RECLAIM:
		return gmem_mock_set_hold(vm->provider_data, test);
	case GMEM_TEST_SLOW_FAULT:
		return gmem_mock_slow_fault(test);
	}
	return -EOPNOTSUPP;
}

static bool gmem_mock_vm_detail(struct gmem_vm *vm, unsigned int index,
				struct gmem_vm_detail *detail)
{
	const struct gmem_mock *mock = vm->provider_data;

	*detail = (struct gmem_vm_detail){ "pages", READ_ONCE(mock->nr_pages) };
	return !index;
}

static const struct gmem_call gmem_mock_calls[] = {
	GMEM_CALL(GMEM_TEST, GMEM_CALL_INOUT, gmem_mock_call, struct gmem_test,
		  reserved),
};

const struct gmem_provider gmem_mock_provider = {
	.name = "mock",
	.max_guest_addr_bits = 52,
	/* Every combination except no access. */
	.map_access = GENMASK(7, 1),
	.vm_calls = gmem_mock_calls,
	.nr_vm_calls = ARRAY_SIZE(gmem_mock_calls),
	.vm_detail = gmem_mock_vm_detail,
	.vm_init = gmem_mock_vm_init,
	.vm_release = gmem_mock_vm_release,
	.provide = gmem_mock_provide,
	.reclaim = gmem_mock_reclaim,
};
