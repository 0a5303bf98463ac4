/* SPDX-License-Identifier: GPL-2.0-only */
/* A KVM guest whose memory is a window: one memslot over the whole of it. */
#ifndef LIB_KVM_GUEST_H
#define LIB_KVM_GUEST_H

#include "gmem.h"

#include "../../libgmem/testing/kvm_agent.h"

#include <pthread.h>

/* Guest addresses: the agent's code is lent, too; tests bind from DATA on. */
#define CODE 0x1000
#define DATA (2 * HUGE_PAGE)
#define GUEST_SIZE (32 * HUGE_PAGE)
#define MEM_SIZE (16 * HUGE_PAGE)

/*
 * KVM patches the kernel's code when the first VM or the first vCPU without an
 * interrupt controller comes, and when the last one goes. Under QEMU's TCG, a CPU
 * may then run into a breakpoint of the patching that is over ("Oops: int3"). So
 * the program keeps one of each until its end.
 */
static __attribute__((constructor)) void keep_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm >= 0)
		ioctl(vm, KVM_CREATE_VCPU, 0);
}

/* CPUID's leaf for hypervisors names QEMU's TCG. */
static inline bool is_emulated(void)
{
#ifdef __x86_64__
	__u32 name[3], max;

	asm volatile("cpuid" : "=a" (max), "=b" (name[0]), "=c" (name[1]),
		     "=d" (name[2]) : "a" (0x40000000), "c" (0));
	return !memcmp(name, "TCGTCGTCGTCG", sizeof(name));
#else
	return false;
#endif
}

/* The vCPU's next instruction; on other architectures than x86, always the agent. */
static inline __u64 kvm_agent_rip(const struct kvm_agent *agent)
{
#ifdef __x86_64__
	struct kvm_regs regs;

	if (!ioctl(agent->vcpu, KVM_GET_REGS, &regs))
		return regs.rip;
#endif
	return agent->code;
}

/*
 * QEMU's emulation of AMD's SVM goes wrong about once in 50,000 commands of four
 * virtual CPUs, on a memfd without gmem.ko, too: an exit has the RIP of the host's
 * kernel. There, the guest has no memory to go on in: the caller resets the agent.
 * Its own code lies below DATA.
 */
static inline bool kvm_is_astray(const struct kvm_agent *agent)
{
	return is_emulated() && kvm_agent_rip(agent) >= DATA;
}

/*
 * A guest that went astray shuts down, or KVM reports an internal error. True if
 * @err, the result of a command, may be that. More than a few are something else.
 */
static inline bool kvm_emulator_failed(const struct kvm_agent *agent, int err)
{
	static int nr;

	return err == -EIO && is_emulated() &&
	       (agent->exit_reason == KVM_EXIT_SHUTDOWN ||
		agent->exit_reason == KVM_EXIT_INTERNAL_ERROR) &&
	       __sync_add_and_fetch(&nr, 1) <= 5;
}

struct kvm_guest {
	int mem;
	int vm;
	bool live;
	__u8 *host;
	__u8 *window;
	struct kvm_agent agent;
};

/* mmap() a range of the window. */
static inline int kvm_map_window(struct kvm_guest *guest, __u64 gpa,
				 __u64 length, int prot)
{
	void *at = guest->window + gpa;

	return mmap(at, length, prot, MAP_SHARED | MAP_FIXED, guest->vm, gpa) ==
			       at ? 0 : -errno;
}

/*
 * mmap() the range of a paged window again, as a VMM does after each change. A
 * live window follows by itself.
 */
static inline int kvm_refresh(struct kvm_guest *guest, __u64 gpa, __u64 length,
			      int prot)
{
	return guest->live ? 0 : kvm_map_window(guest, gpa, length, prot);
}

static inline int kvm_map(struct kvm_guest *guest, __u64 gpa, __u64 offset,
			  __u64 size, __u32 flags)
{
	int err = map_mem(guest->vm, gpa, guest->mem, offset, size, flags);
	int prot = PROT_READ;

	if (flags & GMEM_MAP_ALLOW_WRITE)
		prot |= PROT_WRITE;
	return err ? err : kvm_refresh(guest, gpa, size, prot);
}

static inline int kvm_unmap(struct kvm_guest *guest, __u64 gpa, __u64 length)
{
	int err = unmap_range(guest->vm, gpa, length, NULL);

	return err ? err : kvm_refresh(guest, gpa, length,
				       PROT_READ | PROT_WRITE);
}

/* Map all of the window: a paged one has a mapping for each piece. */
static inline int kvm_map_all(struct kvm_guest *guest)
{
	struct gmem_binding_info info[64];
	int nr = query_vm_range(guest->vm, 0, GUEST_SIZE, info, 64), i, err = 0;
	__u64 gpa = 0;

	if (guest->live)
		return kvm_map_window(guest, 0, GUEST_SIZE,
				      PROT_READ | PROT_WRITE);
	for (i = 0; i < nr && !err; i++) {
		if (info[i].guest_addr > gpa)
			err = kvm_refresh(guest, gpa, info[i].guest_addr - gpa,
					  PROT_READ | PROT_WRITE);
		if (!err)
			err = kvm_refresh(guest, info[i].guest_addr,
					  info[i].length,
					  PROT_READ | PROT_WRITE);
		gpa = info[i].guest_addr + info[i].length;
	}
	if (nr < 0 || err || gpa == GUEST_SIZE)
		return nr < 0 ? nr : err;
	return kvm_refresh(guest, gpa, GUEST_SIZE - gpa,
			   PROT_READ | PROT_WRITE);
}

