// SPDX-License-Identifier: MIT OR Apache-2.0
// The network device, with a scripted front-end and driver at one side, and sockets at the other.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/protocol.h"
#include "net_device.h"
#include "net_link.h"
#include "vhost/testing/scripted_frontend.h"
#include "vhost/testing/socket.h"
#include "virtio_net.h"

namespace {

using gmem::vhost::FrontendRequest;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::ScriptedFrontendTest;
using gmem::vhost::doubles::TestGuest;
using gmem::vhost::doubles::Used;

constexpr uint32_t kHeader = sizeof(virtio_net_hdr_v1);
constexpr uint32_t kReceive = 0, kTransmit = 1;
constexpr uint64_t kMergeable = uint64_t{1} << VIRTIO_NET_F_MRG_RXBUF;

class NetDeviceTest : public ScriptedFrontendTest {
 protected:
  ~NetDeviceTest() override {
    Disconnect();
    device_.reset();
    ends_.clear();
  }
  // Starts one queue of a device with all features but @without.
  void Start(uint32_t queue, size_t nr_pairs = 1, uint64_t without = 0, int type = SOCK_DGRAM) {
    std::vector<NetLink> links;
    for (size_t i = 0; i < nr_pairs; i++) {
      std::array<int, 2> pair;
      ASSERT_EQ(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, pair.data()), 0);
      links.push_back(*NetLink::Adopt(gmem::UniqueFd(pair[0])));
      ends_.emplace_back(pair[1]);
    }
    device_ = std::make_unique<NetDevice>(std::move(links), NetDevice::ParseMac(kMac));
    Connect(*device_, gmem::vhost::Backend::Options{.timeout = gmem::vhost::doubles::kPatience,
                                                    .has_queue_threads = has_threads_});
    Negotiate(device_->features() & ~without, gmem::vhost::Bit(ProtocolFeature::kReplyAck) |
                                                  gmem::vhost::Bit(ProtocolFeature::kConfig) |
                                                  gmem::vhost::Bit(ProtocolFeature::kMq));
    SetTable();
    StartQueue(queue);
  }
  // Gives the device @count buffers of @size bytes to receive, one behind the other.
  void AddBuffers(int count, uint32_t size) {
    for (int i = 0; i < count; i++) {
      ring_.Add({{kData + nr_bytes_, size, kWrite}});
      nr_bytes_ += size;
    }
    Kick();
    Work();
  }
  void Work() {
    for (int i = 0; i < 5; i++) Run();
  }
  // Does the device wait, and not look again and again?
  bool IsAsleep() {
    Work();
    pollfd fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
    return poll(&fd, 1, 0) == 0;
  }
  void SendFromOutside(const std::string& frame, size_t pair = 0) {
    ASSERT_EQ(send(ends_[pair].get(), frame.data(), frame.size(), 0), frame.size());
    Work();
  }
  std::optional<std::string> ReceiveOutside() {
    std::string frame(2000, 0);
    const ssize_t size = recv(ends_[0].get(), frame.data(), frame.size(), 0);
    if (size < 0) return std::nullopt;
    return frame.substr(0, static_cast<size_t>(size));
  }
  std::string InGuest(uint64_t offset, size_t size) const {
    return {reinterpret_cast<const char*>(guest_.at(TestGuest::kData + offset)), size};
  }
  uint16_t NrBuffers(uint64_t offset = 0) const {
    return guest_.Get<uint16_t>(TestGuest::kData + offset +
                                offsetof(virtio_net_hdr_v1, num_buffers));
  }
  void Transmit(const std::string& bytes) {
    std::memcpy(guest_.at(TestGuest::kData), bytes.data(), bytes.size());
    ring_.Add({{kData, static_cast<uint32_t>(bytes.size()), 0}});
    Kick();
    Work();
    EXPECT_TRUE(ring_.TakeUsed());
  }
  // Returns the answer to a command of the control queue.
  int Command(uint8_t command_class, uint8_t command, const std::string& argument) {
    const std::string bytes =
        std::string{static_cast<char>(command_class), static_cast<char>(command)} + argument;
    std::memcpy(guest_.at(TestGuest::kData), bytes.data(), bytes.size());
    ring_.Add({{kData, static_cast<uint32_t>(bytes.size()), 0}, {kData + 0x100, 1, kWrite}});
    Kick();
    Work();
    return ring_.TakeUsed() ? *guest_.at(TestGuest::kData + 0x100) : -1;
  }

  static constexpr char kMac[] = "52:54:00:12:34:56";
  std::vector<gmem::UniqueFd> ends_;
  std::unique_ptr<NetDevice> device_;
  bool has_threads_ = false;
  uint64_t nr_bytes_ = 0;
};

