// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtual CPUs and the host race for the pages behind a live window. KVM_RUN
 * fails only with a recorded reason: each failure is one refused access. There
 * are many races, so each takes a third of GMEM_RACE_SECONDS.
 */
#include "lib/kvm_guest.h"
#include "lib/random.h"
#include "lib/threads.h"

#include <signal.h>

#define MAX_VCPUS 4
#define UNITS 6
#define OFFSET MIB(4)

struct arena {
	struct kvm_guest *guest;
	__u64 unit;
	/* The vCPUs use this many units, from DATA on. */
	__u64 nr_units;
	bool scrubs;
	/* A touch of the host's takes a page from the guest. */
	bool loses;
	/* The host changes bindings and contents. */
	bool changes;
	volatile bool stop;
	volatile int wrong;
	volatile unsigned long commands;
	volatile unsigned long failures;
	volatile unsigned long host_rounds;
};

struct vcpu {
	struct arena *arena;
	struct kvm_agent agent;
	unsigned int id;
	__u64 random;
	pthread_t thread;
};

static void wrong(struct arena *a, const char *what, long value)
{
	if (!__sync_fetch_and_add(&a->wrong, 1))
		printf("# %s: %ld\n", what, value);
}

/*
 * Is there a row that is newer than @seq? It may be of another page, since the
 * emulator sometimes reports an exit with an address that the guest never used:
 * see kvm_is_astray().
 */
static bool recorded(struct arena *a, __u64 seq)
{
	struct gmem_fault_info rows[GMEM_NR_FAULTS];

	return get_faults(a->guest->vm, seq, rows, GMEM_NR_FAULTS, NULL) > 0;
}

static __u64 last_seq(int vm)
{
	struct gmem_fault_info rows[GMEM_NR_FAULTS];
	struct gmem_vm_faults answer = {};

	get_faults(vm, 0, rows, GMEM_NR_FAULTS, &answer);
	return answer.seq;
}

/* A vCPU that doesn't come to its end is kicked: see join_vcpu(). */
static void report_kicked(struct arena *a, struct vcpu *v)
{
	if (kvm_is_astray(&v->agent))
		printf("# vCPU %u went astray and ran on\n", v->id);
	else
		wrong(a, "a vCPU ran on at", kvm_agent_rip(&v->agent));
}

/* Run a command until it succeeds, or start again after a failure. */
static bool command(struct vcpu *v, enum kvm_agent_command command, __u32 addr,
		    __u32 value, __u8 *report)
{
	struct arena *a = v->arena;
	__u64 seq = last_seq(a->guest->vm);
	int err;

	__sync_fetch_and_add(&a->commands, 1);
	err = kvm_agent_command(&v->agent, command, addr, value, report);
	while (err && !kvm_emulator_failed(&v->agent, err)) {
		if (err == -EINTR && a->stop) {
			report_kicked(a, v);
			break;
		}
		if (err != -EFAULT) {
			wrong(a, "KVM_RUN", err);
			wrong(a, "exit", v->agent.exit_reason);
			break;
		}
		__sync_fetch_and_add(&a->failures, 1);
		if (!recorded(a, seq))
			wrong(a, "not recorded", addr);
		if (a->stop || kvm_is_astray(&v->agent) || roll(&v->random, 2))
			break;
		seq = last_seq(a->guest->vm);
		err = kvm_agent_resume(&v->agent, report);
	}
	return err ? !kvm_agent_reset(&v->agent) && false : true;
}

/* Write a byte that is this vCPU's alone, and read it. */
static void write_and_read(struct vcpu *v, __u32 at)
{
	struct arena *a = v->arena;
	__u8 byte = 1 + roll(&v->random, 255), report = 0;

	at += 64 + v->id;
	if (!command(v, KVM_AGENT_WRITE, at, byte, NULL) ||
	    !command(v, KVM_AGENT_READ, at, 0, &report))
		return;
	if (report != byte && !(report == 0 && a->scrubs) && !a->changes)
		wrong(a, "read something else", report);
}

