// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's own vhost devices on a live window. vhost-vsock and vhost-net
 * copy, so they work. vhost-scsi pins the buffers of a disk's data, and fails.
 * Each test runs on a memfd, too, which shows that its device works.
 */
#include "lib/fixture.h"
#include "lib/vring.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <linux/virtio_scsi.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/socket.h>

#define SIZE MIB(2)
/* Where rings and buffers are in the guest. */
#define RING(n) ((n) * KIB(8))
#define BUFFER(n) (MIB(1) + (n) * KIB(8))

FIXTURE(live_vhost)
{
	struct gmem_stats before;
	int vm;
	int mem;
	/* The guest's memory. */
	__u8 *guest;
	int vhost;
	struct vring_queue queue[3];
	int nr_queues;
};

FIXTURE_VARIANT(live_vhost)
{
	bool live;
	__u64 mem_flags;
};

VARIANT(live_vhost, memfd);
VARIANT(live_vhost, live_4k, .live = true);
VARIANT(live_vhost, live_2m, .live = true,
	.mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

FIXTURE_SETUP(live_vhost)
{
	ASSERT_LE(0, gmem_dev());
	if (!have_provider("live"))
		SKIP(return, "no live windows");
	if (variant->mem_flags && !takes_huge("live"))
		SKIP(return, "no huge pages");
	SETUP_STATS();
	self->vm = -1;
	self->vhost = -1;
	if (variant->live) {
		self->vm = new_vm("live", GMEM_POLICY_ALLOW);
		ASSERT_LE(0, self->vm);
	}
	self->guest = vhost_guest_memory(self->vm, SIZE, variant->mem_flags,
					 &self->mem);
	ASSERT_NE(MAP_FAILED, self->guest);
}

FIXTURE_TEARDOWN(live_vhost)
{
	int i;

	for (i = 0; i < self->nr_queues; i++)
		vring_close(&self->queue[i]);
	close(self->vhost);
	munmap(self->guest, SIZE);
	close(self->vm);
	close(self->mem);
	TEARDOWN_STATS();
}

#define OPEN_VHOST(path, features)					\
	do {								\
		self->vhost = open(path, O_RDWR | O_CLOEXEC);		\
		if (self->vhost < 0)					\
			SKIP(return, "no " path);			\
		ASSERT_EQ(0, vhost_open(self->vhost, features,		\
					self->guest, SIZE));		\
	} while (0)

#define OPEN_QUEUES(nr)							\
	do {								\
		for (; self->nr_queues < (nr); self->nr_queues++)	\
			ASSERT_EQ(0, vring_open(&self->queue[self->nr_queues], \
						self->vhost,		\
						self->nr_queues,	\
						self->guest,		\
						RING(self->nr_queues)));	\
	} while (0)

/* --- vhost-vsock: queue 0 receives, queue 1 sends --- */

#define GUEST_CID 42
#define HOST_PORT 1234

/* Send a packet from the guest. Its header is in one buffer, its data in another. */
static void vsock_send(FIXTURE_DATA(live_vhost) *self, __u16 op,
		       const char *data)
{
	__u32 length = data ? strlen(data) : 0;
	struct virtio_vsock_hdr header = {
		.src_cid = GUEST_CID,
		.dst_cid = VMADDR_CID_HOST,
		/* The host keeps the connection of an earlier test for 8 s. */
		.src_port = getpid(),
		.dst_port = HOST_PORT,
		.len = length,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = KIB(4),
	};
	struct vring_buffer buffers[2] = {
		{ .gpa = BUFFER(0), .length = sizeof(header) },
		{ .gpa = BUFFER(1), .length = length },
	};

	memcpy(self->guest + BUFFER(0), &header, sizeof(header));
	memcpy(self->guest + BUFFER(1), data ? data : "", length);
	vring_add(&self->queue[1], buffers, length ? 2 : 1);
}

/* Give the device a buffer, and wait for a packet of kind @op in it. */
static bool vsock_receive(FIXTURE_DATA(live_vhost) *self, __u16 op, char *data)
{
	struct virtio_vsock_hdr header;
	struct vring_buffer buffer = {
		.gpa = BUFFER(2), .length = KIB(4), .device_writes = true,
	};
	int tries;

	for (tries = 0; tries < 4; tries++) {
		vring_add(&self->queue[0], &buffer, 1);
		if (vring_wait(&self->queue[0], 10) < (int)sizeof(header))
			return false;
		memcpy(&header, self->guest + BUFFER(2), sizeof(header));
		if (header.op != op)
			continue;
		memcpy(data, self->guest + BUFFER(2) + sizeof(header),
		       header.len);
		return true;
	}
	return false;
}

TEST_F(live_vhost, vsock)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_port = HOST_PORT,
		.svm_cid = VMADDR_CID_ANY,
	};
	__u64 cid = GUEST_CID;
	int listener, fd, run = 1;
	char data[KIB(4)] = {};

	OPEN_VHOST("/dev/vhost-vsock", 1ULL << VIRTIO_F_VERSION_1);
	OPEN_QUEUES(2);
	ASSERT_EQ(0, ioctl(self->vhost, VHOST_VSOCK_SET_GUEST_CID, &cid));
	ASSERT_EQ(0, ioctl(self->vhost, VHOST_VSOCK_SET_RUNNING, &run));
	listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_LE(0, listener);
	ASSERT_EQ(0, bind(listener, (void *)&address, sizeof(address)));
	ASSERT_EQ(0, listen(listener, 1));

	vsock_send(self, VIRTIO_VSOCK_OP_REQUEST, NULL);
	ASSERT_LE(0, vring_wait(&self->queue[1], 10));
	ASSERT_TRUE(vsock_receive(self, VIRTIO_VSOCK_OP_RESPONSE, data));
	fd = accept(listener, NULL, NULL);
	ASSERT_LE(0, fd);

	vsock_send(self, VIRTIO_VSOCK_OP_RW, "from the guest");
	ASSERT_EQ(14, recv(fd, data, 14, MSG_WAITALL));
	EXPECT_EQ(0, strcmp("from the guest", data));

	memset(data, 0, sizeof(data));
	ASSERT_EQ(13, send(fd, "from the host", 13, 0));
	ASSERT_TRUE(vsock_receive(self, VIRTIO_VSOCK_OP_RW, data));
	EXPECT_EQ(0, strcmp("from the host", data));
	close(fd);
	close(listener);
}

