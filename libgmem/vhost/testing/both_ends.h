// SPDX-License-Identifier: MIT OR Apache-2.0
// A front-end with the library's own back-end, which runs on a thread of its own. Not installed.
#ifndef GMEM_VHOST_TESTING_BOTH_ENDS_H_
#define GMEM_VHOST_TESTING_BOTH_ENDS_H_

#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/shared_objects.h"
#include "gmem/vhost/shmem.h"
#include "gtest/gtest.h"
#include "vhost/testing/backend_thread.h"
#include "vhost/testing/frontend.h"
#include "vhost/testing/ring.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::doubles {

inline constexpr uint64_t kPage = 4096;
// The wrap counters of a packed ring.
inline constexpr uint32_t kWrapBits = 0x80008000;

// A device with every optional feature. It answers a request with the request's bytes reversed.
// After the first `nr_done` requests it keeps further ones.
class FullDevice : public Device {
 public:
  uint64_t features() const override { return 0x7; }
  uint16_t nr_queues() const override { return 2; }
  uint64_t protocol_features() const override {
    return Bit(ProtocolFeature::kNetMtu) | Bit(ProtocolFeature::kRarp) |
           Bit(ProtocolFeature::kCryptoSession) | Bit(ProtocolFeature::kHostNotifier) |
           Bit(ProtocolFeature::kSharedObject) | Bit(ProtocolFeature::kDeviceState) |
           Bit(ProtocolFeature::kPagefault);
  }
  absl::Status HandleQueue(Backend&, Virtqueue& queue) override {
    while (true) {
      Chain chain;
      if (queue.Pop(chain) != Popped::kChain) return queue.status();
      if (nr_done == 0) {
        kept.push_back(std::move(chain));
        nr_kept++;
        continue;
      }
      nr_done--;
      std::string bytes(chain.readable_size(), 0);
      chain.Read(0, bytes.data(), bytes.size());
      std::reverse(bytes.begin(), bytes.end());
      queue.Push(chain, chain.Write(0, bytes.data(), bytes.size()));
      queue.Notify();
    }
  }
  void QueueStopped(uint16_t) override { kept.clear(); }
  uint32_t config_size() const override { return static_cast<uint32_t>(config.size()); }
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to) override {
    std::copy_n(config.begin() + offset, to.size(), to.begin());
    return absl::OkStatus();
  }
  absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from, uint32_t) override {
    std::copy(from.begin(), from.end(), config.begin() + offset);
    return absl::OkStatus();
  }
  std::vector<uint64_t> shmem_sizes() const override { return {0, 4 * kPage}; }
  absl::StatusOr<std::string> SaveState() override { return state; }
  absl::Status LoadState(absl::string_view bytes) override {
    state = std::string(bytes);
    return absl::OkStatus();
  }
  absl::Status SetMtu(uint64_t value) override {
    return value < 68 ? absl::InvalidArgumentError("small") : absl::OkStatus();
  }
  absl::Status SendRarp(uint64_t address) override {
    mac = address;
    return absl::OkStatus();
  }
  absl::StatusOr<int64_t> CreateCryptoSession(const CryptoSession& session) override {
    if (session.operation == 0) return absl::InvalidArgumentError("no operation");
    return 33;
  }
  absl::Status CloseCryptoSession(uint64_t session) override {
    return session == 33 ? absl::OkStatus() : absl::NotFoundError("no session");
  }
  absl::StatusOr<UniqueFd> GetSharedObject(const Uuid& uuid) override {
    if (uuid[0] != 1) return absl::NotFoundError("no object");
    return MakeFile(KiB(4), "object");
  }
  absl::Status SetGpuSocket(UniqueFd socket) override {
    gpu = std::move(socket);
    return absl::OkStatus();
  }
  void Reset() override { nr_resets++; }
  absl::Status RunOnThread(absl::AnyInvocable<void()> work) override {
    threads.emplace_back(std::move(work));
    return absl::OkStatus();
  }
  ~FullDevice() override {
    for (std::thread& thread : threads) thread.join();
  }

  // Only the back-end's thread may use these after it has started.
  size_t nr_done = SIZE_MAX;
  std::vector<Chain> kept;
  std::string config = "configuration";
  std::string state = std::string(100000, 's');
  uint64_t mac = 0;
  UniqueFd gpu;
  std::vector<std::thread> threads;
  int nr_resets = 0;
  std::atomic<int> nr_kept = 0;
};