static void touch_all(struct vcpu *v)
{
	struct arena *a = v->arena;
	const __u32 words[4] = {
		KVM_AGENT_TOUCH, DATA + v->id, a->nr_units, a->unit
	};
	__u64 seq = last_seq(a->guest->vm);
	int err = kvm_agent_run(&v->agent, words, 4, NULL);

	__sync_fetch_and_add(&a->commands, 1);
	if (!err)
		return;
	if (err == -EINTR && a->stop) {
		report_kicked(a, v);
	} else if (!kvm_emulator_failed(&v->agent, err)) {
		if (err != -EFAULT)
			wrong(a, "KVM_RUN", err);
		__sync_fetch_and_add(&a->failures, 1);
		if (!recorded(a, seq))
			wrong(a, "not recorded", DATA);
	}
	kvm_agent_reset(&v->agent);
}

/*
 * Where the guest keeps its pages, a higher rate adds nothing to the race. It
 * adds exits, and the emulator fails after many of them: see kvm_is_astray().
 */
static void pace(const struct arena *a)
{
	if (!a->loses && !a->changes)
		usleep(20000);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct arena *a = v->arena;

	while (!a->stop && !a->wrong) {
		__u32 unit = roll(&v->random, a->nr_units);

		pace(a);
		if (roll(&v->random, 4))
			write_and_read(v, DATA + unit * a->unit +
					  roll(&v->random, a->unit / PAGE) * PAGE);
		else
			touch_all(v);
	}
	return NULL;
}

/* All vCPUs access the page at any time, so they fault at once. */
static void *spin_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct arena *a = v->arena;

	while (!a->stop && !a->wrong)
		command(v, KVM_AGENT_SPIN, DATA, 0, NULL);
	return NULL;
}

/* The host touches the pages. */
static void *run_host(void *arg)
{
	struct arena *a = arg;
	__u64 random = ptr_u64(&random) ^ time(NULL);
	volatile __u8 *host = a->guest->host + OFFSET;

	while (!a->stop && !a->wrong) {
		volatile __u8 *p = host + roll(&random, a->nr_units) * a->unit;

		if (roll(&random, 2))
			touch_write(p, 1);
		else
			touch_read(p);
		__sync_fetch_and_add(&a->host_rounds, 1);
		/* At any moment of the guest's next access. */
		usleep(roll(&random, 300));
	}
	return NULL;
}

/* A result is wrong if it is an error other than these two. */
static void expect(struct arena *a, const char *what, int ret, int error,
		   int other_error)
{
	if (ret < 0 && ret != error && ret != other_error)
		wrong(a, what, ret);
}

/* The host takes pages back, frees them, and changes what is bound. */
static void change(struct arena *a, __u64 *random)
{
	__u64 at = roll(random, UNITS) * a->unit;
	__u64 size = (1 + roll(random, UNITS - at / a->unit)) * a->unit;
	struct kvm_guest *guest = a->guest;
	int vm = guest->vm;

	switch (roll(random, 8)) {
	case 0:
		/* Busy: the host has just touched a page, too. */
		expect(a, "reclaim", reclaim_range(vm, DATA + at, size, NULL),
		       -EACCES, -EBUSY);
		break;
	case 1:
		expect(a, "punch", mem_alloc(guest->mem, PUNCH, OFFSET + at,
					     size), -EACCES, 0);
		break;
	case 2:
		expect(a, "unmap", unmap_range(vm, DATA + at, size, NULL), 0,
		       0);
		break;
	case 3:
		expect(a, "populate", populate_range(vm, DATA + at, size, NULL),
		       -ENOENT, -EBUSY);
		break;
	case 4:
		expect(a, "policy", set_policy(vm, roll(random, 3)), 0, 0);
		break;
	default:
		/* Bindings come back more often than they go. */
		expect(a, "map", map_mem(vm, DATA + at, guest->mem, OFFSET + at,
					 size, (roll(random, 4) ? LEND : SHARE) |
					 RWX), -EEXIST, 0);
	}
}