/* --- vhost-net: queue 0 receives, queue 1 sends --- */

#define NET_HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define ETHERTYPE 0x88b5
#define FRAME 200

/* A tap device, and a socket on its other side. 0 or -errno. */
static int open_tap(int *tap, int *wire)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETHERTYPE),
	};
	int header = NET_HEADER;

	*wire = -1;
	*tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (*tap < 0)
		return -errno;
	if (ioctl(*tap, TUNSETIFF, &request) ||
	    ioctl(*tap, TUNSETVNETHDRSZ, &header))
		return -errno;
	*wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETHERTYPE));
	if (*wire < 0)
		return -errno;
	if (ioctl(*wire, SIOCGIFFLAGS, &request))
		return -errno;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(*wire, SIOCSIFFLAGS, &request))
		return -errno;
	address.sll_ifindex = if_nametoindex(request.ifr_name);
	return bind(*wire, (void *)&address, sizeof(address)) ? -errno : 0;
}

static void make_frame(__u8 *frame, __u8 fill)
{
	memset(frame, 0xff, 6);
	memset(frame + 6, 0x02, 6);
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
	memset(frame + 14, fill, FRAME - 14);
}

TEST_F(live_vhost, net)
{
	struct vring_buffer buffer = { .gpa = BUFFER(0), .length = NET_HEADER + FRAME };
	const struct timeval timeout = { .tv_sec = 10 };
	struct vhost_vring_file backend;
	__u8 frame[FRAME], seen[2 * FRAME];
	int tap, wire, tries;

	OPEN_VHOST("/dev/vhost-net", 1ULL << VIRTIO_F_VERSION_1);
	if (open_tap(&tap, &wire))
		SKIP(return, "no tap device");
	ASSERT_EQ(0, setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &timeout,
				sizeof(timeout)));
	OPEN_QUEUES(2);
	for (backend.index = 0; backend.index < 2; backend.index++) {
		backend.fd = tap;
		ASSERT_EQ(0, ioctl(self->vhost, VHOST_NET_SET_BACKEND,
				   &backend));
	}

	/* From the guest to the wire. */
	make_frame(frame, 0x31);
	memset(self->guest + BUFFER(0), 0, NET_HEADER);
	memcpy(self->guest + BUFFER(0) + NET_HEADER, frame, FRAME);
	vring_add(&self->queue[1], &buffer, 1);
	ASSERT_EQ(FRAME, recv(wire, seen, sizeof(seen), 0));
	EXPECT_EQ(0, memcmp(frame, seen, FRAME));

	/* From the wire to the guest; the kernel may send frames of its own. */
	make_frame(frame, 0x32);
	buffer = (struct vring_buffer){
		.gpa = BUFFER(2), .length = KIB(4), .device_writes = true,
	};
	ASSERT_EQ(FRAME, send(wire, frame, FRAME, 0));
	for (tries = 0; tries < 50; tries++) {
		vring_add(&self->queue[0], &buffer, 1);
		ASSERT_LE((int)NET_HEADER, vring_wait(&self->queue[0], 10));
		if (!memcmp(frame, self->guest + BUFFER(2) + NET_HEADER, FRAME))
			break;
	}
	EXPECT_GT(50, tries);
	close(wire);
	close(tap);
}

