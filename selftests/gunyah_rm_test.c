// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls and accesses while Gunyah's Resource Manager is slow or gives senseless
 * answers: neither lets the host have a page that a guest has.
 */
#include "lib/gunyah_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "el2/rpc_util.h"

#define LENT GIB(4)
#define PAGES 64
#define SIZE (PAGES * PAGE)

#define NO_HANDLE 0xffffffff

FIXTURE(rm)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	__u8 *host;
	/* The test may have lost pages. */
	bool lossy;
};

typedef FIXTURE_DATA(rm) self_t;

/* A guest that isn't started, with a pattern in its memory. */
static int open_guest(self_t *self)
{
	unsigned int i;
	int err;

	self->mem = new_mem(SIZE, 0);
	self->host = map_host(self->mem, 0, SIZE);
	if (self->host == MAP_FAILED)
		return -errno;
	for (i = 0; i < PAGES; i++)
		self->host[i * PAGE] = 0x40 + i;
	err = gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW);
	return err ?: map_mem(self->guest.vm, LENT, self->mem, 0, SIZE,
			      LEND | RWX);
}

static void close_guest(self_t *self)
{
	munmap(self->host, SIZE);
	gunyah_guest_close(&self->guest);
	close(self->mem);
}

FIXTURE_SETUP(rm)
{
	SETUP_GUNYAH();
	ASSERT_EQ(0, open_guest(self));
}

FIXTURE_TEARDOWN(rm)
{
	close_guest(self);
	TEARDOWN_GUNYAH(self->lossy);
}

/* ---- answers ---- */

/*
 * The Resource Manager lends a page, but its reply has no valid handle: the
 * host never gets the page back, not even at the end.
 */
TEST_F(rm, lent_without_a_handle)
{
	const __u64 answers[] = { EL2_ANY, NO_HANDLE };
	/* The pages of the image. */
	const __u64 image = has_extents(&self->el2) ? GUNYAH_DTB_PAGES :
						      GUNYAH_AGENT_PAGES;
	struct gmem_stats stats;
	unsigned int i;

	ONLY_MONITOR();
	self->lossy = true;
	for (i = 0; i < 2; i++) {
		el2_rule(&self->el2, EL2_RULE_RPC_ANSWER, RM_MEM_LEND, 1,
			 answers[i]);
		EXPECT_EQ(-EIO, gunyah_guest_start(&self->guest));
		EXPECT_EQ('l', page_state(self->guest.agent_mem, PAGE));
		close_guest(self);
		ASSERT_EQ(0, get_stats(&stats));
		EXPECT_EQ(self->before.leaked_pages + (i + 1) * image,
			  stats.leaked_pages);
		EXPECT_EQ(self->el2_before.pages + EL2_PAGES((i + 1) * image),
			  el2_stats(&self->el2).pages);
		ASSERT_EQ(0, open_guest(self));
	}
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0x43, gunyah_read(&self->guest, LENT + 3 * PAGE));
}

/*
 * At the end, the module asks once for each parcel: a refusal counts for all
 * its pages.
 */
TEST_F(rm, end_asks_once_for_a_parcel)
{
	const __u32 messages[] = { RM_MEM_RECLAIM, RM_VM_RESET };
	struct gmem_stats stats;
	unsigned int i;
	__u64 rpcs;

	ONLY_MONITOR();
	self->lossy = true;
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, gunyah_guest_start(&self->guest));
		EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
						     GUNYAH_PSCI_OFF, 0, 0,
						     NULL));
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR, messages[i],
			1, RM_DENIED, 10000);
		rpcs = el2_stats(&self->el2).rpcs;
		close_guest(self);
		EXPECT_GT(20, el2_stats(&self->el2).rpcs - rpcs);
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
		ASSERT_EQ(0, get_stats(&stats));
		EXPECT_EQ(EL2_PAGES(stats.leaked_pages -
				    self->before.leaked_pages),
			  el2_stats(&self->el2).pages - self->el2_before.pages);
		ASSERT_EQ(0, open_guest(self));
	}
}

/*
 * If the Resource Manager doesn't answer, close() doesn't wait for each page,
 * and not for ever. When it answers again, the memory comes back.
 */
