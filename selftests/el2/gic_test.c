// SPDX-License-Identifier: GPL-2.0-only
/* A guest's interrupts, timer and CPUs. */
#include <pthread.h>
#include <sched.h>

#include "vm_util.h"

#define GICD_CTLR		(GIC_DIST + 0)
#define GICD_TYPER_IIDR		(GIC_DIST + 8)
#define GICD_IROUTER(n)		(GIC_DIST + 0x6000 + 8 * (n))
#define GICR_PRIVATE(vcpu)						\
	(GIC_REDIST + (vcpu) * GIC_REDIST_SIZE + 0x10000)
/* From the frame of shared or private interrupts: accesses of 64 bits */
#define GIC_IGROUPR		0x80
#define GIC_ISENABLER		0x100
#define GIC_ICENABLER		0x180
#define GIC_ISPENDR		0x200
#define GIC_IPRIORITYR		0x400

#define SPI			40
#define OTHER_SPI		41
#define TIMER			27
#define SGI			3
#define NONE			UINT64_MAX

#define PSCI_CPU_OFF		0x84000002
#define PSCI_SYSTEM_OFF		0x84000008
#define PSCI_CPU_ON		0xc4000003
#define PSCI_AFFINITY_INFO	0xc4000004

FIXTURE(gic) {
	struct el2 el2;
	struct vm vm;
	/* The number of interrupts that have been looked at, of each vCPU */
	uint64_t seen[2];
};

static bool write_gic(struct vm *vm, uint64_t address, uint64_t value)
{
	return vm_tell(vm, AGENT_WRITE, address, value) == VCPU_BLOCKED;
}

/* Set up the current vCPU, and allow its private interrupts. */
static bool set_up_vcpu(struct vm *vm)
{
	uint64_t frame = GICR_PRIVATE(vm->now);

	return write_gic(vm, frame + GIC_IGROUPR, 0xffffffff) &&
	       write_gic(vm, frame + GIC_ISENABLER, 1 << SGI | 1 << TIMER) &&
	       vm_tell(vm, AGENT_GIC, 0, 0xf0) == VCPU_BLOCKED;
}

FIXTURE_SETUP(gic)
{
	static const struct guest_dt dt = { .base = IMAGE_GPA, .nr_cpus = 2 };
	struct vm *vm = &self->vm;

	ASSERT_TRUE(el2_open(&self->el2));
	ASSERT_TRUE(vm_create_with(vm, &self->el2, &dt));
	ASSERT_EQ(0, vm_start(vm));
	ASSERT_TRUE(write_gic(vm, GICD_CTLR, 2));
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_IGROUPR, 0xffffffffUL << 32));
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_ISENABLER,
			      (1UL << SPI | 1UL << OTHER_SPI)));
	ASSERT_TRUE(set_up_vcpu(vm));
}

FIXTURE_TEARDOWN(gic)
{
	EXPECT_TRUE(vm_destroy(&self->vm));
	EXPECT_EL2_CLEAN(&self->el2);
	el2_close(&self->el2);
}

/* The next interrupt that the vCPU has got; NONE: it has got no more. */
static uint64_t next_interrupt(FIXTURE_DATA(gic) *self, uint32_t vcpu)
{
	uint64_t agent = self->vm.image_pa + vm_agent(vcpu);
	uint64_t n = self->seen[vcpu];

	if (el2_peek(&self->el2, agent + AGENT_NR_INTERRUPTS) == n)
		return NONE;
	self->seen[vcpu]++;
	return el2_peek(&self->el2, agent + AGENT_INTERRUPTS + 8 * (n % 8));
}

/* Run the current vCPU until it waits. Then the next interrupt */
static uint64_t run_for_interrupt(FIXTURE_DATA(gic) *self)
{
	if (vm_run(&self->vm) || self->vm.state != VCPU_BLOCKED)
		return NONE - 1;
	return next_interrupt(self, self->vm.now);
}

static int64_t raise_interrupt(FIXTURE_DATA(gic) *self, uint32_t interrupt)
{
	return el2_hvc(&self->el2, EL2_RAISE, self->vm.vmid, interrupt);
}

