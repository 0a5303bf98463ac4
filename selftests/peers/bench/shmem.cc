// SPDX-License-Identifier: MIT OR Apache-2.0
// The same scripted back-end maps and unmaps through our front-end and through QEMU's. Each
// front-end runs in a process of its own.
#include "gmem/vhost/shmem.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/harness.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "lib/peer.h"
#include "lib/qemu_device.h"
#include "lib/scripted_backend.h"
#include "lib/session.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {
namespace {

constexpr uint64_t kPage = 4096;
// A power of two, because QEMU aborts otherwise, with room for kMostMapped pages.
constexpr uint64_t kRegionSize = 64 << 20;
constexpr uint64_t kMostMapped = 10000;
constexpr int kSamples = 200;
constexpr int kTurns = 20;

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  exit(1);
}
void Check(const absl::Status& status) {
  if (!status.ok()) Die(status);
}

// Runs in our front-end's process: starts the device, and serves it until the back-end is gone.
absl::Status RunFrontend(const std::string& socket) {
  Frontend::Options options;
  options.shmem_factory = [](uint8_t, ByteSize size) { return NewHostRegion(size); };
  auto connected = ConnectFrontend(socket, 0, std::move(options));
  if (!connected.ok()) return connected.status();
  Frontend& frontend = **connected;
  auto memory = doubles::DriverMemory::Create(1 << 20);
  if (!memory.ok()) return memory.status();
  if (const absl::Status status = ShareMemory(frontend, **memory); !status.ok()) return status;
  std::vector<DriverRing> rings;
  for (unsigned queue = 0; queue < 2; queue++) {
    auto ring = doubles::NewRing(**memory, 64);
    if (!ring.ok()) return ring.status();
    rings.push_back(*std::move(ring));
    if (const absl::Status status = StartRing(frontend, queue, rings.back()); !status.ok()) {
      return status;
    }
  }
  if (const absl::Status status = frontend.DriverOk(); !status.ok()) return status;
  while (true) {
    pollfd ready = {.fd = frontend.fd(), .events = POLLIN, .revents = 0};
    poll(&ready, 1, -1);
    if (const absl::Status status = frontend.Process(); !status.ok()) return status;
  }
}

// A device whose back-end is in this process.
class Subject {
 public:
  Subject(const std::string& path, bool updates_memory)
      : listener_(Listener::Create(path).value()),
        backend_(&listener_, ScriptedBackend::Options{.shmem_sizes = {kRegionSize}}),
        updates_memory_(updates_memory) {
    file_.reset(memfd_create("mapped", MFD_CLOEXEC));
    if (ftruncate(file_.get(), kPage) != 0) Die(absl::InternalError("no file"));
  }

  ScriptedBackend& backend() { return backend_; }

  void WaitForStart() {
    if (!backend_.StepUntil([this] { return backend_.is_enabled(1); })) {
      Die(absl::DeadlineExceededError("the device isn't started"));
    }
    // Serve the requests that a front-end sends after DRIVER_OK.
    for (int i = 0; i < 20; i++) backend_.Step(absl::Milliseconds(5));
    nr_regions_ = backend_.nr_regions();
  }

  // Maps pages until @count are mapped. Sample() maps and unmaps one more.
  void Fill(uint64_t count) {
    for (; mapped_ < count; mapped_++) Check(Map(mapped_));
  }

  void Sample(Samples& map, Samples& map_reply, Samples& unmap, Samples& unmap_reply) {
    Time(map, map_reply, [this] { return Map(mapped_); });
    Time(unmap, unmap_reply, [this] { return Unmap(mapped_); });
  }

 private:
  static ShmemMapping At(uint64_t page) {
    return {.shmid = 0,
            .padding = {},
            .fd_offset = 0,
            .shm_offset = page * kPage,
            .len = kPage,
            .flags = kShmemMapRw};
  }

