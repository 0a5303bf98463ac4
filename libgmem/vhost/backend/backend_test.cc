// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/backend.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

TEST_F(BackendTest, Negotiates) {
  const auto features = Ask<FrontendRequest::kGetFeatures>();
  ASSERT_TRUE(features.ok());
  EXPECT_EQ(*features & 0x7, 0x7U);
  const auto protocol = Ask<FrontendRequest::kGetProtocolFeatures>();
  ASSERT_TRUE(protocol.ok());
  EXPECT_EQ(*protocol & kAll, kAll);
  EXPECT_EQ(*protocol & Bit(ProtocolFeature::kXenMmap), 0U);
  Negotiate(0x5);
  EXPECT_EQ(backend_->features() & 0x7, 0x5U);
  EXPECT_EQ(*Ask<FrontendRequest::kGetQueueNum>(), 2U);
  EXPECT_EQ(*Ask<FrontendRequest::kGetMaxMemSlots>(), 509U);
  EXPECT_TRUE(Ask<FrontendRequest::kSetOwner>().ok());
  EXPECT_TRUE(Ask<FrontendRequest::kSetStatus>(15).ok());
  EXPECT_EQ(*Ask<FrontendRequest::kGetStatus>(), 15U);
  ExpectRefused(Ask<FrontendRequest::kSetFeatures>(uint64_t{1} << 63));
  ExpectRefused(Ask<FrontendRequest::kSetProtocolFeatures>(uint64_t{1} << 63));
  ExpectRefused(Ask<FrontendRequest::kNetSetMtu>(1));
  EXPECT_TRUE(Ask<FrontendRequest::kNetSetMtu>(1500).ok());
  ExpectRefused(Ask<FrontendRequest::kSendRarp>(1));
  ExpectRefused(Ask<FrontendRequest::kSetVringEndian>({}));
}

TEST_F(BackendTest, InbandNotificationsNeedTheBackendChannel) {
  EXPECT_FALSE(
      Ask<FrontendRequest::kSetProtocolFeatures>(Bit(ProtocolFeature::kInbandNotifications)).ok() &&
      session_.ok());
  EXPECT_EQ(GetErrno(session_), EINVAL);
}

TEST_F(BackendTest, EndsTheSessionIfTheFrontendDidNotAskForAnAcknowledgement) {
  EXPECT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 9, .num = 8}).ok());
  EXPECT_EQ(GetErrno(session_), EINVAL);
  EXPECT_EQ(GetErrno(backend_->Process()), EINVAL) << "it stays so";
}

TEST_F(BackendTest, Configuration) {
  Negotiate();
  ConfigSpace config = {.offset = 0, .size = 256, .flags = 0, .bytes = {}};
  auto reply = Ask<FrontendRequest::kGetConfig>(config);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->size, 256U);
  EXPECT_EQ(std::string(reply->bytes.begin(), reply->bytes.begin() + 15),
            std::string("configuration\0\0", 15));
  config.offset = 200;
  config.size = 4;
  EXPECT_EQ(Ask<FrontendRequest::kGetConfig>(config)->size, 0U);
  config = {.offset = 0, .size = 2, .flags = 0, .bytes = {'C', 'O'}};
  EXPECT_TRUE(Ask<FrontendRequest::kSetConfig>(config).ok());
  EXPECT_EQ(device_.config, "COnfiguration");
  config.offset = 12;
  ExpectRefused(Ask<FrontendRequest::kSetConfig>(config));
}

// CVE-2019-14818, CVE-2022-0669, CVE-2020-10726, CVE-2021-3544: a request that comes again replaces
// the state of the previous request. The fixture counts descriptors.
TEST_F(BackendTest, RepetitionLeaksNothing) {
  Negotiate();
  SetTable();
  const auto round = [this] {
    SetTable();
    for (int i = 0; i < 3; i++) {
      ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 1, .num = 8}).ok());
    }
    StartQueue(1);
    for (int i = 0; i < 3; i++) {
      ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(1, {kick_.get()}).ok());
      ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(1, {call_.get()}).ok());
    }
    ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 1, .num = 0}).ok());
    OpenChannel();
    ASSERT_TRUE(
        Ask<FrontendRequest::kGetInflightFd>(
            {.mmap_size = 0, .mmap_offset = 0, .nr_queues = 2, .queue_size = 8, .padding = 0})
            .ok());
    EXPECT_EQ(reply_fds_.size(), 1U);
    reply_fds_.Clear();
    ASSERT_TRUE(Ask<FrontendRequest::kSetLogFd>({}, {kick_.get()}).ok());
    const UniqueFd log = NewFile(4096);
    ASSERT_TRUE(
        Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {log.get()}).ok());
  };
  round();
  const size_t before = CountOpenFds();
  for (int i = 0; i < 20; i++) round();
  EXPECT_EQ(CountOpenFds(), before);
}

