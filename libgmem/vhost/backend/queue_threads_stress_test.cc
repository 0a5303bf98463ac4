// SPDX-License-Identifier: MIT OR Apache-2.0
// Eight virtqueues on threads, under I/O, while the front-end stops them, resets the device,
// changes memory and the IOTLB, and dies. ThreadSanitizer watches; the driver checks that each
// request is done once, and right.
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
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
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/queue_calls.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "gmem/vhost/server.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/driver_memory.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::DriverMemory;
using doubles::kPatience;
using doubles::NewRing;

constexpr uint16_t kQueues = 8;
constexpr size_t kDepth = 4;
constexpr size_t kMemorySize = 2 << 20;
constexpr size_t kHalf = kMemorySize / 2;

// Answers a number with its complement. Half of the virtqueues do so at once; the others do it
// later, when a descriptor of the device's own is readable, as with io_uring.
class ComplementDevice : public Device {
 public:
  uint64_t features() const override { return Bit(VirtioFeature::kIommuPlatform) | 1; }
  uint16_t nr_queues() const override { return kQueues; }
  void SetFeatures(uint64_t features) override { features_ = features; }
  void Connected(Backend& backend) override {
    for (uint16_t i = 0; i < kQueues; i += 2) {
      queues_[i].calls.AssertAlone();
      queues_[i].own.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      EXPECT_TRUE(
          backend.Watch(i, queues_[i].own.get(), [this, &backend, i] { Finish(backend, i); }).ok());
    }
  }
  absl::Status HandleQueue(Backend&, Virtqueue& queue) override {
    PerQueue& mine = queues_[queue.index()];
    mine.calls.AssertIn(queue);
    // The session writes this, without a lock.
    if ((features_ & 1) == 0) return absl::InternalError("the features changed");
    Chain chain;
    while (queue.Pop(chain) == Popped::kChain) {
      mine.nr_chains++;
      if (queue.index() % 2 == 0) {
        mine.held.push_back(std::move(chain));
        chain = Chain();
      } else {
        Answer(queue, chain);
      }
    }
    if (!mine.held.empty()) eventfd_write(mine.own.get(), 1);
    return queue.status();
  }
  void QueueStopped(uint16_t index) override {
    queues_[index].calls.AssertAlone();
    queues_[index].held.clear();
  }
  void QueueFailed(uint16_t index, const absl::Status& why) override {
    ADD_FAILURE() << "virtqueue " << index << ": " << why;
  }

 private:
  struct PerQueue {
    QueueCalls calls;
    uint64_t nr_chains ABSL_GUARDED_BY(calls) = 0;
    std::vector<Chain> held ABSL_GUARDED_BY(calls);
    UniqueFd own ABSL_GUARDED_BY(calls);
  };

  static void Answer(Virtqueue& queue, const Chain& chain) {
    uint64_t number = 0;
    chain.Read(0, &number, sizeof(number));
    number = ~number;
    queue.Push(chain, chain.Write(0, &number, sizeof(number)));
  }
  void Finish(Backend& backend, uint16_t index) {
    PerQueue& mine = queues_[index];
    mine.calls.AssertAlone();
    eventfd_t count = 0;
    eventfd_read(mine.own.get(), &count);
    Virtqueue* const queue = backend.queue(index);
    if (queue == nullptr) return;
    for (const Chain& chain : mine.held) Answer(*queue, chain);
    mine.held.clear();
    queue->Notify();
  }

  uint64_t features_ = 1;
  std::array<PerQueue, kQueues> queues_;
};

// The driver's side of one virtqueue, on a thread of its own.
class Driver {
 public:
  static std::unique_ptr<Driver> Create(DriverMemory& memory) {
    auto driver = std::make_unique<Driver>(*NewRing(memory, 16));
    return driver;
  }
  explicit Driver(DriverRing ring) : ring_(std::move(ring)) {}

  DriverRing& ring() { return ring_; }
  void SetBuffers(absl::Span<uint8_t> bytes) { buffers_ = bytes; }
  uint64_t nr_done() const { return nr_done_; }

