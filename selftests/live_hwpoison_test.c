// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page breaks behind a live window: when memory_failure() returns, the guest
 * has lost it. The pages around it go on to work. Each test costs some pages of
 * the host's memory.
 */
#include "lib/kvm_guest.h"
#include "lib/memory_failure.h"
#include "lib/pin.h"

#define OFFSET MIB(4)
#define UNITS 4

FIXTURE(live_hwpoison)
{
	struct gmem_stats before;
	struct kvm_guest guest;
	__u64 unit;
	__u64 size;
	/* Offset of the page to break: not the first of its unit. */
	__u64 at;
	__u64 pfn;
};

FIXTURE_VARIANT(live_hwpoison)
{
	__u64 mem_flags;
};

VARIANT(live_hwpoison, 4k);
VARIANT(live_hwpoison, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_hwpoison)
{
	__u64 i;

	SKIP_UNLESS_LIVE_KVM(variant);
	if (!can_break_pages())
		SKIP(return, "no way to break a page by its number");
	ASSERT_EQ(0, get_stats(&self->before));
	self->unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	self->size = UNITS * self->unit;
	self->at = 2 * self->unit - PAGE;
	/* KVM's asynchronous page faults need the interrupt controller. */
	ASSERT_EQ(0, kvm_guest_open(&self->guest, "live", variant->mem_flags,
				    true));
	for (i = 0; i < self->size; i += PAGE)
		ASSERT_EQ(0, touch_write(self->guest.host + OFFSET + i,
					 i / PAGE % 251));
	self->pfn = pfn_of(self->guest.host + OFFSET + self->at);
	ASSERT_NE(0, self->pfn);
}

FIXTURE_TEARDOWN(live_hwpoison)
{
	kvm_guest_close(&self->guest);
	EXPECT_TRUE(stats_settle(&self->before));
}

static int guest_peek(struct kvm_guest *guest, __u64 offset)
{
	__u8 value = 0;
	int err = kvm_agent_read(&guest->agent, DATA + offset, &value);

	if (!err)
		return value;
	kvm_agent_reset(&guest->agent);
	return err;
}

/* The guest sees every page except the broken one. */
static void check_others(struct __test_metadata *_metadata,
			 FIXTURE_DATA(live_hwpoison) *self)
{
	__u64 i, step = self->unit == PAGE ? PAGE : 61 * PAGE;

	ASSERT_EQ((int)((self->at - PAGE) / PAGE % 251),
		  guest_peek(&self->guest, self->at - PAGE));
	ASSERT_EQ((int)((self->at + PAGE) / PAGE % 251),
		  guest_peek(&self->guest, self->at + PAGE));
	for (i = 0; i < self->size; i += step)
		if (i != self->at)
			ASSERT_EQ((int)(i / PAGE % 251),
				  guest_peek(&self->guest, i));
}

/* KVM_RUN fails at the broken page, and the row names the reason. */
static void check_broken(struct __test_metadata *_metadata,
			 FIXTURE_DATA(live_hwpoison) *self)
{
	int vm = self->guest.vm;

	EXPECT_EQ(-EFAULT, guest_peek(&self->guest, self->at));
	EXPECT_EQ(GMEM_FAULT_HWPOISON, last_reason(vm));
	EXPECT_EQ(DATA + self->at, last_fault(vm).guest_addr);
	EXPECT_EQ(SIGBUS, touch_read(self->guest.window + DATA + self->at));
	EXPECT_EQ(BUS_MCEERR_AR, touch_code);
}

static int host_read(FIXTURE_DATA(live_hwpoison) *self)
{
	return touch_read(self->guest.host + OFFSET + self->at);
}

/* Break the page; the window must have lost it when the call returns. */
#define BREAK()								\
	do {								\
		ASSERT_EQ(0, break_page(self->pfn));			\
		EXPECT_EQ(0, page_present(self->guest.window + DATA +	\
					  self->at));			\
	} while (0)

#define BIND(access)							\
	ASSERT_EQ(0, kvm_map(&self->guest, DATA, OFFSET, self->size,	\
			     (access) | RWX))

static void break_used_page(struct __test_metadata *_metadata,
			    FIXTURE_DATA(live_hwpoison) *self, __u32 access)
{
	BIND(access);
	check_others(_metadata, self);
	ASSERT_EQ((int)(self->at / PAGE % 251),
		  guest_peek(&self->guest, self->at));
	BREAK();
	check_broken(_metadata, self);
	EXPECT_EQ(SIGBUS, host_read(self));
	check_others(_metadata, self);
}

