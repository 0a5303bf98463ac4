// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "bench/harness.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/queue_calls.h"
#include "gmem/vhost/server.h"
#include "gmem/vhost/virtqueue.h"
#include "lib/peer.h"
#include "lib/session.h"
#include "vhost/testing/driver_ring.h"

namespace gmem::vhost::peers {
namespace {

constexpr size_t kBlock = 4096;
constexpr uint64_t kBlocks = 4096;
constexpr size_t kDepth = 32;
constexpr int kBatch = 8000;
constexpr int kSamples = 15;
constexpr uint16_t kQueues = 2;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    exit(1);
  }
  return *std::move(value);
}

void OrDie(const absl::Status& status) { OrDie(status.ok() ? absl::StatusOr<int>(0) : status); }

// Reads blocks of a file in memory: a request is a block's number. Or leaves all chains in the
// ring, as a receive queue without packets.
class ReadDevice : public Device {
 public:
  explicit ReadDevice(bool only_waits)
      : only_waits_(only_waits), file_(memfd_create("blocks", MFD_CLOEXEC)) {
    OrDie(posix_fallocate(file_.get(), 0, kBlocks * kBlock) == 0
              ? absl::OkStatus()
              : absl::ResourceExhaustedError("no memory for blocks"));
  }

  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return kQueues; }
  bool IsReceiveQueue(uint16_t) const override { return only_waits_; }
  absl::Status HandleQueue(Backend&, Virtqueue& queue) override {
    if (only_waits_) return absl::OkStatus();
    PerQueue& mine = queues_[queue.index()];
    mine.calls.AssertIn(queue);
    while (queue.Pop(mine.chain) == Popped::kChain) {
      uint64_t block = 0;
      mine.chain.Read(0, &block, sizeof(block));
      const absl::Span<const GuestSpan> to = mine.chain.writable();
      const auto at = static_cast<off_t>(block % kBlocks * kBlock);
      const ssize_t got = to.empty() ? 0 : pread(file_.get(), to[0].data(), to[0].size(), at);
      queue.Push(mine.chain, got < 0 ? 0 : static_cast<uint64_t>(got));
    }
    return queue.status();
  }

 private:
  struct PerQueue {
    QueueCalls calls;
    Chain chain ABSL_GUARDED_BY(calls);
  };

  const bool only_waits_;
  const UniqueFd file_;
  std::array<PerQueue, kQueues> queues_;
};

// A device in a process of its own, with a thread for each virtqueue.
class Threads {
 public:
  explicit Threads(bool only_waits) {
    const std::string socket = scratch_.path("socket");
    peer_ = std::make_unique<Peer>(OrDie(Peer::Fork([&] {
      ReadDevice device(only_waits);
      OrDie(OrDie(Server::Create(OrDie(Listener::Create(socket)), device,
                                 Server::Options{.has_queue_threads = true}))
                .Run());
    })));
    memory_ = OrDie(doubles::DriverMemory::Create(4 << 20));
    frontend_ = OrDie(ConnectFrontend(socket, 0));
    OrDie(ShareMemory(*frontend_, *memory_));
    for (uint16_t i = 0; i < kQueues; i++) {
      rings_.push_back(OrDie(doubles::DriverRing::Create(*memory_, 2 * kDepth)));
      OrDie(StartRing(*frontend_, i, rings_.back()));
      requests_.push_back(OrDie(memory_->Allocate(kDepth * sizeof(uint64_t))));
      blocks_.push_back(OrDie(memory_->Allocate(kDepth * kBlock, kBlock)));
    }
    OrDie(frontend_->DriverOk());
  }

  // The CPU time of the device's process, in microseconds.
  double CpuTime() const {
    clockid_t clock = {};
    timespec now = {};
    if (clock_getcpuclockid(peer_->pid(), &clock) != 0 || clock_gettime(clock, &now) != 0) abort();
    return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
  }

  void Add(size_t queue, size_t slot) {
    uint64_t& request = reinterpret_cast<uint64_t*>(requests_[queue].data())[slot];
    request = next_ = next_ * 5 + 7919;
    const std::array<doubles::DriverRing::Buffer, 2> chain = {
        doubles::DriverRing::Buffer{.bytes = {reinterpret_cast<uint8_t*>(&request), 8}},
        doubles::DriverRing::Buffer{.bytes = blocks_[queue].subspan(slot * kBlock, kBlock),
                                    .is_writable = true}};
    OrDie(rings_[queue].Add(chain).status());
  }
  // Reads kBatch blocks over @nr_queues virtqueues, kDepth at a time in each.
  void Run(size_t nr_queues) {
    int started = 0;
    for (size_t queue = 0; queue < nr_queues; queue++) {
      for (size_t slot = 0; slot < kDepth; slot++, started++) Add(queue, slot);
      rings_[queue].Kick();
    }
    for (int done = 0; done < kBatch;) {
      const int before = done;
      for (size_t queue = 0; queue < nr_queues; queue++) {
        size_t count = 0;
        while (OrDie(rings_[queue].Next())) {
          done++;
          if (started++ < kBatch) Add(queue, count++ % kDepth);
        }
        if (count > 0) rings_[queue].Kick();
      }
      if (done == before) Wait();
    }
  }
  void Kick(size_t queue) { rings_[queue].Kick(); }

 private:
  // Waits for a call.
  void Wait() {
    std::array<pollfd, kQueues> calls;
    for (size_t i = 0; i < kQueues; i++) {
      calls[i] = {.fd = rings_[i].call_fd(), .events = POLLIN, .revents = 0};
    }
    poll(calls.data(), calls.size(), 1000);
    eventfd_t count = 0;
    for (const pollfd& call : calls) {
      if (call.revents != 0) eventfd_read(call.fd, &count);
    }
  }

  ScratchFolder scratch_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<doubles::DriverMemory> memory_;
  std::unique_ptr<Frontend> frontend_;
  std::vector<doubles::DriverRing> rings_;
  std::vector<absl::Span<uint8_t>> requests_;
  std::vector<absl::Span<uint8_t>> blocks_;
  uint64_t next_ = 1;
};

}  // namespace

void BenchQueues() {
  Samples one, two, wall_one, wall_two;
  {
    Threads threads(/*only_waits=*/false);
    const auto measure = [&](size_t nr_queues, Samples& cpu, Samples& wall) {
      const double before = threads.CpuTime();
      wall.Time(
          1, [&] { threads.Run(nr_queues); }, kBatch);
      cpu.Add((threads.CpuTime() - before) / kBatch);
    };
    for (int i = 0; i < kSamples; i++) {
      measure(1, one, wall_one);
      measure(2, two, wall_two);
    }
  }
  Row("CPU of a 4 KiB read, 2 queues : 1 queue", two, one, kAtMost, 1.1);
  Row("time of a 4 KiB read, 2 queues : 1 queue", wall_two, wall_one);

  Threads waits(/*only_waits=*/true);
  for (size_t slot = 0; slot < kDepth; slot++) waits.Add(0, slot);
  waits.Kick(0);
  absl::SleepFor(absl::Milliseconds(200));
  const double before = waits.CpuTime();
  absl::SleepFor(absl::Seconds(1));
  Value("CPU of an idle receive queue in a second", waits.CpuTime() - before, "us", kAtMost, 0);
}

}  // namespace gmem::vhost::peers