  // Runs requests until @ends; then finishes those that are under way, if @finishes.
  void Run(const std::atomic<bool>& ends, const std::atomic<bool>& is_dead) {
    size_t under_way = 0;
    std::array<std::optional<uint64_t>, 16> numbers;
    std::vector<size_t> free = {0, 1, 2, 3};
    std::array<size_t, 16> slots = {};
    while (!is_dead && (!ends || under_way > 0)) {
      while (!ends && !free.empty()) {
        const size_t slot = free.back();
        free.pop_back();
        const uint64_t number = next_++;
        std::memcpy(At(slot).data(), &number, sizeof(number));
        const std::array<DriverRing::Buffer, 2> chain = {
            DriverRing::Buffer{.bytes = At(slot).subspan(0, 8)},
            DriverRing::Buffer{.bytes = At(slot).subspan(8, 8), .is_writable = true}};
        const auto head = ring_.Add(chain);
        ASSERT_TRUE(head.ok()) << head.status();
        numbers[*head] = number;
        slots[*head] = slot;
        under_way++;
      }
      ring_.Kick();
      const auto used = ring_.Wait(absl::Milliseconds(20));
      if (!used.ok()) {
        ASSERT_EQ(GetErrno(used.status()), ETIMEDOUT) << used.status();
        continue;
      }
      ASSERT_TRUE(numbers[used->head].has_value());
      uint64_t answer = 0;
      std::memcpy(&answer, At(slots[used->head]).data() + 8, sizeof(answer));
      EXPECT_EQ(answer, ~*numbers[used->head]);
      numbers[used->head].reset();
      free.push_back(slots[used->head]);
      under_way--;
      nr_done_++;
    }
  }

 private:
  absl::Span<uint8_t> At(size_t slot) const { return buffers_.subspan(slot * 16, 16); }

  DriverRing ring_;
  absl::Span<uint8_t> buffers_;
  uint64_t next_ = 1;
  std::atomic<uint64_t> nr_done_ = 0;
};

