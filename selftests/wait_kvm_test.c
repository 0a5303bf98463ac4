// SPDX-License-Identifier: GPL-2.0-only
/* Accesses to unbound pages that wait: those of vCPUs and of vhost's workers. */
#include "lib/kvm_guest.h"
#include "lib/vring.h"
#include "lib/wait.h"
#include "lib/window_desc.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>

/* The test's pages in the file are at the same place as in the guest. */
#define PAGE_AT(n) (DATA + (n) * PAGE)
#define FILL 66

FIXTURE(wait_kvm)
{
	struct gmem_stats before;
	struct kvm_guest guest;
};

FIXTURE_VARIANT(wait_kvm)
{
	__u64 mem_flags;
	bool irqchip;
	__u32 flags;
};

VARIANT(wait_kvm, 4k, .flags = GMEM_VM_WAIT_SIGNALS);
VARIANT(wait_kvm, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE,
	.flags = GMEM_VM_WAIT_SIGNALS);
VARIANT(wait_kvm, irqchip_4k, .irqchip = true, .flags = GMEM_VM_WAIT_SIGNALS);
VARIANT(wait_kvm, no_signals_4k, .irqchip = true);

static int wait_guest_open(struct kvm_guest *guest, __u32 flags, __u64 mem_flags,
			   bool irqchip)
{
	__u64 gpa;
	int err;

	memset(guest, 0, sizeof(*guest));
	err = kvm_guest_open_vm(guest, new_wait_vm(flags), true, mem_flags,
				irqchip);
	if (err)
		return err;
	for (gpa = DATA; gpa < MIB(8); gpa += PAGE)
		guest->host[gpa] = FILL;
	return 0;
}

FIXTURE_SETUP(wait_kvm)
{
	SKIP_UNLESS_LIVE_KVM(variant);
	ASSERT_EQ(0, get_stats(&self->before));
	ASSERT_EQ(0, wait_guest_open(&self->guest, variant->flags,
				     variant->mem_flags, variant->irqchip));
}

FIXTURE_TEARDOWN(wait_kvm)
{
	kvm_guest_close(&self->guest);
	EXPECT_TRUE(stats_settle(&self->before));
}

/* Bind the page at @gpa, or the huge page that has it. */
static int bind_at(struct kvm_guest *guest, __u64 mem_flags, __u64 gpa)
{
	__u64 size = mem_flags ? HUGE_PAGE : PAGE;

	gpa &= ~(size - 1);
	return map_mem(guest->vm, gpa, guest->mem, gpa, size, LEND | RWX);
}

#define EXPECT_NO_REFUSAL() EXPECT_EQ(0, last_fault(self->guest.vm).seq)

TEST_F(wait_kvm, until_bound)
{
	struct kvm_guest *guest = &self->guest;
	struct kvm_thread reader = {
		.guest = guest, .command = KVM_AGENT_READ, .addr = PAGE_AT(1),
	};
	struct gmem_waiter_info info;

	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(has_request(guest->vm, 10000));
	ASSERT_EQ(1, get_waiters(guest->vm, 0, 0, &info, 1, NULL));
	EXPECT_EQ(PAGE_AT(1), info.guest_addr);
	EXPECT_LT(0, info.pid);
	ASSERT_EQ(0, bind_at(guest, variant->mem_flags, PAGE_AT(1)));
	EXPECT_EQ(0, kvm_thread_join(&reader));
	EXPECT_EQ(FILL, reader.report);
	EXPECT_NO_REFUSAL();
}

