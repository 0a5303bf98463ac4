// SPDX-License-Identifier: MIT OR Apache-2.0
// Virtqueues whose device waits for something other than chains, and what happens to chains that a
// device holds.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

// Split or packed, with and without event indices.
class ReceiveQueueTest : public BackendTest,
                         public testing::WithParamInterface<std::tuple<bool, bool>> {
 protected:
  ReceiveQueueTest() : packed_ring_(guest_, kQueueSize, /*is_packed=*/true) {}

  bool is_packed() const { return std::get<0>(GetParam()); }
  bool has_event_idx() const { return std::get<1>(GetParam()); }
  TestRing& ring() { return is_packed() ? packed_ring_ : ring_; }
  uint32_t FirstBase() const { return is_packed() ? 0x80008000 : 0; }
  void StartReceiving() {
    Negotiate((is_packed() ? Bit(VirtioFeature::kRingPacked) : 0) |
              (has_event_idx() ? Bit(VirtioFeature::kEventIdx) : 0));
    SetTable();
    StartQueue(0, FirstBase());
  }
  void AddBuffer() { ring().Add({{kData, 16, kWrite}}); }
  // Would a driver kick for the next chain?
  bool WantsKicks() {
    const auto at = TestGuest::kUsed;
    if (is_packed()) return guest_.Get<uint16_t>(at + 2) == 0;
    if (!has_event_idx()) return guest_.Get<uint16_t>(at) == 0;
    return guest_.Get<uint16_t>(at + 4 + 8 * kQueueSize) == ring().next();
  }
  bool IsAsleep() {
    for (int i = 0; i < 5; i++) Run();
    pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
    return poll(&poll_fd, 1, 0) == 0 && backend_->next_deadline() == absl::InfiniteFuture();
  }
  // Pops on its own, as a device does when a packet comes.
  Popped Receive() {
    Chain chain;
    const Popped popped = backend_->queue(0)->Pop(chain);
    if (popped == Popped::kChain) TestDevice::Finish(*backend_->queue(0), chain);
    return popped;
  }

  TestRing packed_ring_;
};

INSTANTIATE_TEST_SUITE_P(Rings, ReceiveQueueTest,
                         testing::Combine(testing::Bool(), testing::Bool()));

TEST_P(ReceiveQueueTest, WaitingCostsNothing) {
  device_.waits = true;
  StartReceiving();
  for (int i = 0; i < 3; i++) AddBuffer();
  Kick();
  EXPECT_TRUE(IsAsleep());
  EXPECT_LE(device_.nr_calls, 4);
  // The device learns of more, though it has left chains in the ring.
  for (int i = 0; i < 3; i++) {
    EXPECT_TRUE(WantsKicks());
    AddBuffer();
    Kick();
    const int before = device_.nr_calls;
    EXPECT_TRUE(IsAsleep());
    EXPECT_EQ(device_.nr_calls, before + 1);
  }
  // Two packets come: the device takes two chains.
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(Receive(), Popped::kChain);
    EXPECT_TRUE(ring().TakeUsed());
  }
  EXPECT_TRUE(IsAsleep());
  EXPECT_TRUE(WantsKicks());
  // All others.
  while (Receive() == Popped::kChain) {
    EXPECT_TRUE(ring().TakeUsed());
  }
  EXPECT_TRUE(IsAsleep());
  AddBuffer();
  Kick();
  EXPECT_TRUE(IsAsleep());
  EXPECT_EQ(Receive(), Popped::kChain);
}

// A device that needs more chains than there are puts those back that it has popped.
TEST_P(ReceiveQueueTest, PoppingAndPuttingBackIsWaiting) {
  device_.waits = true;
  device_.in_handler = [](Backend& backend) {
    Virtqueue& queue = *backend.queue(0);
    std::vector<Chain> chains;
    for (Chain chain; queue.Pop(chain) == Popped::kChain;) chains.push_back(std::move(chain));
    for (size_t i = chains.size(); i-- > 0;) EXPECT_TRUE(queue.Unpop(chains[i]));
  };
  StartReceiving();
  AddBuffer();
  Kick();
  EXPECT_TRUE(IsAsleep());
  EXPECT_LE(device_.nr_calls, 4);
  EXPECT_TRUE(WantsKicks());
  AddBuffer();
  Kick();
  EXPECT_TRUE(IsAsleep());
  EXPECT_LE(device_.nr_calls, 5);
}

