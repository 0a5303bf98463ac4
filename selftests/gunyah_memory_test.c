// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of a guest under Gunyah and of its host, as the hypervisor sees
 * it.
 */
#include "lib/gunyah_fixture.h"

#define LENT GIB(4)
#define SHARED GIB(5)

/* The hypercalls that tests let fail. */
#define DONATE 0x61
#define MAP 0x2b
#define UNMAP 0x2c
#define MODIFY 0x30
#define HYP_DENIED 30
#define GUNYAH_ACCESS_READ_ONLY 4

FIXTURE(memory)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	__u8 *host;
	__u64 size;
	__u64 unit;
	/* The number of pages that the test expects to be lost. */
	__u64 leaked;
};

FIXTURE_VARIANT(memory)
{
	__u64 mem_flags;
};

VARIANT(memory, 4k, .mem_flags = 0);
VARIANT(memory, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

typedef FIXTURE_DATA(memory) self_t;

/*
 * Half of the file is lent, half shared, with a pattern in it; a quarter of
 * each half is unbound.
 */
FIXTURE_SETUP(memory)
{
	__u64 i;

	SETUP_GUNYAH();
	self->unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	self->size = 16 * self->unit;
	self->mem = new_mem(self->size, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	self->host = map_host(self->mem, 0, self->size);
	ASSERT_NE(MAP_FAILED, self->host);
	for (i = 0; i < 16; i++)
		self->host[i * self->unit] = 0x40 + i;
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
	ASSERT_EQ(0, map_mem(self->guest.vm, LENT, self->mem, 0,
			     6 * self->unit, LEND | RWX));
	ASSERT_EQ(0, map_mem(self->guest.vm, SHARED, self->mem,
			     8 * self->unit, 6 * self->unit, SHARE | RWX));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
}

FIXTURE_TEARDOWN(memory)
{
	struct gmem_stats stats;
	struct el2_stats after;

	munmap(self->host, self->size);
	gunyah_guest_close(&self->guest);
	close(self->mem);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_TRUE(stats_settle(&self->before));
	EXPECT_EQ(0, get_stats(&stats));
	EXPECT_EQ(self->leaked, stats.leaked_pages - self->before.leaked_pages);
	if (!self->leaked)
		EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	after = el2_stats(&self->el2);
	EXPECT_EQ(EL2_PAGES(self->leaked), after.pages - self->el2_before.pages);
	el2_close(&self->el2);
}

/*
 * The hypervisor's record of the page that the guest has at @gpa; .pa is 0 if
 * there is none. VMs that have ended may have left pages at the same address.
 */
static struct el2_page guest_page(self_t *self, __u64 gpa)
{
	__u16 vmid = fd_number(self->guest.vm, "gmem-vmid:");
	struct el2_page page = {};
	__u64 pa;

	for (pa = 0; el2_next_page(&self->el2, pa, &page);
	     pa = page.pa + EL2_PAGE_SIZE)
		if (page.gpa == gpa && page.guest_vmid == vmid)
			return page;
	return (struct el2_page){ .gpa = gpa };
}

static void refuse(self_t *self, __u64 hypercall, __u64 rpc)
{
	if (has_extents(&self->el2))
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_HYPERCALL_ERROR,
			hypercall, 1, HYP_DENIED, 100000);
	else
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR, rpc, 1,
			RM_DENIED, 100000);
}

static void allow(self_t *self)
{
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
}

TEST_F(memory, lending_stops_the_host)
{
	volatile uint64_t *raw;
	struct el2_page page;

	ONLY_MONITOR();
	ASSERT_EQ(0x40, gunyah_read(&self->guest, LENT));
	EXPECT_EQ('l', page_state(self->mem, 0));
	page = guest_page(self, LENT);
	ASSERT_NE(0, page.pa);
	EXPECT_EQ(0, page.host_access);
	EXPECT_EQ(7, page.guest_access);
	/* Access the page by its physical address, as a device driver could. */
	raw = el2_map(&self->el2, page.pa, PAGE);
	ASSERT_NE(NULL, raw);
	EXPECT_EQ(SIGBUS, el2_touch(raw, false));
	EXPECT_EQ(SIGBUS, el2_touch(raw, true));
	munmap((void *)raw, PAGE);
	EXPECT_EQ(0x40, gunyah_read(&self->guest, LENT));
}

TEST_F(memory, sharing_leaves_the_host_access)
{
	volatile uint64_t *raw;
	struct el2_page page;

	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_write(&self->guest, SHARED + 1, 0x99));
	EXPECT_EQ('s', page_state(self->mem, 8 * self->unit));
	EXPECT_EQ(0x99, self->host[8 * self->unit + 1]);
	self->host[8 * self->unit + 1] = 0x98;
	EXPECT_EQ(0x98, gunyah_read(&self->guest, SHARED + 1));
	page = guest_page(self, SHARED);
	ASSERT_NE(0, page.pa);
	EXPECT_EQ(7, page.host_access);
	raw = el2_map(&self->el2, page.pa, PAGE);
	ASSERT_NE(NULL, raw);
	EXPECT_EQ(0, el2_touch(raw, true));
	munmap((void *)raw, PAGE);
}

