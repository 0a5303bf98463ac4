// SPDX-License-Identifier: GPL-2.0-only
/* How the kernel handles faults in a live window. */
#include "lib/fixture.h"

#define TRACING "/sys/kernel/tracing/"
#define EVENT TRACING "events/mmap_lock/mmap_lock_start_locking/"
#define GPA GIB(1)
#define UNITS 1024

FIXTURE(live)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u64 unit;
	__u64 size;
	__u8 *window;
};

FIXTURE_VARIANT(live)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANT(live, 4k, .provider = "live");

FIXTURE_SETUP(live)
{
	SETUP_VM_AND_MEM(UNITS, GMEM_POLICY_ALLOW);
	ASSERT_EQ(0, map_mem(self->vm, GPA, self->mem, 0, self->size,
			     LEND | RWX));
	self->window = map_window(self->vm, GPA, self->size,
				  PROT_READ | PROT_WRITE);
	ASSERT_NE(MAP_FAILED, self->window);
}

FIXTURE_TEARDOWN(live)
{
	munmap(self->window, self->size);
	TEARDOWN_VM_AND_MEM();
}

/* How many times this process locks its address space, while all is touched. */
static long touch_and_count_locks(FIXTURE_DATA(live) *self)
{
	char text[32];
	long locks = 0;
	FILE *trace;
	__u64 i;
	int c;

	snprintf(text, sizeof(text), "%d", getpid());
	if (write_file(TRACING "set_event_pid", text) ||
	    write_file(EVENT "enable", "1"))
		return -1;
	write_file(TRACING "trace", "");
	for (i = 0; i < self->size; i += self->unit)
		*(volatile __u8 *)(self->window + i) = 1;
	write_file(EVENT "enable", "0");
	trace = fopen(TRACING "trace", "re");
	while (trace && (c = fgetc(trace)) != EOF) {
		/* Lines that begin with '#' are no events. */
		locks += c != '#' && c != '\n';
		while (c != '\n' && c != EOF)
			c = fgetc(trace);
	}
	if (trace)
		fclose(trace);
	write_file(TRACING "set_event_pid", "");
	return locks;
}

/* Faults don't lock the address space, only the window's own VMA. */
TEST_F(live, faults_run_under_the_lock_of_the_vma)
{
	long locks;

	if (access(EVENT "enable", W_OK))
		SKIP(return, "the kernel doesn't trace its locks");
	locks = touch_and_count_locks(self);
	printf("# %d faults, %ld locks\n", UNITS, locks);
	ASSERT_LE(0, locks);
	/* Some are the program's own. */
	EXPECT_GT(UNITS / 4, locks);
	for (__u64 i = 0; i < self->size; i += self->unit)
		ASSERT_EQ('l', page_state(self->mem, i));
}

TEST_HARNESS_MAIN