TEST_F(live_hwpoison, lent)
{
	break_used_page(_metadata, self, LEND);

	/* A hole replaces the page. */
	ASSERT_EQ(0, mem_alloc(self->guest.mem, PUNCH,
			       OFFSET + self->at / self->unit * self->unit,
			       self->unit));
	EXPECT_EQ(0, guest_peek(&self->guest, self->at));
}

TEST_F(live_hwpoison, shared)
{
	break_used_page(_metadata, self, SHARE);
}

/* The vCPU is using the page. */
TEST_F(live_hwpoison, under_a_running_vcpu)
{
	struct kvm_thread spin = {
		.guest = &self->guest,
		.command = KVM_AGENT_SPIN,
		.addr = DATA + self->at,
	};
	double end;

	ASSERT_EQ(0, touch_write(self->guest.host + OFFSET + self->at + 4, 0));
	BIND(LEND);
	ASSERT_EQ(0, kvm_thread_start(&spin));
	end = now() + 60;
	while (page_state(self->guest.mem, OFFSET + self->at) != 'l' &&
	       now() < end)
		usleep(1000);
	EXPECT_EQ('l', page_state(self->guest.mem, OFFSET + self->at));
	usleep(10000);
	BREAK();
	EXPECT_EQ(-EFAULT, kvm_thread_join(&spin));
	EXPECT_EQ(GMEM_FAULT_HWPOISON, last_reason(self->guest.vm));
	ASSERT_EQ(0, kvm_agent_reset(&self->guest.agent));
	check_broken(_metadata, self);
	check_others(_metadata, self);
}

/*
 * A reference keeps the huge page whole, so memory_failure() can't split it
 * ("unsplit thp"). The page is split when the reference goes.
 */
TEST_F(live_hwpoison, huge_page_that_cannot_be_split)
{
	int fd[2], byte;

	if (!variant->mem_flags)
		SKIP(return, "needs a huge page");
	ASSERT_EQ(0, pin_open(fd, PIN_SPLICE));
	BIND(SHARE);
	check_others(_metadata, self);
	ASSERT_EQ(0, pin(fd, PIN_SPLICE, self->guest.host + OFFSET + self->unit));
	BREAK();
	check_broken(_metadata, self);
	check_others(_metadata, self);
	EXPECT_EQ(SIGBUS, host_read(self));
	ASSERT_EQ(0, unpin(fd, PIN_SPLICE, &byte));
	EXPECT_EQ((int)(self->unit / PAGE % 251), byte);
	EXPECT_TRUE(split_soon(self->pfn));
	check_broken(_metadata, self);
	check_others(_metadata, self);
	EXPECT_EQ(SIGBUS, host_read(self));

	/* A hole replaces the page. */
	ASSERT_EQ(0, mem_alloc(self->guest.mem, PUNCH, OFFSET + self->unit,
			       self->unit));
	EXPECT_EQ(0, guest_peek(&self->guest, self->at));
	pin_close(fd);
}

struct populate {
	int vm;
	int mem;
	__u64 gpa;
	__u64 offset;
	__u64 size;
	volatile bool stop;
	volatile unsigned long rounds;
};

static void *populate_again_and_again(void *arg)
{
	struct populate *p = arg;

	while (!p->stop) {
		mem_alloc(p->mem, PUNCH, p->offset, p->size);
		populate_range(p->vm, p->gpa, p->size, NULL);
		p->rounds++;
	}
	return NULL;
}

/*
 * GMEM_VM_POPULATE holds the VM's and the guestmem's locks for long, except the
 * lock of the page.
 */
TEST_F(live_hwpoison, while_pages_are_populated)
{
	struct populate populate = {
		.vm = self->guest.vm,
		.mem = self->guest.mem,
		.gpa = DATA + MIB(16),
		.offset = MIB(16),
		.size = MIB(16),
	};
	unsigned int i, nr = 1 + scaled(20);
	pthread_t thread;
	__u8 *host;

	BIND(LEND);
	ASSERT_EQ(0, kvm_map(&self->guest, populate.gpa, populate.offset,
			     populate.size, LEND | RWX));
	ASSERT_EQ(0, pthread_create(&thread, NULL, populate_again_and_again,
				    &populate));
	host = self->guest.host + OFFSET + self->at;
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, touch_write(host, i));
		self->pfn = pfn_of(host);
		ASSERT_NE(0, self->pfn);
		ASSERT_EQ((int)i % 256, guest_peek(&self->guest, self->at));
		BREAK();
		check_broken(_metadata, self);
		ASSERT_EQ(0, mem_alloc(self->guest.mem, PUNCH, OFFSET,
				       self->size));
	}
	populate.stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, populate.rounds);
}

TEST_HARNESS_MAIN