/* With extents, only touched pages are lent; with parcels, all bound pages. */
TEST_F(memory, lends_on_demand)
{
	struct gmem_mem_query q;

	ONLY_MONITOR();
	ASSERT_EQ(0, query_mem(self->mem, 0, 6 * self->unit, &q));
	EXPECT_EQ(has_extents(&self->el2) ? 0 : 6 * self->unit / PAGE, q.lent);
	EXPECT_EQ(0, gunyah_touch(&self->guest, LENT, 3, self->unit));
	ASSERT_EQ(0, query_mem(self->mem, 0, 6 * self->unit, &q));
	EXPECT_EQ((has_extents(&self->el2) ? 3 : 6) * self->unit / PAGE,
		  q.lent);
	ASSERT_EQ(0,
		  populate_range(self->guest.vm, LENT, 6 * self->unit, NULL));
	ASSERT_EQ(0, query_mem(self->mem, 0, 6 * self->unit, &q));
	EXPECT_EQ(6 * self->unit / PAGE, q.lent);
	/* The guest gets nothing of the unbound rest. */
	EXPECT_EQ('h', page_state(self->mem, 7 * self->unit));
	EXPECT_EQ(0, guest_page(self, LENT + 6 * self->unit).pa);
}

TEST_F(memory, huge_pages_go_whole)
{
	__u64 calls;

	ONLY_MONITOR();
	if (!variant->mem_flags)
		SKIP(return, "needs huge pages");
	/*
	 * A piece for each huge page, and at most one for each page of the
	 * agent.
	 */
	if (!has_extents(&self->el2)) {
		EXPECT_GE(6 + 6 + GUNYAH_AGENT_PAGES,
			  fd_number(self->guest.vm, "gmem-pieces:"));
		EXPECT_NE(0, guest_page(self, LENT + 5 * self->unit +
						      511 * PAGE).pa);
		return;
	}
	calls = el2_stats(&self->el2).hypercalls;
	ASSERT_EQ(0,
		  populate_range(self->guest.vm, LENT, 6 * self->unit, NULL));
	/* Two hypercalls a page, and some of the Resource Manager's. */
	EXPECT_GT(20, el2_stats(&self->el2).hypercalls - calls);
	EXPECT_NE(0, guest_page(self, LENT + 5 * self->unit + 511 * PAGE).pa);
}

/*
 * The host's first touch takes a page back; with parcels not while the guest
 * runs.
 */
TEST_F(memory, host_touch)
{
	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + self->unit + 1, 0x21));
	if (!has_extents(&self->el2)) {
		EXPECT_EQ(-SIGBUS, peek(self->host + self->unit));
		EXPECT_EQ(-EBUSY, reclaim_range(self->guest.vm,
						LENT + self->unit, self->unit,
						NULL));
		EXPECT_EQ(0x21, gunyah_read(&self->guest,
					    LENT + self->unit + 1));
		return;
	}
	EXPECT_EQ(0x41, peek(self->host + self->unit));
	EXPECT_EQ(0x21, peek(self->host + self->unit + 1));
	EXPECT_EQ('h', page_state(self->mem, self->unit));
	EXPECT_EQ(0, guest_page(self, LENT + self->unit).pa);
	/* The guest's next access takes it again. */
	EXPECT_EQ(0x21, gunyah_read(&self->guest, LENT + self->unit + 1));
	EXPECT_EQ('l', page_state(self->mem, self->unit));
}

TEST_F(memory, policies)
{
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + 1, 0x21));
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + self->unit, 0x22));
	ASSERT_EQ(0, set_policy(self->guest.vm, GMEM_POLICY_DENY));
	EXPECT_EQ(-SIGBUS, peek(self->host));
	EXPECT_EQ(-EACCES, reclaim_range(self->guest.vm, LENT, self->unit,
					 NULL));
	EXPECT_EQ(0x21, gunyah_read(&self->guest, LENT + 1));
	/* With parcels, pages come back only after the end of the guest. */
	if (!has_extents(&self->el2))
		EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
						     GUNYAH_PSCI_OFF, 0, 0,
						     NULL));
	ASSERT_EQ(0, set_policy(self->guest.vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(0, peek(self->host + 1));
	EXPECT_EQ(0, peek(self->host));
	ASSERT_EQ(0, set_policy(self->guest.vm, GMEM_POLICY_ALLOW));
	if (has_extents(&self->el2))
		EXPECT_EQ(0x22, peek(self->host + self->unit));
}

/*
 * Under "scrub" and "deny", pages that are lent when their VM ends are zeroed.
 */
TEST_F(memory, end_scrubs_lent_pages)
{
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + 1, 0x21));
	ASSERT_EQ(0, gunyah_write(&self->guest, SHARED + 1, 0x22));
	ASSERT_EQ(0, set_policy(self->guest.vm, GMEM_POLICY_DENY));
	gunyah_guest_close(&self->guest);
	self->guest.vm = self->guest.vcpu = self->guest.agent_mem = -1;
	self->guest.run = MAP_FAILED;
	EXPECT_EQ(0, peek(self->host + 1));
	EXPECT_EQ(0, peek(self->host));
	EXPECT_EQ(0x22, peek(self->host + 8 * self->unit + 1));
}

