// SPDX-License-Identifier: MIT OR Apache-2.0
// A network device in DPDK: testpmd, which sends each packet back to its driver.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "lib/driver_memory.h"
#include "lib/peer.h"
#include "lib/session.h"
#include "lib/testpmd.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {
namespace {

using doubles::DriverMemory;
using doubles::NewRing;

constexpr unsigned kReceive = 0, kTransmit = 1;
constexpr uint16_t kQueueSize = 64;
constexpr size_t kBufferSize = 2048;
// struct virtio_net_hdr_v1 (virtio 1.3, 5.1.6).
constexpr size_t kHeaderSize = 12;
constexpr size_t kFrameSize = 200;
constexpr uint8_t kFirstOfWarmUp = 0xff;

// A network driver with one buffer for each direction.
class DpdkTest : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = NewDriverMemory(4 << 20);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    for (int i = 0; i < 2; i++) {
      auto ring = NewRing(*memory_, kQueueSize);
      ASSERT_TRUE(ring.ok()) << ring.status();
      rings_.push_back(*std::move(ring));
      const auto buffer = memory_->Allocate(kBufferSize, kBufferSize);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      buffers_.push_back(*buffer);
    }
    const std::string socket = scratch_.path("socket");
    auto peer = StartTestpmd("librte_net_vhost", "net_vhost0,iface=" + socket);
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
    auto frontend = ConnectFrontend(socket, /*features=*/0);
    ASSERT_TRUE(frontend.ok()) << frontend.status();
    frontend_ = *std::move(frontend);
    ASSERT_EQ(ShareMemory(*frontend_, *memory_), absl::OkStatus());
    EXPECT_EQ(frontend_->memory()[0].view != nullptr, UsesGuestMemory());
    for (const unsigned queue : {kReceive, kTransmit}) {
      ASSERT_EQ(StartRing(*frontend_, queue, rings_[queue]), absl::OkStatus());
    }
    ASSERT_EQ(frontend_->DriverOk(), absl::OkStatus());
  }

  absl::Span<uint8_t> frame(unsigned queue) const {
    return buffers_[queue].subspan(kHeaderSize, kFrameSize);
  }

  // Gives the device a buffer for a frame.
  void MakeRoom() {
    std::fill(buffers_[kReceive].begin(), buffers_[kReceive].end(), 0);
    const auto empty =
        std::array{DriverRing::Buffer{.bytes = buffers_[kReceive], .is_writable = true}};
    ASSERT_TRUE(rings_[kReceive].Add(empty).ok());
    rings_[kReceive].Kick();
  }

  // Sends a frame that begins with @first.
  void Send(uint8_t first) {
    std::fill_n(buffers_[kTransmit].begin(), kHeaderSize, 0);
    for (size_t i = 0; i < kFrameSize; i++) frame(kTransmit)[i] = static_cast<uint8_t>(first + i);
    const auto full = std::array{
        DriverRing::Buffer{.bytes = buffers_[kTransmit].first(kHeaderSize + kFrameSize)}};
    ASSERT_TRUE(rings_[kTransmit].Add(full).ok());
    rings_[kTransmit].Kick();
    const auto sent = rings_[kTransmit].Wait(kStartTimeout);
    ASSERT_TRUE(sent.ok()) << sent.status();
  }

  // As a network does, DPDK drops frames while one of its queues isn't ready. So sends frames until
  // the first one comes back.
  void WarmUp() {
    ASSERT_NO_FATAL_FAILURE(MakeRoom());
    absl::Status status = absl::DeadlineExceededError("");
    for (int i = 0; i < 30 && absl::IsDeadlineExceeded(status); i++) {
      ASSERT_NO_FATAL_FAILURE(Send(kFirstOfWarmUp));
      status = rings_[kReceive].Wait(absl::Seconds(1)).status();
    }
    ASSERT_TRUE(status.ok()) << status;
  }

  // Sends a frame, and waits until it comes back. Skips late frames of the warm-up.
  void SendAndReceive(uint8_t first) {
    ASSERT_NO_FATAL_FAILURE(MakeRoom());
    ASSERT_NO_FATAL_FAILURE(Send(first));
    while (true) {
      const auto received = rings_[kReceive].Wait(kStartTimeout);
      ASSERT_TRUE(received.ok()) << received.status();
      ASSERT_EQ(received->written, kHeaderSize + kFrameSize);
      if (frame(kReceive)[0] != kFirstOfWarmUp) break;
      ASSERT_NO_FATAL_FAILURE(MakeRoom());
    }
    EXPECT_TRUE(
        std::equal(frame(kTransmit).begin(), frame(kTransmit).end(), frame(kReceive).begin()));
  }

  ScratchFolder scratch_;
  std::optional<Peer> peer_;
  std::unique_ptr<DriverMemory> memory_;
  std::vector<DriverRing> rings_;
  std::vector<absl::Span<uint8_t>> buffers_;
  std::unique_ptr<Frontend> frontend_;
};

TEST_F(DpdkTest, SendsFramesBack) {
  ASSERT_NO_FATAL_FAILURE(WarmUp());
  for (uint8_t first = 0; first < 100; first++) {
    ASSERT_NO_FATAL_FAILURE(SendAndReceive(first));
  }
  EXPECT_TRUE(peer_->is_running());
}

}  // namespace
}  // namespace gmem::vhost::peers