TEST_F(NetDeviceTest, Configuration) {
  Start(kTransmit, /*nr_pairs=*/2);
  EXPECT_EQ(device_->nr_queues(), 5);
  const auto reply = Ask<FrontendRequest::kGetConfig>(
      {.offset = 0, .size = device_->config_size(), .flags = 0, .bytes = {}});
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->bytes[5], 0x56);
  EXPECT_EQ(reply->bytes[8], 2) << "max_virtqueue_pairs";
  EXPECT_EQ(device_->features() & (1U << VIRTIO_NET_F_CSUM), 0U) << "a socket has no offloads";
}

TEST_F(NetDeviceTest, ReceivesAndWaitsAsleep) {
  Start(kReceive);
  AddBuffers(3, 200);
  EXPECT_TRUE(IsAsleep());
  EXPECT_FALSE(ring_.TakeUsed());
  for (uint64_t i = 0; i < 2; i++) {
    SendFromOutside("a frame");
    const auto used = ring_.TakeUsed();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->written, kHeader + 7);
    EXPECT_EQ(NrBuffers(200 * i), 1);
    EXPECT_EQ(InGuest(200 * i + kHeader, 7), "a frame");
    EXPECT_TRUE(IsAsleep());
  }
  // The third buffer is left for the next back-end.
  const auto base = Ask<FrontendRequest::kGetVringBase>({.index = kReceive, .num = 0});
  EXPECT_EQ(base->num, 2U);
  SendFromOutside("nobody reads it");
  EXPECT_TRUE(IsAsleep());
}

TEST_F(NetDeviceTest, APairHasAThread) {
  Start(kReceive, /*nr_pairs=*/2);
  EXPECT_EQ(device_->QueueThread(0), device_->QueueThread(1));
  EXPECT_EQ(device_->QueueThread(2), device_->QueueThread(3));
  EXPECT_NE(device_->QueueThread(0), device_->QueueThread(2));
  EXPECT_NE(device_->QueueThread(3), device_->QueueThread(4)) << "the control queue";
}

TEST_F(NetDeviceTest, ReceivesOnAThread) {
  has_threads_ = true;
  Start(kReceive);
  AddBuffers(1, 200);
  SendFromOutside("a frame");
  std::optional<Used> used;
  for (int i = 0; i < 5000 && !used; i++) {
    absl::SleepFor(absl::Milliseconds(1));
    Run();
    used = ring_.TakeUsed();
  }
  ASSERT_TRUE(used);
  EXPECT_EQ(InGuest(kHeader, 7), "a frame");
}

TEST_F(NetDeviceTest, FramesWaitForBuffers) {
  Start(kReceive);
  for (int i = 0; i < 3; i++) SendFromOutside("frame " + std::to_string(i));
  EXPECT_TRUE(IsAsleep());
  for (int i = 0; i < 3; i++) {
    AddBuffers(1, 100);
    EXPECT_TRUE(ring_.TakeUsed()) << i;
    EXPECT_EQ(InGuest(100 * i + kHeader, 7), "frame " + std::to_string(i));
    EXPECT_TRUE(IsAsleep());
  }
}

TEST_F(NetDeviceTest, AFrameMayHaveSeveralBuffers) {
  Start(kReceive);
  AddBuffers(3, 100);
  SendFromOutside(std::string(150, 'x'));
  auto used = ring_.TakeUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 100U);
  EXPECT_EQ(NrBuffers(), 2);
  used = ring_.TakeUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, kHeader + 50);
  EXPECT_EQ(InGuest(kHeader, 150), std::string(150, 'x'));
  EXPECT_FALSE(ring_.TakeUsed());
}

// The device puts the buffers back, and doesn't poll.
TEST_F(NetDeviceTest, AFrameWaitsUntilAllOfItsBuffersAreThere) {
  Start(kReceive);
  AddBuffers(2, 100);
  SendFromOutside(std::string(250, 'x'));
  EXPECT_FALSE(ring_.TakeUsed());
  EXPECT_TRUE(IsAsleep());
  EXPECT_EQ(backend_->queue(kReceive)->in_flight(), 0U);
  AddBuffers(1, 100);
  for (int i = 0; i < 3; i++) EXPECT_TRUE(ring_.TakeUsed()) << i;
  EXPECT_EQ(InGuest(kHeader, 250), std::string(250, 'x'));
}

TEST_F(NetDeviceTest, AStopLeavesTheBuffersOfAFrameThatWaits) {
  Start(kReceive);
  AddBuffers(2, 100);
  SendFromOutside(std::string(250, 'x'));
  EXPECT_EQ(Ask<FrontendRequest::kGetVringBase>({.index = kReceive, .num = 0})->num, 0U);
}

