// SPDX-License-Identifier: GPL-2.0-only
/* Eventfds that a guest under Gunyah signals by writes to its devices. */
#include "lib/gunyah_function.h"

#include <pthread.h>

#define CODE GIB(4)
/* Nothing is bound there. */
#define DEVICE 0x10000000ULL
#define MATCH GMEM_GUNYAH_IOEVENTFD_DATAMATCH

#define BELL 5

/*
 * A piece of code that stores a value at an address. GUNYAH_EXEC runs it. The
 * values follow the code.
 */
struct store {
	__u32 code[8];
	__u64 addr;
	__u64 value;
};

static struct store store(__u64 addr, unsigned int len, __u64 value)
{
	/* strb, strh, str w5, [x4]; str x5, [x4] */
	const __u32 stores[] = {
		[1] = 0x39000085, [2] = 0x79000085,
		[4] = 0xb9000085, [8] = 0xf9000085,
	};

	return (struct store){
		.code = {
			0x58000104,		/* ldr x4, addr */
			0x58000125,		/* ldr x5, value */
			stores[len],
			gunyah_answer[0], gunyah_answer[1],
		},
		.addr = addr,
		.value = value,
	};
}

#define MAX_STORES ((int)(PAGE / sizeof(struct store)))

FIXTURE(ioeventfd)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	struct store *stores;
	int nr_stores;
	int fd;
	/* The exits of the last run, and the last of them. */
	int exits;
	struct {
		__u64 addr, data;
		__u32 len;
	} exit;
};

typedef FIXTURE_DATA(ioeventfd) self_t;

FIXTURE_SETUP(ioeventfd)
{
	SETUP_GUNYAH();
	ONLY_MONITOR();
	ASSERT_EQ(0, forget_bells(&self->el2));
	ASSERT_EQ(0, plan_bell(&self->el2, BELL, 0));
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
	self->mem = new_mem(PAGE, 0);
	ASSERT_LE(0, self->mem);
	self->stores = (void *)map_host(self->mem, 0, PAGE);
	ASSERT_NE(MAP_FAILED, self->stores);
	ASSERT_EQ(0, map_mem(self->guest.vm, CODE, self->mem, 0, PAGE,
			     LEND | RWX));
	self->fd = new_eventfd();
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(ioeventfd)
{
	forget_bells(&self->el2);
	gunyah_guest_close(&self->guest);
	munmap(self->stores, PAGE);
	close(self->mem);
	close(self->fd);
	TEARDOWN_GUNYAH(false);
}

/* Prepare a store of the guest, before its start. Returns its number. */
static int prepare(self_t *self, __u64 addr, unsigned int len, __u64 value)
{
	if (self->nr_stores == MAX_STORES)
		return -1;
	self->stores[self->nr_stores] = store(addr, len, value);
	return self->nr_stores++;
}

/* Handle an exit. 1: go on; 0: the guest has reported; or -errno. */
static int handle(self_t *self, const __u64 *words, int *at)
{
	struct gmem_gunyah_vcpu_run *run = self->guest.run;

	if (run->exit_reason != GMEM_GUNYAH_VCPU_EXIT_MMIO)
		return -EIO;
	if (run->mmio.phys_addr == GUNYAH_PORT) {
		if (run->mmio.is_write)
			return run->mmio.data[0] == GUNYAH_ANSWER ? 0 : -EPROTO;
		memcpy(run->mmio.data, &words[(*at)++], sizeof(*words));
		return 1;
	}
	self->exits++;
	self->exit.addr = run->mmio.phys_addr;
	self->exit.len = run->mmio.len;
	memcpy(&self->exit.data, run->mmio.data, sizeof(self->exit.data));
	return 1;
}

/* Let the guest make a store. 0 or -errno; the exits are counted. */
static int run_store(self_t *self, int number)
{
	const __u64 words[] = { GUNYAH_EXEC,
				CODE + number * sizeof(struct store) };
	int ret, at = 0;

	self->exits = 0;
	do {
		ret = err_of(ioctl(self->guest.vcpu, GMEM_GUNYAH_VCPU_RUN, 0));
		if (!ret)
			ret = handle(self, words, &at);
	} while (ret == 1);
	return ret;
}

static int add(self_t *self, __u64 addr, __u32 len, __u32 flags, __u64 data)
{
	return add_ioeventfd(self->guest.vm,
			     &(struct gmem_gunyah_fn_ioeventfd_arg){
				     .datamatch = data, .addr = addr,
				     .len = len, .fd = self->fd,
				     .flags = flags,
			     });
}

static int del(self_t *self, __u64 addr, __u32 len, __u32 flags, __u64 data)
{
	return remove_ioeventfd(self->guest.vm,
				&(struct gmem_gunyah_fn_ioeventfd_arg){
					.datamatch = data, .addr = addr,
					.len = len, .fd = -1, .flags = flags,
				});
}

TEST_F(ioeventfd, arguments)
{
	struct gmem_gunyah_fn_ioeventfd_arg arg = { .fd = self->fd };
	int vm = self->guest.vm;

	EXPECT_EQ(-EINVAL, add(self, DEVICE, 3, 0, 0));
	EXPECT_EQ(-EINVAL, add(self, DEVICE, 16, 0, 0));
	EXPECT_EQ(-EINVAL, add(self, DEVICE, 4, 2, 0));
	EXPECT_EQ(-EINVAL, add(self, DEVICE, 0, MATCH, 0));
	EXPECT_EQ(-EINVAL, add(self, ~0ULL, 4, 0, 0));
	/* A write of that length can't have that value. */
	EXPECT_EQ(-EINVAL, add(self, DEVICE, 1, MATCH, 0x100));
	EXPECT_EQ(-EINVAL, add(self, DEVICE, 4, MATCH, 1ULL << 32));
	EXPECT_EQ(-EINVAL, gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
					   GMEM_GUNYAH_FN_IOEVENTFD, &arg,
					   sizeof(arg) - 8));
	EXPECT_EQ(-EFAULT, gunyah_function(vm, GMEM_GUNYAH_ADD_FUNCTION,
					   GMEM_GUNYAH_FN_IOEVENTFD, NULL,
					   sizeof(arg)));
	arg.fd = -1;
	EXPECT_EQ(-EBADF, add_ioeventfd(vm, &arg));
	arg.fd = self->mem;
	EXPECT_EQ(-EINVAL, add_ioeventfd(vm, &arg));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 4, 0, 0));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 0, 0, 0));
	EXPECT_EQ(0, add(self, DEVICE, 8, MATCH, ~0ULL));
}