// CVE-2021-3545: a reply must have no byte of this process's memory or of earlier messages.
TEST_F(BackendTest, RepliesLeakNoMemory) {
  Negotiate();
  ConfigSpace config = {.offset = 0, .size = kMaxConfigSize, .flags = 0, .bytes = {}};
  config.bytes.fill(0xee);
  auto reply = Ask<FrontendRequest::kGetConfig>(config);
  ASSERT_TRUE(reply.ok());
  for (size_t i = device_.config.size(); i < kMaxConfigSize; i++) {
    ASSERT_EQ(reply->bytes[i], 0) << i;
  }
  const auto shmem = Ask<FrontendRequest::kGetShmemConfig>();
  ASSERT_TRUE(shmem.ok());
  EXPECT_EQ(shmem->padding, 0U);
  for (size_t i = 0; i < kMaxShmemRegions; i++) EXPECT_EQ(shmem->sizes[i], i == 1 ? 0x10000U : 0U);
  const auto inflight = Ask<FrontendRequest::kGetInflightFd>({.mmap_size = ~uint64_t{0},
                                                              .mmap_offset = ~uint64_t{0},
                                                              .nr_queues = 9,
                                                              .queue_size = 8,
                                                              .padding = 0xeeeeeeee});
  ASSERT_TRUE(inflight.ok());
  const InflightArea none = {};
  EXPECT_EQ(std::memcmp(&*inflight, &none, sizeof(none)), 0);
}

// CVE-2021-3546: a write must stay inside of the configuration space.
TEST_F(BackendTest, ConfigurationStaysInItsBounds) {
  Negotiate();
  ConfigSpace config = {};
  config.bytes.fill('x');
  const auto size = static_cast<uint32_t>(device_.config.size());
  for (const auto& [offset, count] : std::vector<std::pair<uint32_t, uint32_t>>{
           {size, 1}, {size - 1, 2}, {0, size + 1}, {kMaxConfigSize - 1, 1}, {~0U, 1}, {~0U, 4}}) {
    config.offset = offset;
    config.size = count;
    ExpectRefused(Ask<FrontendRequest::kSetConfig>(config));
  }
  EXPECT_EQ(device_.config, "configuration");
}

// A driver may read anywhere, and the front-end passes that on: the session goes on.
TEST_F(BackendTest, ARefusedReadOfTheConfigurationIsAnEmptyReply) {
  Negotiate();
  std::array<uint8_t, sizeof(ConfigSpace) + 1> bytes = {};
  const auto refused = [&](uint32_t offset, uint32_t size) {
    const ConfigSpace request = {.offset = offset, .size = size, .flags = 0, .bytes = {}};
    std::memcpy(bytes.data(), &request, sizeof(request));
    std::optional<absl::StatusOr<uint32_t>> reply_size;
    frontend_->StartFormat(
        static_cast<uint32_t>(FrontendRequest::kGetConfig),
        *FindFormat(FrontendRequest::kGetConfig),
        absl::MakeConstSpan(bytes).first(offsetof(ConfigSpace, bytes) + size), {},
        [&](const absl::StatusOr<Message*>& reply) {
          if (reply.ok()) {
            reply_size = (*reply)->header.size;
          } else {
            reply_size = reply.status();
          }
        },
        /*want_ack=*/false);
    for (int i = 0; i < 5 && !reply_size; i++) Run();
    return reply_size && reply_size->ok() && **reply_size == 0 && session_.ok();
  };
  EXPECT_TRUE(refused(0, kMaxConfigSize + 1)) << session_;
  EXPECT_TRUE(refused(kMaxConfigSize, 4)) << session_;
  EXPECT_TRUE(refused(0, 0)) << session_;
  EXPECT_TRUE(refused(~0U, 4)) << session_;
  EXPECT_TRUE(refused(static_cast<uint32_t>(device_.config.size()), 1)) << session_;
  EXPECT_EQ(*Ask<FrontendRequest::kGetQueueNum>(), 2U);
}

class FixedConfigDevice : public TestDevice {
 public:
  absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from,
                           uint32_t flags) override {
    return Device::WriteConfig(offset, from, flags);
  }
};

// Nor may a driver end the session by a write, even if the front-end wants no acknowledgement.
TEST_F(BackendTest, ARefusedWriteOfTheConfigurationHasNoEffect) {
  FixedConfigDevice device;
  const ConfigSpace inside = {.offset = 0, .size = 1, .flags = 0, .bytes = {'x'}};
  const ConfigSpace outside = {.offset = kMaxConfigSize, .size = 1, .flags = 0, .bytes = {'x'}};
  for (const uint64_t features : {kAll, kAll & ~Bit(ProtocolFeature::kReplyAck)}) {
    Connect(device);
    Negotiate(0, features);
    const bool has_acks = features == kAll;
    EXPECT_EQ(Ask<FrontendRequest::kSetConfig>(inside).ok(), !has_acks);
    EXPECT_EQ(Ask<FrontendRequest::kSetConfig>(outside).ok(), !has_acks);
    EXPECT_EQ(Ask<FrontendRequest::kCloseCryptoSession>(7).ok(), !has_acks);
    EXPECT_TRUE(session_.ok()) << session_;
    EXPECT_EQ(*Ask<FrontendRequest::kGetQueueNum>(), 2U);
    EXPECT_EQ(device.config, "configuration");
  }
  Disconnect();
}