TEST_F(NetDeviceTest, DropsFramesThatNeverFit) {
  Start(kReceive, 1, /*without=*/kMergeable);
  AddBuffers(2, 100);
  SendFromOutside(std::string(150, 'x'));
  EXPECT_FALSE(ring_.TakeUsed());
  SendFromOutside("fits");
  EXPECT_TRUE(ring_.TakeUsed());
  EXPECT_EQ(NrBuffers(), 1);
}

TEST_F(NetDeviceTest, DropsFramesThatNeedMoreThanTheRing) {
  Start(kReceive);
  AddBuffers(8, 20);
  SendFromOutside(std::string(1000, 'x'));
  EXPECT_FALSE(ring_.TakeUsed());
  SendFromOutside("fits");
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(NetDeviceTest, Transmits) {
  Start(kTransmit);
  Transmit(std::string(kHeader, 0) + "a frame");
  EXPECT_EQ(ReceiveOutside(), "a frame");
  EXPECT_TRUE(IsAsleep());
}

TEST_F(NetDeviceTest, SurvivesWhatIsNoFrame) {
  Start(kTransmit);
  Transmit("");
  Transmit(std::string(kHeader - 1, 0));
  Transmit(std::string(kHeader, 0));
  EXPECT_EQ(ReceiveOutside(), std::nullopt);
  EXPECT_TRUE(session_.ok());
}

TEST_F(NetDeviceTest, AFullLinkLosesFrames) {
  Start(kTransmit);
  for (int i = 0; i < 1000; i++) Transmit(std::string(kHeader, 0) + std::string(1000, 'x'));
  EXPECT_TRUE(ReceiveOutside());
}

TEST_F(NetDeviceTest, ADisabledQueueSendsNothing) {
  Start(kTransmit);
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = kTransmit, .num = 0}).ok());
  Transmit(std::string(kHeader, 0) + "a frame");
  EXPECT_EQ(ReceiveOutside(), std::nullopt);
}

TEST_F(NetDeviceTest, ADisabledQueueReceivesNothing) {
  Start(kReceive);
  AddBuffers(2, 100);
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = kReceive, .num = 0}).ok());
  SendFromOutside("a frame");
  EXPECT_FALSE(ring_.TakeUsed());
  EXPECT_TRUE(IsAsleep());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = kReceive, .num = 1}).ok());
  Work();
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(NetDeviceTest, TheDriverChoosesThePairs) {
  Start(/*queue=*/4, /*nr_pairs=*/2);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {2, 0}), VIRTIO_NET_OK);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {0, 0}), VIRTIO_NET_ERR);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {3, 0}), VIRTIO_NET_ERR);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {2}), VIRTIO_NET_ERR);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, 1, {2, 0}), VIRTIO_NET_ERR);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, {1}), VIRTIO_NET_ERR);
}

TEST_F(NetDeviceTest, WithoutManyPairsTheControlQueueIsTheThird) {
  Start(/*queue=*/2, /*nr_pairs=*/2, /*without=*/uint64_t{1} << VIRTIO_NET_F_MQ);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {1, 0}), VIRTIO_NET_OK);
  EXPECT_EQ(Command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, {2, 0}), VIRTIO_NET_ERR);
}

TEST_F(NetDeviceTest, ALinkThatEndsIsNotPolled) {
  Start(kReceive, 1, 0, SOCK_SEQPACKET);
  AddBuffers(2, 100);
  ends_.clear();
  EXPECT_TRUE(IsAsleep());
  AddBuffers(1, 100);
  EXPECT_TRUE(IsAsleep());
  EXPECT_TRUE(session_.ok());
}

TEST(NetLinkTest, TakesTapsAndPacketSocketsOnly) {
  std::array<int, 2> pair;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
  EXPECT_FALSE(NetLink::Adopt(gmem::UniqueFd(pair[0])).ok());
  ASSERT_EQ(close(pair[1]), 0);
  ASSERT_EQ(pipe(pair.data()), 0);
  EXPECT_FALSE(NetLink::Adopt(gmem::UniqueFd(pair[0])).ok());
  ASSERT_EQ(close(pair[1]), 0);
}

TEST(MacTest, IsOneStation) {
  EXPECT_TRUE(NetDevice::ParseMac("52:54:00:12:34:56"));
  EXPECT_EQ(NetDevice::ParseMac("52:54:00:12:34:5F")->back(), 0x5f);
  for (const char* const text : {"", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:5",
                                 "53:54:00:12:34:56", "52:54:00:12:34:5g", "52-54-00-12-34-56"}) {
    EXPECT_FALSE(NetDevice::ParseMac(text)) << text;
  }
}

}  // namespace