/* Two ioeventfds that a same write could match can't be there together. */
TEST_F(ioeventfd, overlaps)
{
	ASSERT_EQ(0, add(self, DEVICE, 4, 0, 0));
	EXPECT_EQ(-EEXIST, add(self, DEVICE, 4, 0, 0));
	EXPECT_EQ(-EEXIST, add(self, DEVICE, 4, MATCH, 1));
	EXPECT_EQ(-EEXIST, add(self, DEVICE, 0, 0, 0));
	EXPECT_EQ(0, add(self, DEVICE, 2, MATCH, 1));
	EXPECT_EQ(-EEXIST, add(self, DEVICE, 2, MATCH, 1));
	EXPECT_EQ(-EEXIST, add(self, DEVICE, 2, 0, 0));
	EXPECT_EQ(0, add(self, DEVICE, 2, MATCH, 2));
	EXPECT_EQ(0, add(self, DEVICE + 4, 0, 0, 0));
	EXPECT_EQ(-EEXIST, add(self, DEVICE + 4, 8, 0, 0));
	/* The first byte counts, not the bytes behind it. */
	EXPECT_EQ(0, add(self, DEVICE + 1, 8, 0, 0));
}

static const unsigned int lengths[] = { 1, 2, 4, 8 };

/* Each length, by an ioeventfd of that length, of another one, and of any. */
TEST_F(ioeventfd, lengths)
{
	const __u64 value = 0x1122334455667788;
	int exact[4], any[4], other[4], i;

	for (i = 0; i < 4; i++) {
		exact[i] = prepare(self, DEVICE, lengths[i], value);
		any[i] = prepare(self, DEVICE + 8, lengths[i], value);
		other[i] = prepare(self, DEVICE + 16, lengths[i], value);
	}
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, add(self, DEVICE + 8, 0, 0, 0));
	for (i = 0; i < 4; i++) {
		const unsigned int next = lengths[(i + 1) % 4];

		ASSERT_EQ(0, add(self, DEVICE, lengths[i], 0, 0));
		ASSERT_EQ(0, add(self, DEVICE + 16, next, 0, 0));
		EXPECT_EQ(0, run_store(self, exact[i]));
		EXPECT_EQ(0, self->exits);
		EXPECT_EQ(1, eventfd_count(self->fd));
		EXPECT_EQ(0, run_store(self, any[i]));
		EXPECT_EQ(0, self->exits);
		EXPECT_EQ(1, eventfd_count(self->fd));
		EXPECT_EQ(0, run_store(self, other[i]));
		EXPECT_EQ(1, self->exits);
		EXPECT_EQ(DEVICE + 16, self->exit.addr);
		EXPECT_EQ(lengths[i], self->exit.len);
		EXPECT_EQ(0, memcmp(&value, &self->exit.data, lengths[i]));
		EXPECT_EQ(0, eventfd_count(self->fd));
		ASSERT_EQ(0, del(self, DEVICE, lengths[i], 0, 0));
		ASSERT_EQ(0, del(self, DEVICE + 16, next, 0, 0));
	}
}

