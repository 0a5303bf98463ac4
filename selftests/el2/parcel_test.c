// SPDX-License-Identifier: GPL-2.0-only
/* Parcels of the EL2 monitor's Resource Manager, on all platforms. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include "rpc_util.h"

#define MANY			512
#define SANITIZE		1
#define APPEND			2
#define BLOCK_ORDER		9
#define BLOCK_SIZE		(EL2_PAGE_SIZE << BLOCK_ORDER)

FIXTURE(parcel) {
	struct el2 el2;
	struct rpc rpc;
	uint16_t vmid;
	/* Two pages, the first also mapped here */
	uint64_t pa, va;
	uint64_t *page;
};

FIXTURE_SETUP(parcel)
{
	ASSERT_TRUE(el2_open(&self->el2));
	self->rpc = (struct rpc){ .el2 = &self->el2 };
	rpc_drain(&self->rpc);
	self->vmid = rpc_alloc(&self->rpc);
	ASSERT_NE(0, self->vmid);
	self->pa = el2_alloc(&self->el2, 1, &self->va);
	ASSERT_NE(0, self->pa);
	self->page = el2_map(&self->el2, self->pa, 2 * EL2_PAGE_SIZE);
	ASSERT_NE(NULL, self->page);
}

FIXTURE_TEARDOWN(parcel)
{
	el2_rule(&self->el2, EL2_RULE_CLEAR, 0, 0, 0);
	EXPECT_EQ(0, rpc_vmid(&self->rpc, RM_VM_DEALLOC_VMID, self->vmid));
	EXPECT_EL2_CLEAN(&self->el2);
	munmap(self->page, 2 * EL2_PAGE_SIZE);
	el2_close(&self->el2);
}

TEST_F(parcel, lent_page_is_out_of_the_hosts_reach)
{
	struct el2_page page;
	uint32_t handle;

	*self->page = 42;
	EXPECT_EQ(0, el2_touch(self->page, false));
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0x80000, 0, self->pa,
			      EL2_PAGE_SIZE));
	ASSERT_EQ(4, self->rpc.reply_size);
	handle = rpc_handle(&self->rpc);
	EXPECT_EQ(SIGBUS, el2_touch(self->page, false));
	EXPECT_EQ(SIGBUS, el2_touch(self->page, true));
	/* The page next to it is unaffected. */
	EXPECT_EQ(0, el2_touch(self->page + EL2_PAGE_SIZE / 8, true));

	page = el2_page_at(&self->el2, self->pa);
	EXPECT_EQ(handle, page.parcel);
	EXPECT_EQ(3, page.owner_vmid);
	EXPECT_EQ(self->vmid, page.guest_vmid);
	EXPECT_EQ(0, page.host_access);
	/* The VM has no tables yet. */
	EXPECT_EQ(EL2_NO_ADDR, page.gpa);
	/* A VM that has memory keeps its number, but not on the public one. */
	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		EXPECT_EQ(5, rpc_vmid(&self->rpc, RM_VM_DEALLOC_VMID,
				      self->vmid));

	ASSERT_EQ(0, rpc_reclaim(&self->rpc, handle, 0));
	EXPECT_EQ(42, *self->page);
	EXPECT_EQ(7, rpc_reclaim(&self->rpc, handle, 0));
}

TEST_F(parcel, sanitize_zeroes)
{
	*self->page = 42;
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, SANITIZE, self->pa,
			      EL2_PAGE_SIZE));
	EXPECT_EQ(0, el2_peek(&self->el2, self->pa));
	el2_hvc(&self->el2, EL2_POKE, self->pa, 43);
	ASSERT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
	EXPECT_EQ(43, *self->page);
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
			      EL2_PAGE_SIZE));
	EXPECT_EQ(43, el2_peek(&self->el2, self->pa));
	ASSERT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), SANITIZE));
	EXPECT_EQ(0, *self->page);
}