// The next back-end, after a migration for example, gets them.
TEST_P(ReceiveQueueTest, GetVringBaseNamesChainsThatAreHeld) {
  device_.hold = device_.is_receive = true;
  StartReceiving();
  for (int i = 0; i < 3; i++) AddBuffer();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 3U);
  const auto base = Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0});
  ASSERT_TRUE(base.ok());
  EXPECT_EQ(base->num, FirstBase());
  EXPECT_EQ(device_.log, "start0 stop0 ");
  EXPECT_FALSE(ring().TakeUsed());
  device_.hold = false;
  StartQueue(0, base->num);
  for (int i = 0; i < 3; i++) EXPECT_TRUE(ring().TakeUsed()) << i;
}

// Nothing has begun on the last two chains: the device hands them back, and pushes the first.
TEST_P(ReceiveQueueTest, QueueStoppingMayHandChainsBack) {
  device_.hold = true;
  StartReceiving();
  for (int i = 0; i < 3; i++) AddBuffer();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 3U);
  Chain begun = std::move(device_.held.front());
  device_.held.erase(device_.held.begin());
  device_.gives_back = true;
  std::optional<uint32_t> base;
  frontend_->Start<FrontendRequest::kGetVringBase>(
      {.index = 0, .num = 0}, {}, [&](const absl::StatusOr<Message*>& reply) {
        if (reply.ok()) base = FromBytes<VringState>((*reply)->bytes()).num;
      });
  for (int i = 0; i < 5; i++) Run();
  EXPECT_FALSE(base) << "a chain with I/O begun is never taken back";
  EXPECT_TRUE(device_.held.empty());
  EXPECT_EQ(backend_->queue(0)->in_flight(), 1U);
  // The push wakes the loop.
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
  EXPECT_TRUE(backend_->queue(0)->Push(begun, 0));
  EXPECT_EQ(poll(&poll_fd, 1, 0), 1);
  for (int i = 0; i < 5 && !base; i++) Run();
  EXPECT_EQ(base, is_packed() ? 0x80018001U : 1U);
  EXPECT_TRUE(ring().TakeUsed());
}

// An answer would let the front-end take the memory for free.
TEST_P(ReceiveQueueTest, AStopThatTakesTooLongEndsTheSession) {
  device_.hold = true;
  device_.patience = absl::Milliseconds(50);
  StartReceiving();
  AddBuffer();
  Kick();
  Run();
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kGetVringBase>(
      {.index = 0, .num = 0}, {},
      [&](const absl::StatusOr<Message*>& reply) { is_answered |= reply.ok(); });
  ExpectNoAnswerInTime();
  EXPECT_FALSE(is_answered);
}

// The memory is gone when the front-end has its answer. The virtqueue goes on without a kick.
TEST_P(ReceiveQueueTest, ChainsThatAreHeldDontKeepMemory) {
  device_.hold = device_.is_receive = true;
  StartReceiving();
  const UniqueFd file = NewFile(kMore.size);
  ASSERT_TRUE(Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {file.get()}).ok());
  AddBuffer();
  ring().Add({{kMore.guest_address, 16, kWrite}});
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 2U);
  Chain late = std::move(device_.held.back());
  device_.held.pop_back();
  uint8_t* const memory = late.writable()[0].data();
  ASSERT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = kMore}).ok());
  EXPECT_EQ(device_.log, "start0 taken ");
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  EXPECT_EQ(write(in.get(), memory, 1), -1) << "it isn't mapped";
  EXPECT_FALSE(backend_->queue(0)->Push(late, 1));
  EXPECT_FALSE(ring().TakeUsed());
  EXPECT_EQ(device_.held.size(), 1U) << "it was popped again, without a kick";
  EXPECT_TRUE(backend_->queue(0)->Push(device_.held[0], 0));
  EXPECT_TRUE(ring().TakeUsed());
  // The other one waits for its memory: front-ends remove a region that changes, and add it again.
  EXPECT_TRUE(IsAsleep());
  ASSERT_TRUE(Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {file.get()}).ok());
  EXPECT_EQ(device_.held.size(), 2U);
  EXPECT_TRUE(backend_->queue(0)->Push(device_.held[1], 0));
  EXPECT_TRUE(ring().TakeUsed());
}