TEST_F(wait_kvm, until_it_fails)
{
	struct kvm_guest *guest = &self->guest;
	struct kvm_thread reader = {
		.guest = guest, .command = KVM_AGENT_READ, .addr = PAGE_AT(1),
	};

	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(waiting(guest->vm, 1));
	ASSERT_EQ(0, set_absent(guest->vm, GMEM_ABSENT_FAIL, PAGE_AT(1), PAGE));
	EXPECT_EQ(-EFAULT, kvm_thread_join(&reader));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_fault(guest->vm).reason);
	EXPECT_EQ(PAGE_AT(1), last_fault(guest->vm).guest_addr);
	EXPECT_EQ(1, last_fault(guest->vm).count);
	EXPECT_EQ(-EFAULT, kvm_agent_resume(&guest->agent, NULL));
	ASSERT_EQ(0, bind_at(guest, variant->mem_flags, PAGE_AT(1)));
	EXPECT_EQ(0, kvm_agent_resume(&guest->agent, &reader.report));
	EXPECT_EQ(FILL, reader.report);
}

static void on_signal(int sig)
{
	(void)sig;
}

/* A vCPU that waits is paused by a signal, if the VM has the flag for that. */
TEST_F(wait_kvm, pause)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct kvm_guest *guest = &self->guest;
	struct kvm_thread reader = {
		.guest = guest, .command = KVM_AGENT_READ, .addr = PAGE_AT(1),
	};
	struct gmem_fault_info row;
	double begin;
	int i;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, kvm_thread_start(&reader));
	ASSERT_TRUE(waiting(guest->vm, 1));
	begin = now();
	pthread_kill(reader.thread, SIGUSR1);
	if (variant->flags) {
		EXPECT_EQ(-EFAULT, kvm_thread_join(&reader));
		EXPECT_GT(1, now() - begin);
		row = last_fault(guest->vm);
		EXPECT_EQ(GMEM_FAULT_INTERRUPTED, row.reason);
		EXPECT_EQ(PAGE_AT(1), row.guest_addr);
		EXPECT_EQ(1, row.count);
		EXPECT_EQ(1, row.seq);
		EXPECT_EQ(0, nr_waiting(guest->vm));
		/* It is a new request. */
		reader.resume = true;
		ASSERT_EQ(0, kvm_thread_start(&reader));
		ASSERT_TRUE(has_request(guest->vm, 10000));
	} else {
		for (i = 0; i < 20; i++) {
			usleep(10000);
			pthread_kill(reader.thread, SIGUSR1);
		}
		EXPECT_EQ(1, nr_waiting(guest->vm));
		EXPECT_NO_REFUSAL();
	}
	ASSERT_EQ(0, bind_at(guest, variant->mem_flags, PAGE_AT(1)));
	/* The signals that came late end KVM_RUN in the usual way. */
	while ((i = kvm_thread_join(&reader)) == -EINTR) {
		reader.resume = true;
		ASSERT_EQ(0, kvm_thread_start(&reader));
	}
	EXPECT_EQ(0, i);
	EXPECT_EQ(FILL, reader.report);
}

/* Another vCPU of the guest. */
struct vcpu {
	struct kvm_agent agent;
	pthread_t thread;
	__u32 addr;
	int err;
	__u8 report;
};

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;

	do {
		kvm_agent_reset(&v->agent);
		v->err = kvm_agent_read(&v->agent, v->addr, &v->report);
	} while (kvm_emulator_failed(&v->agent, v->err));
	return NULL;
}