  absl::Status Map(uint64_t page) {
    const absl::Status status = backend_.Map(At(page), file_.get());
    nr_regions_++;
    replied_ = std::chrono::steady_clock::now();
    WaitForEffect();
    return status;
  }
  absl::Status Unmap(uint64_t page) {
    const absl::Status status = backend_.Unmap(At(page));
    nr_regions_--;
    replied_ = std::chrono::steady_clock::now();
    WaitForEffect();
    return status;
  }

  // A reply of 0 means that the request is carried out. But QEMU replies before it changes the
  // guest's memory. After the change, it sends the new memory table to the back-end.
  void WaitForEffect() {
    if (updates_memory_)
      backend_.StepUntil([this] { return backend_.nr_regions() == nr_regions_; });
  }

  template <typename Work>
  void Time(Samples& effect, Samples& reply, Work&& work) {
    using Microseconds = std::chrono::duration<double, std::micro>;
    const auto begin = std::chrono::steady_clock::now();
    Check(work());
    effect.Add(Microseconds(std::chrono::steady_clock::now() - begin).count());
    reply.Add(Microseconds(replied_ - begin).count());
  }

  Listener listener_;
  ScriptedBackend backend_;
  const bool updates_memory_;
  UniqueFd file_;
  uint64_t mapped_ = 0;
  size_t nr_regions_ = 0;
  std::chrono::steady_clock::time_point replied_;
};

struct Costs {
  Samples map, map_reply, unmap, unmap_reply;

  void Sample(Subject& subject) { subject.Sample(map, map_reply, unmap, unmap_reply); }
};

}  // namespace

void BenchShmem() {
  const OneCpu one_cpu;
  ScratchFolder scratch;
  const std::string our_path = scratch.path("ours");
  Subject ours(our_path, false);
  auto frontend = Peer::Fork([&our_path] { Check(RunFrontend(our_path)); });
  if (!frontend.ok()) Die(frontend.status());
  ours.WaitForStart();

  Subject theirs(scratch.path("theirs"), true);
  auto qemu = QemuDevice::Start(scratch, scratch.path("theirs"), [&] { theirs.backend().Step(); });
  if (!qemu.ok()) Die(qemu.status());
  Check((*qemu)->StartDriver());
  theirs.WaitForStart();

  struct Step {
    uint64_t mapped;
    Direction direction;
    double goal;
  };
  for (const auto& [mapped, direction, goal] :
       {Step{0, kAtLeast, 3}, Step{1, kNoGoal, 0}, Step{100, kAtLeast, 10}}) {
    ours.Fill(mapped);
    theirs.Fill(mapped);
    Costs our_costs, their_costs;
    // Measure the two by turns, with many samples a turn: a process that has slept wakes up with
    // cold caches.
    for (int turn = 0; turn < kTurns; turn++) {
      for (int i = 0; i < kSamples / kTurns; i++) our_costs.Sample(ours);
      for (int i = 0; i < kSamples / kTurns; i++) their_costs.Sample(theirs);
    }
    const std::string suffix = ", " + std::to_string(mapped) + " mapped : QEMU";
    Row(("MAP to usable" + suffix).c_str(), our_costs.map, their_costs.map, direction, goal);
    Row(("MAP to reply" + suffix).c_str(), our_costs.map_reply, their_costs.map_reply);
    Row(("UNMAP to gone" + suffix).c_str(), our_costs.unmap, their_costs.unmap, direction, goal);
    Row(("UNMAP to reply" + suffix).c_str(), our_costs.unmap_reply, their_costs.unmap_reply);
  }
  // QEMU aborts at the 512th mapping, so these rows compare gmem with itself.
  Costs at_100, at_most;
  for (int i = 0; i < kSamples; i++) at_100.Sample(ours);
  ours.Fill(kMostMapped);
  for (int i = 0; i < kSamples; i++) at_most.Sample(ours);
  Row("MAP, 10,000 mapped : 100 mapped, both gmem", at_most.map, at_100.map, kAtMost, 1.3);
  Row("UNMAP, 10,000 mapped : 100 mapped, both gmem", at_most.unmap, at_100.unmap, kAtMost, 1.3);
}

}  // namespace gmem::vhost::peers