/* Only the bytes that are written are compared. */
TEST_F(ioeventfd, values)
{
	const __u64 value = 0x1122334455667788;
	const int fds[] = { new_eventfd(), new_eventfd() };
	int write[4], i;

	for (i = 0; i < 4; i++)
		write[i] = prepare(self, DEVICE, lengths[i], value);
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	for (i = 0; i < 4; i++) {
		__u64 mask = lengths[i] == 8 ? ~0ULL :
					       (1ULL << 8 * lengths[i]) - 1;
		struct gmem_gunyah_fn_ioeventfd_arg args[] = {
			{ .addr = DEVICE, .len = lengths[i], .fd = fds[0],
			  .flags = MATCH, .datamatch = value & mask },
			{ .addr = DEVICE, .len = lengths[i], .fd = fds[1],
			  .flags = MATCH, .datamatch = (value & mask) ^ 1 },
		};

		ASSERT_EQ(0, add_ioeventfd(self->guest.vm, &args[1]));
		EXPECT_EQ(0, run_store(self, write[i]));
		EXPECT_EQ(1, self->exits);
		ASSERT_EQ(0, add_ioeventfd(self->guest.vm, &args[0]));
		EXPECT_EQ(0, run_store(self, write[i]));
		EXPECT_EQ(0, self->exits);
		EXPECT_EQ(1, eventfd_count(fds[0]));
		EXPECT_EQ(0, eventfd_count(fds[1]));
	}
	close(fds[0]);
	close(fds[1]);
}

TEST_F(ioeventfd, removal)
{
	int write = prepare(self, DEVICE, 4, 7);

	ASSERT_EQ(0, add(self, DEVICE, 4, MATCH, 7));
	ASSERT_EQ(0, add(self, DEVICE, 4, MATCH, 8));
	ASSERT_EQ(0, add(self, DEVICE, 2, 0, 0));
	ASSERT_EQ(0, add(self, DEVICE + 8, 4, 0, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 4, 0, 0));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 4, MATCH, 9));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 8, MATCH, 7));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(0, del(self, DEVICE, 4, MATCH, 7));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(1, self->exits);
	EXPECT_EQ(1, eventfd_count(self->fd));

	/* The address alone names all that are there. */
	EXPECT_EQ(0, del(self, DEVICE, 0, 0, 0));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 4, MATCH, 8));
	EXPECT_EQ(-ENOENT, del(self, DEVICE, 2, 0, 0));
	EXPECT_EQ(0, del(self, DEVICE + 8, 4, 0, 0));
	EXPECT_EQ(0, add(self, DEVICE, 0, 0, 0));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(0, del(self, DEVICE, 0, 0, 0));
}

