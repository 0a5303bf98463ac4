// SPDX-License-Identifier: MIT OR Apache-2.0
// A scripted front-end, for tests of back-ends and of devices.
#ifndef GMEM_VHOST_TESTING_SCRIPTED_FRONTEND_H_
#define GMEM_VHOST_TESTING_SCRIPTED_FRONTEND_H_

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "vhost/testing/ring.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost::doubles {

// A front-end that does what a test asks for, and the back-end that it talks to, in this process or
// in another one.
class ScriptedFrontendTest : public testing::Test {
 protected:
  ScriptedFrontendTest() : fds_before_(CountOpenFds()) {}
  ~ScriptedFrontendTest() override {
    Disconnect();
    EXPECT_EQ(CountOpenFds(), fds_before_ + guest_fds_) << "descriptors leaked";
  }

  void Connect(Device& device, absl::Duration timeout = kPatience) {
    Connect(device, Backend::Options{.timeout = timeout});
  }
  void Connect(Device& device, const Backend::Options& options) {
    auto pair = Connection::Pair();
    frontend_.emplace(std::move(pair->first), kPatience);
    auto backend = Backend::Create(*Connection::Adopt(std::move(pair->second)), device, options);
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
  }
  // The back-end is in another process.
  void ConnectOutside(Connection connection) {
    frontend_.emplace(std::move(connection), kPatience);
  }
  void Disconnect() {
    backend_.reset();
    frontend_.reset();
    channel_.reset();
    kick_.reset();
    call_.reset();
    error_.reset();
  }

  // Runs both sides until the answer has come or the session has ended.
  template <auto kRequest>
  absl::StatusOr<typename RequestTraits<kRequest>::Reply> Ask(
      const typename RequestTraits<kRequest>::Payload& payload = {},
      absl::Span<const int> fds = {}) {
    using Reply = typename RequestTraits<kRequest>::Reply;
    std::optional<absl::StatusOr<Reply>> result;
    frontend_->Start<kRequest>(payload, fds, [&](absl::StatusOr<Message*> reply) {
      if (!reply.ok()) {
        result.emplace(reply.status());
        return;
      }
      if (*reply != nullptr) reply_fds_ = std::move((*reply)->fds);
      result.emplace(*reply == nullptr ? Reply{} : FromBytes<Reply>((*reply)->bytes()));
    });
    // Some answers wait for another thread.
    const absl::Time end = absl::Now() + kPatience;
    for (int i = 0; !result && absl::Now() < end; i++) {
      Run();
      if (i > 100 && !result) absl::SleepFor(absl::Milliseconds(1));
    }
    if (!result) return absl::DeadlineExceededError("no answer");
    // After this, a request without an answer has arrived at least.
    Run();
    return *std::move(result);
  }
  void Run() {
    if (backend_ == nullptr) {
      session_ = frontend_->Process();
      return;
    }
    session_ = backend_->Process();
    if (!session_.ok()) {
      frontend_->Close(session_);
      return;
    }
    frontend_->Process().IgnoreError();
  }

  void Negotiate(uint64_t features = 0, uint64_t protocol_features = kAll) {
    ASSERT_TRUE(Ask<FrontendRequest::kSetProtocolFeatures>(protocol_features).ok());
    frontend_->set_reply_ack((protocol_features & Bit(ProtocolFeature::kReplyAck)) != 0);
    ASSERT_TRUE(Ask<FrontendRequest::kSetFeatures>(features |
                                                   Bit(VirtioFeature::kProtocolFeatures) |
                                                   Bit(VirtioFeature::kVersion1))
                    .ok());
  }
  void SetTable() {
    MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {guest_.region()}};
    ASSERT_TRUE(Ask<FrontendRequest::kSetMemTable>(table, {guest_.fd()}).ok());
  }
  // Sends all requests that a virtqueue needs to work.
  void StartQueue(uint32_t index = 0, uint32_t base = 0) {
    kick_.reset(eventfd(0, EFD_NONBLOCK));
    call_.reset(eventfd(0, EFD_NONBLOCK));
    error_.reset(eventfd(0, EFD_NONBLOCK));
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = index, .num = kQueueSize}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringBase>({.index = index, .num = base}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(Address(index)).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(index, {call_.get()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringErr>(index, {error_.get()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(index, {kick_.get()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = index, .num = 1}).ok());
  }
  static VringAddress Address(uint32_t index) {
    return {.index = index,
            .flags = 0,
            .descriptor = TestGuest::kUser + TestGuest::kDescriptors,
            .used = TestGuest::kUser + TestGuest::kUsed,
            .available = TestGuest::kUser + TestGuest::kAvailable,
            .log = 0};
  }
  void Kick() const {
    const uint64_t one = 1;
    ASSERT_EQ(write(kick_.get(), &one, sizeof(one)), 8);
  }
  static bool Take(const UniqueFd& fd) {
    uint64_t value = 0;
    return read(fd.get(), &value, sizeof(value)) == 8;
  }
  void AddRequest() {
    std::memcpy(guest_.at(TestGuest::kData), "abc", 3);
    ring_.Add({{kData, 3, 0}, {kData + 0x100, 3, kWrite}});
  }
  void OpenChannel() {
    auto pair = Connection::Pair();
    ASSERT_TRUE(Ask<FrontendRequest::kSetBackendReqFd>({}, {pair->second.get()}).ok());
    channel_.emplace(std::move(pair->first), Responder::Side::kBackend);
    channel_->set_reply_ack(true);
  }
  // Returns the next request from the back-end; null if there is none.
  Message* NextOfChannel() {
    const auto next = channel_->Next();
    return next.ok() && next->status.ok() ? next->message : nullptr;
  }
  template <typename T>
  void ExpectRefused(const absl::StatusOr<T>& result) {
    EXPECT_EQ(GetErrno(result.status()), EIO) << result.status();
    EXPECT_TRUE(session_.ok()) << session_;
  }

  // All features that a device gets without special methods.
  static constexpr uint64_t kAll =
      0x7fffff & ~Bit(ProtocolFeature::kRarp) & ~Bit(ProtocolFeature::kCrossEndian) &
      ~Bit(ProtocolFeature::kCryptoSession) & ~Bit(ProtocolFeature::kXenMmap) &
      ~Bit(ProtocolFeature::kGetVringBaseInflight) & ~Bit(ProtocolFeature::kGpaAddresses) &
      ~Bit(ProtocolFeature::kInbandNotifications);

  const size_t fds_before_;
  // The file of the guest's memory.
  const size_t guest_fds_ = 1;
  TestGuest guest_;
  TestRing ring_{guest_, kQueueSize, /*is_packed=*/false};
  std::optional<Requester> frontend_;
  std::unique_ptr<Backend> backend_;
  std::optional<Responder> channel_;
  absl::Status session_;
  FdList reply_fds_;
  UniqueFd kick_;
  UniqueFd call_;
  UniqueFd error_;
};

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_TESTING_SCRIPTED_FRONTEND_H_