TEST_F(rm, end_waits_once_for_a_reply)
{
	double start;

	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "200"));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_LOSE_REPLY, RM_MEM_RECLAIM,
		1, 0, 10000);
	start = now();
	close_guest(self);
	EXPECT_GT(20, now() - start);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_TRUE(el2_settles(&self->el2, &self->el2_before));
	ASSERT_EQ(0, open_guest(self));
}

/* ---- others, meanwhile ---- */

struct start {
	pthread_t thread;
	struct gunyah_guest *guest;
	int ret;
};

static void *start_thread(void *arg)
{
	struct start *start = arg;

	start->ret = gunyah_guest_start(start->guest);
	return NULL;
}

/*
 * Let another thread start the guest; return when the Resource Manager has
 * handled @message.
 */
static int start_until(self_t *self, struct start *start, __u32 message)
{
	__u64 hits = el2_stats(&self->el2).rule_hits;
	double end = now() + 60;
	int err;

	el2_rule(&self->el2, EL2_RULE_RPC_DELAY, message, 1, 1000);
	start->guest = &self->guest;
	err = pthread_create(&start->thread, NULL, start_thread, start);
	while (!err && el2_stats(&self->el2).rule_hits == hits) {
		if (now() > end)
			return -ETIME;
		usleep(1000);
	}
	return err;
}

/*
 * With extents, the image's parcel becomes the guest's during RM_VM_START. An
 * access of the host to one of its pages has to wait for the result.
 */
TEST_F(rm, image_touched_while_vm_starts)
{
	struct start start;
	__u8 *agent;

	ONLY_MONITOR();
	if (!has_extents(&self->el2))
		SKIP(return, "parcels: the guest keeps its image until its end");
	agent = map_host(self->guest.agent_mem, 0, GUNYAH_AGENT_SIZE);
	ASSERT_NE(MAP_FAILED, agent);
	ASSERT_EQ(0, start_until(self, &start, RM_VM_START));
	/* The first byte of the magic number. */
	EXPECT_EQ(DT_MAGIC >> 24, peek(agent + PAGE));
	ASSERT_EQ(0, pthread_join(start.thread, NULL));
	EXPECT_EQ(0, start.ret);
	EXPECT_EQ('h', page_state(self->guest.agent_mem, PAGE));
	EXPECT_EQ(0x43, gunyah_read(&self->guest, LENT + 3 * PAGE));
	munmap(agent, GUNYAH_AGENT_SIZE);
}

/*
 * The host touches a page of the image before RM_VM_START. With extents, the
 * access has to wait for that message: the parcel, without the page, would be
 * no image, and its rest would never come back.
 */
TEST_F(rm, image_taken_apart)
{
	struct gmem_gunyah_dtb_config dtb = { LENT, 4 * PAGE };
	struct start start;
	int byte;

	ONLY_MONITOR();
	if (!has_extents(&self->el2))
		SKIP(return, "parcels: the guest keeps its image until its end");
	ASSERT_EQ(0, err_of(ioctl(self->guest.vm, GMEM_GUNYAH_SET_DTB_CONFIG,
				  &dtb)));
	ASSERT_EQ(0, start_until(self, &start, RM_VM_GET_RESOURCES));
	byte = peek(self->host + PAGE);
	EXPECT_TRUE(byte == 0x41 || byte == -SIGBUS);
	ASSERT_EQ(0, pthread_join(start.thread, NULL));
	EXPECT_EQ(0, start.ret);
	EXPECT_EQ(0x48, gunyah_read(&self->guest, LENT + 8 * PAGE));
	EXPECT_EQ(0x42, gunyah_read(&self->guest, LENT + 2 * PAGE));
	EXPECT_EQ(0x41, gunyah_read(&self->guest, LENT + PAGE));
	EXPECT_EQ(0x40, gunyah_read(&self->guest, LENT));
}

/* The argument of a thread that repeats a call until @stop is set. */
struct loop {
	self_t *self;
	volatile bool stop;
	/* The number of calls with an unexpected result. */
	int odd;
};

static void *populate_loop(void *arg)
{
	struct loop *loop = arg;

	while (!loop->stop)
		populate_range(loop->self->guest.vm, LENT, SIZE, NULL);
	return NULL;
}