TEST_F(parcel, host_access_to_a_shared_page_is_limited)
{
	struct parcel_acl acl[] = { { self->vmid, 7, 0 }, { 3, 7, 0 } };
	const struct parcel_range range = { self->pa, EL2_PAGE_SIZE };
	uint8_t payload[64];
	uint32_t size;

	size = parcel_payload(payload, 0, 1, acl, 2, &range, 1);
	ASSERT_EQ(0, rpc(&self->rpc, RM_MEM_SHARE, payload, size));
	EXPECT_EQ(0, el2_touch(self->page, true));
	ASSERT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));

	acl[1].access = 4;
	size = parcel_payload(payload, 0, 1, acl, 2, &range, 1);
	ASSERT_EQ(0, rpc(&self->rpc, RM_MEM_SHARE, payload, size));
	EXPECT_EQ(4, el2_page_at(&self->el2, self->pa).host_access);
	EXPECT_EQ(0, el2_touch(self->page, false));
	EXPECT_EQ(SIGBUS, el2_touch(self->page, true));
	ASSERT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
	EXPECT_EQ(0, el2_touch(self->page, true));
}

/*
 * The caller can't access the page, so the hypervisor refuses to access it for
 * the caller.
 */
TEST_F(parcel, lent_page_is_no_buffer)
{
	uint32_t handle;

	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
			      EL2_PAGE_SIZE));
	handle = rpc_handle(&self->rpc);
	EXPECT_EQ(22,
		  el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP, 8, self->va));
	/* Half of the buffer is in the page. */
	EXPECT_EQ(22, el2_hvc(&self->el2, HYP_MSGQUEUE_SEND, TX_CAP, 8,
			      self->va + EL2_PAGE_SIZE - 4));
	EXPECT_EQ(22, el2_hvc(&self->el2, EL2_DUMP, 0, self->va, 1));
	ASSERT_EQ(0, rpc_reclaim(&self->rpc, handle, 0));
	EXPECT_EQ(0, el2_hvc(&self->el2, EL2_INJECT,
			     self->va + EL2_PAGE_SIZE - 4, 8, 1));
	EXPECT_EQ(0, el2_hvc(&self->el2, GUNYAH(0x1d), RX_CAP));
}

static sigjmp_buf refused;

static void on_sigbus(int signal)
{
	siglongjmp(refused, signal);
}

struct toucher {
	volatile uint64_t *word;
	volatile bool lent, died;
	uint64_t stale;
};

static void *touch_until_lent(void *arg)
{
	struct toucher *toucher = arg;

	if (sigsetjmp(refused, 1)) {
		toucher->died = true;
		return NULL;
	}
	for (;;) {
		bool lent = toucher->lent;

		(void)*toucher->word;
		toucher->stale += lent;
	}
}

/* A CPU with the page's translation in its TLB loses the access, too. */
TEST_F(parcel, no_cpu_goes_on_with_a_stale_translation)
{
	signal(SIGBUS, on_sigbus);
	for (int i = 0; i < 50; i++) {
		struct toucher toucher = { .word = self->page };
		pthread_t thread;

		ASSERT_EQ(0, pthread_create(&thread, NULL, touch_until_lent,
					    &toucher));
		usleep(1000);
		ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
				      EL2_PAGE_SIZE));
		toucher.lent = true;
		pthread_join(thread, NULL);
		EXPECT_TRUE(toucher.died);
		EXPECT_EQ(0, toucher.stale);
		ASSERT_EQ(0,
			  rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
	}
}