/* --- vhost-scsi: queue 2 takes requests --- */

#define TARGET "/sys/kernel/config/target"
#define DISK TARGET "/core/rd_mcp_0/gmem"
#define PORT "naa.6001405000000001"
#define TPG TARGET "/vhost/" PORT "/tpgt_1"

/* A disk in memory, and a port of vhost-scsi that has it. */
static bool make_disk(void)
{
	mount("none", "/sys/kernel/config", "configfs", 0, NULL);
	if (access(TARGET, F_OK))
		return false;
	mkdir(TARGET "/core/rd_mcp_0", 0755);
	mkdir(DISK, 0755);
	write_file(DISK "/control", "rd_pages=64");
	write_file(DISK "/enable", "1");
	mkdir(TARGET "/vhost", 0755);
	mkdir(TARGET "/vhost/" PORT, 0755);
	mkdir(TPG, 0755);
	write_file(TPG "/nexus", "naa.6001405000000002");
	mkdir(TPG "/lun/lun_0", 0755);
	return !symlink(DISK, TPG "/lun/lun_0/gmem");
}

static void remove_disk(void)
{
	unlink(TPG "/lun/lun_0/gmem");
	rmdir(TPG "/lun/lun_0");
	write_file(TPG "/nexus", "NULL");
	rmdir(TPG);
	rmdir(TARGET "/vhost/" PORT);
	rmdir(TARGET "/vhost");
	rmdir(DISK);
	rmdir(TARGET "/core/rd_mcp_0");
}

/*
 * Read a block of 512 bytes. Returns the response's code of virtio-scsi, or
 * -ETIMEDOUT if none came.
 */
static int scsi_read(FIXTURE_DATA(live_vhost) *self, int seconds, __u8 *status)
{
	struct virtio_scsi_cmd_req request = {
		.lun = { 1, 1, 0x40, 0 },
		/* READ(10) of block 0 */
		.cdb = { 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0 },
	};
	struct virtio_scsi_cmd_resp response;
	const struct vring_buffer buffers[3] = {
		{ .gpa = BUFFER(0), .length = sizeof(request) },
		{ .gpa = BUFFER(1), .length = sizeof(response),
		  .device_writes = true },
		{ .gpa = BUFFER(2), .length = 512, .device_writes = true },
	};

	memset(&response, 0xee, sizeof(response));
	memcpy(self->guest + BUFFER(0), &request, sizeof(request));
	memcpy(self->guest + BUFFER(1), &response, sizeof(response));
	memset(self->guest + BUFFER(2), 0x55, 512);
	vring_add(&self->queue[2], buffers, 3);
	if (vring_wait(&self->queue[2], seconds) < 0)
		return -ETIMEDOUT;
	memcpy(&response, self->guest + BUFFER(1), sizeof(response));
	*status = response.status;
	return response.response;
}

TEST_F(live_vhost, scsi)
{
	struct vhost_scsi_target target = {
		.vhost_wwpn = PORT,
		.vhost_tpgt = 1,
	};
	int response, seconds;
	__u8 status = 0;

	OPEN_VHOST("/dev/vhost-scsi", 1ULL << VIRTIO_F_VERSION_1);
	if (!make_disk())
		SKIP(goto out, "no target core");
	OPEN_QUEUES(3);
	ASSERT_EQ(0, ioctl(self->vhost, VHOST_SCSI_SET_ENDPOINT, &target));
	/* No response comes if the device can't pin the buffer. */
	seconds = variant->live ? 1 : 10;
	response = scsi_read(self, seconds, &status);
	/* The first command reports that the disk has been reset. */
	if (!response && status)
		response = scsi_read(self, seconds, &status);
	printf("# response %d, status %d, data %#x\n", response, status,
	       self->guest[BUFFER(2)]);
	if (variant->live) {
		EXPECT_NE(0, response);
		EXPECT_EQ(0x55, self->guest[BUFFER(2)]);
	} else {
		EXPECT_EQ(0, response);
		EXPECT_EQ(0, status);
		EXPECT_EQ(0, self->guest[BUFFER(2)]);
	}
	ioctl(self->vhost, VHOST_SCSI_CLEAR_ENDPOINT, &target);
out:
	remove_disk();
}

TEST_HARNESS_MAIN