/* Open window and vCPU for a VM that has been set up. */
static inline int kvm_guest_attach(struct kvm_guest *guest, bool irqchip)
{
	int err;

	/* KVM uses huge pages only where addresses are equal modulo their size. */
	guest->window = map_aligned(GUEST_SIZE, HUGE_PAGE);
	if (guest->window == MAP_FAILED)
		return -errno;
	err = kvm_map_all(guest);
	if (err)
		return err;
	return kvm_agent_open(&guest->agent, guest->window, GUEST_SIZE, CODE,
			      irqchip);
}

/*
 * A guest that can run, in a VM that the caller has made: the agent's code is
 * bound in the first 2 MiB.
 */
static inline int kvm_guest_open_vm(struct kvm_guest *guest, int vm, bool live,
				    __u64 mem_flags, bool irqchip)
{
	int err;

	guest->mem = new_mem(MEM_SIZE, mem_flags);
	guest->vm = vm;
	guest->live = live;
	if (guest->mem < 0 || guest->vm < 0)
		return -1;
	guest->host = map_host(guest->mem, 0, MEM_SIZE);
	if (guest->host == MAP_FAILED)
		return -errno;
	memcpy(guest->host + CODE, kvm_agent_code, sizeof(kvm_agent_code));
	err = kvm_guest_attach(guest, irqchip);
	return err ? err : kvm_map(guest, 0, 0, HUGE_PAGE, LEND | RWX);
}

/* The same in a new VM. */
static inline int kvm_guest_open(struct kvm_guest *guest, const char *provider,
				 __u64 mem_flags, bool irqchip)
{
	return kvm_guest_open_vm(guest, new_vm(provider, GMEM_POLICY_ALLOW),
				 is_live(provider), mem_flags, irqchip);
}

static inline void kvm_guest_close(struct kvm_guest *guest)
{
	kvm_agent_close(&guest->agent);
	munmap(guest->window, GUEST_SIZE);
	munmap(guest->host, MEM_SIZE);
	close(guest->vm);
	close(guest->mem);
}

/* A command that runs in a thread of its own until the guest reports. */
struct kvm_thread {
	pthread_t thread;
	struct kvm_guest *guest;
	enum kvm_agent_command command;
	__u32 addr;
	bool resume;
	int err;
	__u8 report;
};

static inline void *kvm_thread_main(void *arg)
{
	struct kvm_thread *t = arg;

	if (t->resume)
		t->err = kvm_agent_resume(&t->guest->agent, &t->report);
	else
		t->err = kvm_agent_command(&t->guest->agent, t->command,
					   t->addr, 0, &t->report);
	return NULL;
}

static inline int kvm_thread_start(struct kvm_thread *t)
{
	return -pthread_create(&t->thread, NULL, kvm_thread_main, t);
}

static inline int kvm_thread_join(struct kvm_thread *t)
{
	pthread_join(t->thread, NULL);
	return t->err;
}

#define KVM_KIND_VARIANTS(fixture, name, ...)				\
	VARIANT(fixture, name##_4k, __VA_ARGS__);			\
	VARIANT(fixture, name##_2m,					\
		.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE, __VA_ARGS__)

/* On x86, KVM with an interrupt controller takes faults asynchronously. */
#ifdef __x86_64__
#define KVM_VARIANTS(fixture)						\
	KVM_KIND_VARIANTS(fixture, paged, .provider = "window");	\
	KVM_KIND_VARIANTS(fixture, live, .provider = "live");		\
	KVM_KIND_VARIANTS(fixture, paged_irqchip, .provider = "window",	\
			  .irqchip = true);				\
	KVM_KIND_VARIANTS(fixture, live_irqchip, .provider = "live",	\
			  .irqchip = true)
#else
#define KVM_VARIANTS(fixture)						\
	KVM_KIND_VARIANTS(fixture, paged, .provider = "window")
#endif

/* A fixture with a KVM guest. */
#define KVM_FIXTURE(fixture)						\
	FIXTURE(fixture)						\
	{								\
		struct gmem_stats before;				\
		struct kvm_guest guest;					\
		__u64 page;						\
	};								\
	FIXTURE_VARIANT(fixture)					\
	{								\
		const char *provider;					\
		__u64 mem_flags;					\
		bool irqchip;						\
	};								\
	KVM_VARIANTS(fixture);						\
	FIXTURE_SETUP(fixture)						\
	{								\
		ASSERT_LE(0, gmem_dev());				\
		if (access("/dev/kvm", R_OK | W_OK))			\
			SKIP(return, "no /dev/kvm");			\
		if (variant->mem_flags && !takes_huge(variant->provider)) \
			SKIP(return, NO_HUGE, variant->provider);	\
		ASSERT_EQ(0, get_stats(&self->before));			\
		self->page = variant->mem_flags ? HUGE_PAGE : PAGE;	\
		ASSERT_EQ(0, kvm_guest_open(&self->guest,		\
					    variant->provider,		\
					    variant->mem_flags,		\
					    variant->irqchip));		\
	}								\
	FIXTURE_TEARDOWN(fixture)					\
	{								\
		kvm_guest_close(&self->guest);				\
		EXPECT_TRUE(stats_settle(&self->before));		\
	}

/* For a fixture of KVM guests behind live windows, whose variant has mem_flags. */
#define SKIP_UNLESS_LIVE_KVM(variant)					\
	do {								\
		ASSERT_LE(0, gmem_dev());				\
		if (access("/dev/kvm", R_OK | W_OK))			\
			SKIP(return, "no /dev/kvm");			\
		if (!have_provider("live"))				\
			SKIP(return, "no live windows");		\
		if ((variant)->mem_flags && !takes_huge("live"))	\
			SKIP(return, "no huge pages");			\
	} while (0)

#endif /* LIB_KVM_GUEST_H */