TEST_F(parcel, append_changes_nothing_before_its_end)
{
	const struct parcel_range ranges[] = { { self->pa + EL2_PAGE_SIZE,
						 EL2_PAGE_SIZE } };
	uint8_t append[32] = { };
	uint32_t handle;

	if (self->el2.platform == EL2_PLATFORM_PUBLIC)
		SKIP(return, "the public one takes each page at once");
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, APPEND, self->pa,
			      EL2_PAGE_SIZE));
	handle = rpc_handle(&self->rpc);
	EXPECT_EQ(0, el2_touch(self->page, true));
	EXPECT_EQ(handle, el2_page_at(&self->el2, self->pa).parcel);
	memcpy(append, &handle, 4);
	append[4] = 1;
	append[8] = 1;
	memcpy(append + 12, ranges, sizeof(ranges));
	/* A truncated message, then the complete one */
	EXPECT_EQ(4, rpc(&self->rpc, RM_MEM_APPEND, append, 27));
	EXPECT_EQ(0, el2_touch(self->page, true));
	EXPECT_EQ(0, rpc(&self->rpc, RM_MEM_APPEND, append, 28));
	EXPECT_EQ(SIGBUS, el2_touch(self->page, true));
	EXPECT_EQ(SIGBUS, el2_touch(self->page + EL2_PAGE_SIZE / 8, true));
	/* The parcel is complete. */
	EXPECT_EQ(6, rpc(&self->rpc, RM_MEM_APPEND, append, 28));
	EXPECT_EQ(0, rpc_reclaim(&self->rpc, handle, 0));
	EXPECT_EQ(7, rpc(&self->rpc, RM_MEM_APPEND, append, 28));
	/* A parcel that is never completed */
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, APPEND, self->pa,
			      EL2_PAGE_SIZE));
	EXPECT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
}

TEST_F(parcel, append_takes_each_page_at_once)
{
	const struct parcel_range range = { self->pa + EL2_PAGE_SIZE,
					    EL2_PAGE_SIZE };
	uint8_t append[32] = { };
	uint32_t handle;

	if (self->el2.platform != EL2_PLATFORM_PUBLIC)
		SKIP(return, "only the public one does that");
	*self->page = 42;
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, APPEND, self->pa,
			      EL2_PAGE_SIZE));
	handle = rpc_handle(&self->rpc);
	EXPECT_EQ(SIGBUS, el2_touch(self->page, true));
	EXPECT_EQ(0, el2_touch(self->page + EL2_PAGE_SIZE / 8, true));
	memcpy(append, &handle, 4);
	append[8] = 1;
	memcpy(append + 12, &range, sizeof(range));
	/* A truncated message, then the complete one */
	EXPECT_EQ(4, rpc(&self->rpc, RM_MEM_APPEND, append, 27));
	EXPECT_EQ(0, el2_touch(self->page + EL2_PAGE_SIZE / 8, true));
	EXPECT_EQ(0, rpc(&self->rpc, RM_MEM_APPEND, append, 28));
	EXPECT_EQ(SIGBUS, el2_touch(self->page + EL2_PAGE_SIZE / 8, true));
	/* The same page again fails, and so the parcel is as it was. */
	EXPECT_EQ(0xb, rpc(&self->rpc, RM_MEM_APPEND, append, 28));
	/* It may be reclaimed before its end. */
	EXPECT_EQ(0, rpc_reclaim(&self->rpc, handle, 0));
	EXPECT_EQ(42, *self->page);
	EXPECT_EQ(0, el2_touch(self->page + EL2_PAGE_SIZE / 8, true));
	/* A complete parcel grows no more. */
	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
			      EL2_PAGE_SIZE));
	handle = rpc_handle(&self->rpc);
	memcpy(append, &handle, 4);
	EXPECT_EQ(3, rpc(&self->rpc, RM_MEM_APPEND, append, 28));
	EXPECT_EQ(0, rpc_reclaim(&self->rpc, handle, 0));
}