/* With extents, only the device tree is ever in a parcel. */
TEST_F(rm, populate_while_vm_starts)
{
	struct loop loop = { .self = self };
	pthread_t threads[3];
	unsigned int i, round;

	if (!has_extents(&self->el2))
		SKIP(return, "parcels: all memory stays in parcels after the start");
	for (round = 0; round < 10; round++) {
		loop.stop = false;
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL,
						    populate_loop, &loop));
		EXPECT_EQ(0, gunyah_guest_start(&self->guest));
		loop.stop = true;
		for (i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		EXPECT_EQ(0, fd_number(self->guest.vm, "gmem-parcels:"));
		EXPECT_EQ(self->el2_before.parcels,
			  el2_stats(&self->el2).parcels);
		EXPECT_EQ(0x43, gunyah_read(&self->guest, LENT + 3 * PAGE));
		close_guest(self);
		ASSERT_EQ(0, open_guest(self));
	}
}

static void *punch_loop(void *arg)
{
	struct loop *loop = arg;
	int ret;

	while (!loop->stop) {
		ret = mem_alloc(loop->self->mem, PUNCH, 0, PAGE);
		loop->odd += ret != -EBUSY;
	}
	return NULL;
}

/*
 * With parcels, the module first collects pages and then lends them to the
 * guest in a parcel. A pinned page prevents the second step, also while another
 * thread calls the module. The VM has GMEM_VM_GUEST_ACCEPTS, because other
 * guests get no memory after their start.
 */
TEST_F(rm, populate_refused_while_others_punch)
{
	const __u64 gpa = GIB(6), size = MIB(16);
	struct loop loop = { .self = self };
	struct el2_stats before;
	struct iovec iov;
	pthread_t thread;
	int mem, held[2];
	__u8 *host;

	if (has_extents(&self->el2))
		SKIP(return, "extents: a page goes in one step");
	mem = new_mem(size, 0);
	host = map_host(mem, 0, size);
	ASSERT_NE(MAP_FAILED, host);
	gunyah_guest_close(&self->guest);
	ASSERT_EQ(0, gunyah_guest_open_flags(&self->guest, GMEM_POLICY_ALLOW,
					     GMEM_VM_GUEST_ACCEPTS));
	ASSERT_EQ(0, map_mem(self->guest.vm, LENT, self->mem, 0, SIZE,
			     LEND | RWX));
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, map_mem(self->guest.vm, gpa, mem, 0, size, LEND | RWX));
	ASSERT_EQ(0, touch_write(host + size - PAGE, 1));
	ASSERT_EQ(0, pipe(held));
	iov = (struct iovec){ host + size - PAGE, PAGE };
	ASSERT_EQ((int)PAGE, err_of(vmsplice(held[1], &iov, 1, 0)));
	before = el2_stats(&self->el2);
	ASSERT_EQ(0, pthread_create(&thread, NULL, punch_loop, &loop));
	EXPECT_EQ(-EBUSY, populate_range(self->guest.vm, gpa, size, NULL));
	loop.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, loop.odd);
	EXPECT_EQ('h', page_state(mem, 0));
	EXPECT_EL2_AS(before, &self->el2);

	close(held[0]);
	close(held[1]);
	EXPECT_EQ(0, populate_range(self->guest.vm, gpa, size, NULL));
	EXPECT_EQ('l', page_state(mem, size - PAGE));
	/* The guest hasn't accepted it; but the parcel goes as a whole. */
	EXPECT_EQ(-SIGBUS, peek(host + size - PAGE));
	EXPECT_EQ(0, reclaim_range(self->guest.vm, gpa, size, NULL));
	EXPECT_EQ(1, peek(host + size - PAGE));
	EXPECT_EQ('h', page_state(mem, size - PAGE));
	munmap(host, size);
	close(mem);
}

/* ---- memory that a guest accepts after its start ---- */

#define ADDED GIB(6)
/* So many pages, each a piece of its own, need several messages. */
#define ADDED_SIZE MIB(16)

/*
 * Replace the guest by one that accepts memory by itself, start it, and bind
 * memory for it. Returns the memory.
 */