static void *run_changes(void *arg)
{
	struct arena *a = arg;
	__u64 random = ptr_u64(&random) ^ time(NULL);

	while (!a->stop && !a->wrong) {
		change(a, &random);
		__sync_fetch_and_add(&a->host_rounds, 1);
		if (!roll(&random, 4))
			usleep(roll(&random, 500));
	}
	return NULL;
}

FIXTURE(live_race)
{
	struct gmem_stats before;
	struct kvm_guest guest;
	struct arena arena;
	struct vcpu vcpus[MAX_VCPUS];
	unsigned int nr_vcpus;
};

FIXTURE_VARIANT(live_race)
{
	__u32 policy;
	__u64 mem_flags;
	bool irqchip;
	unsigned int nr_vcpus;
};

#define POLICIES(name, ...)						\
	VARIANT(live_race, allow_##name, .policy = GMEM_POLICY_ALLOW,	\
		__VA_ARGS__);						\
	VARIANT(live_race, scrub_##name, .policy = GMEM_POLICY_SCRUB,	\
		__VA_ARGS__);						\
	VARIANT(live_race, deny_##name, .policy = GMEM_POLICY_DENY,	\
		__VA_ARGS__)
#define SIZES(name, ...)						\
	POLICIES(name##_4k, __VA_ARGS__);				\
	POLICIES(name##_2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE,	\
		 __VA_ARGS__)

SIZES(irqchip, .nr_vcpus = 2, .irqchip = true);
SIZES(many, .nr_vcpus = MAX_VCPUS);

FIXTURE_SETUP(live_race)
{
	struct arena *a = &self->arena;
	unsigned int i;

	SKIP_UNLESS_LIVE_KVM(variant);
	ASSERT_EQ(0, get_stats(&self->before));
	ASSERT_EQ(0, kvm_guest_open(&self->guest, "live", variant->mem_flags,
				    variant->irqchip));
	ASSERT_EQ(0, set_policy(self->guest.vm, variant->policy));
	a->guest = &self->guest;
	a->unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	a->scrubs = variant->policy == GMEM_POLICY_SCRUB;
	a->loses = variant->policy != GMEM_POLICY_DENY;

	self->vcpus[0].agent = self->guest.agent;
	for (i = 0; i < variant->nr_vcpus; i++) {
		self->vcpus[i].arena = a;
		self->vcpus[i].id = i;
		self->vcpus[i].random = i + time(NULL);
		if (!i)
			continue;
		self->nr_vcpus = i;
		ASSERT_EQ(0, kvm_agent_add(&self->vcpus[i].agent,
					   &self->guest.agent, i));
	}
	self->nr_vcpus = i;
}

FIXTURE_TEARDOWN(live_race)
{
	unsigned int i;

	for (i = 1; i < self->nr_vcpus; i++)
		kvm_agent_close(&self->vcpus[i].agent);
	kvm_guest_close(&self->guest);
	EXPECT_TRUE(stats_settle(&self->before));
}

static unsigned long long nr_lends(const FIXTURE_DATA(live_race) *self)
{
	struct gmem_stats stats;

	return get_stats(&stats) ? 0 : stats.lends - self->before.lends;
}

/* On a slow machine, some thread may not have run yet. */
static bool has_raced(const FIXTURE_DATA(live_race) *self)
{
	const struct arena *a = &self->arena;

	return a->commands >= self->nr_vcpus && a->host_rounds &&
	       (!a->loses || nr_lends(self) > 1);
}

/* As slow as a debug kernel may be, a command ends sooner when nobody else acts. */
#define PATIENCE 60

static void on_kick(int sig __attribute__((unused)))
{
}

/*
 * The emulator may let a guest go astray into a loop. Where a thread is still in the
 * kernel, its stack says why.
 */
static void join_vcpu(struct vcpu *v, time_t end)
{
	const struct sigaction action = { .sa_handler = on_kick };

	if (!join_until(v->thread, end))
		return;
	print_threads();
	sigaction(SIGUSR1, &action, NULL);
	v->agent.run->immediate_exit = 1;
	pthread_kill(v->thread, SIGUSR1);
	pthread_join(v->thread, NULL);
	v->agent.run->immediate_exit = 0;
}

static void join(struct arena *a, pthread_t thread, time_t end,
		 const char *name)
{
	if (!join_until(thread, end))
		return;
	print_threads();
	wrong(a, name, PATIENCE);
	pthread_join(thread, NULL);
}

/* Run the vCPUs, a thread that touches pages and, if given, one that changes them. */
static void race(struct __test_metadata *_metadata, FIXTURE_DATA(live_race) *self,
		 void *(*vcpu)(void *), void *(*changes)(void *))
{
	struct arena *a = &self->arena;
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3) / 3.0;
	__u64 refused = last_seq(self->guest.vm);
	pthread_t host_thread, change_thread;
	unsigned int i;
	time_t late;

	ASSERT_EQ(0, map_mem(self->guest.vm, DATA, self->guest.mem, OFFSET,
			     a->nr_units * a->unit, LEND | RWX));
	a->changes = changes;
	for (i = 0; i < self->nr_vcpus; i++)
		ASSERT_EQ(0, pthread_create(&self->vcpus[i].thread, NULL,
					    vcpu, &self->vcpus[i]));
	ASSERT_EQ(0, pthread_create(&host_thread, NULL, run_host, a));
	if (changes)
		ASSERT_EQ(0, pthread_create(&change_thread, NULL, changes, a));
	while (!a->wrong && now() < end + 60 &&
	       (now() < end || !has_raced(self)))
		usleep(50000);
	a->stop = true;
	/* Stop a guest that spins. */
	set_policy(self->guest.vm, GMEM_POLICY_ALLOW);
	touch_write(self->guest.host + OFFSET + 4, 1);
	late = time(NULL) + PATIENCE;
	for (i = 0; i < self->nr_vcpus; i++)
		join_vcpu(&self->vcpus[i], late);
	join(a, host_thread, late, "the host's thread is late, seconds");
	if (changes)
		join(a, change_thread, late, "the changes are late, seconds");

	refused = last_seq(self->guest.vm) - refused;
	printf("# %lu commands, %llu lends, %lu rounds of the host, %lu failures\n",
	       a->commands, nr_lends(self), a->host_rounds, a->failures);
	EXPECT_EQ(0, a->wrong);
	EXPECT_EQ(refused, a->failures);
	/* Else nothing was raced for: lent once, and lent again. */
	EXPECT_TRUE(has_raced(self));
}

/* On one page there is no reason for a failure, except a short-lived pin. */
TEST_F(live_race, same_page)
{
	struct gmem_fault_info rows[GMEM_NR_FAULTS];
	int i, nr;

	self->arena.nr_units = 1;
	race(_metadata, self, run_vcpu, NULL);
	nr = get_faults(self->guest.vm, 0, rows, GMEM_NR_FAULTS, NULL);
	for (i = 0; i < nr; i++)
		if (rows[i].guest_addr >= DATA &&
		    rows[i].guest_addr < DATA + self->arena.unit)
			EXPECT_EQ(GMEM_FAULT_PINNED, rows[i].reason);
}

TEST_F(live_race, spin)
{
	self->arena.nr_units = 1;
	race(_metadata, self, spin_vcpu, NULL);
}

/* The policy changes, too. */
TEST_F(live_race, changes)
{
	self->arena.nr_units = UNITS;
	race(_metadata, self, run_vcpu, run_changes);
}

TEST_HARNESS_MAIN
