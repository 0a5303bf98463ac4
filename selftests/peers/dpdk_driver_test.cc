// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-net under DPDK's driver: testpmd, which sends each frame back to the link.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "lib/peer.h"
#include "lib/session.h"
#include "lib/testpmd.h"

namespace gmem::vhost::peers {
namespace {

constexpr size_t kFrameSize = 200;
constexpr uint8_t kFirstOfWarmUp = 0xff;

// The parameter: packed rings?
class DpdkDriverTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::array<int, 2> link;
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, link.data()), 0);
    link_.reset(link[0]);
    ASSERT_EQ(fcntl(link_.get(), F_SETFD, FD_CLOEXEC), 0);
    const UniqueFd others(link[1]);
    const std::string socket = scratch_.path("socket");
    const char* const tools = getenv("GMEM_TOOLS");
    auto device = Peer::Start({absl::StrCat(tools == nullptr ? "." : tools, "/gmem-vhost-net"),
                               "--socket-path=" + socket, absl::StrCat("--link-fds=", link[1])});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    const absl::Time end = absl::Now() + kStartTimeout;
    while (!std::filesystem::exists(socket) && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    ASSERT_NO_FATAL_FAILURE(StartDriver(/*is_packed=*/GetParam()));
  }

  // testpmd drops the frames that have come before it begins to forward. So sends frames until one
  // comes back.
  void StartDriver(bool is_packed) {
    auto driver = StartTestpmd("librte_net_virtio",
                               absl::StrCat("net_virtio_user0,path=", scratch_.path("socket"),
                                            ",queues=1,packed_vq=", is_packed ? 1 : 0));
    ASSERT_TRUE(driver.ok()) << driver.status();
    driver_ = *std::move(driver);
    const absl::Time end = absl::Now() + kStartTimeout;
    pollfd ready = {.fd = link_.get(), .events = POLLIN, .revents = 0};
    while (absl::Now() < end && ready.revents == 0) {
      ASSERT_NO_FATAL_FAILURE(Send(kFirstOfWarmUp));
      ASSERT_GE(poll(&ready, 1, 200), 0);
    }
    ASSERT_NE(ready.revents, 0) << "no frame comes back";
  }
  static std::string Frame(uint8_t first) {
    std::string frame(kFrameSize, 0);
    for (size_t i = 0; i < frame.size(); i++) frame[i] = static_cast<char>(first + i);
    return frame;
  }
  void Send(uint8_t first) const {
    const std::string frame = Frame(first);
    ASSERT_EQ(send(link_.get(), frame.data(), frame.size(), MSG_NOSIGNAL), ssize_t{kFrameSize});
  }
  std::string Receive() const {
    pollfd ready = {.fd = link_.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(kStartTimeout))), 1)
        << "no frame comes back";
    std::string frame(2 * kFrameSize, 0);
    const ssize_t size = recv(link_.get(), frame.data(), frame.size(), MSG_DONTWAIT);
    frame.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return frame;
  }
  // The frame that begins with @first comes back. Skips late frames of the warm-up.
  void Expect(uint8_t first) const {
    std::string frame = Receive();
    while (frame == Frame(kFirstOfWarmUp)) frame = Receive();
    ASSERT_EQ(frame, Frame(first));
  }

  ScratchFolder scratch_;
  UniqueFd link_;
  std::optional<Peer> device_;
  std::optional<Peer> driver_;
};

TEST_P(DpdkDriverTest, SendsFramesBack) {
  for (uint8_t first = 0; first < 100; first++) {
    ASSERT_NO_FATAL_FAILURE(Send(first));
    ASSERT_NO_FATAL_FAILURE(Expect(first));
  }
  constexpr uint8_t kBurst = 64;
  for (uint8_t first = 0; first < kBurst; first++) ASSERT_NO_FATAL_FAILURE(Send(first));
  for (uint8_t first = 0; first < kBurst; first++) ASSERT_NO_FATAL_FAILURE(Expect(first));
  EXPECT_TRUE(device_->is_running());
  EXPECT_TRUE(driver_->is_running());
}

// The device serves the next driver, too, with the other kind of rings.
TEST_P(DpdkDriverTest, ServesTheNextDriver) {
  ASSERT_NO_FATAL_FAILURE(Send(1));
  ASSERT_NO_FATAL_FAILURE(Expect(1));
  driver_->Kill();
  ASSERT_NO_FATAL_FAILURE(StartDriver(/*is_packed=*/!GetParam()));
  ASSERT_NO_FATAL_FAILURE(Send(2));
  ASSERT_NO_FATAL_FAILURE(Expect(2));
}

INSTANTIATE_TEST_SUITE_P(Rings, DpdkDriverTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Packed" : "Split"; });

}  // namespace
}  // namespace gmem::vhost::peers