TEST_F(wait_kvm, four_vcpus_at_one_page)
{
	struct kvm_guest *guest = &self->guest;
	struct gmem_waiter_info info[4];
	struct vcpu vcpus[4] = {};
	unsigned int round, i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, kvm_agent_add(&vcpus[i].agent, &guest->agent,
					   i + 1));
	for (round = 0; round < 8; round++) {
		for (i = 0; i < 4; i++) {
			vcpus[i].addr = PAGE_AT(round);
			ASSERT_EQ(0, pthread_create(&vcpus[i].thread, NULL,
						    vcpu_main, &vcpus[i]));
		}
		ASSERT_TRUE(waiting(guest->vm, 4));
		ASSERT_EQ(1, get_waiters(guest->vm, 0, 0, info, 4, NULL));
		EXPECT_EQ(4, info[0].nr_threads);
		EXPECT_EQ(PAGE_AT(round), info[0].guest_addr);
		ASSERT_EQ(0, bind_at(guest, variant->mem_flags, PAGE_AT(round)));
		for (i = 0; i < 4; i++) {
			pthread_join(vcpus[i].thread, NULL);
			EXPECT_EQ(0, vcpus[i].err);
			EXPECT_EQ(FILL, vcpus[i].report);
		}
		ASSERT_EQ(0, unmap_range(guest->vm, DATA, MIB(2), NULL));
	}
	for (i = 0; i < 4; i++)
		kvm_agent_close(&vcpus[i].agent);
	EXPECT_NO_REFUSAL();
}

/* --- another thread serves, while one makes calls that wait for the vCPU --- */

struct server {
	struct kvm_guest *guest;
	__u64 mem_flags;
	pthread_t thread;
	volatile bool stop;
	/* Before it binds, in ms. */
	unsigned int delay;
	int err;
};

static void *server_main(void *arg)
{
	struct server *s = arg;
	struct gmem_waiter_info info;

	while (!s->stop && !s->err) {
		if (!has_request(s->guest->vm, 10) ||
		    get_waiters(s->guest->vm, 0, 0, &info, 1, NULL) != 1)
			continue;
		usleep(s->delay * 1000);
		s->err = bind_at(s->guest, s->mem_flags, info.guest_addr);
		if (s->err == -EEXIST)
			s->err = 0;
	}
	return NULL;
}

/* The dirty log is switched on, and an ioeventfd registered, while a vCPU waits. */
TEST_F(wait_kvm, calls_that_wait_for_the_vcpu)
{
	struct kvm_guest *guest = &self->guest;
	struct kvm_userspace_memory_region slot = {
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.memory_size = GUEST_SIZE,
		.userspace_addr = ptr_u64(guest->window),
	};
	struct kvm_ioeventfd io = {
		.addr = GUEST_SIZE + PAGE, .len = 4,
		.fd = eventfd(0, EFD_CLOEXEC),
	};
	struct server server = {
		.guest = guest, .mem_flags = variant->mem_flags, .delay = 200,
	};
	struct kvm_thread reader = {
		.guest = guest, .command = KVM_AGENT_READ, .addr = PAGE_AT(0),
	};
	int round;

	ASSERT_EQ(0, pthread_create(&server.thread, NULL, server_main, &server));
	for (round = 0; round < 3; round++) {
		reader.addr = DATA + round * MIB(2);
		ASSERT_EQ(0, kvm_thread_start(&reader));
		ASSERT_TRUE(waiting(guest->vm, 1));
		switch (round) {
		case 0:
			EXPECT_EQ(0, err_of(ioctl(guest->agent.vm,
						  KVM_SET_USER_MEMORY_REGION,
						  &slot)));
			break;
		case 1:
			EXPECT_EQ(0, err_of(ioctl(guest->agent.vm,
						  KVM_IOEVENTFD, &io)));
			break;
		case 2:
			slot.flags = 0;
			EXPECT_EQ(0, err_of(ioctl(guest->agent.vm,
						  KVM_SET_USER_MEMORY_REGION,
						  &slot)));
			break;
		}
		EXPECT_EQ(0, kvm_thread_join(&reader));
	}
	server.stop = true;
	pthread_join(server.thread, NULL);
	EXPECT_EQ(0, server.err);
	EXPECT_NO_REFUSAL();
	close(io.fd);
}

/* --- storms --- */

struct storm {
	struct vcpu vcpu;
	__u64 mem_flags;
	volatile bool *stop;
	volatile unsigned long accesses;
	volatile int err;
};

#define STORM_PAGES 16

