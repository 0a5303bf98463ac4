// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest never reaches a page that isn't its own. The page table entries of a
 * live window hold no references, so a forgotten zap would be a use after free.
 *
 * Two guests watch a range all the time, while the host binds, trims, unbinds,
 * frees, takes back and hands pages over. The file's page N holds 0 or a word that
 * says N; the test module fills pages that it frees with GMEM_TEST_FREED. The
 * guests may read nothing else than 0 and N.
 */
#include "lib/kvm_guest.h"
#include "lib/random.h"

#define NR_GUESTS 2
#define OFFSET MIB(8)
#define TAG 0x7a600000

/*
 * Code for KVM_AGENT_EXEC, behind the agent's: looks at each page of the range
 * once, and reports 0, or 1 if page N of it has something else than 0 and TAG + N.
 */
#define WATCH 0x2000
#define NEXT (WATCH + 15)
#define RIGHT (WATCH + 25)
#define FOUND 0x3000
static const __u8 watch_code[] = {
	0xbf, 0, 0, 0, 0,		/* mov edi, DATA */
	0xb9, 0, 0, 0, 0,		/* mov ecx, pages */
	0xbb, 0, 0, 0, 0,		/* mov ebx, TAG */
	/* NEXT: */
	0x8b, 0x07,			/* mov eax, [edi] */
	0x85, 0xc0,			/* test eax, eax */
	0x74, 0x04,			/* je RIGHT */
	0x39, 0xd8,			/* cmp eax, ebx */
	0x75, 0x0d,			/* jne wrong */
	/* RIGHT: */
	0x81, 0xc7, 0x00, 0x10, 0, 0,	/* add edi, PAGE */
	0x43,				/* inc ebx */
	0xe2, 0xed,			/* loop NEXT */
	0x30, 0xc0,			/* xor al, al */
	0xff, 0xe5,			/* jmp ebp: "report" */
	/* wrong: */
	0xa3, 0, 0, 0, 0,		/* mov [FOUND], eax */
	0x89, 0x3d, 0, 0, 0, 0,		/* mov [FOUND + 4], edi */
	0xb0, 0x01,			/* mov al, 1 */
	0xff, 0xe5,			/* jmp ebp */
};

static void put_u32(__u8 *p, __u32 value)
{
	memcpy(p, &value, sizeof(value));
}

static void install_watch(struct kvm_guest *guest, __u64 size)
{
	__u8 *code = guest->host + WATCH;

	memcpy(code, watch_code, sizeof(watch_code));
	put_u32(code + 1, DATA);
	put_u32(code + 6, size / PAGE);
	put_u32(code + 11, TAG);
	put_u32(code + sizeof(watch_code) - 14, FOUND);
	put_u32(code + sizeof(watch_code) - 8, FOUND + 4);
}

struct arena {
	/* Guest 0 has the guestmem that both watch. */
	struct kvm_guest guests[NR_GUESTS];
	__u64 unit;
	/* The range that the guests watch. */
	__u64 size;
	__u64 random;
	volatile bool stop;
	volatile int wrong;
	volatile unsigned long rounds;
};

struct watcher {
	struct arena *arena;
	struct kvm_guest *guest;
	pthread_t thread;
};

/* Skip a page that the guest can't read. */
static int skip_page(struct kvm_agent *agent)
{
	struct kvm_regs regs;

	if (ioctl(agent->vcpu, KVM_GET_REGS, &regs))
		return -errno;
	/* Somebody may hold a page of the code for a moment: just go on. */
	if (regs.rip != NEXT)
		return 0;
	regs.rip = RIGHT;
	return ioctl(agent->vcpu, KVM_SET_REGS, &regs) ? -errno : 0;
}

static void *watch(void *arg)
{
	struct watcher *w = arg;
	struct arena *a = w->arena;
	struct kvm_agent *agent = &w->guest->agent;
	__u8 report;
	int err;

	while (!a->stop && !a->wrong) {
		report = 0;
		err = kvm_agent_command(agent, KVM_AGENT_EXEC, WATCH, 0,
					&report);
		while (err == -EFAULT && !kvm_is_astray(agent) &&
		       !skip_page(agent))
			err = kvm_agent_resume(agent, &report);
		if ((err == -EFAULT && kvm_is_astray(agent)) ||
		    kvm_emulator_failed(agent, err)) {
			kvm_agent_reset(agent);
			continue;
		}
		if (err)
			printf("# KVM_RUN: %d, exit %u\n", err,
			       agent->exit_reason);
		if (err || report)
			a->wrong++;
		__sync_fetch_and_add(&a->rounds, 1);
	}
	return NULL;
}