TEST_F(BackendTest, SurplusDescriptorsAreClosed) {
  Negotiate();
  const size_t before = CountOpenFds();
  // More descriptors than regions.
  MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {guest_.region()}};
  ExpectRefused(Ask<FrontendRequest::kSetMemTable>(
      table, {guest_.fd(), guest_.fd(), guest_.fd(), guest_.fd()}));
  ExpectRefused(Ask<FrontendRequest::kSetOwner>({}, {guest_.fd()}));
  EXPECT_EQ(CountOpenFds(), before);
}

// A message without its end must not stall the loop.
TEST_F(BackendTest, HalfAMessageDoesNotBlock) {
  std::array<int, 2> sockets;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
  UniqueFd peer(sockets[0]);
  backend_.reset();
  auto backend = Backend::Create(*Connection::Adopt(UniqueFd(sockets[1])), device_);
  ASSERT_TRUE(backend.ok());
  const MessageHeader header = {.request = 5, .flags = 1, .size = 40};
  ASSERT_EQ(write(peer.get(), &header, sizeof(header)), 12);
  EXPECT_TRUE((*backend)->Process().ok());
  ASSERT_EQ(write(peer.get(), &header, sizeof(header)), 12);
  EXPECT_TRUE((*backend)->Process().ok());
  peer.reset();
  EXPECT_EQ(GetErrno((*backend)->Process()), ECONNRESET);
}

TEST_F(BackendTest, MapsSharedMemory) {
  Negotiate();
  const auto config = Ask<FrontendRequest::kGetShmemConfig>();
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->nr_regions, 1U);
  EXPECT_EQ(config->sizes[1], 0x10000U);
  const ShmemMapping mapping = {.shmid = 1,
                                .padding = {},
                                .fd_offset = 0,
                                .shm_offset = 0x1000,
                                .len = 0x1000,
                                .flags = kShmemMapRw};
  std::optional<absl::Status> result;
  const auto done = [&result](absl::Status status) { result = std::move(status); };
  backend_->ShmemMap(mapping, guest_.fd(), done);
  EXPECT_EQ(GetErrno(*result), ENOTCONN);
  OpenChannel();
  result.reset();
  backend_->ShmemMap(mapping, guest_.fd(), done);
  Message* const message = NextOfChannel();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->header.request, 9U);
  EXPECT_EQ(message->fds.size(), 1U);
  EXPECT_EQ(FromBytes<ShmemMapping>(message->bytes()).shm_offset, 0x1000U);
  Run();
  EXPECT_FALSE(result) << "not before the answer";
  ASSERT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
  Run();
  ASSERT_TRUE(result);
  EXPECT_TRUE(result->ok());
  result.reset();
  backend_->ShmemUnmap(mapping, done);
  ASSERT_NE(NextOfChannel(), nullptr);
  ASSERT_TRUE(channel_->Acknowledge(absl::InvalidArgumentError("no")).ok());
  Run();
  EXPECT_EQ(GetErrno(*result), EIO);
  // The session's end ends the requests under way.
  result.reset();
  backend_->ShmemUnmap(mapping, done);
  backend_.reset();
  EXPECT_EQ(GetErrno(*result), ECONNRESET);
}

TEST_F(BackendTest, ChecksTheGpuSocket) {
  Negotiate();
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  ExpectRefused(Ask<FrontendRequest::kGpuSetSocket>({}, {event.get()}));
  EXPECT_FALSE(device_.gpu_socket);
  const UniqueFd gpu(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_TRUE(Ask<FrontendRequest::kGpuSetSocket>({}, {gpu.get()}).ok());
  EXPECT_TRUE(device_.gpu_socket);
  device_.gpu_socket.reset();
}

// A front-end that waits as long as this library's would otherwise give up before.
TEST_F(BackendTest, DevicesStopWithinTheFrontendsPatience) {
  EXPECT_LT(device_.Device::stop_timeout(), kDefaultTimeout);
}

TEST_F(BackendTest, RunsUntilItIsStopped) {
  const UniqueFd stop(eventfd(1, EFD_CLOEXEC));
  EXPECT_TRUE(backend_->Run(stop.get()).ok());
}

TEST_F(BackendTest, RunsUntilTheFrontendGoes) {
  absl::Status status;
  std::thread thread([&] { status = backend_->Run(); });
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kGetQueueNum>(
      {}, {}, [&](const absl::StatusOr<Message*>& reply) { is_answered = reply.ok(); });
  while (!is_answered && frontend_->status().ok()) {
    pollfd poll_fd = {.fd = frontend_->fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&poll_fd, 1, kPatienceMilliseconds), 1);
    frontend_->Process().IgnoreError();
  }
  EXPECT_TRUE(is_answered);
  frontend_.reset();
  thread.join();
  EXPECT_EQ(GetErrno(status), ECONNRESET) << status;
}

}  // namespace
}  // namespace gmem::vhost