class TranslatingHandler : public RecordingHandler {
 public:
  absl::Status OnIotlb(const IotlbMessage& message) override { return on_iotlb(message); }

  std::function<absl::Status(const IotlbMessage&)> on_iotlb;
};

class BothEndsTest : public testing::Test {
 protected:
  void Start(uint64_t features = 0, uint64_t protocol_features = kAll) {
    Frontend::Options options;
    options.timeout = kPatience;
    options.protocol_features = protocol_features;
    options.shmem_factory = [](uint8_t, ByteSize size) { return NewHostRegion(size); };
    options.shared_objects = &objects_;
    frontend_ = *Frontend::Create(NewBackend(), std::move(options), &handler_);
    Ok(frontend_->Negotiate());
    Ok(frontend_->SetFeatures(features | Bit(VirtioFeature::kVersion1)));
    is_packed_ = (features & Bit(VirtioFeature::kRingPacked)) != 0;
    ring_.emplace(guest_, kQueueSize, is_packed_);
  }
  Connection NewBackend() {
    auto pair = *Connection::Pair();
    thread_.reset();
    thread_ = std::make_unique<BackendThread>(std::move(pair.second), device_);
    return std::move(pair.first);
  }
  static void Ok(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }

  absl::Status SetMemory() {
    return frontend_->SetMemory({{.guest_address = GuestAddress(TestGuest::kGuest),
                                  .size = ByteSize(TestGuest::kSize),
                                  .user_address = TestGuest::kUser,
                                  .fd = guest_.fd()}});
  }
  VringSetup RingSetup() const {
    VringSetup setup = {.size = kQueueSize,
                        .base = is_packed_ ? kWrapBits : 0,
                        .kick_fd = kick_.get(),
                        .call_fd = call_.get(),
                        .err_fd = call_.get()};
    setup.address.descriptor = TestGuest::kUser + TestGuest::kDescriptors;
    setup.address.available = TestGuest::kUser + TestGuest::kAvailable;
    setup.address.used = TestGuest::kUser + TestGuest::kUsed;
    setup.address.log = TestGuest::kGuest + TestGuest::kUsed;
    return setup;
  }
  // Adds a request of three bytes at @data; the device writes its answer 0x100 bytes after @data.
  void Add(uint64_t data = kData) { ring_->Add({{data, 3, 0}, {data + 0x100, 3, kWrite}}); }
  // Waits until the device has used another chain; false if the connection ends first.
  bool WaitUsed() {
    bool has_used = false;
    return RunUntil(*frontend_,
                    [&] {
                      has_used = ring_->TakeUsed().has_value();
                      return has_used || !frontend_->status().ok();
                    }) &&
           has_used;
  }
  bool Serve() {
    std::memcpy(guest_.at(TestGuest::kData), "abc", 3);
    std::memset(guest_.at(TestGuest::kData + 0x100), 0, 3);
    Add();
    return frontend_->Kick(0).ok() && WaitUsed() &&
           std::memcmp(guest_.at(TestGuest::kData + 0x100), "cba", 3) == 0;
  }
  // Makes the back-end send a request to the front-end, and waits for its end.
  absl::Status Ask(std::function<void(Backend&, Backend::Done)> ask) {
    std::atomic<bool> is_done = false;
    absl::Status result;
    thread_->Post([&](Backend& backend) {
      ask(backend, [&](absl::Status status) {
        result = std::move(status);
        is_done = true;
      });
    });
    if (!RunUntil(*frontend_, [&] { return is_done.load(); })) {
      // Ends the thread, so that it can't use this function's variables later.
      thread_.reset();
      return absl::DeadlineExceededError("the back-end's request doesn't end");
    }
    return result;
  }

  static constexpr uint64_t kAll = Frontend::kDefaultProtocolFeatures;
  const UniqueFd kick_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const UniqueFd call_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  TestGuest guest_;
  bool is_packed_ = false;
  std::optional<TestRing> ring_;
  FullDevice device_;
  SharedObjects objects_;
  TranslatingHandler handler_;
  std::unique_ptr<BackendThread> thread_;
  std::unique_ptr<Frontend> frontend_;
};

}  // namespace gmem::vhost::doubles
#pragma GCC visibility pop

#endif  // GMEM_VHOST_TESTING_BOTH_ENDS_H_