// A chain that was popped later has gone, so this one can't go back to the ring.
TEST_P(ReceiveQueueTest, TheDeviceGivesBackWhatCannotBeTakenBack) {
  device_.hold = device_.is_receive = device_.finishes = true;
  StartReceiving();
  const UniqueFd file = NewFile(kMore.size);
  ASSERT_TRUE(Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {file.get()}).ok());
  ring().Add({{kMore.guest_address, 16, kWrite}});
  for (int i = 0; i < 2; i++) AddBuffer();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 3U);
  EXPECT_TRUE(backend_->queue(0)->Push(device_.held[1], 0));
  EXPECT_TRUE(ring().TakeUsed());
  ASSERT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = kMore}).ok());
  EXPECT_EQ(device_.log, "start0 taken removed ");
  EXPECT_TRUE(ring().TakeUsed());
  EXPECT_EQ(device_.held.size(), 1U) << "it was popped again";
}

TEST_P(ReceiveQueueTest, ARefusedRequestTakesNothingBack) {
  device_.hold = device_.is_receive = true;
  StartReceiving();
  AddBuffer();
  Kick();
  Run();
  ExpectRefused(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = {}}));
  MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {guest_.region()}};
  table.regions[0].size = 0;
  ExpectRefused(Ask<FrontendRequest::kSetMemTable>(table, {guest_.fd()}));
  EXPECT_EQ(device_.log, "start0 ");
  EXPECT_EQ(device_.held.size(), 1U);
  EXPECT_TRUE(backend_->queue(0)->Push(device_.held[0], 0));
}

// The call that fails loses each chain that it has popped, also one that an earlier call had popped
// and this one has put back. A chain that it hasn't touched is still the device's.
TEST_P(ReceiveQueueTest, AFailingCallLosesChainsThatItPopsAgain) {
  device_.hold = true;
  StartReceiving();
  for (int i = 0; i < 3; i++) AddBuffer();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 3U);
  device_.in_handler = [this](Backend& backend) {
    for (int i = 0; i < 2; i++) {
      EXPECT_TRUE(backend.queue(0)->Unpop(device_.held.back()));
      device_.held.pop_back();
    }
  };
  device_.trouble = absl::InternalError("trouble");
  Kick();
  Run();
  EXPECT_EQ(device_.failure, device_.trouble);
  EXPECT_EQ(backend_->queue(0)->in_flight(), 1U);
  EXPECT_TRUE(backend_->queue(0)->Push(device_.held[0], 0));
  EXPECT_EQ(backend_->queue(0)->in_flight(), 0U);
  EXPECT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok())
      << "nothing is left to wait for";
}

// Nobody else would notice, since the device popped on its own.
TEST_P(ReceiveQueueTest, ARingThatBreaksLaterIsReported) {
  device_.waits = true;
  StartReceiving();
  AddBuffer();
  Kick();
  ASSERT_TRUE(IsAsleep());
  ring().Add({{0, 16, kWrite}});
  EXPECT_EQ(Receive(), Popped::kChain);
  EXPECT_EQ(Receive(), Popped::kBroken);
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 1);
  Run();
  EXPECT_TRUE(Take(error_));
  EXPECT_EQ(GetErrno(device_.failure), EBADMSG);
}

}  // namespace
}  // namespace gmem::vhost