TEST_F(memory, trim_and_split)
{
	int vm = self->guest.vm;
	__u64 nr;

	ASSERT_EQ(0, populate_range(vm, LENT, 6 * self->unit, NULL));
	if (!has_extents(&self->el2)) {
		/*
		 * A part of a parcel can't be unbound while the guest runs.
		 * Nothing changes.
		 */
		EXPECT_EQ(-EBUSY, unmap_range(vm, LENT + self->unit, self->unit,
					      &nr));
		EXPECT_EQ(0x41, gunyah_read(&self->guest, LENT + self->unit));
		EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
						     GUNYAH_PSCI_OFF, 0, 0,
						     NULL));
	}
	EXPECT_EQ(0, unmap_range(vm, LENT + 2 * self->unit, self->unit, &nr));
	EXPECT_EQ(self->unit / PAGE, nr);
	EXPECT_EQ(0x42, peek(self->host + 2 * self->unit));
	EXPECT_EQ(0, unmap_range(vm, LENT + 5 * self->unit, self->unit, &nr));
	EXPECT_EQ(0x45, peek(self->host + 5 * self->unit));
	if (has_extents(&self->el2)) {
		EXPECT_EQ(0x41, gunyah_read(&self->guest, LENT + self->unit));
		EXPECT_EQ(-EFAULT, gunyah_read(&self->guest,
					       LENT + 2 * self->unit) < 0 ?
					       -EFAULT : 0);
	}
}

TEST_F(memory, reclaim_refused)
{
	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + 1, 0x21));
	if (!has_extents(&self->el2))
		EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
						     GUNYAH_PSCI_OFF, 0, 0,
						     NULL));
	refuse(self, DONATE, RM_MEM_RECLAIM);
	EXPECT_EQ(-SIGBUS, peek(self->host));
	EXPECT_GT(0, reclaim_range(self->guest.vm, LENT, self->unit, NULL));
	EXPECT_GT(0, unmap_range(self->guest.vm, LENT, self->unit, NULL));
	EXPECT_EQ('l', page_state(self->mem, 0));
	if (has_extents(&self->el2))
		EXPECT_EQ(0x21, gunyah_read(&self->guest, LENT + 1));
	allow(self);
	refuse(self, UNMAP, RM_MEM_RECLAIM);
	EXPECT_EQ(-SIGBUS, peek(self->host));
	allow(self);
	EXPECT_EQ(0x21, peek(self->host + 1));
}

/*
 * When the module unmaps many pages, only the last unmap waits until all vCPUs
 * have noticed. If that one fails, no page comes back before a later call has
 * waited.
 */
TEST_F(memory, last_unmap_refused)
{
	__u64 unsynced = el2_stats(&self->el2).unsynced;
	int vm = self->guest.vm;

	ONLY_MONITOR();
	if (!has_extents(&self->el2))
		SKIP(return, "parcels: the Resource Manager unmaps, not the module");
	ASSERT_EQ(0, populate_range(vm, LENT, 6 * self->unit, NULL));
	el2_rule(&self->el2, EL2_RULE_HYPERCALL_ERROR, UNMAP, 6, HYP_DENIED);
	EXPECT_EQ(0, reclaim_range(vm, LENT, 6 * self->unit, NULL));
	EXPECT_EQ(unsynced, el2_stats(&self->el2).unsynced);

	/* A huge page is unmapped by itself: its unmap leaves none to be synced. */
	if (self->unit == HUGE_PAGE)
		return;
	ASSERT_EQ(0, populate_range(vm, LENT, 6 * self->unit, NULL));
	el2_rule(&self->el2, EL2_RULE_HYPERCALL_ERROR, UNMAP, 6, HYP_DENIED);
	el2_rule(&self->el2, EL2_RULE_HYPERCALL_ERROR, MODIFY, 1, HYP_DENIED);
	EXPECT_EQ(-EACCES, reclaim_range(vm, LENT, 6 * self->unit, NULL));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(0x40, gunyah_read(&self->guest, LENT));
	allow(self);
	EXPECT_EQ(0x40, peek(self->host));
	EXPECT_EQ(0, reclaim_range(vm, LENT, 6 * self->unit, NULL));
	EXPECT_EQ(unsynced, el2_stats(&self->el2).unsynced);
}