/* The write is taken, though nobody can see the signal. */
TEST_F(ioeventfd, eventfd_goes_away)
{
	int write = prepare(self, DEVICE, 4, 7);

	ASSERT_EQ(0, add(self, DEVICE, 4, 0, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(0, del(self, DEVICE, 4, 0, 0));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(1, self->exits);
}

/* Reads return to the VMM, as does a write where memory is missing elsewhere. */
TEST_F(ioeventfd, takes_no_reads)
{
	const __u64 words[] = { GUNYAH_READ, DEVICE };
	int at = 0;

	ASSERT_EQ(0, add(self, DEVICE, 0, 0, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	do {
		ASSERT_EQ(0, err_of(ioctl(self->guest.vcpu,
					  GMEM_GUNYAH_VCPU_RUN, 0)));
		handle(self, words, &at);
	} while (!self->exits);
	EXPECT_EQ(DEVICE, self->exit.addr);
	EXPECT_EQ(0, self->guest.run->mmio.is_write);
	EXPECT_EQ(0, eventfd_count(self->fd));
}

/* Where memory is bound, the guest writes to that. */
TEST_F(ioeventfd, memory_comes_first)
{
	int write = prepare(self, GIB(2), 4, 0x77);
	int mem = new_mem(PAGE, 0);

	ASSERT_EQ(0, map_mem(self->guest.vm, GIB(2), mem, 0, PAGE,
			     SHARE | RWX));
	ASSERT_EQ(0, add(self, GIB(2), 0, 0, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(0, eventfd_count(self->fd));
	EXPECT_EQ(0x77, gunyah_read(&self->guest, GIB(2)));
	close(mem);
}

TEST_F(ioeventfd, many_and_the_limit)
{
	const __u64 stride = 24;
	int first = prepare(self, DEVICE, 4, 0);
	int middle = prepare(self, DEVICE + 500 * stride, 4, 0);
	int last = prepare(self, DEVICE +
			   (GMEM_GUNYAH_MAX_IOEVENTFDS - 1) * stride, 4, 0);
	int none = prepare(self, DEVICE + 500 * stride + 4, 4, 0);
	__u64 i, at;

	for (i = 0; i < GMEM_GUNYAH_MAX_IOEVENTFDS; i++) {
		/* In no order: 365 has no common divisor with 1,024. */
		at = i * 365 % GMEM_GUNYAH_MAX_IOEVENTFDS;
		ASSERT_EQ(0, add(self, DEVICE + at * stride, 4, 0, 0));
	}
	EXPECT_EQ(-ENOSPC, add(self, DEVICE + 4, 4, 0, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, run_store(self, first));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(0, run_store(self, middle));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(0, run_store(self, last));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(3, eventfd_count(self->fd));
	EXPECT_EQ(0, run_store(self, none));
	EXPECT_EQ(1, self->exits);
	EXPECT_EQ(0, del(self, DEVICE + 500 * stride, 4, 0, 0));
	EXPECT_EQ(0, run_store(self, middle));
	EXPECT_EQ(1, self->exits);
	EXPECT_EQ(0, add(self, DEVICE + 4, 4, 0, 0));
}

struct changer {
	pthread_t thread;
	self_t *self;
	volatile bool stop;
};

static void *change_loop(void *arg)
{
	struct changer *changer = arg;

	while (!changer->stop) {
		add(changer->self, DEVICE, 4, 0, 0);
		add(changer->self, DEVICE + 64, 4, 0, 0);
		del(changer->self, DEVICE, 4, 0, 0);
		del(changer->self, DEVICE + 64, 0, 0, 0);
	}
	return NULL;
}

/* Each write goes to the eventfd or to the VMM, and none to both. */
TEST_F(ioeventfd, changes_while_the_guest_runs)
{
	struct changer changer = { .self = self };
	int write = prepare(self, DEVICE, 4, 7), i, exits = 0;
	const int writes = 500;

	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, pthread_create(&changer.thread, NULL, change_loop,
				    &changer));
	for (i = 0; i < writes; i++) {
		ASSERT_EQ(0, run_store(self, write));
		exits += self->exits;
	}
	changer.stop = true;
	pthread_join(changer.thread, NULL);
	EXPECT_EQ(writes, exits + eventfd_count(self->fd));
}

/* A guest that rings its own doorbell, without its VMM. */
TEST_F(ioeventfd, and_irqfd)
{
	int write = prepare(self, DEVICE, 4, 7);

	ASSERT_EQ(0, add(self, DEVICE, 4, 0, 0));
	ASSERT_EQ(0, add_irqfd(self->guest.vm, self->fd, BELL, 0));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(0, run_store(self, write));
	EXPECT_EQ(0, self->exits);
	EXPECT_EQ(2, bell_state(&self->el2,
				fd_number(self->guest.vm, "gmem-vmid:"),
				BELL).asserted);
}

TEST_HARNESS_MAIN
