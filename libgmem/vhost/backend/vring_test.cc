// SPDX-License-Identifier: MIT OR Apache-2.0
// Virtqueues: how they start, are served, fail and stop.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class VringTest : public BackendTest {
 protected:
  // After HoldARequest(): the next kick lets the virtqueue fail.
  void ExpectAStopAfterTheFailure() {
    Kick();
    Run();
    std::optional<absl::Status> answer;
    frontend_->Start<FrontendRequest::kGetVringBase>(
        {.index = 0, .num = 0}, {},
        [&](const absl::StatusOr<Message*>& reply) { answer = reply.status(); });
    for (int i = 0; i < 5; i++) Run();
    EXPECT_FALSE(answer) << "the device may still write there";
    EXPECT_EQ(device_.log, "start0 failed stopping ");
    ASSERT_NE(backend_->queue(0), nullptr);
    TestDevice::Finish(*backend_->queue(0), device_.held[0]);
    for (int i = 0; i < 5 && !answer; i++) Run();
    EXPECT_EQ(answer, absl::OkStatus());
    EXPECT_TRUE(ring_.TakeUsed());
    EXPECT_EQ(device_.log, "start0 failed stopping stop0 ");
  }
};

TEST_F(VringTest, ServesAQueueFromSetVringKickToGetVringBase) {
  Negotiate();
  SetTable();
  // Nobody kicks for a chain from before the start.
  AddRequest();
  StartQueue();
  const auto used = ring_.TakeUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 3U);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(guest_.at(TestGuest::kData + 0x100)), 3), "cba");
  EXPECT_TRUE(Take(call_));
  ExpectRefused(Ask<FrontendRequest::kSetVringNum>({.index = 0, .num = 16}));
  ExpectRefused(Ask<FrontendRequest::kSetFeatures>(0x1));
  const auto base = Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0});
  ASSERT_TRUE(base.ok());
  EXPECT_EQ(base->num, 1U);
  EXPECT_EQ(device_.log, "start0 stop0 ");
  AddRequest();
  Kick();
  Run();
  EXPECT_FALSE(ring_.TakeUsed()) << "it has stopped";
}

TEST_F(VringTest, DisabledQueuesWait) {
  Negotiate();
  SetTable();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  AddRequest();
  Kick();
  Run();
  EXPECT_FALSE(ring_.TakeUsed());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
  ExpectRefused(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 2}));
}

// The specification: rings are enabled unless VHOST_USER_F_PROTOCOL_FEATURES has been negotiated.
TEST_F(VringTest, QueuesAreEnabledBeforeFeaturesAreSet) {
  SetTable();
  kick_.reset(eventfd(0, EFD_NONBLOCK));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 0, .num = kQueueSize}).ok());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(Address(0)).ok());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(0, {kick_.get()}).ok());
  EXPECT_TRUE(backend_->is_enabled(0));
  AddRequest();
  Kick();
  Run();
  EXPECT_TRUE(ring_.TakeUsed());
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  // With the feature, SET_VRING_ENABLE decides.
  Negotiate();
  EXPECT_FALSE(backend_->is_enabled(0));
}

// Otherwise a network driver would wait for ever for the chains of a disabled queue.
TEST_F(VringTest, DisabledQueuesMayBeEmptied) {
  device_.discard = true;
  Negotiate();
  SetTable();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  for (int i = 0; i < 3; i++) {
    AddRequest();
    Kick();
    Run();
    const auto used = ring_.TakeUsed();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->written, 0U);
  }
  AddRequest();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
  EXPECT_EQ(ring_.TakeUsed()->written, 3U) << "it works again, without a kick";
}

TEST_F(VringTest, DisabledQueuesLetTheLoopSleep) {
  Negotiate();
  SetTable();
  AddRequest();
  StartQueue();
  ASSERT_TRUE(ring_.TakeUsed());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  AddRequest();
  Kick();
  for (int i = 0; i < 3; i++) Run();
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
}

TEST_F(VringTest, SetVringEnableWaitsForNoChainInFlight) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  EXPECT_FALSE(ring_.TakeUsed());
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  backend_->queue(0)->Notify();
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(VringTest, GetVringBaseWaitsForChainsInFlight) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}, {},
                                                   [&](const absl::StatusOr<Message*>& reply) {
                                                     is_answered = true;
                                                     EXPECT_TRUE(reply.ok());
                                                   });
  for (int i = 0; i < 5; i++) Run();
  EXPECT_FALSE(is_answered);
  EXPECT_EQ(device_.log, "start0 stopping ");
  // As a device with a loop of its own does.
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  backend_->queue(0)->Notify();
  for (int i = 0; i < 5 && !is_answered; i++) Run();
  EXPECT_TRUE(is_answered);
  EXPECT_TRUE(ring_.TakeUsed());
}