TEST_F(parcel, refuses_bad_arguments)
{
	const struct parcel_acl good = { self->vmid, 7, 0 },
				self_entry = { 3, 7, 0 };
	const struct parcel_range page = { self->pa, EL2_PAGE_SIZE };
	const struct {
		uint32_t id;
		uint8_t flags, nr_acl, nr_ranges;
		struct parcel_acl acl[2];
		struct parcel_range ranges[2];
		int64_t error;
	} cases[] = {
		/*
		 * Flags; no VM; only the host; not the host; twice; no such VM;
		 * no access; too much
		 */
		{ RM_MEM_LEND, 4, 1, 1, { good }, { page }, 6 },
		{ RM_MEM_LEND, 0, 0, 1, { }, { page }, 6 },
		{ RM_MEM_LEND, 0, 2, 1, { good, self_entry }, { page }, 6 },
		{ RM_MEM_SHARE, 0, 1, 1, { good }, { page }, 6 },
		{ RM_MEM_SHARE, 0, 1, 1, { self_entry }, { page }, 6 },
		{ RM_MEM_LEND, 0, 2, 1, { good, good }, { page }, 6 },
		{ RM_MEM_LEND, 0, 1, 1, { { 0x99, 7, 0 } }, { page }, 0xd },
		{ RM_MEM_LEND, 0, 1, 1, { { self->vmid, 0, 0 } }, { page }, 6 },
		{ RM_MEM_LEND, 0, 1, 1, { { self->vmid, 8, 0 } }, { page }, 6 },
		/*
		 * No pages; unaligned; empty; past RAM; the monitor's; wraps;
		 * twice
		 */
		{ RM_MEM_LEND, 0, 1, 0, { good }, { page }, 6 },
		{ RM_MEM_LEND, 0, 1, 1, { good },
		  { { self->pa + 8, EL2_PAGE_SIZE } }, 6 },
		{ RM_MEM_LEND, 0, 1, 1, { good }, { { self->pa, 8 } }, 6 },
		{ RM_MEM_LEND, 0, 1, 1, { good }, { { self->pa, 0 } }, 6 },
		{ RM_MEM_LEND, 0, 1, 1, { good },
		  { { self->el2.ram_end, 0x1000 } }, 0xa },
		{ RM_MEM_LEND, 0, 1, 1, { good },
		  { { 0x40200000, 0x1000 } }, 0xa },
		{ RM_MEM_LEND, 0, 1, 1, { good },
		  { { self->pa, -self->pa } }, 0xa },
		{ RM_MEM_LEND, 0, 1, 1, { good },
		  { { self->pa, 1ULL << 63 } }, 0xa },
		{ RM_MEM_LEND, 0, 1, 2, { good }, { page, page }, 0xb },
		{ RM_MEM_LEND, 0, 1, 2, { good },
		  { page, { 0, 0x1000 } }, 0xa },
	};
	uint8_t payload[128];
	uint32_t size;

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size = parcel_payload(payload, cases[i].flags, 0, cases[i].acl,
				      cases[i].nr_acl, cases[i].ranges,
				      cases[i].nr_ranges);
		EXPECT_EQ(cases[i].error,
			  rpc(&self->rpc, cases[i].id, payload, size)) {
			TH_LOG("case %u", i);
		}
		EXPECT_EQ(0, el2_stats(&self->el2).pages);
	}
	/* Truncate the message everywhere, and add a byte. */
	size = parcel_payload(payload, 0, 0, &good, 1, &page, 1);
	for (uint32_t n = 1; n < size; n++)
		EXPECT_EQ(4, rpc(&self->rpc, RM_MEM_LEND, payload, n));
	EXPECT_EQ(4, rpc(&self->rpc, RM_MEM_LEND, payload, size + 1));
	EXPECT_EQ(0, el2_stats(&self->el2).pages);
	EXPECT_EQ(7, rpc_reclaim(&self->rpc, UINT32_MAX, 0));
	EXPECT_EQ(6, rpc_reclaim(&self->rpc, 0, 2));
}

TEST_F(parcel, a_page_is_in_one_parcel_at_a_time)
{
	uint32_t handle;

	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
			      EL2_PAGE_SIZE));
	handle = rpc_handle(&self->rpc);
	EXPECT_EQ(0xb, rpc_lend(&self->rpc, self->vmid, 8, 0, self->pa,
				2 * EL2_PAGE_SIZE));
	EXPECT_EQ(1, el2_stats(&self->el2).pages);
	EXPECT_EQ(0, rpc_reclaim(&self->rpc, handle, 0));
}

