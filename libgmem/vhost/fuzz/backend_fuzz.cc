// SPDX-License-Identifier: MIT OR Apache-2.0
// libFuzzer: a back-end whose front-end sends any bytes, in any order.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/fuzz/records.h"

namespace gmem::vhost {
namespace {

// A device with every optional feature.
class FuzzDevice : public Device {
 public:
  uint64_t features() const override { return 0xff; }
  uint64_t protocol_features() const override {
    return Bit(ProtocolFeature::kNetMtu) | Bit(ProtocolFeature::kRarp) |
           Bit(ProtocolFeature::kCryptoSession) | Bit(ProtocolFeature::kHostNotifier) |
           Bit(ProtocolFeature::kSharedObject) | Bit(ProtocolFeature::kDeviceState) |
           Bit(ProtocolFeature::kPagefault) | Bit(ProtocolFeature::kGetVringBaseInflight);
  }
  uint16_t nr_queues() const override { return 2; }
  uint32_t config_size() const override { return 64; }
  std::vector<uint64_t> shmem_sizes() const override { return {0, 0x10000}; }

  // Keeps every other chain until the next call, or until the library wants it. The library takes
  // those of the first virtqueue back.
  bool IsReceiveQueue(uint16_t index) const override { return index == 0; }
  void ChainsTakenBack(Backend& /*backend*/, Virtqueue& queue) override {
    std::erase_if(kept_[queue.index()],
                  [&](const Chain& chain) { return !queue.IsInFlight(chain); });
  }
  absl::Status HandleQueue(Backend& backend, Virtqueue& queue) override {
    PushKept(queue);
    for (int i = 0; i < 4; i++) {
      Chain chain;
      if (queue.Pop(chain) != Popped::kChain) break;
      if (i % 2 == 0) {
        kept_[queue.index()].push_back(std::move(chain));
      } else {
        Push(queue, chain);
      }
    }
    queue.Notify();
    backend.ConfigChanged([](const absl::Status&) {});
    backend.ShmemMap(
        {.shmid = 1, .padding = {}, .fd_offset = 0, .shm_offset = 0, .len = 0x1000, .flags = 0},
        doubles::SharedMemory(), [](const absl::Status&) {});
    return absl::OkStatus();
  }
  absl::Status HandleDisabledQueue(Backend& /*backend*/, Virtqueue& queue) override {
    Chain chain;
    if (queue.Pop(chain) == Popped::kChain) queue.Push(chain, 0);
    return queue.status();
  }
  void QueueStopping(Backend& /*backend*/, Virtqueue& queue) override { PushKept(queue); }
  void MemoryRemoved(Backend& /*backend*/, Virtqueue& queue) override { PushKept(queue); }
  void QueueStopped(uint16_t index) override { kept_[index].clear(); }
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to) override {
    std::copy_n(config_.begin() + offset, to.size(), to.begin());
    return absl::OkStatus();
  }
  absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from,
                           uint32_t /*flags*/) override {
    std::copy(from.begin(), from.end(), config_.begin() + offset);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> SaveState() override {
    return std::string(config_.begin(), config_.end());
  }
  absl::Status LoadState(absl::string_view /*state*/) override { return absl::OkStatus(); }
  absl::Status RunOnThread(absl::AnyInvocable<void()> work) override {
    threads_.emplace_back(std::move(work));
    return absl::OkStatus();
  }
  ~FuzzDevice() override {
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  static void Push(Virtqueue& queue, const Chain& chain) {
    std::array<uint8_t, 64> bytes = {};
    chain.Read(0, bytes.data(), bytes.size());
    queue.Push(chain, chain.Write(0, bytes.data(), bytes.size()));
  }
  void PushKept(Virtqueue& queue) {
    for (const Chain& chain : kept_[queue.index()]) Push(queue, chain);
    kept_[queue.index()].clear();
  }

  std::array<uint8_t, 64> config_ = {};
  std::array<std::vector<Chain>, 2> kept_;
  std::vector<std::thread> threads_;
};

// Reads and drops the back-end's answers, so that the socket doesn't fill up.
void Drain(int socket) {
  std::array<uint8_t, 4096> bytes;
  while (recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
}

}  // namespace
}  // namespace gmem::vhost

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gmem::vhost::Backend;
  using gmem::vhost::Connection;
  namespace fuzz = gmem::vhost::doubles;
  fuzz::ClearShared();
  auto pair = Connection::Pair();
  if (!pair.ok()) abort();
  gmem::vhost::FuzzDevice device;
  auto backend = Backend::Create(std::move(pair->first), device);
  if (!backend.ok()) abort();
  fuzz::Records records({data, size});
  while (const auto record = records.Next()) {
    if (!fuzz::SendRecord(pair->second.get(), *record)) break;
    // Process twice: the first call may create more work.
    (*backend)->Process().IgnoreError();
    if (!(*backend)->Process().ok()) break;
    gmem::vhost::Drain(pair->second.get());
  }
  return 0;
}