TEST_F(gic, describes_itself)
{
	struct vm *vm = &self->vm;

	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, GICD_CTLR, 0));
	/*
	 * Group 1, affinity routing, one security state; then 1020 interrupts
	 */
	EXPECT_EQ(0x52, (uint32_t)vm_answer(vm));
	EXPECT_EQ(31, vm_answer(vm) >> 32 & 0x1f);
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, GIC_DIST + 0xffe8, 0));
	EXPECT_EQ(0x3b, (uint32_t)vm_answer(vm));
	/* GICR_TYPER: number and affinity; the last one says so. */
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ, GIC_REDIST + 8, 0));
	EXPECT_EQ(0, vm_answer(vm));
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_READ,
					GIC_REDIST + GIC_REDIST_SIZE + 8, 0));
	EXPECT_EQ(1ULL << 32 | 1 << 8 | 1 << 4, vm_answer(vm));
	/* Behind the last one, there is nothing. */
	EXPECT_NE(VCPU_BLOCKED, vm_tell(vm, AGENT_READ,
					GIC_REDIST + 2 * GIC_REDIST_SIZE, 0));
}

TEST_F(gic, gives_shared_interrupts)
{
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_EQ(0, raise_interrupt(self, SPI));
	EXPECT_EQ(SPI, run_for_interrupt(self));
	/* It was an edge: once. */
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_EQ(0, raise_interrupt(self, OTHER_SPI));
	ASSERT_EQ(0, raise_interrupt(self, OTHER_SPI));
	EXPECT_EQ(OTHER_SPI, run_for_interrupt(self));
	EXPECT_EQ(NONE, next_interrupt(self, 0));
	/* No interrupts, or not raised this way */
	ASSERT_EQ(0, raise_interrupt(self, TIMER));
	ASSERT_EQ(0, raise_interrupt(self, 1020));
	ASSERT_EQ(0, raise_interrupt(self, 0xffffffff));
	EXPECT_EQ(NONE, run_for_interrupt(self));
	EXPECT_EQ(1, el2_hvc(&self->el2, EL2_RAISE, 0x99, SPI));
}

TEST_F(gic, holds_back_what_is_masked)
{
	struct vm *vm = &self->vm;

	/* Disabled, and pending meanwhile */
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_ICENABLER, 1ULL << SPI));
	ASSERT_EQ(0, raise_interrupt(self, SPI));
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_READ, GIC_DIST + GIC_ISPENDR, 0));
	EXPECT_EQ(1ULL << SPI, vm_answer(vm));
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_ISENABLER, 1ULL << SPI));
	EXPECT_EQ(SPI, next_interrupt(self, 0));

	/* Of a priority that the vCPU doesn't take */
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_IPRIORITYR + SPI, 0xa0));
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_GIC, 0, 0xa0));
	ASSERT_EQ(0, raise_interrupt(self, SPI));
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_GIC, 0, 0xf0));
	EXPECT_EQ(SPI, next_interrupt(self, 0));

	/* While the distributor is off */
	ASSERT_TRUE(write_gic(vm, GICD_CTLR, 0));
	ASSERT_EQ(0, raise_interrupt(self, SPI));
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_TRUE(write_gic(vm, GICD_CTLR, 2));
	EXPECT_EQ(SPI, next_interrupt(self, 0));
}

/* More interrupts than the CPU has list registers for. */
TEST_F(gic, gives_the_most_urgent_first)
{
	static const uint64_t spis[] = { 36, 37, 38, 39, 40, 41, 42, 43 };
	static const uint64_t order[] = { 39, 43, 36, 40, 38, 42, 37, 41 };
	struct vm *vm = &self->vm;

	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_ISENABLER, 0xffULL << 36));
	/*
	 * The lower, the more urgent; equal ones in the order of their numbers
	 */
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_IPRIORITYR + 32,
			      0x10708050ULL << 32));
	ASSERT_TRUE(write_gic(vm, GIC_DIST + GIC_IPRIORITYR + 40,
			      0x10708050ULL));
	for (unsigned int i = 0; i < 8; i++)
		ASSERT_EQ(0, raise_interrupt(self, spis[i]));
	ASSERT_EQ(0, vm_run(vm));
	ASSERT_EQ(VCPU_BLOCKED, vm->state);
	for (unsigned int i = 0; i < 8; i++)
		EXPECT_EQ(order[i], next_interrupt(self, 0));
	EXPECT_EQ(NONE, next_interrupt(self, 0));
}

