// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtual timer, which guest and host both have. While the guest has it,
 * the timer of EL2 stands in for the host's, so that the host's next interrupt
 * ends the guest's turn in time. Host and guests see the same count.
 */
#include "vm.h"

#define TIMER_ENABLE		1
#define TIMER_MASK		2

#define NEVER			(~0UL)

/* CNTHCTL_EL2: EL1 reads the physical count, and has no physical timer. */
#define CNTHCTL_COUNT		1
#define CNTHCTL_COUNT_AND_TIMER	3

/* The first time at which a vCPU must be woken */
static u64 next_due = NEVER;

static struct timer read_timer(void)
{
	return (struct timer) {
		.control = sysreg_read(cntv_ctl_el0),
		.value = sysreg_read(cntv_cval_el0),
	};
}

static void write_timer(const struct timer *timer)
{
	sysreg_write(cntv_ctl_el0, 0);
	sysreg_write(cntv_cval_el0, timer->value);
	sysreg_write(cntv_ctl_el0, timer->control);
}

void vtimer_enter(struct vcpu *vcpu)
{
	vcpu->host_timer = read_timer();
	write_timer(&vcpu->timer);
	sysreg_write(cnthctl_el2, CNTHCTL_COUNT);
	sysreg_write(cnthp_cval_el2, vcpu->host_timer.value);
	sysreg_write(cnthp_ctl_el2, vcpu->host_timer.control);
}

void vtimer_leave(struct vcpu *vcpu)
{
	vcpu->timer = read_timer();
	sysreg_write(cnthp_ctl_el2, 0);
	sysreg_write(cnthctl_el2, CNTHCTL_COUNT_AND_TIMER);
	write_timer(&vcpu->host_timer);
}

static bool is_on(const struct timer *timer)
{
	return timer->control & TIMER_ENABLE && !(timer->control & TIMER_MASK);
}

static u64 count(void)
{
	isb();
	return sysreg_read(cntvct_el0);
}

bool vtimer_is_due(void)
{
	const struct timer timer = read_timer();

	return is_on(&timer) && count() >= timer.value;
}

/* ---- vCPUs that wait ---- */

void vtimer_sleep(const struct vcpu *vcpu)
{
	if (is_on(&vcpu->timer) && vcpu->timer.value < next_due)
		next_due = vcpu->timer.value;
}

void vtimer_poll(void)
{
	u64 now;

	if (next_due == NEVER)
		return;
	now = count();
	if (now < next_due)
		return;
	next_due = NEVER;
	for (struct vm *vm = vm_next(NULL); vm; vm = vm_next(vm)) {
		for (u32 i = 0; i < vm->nr_vcpus; i++) {
			struct vcpu *vcpu = &vm->vcpus[i];

			if (!vcpu->sleeps || !is_on(&vcpu->timer))
				continue;
			if (vcpu->timer.value <= now)
				vcpu_wake(vcpu);
			else
				vtimer_sleep(vcpu);
		}
	}
}

bool vtimer_has_sleepers(void)
{
	return next_due != NEVER;
}

void vtimer_wait(void)
{
	sysreg_write(cnthp_cval_el2, next_due);
	sysreg_write(cnthp_ctl_el2, TIMER_ENABLE);
	vgic_take_timer(true);
	unlock();
	asm volatile("wfi" : : : "memory");
	lock();
	sysreg_write(cnthp_ctl_el2, 0);
	vgic_take_timer(false);
}