static void *storm_main(void *arg)
{
	struct storm *s = arg;
	struct kvm_agent *agent = &s->vcpu.agent;
	unsigned int seed = 1;
	__u8 byte = 0;
	int err;

	while (!*s->stop && !s->err) {
		err = kvm_agent_read(agent,
				     PAGE_AT(rand_r(&seed) % STORM_PAGES),
				     &byte);
		if (!err) {
			s->accesses++;
			if (byte != FILL)
				s->err = -EIO;
			continue;
		}
		if (kvm_emulator_failed(agent, err) || kvm_is_astray(agent))
			kvm_agent_reset(agent);
		/* Nothing is refused: see "Live windows" in design.rst. */
		else if (err == -EFAULT)
			kvm_agent_resume(agent, NULL);
		else if (err != -EINTR)
			s->err = err;
	}
	return NULL;
}

/*
 * An emulated guest that went astray may sleep in KVM for ever, if that has its
 * interrupt controller. A thread that sleeps there isn't one that waits for a page.
 */
static void wake_and_join(struct storm *s)
{
	while (pthread_tryjoin_np(s->vcpu.thread, NULL)) {
		pthread_kill(s->vcpu.thread, SIGUSR1);
		usleep(10000);
	}
}

/* Was an access to the pages of the storm refused? */
static bool storm_refused(int vm)
{
	struct gmem_fault_info rows[GMEM_NR_FAULTS];
	int nr = get_faults(vm, 0, rows, GMEM_NR_FAULTS, NULL);

	while (nr-- > 0)
		if (rows[nr].guest_addr >= PAGE_AT(0) &&
		    rows[nr].guest_addr < PAGE_AT(STORM_PAGES))
			return true;
	return false;
}

/* Has each of the storm's virtual CPUs accessed memory? On a busy host, one may begin late. */
static bool all_access(const struct storm *storms, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (!storms[i].accesses && !storms[i].err)
			return false;
	return true;
}

TEST_F_TIMEOUT(wait_kvm, storm, 90)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct kvm_guest *guest = &self->guest;
	struct server server = {
		.guest = guest, .mem_flags = variant->mem_flags,
	};
	const __u64 size = variant->mem_flags ? HUGE_PAGE : PAGE;
	struct storm storms[4] = {};
	volatile bool stop = false;
	unsigned int i, seed = 1;
	double end;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	/* A guest that goes astray gets no memory to go on in. */
	ASSERT_EQ(0, set_absent(guest->vm, GMEM_ABSENT_FAIL, MIB(2),
				DATA - MIB(2)));
	ASSERT_EQ(0, set_absent(guest->vm, GMEM_ABSENT_FAIL, DATA + MIB(2),
				GUEST_SIZE - DATA - MIB(2)));
	ASSERT_EQ(0, pthread_create(&server.thread, NULL, server_main, &server));
	for (i = 0; i < 4; i++) {
		storms[i].stop = &stop;
		ASSERT_EQ(0, kvm_agent_add(&storms[i].vcpu.agent, &guest->agent,
					   i + 1));
		ASSERT_EQ(0, pthread_create(&storms[i].vcpu.thread, NULL,
					    storm_main, &storms[i]));
	}
	end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	while (now() < end || (!all_access(storms, 4) && now() < end + 30)) {
		unmap_range(guest->vm, PAGE_AT(rand_r(&seed) % STORM_PAGES) &
				       ~(size - 1), size, NULL);
		usleep(100);
	}
	stop = true;
	EXPECT_TRUE(waiting(guest->vm, 0));
	EXPECT_FALSE(storm_refused(guest->vm));
	for (i = 0; i < 4; i++) {
		wake_and_join(&storms[i]);
		EXPECT_EQ(0, storms[i].err);
		EXPECT_LT(0, storms[i].accesses);
		kvm_agent_close(&storms[i].vcpu.agent);
	}
	server.stop = true;
	pthread_join(server.thread, NULL);
	EXPECT_EQ(0, server.err);
}