TEST_F(gic, has_a_timer)
{
	struct vm *vm = &self->vm;
	uint64_t until = clock_ms() + 10000, interrupt;

	/* In an hour; then in a moment */
	ASSERT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_TIMER, 0, 3600 * 62500000ULL));
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_TIMER, 0, 10 * 62500));
	do {
		interrupt = run_for_interrupt(self);
	} while (interrupt == NONE && clock_ms() < until);
	EXPECT_EQ(TIMER, interrupt);
	EXPECT_EQ(NONE, run_for_interrupt(self));

	/* One that is due and masked doesn't keep the guest from waiting. */
	ASSERT_TRUE(write_gic(vm, GICR_PRIVATE(0) + GIC_ICENABLER, 1 << TIMER));
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_TIMER, 0, 0));
	EXPECT_EQ(NONE, run_for_interrupt(self));
	ASSERT_TRUE(write_gic(vm, GICR_PRIVATE(0) + GIC_ISENABLER, 1 << TIMER));
	EXPECT_EQ(TIMER, next_interrupt(self, 0));
}

/* The guest spins, and its timer interrupts it: the host isn't involved. */
TEST_F(gic, interrupts_a_guest_that_runs)
{
	const uint64_t mailbox = self->vm.image_pa + AGENT_MAILBOX;
	struct vm *vm = &self->vm;
	uint64_t until = clock_ms() + 10000, x[9];

	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_TIMER, 0, 50 * 62500));
	el2_hvc(&self->el2, EL2_POKE, mailbox, AGENT_SPIN);
	while (!el2_peek(&self->el2, mailbox + 32) && clock_ms() < until) {
		memcpy(x, (uint64_t [9]){ HYP_VCPU_RUN, vm->vcpu }, sizeof(x));
		ASSERT_EQ(0, el2_call(&self->el2, x));
		ASSERT_EQ(VCPU_READY, x[1]);
	}
	EXPECT_EQ(TIMER, next_interrupt(self, 0));
}

static uint64_t psci(struct vm *vm, uint64_t function, uint64_t x1, uint64_t x2,
		     uint64_t x3)
{
	const uint64_t block = 0xf00;
	const uint64_t x[] = { function, x1, x2, x3, 0 };
	uint64_t page = vm_agent(vm->now);

	for (unsigned int i = 0; i < 5; i++)
		el2_hvc(vm->el2, EL2_POKE, vm->image_pa + page + block + 8 * i,
			x[i]);
	if (vm_tell(vm, AGENT_HVC_BLOCK, IMAGE_GPA + page + block, 0) !=
	    VCPU_BLOCKED)
		return NONE;
	return el2_peek(vm->el2, vm->image_pa + page + block);
}

/* Turn vCPU 1 on, and set it up. */
static bool turn_on(struct vm *vm)
{
	const uint64_t page = vm_agent(1);

	/* It may have been turned off in the middle of an operation. */
	el2_hvc(vm->el2, EL2_POKE, vm->image_pa + page + AGENT_MAILBOX, 0);
	if (psci(vm, PSCI_CPU_ON, 1, IMAGE_GPA + page, 0x77))
		return false;
	vm->now = 1;
	return !vm_run(vm) && vm->state == VCPU_BLOCKED &&
	       el2_peek(vm->el2, vm->image_pa + page + AGENT_FIRST_X0) ==
		       0x77 &&
	       set_up_vcpu(vm);
}

TEST_F(gic, turns_vcpus_on_and_off)
{
	struct vm *vm = &self->vm;

	EXPECT_EQ(1, psci(vm, PSCI_AFFINITY_INFO, 1, 0, 0));
	vm->now = 1;
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_POWERED_OFF, vm->state);
	vm->now = 0;
	EXPECT_EQ(-4ULL, psci(vm, PSCI_CPU_ON, 0, IMAGE_GPA, 0));
	EXPECT_EQ(-2ULL, psci(vm, PSCI_CPU_ON, 2, IMAGE_GPA, 0));
	EXPECT_EQ(-2ULL, psci(vm, PSCI_CPU_ON, 0x100, IMAGE_GPA, 0));
	ASSERT_TRUE(turn_on(vm));
	EXPECT_EQ(0, psci(vm, PSCI_AFFINITY_INFO, 0, 0, 0));
	EXPECT_EQ(VCPU_POWERED_OFF, vm_tell(vm, AGENT_HVC, PSCI_CPU_OFF, 0));
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(VCPU_POWERED_OFF, vm->state);
	vm->now = 0;
	EXPECT_EQ(VM_STATE_RUNNING, vm_state(vm));
	EXPECT_EQ(1, psci(vm, PSCI_AFFINITY_INFO, 1, 0, 0));
	ASSERT_TRUE(turn_on(vm));
}