// A device that cancels requests puts the chains back when the cancellation is done.
TEST_F(VringTest, GetVringBaseIsAnsweredWhenChainsArePutBack) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  std::optional<absl::StatusOr<VringState>> base;
  frontend_->Start<FrontendRequest::kGetVringBase>(
      {.index = 0, .num = 0}, {}, [&](const absl::StatusOr<Message*>& reply) {
        base = reply.ok() ? FromBytes<VringState>((*reply)->bytes())
                          : absl::StatusOr<VringState>(reply.status());
      });
  for (int i = 0; i < 5; i++) Run();
  ASSERT_FALSE(base);
  ASSERT_TRUE(backend_->queue(0)->Unpop(device_.held[0]));
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 1) << "it wakes the loop";
  for (int i = 0; i < 5 && !base; i++) Run();
  ASSERT_TRUE(base && base->ok());
  EXPECT_EQ((*base)->num, 0U) << "the next back-end gets it";
}

TEST_F(VringTest, GetVringBaseLeavesNotedChainsInFlight) {
  Negotiate(0, kAll | Bit(ProtocolFeature::kGetVringBaseInflight));
  SetTable();
  auto area = Ask<FrontendRequest::kGetInflightFd>(
      {.mmap_size = 0, .mmap_offset = 0, .nr_queues = 2, .queue_size = kQueueSize, .padding = 0});
  ASSERT_TRUE(area.ok());
  const UniqueFd buffer = reply_fds_.Take(0);
  ASSERT_TRUE(Ask<FrontendRequest::kSetInflightFd>(*area, {buffer.get()}).ok());
  StartQueue();
  device_.hold = true;
  AddRequest();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 1U);
  EXPECT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  EXPECT_EQ(device_.log, "start0 stopping stop0 ");
  EXPECT_FALSE(ring_.TakeUsed());
  device_.hold = false;
  StartQueue();
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(VringTest, GetVringBaseInflightNeedsAnInflightBuffer) {
  Negotiate();
  ExpectRefused(Ask<FrontendRequest::kSetProtocolFeatures>(
      Bit(ProtocolFeature::kReplyAck) | Bit(ProtocolFeature::kGetVringBaseInflight)));
}

TEST_F(VringTest, ReportsABrokenQueueWhichCanStartAgain) {
  Negotiate();
  SetTable();
  StartQueue();
  ring_.SetAvailableIndex(100);
  Kick();
  Run();
  EXPECT_TRUE(session_.ok());
  EXPECT_EQ(GetErrno(device_.failure), EBADMSG);
  EXPECT_TRUE(Take(error_));
  EXPECT_EQ(*Ask<FrontendRequest::kGetStatus>() & 64, 64U);
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  ring_.SetAvailableIndex(0);
  StartQueue();
  AddRequest();
  Kick();
  Run();
  EXPECT_TRUE(ring_.TakeUsed());
}

// A failure doesn't end what the device has begun.
TEST_F(VringTest, AQueueThatIsBrokenStopsWhenItsChainsAreDone) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  ring_.SetAvailableIndex(100);
  ExpectAStopAfterTheFailure();
}

TEST_F(VringTest, AQueueThatTheDeviceFailsStopsWhenItsChainsAreDone) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  device_.trouble = absl::InternalError("no disk");
  AddRequest();
  ExpectAStopAfterTheFailure();
}

// CVE-2020-10723: an index must not be cut to 16 bits.
TEST_F(VringTest, ChecksAllOfAnIndex) {
  Negotiate();
  SetTable();
  for (const uint32_t index : {2U, 0x10000U, 0xffffffffU}) {
    const VringState state = {.index = index, .num = 8};
    ExpectRefused(Ask<FrontendRequest::kSetVringNum>(state));
    ExpectRefused(Ask<FrontendRequest::kSetVringBase>(state));
    ExpectRefused(Ask<FrontendRequest::kSetVringEnable>(state));
    ExpectRefused(Ask<FrontendRequest::kSetVringAddr>(Address(index)));
  }
  ExpectRefused(Ask<FrontendRequest::kSetVringCall>(uint64_t{2} | kVringNoFd));
}

TEST_F(VringTest, ResetStopsAll) {
  Negotiate();
  SetTable();
  StartQueue();
  Kick();
  Run();
  ASSERT_TRUE(Ask<FrontendRequest::kResetDevice>().ok());
  EXPECT_EQ(device_.log, "start0 stop0 reset ");
  ASSERT_TRUE(Ask<FrontendRequest::kSetStatus>(0).ok());
  EXPECT_EQ(device_.log, "start0 stop0 reset reset ");
}

// An answer would let the driver use the memory of these chains for something else.
TEST_F(VringTest, AResetWaitsForChainsInFlight) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kResetDevice>(
      {}, {}, [&](const absl::StatusOr<Message*>& reply) { is_answered = reply.ok(); });
  for (int i = 0; i < 5; i++) Run();
  EXPECT_FALSE(is_answered);
  EXPECT_EQ(device_.log, "start0 stopping ");
  ASSERT_NE(backend_->queue(0), nullptr);
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  for (int i = 0; i < 5; i++) Run();
  EXPECT_TRUE(is_answered);
  EXPECT_EQ(device_.log, "start0 stopping stop0 reset ");
}