/* --- death --- */

#define GUEST_CID 43
#define RING(n) (MIB(1) + (n) * KIB(8))
/* A guest with a vCPU and a vhost worker that both wait. */
struct vmm {
	struct kvm_guest guest;
	int vhost;
	struct vring_queue queue[2];
	struct kvm_thread reader;
};

FIXTURE(wait_kill)
{
	struct gmem_stats before;
	int vm;
	int mem;
};

FIXTURE_VARIANT(wait_kill)
{
	/* Is vhost's worker a thread of its owner, or of the kernel? */
	bool fork_owner;
};

VARIANT(wait_kill, user_worker, .fork_owner = true);
VARIANT(wait_kill, kernel_worker);

/* Since Linux 6.17; before, from 6.4 on, a worker is a thread of its owner. */
#ifndef VHOST_SET_FORK_FROM_OWNER
#define VHOST_FORK_OWNER_KTHREAD 0
#define VHOST_FORK_OWNER_TASK 1
#define VHOST_SET_FORK_FROM_OWNER _IOW(VHOST_VIRTIO, 0x84, __u8)
#endif

FIXTURE_SETUP(wait_kill)
{
	const struct {
		__u64 mem_flags;
	} kind = {};
	__u8 fork_owner = VHOST_FORK_OWNER_KTHREAD;
	int vhost;

	SKIP_UNLESS_LIVE_KVM(&kind);
	vhost = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
	if (vhost < 0)
		SKIP(return, "no vhost-vsock");
	if (!variant->fork_owner &&
	    ioctl(vhost, VHOST_SET_FORK_FROM_OWNER, &fork_owner))
		SKIP(close(vhost); return, "workers belong to their owners");
	close(vhost);
	ASSERT_EQ(0, get_stats(&self->before));
}

FIXTURE_TEARDOWN(wait_kill)
{
	EXPECT_TRUE(stats_settle(&self->before));
}

/* The guest's memory. With a vhost device, whose worker waits for a buffer. */
static int vmm_open(struct vmm *vmm, bool fork_owner)
{
	const __u8 owner = fork_owner ? VHOST_FORK_OWNER_TASK :
					VHOST_FORK_OWNER_KTHREAD;
	const struct vring_buffer buffer = {
		.gpa = PAGE_AT(2), .length = sizeof(struct virtio_vsock_hdr),
	};
	struct kvm_guest *guest = &vmm->guest;
	__u64 cid = GUEST_CID;
	int err, i, run = 1;

	err = wait_guest_open(guest, GMEM_VM_WAIT_SIGNALS, 0, false);
	if (err)
		return err;
	vmm->vhost = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
	if (ioctl(vmm->vhost, VHOST_SET_FORK_FROM_OWNER, &owner) && !fork_owner)
		return -errno;
	err = vhost_open(vmm->vhost, 1ULL << VIRTIO_F_VERSION_1, guest->window,
			 GUEST_SIZE);
	for (i = 0; i < 2 && !err; i++)
		err = vring_open(&vmm->queue[i], vmm->vhost, i, guest->window,
				 RING(i));
	if (err)
		return err;
	if (ioctl(vmm->vhost, VHOST_VSOCK_SET_GUEST_CID, &cid) ||
	    ioctl(vmm->vhost, VHOST_VSOCK_SET_RUNNING, &run))
		return -errno;

	vmm->reader = (struct kvm_thread){
		.guest = guest, .command = KVM_AGENT_READ, .addr = PAGE_AT(1),
	};
	err = kvm_thread_start(&vmm->reader);
	if (!err)
		vring_add(&vmm->queue[1], &buffer, 1);
	return err;
}

static void vmm_close(struct vmm *vmm)
{
	int i;

	close(vmm->vhost);
	for (i = 0; i < 2; i++)
		vring_close(&vmm->queue[i]);
	kvm_guest_close(&vmm->guest);
}