TEST_F(gic, sends_sgis)
{
	struct vm *vm = &self->vm;

	/* To itself */
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_SGI, 0, SGI << 24 | 1));
	EXPECT_EQ(SGI, next_interrupt(self, 0));
	ASSERT_TRUE(turn_on(vm));
	/* To the other; to all others; to one that isn't there */
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_SGI, 0, SGI << 24 | 1));
	EXPECT_EQ(NONE, next_interrupt(self, 0));
	vm->now = 0;
	EXPECT_EQ(SGI, run_for_interrupt(self));
	ASSERT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_SGI, 0, SGI << 24 | 1ULL << 40));
	ASSERT_EQ(VCPU_BLOCKED, vm_tell(vm, AGENT_SGI, 0, SGI << 24 | 4));
	ASSERT_EQ(VCPU_BLOCKED,
		  vm_tell(vm, AGENT_SGI, 0, SGI << 24 | 1 << 16 | 1));
	EXPECT_EQ(NONE, next_interrupt(self, 0));
	vm->now = 1;
	EXPECT_EQ(SGI, run_for_interrupt(self));
	EXPECT_EQ(NONE, next_interrupt(self, 1));
}

TEST_F(gic, routes_shared_interrupts)
{
	struct vm *vm = &self->vm;

	ASSERT_TRUE(turn_on(vm));
	ASSERT_TRUE(write_gic(vm, GICD_IROUTER(SPI), 1));
	ASSERT_EQ(0, raise_interrupt(self, SPI));
	ASSERT_EQ(0, raise_interrupt(self, OTHER_SPI));
	EXPECT_EQ(SPI, run_for_interrupt(self));
	EXPECT_EQ(NONE, next_interrupt(self, 1));
	vm->now = 0;
	EXPECT_EQ(OTHER_SPI, run_for_interrupt(self));
	EXPECT_EQ(NONE, next_interrupt(self, 0));
}

struct spinner {
	struct vm vm;
	uint64_t last_state;
	volatile bool stop;
};

/* Run vCPU 1, on another CPU, until it's told to stop or it ends. */
static void *spin(void *arg)
{
	struct spinner *s = arg;
	uint64_t x[9];
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(1, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	while (!s->stop) {
		memcpy(x, (uint64_t [9]){ HYP_VCPU_RUN, s->vm.vcpus[1] },
		       sizeof(x));
		if (el2_call(s->vm.el2, x))
			continue;
		s->last_state = x[1];
		if (x[1] == VCPU_POWERED_OFF)
			break;
	}
	return NULL;
}

/* A vCPU that runs on another CPU gets its interrupts at once, and its end. */
TEST_F(gic, reaches_a_vcpu_on_another_cpu)
{
	struct vm *vm = &self->vm;
	struct spinner spinner = { };
	uint64_t mailbox, until = clock_ms() + 10000;
	pthread_t thread;

	ASSERT_TRUE(turn_on(vm));
	mailbox = vm->image_pa + vm_agent(1) + AGENT_MAILBOX;
	el2_hvc(&self->el2, EL2_POKE, mailbox, AGENT_SPIN);
	spinner.vm = *vm;
	ASSERT_EQ(0, pthread_create(&thread, NULL, spin, &spinner));
	usleep(20000);
	vm->now = 0;
	for (int i = 1; i <= 20; i++) {
		ASSERT_EQ(VCPU_BLOCKED,
			  vm_tell(vm, AGENT_SGI, 0, SGI << 24 | 2));
		while (el2_peek(&self->el2, mailbox + 32) != (uint64_t)i &&
		       clock_ms() < until)
			sched_yield();
		ASSERT_EQ(SGI, next_interrupt(self, 1));
	}
	EXPECT_EQ(VCPU_POWERED_OFF, vm_tell(vm, AGENT_HVC, PSCI_SYSTEM_OFF, 0));
	EXPECT_TRUE(vm_wait_exit(vm));
	spinner.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(VM_STATE_EXITED, vm_state(vm));
}

/* Host and guests have vector registers of their own. */
TEST_F(gic, keeps_vector_registers_apart)
{
	struct vm *vm = &self->vm;
	uint64_t mine = 0;

	asm volatile("fmov d8, %0" : : "r" (0x1122334455667788) : "v8");
	EXPECT_EQ(VCPU_MMIO_READ,
		  vm_tell(vm, AGENT_VECTOR, EL2_MMIO_BASE, 0x12345678));
	asm volatile("fmov %0, d8" : "=r" (mine));
	EXPECT_EQ(0x1122334455667788, mine);
	ASSERT_EQ(0, vm_run(vm));
	EXPECT_EQ(0x12345678, vm_answer(vm));
}

TEST_HARNESS_MAIN