class QueueThreadsStressTest : public testing::TestWithParam<bool> {
 protected:
  QueueThreadsStressTest()
      : folder_(std::filesystem::temp_directory_path() / "gmem-stress.XXXXXX") {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/socket";
    auto server = Server::Create(*Listener::Create(path_), device_,
                                 Server::Options{.timeout = kPatience, .has_queue_threads = true});
    EXPECT_TRUE(server.ok()) << server.status();
    server_.emplace(*std::move(server));
    server_->set_session_end(
        [](const absl::Status& why) { EXPECT_EQ(GetErrno(why), ECONNRESET) << why; });
    loop_ = std::thread([this] { EXPECT_TRUE(server_->Run(stop_.get()).ok()); });
  }
  ~QueueThreadsStressTest() override {
    eventfd_write(stop_.get(), 1);
    loop_.join();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  bool is_translated() const { return GetParam(); }

  void Begin() {
    memory_ = *DriverMemory::Create(kMemorySize);
    drivers_.clear();
    for (uint16_t i = 0; i < kQueues; i++) drivers_.push_back(Driver::Create(*memory_));
    // The buffers are in the second half, which is a region of its own.
    const size_t used =
        static_cast<size_t>((*memory_->Allocate(1)).data() - memory_->bytes().data());
    ASSERT_TRUE(memory_->Allocate(kHalf - used - 1, 1).ok());
    for (const auto& driver : drivers_) driver->SetBuffers(*memory_->Allocate(kDepth * 16, 4096));
    frontend_.emplace(*Connection::Connect(path_, kPatience), kPatience);
    Ask<FrontendRequest::kSetProtocolFeatures>(
        Bit(ProtocolFeature::kReplyAck) | Bit(ProtocolFeature::kMq) |
        Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kConfigureMemSlots));
    frontend_->set_reply_ack(true);
    Ask<FrontendRequest::kSetFeatures>(Bit(VirtioFeature::kProtocolFeatures) |
                                       Bit(VirtioFeature::kVersion1) | 1 |
                                       (is_translated() ? Bit(VirtioFeature::kIommuPlatform) : 0));
    auto pair = Connection::Pair();
    Ask<FrontendRequest::kSetBackendReqFd>({}, {pair->second.get()});
    channel_.emplace(std::move(pair->first), Responder::Side::kBackend);
    channel_->set_reply_ack(true);
    for (size_t half = 0; half < 2; half++) AddRegion(half);
    for (uint16_t i = 0; i < kQueues; i++) StartQueue(i, 0);
    ends_ = is_dead_ = false;
    for (const auto& driver : drivers_) {
      threads_.emplace_back([this, &driver] { driver->Run(ends_, is_dead_); });
    }
  }
  // All requests that are under way must come to their end.
  void Finish() {
    ends_ = true;
    std::atomic<bool> are_done = false;
    std::thread joiner([&] {
      for (std::thread& thread : threads_) thread.join();
      are_done = true;
    });
    const absl::Time deadline = absl::Now() + kPatience;
    while (!are_done && absl::Now() < deadline) {
      AnswerMisses();
      frontend_->Process().IgnoreError();
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_TRUE(are_done) << "requests were lost";
    is_dead_ = true;
    joiner.join();
    threads_.clear();
  }
  void Die() {
    frontend_.reset();
    channel_.reset();
    is_dead_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  // Waits until a request can be sent: one that is lost could be a translation.
  void MakeRoom() {
    while (frontend_->is_full()) {
      pollfd to_poll = {.fd = frontend_->fd(), .events = POLLIN, .revents = 0};
      poll(&to_poll, 1, 1000);
      ASSERT_TRUE(frontend_->Process().ok()) << frontend_->status();
    }
  }
  template <FrontendRequest kRequest>
  typename RequestTraits<kRequest>::Reply Ask(
      const typename RequestTraits<kRequest>::Payload& payload = {},
      absl::Span<const int> fds = {}) {
    using Reply = typename RequestTraits<kRequest>::Reply;
    bool is_done = false;
    Reply result = {};
    MakeRoom();
    frontend_->Start<kRequest>(payload, fds, [&](const absl::StatusOr<Message*>& reply) {
      EXPECT_TRUE(reply.ok()) << static_cast<int>(kRequest) << ": " << reply.status();
      if (reply.ok() && *reply != nullptr) result = FromBytes<Reply>((*reply)->bytes());
      is_done = true;
    });
    while (!is_done) {
      std::array<pollfd, 2> fds_to_poll = {
          pollfd{.fd = frontend_->fd(), .events = POLLIN, .revents = 0},
          pollfd{.fd = channel_ ? channel_->fd() : -1, .events = POLLIN, .revents = 0}};
      poll(fds_to_poll.data(), fds_to_poll.size(), 1000);
      AnswerMisses();
      frontend_->Process().IgnoreError();
    }
    return result;
  }
  void AnswerMisses() {
    while (channel_) {
      const auto next = channel_->Next();
      if (!next.ok() || next->message == nullptr) return;
      const auto miss = FromBytes<IotlbMessage>(next->message->bytes());
      EXPECT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
      Translate(IotlbType::kUpdate, miss.iova / 4096 * 4096);
    }
  }
  // I/O virtual addresses are the guest's and the front-end's own.
  void Translate(IotlbType type, uint64_t page) {
    const MemoryRegion all = memory_->region();
    const bool is_guest = page >= all.guest_address && page - all.guest_address < all.size;
    const uint64_t user = is_guest ? page - all.guest_address + all.user_address : page;
    MakeRoom();
    frontend_->Start<FrontendRequest::kIotlbMsg>({.iova = page,
                                                  .size = 4096,
                                                  .user_address = user,
                                                  .permissions = kIotlbRead | kIotlbWrite,
                                                  .type = type,
                                                  .padding = {}},
                                                 {}, [](const absl::StatusOr<Message*>&) {});
    frontend_->Process().IgnoreError();
  }
  SingleMemoryRegion Region(size_t half) const {
    MemoryRegion region = memory_->region();
    region.size = kHalf;
    region.guest_address += half * kHalf;
    region.user_address += half * kHalf;
    region.mmap_offset += half * kHalf;
    return {.padding = 0, .region = region};
  }
  void AddRegion(size_t half) { Ask<FrontendRequest::kAddMemReg>(Region(half), {memory_->fd()}); }
  void StartQueue(uint32_t i, uint32_t base) {
    DriverRing& ring = drivers_[i]->ring();
    Ask<FrontendRequest::kSetVringNum>({.index = i, .num = ring.size()});
    Ask<FrontendRequest::kSetVringBase>({.index = i, .num = base});
    Ask<FrontendRequest::kSetVringAddr>(ring.address(i));
    Ask<FrontendRequest::kSetVringCall>(i, {ring.call_fd()});
    Ask<FrontendRequest::kSetVringKick>(i, {ring.kick_fd()});
    Ask<FrontendRequest::kSetVringEnable>({.index = i, .num = 1});
  }
  // A device that stops can't write what it has done to a ring without a translation, see
  // Virtqueue::Move().
  void TranslateRing(uint32_t i) {
    if (!is_translated()) return;
    const uint64_t begin = drivers_[i]->ring().address(i).descriptor;
    const uint64_t end = begin + DriverRing::MemorySize(drivers_[i]->ring().size());
    for (uint64_t page = begin / 4096 * 4096; page < end; page += 4096) {
      Translate(IotlbType::kUpdate, page);
    }
  }
  uint32_t StopQueue(uint32_t i) {
    TranslateRing(i);
    return Ask<FrontendRequest::kGetVringBase>({.index = i, .num = 0}).num;
  }

  void DoOne(uint32_t choice) {
    const uint32_t i = choice / 8 % kQueues;
    switch (choice % 7) {
      case 0:
        StartQueue(i, StopQueue(i));
        break;
      case 1:
        Ask<FrontendRequest::kSetVringEnable>({.index = i, .num = 0});
        Ask<FrontendRequest::kSetVringEnable>({.index = i, .num = 1});
        break;
      // The buffers go and come back.
      case 2:
        Ask<FrontendRequest::kRemMemReg>(Region(1));
        AddRegion(1);
        break;
      // So do the rings.
      case 3:
        Ask<FrontendRequest::kRemMemReg>(Region(0));
        AddRegion(0);
        break;
      case 4:
        for (uint32_t j = 0; j < kQueues; j++) TranslateRing(j);
        Ask<FrontendRequest::kResetDevice>();
        for (uint32_t j = 0; j < kQueues; j++) StartQueue(j, StopQueue(j));
        break;
      case 5:
        for (uint64_t page = 0; is_translated() && page < 64; page++) {
          const uint64_t at = (choice / 64 + page * 7) % (kMemorySize / 4096) * 4096;
          Translate(IotlbType::kInvalidate, memory_->region().guest_address + at);
          Translate(IotlbType::kInvalidate, memory_->region().user_address + at);
        }
        break;
      default:
        absl::SleepFor(absl::Milliseconds(2));
        break;
    }
  }

  std::string folder_;
  std::string path_;
  ComplementDevice device_;
  UniqueFd stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::optional<Server> server_;
  std::thread loop_;
  std::unique_ptr<DriverMemory> memory_;
  std::vector<std::unique_ptr<Driver>> drivers_;
  std::atomic<bool> ends_ = false;
  std::atomic<bool> is_dead_ = false;
  std::vector<std::thread> threads_;
  std::optional<Requester> frontend_;
  std::optional<Responder> channel_;
};

TEST_P(QueueThreadsStressTest, AllAtOnce) {
  std::mt19937 random(1);
  for (int session = 0; session < 4; session++) {
    ASSERT_NO_FATAL_FAILURE(Begin());
    for (int i = 0; i < 60; i++) ASSERT_NO_FATAL_FAILURE(DoOne(random()));
    if (session % 2 == 0) {
      Finish();
      for (const auto& driver : drivers_) EXPECT_GT(driver->nr_done(), 0U);
      Die();
    } else {
      Die();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Memory, QueueThreadsStressTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Iotlb" : "Direct"; });

}  // namespace
}  // namespace gmem::vhost