/* The descriptor of the VM of a child, by the number that it writes. */
static int pidfd_steal(pid_t child, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	int copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	close(pidfd);
	return copy;
}

TEST_F(wait_kill, the_vmm)
{
	const int limit = variant->fork_owner ? 1 : 3;
	int pair[2], vm;
	double took;
	pid_t child;

	ASSERT_EQ(0, pipe(pair));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct vmm vmm = {};
		int err = vmm_open(&vmm, variant->fork_owner);

		if (write(pair[1], err ? &err : &vmm.guest.vm, sizeof(err)) < 0)
			_exit(1);
		pause();
		_exit(1);
	}
	ASSERT_EQ(sizeof(vm), read(pair[0], &vm, sizeof(vm)));
	ASSERT_LE(0, vm);
	vm = pidfd_steal(child, vm);
	ASSERT_LE(0, vm);
	ASSERT_TRUE(waiting(vm, 2));
	kill(child, SIGKILL);
	took = reap(child, 30);
	printf("# it took %.3f s\n", took);
	EXPECT_LE(0, took);
	EXPECT_GE(limit, took);
	EXPECT_EQ(0, nr_waiting(vm));
	close(vm);
	close(pair[0]);
	close(pair[1]);
}

/* The broker has the only descriptor of the VM. */
TEST_F(wait_kill, the_broker)
{
	struct vmm vmm = {};
	double begin, took;
	pid_t broker;

	ASSERT_EQ(0, vmm_open(&vmm, variant->fork_owner));
	ASSERT_TRUE(waiting(vmm.guest.vm, 2));
	broker = fork();
	ASSERT_LE(0, broker);
	if (!broker) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	close(vmm.guest.vm);
	vmm.guest.vm = -1;
	usleep(100000);
	begin = now();
	kill(broker, SIGKILL);
	EXPECT_EQ(-EFAULT, kvm_thread_join(&vmm.reader));
	EXPECT_GT(1, now() - begin);
	took = reap(broker, 30);
	EXPECT_LE(0, took);
	EXPECT_GE(1, took);
	/* The worker waits no longer, so the device can be closed. */
	begin = now();
	vmm_close(&vmm);
	EXPECT_GT(1, now() - begin);
}

/*
 * A kernel thread is refused after a second. At the next page it doesn't wait, until
 * something is bound.
 */
TEST_F(wait_kill, kernel_worker_is_refused)
{
	const struct vring_buffer buffer = {
		.gpa = PAGE_AT(3), .length = sizeof(struct virtio_vsock_hdr),
	};
	struct vmm vmm = {};
	__u64 seq;

	if (variant->fork_owner)
		SKIP(return, "not a kernel thread");
	ASSERT_EQ(0, vmm_open(&vmm, variant->fork_owner));
	ASSERT_TRUE(waiting(vmm.guest.vm, 2));
	usleep(1500000);
	EXPECT_EQ(1, nr_waiting(vmm.guest.vm));
	EXPECT_EQ(GMEM_FAULT_UNBOUND, last_fault(vmm.guest.vm).reason);
	EXPECT_EQ(PAGE_AT(2), last_fault(vmm.guest.vm).guest_addr);
	seq = last_fault(vmm.guest.vm).seq;

	vring_add(&vmm.queue[1], &buffer, 1);
	usleep(300000);
	EXPECT_EQ(1, nr_waiting(vmm.guest.vm));
	EXPECT_LT(seq, last_fault(vmm.guest.vm).seq);

	sleep(1);
	ASSERT_EQ(0, bind_at(&vmm.guest, 0, PAGE_AT(1)));
	EXPECT_EQ(0, kvm_thread_join(&vmm.reader));
	vring_add(&vmm.queue[1], &buffer, 1);
	EXPECT_TRUE(waiting(vmm.guest.vm, 1));
	vmm_close(&vmm);
}

TEST_HARNESS_MAIN