static int open_accepting_guest(self_t *self)
{
	int err, mem = new_mem(ADDED_SIZE, 0);
	__u64 first, at;
	__u8 *host;

	host = map_host(mem, 0, ADDED_SIZE);
	if (host == MAP_FAILED)
		return -errno;
	/* Neighbours in the memory aren't neighbours in the machine. */
	for (first = 0; first < 2; first++)
		for (at = first * PAGE; at < ADDED_SIZE; at += 2 * PAGE)
			host[at] = 1;
	munmap(host, ADDED_SIZE);
	gunyah_guest_close(&self->guest);
	err = gunyah_guest_open_flags(&self->guest, GMEM_POLICY_ALLOW,
				      GMEM_VM_GUEST_ACCEPTS);
	err = err ?: map_mem(self->guest.vm, LENT, self->mem, 0, SIZE,
			     LEND | RWX);
	err = err ?: gunyah_guest_start(&self->guest);
	err = err ?: map_mem(self->guest.vm, ADDED, mem, 0, ADDED_SIZE,
			     LEND | RWX);
	return err ?: mem;
}

/* A call that is killed between two messages gives nothing to the guest. */
TEST_F_TIMEOUT(rm, killed_between_messages, 60)
{
	struct el2_stats before;
	double start, end = now() + 30;
	int status, mem;
	__u64 hits;
	pid_t pid;

	ONLY_MONITOR();
	if (has_extents(&self->el2))
		SKIP(return, "extents: no message has a list of pages");
	mem = open_accepting_guest(self);
	ASSERT_LE(0, mem);
	before = el2_stats(&self->el2);
	hits = before.rule_hits;
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_DELAY, RM_MEM_APPEND, 1,
		2000, 1000);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(populate_range(self->guest.vm, ADDED, ADDED_SIZE, NULL));
	while (el2_stats(&self->el2).rule_hits == hits && now() < end)
		usleep(1000);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	start = now();
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_GT(6, now() - start);
	EXPECT_EQ(hits + 1, el2_stats(&self->el2).rule_hits);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_EQ('h', page_state(mem, 0));
	EXPECT_EL2_AS(before, &self->el2);

	EXPECT_EQ(0, populate_range(self->guest.vm, ADDED, ADDED_SIZE, NULL));
	EXPECT_EQ('l', page_state(mem, ADDED_SIZE - PAGE));
	EXPECT_EQ(0, reclaim_range(self->guest.vm, ADDED, ADDED_SIZE, NULL));
	close(mem);
}

/* The Resource Manager gives memory back, but its reply is lost. */
TEST_F(rm, reclaim_is_repeated)
{
	double begin;
	int i, mem;

	ONLY_MONITOR();
	if (has_extents(&self->el2))
		SKIP(return, "extents: no message takes memory back");
	mem = open_accepting_guest(self);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, populate_range(self->guest.vm, ADDED, ADDED_SIZE, NULL));
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "2000"));
	el2_rule(&self->el2, EL2_RULE_RPC_LOSE_REPLY, RM_MEM_RECLAIM, 1, 0);
	EXPECT_NE(0, reclaim_range(self->guest.vm, ADDED, ADDED_SIZE, NULL));
	EXPECT_EQ('l', page_state(mem, 0));
	/* Tries that follow at once don't ask, so none waits. */
	begin = now();
	for (i = 0; i < 10; i++)
		EXPECT_NE(0, reclaim_range(self->guest.vm, ADDED, ADDED_SIZE,
					   NULL));
	EXPECT_GT(1.5, now() - begin);
	ASSERT_EQ(0, write_file(RM_TIMEOUT, "5000"));
	usleep(2500000);
	EXPECT_EQ(0, reclaim_range(self->guest.vm, ADDED, ADDED_SIZE, NULL));
	EXPECT_EQ('h', page_state(mem, 0));
	EXPECT_EQ('h', page_state(mem, ADDED_SIZE - PAGE));
	close(mem);
}

static void *close_thread(void *arg)
{
	gunyah_guest_close(arg);
	return NULL;
}

/*
 * A VMID that a VM has given back may be another VM's, although the first VM
 * still waits for the reply.
 */
TEST_F(rm, vmid_is_free_again)
{
	struct gunyah_guest first;
	double end = now() + 60;
	pthread_t thread;
	__u64 vmid;

	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_guest_open(&first, GMEM_POLICY_ALLOW));
	ASSERT_EQ(0, gunyah_guest_start(&first));
	vmid = fd_number(first.vm, "gmem-vmid:");
	el2_rule(&self->el2, EL2_RULE_RPC_LOSE_REPLY, RM_VM_DEALLOC_VMID, 1, 0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_thread, &first));
	while (el2_stats(&self->el2).vms != self->el2_before.vms && now() < end)
		usleep(1000);
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(vmid, fd_number(self->guest.vm, "gmem-vmid:"));
	pthread_join(thread, NULL);

	/*
	 * The second VM's notifications arrive, even when the first VM is gone.
	 */
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(GMEM_GUNYAH_VM_STATUS_EXITED, self->guest.run->status.status);
}

