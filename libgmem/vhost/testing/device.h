// SPDX-License-Identifier: MIT OR Apache-2.0
// A device for tests of the back-end, and a fixture with the back-end that runs it.
#ifndef GMEM_VHOST_TESTING_DEVICE_H_
#define GMEM_VHOST_TESTING_DEVICE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/ring.h"
#include "vhost/testing/scripted_frontend.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost::doubles {

// Reverses the bytes that it reads. With `hold`, keeps the chains instead. With `waits`, leaves
// them in the ring.
class TestDevice : public Device {
 public:
  uint64_t features() const override { return 0x7; }
  uint16_t nr_queues() const override { return 2; }
  uint64_t protocol_features() const override {
    return Bit(ProtocolFeature::kDeviceState) | Bit(ProtocolFeature::kNetMtu) |
           Bit(ProtocolFeature::kSharedObject) | Bit(ProtocolFeature::kHostNotifier) |
           Bit(ProtocolFeature::kPagefault) | Bit(ProtocolFeature::kGetVringBaseInflight);
  }
  uint32_t config_size() const override { return config.size(); }
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to) override {
    std::copy_n(config.begin() + offset, to.size(), to.begin());
    return absl::OkStatus();
  }
  absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from, uint32_t) override {
    std::copy(from.begin(), from.end(), config.begin() + offset);
    return absl::OkStatus();
  }
  absl::Status HandleQueue(Backend& backend, Virtqueue& queue) override {
    nr_calls++;
    if (in_handler) in_handler(backend);
    if (waits) return absl::OkStatus();
    while (true) {
      Chain chain;
      if (queue.Pop(chain) != Popped::kChain) return queue.status();
      if (!trouble.ok()) return trouble;
      if (hold) {
        held.push_back(std::move(chain));
        continue;
      }
      Finish(queue, chain);
    }
  }
  absl::Status HandleDisabledQueue(Backend& backend, Virtqueue& queue) override {
    EXPECT_FALSE(backend.is_enabled(queue.index()));
    Chain chain;
    while (discard && queue.Pop(chain) == Popped::kChain) queue.Push(chain, 0);
    return queue.status();
  }
  static void Finish(Virtqueue& queue, const Chain& chain) {
    std::string bytes(chain.readable_size(), 0);
    chain.Read(0, bytes.data(), bytes.size());
    std::reverse(bytes.begin(), bytes.end());
    queue.Push(chain, chain.Write(0, bytes.data(), bytes.size()));
  }
  void QueueStarted(Backend&, Virtqueue& queue) override {
    log += "start" + std::to_string(queue.index()) + " ";
  }
  void QueueStopping(Backend&, Virtqueue& queue) override {
    log += "stopping ";
    while (gives_back && !held.empty() && queue.Unpop(held.back())) held.pop_back();
  }
  void MemoryRemoved(Backend&, Virtqueue& queue) override {
    log += "removed ";
    if (!finishes) return;
    std::erase_if(held, [&](const Chain& chain) {
      return queue.IsInRemovedMemory(chain) && queue.Push(chain, 0);
    });
  }
  bool IsReceiveQueue(uint16_t) const override { return is_receive; }
  void ChainsTakenBack(Backend&, Virtqueue& queue) override {
    log += "taken ";
    std::erase_if(held, [&](const Chain& chain) { return !queue.IsInFlight(chain); });
  }
  absl::Duration stop_timeout() const override { return patience; }
  absl::Status RunOnThread(absl::AnyInvocable<void()> work) override {
    if (!has_threads) return Device::RunOnThread(std::move(work));
    threads.emplace_back(std::move(work));
    return absl::OkStatus();
  }
  void QueueStopped(uint16_t index) override { log += "stop" + std::to_string(index) + " "; }
  void QueueFailed(uint16_t, const absl::Status& why) override {
    log += "failed ";
    failure = why;
  }
  void Reset() override { log += "reset "; }
  void Connected(Backend&) override { sessions++; }
  void Disconnected() override { sessions--; }
  std::vector<uint64_t> shmem_sizes() const override { return {0, 0x10000}; }
  absl::StatusOr<std::string> SaveState() override { return state; }
  absl::Status LoadState(absl::string_view bytes) override {
    if (bytes.empty()) return absl::InvalidArgumentError("no state");
    state = std::string(bytes);
    return absl::OkStatus();
  }
  absl::Status SetGpuSocket(UniqueFd socket) override {
    gpu_socket = std::move(socket);
    return absl::OkStatus();
  }
  absl::Status SetMtu(uint64_t mtu) override {
    return mtu < 68 ? absl::InvalidArgumentError("small") : absl::OkStatus();
  }

  std::string config = "configuration";
  std::string state = std::string(300000, 's');
  std::string log;
  int sessions = 0;
  UniqueFd gpu_socket;
  absl::Status failure;
  bool hold = false;
  bool waits = false;
  int nr_calls = 0;
  bool is_receive = false;
  // Puts the chains that it holds back when a virtqueue stops.
  bool gives_back = false;
  // Pushes the chains that it holds when their memory is removed.
  bool finishes = false;
  // Fails so with each chain, and loses it.
  absl::Status trouble;
  absl::Duration patience = kPatience;
  bool has_threads = true;
  // A test ends them all: no thread may use the test's memory later.
  std::vector<std::thread> threads;
  // Discard the requests that come while a virtqueue is disabled.
  bool discard = false;
  std::vector<Chain> held;
  std::function<void(Backend&)> in_handler;
};