TEST_F(parcel, no_more_than_512_entries)
{
	static struct parcel_range ranges[MANY + 1];
	static uint8_t payload[MANY * 16 + 64];
	const struct parcel_acl acl = { self->vmid, 7, 0 };
	uint64_t pa = el2_alloc(&self->el2, BLOCK_ORDER, NULL);
	uint32_t size;

	ASSERT_NE(0, pa);
	/* Use the last page first, so that no pages can be joined. */
	for (int i = 0; i < MANY; i++)
		ranges[i] = (struct parcel_range) {
			pa + (MANY - 1 - i) * EL2_PAGE_SIZE, EL2_PAGE_SIZE,
		};
	size = parcel_payload(payload, 0, 0, &acl, 1, ranges, MANY);
	ASSERT_EQ(0, rpc(&self->rpc, RM_MEM_LEND, payload, size));
	EXPECT_EQ(MANY, el2_stats(&self->el2).pages);
	EXPECT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
	EXPECT_EQ(0, el2_stats(&self->el2).pages);

	ranges[MANY] = (struct parcel_range) { self->pa, EL2_PAGE_SIZE };
	size = parcel_payload(payload, 0, 0, &acl, 1, ranges, MANY + 1);
	EXPECT_EQ(6, rpc(&self->rpc, RM_MEM_LEND, payload, size));
}

TEST_F(parcel, no_more_than_64_parcels)
{
	uint64_t pa = el2_alloc(&self->el2, 7, NULL);
	uint32_t handles[64];

	ASSERT_NE(0, pa);
	for (int i = 0; i < 64; i++) {
		ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, i, 0,
				      pa + i * EL2_PAGE_SIZE, EL2_PAGE_SIZE));
		handles[i] = rpc_handle(&self->rpc);
	}
	EXPECT_EQ(3, rpc_lend(&self->rpc, self->vmid, 64, 0, self->pa,
			      EL2_PAGE_SIZE));
	for (int i = 0; i < 64; i++)
		EXPECT_EQ(0, rpc_reclaim(&self->rpc, handles[i], 0));
}

struct reader {
	volatile uint64_t *words;
	volatile bool stop;
	uint64_t rounds;
};

static void *read_block(void *arg)
{
	struct reader *reader = arg;

	for (; !reader->stop; reader->rounds++) {
		for (unsigned int i = EL2_PAGE_SIZE / 8; i < BLOCK_SIZE / 8;
		     i += EL2_PAGE_SIZE / 8)
			reader->words[i]++;
	}
	return NULL;
}

/*
 * While a block is split, and after, accesses to its other pages go on to work.
 */
TEST_F(parcel, splitting_a_block_disturbs_no_neighbour)
{
	for (int i = 0; i < 16; i++) {
		uint64_t pa = el2_alloc(&self->el2, BLOCK_ORDER, NULL);
		struct reader reader = { };
		pthread_t thread;

		ASSERT_NE(0, pa);
		reader.words = el2_map(&self->el2, pa, BLOCK_SIZE);
		ASSERT_NE(NULL, reader.words);
		ASSERT_EQ(0,
			  pthread_create(&thread, NULL, read_block, &reader));
		usleep(1000);
		for (int j = 0; j < 20; j++) {
			ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, pa,
					      EL2_PAGE_SIZE));
			ASSERT_EQ(0, rpc_reclaim(&self->rpc,
						 rpc_handle(&self->rpc), 0));
		}
		reader.stop = true;
		pthread_join(thread, NULL);
		EXPECT_EQ(reader.rounds,
			  reader.words[BLOCK_SIZE / 8 - EL2_PAGE_SIZE / 8]);
		munmap((void *)reader.words, BLOCK_SIZE);
	}
}

TEST_F(parcel, cycles_leak_nothing)
{
	uint64_t before;

	ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
			      EL2_PAGE_SIZE));
	ASSERT_EQ(0, rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
	before = el2_stats(&self->el2).free_tables;
	for (int i = 0; i < 1000; i++) {
		ASSERT_EQ(0, rpc_lend(&self->rpc, self->vmid, 0, 0, self->pa,
				      EL2_PAGE_SIZE));
		ASSERT_EQ(0,
			  rpc_reclaim(&self->rpc, rpc_handle(&self->rpc), 0));
	}
	EXPECT_EQ(before, el2_stats(&self->el2).free_tables);
}

TEST_HARNESS_MAIN