/* ---- the device ---- */

struct reader {
	volatile bool stop;
};

static void *read_counters(void *arg)
{
	struct reader *reader = arg;
	char buf[4096];
	int fd;

	while (!reader->stop) {
		fd = open("/sys/kernel/debug/gmem/gunyah", O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, buf, sizeof(buf)) < 0 && errno != ENODEV)
			reader->stop = true;
		close(fd);
	}
	return NULL;
}

/*
 * The Resource Manager's device goes while a VM is there and while the counters
 * are read. The VM keeps the connection until its end; there is no other VM and
 * no other connection before.
 */
TEST_F(rm, device_goes_before_the_vm)
{
	struct reader reader = {};
	pthread_t thread;
	int i;

	ONLY_MONITOR();
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_counters, &reader));
	ASSERT_EQ(0, err_of(ioctl(self->el2.fd, EL2_IOC_UNBIND)));
	EXPECT_FALSE(have_provider("gunyah"));
	EXPECT_EQ(-EOPNOTSUPP, new_vm("gunyah", GMEM_POLICY_ALLOW));
	EXPECT_EQ(-EBUSY, err_of(ioctl(self->el2.fd, EL2_IOC_BIND)));
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0x43, gunyah_read(&self->guest, LENT + 3 * PAGE));
	close_guest(self);

	/* With the VM, the connection has gone. */
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, err_of(ioctl(self->el2.fd, EL2_IOC_BIND)));
		ASSERT_TRUE(have_provider("gunyah"));
		if (i < 19)
			ASSERT_EQ(0, err_of(ioctl(self->el2.fd,
						  EL2_IOC_UNBIND)));
	}
	EXPECT_FALSE(reader.stop);
	reader.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, open_guest(self));
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0x43, gunyah_read(&self->guest, LENT + 3 * PAGE));
}

/* The number of lines of the kernel's log from now on that have @text. */
static int count_log(int kmsg, const char *text)
{
	char line[8192];
	ssize_t size;
	int n = 0;

	while ((size = read(kmsg, line, sizeof(line) - 1)) > 0) {
		line[size] = 0;
		n += !!strstr(line, text);
	}
	return n;
}

/*
 * Another driver handles the interrupts of the queues, and has bound no device:
 * the monitor's driver does that. The provider leaves the queues alone, so the
 * reply to the other driver's request is still there.
 */
TEST_F(rm, queues_of_another_driver)
{
	struct rpc other = { .el2 = &self->el2 };
	int kmsg;

	ONLY_MONITOR();
	close_guest(self);
	ASSERT_EQ(0, err_of(ioctl(self->el2.fd, EL2_IOC_UNBIND)));
	ASSERT_EQ(0, err_of(ioctl(self->el2.fd, EL2_IOC_WATCH)));
	rpc_drain(&other);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, kmsg);
	lseek(kmsg, 0, SEEK_END);

	ASSERT_EQ(0, rpc_request(&other, RM_VM_GET_VMID, NULL, 0));
	EXPECT_EQ(-EBUSY, err_of(ioctl(self->el2.fd, EL2_IOC_BIND)));
	EXPECT_FALSE(have_provider("gunyah"));
	EXPECT_EQ(0, rpc_reply(&other, RM_VM_GET_VMID));
	EXPECT_EQ(1, count_log(kmsg, "another driver has interrupt"));
	close(kmsg);

	/* The other driver goes. */
	ASSERT_EQ(0, err_of(ioctl(self->el2.fd, EL2_IOC_UNWATCH)));
	ASSERT_EQ(0, err_of(ioctl(self->el2.fd, EL2_IOC_BIND)));
	EXPECT_TRUE(have_provider("gunyah"));
	ASSERT_EQ(0, open_guest(self));
	EXPECT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0x43, gunyah_read(&self->guest, LENT + 3 * PAGE));
}

TEST_HARNESS_MAIN
