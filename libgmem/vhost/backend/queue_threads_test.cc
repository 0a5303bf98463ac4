// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/queue_threads.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/queue_calls.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/driver_memory.h"
#include "vhost/testing/scripted_frontend.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::DriverMemory;
using doubles::kPatience;
using doubles::NewRing;

// Pushes all that it pops. The state of one virtqueue has no lock, and ThreadSanitizer watches.
class ThreadedDevice : public Device {
 public:
  static constexpr uint16_t kQueues = 3;

  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return kQueues; }
  // The last two share one.
  uint16_t QueueThread(uint16_t index) const override { return index == 0 ? 7 : 8; }
  absl::Duration stop_timeout() const override { return patience; }

  absl::Status HandleQueue(Backend& backend, Virtqueue& queue) override {
    PerQueue& mine = queues[queue.index()];
    mine.calls.AssertIn(queue);
    mine.thread = std::this_thread::get_id();
    mine.nr_calls++;
    if (queue.index() == 0) {
      is_in_call = true;
      while (is_blocked) absl::SleepFor(absl::Milliseconds(1));
      is_in_call = false;
    }
    if (in_handler) in_handler(backend, queue);
    while (!leaves_all && queue.Pop(mine.chain) == Popped::kChain) {
      queue.Push(mine.chain, 0);
      if (is_endless) add_again();
    }
    return queue.status();
  }
  void QueueStopped(uint16_t index) override {
    PerQueue& mine = queues[index];
    mine.calls.AssertAlone();
    nr_stopped++;
  }
  void QueueFailed(uint16_t, const absl::Status& why) override { failure = why; }

  struct PerQueue {
    QueueCalls calls;
    Chain chain ABSL_GUARDED_BY(calls);
    std::atomic<std::thread::id> thread;
    std::atomic<int> nr_calls = 0;
  };
  std::array<PerQueue, kQueues> queues;
  std::function<void(Backend&, Virtqueue&)> in_handler;
  std::function<void()> add_again;
  std::atomic<bool> is_blocked = false;
  std::atomic<bool> is_in_call = false;
  std::atomic<bool> is_endless = false;
  bool leaves_all = false;
  absl::Duration patience = kPatience;
  int nr_stopped = 0;
  absl::Status failure;
};

class QueueThreadsTest : public doubles::ScriptedFrontendTest {
 protected:
  QueueThreadsTest() {
    memory_ = *DriverMemory::Create(1 << 20);
    for (uint16_t i = 0; i < ThreadedDevice::kQueues; i++) {
      rings_.push_back(*NewRing(*memory_, 16));
    }
    data_ = *memory_->Allocate(64);
    Connect(device_, Backend::Options{.timeout = kPatience, .has_queue_threads = true});
  }
  ~QueueThreadsTest() override {
    device_.is_blocked = device_.is_endless = false;
    Disconnect();
    rings_.clear();
    memory_.reset();
  }