class BackendTest : public ScriptedFrontendTest {
 protected:
  BackendTest() { Connect(device_); }
  ~BackendTest() override {
    Disconnect();
    for (std::thread& thread : device_.threads) thread.join();
  }

  // Adds a translation of I/O virtual addresses to user addresses to the IOTLB.
  void Translate(uint64_t iova, uint64_t size, uint64_t user_address) {
    ASSERT_TRUE(Ask<FrontendRequest::kIotlbMsg>({.iova = iova,
                                                 .size = size,
                                                 .user_address = user_address,
                                                 .permissions = kIotlbRead | kIotlbWrite,
                                                 .type = IotlbType::kUpdate,
                                                 .padding = {}})
                    .ok());
  }
  // Translates user addresses, where the rings are, and guest addresses, where the buffers are.
  void TranslateAll() {
    Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
    Translate(TestGuest::kGuest, TestGuest::kSize, TestGuest::kUser);
  }
  // Sends requests that the front-end doesn't answer, until the channel is full.
  void FillChannel() {
    while (!is_full_) {
      backend_->ConfigChanged([this](const absl::Status& status) { is_full_ |= !status.ok(); });
    }
  }
  // Starts the queue, with a request that the device holds.
  void HoldARequest() {
    Negotiate();
    SetTable();
    StartQueue();
    device_.hold = true;
    AddRequest();
    Kick();
    Run();
    ASSERT_EQ(device_.held.size(), 1U);
  }
  // More memory than the guest's, in another place.
  static constexpr MemoryRegion kMore = {.guest_address = TestGuest::kGuest + 2 * TestGuest::kSize,
                                         .size = 0x1000,
                                         .user_address = TestGuest::kUser + 2 * TestGuest::kSize,
                                         .mmap_offset = 0};
  // A request is under way whose answer waits for the device: the session ends after its patience,
  // which is 50 ms.
  void ExpectNoAnswerInTime() {
    Run();
    EXPECT_TRUE(session_.ok()) << session_;
    EXPECT_LE(TimeLeft(*backend_), device_.patience);
    absl::SleepFor(absl::Milliseconds(60));
    Run();
    EXPECT_EQ(GetErrno(session_), ETIMEDOUT) << session_;
  }
  // Answers the back-end's requests up to the first one of the given kind; false if none comes.
  bool FindInChannel(BackendRequest request) {
    for (int i = 0; i < 1000; i++) {
      Run();
      while (Message* const message = NextOfChannel()) {
        const bool is_found = message->header.request == static_cast<uint32_t>(request);
        EXPECT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
        if (is_found) return true;
      }
    }
    return false;
  }

  TestDevice device_;
  bool is_full_ = false;
};

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_TESTING_DEVICE_H_
