// SPDX-License-Identifier: GPL-2.0-only
/*
 * The Resource Manager's device comes and goes at any time, in several threads
 * at once, and with it a second device of the same node: one of them has the
 * queues.
 */
#include "lib/gunyah_fixture.h"

#include <pthread.h>
#include <sys/syscall.h>

#define LENT GIB(4)
#define MODULE "gmem.ko"

/* A thread that repeats @fn until @stop is set. */
struct loop {
	pthread_t thread;
	bool (*fn)(struct loop *loop);
	const struct el2 *el2;
	int mem;
	/* The width of a guest's address space. */
	__u32 bits;
	volatile bool stop;
	/* The number of calls that did what they are for. */
	volatile unsigned long done;
	/* The number of calls with an unexpected result. */
	unsigned long odd;
};

static void *repeat(void *arg)
{
	struct loop *loop = arg;

	while (!loop->stop)
		loop->done += loop->fn(loop);
	return NULL;
}

static bool probe(struct loop *loop)
{
	return !ioctl(loop->el2->fd, EL2_IOC_BIND);
}

static bool remove_device(struct loop *loop)
{
	return !ioctl(loop->el2->fd, EL2_IOC_UNBIND);
}

static bool twin(struct loop *loop)
{
	return !ioctl(loop->el2->fd, EL2_IOC_TWIN);
}

/* A VM that has the connection has its limits, too. */
static bool vm_has_limits(struct loop *loop)
{
	int vm = new_vm("gunyah", GMEM_POLICY_ALLOW);

	if (vm < 0)
		return false;
	loop->odd += map_mem(vm, 1ULL << loop->bits, loop->mem, 0, PAGE,
			     LEND | RWX) != -EINVAL;
	close(vm);
	return true;
}

/* A VM that got the connection has it until its end. */
static bool guest_lives(struct loop *loop)
{
	struct gunyah_guest guest;
	int err;

	err = gunyah_guest_open(&guest, GMEM_POLICY_ALLOW);
	if (guest.vm < 0)
		goto close_guest;
	if (!err)
		err = map_mem(guest.vm, LENT, loop->mem, 0, PAGE, LEND | RWX);
	if (!err)
		err = gunyah_guest_start(&guest);
	if (!err && gunyah_read(&guest, LENT) != 0x43)
		err = -EIO;
	loop->odd += err != 0;
close_guest:
	gunyah_guest_close(&guest);
	return !err;
}

/*
 * Run the loops beside one another for some seconds, and on until each has done
 * its work once.
 */
static bool run_loops(struct loop *loops, unsigned int nr,
		      const struct el2 *el2)
{
	double begin = now(), end = begin + env_uint("GMEM_RACE_SECONDS", 5);
	unsigned int i;
	bool all;

	for (i = 0; i < nr; i++) {
		loops[i].el2 = el2;
		if (pthread_create(&loops[i].thread, NULL, repeat, &loops[i]))
			abort();
	}
	do {
		usleep(10000);
		for (i = 0, all = true; i < nr; i++)
			all &= loops[i].done > 0;
	} while (now() < end || (!all && now() < begin + 120));
	for (i = 0; i < nr; i++)
		loops[i].stop = true;
	for (i = 0; i < nr; i++)
		pthread_join(loops[i].thread, NULL);
	for (i = 0; i < nr; i++)
		printf("# thread %u: %lu times, %lu odd\n", i, loops[i].done,
		       loops[i].odd);
	return all;
}

/* Bind the device again, once the last user of the queues is gone. */
static bool bind_device(const struct el2 *el2)
{
	double end = now() + 60;

	do {
		if (!ioctl(el2->fd, EL2_IOC_BIND))
			return true;
		usleep(10000);
	} while (now() < end);
	return false;
}

FIXTURE(device)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct el2 el2;
	int mem;
};

FIXTURE_SETUP(device)
{
	__u8 *host;

	SETUP_GUNYAH();
	ONLY_MONITOR();
	self->mem = new_mem(PAGE, 0);
	host = map_host(self->mem, 0, PAGE);
	ASSERT_NE(MAP_FAILED, host);
	*host = 0x43;
	munmap(host, PAGE);
}

FIXTURE_TEARDOWN(device)
{
	close(self->mem);
	TEARDOWN_GUNYAH(false);
}

/*
 * Two devices, probed and removed at once, while VMs come and go. The driver
 * may have either device, never both.
 */
TEST_F(device, probes_and_removals_at_once)
{
	struct loop loops[] = {
		{ .fn = guest_lives }, { .fn = vm_has_limits }, { .fn = probe },
		{ .fn = probe }, { .fn = remove_device }, { .fn = twin },
		{ .fn = twin },
	};
	struct gmem_info info;
	unsigned int i;

	ASSERT_TRUE(find_provider("gunyah", &info));
	for (i = 0; i < 2; i++) {
		loops[i].bits = info.max_guest_addr_bits;
		loops[i].mem = self->mem;
		/* The first guest also chooses the place of the others. */
		ASSERT_TRUE(loops[i].fn(&loops[i]));
	}
	EXPECT_TRUE(run_loops(loops, ARRAY_SIZE(loops), &self->el2));
	ASSERT_TRUE(bind_device(&self->el2));
	EXPECT_TRUE(have_provider("gunyah"));
	EXPECT_TRUE(guest_lives(&loops[0]));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, loops[i].odd);
}

static int load_module(void)
{
	int fd = open(MODULE, O_RDONLY | O_CLOEXEC), err;

	err = err_of(syscall(SYS_finit_module, fd, "gunyah_lend_mapped=1", 0));
	close(fd);
	return err;
}

/* Unload, and load for a while. */
static bool reload(struct loop *loop)
{
	bool loaded;

	(void)loop;
	syscall(SYS_delete_module, "gmem", O_NONBLOCK);
	loaded = !load_module();
	usleep(20000);
	return loaded;
}

/* The module itself comes and goes as well. */
TEST(module_beside_its_devices)
{
	struct loop loops[] = {
		{ .fn = reload }, { .fn = probe }, { .fn = remove_device },
		{ .fn = twin },
	};
	struct el2 el2;

	if (access(MODULE, R_OK))
		SKIP(return, "no " MODULE " in this folder");
	if (!el2_open(&el2))
		SKIP(return, "only the monitor can show this");
	EXPECT_TRUE(run_loops(loops, ARRAY_SIZE(loops), &el2));

	/* A module that is loaded beside the twin makes no device of its own. */
	EXPECT_TRUE(reload(NULL));
	ASSERT_TRUE(bind_device(&el2));
	EXPECT_TRUE(have_provider("gunyah"));
	el2_close(&el2);
}

TEST_HARNESS_MAIN
