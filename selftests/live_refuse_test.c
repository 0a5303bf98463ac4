// SPDX-License-Identifier: GPL-2.0-only
/*
 * An access through a live window that is refused ends KVM_RUN at once, and is
 * recorded. Afterwards nothing tries again by itself.
 */
#include "lib/kvm_guest.h"
#include "lib/pin.h"

#include <dirent.h>

#define OFFSET MIB(4)

FIXTURE(live_refuse)
{
	struct gmem_stats before;
	struct kvm_guest guest;
	__u64 page;
	int pin[2];
};

FIXTURE_VARIANT(live_refuse)
{
	__u64 mem_flags;
	bool irqchip;
};

VARIANT(live_refuse, 4k);
VARIANT(live_refuse, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);
VARIANT(live_refuse, irqchip_4k, .irqchip = true);
VARIANT(live_refuse, irqchip_2m, .irqchip = true,
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_refuse)
{
	SKIP_UNLESS_LIVE_KVM(variant);
	ASSERT_EQ(0, get_stats(&self->before));
	self->page = variant->mem_flags ? HUGE_PAGE : PAGE;
	self->pin[0] = self->pin[1] = -1;
	ASSERT_EQ(0, kvm_guest_open(&self->guest, "live", variant->mem_flags,
				    variant->irqchip));
}

FIXTURE_TEARDOWN(live_refuse)
{
	pin_close(self->pin);
	kvm_guest_close(&self->guest);
	EXPECT_TRUE(stats_settle(&self->before));
}

/* CPU time of the kernel's workers, in seconds. */
static double workers_time(void)
{
	char path[300], name[32];
	unsigned long user, system, sum = 0;
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	FILE *stat;

	while (proc && (entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		stat = fopen(path, "re");
		if (stat && fscanf(stat, "%*d (%31[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				   name, &user, &system) == 3 &&
		    !strncmp(name, "kworker", 7))
			sum += user + system;
		if (stat)
			fclose(stat);
	}
	if (proc)
		closedir(proc);
	return (double)sum / sysconf(_SC_CLK_TCK);
}

static void ends_at_once(struct __test_metadata *_metadata,
			 FIXTURE_DATA(live_refuse) *self,
			 const FIXTURE_VARIANT(live_refuse) *variant,
			 enum kvm_agent_command command, __u32 reason)
{
	struct kvm_guest *guest = &self->guest;
	__u64 at = DATA + self->page - PAGE;
	struct gmem_fault_info row;
	double begin, busy;
	int i;

	begin = now();
	EXPECT_EQ(-EFAULT, kvm_agent_command(&guest->agent, command, at, 1,
					     NULL));
	EXPECT_GT(2, now() - begin);
	row = last_fault(guest->vm);
	EXPECT_EQ(reason, row.reason);
	EXPECT_EQ(at, row.guest_addr);
	EXPECT_EQ(command == KVM_AGENT_WRITE ? GMEM_ACCESS_WRITE :
					       GMEM_ACCESS_READ, row.access);
	EXPECT_EQ(1, row.count);

	/* Only then, KVM has workers of its own. They may have other work. */
	for (i = 0; i < 5 && variant->irqchip; i++) {
		begin = now();
		busy = workers_time();
		usleep(300000);
		busy = workers_time() - busy;
		if (busy < (now() - begin) / 4)
			break;
	}
	EXPECT_GT(5, i);
	EXPECT_EQ(row.seq, last_fault(guest->vm).seq);
}

TEST_F(live_refuse, unbound)
{
	ends_at_once(_metadata, self, variant, KVM_AGENT_READ,
		     GMEM_FAULT_UNBOUND);
	ASSERT_EQ(0, kvm_agent_reset(&self->guest.agent));
	ends_at_once(_metadata, self, variant, KVM_AGENT_WRITE,
		     GMEM_FAULT_UNBOUND);
}

/* The page isn't there yet. Else KVM_RUN ends with KVM_EXIT_MMIO. */
TEST_F(live_refuse, unpermitted)
{
	ASSERT_EQ(0, kvm_map(&self->guest, DATA, OFFSET, self->page,
			     LEND | RX));
	ends_at_once(_metadata, self, variant, KVM_AGENT_WRITE,
		     GMEM_FAULT_PERM);
}

/* Once the pin is gone, the access succeeds. */
TEST_F(live_refuse, pinned_by_a_ring)
{
	const enum pin_kind kind = PIN_URING;
	struct kvm_guest *guest = &self->guest;
	double end;
	int byte;

	if (pin_open(self->pin, kind))
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, touch_write(guest->host + OFFSET, 66));
	ASSERT_EQ(0, pin(self->pin, kind, guest->host + OFFSET));
	ASSERT_EQ(0, kvm_map(guest, DATA, OFFSET, self->page, LEND | RWX));
	ends_at_once(_metadata, self, variant, KVM_AGENT_READ,
		     GMEM_FAULT_PINNED);
	EXPECT_EQ('h', page_state(guest->mem, OFFSET));

	ASSERT_EQ(0, unpin(self->pin, kind, &byte));
	end = now() + 5;
	while (kvm_agent_resume(&guest->agent, NULL) && now() < end)
		usleep(1000);
	EXPECT_EQ('l', page_state(guest->mem, OFFSET));
}

TEST_HARNESS_MAIN
