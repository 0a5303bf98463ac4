// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost-vdpa lends the guest's memory to a device. A device of VDUSE, which is a
 * program, gets the files of shared mappings instead of pinned pages; for a live
 * window it gets nothing. The same on a memfd shows that the device works.
 */
#include "lib/fixture.h"
#include "lib/vring.h"

#include <linux/vdpa.h>
#include <linux/vduse.h>
#include <linux/vhost.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <pthread.h>

#define SIZE MIB(2)
#define DEVICE "gmem-test"

FIXTURE(live_vdpa)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *guest;
	int control;
	int device;
	pthread_t thread;
	volatile bool stop;
	bool running;
	int vhost;
};

FIXTURE_VARIANT(live_vdpa)
{
	bool live;
};

VARIANT(live_vdpa, memfd);
VARIANT(live_vdpa, live, .live = true);

/* Agree to everything that the kernel asks the device. */
static void *run_device(void *arg)
{
	FIXTURE_DATA(live_vdpa) *self = arg;
	struct vduse_dev_response response;
	struct vduse_dev_request request;
	struct pollfd poll_fd = { .fd = self->device, .events = POLLIN };

	while (!self->stop) {
		if (poll(&poll_fd, 1, 100) <= 0 ||
		    read(self->device, &request, sizeof(request)) !=
			    sizeof(request))
			continue;
		response = (struct vduse_dev_response){
			.request_id = request.request_id,
			.result = VDUSE_REQ_RESULT_OK,
		};
		if (write(self->device, &response, sizeof(response)) < 0)
			perror("response");
	}
	return NULL;
}

/* Add the device to the kernel's bus, or remove it. 0 or -errno. */
static int vdpa_command(int command)
{
	struct nl_sock *sk = nl_socket_alloc();
	struct nl_msg *msg = nlmsg_alloc();
	int family, err;

	genl_connect(sk);
	family = genl_ctrl_resolve(sk, VDPA_GENL_NAME);
	if (family < 0) {
		err = -ENOENT;
		goto out;
	}
	genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0,
		    NLM_F_REQUEST | NLM_F_ACK, command, 1);
	nla_put_string(msg, VDPA_ATTR_DEV_NAME, DEVICE);
	if (command == VDPA_CMD_DEV_NEW)
		nla_put_string(msg, VDPA_ATTR_MGMTDEV_DEV_NAME, "vduse");
	err = nl_send_auto(sk, msg);
	if (err >= 0)
		err = nl_wait_for_ack(sk);
out:
	nlmsg_free(msg);
	nl_socket_free(sk);
	return err;
}

/* Create a disk without content. 0 or -errno. */
static int create_device(FIXTURE_DATA(live_vdpa) *self)
{
	struct {
		struct vduse_dev_config config;
		struct virtio_blk_config disk;
	} device = {
		.config = {
			.name = DEVICE,
			.device_id = VIRTIO_ID_BLOCK,
			.features = 1ULL << VIRTIO_F_ACCESS_PLATFORM |
				    1ULL << VIRTIO_F_VERSION_1,
			.vq_num = 1,
			.vq_align = PAGE,
			.config_size = sizeof(struct virtio_blk_config),
		},
	};
	struct vduse_vq_config queue = { .index = 0, .max_size = 16 };
	__u64 version = VDUSE_API_VERSION;

	if (ioctl(self->control, VDUSE_SET_API_VERSION, &version) ||
	    ioctl(self->control, VDUSE_CREATE_DEV, &device))
		return -errno;
	self->device = open("/dev/vduse/" DEVICE, O_RDWR | O_CLOEXEC);
	if (self->device < 0 || ioctl(self->device, VDUSE_VQ_SETUP, &queue))
		return -errno;
	if (pthread_create(&self->thread, NULL, run_device, self))
		return -ENOMEM;
	self->running = true;
	return vdpa_command(VDPA_CMD_DEV_NEW);
}

FIXTURE_SETUP(live_vdpa)
{
	ASSERT_LE(0, gmem_dev());
	if (!have_provider("live"))
		SKIP(return, "no live windows");
	self->control = open("/dev/vduse/control", O_RDWR | O_CLOEXEC);
	if (self->control < 0)
		SKIP(return, "no VDUSE");
	SETUP_STATS();
	self->vhost = -1;
	self->vm = -1;
	if (variant->live) {
		self->vm = new_vm("live", GMEM_POLICY_ALLOW);
		ASSERT_LE(0, self->vm);
	}
	self->guest = vhost_guest_memory(self->vm, SIZE, 0, &self->mem);
	ASSERT_NE(MAP_FAILED, self->guest);
	ASSERT_EQ(0, create_device(self));
}

FIXTURE_TEARDOWN(live_vdpa)
{
	char name[VDUSE_NAME_MAX] = DEVICE;

	close(self->vhost);
	vdpa_command(VDPA_CMD_DEV_DEL);
	self->stop = true;
	if (self->running)
		pthread_join(self->thread, NULL);
	close(self->device);
	EXPECT_EQ(0, ioctl(self->control, VDUSE_DESTROY_DEV, name));
	close(self->control);
	munmap(self->guest, SIZE);
	close(self->vm);
	close(self->mem);
	TEARDOWN_STATS();
}

TEST_F(live_vdpa, device_gets_no_memory)
{
	struct vhost_msg_v2 message = {
		.type = VHOST_IOTLB_MSG_V2,
		.iotlb = {
			.iova = 0,
			.size = SIZE,
			.uaddr = ptr_u64(self->guest),
			.perm = VHOST_ACCESS_RW,
			.type = VHOST_IOTLB_UPDATE,
		},
	};
	__u64 features = 1ULL << VHOST_BACKEND_F_IOTLB_MSG_V2;
	struct vduse_iotlb_entry entry = { .start = 0, .last = PAGE - 1 };
	double end = now() + 5;
	ssize_t written;
	int fd;

	while (access("/dev/vhost-vdpa-0", R_OK) && now() < end)
		usleep(10000);
	self->vhost = open("/dev/vhost-vdpa-0", O_RDWR | O_CLOEXEC);
	if (self->vhost < 0)
		SKIP(return, "no vhost-vdpa");
	ASSERT_EQ(0, ioctl(self->vhost, VHOST_SET_OWNER, NULL));
	ASSERT_EQ(0, ioctl(self->vhost, VHOST_SET_BACKEND_FEATURES,
			   &features));
	written = write(self->vhost, &message, sizeof(message));
	fd = ioctl(self->device, VDUSE_IOTLB_GET_FD, &entry);
	printf("# vhost-vdpa takes %zd bytes, the device gets descriptor %d\n",
	       written, fd);
	if (variant->live) {
		EXPECT_GT(0, fd);
	} else {
		EXPECT_EQ((ssize_t)sizeof(message), written);
		EXPECT_LE(0, fd);
		close(fd);
	}
}

TEST_HARNESS_MAIN