TEST_F(memory, provide_refused)
{
	__u64 nr;

	ONLY_MONITOR();
	if (!has_extents(&self->el2))
		SKIP(return, "parcels: the start provides all, see gunyah_vm_test");
	/* The guest's code comes on demand, too: run it once. */
	ASSERT_EQ(0x41, gunyah_read(&self->guest, LENT + self->unit));
	refuse(self, DONATE, 0);
	EXPECT_EQ(-EACCES,
		  populate_range(self->guest.vm, LENT, self->unit, &nr));
	EXPECT_GT(0, gunyah_read(&self->guest, LENT));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ(GMEM_FAULT_PROVIDER, last_reason(self->guest.vm));
	allow(self);
	refuse(self, MAP, 0);
	EXPECT_EQ(-EACCES,
		  populate_range(self->guest.vm, LENT, self->unit, &nr));
	EXPECT_EQ('h', page_state(self->mem, 0));
	EXPECT_EQ(0x40, peek(self->host));
	allow(self);
	EXPECT_EQ(0, gunyah_resume(&self->guest, NULL));
}

/* Replace the guest by one that isn't started and has no memory. */
static int replace_guest(self_t *self)
{
	gunyah_guest_close(&self->guest);
	return gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW);
}

/* An access that the binding forbids doesn't keep the vCPU busy for ever. */
TEST_F(memory, permissions)
{
	__u32 r = LEND | GMEM_MAP_ALLOW_READ;
	int vm;

	ONLY_MONITOR();
	ASSERT_EQ(0, replace_guest(self));
	vm = self->guest.vm;
	EXPECT_EQ(-EOPNOTSUPP, map_mem(vm, GIB(6), self->mem, 6 * self->unit,
				       self->unit, LEND | GMEM_MAP_ALLOW_EXEC));
	EXPECT_EQ(0, map_mem(vm, GIB(6), self->mem, 6 * self->unit, self->unit,
			     r));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, populate_range(vm, GIB(6), self->unit, NULL));
	EXPECT_EQ(0x46, gunyah_read(&self->guest, GIB(6)));
	EXPECT_EQ(GUNYAH_ACCESS_READ_ONLY,
		  guest_page(self, GIB(6)).guest_access);
	if (!has_extents(&self->el2))
		return;
	EXPECT_GT(0, gunyah_write(&self->guest, GIB(6), 1));
	EXPECT_EQ(GMEM_FAULT_PERM, last_reason(vm));
}

/*
 * A page that isn't given back at the end is lost and counted; nobody gets it.
 */
TEST_F(memory, reclaim_refused_at_the_end)
{
	struct gmem_mem_query q;

	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + 1, 0x21));
	refuse(self, DONATE, RM_MEM_RECLAIM);
	close(self->guest.vcpu);
	close(self->guest.vm);
	munmap(self->guest.run, self->guest.run_size);
	self->guest.vm = self->guest.vcpu = -1;
	self->guest.run = MAP_FAILED;
	allow(self);
	EXPECT_EQ('x', page_state(self->mem, 0));
	EXPECT_EQ(-SIGBUS, peek(self->host));
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	/* The agent's pages are lost, too. */
	self->leaked = q.leaked + GUNYAH_AGENT_PAGES;
	/* A new page takes the place of a lost one. */
	EXPECT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->unit));
	EXPECT_EQ(0, peek(self->host + 1));
}

/* With parcels, memory comes back only at the end of the guest. */
TEST_F(memory, cycles_leak_nothing)
{
	unsigned long i, pages = 6 * self->unit / PAGE;
	unsigned long rounds = scaled(100000) / pages;
	struct gunyah_guest guest;

	for (i = 0; has_extents(&self->el2) && i < rounds; i++) {
		ASSERT_EQ(0, populate_range(self->guest.vm, LENT,
					    6 * self->unit, NULL));
		ASSERT_EQ(0, reclaim_range(self->guest.vm, LENT,
					   6 * self->unit, NULL));
	}
	for (i = 0; i < scaled(100); i++) {
		ASSERT_EQ(0, gunyah_guest_open(&guest, GMEM_POLICY_ALLOW));
		ASSERT_EQ(0, map_mem(guest.vm, LENT, self->mem, 6 * self->unit,
				     2 * self->unit, LEND | RWX));
		ASSERT_EQ(0, gunyah_guest_start(&guest));
		ASSERT_EQ(0, gunyah_write(&guest, LENT, i));
		gunyah_guest_close(&guest);
		ASSERT_EQ(i & 0xff, peek(self->host + 6 * self->unit));
	}
}

TEST_HARNESS_MAIN