TEST_F(VringTest, AResetThatTakesTooLongEndsTheSession) {
  device_.patience = absl::Milliseconds(50);
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  frontend_->Start<FrontendRequest::kSetStatus>(
      0, {}, [](const absl::StatusOr<Message*>& reply) { EXPECT_FALSE(reply.ok()); });
  ExpectNoAnswerInTime();
}

// A polled virtqueue, or a late kick, of the driver before must not start a virtqueue.
TEST_F(VringTest, AResetLastsUntilTheNextSetVringKick) {
  Negotiate();
  SetTable();
  for (const bool is_polled : {true, false}) {
    StartQueue();
    if (is_polled) {
      ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(kVringNoFd).ok());
    }
    ASSERT_TRUE(Ask<FrontendRequest::kResetDevice>().ok());
    Kick();
    Run();
    EXPECT_EQ(std::exchange(device_.log, ""), "start0 stop0 reset ");
  }
}

TEST_F(VringTest, PollsAQueueWithoutAKick) {
  Negotiate();
  SetTable();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(kVringNoFd).ok());
  AddRequest();
  EXPECT_LT(backend_->next_deadline(), absl::InfiniteFuture());
  Run();
  EXPECT_TRUE(ring_.TakeUsed());
}

// As DPDK's virtio-user starts a packed ring: the upper half of its base is 0.
TEST_F(VringTest, ServesAPackedRingWithoutAUsedPosition) {
  TestRing ring(guest_, kQueueSize, /*is_packed=*/true);
  Negotiate(Bit(VirtioFeature::kRingPacked));
  SetTable();
  StartQueue(0, 0x00008000);
  ring.Add({{kData, 3, 0}, {kData + 0x100, 3, kWrite}});
  Kick();
  Run();
  EXPECT_TRUE(ring.TakeUsed()) << "the driver must see it";
  EXPECT_EQ(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0})->num, 0x80028002U);
}

TEST_F(VringTest, NotifiesInBand) {
  Negotiate(0, kAll | Bit(ProtocolFeature::kInbandNotifications));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(kVringNoFd).ok());
  AddRequest();
  ASSERT_TRUE(Ask<FrontendRequest::kVringKick>({.index = 0, .num = 0}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
  Message* const message = NextOfChannel();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->header.request, static_cast<uint32_t>(BackendRequest::kVringCall));
}

TEST_F(VringTest, CallsInBandWhenTheChannelHasRoom) {
  Negotiate(0, kAll | Bit(ProtocolFeature::kInbandNotifications));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(kVringNoFd).ok());
  FillChannel();
  AddRequest();
  Kick();
  Run();
  ASSERT_TRUE(ring_.TakeUsed());
  EXPECT_TRUE(FindInChannel(BackendRequest::kVringCall));
}

// The front-end has the same open files: it may fill their counters and make them blocking.
TEST_F(VringTest, FullEventfdsDontBlock) {
  Negotiate();
  SetTable();
  StartQueue();
  const uint64_t most = UINT64_MAX - 1;
  for (const UniqueFd* const fd : {&call_, &error_}) {
    ASSERT_EQ(write(fd->get(), &most, sizeof(most)), 8);
    ASSERT_EQ(fcntl(fd->get(), F_SETFL, 0), 0);
  }
  AddRequest();
  Kick();
  std::atomic<bool> is_done = false;
  std::thread loop([&] {
    Run();
    // Breaks the ring.
    ring_.SetAvailableIndex(100);
    Kick();
    Run();
    is_done = true;
  });
  for (const absl::Time end = absl::Now() + kPatience; !is_done && absl::Now() < end;) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_TRUE(is_done) << "the back-end waits for the front-end";
  // Lets the thread go on.
  while (!is_done) {
    for (const UniqueFd* const fd : {&call_, &error_}) {
      pollfd poll_fd = {.fd = fd->get(), .events = POLLIN, .revents = 0};
      if (poll(&poll_fd, 1, 1) == 1) Take(*fd);
    }
  }
  loop.join();
  EXPECT_TRUE(ring_.TakeUsed());
  EXPECT_EQ(GetErrno(device_.failure), EBADMSG);
}

TEST_F(VringTest, AKickThatTheFrontendTakesBackDoesNotBlock) {
  Negotiate();
  SetTable();
  StartQueue();
  Kick();
  // The front-end takes the kick before the back-end does.
  EXPECT_TRUE(Take(kick_));
  Run();
  EXPECT_TRUE(session_.ok());
}

TEST_F(VringTest, ASemaphoreThatStaysReadableLetsTheLoopSleep) {
  Negotiate();
  SetTable();
  StartQueue();
  kick_.reset(eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(0, {kick_.get()}).ok());
  constexpr uint64_t kMany = uint64_t{1} << 40;
  ASSERT_EQ(write(kick_.get(), &kMany, sizeof(kMany)), 8);
  for (int i = 0; i < 3; i++) Run();
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
  AddRequest();
  Kick();
  Run();
  EXPECT_TRUE(ring_.TakeUsed()) << "a kick is still one";
}

}  // namespace
}  // namespace gmem::vhost