  void Start() {
    Negotiate(0, Bit(ProtocolFeature::kReplyAck) | Bit(ProtocolFeature::kMq));
    MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {memory_->region()}};
    ASSERT_TRUE(Ask<FrontendRequest::kSetMemTable>(table, {memory_->fd()}).ok());
    for (uint32_t i = 0; i < rings_.size(); i++) StartRing(i);
    Settle();
  }
  // Runs the loop until the threads have their batons back: a round that had to wait for a thread
  // keeps the others waiting until a later one.
  void Settle() {
    EXPECT_TRUE(WaitFor([this] {
      Run();
      return !session_.ok() ||
             (!IsReadable() && backend_->next_deadline() == absl::InfiniteFuture());
    }));
  }
  void StartRing(uint32_t i) {
    DriverRing& ring = rings_[i];
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = i, .num = ring.size()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringBase>({.index = i, .num = ring.used_index()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(ring.address(i)).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(i, {ring.call_fd()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(i, {ring.kick_fd()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = i, .num = 1}).ok());
  }
  void Add(size_t i) {
    const std::array<DriverRing::Buffer, 1> chain = {DriverRing::Buffer{.bytes = data_}};
    ASSERT_TRUE(rings_[i].Add(chain).ok());
    rings_[i].Kick();
  }
  // Is a chain of a virtqueue done, while the session's loop doesn't run?
  bool Serves(size_t i) {
    Add(i);
    return rings_[i].Wait(kPatience).ok();
  }
  bool WaitFor(const std::function<bool()>& is_true) {
    for (int i = 0; i < 5000; i++) {
      if (is_true()) return true;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return false;
  }
  bool IsReadable() const {
    pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
    return poll(&poll_fd, 1, 0) == 1;
  }
  // A call of the device for virtqueue 0 doesn't return.
  void Block() {
    device_.is_blocked = true;
    Add(0);
    ASSERT_TRUE(WaitFor([this] { return device_.is_in_call.load(); }));
  }

  ThreadedDevice device_;
  std::unique_ptr<DriverMemory> memory_;
  std::vector<DriverRing> rings_;
  absl::Span<uint8_t> data_;
};

TEST_F(QueueThreadsTest, ServesWithoutTheSessionsLoop) {
  Start();
  for (int round = 0; round < 50; round++) {
    for (size_t i = 0; i < rings_.size(); i++) ASSERT_TRUE(Serves(i)) << i;
  }
  const auto thread = [this](size_t i) { return device_.queues[i].thread.load(); };
  EXPECT_NE(thread(0), std::this_thread::get_id());
  EXPECT_NE(thread(1), std::this_thread::get_id());
  EXPECT_NE(thread(0), thread(1));
  EXPECT_EQ(thread(1), thread(2)) << "they have the same number";
}

// No lock is common to them: the calls for one virtqueue don't wait for those of another.
TEST_F(QueueThreadsTest, ABlockedCallDelaysNoOtherThread) {
  Start();
  Block();
  for (int round = 0; round < 100; round++) ASSERT_TRUE(Serves(1));
  EXPECT_TRUE(device_.is_in_call);
  device_.is_blocked = false;
  EXPECT_TRUE(rings_[0].Wait(kPatience).ok());
}

TEST_F(QueueThreadsTest, ARequestWaitsForCallsAndTheLoopSleeps) {
  Start();
  Block();
  bool is_answered = false;
  MemoryTable none = {};
  frontend_->Start<FrontendRequest::kSetMemTable>(
      none, {}, [&](const absl::StatusOr<Message*>& reply) { is_answered = reply.ok(); });
  for (int i = 0; i < 10; i++) Run();
  ASSERT_TRUE(session_.ok()) << session_;
  EXPECT_FALSE(is_answered);
  EXPECT_FALSE(IsReadable()) << "the loop would spin";
  EXPECT_LE(doubles::TimeLeft(*backend_), device_.patience);
  EXPECT_NE(frontend_->fd(), -1);
  device_.is_blocked = false;
  EXPECT_TRUE(WaitFor([&] {
    Run();
    return is_answered;
  }));
  EXPECT_EQ(backend_->memory().size(), 0U);
}

TEST_F(QueueThreadsTest, ACallThatDoesNotReturnEndsTheSession) {
  Start();
  device_.patience = absl::Milliseconds(50);
  // The session asks for it while no thread runs.
  Settle();
  Block();
  frontend_->Start<FrontendRequest::kGetFeatures>({}, {}, [](const absl::StatusOr<Message*>&) {});
  Run();
  EXPECT_TRUE(session_.ok()) << session_;
  absl::SleepFor(absl::Milliseconds(60));
  Run();
  EXPECT_EQ(GetErrno(session_), ETIMEDOUT) << session_;
  EXPECT_FALSE(backend_->can_end());
  EXPECT_FALSE(IsReadable()) << "the loop would spin";
  device_.is_blocked = false;
  EXPECT_TRUE(WaitFor([this] { return IsReadable(); }));
  EXPECT_TRUE(backend_->can_end());
}

// The device loops as long as there are chains, and there always are some.
TEST_F(QueueThreadsTest, PopEndsACallThatTheSessionWaitsFor) {
  Start();
  device_.add_again = [this] {
    while (rings_[1].Next().value_or(std::nullopt)) {
    }
    const std::array<DriverRing::Buffer, 1> chain = {DriverRing::Buffer{.bytes = data_}};
    rings_[1].Add(chain).IgnoreError();
  };
  device_.is_endless = true;
  // From here on, only that thread uses the driver's side of the ring.
  backend_->RunOnQueue(1, [this] {
    device_.add_again();
    rings_[1].Kick();
  });
  ASSERT_TRUE(WaitFor([this] { return device_.queues[1].nr_calls > 0; }));
  for (int i = 0; i < 5; i++) {
    const int before = device_.queues[1].nr_calls;
    ASSERT_TRUE(Ask<FrontendRequest::kGetQueueNum>().ok());
    // It is called again for the chains that are left.
    ASSERT_TRUE(WaitFor([&] {
      Run();
      return device_.queues[1].nr_calls > before;
    }));
  }
  device_.is_endless = false;
}

TEST_F(QueueThreadsTest, StopsAndStartsUnderLoad) {
  Start();
  std::atomic<bool> ends = false;
  std::thread driver([&] {
    while (!ends) EXPECT_TRUE(Serves(0));
  });
  for (int i = 0; i < 20; i++) {
    const auto state = Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0});
    EXPECT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(device_.nr_stopped, i + 1);
    StartRing(0);
  }
  ends = true;
  Settle();
  driver.join();
  EXPECT_TRUE(device_.failure.ok()) << device_.failure;
}

TEST_F(QueueThreadsTest, RunsTheDevicesOwnDescriptorsOnTheQueuesThread) {
  const UniqueFd own(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  std::atomic<std::thread::id> thread;
  std::atomic<int> nr_ready = 0;
  Start();
  ASSERT_TRUE(Serves(0));
  Backend* const backend = backend_.get();
  backend->RunOnQueue(0, [&, backend] {
    const absl::Status status = backend->Watch(0, own.get(), [&, backend] {
      eventfd_t count = 0;
      eventfd_read(own.get(), &count);
      thread = std::this_thread::get_id();
      // It may end its own watch.
      if (++nr_ready == 3) backend->Unwatch(0, own.get());
    });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(GetErrno(backend->Watch(0, own.get(), [] {})), EEXIST);
  });
  for (int i = 1; i <= 3; i++) {
    eventfd_write(own.get(), 1);
    ASSERT_TRUE(WaitFor([&] { return nr_ready == i; }));
  }
  EXPECT_EQ(thread.load(), device_.queues[0].thread.load());
  eventfd_write(own.get(), 1);
  EXPECT_TRUE(Serves(0));
  EXPECT_EQ(nr_ready, 3) << "it isn't watched";
  // The thread used what this function owns.
  Disconnect();
}

TEST_F(QueueThreadsTest, RunsWorkWhereItBelongs) {
  std::atomic<bool> is_begun = false;
  std::atomic<int> where = 0;
  device_.in_handler = [&](Backend& backend, Virtqueue& queue) {
    if (!is_begun) return;
    // Another thread's virtqueue is out of reach, one of the same thread isn't.
    EXPECT_EQ(backend.queue(0) != nullptr, queue.index() == 0);
    EXPECT_EQ(backend.queue(1) != nullptr, queue.index() != 0);
    EXPECT_EQ(backend.queue(2) != nullptr, queue.index() != 0);
    if (queue.index() != 0 || where != 0) return;
    where = 1;
    backend.RunOnQueue(1, [&] {
      EXPECT_NE(backend.queue(1), nullptr);
      EXPECT_EQ(backend.queue(0), nullptr);
      backend.RunInSession([&] {
        EXPECT_NE(backend.queue(0), nullptr);
        EXPECT_NE(backend.queue(1), nullptr);
        where = 2;
      });
    });
  };
  Start();
  is_begun = true;
  EXPECT_TRUE(Serves(0));
  EXPECT_TRUE(Serves(1));
  EXPECT_TRUE(WaitFor([&] {
    Run();
    return where == 2;
  }));
  EXPECT_EQ(backend_->queue(3), nullptr);
  Disconnect();
}

TEST_F(QueueThreadsTest, Counts) {
  Start();
  for (int i = 0; i < 10; i++) ASSERT_TRUE(Serves(1));
  ASSERT_TRUE(WaitFor([this] { return backend_->counters(1).calls == 10; }));
  const QueueCounters counters = backend_->counters(1);
  // The thread may have found a chain before its kick, and then takes two kicks as one.
  EXPECT_GE(counters.kicks, 1U);
  EXPECT_LE(counters.kicks, 10U);
  EXPECT_EQ(counters.chains, 10U);
  EXPECT_EQ(counters.bytes, 10 * data_.size());
  EXPECT_EQ(counters.errors, 0U);
  EXPECT_EQ(backend_->counters(0).chains, 0U);
  EXPECT_EQ(backend_->counters(3).chains, 0U);
  // A head beyond the ring.
  doubles::CorruptRing(*memory_, rings_[1]);
  EXPECT_TRUE(WaitFor([this] {
    Run();
    return backend_->counters(1).errors == 1;
  }));
  EXPECT_EQ(GetErrno(device_.failure), EBADMSG) << device_.failure;
}

// A virtqueue that is waited for costs nothing.
TEST_F(QueueThreadsTest, SleepsWhileAReceiveQueueWaits) {
  device_.leaves_all = true;
  Start();
  for (int i = 0; i < 4; i++) Add(0);
  ASSERT_TRUE(WaitFor([this] { return device_.queues[0].nr_calls > 0; }));
  // Until the thread has seen all kicks, on a busy host, too.
  int before = -1;
  ASSERT_TRUE(WaitFor([&] {
    absl::SleepFor(absl::Milliseconds(20));
    return std::exchange(before, device_.queues[0].nr_calls.load()) == before;
  }));
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(device_.queues[0].nr_calls, before);
  EXPECT_FALSE(IsReadable());
}

TEST_F(QueueThreadsTest, ServesTheOtherThreadsWhenOneVirtqueueFails) {
  Start();
  doubles::CorruptRing(*memory_, rings_[1]);
  EXPECT_TRUE(WaitFor([this] {
    Run();
    return !device_.failure.ok();
  }));
  EXPECT_TRUE(Serves(0));
  EXPECT_TRUE(Serves(2));
}

}  // namespace
}  // namespace gmem::vhost
