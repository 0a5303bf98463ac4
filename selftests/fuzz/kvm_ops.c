// SPDX-License-Identifier: GPL-2.0-only
/* A guest with two virtual CPUs, whose memory is the first region. */
#include "fuzz.h"

#include "lib/vm.h"

/* The agent's code has a memslot of its own, which no call changes. */
#define CODE 0x10000000U
#define CODE_SLOT 1

void kvm_init(struct thread *t, struct thread *first, struct thread *second)
{
	bool irqchip = once(t, 2);
	__u8 *code;

	first->agent.kvm = first->agent.vm = first->agent.vcpu = -1;
	second->agent = first->agent;
#ifdef __x86_64__
	code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (code == MAP_FAILED)
		return;
	memcpy(code, kvm_agent_code, sizeof(kvm_agent_code));
	if (access("/dev/kvm", R_OK | W_OK) ||
	    kvm_agent_open(&first->agent, ARENA, SPAN, CODE, irqchip) ||
	    kvm_agent_set_slot(&first->agent, CODE_SLOT, CODE, PAGE, code))
		return;
	first->has_vcpu = true;
	second->has_vcpu = !kvm_agent_add(&second->agent, &first->agent, 1);
#else
	(void)irqchip;
	(void)code;
#endif
}

/*
 * The timer ends a command that takes too long. After an error, the vCPU starts
 * at its first instruction.
 */
static void op_run(struct thread *t)
{
	__u64 addr, length;
	__u32 count = 1 + rnd(t, 64), value = rnd(t, 256);
	__u32 command = rnd(t, 40) ? rnd(t, 2) : KVM_AGENT_EXEC;
	const __u32 words[4] = { KVM_AGENT_TOUCH, 0, count, PAGE };
	__u32 touch[4];
	__u8 report;
	int err;

	pick_range(t, PAGE, &addr, &length);
	memcpy(touch, words, sizeof(touch));
	touch[1] = addr;
	if (once(t, 3))
		err = t->has_vcpu ? kvm_agent_run(&t->agent, touch, 4, &report) : 0;
	else
		err = t->has_vcpu ? kvm_agent_command(&t->agent, command, addr, value,
						      &report) : 0;
	if (err)
		kvm_agent_reset(&t->agent);
}

/* Switch the dirty log on or off, or read it. */
static void op_dirty_log(struct thread *t)
{
	static __u8 bitmap[NR_THREADS][SPAN_PAGES / 8 + 8];
	struct kvm_userspace_memory_region region = {
		.memory_size = SPAN,
		.userspace_addr = (uintptr_t)ARENA,
		.flags = once(t, 2) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
	};
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap[t->id] };
	bool get = once(t, 2);

	if (!t->has_vcpu)
		return;
	if (get)
		ioctl(t->agent.vm, KVM_GET_DIRTY_LOG, &log);
	else
		ioctl(t->agent.vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* Remove the memslot, and add it again, perhaps as one that is read-only. */
static void op_memslot(struct thread *t)
{
	struct kvm_userspace_memory_region region = {
		.userspace_addr = (uintptr_t)ARENA,
		.flags = once(t, 4) ? KVM_MEM_READONLY : 0,
	};

	if (!t->has_vcpu)
		return;
	ioctl(t->agent.vm, KVM_SET_USER_MEMORY_REGION, &region);
	region.memory_size = SPAN;
	ioctl(t->agent.vm, KVM_SET_USER_MEMORY_REGION, &region);
}

const struct op kvm_ops[] = {
	{ "KVM_RUN", 60, op_run },
	{ "KVM's dirty log", 4, op_dirty_log },
	{ "KVM's memslot", 1, op_memslot },
	{}
};