static int bind_range(struct kvm_guest *guest, int mem, __u64 at, __u64 size,
		      __u32 access)
{
	return map_mem(guest->vm, DATA + at, mem, OFFSET + at, size,
		       access | RWX);
}

static void write_tag(volatile void *p, __u32 tag)
{
	if (!sigsetjmp(touch_env, 0)) {
		touch_armed = 1;
		*(volatile __u32 *)p = tag;
	}
	touch_armed = 0;
}

/* Any guest, any range, any change. */
static void change(struct arena *a)
{
	__u64 nr = a->size / a->unit;
	__u64 at = roll(&a->random, nr) * a->unit;
	__u64 size = (1 + roll(&a->random, nr - at / a->unit)) * a->unit;
	struct kvm_guest *guest = &a->guests[roll(&a->random, NR_GUESTS)];
	int mem = a->guests[0].mem;
	__u64 i;

	switch (roll(&a->random, 8)) {
	case 0:
	case 1:
		unmap_range(guest->vm, DATA + at, size, NULL);
		break;
	case 2:
		mem_alloc(mem, PUNCH, OFFSET + at, size);
		break;
	case 3:
		reclaim_range(guest->vm, DATA + at, size, NULL);
		break;
	case 4:
		/* A touch of the host takes the page back. */
		for (i = at; i < at + size; i += PAGE)
			write_tag(a->guests[0].host + OFFSET + i,
				  TAG + i / PAGE);
		break;
	case 5:
		/* Hand the range over. */
		for (i = 0; i < NR_GUESTS; i++)
			unmap_range(a->guests[i].vm, DATA + at, size, NULL);
		bind_range(guest, mem, at, size, LEND);
		break;
	default:
		bind_range(guest, mem, at, size,
			   roll(&a->random, 2) ? LEND : SHARE);
	}
}

FIXTURE(live_freed)
{
	struct gmem_stats before;
	struct arena arena;
};

FIXTURE_VARIANT(live_freed)
{
	__u64 mem_flags;
};

VARIANT(live_freed, 4k);
VARIANT(live_freed, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_freed)
{
	struct arena *a = &self->arena;
	int i;

	SKIP_UNLESS_LIVE_KVM(variant);
	if (!have_provider("mock"))
		SKIP(return, "the module isn't built for tests");
	ASSERT_EQ(0, get_stats(&self->before));
	a->unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	a->size = variant->mem_flags ? 2 * HUGE_PAGE : 64 * PAGE;
	a->random = time(NULL);
	for (i = 0; i < NR_GUESTS; i++) {
		ASSERT_EQ(0, kvm_guest_open(&a->guests[i], "live",
					    variant->mem_flags, false));
		install_watch(&a->guests[i], a->size);
	}
}

FIXTURE_TEARDOWN(live_freed)
{
	int i;

	for (i = 0; i < NR_GUESTS; i++)
		kvm_guest_close(&self->arena.guests[i]);
	EXPECT_TRUE(stats_settle(&self->before));
}

TEST_F(live_freed, guest_never_sees_a_freed_page)
{
	double end = now() + env_uint("GMEM_RACE_SECONDS", 3);
	struct watcher watchers[NR_GUESTS];
	struct arena *a = &self->arena;
	unsigned long changes = 0;
	__u32 found[2];
	int i;

	for (i = 0; i < NR_GUESTS; i++) {
		watchers[i].arena = a;
		watchers[i].guest = &a->guests[i];
		ASSERT_EQ(0, pthread_create(&watchers[i].thread, NULL, watch,
					    &watchers[i]));
	}
	while (now() < end && !a->wrong) {
		change(a);
		changes++;
		if (!roll(&a->random, 4))
			usleep(roll(&a->random, 2000));
	}
	a->stop = true;
	for (i = 0; i < NR_GUESTS; i++)
		pthread_join(watchers[i].thread, NULL);
	for (i = 0; i < NR_GUESTS; i++) {
		memcpy(found, a->guests[i].host + FOUND, sizeof(found));
		if (found[1])
			printf("# guest %d: %#x at %#x\n", i, found[0],
			       found[1]);
	}
	printf("# %lu changes, %lu rounds of the guests\n", changes, a->rounds);
	EXPECT_EQ(0, a->wrong);
	EXPECT_LT(10, changes);
	EXPECT_LT(0, a->rounds);
}

TEST_HARNESS_MAIN
