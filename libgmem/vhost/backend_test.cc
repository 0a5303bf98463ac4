// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmem/status.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "vhost/testing_ring.h"
#include "vhost/testing_scripted_frontend.h"

namespace gmem::vhost {
namespace {

using namespace testing_ring;  // NOLINT(google-build-using-namespace): tests' own words
using testing::CountOpenFds;
using testing_frontend::FrontendTest;
using testing_frontend::kData;
using testing_frontend::kQueueSize;

// Reverses what it reads, or, if it is to hold, keeps the chains.
class TestDevice : public Device {
 public:
  uint64_t features() const override { return 0x7; }
  uint16_t nr_queues() const override { return 2; }
  uint64_t protocol_features() const override {
    return Bit(ProtocolFeature::kDeviceState) | Bit(ProtocolFeature::kNetMtu) |
           Bit(ProtocolFeature::kSharedObject) | Bit(ProtocolFeature::kHostNotifier) |
           Bit(ProtocolFeature::kPagefault);
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
    if (in_handler) in_handler(backend);
    while (true) {
      Chain chain;
      const auto popped = queue.Pop(chain);
      if (!popped.ok()) return popped.status();
      if (!*popped) return absl::OkStatus();
      if (hold) {
        held.push_back(std::move(chain));
        continue;
      }
      Finish(queue, chain);
    }
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
  void QueueStopping(Backend&, Virtqueue&) override { log += "stopping "; }
  void QueueStopped(uint16_t index) override { log += "stop" + std::to_string(index) + " "; }
  void QueueFailed(uint16_t, const absl::Status& why) override {
    log += "failed ";
    failure = why;
  }
  void Reset() override { log += "reset "; }
  std::vector<uint64_t> shmem_sizes() const override { return {0, 0x10000}; }
  absl::StatusOr<std::string> SaveState() override { return state; }
  absl::Status LoadState(absl::string_view bytes) override {
    if (bytes.empty()) return absl::InvalidArgumentError("no state");
    state = std::string(bytes);
    return absl::OkStatus();
  }
  absl::Status SetMtu(uint64_t mtu) override {
    return mtu < 68 ? absl::InvalidArgumentError("small") : absl::OkStatus();
  }

  std::string config = "configuration";
  std::string state = std::string(300000, 's');
  std::string log;
  absl::Status failure;
  bool hold = false;
  std::vector<Chain> held;
  std::function<void(Backend&)> in_handler;
};

class BackendTest : public FrontendTest {
 protected:
  BackendTest() { Connect(device_); }
  ~BackendTest() override { Disconnect(); }

  TestDevice device_;
};

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

TEST_F(BackendTest, InbandNotificationsNeedTheirChannel) {
  EXPECT_FALSE(
      Ask<FrontendRequest::kSetProtocolFeatures>(Bit(ProtocolFeature::kInbandNotifications)).ok() &&
      session_.ok());
  EXPECT_EQ(GetErrno(session_), EINVAL);
}

TEST_F(BackendTest, WhoCannotBeToldIsLeft) {
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

TEST_F(BackendTest, ServesAQueueFromItsFirstKickToGetVringBase) {
  Negotiate();
  SetTable();
  StartQueue();
  AddRequest();
  Run();
  EXPECT_FALSE(ring_.TakeUsed()) << "not before the kick";
  EXPECT_EQ(device_.log, "");
  Kick();
  Run();
  const auto used = ring_.TakeUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 3U);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(guest_.at(TestGuest::kData + 0x100)), 3), "cba");
  EXPECT_TRUE(Take(call_));
  ExpectRefused(Ask<FrontendRequest::kSetVringNum>({.index = 0, .num = 16}));
  ExpectRefused(Ask<FrontendRequest::kSetFeatures>(0x1));
  const auto base = Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0});
  ASSERT_TRUE(base.ok());
  EXPECT_EQ(base->num, 1U);
  EXPECT_EQ(device_.log, "start0 stop0 ");
  AddRequest();
  Kick();
  Run();
  EXPECT_FALSE(ring_.TakeUsed()) << "it has stopped";
}

TEST_F(BackendTest, DisabledQueuesWait) {
  Negotiate();
  SetTable();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  AddRequest();
  Kick();
  Run();
  EXPECT_FALSE(ring_.TakeUsed());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
  ExpectRefused(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 2}));
}

TEST_F(BackendTest, GetVringBaseWaitsForWhatIsInFlight) {
  Negotiate();
  SetTable();
  StartQueue();
  device_.hold = true;
  AddRequest();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 1U);
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}, {},
                                                   [&](const absl::StatusOr<Message*>& reply) {
                                                     is_answered = true;
                                                     EXPECT_TRUE(reply.ok());
                                                   });
  for (int i = 0; i < 5; i++) Run();
  EXPECT_FALSE(is_answered);
  EXPECT_EQ(device_.log, "start0 stopping ");
  // From the device's own loop.
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  backend_->queue(0)->Notify();
  for (int i = 0; i < 5 && !is_answered; i++) Run();
  EXPECT_TRUE(is_answered);
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(BackendTest, RemovedMemoryStaysForChainsInFlight) {
  Negotiate();
  SetTable();
  StartQueue();
  device_.hold = true;
  AddRequest();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 1U);
  ASSERT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = guest_.region()}).ok());
  Run();
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  EXPECT_FALSE(ring_.TakeUsed()) << "the ring is away";
  ASSERT_TRUE(
      Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = guest_.region()}, {guest_.fd()})
          .ok());
  EXPECT_TRUE(ring_.TakeUsed());
  ExpectRefused(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = {}}));
}

TEST_F(BackendTest, ABrokenQueueIsToldAndCanStartAgain) {
  Negotiate();
  SetTable();
  StartQueue();
  ring_.SetAvailableIndex(100);
  Kick();
  Run();
  EXPECT_TRUE(session_.ok());
  EXPECT_EQ(GetErrno(device_.failure), EBADMSG);
  EXPECT_TRUE(Take(error_));
  EXPECT_EQ(*Ask<FrontendRequest::kGetStatus>() & 64, 64U);
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  ring_.SetAvailableIndex(0);
  StartQueue();
  AddRequest();
  Kick();
  Run();
  EXPECT_TRUE(ring_.TakeUsed());
}

// CVE-2020-10723: an index is not cut to 16 bits.
TEST_F(BackendTest, ChecksAllOfAnIndex) {
  Negotiate();
  SetTable();
  for (const uint32_t index : {2U, 0x10000U, 0xffffffffU}) {
    const VringState state = {.index = index, .num = 8};
    ExpectRefused(Ask<FrontendRequest::kSetVringNum>(state));
    ExpectRefused(Ask<FrontendRequest::kSetVringBase>(state));
    ExpectRefused(Ask<FrontendRequest::kSetVringEnable>(state));
    ExpectRefused(Ask<FrontendRequest::kSetVringAddr>(Address(index)));
  }
  ExpectRefused(Ask<FrontendRequest::kSetVringCall>(uint64_t{2} | kVringNoFd));
}

// CVE-2019-14818, CVE-2022-0669, CVE-2020-10726, CVE-2021-3544: what is said again and
// again takes the place of what was there. The fixture counts.
TEST_F(BackendTest, RepetitionLeaksNothing) {
  Negotiate();
  SetTable();
  const auto round = [this] {
    SetTable();
    StartQueue(1);
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

TEST_F(BackendTest, SurplusDescriptorsAreClosed) {
  Negotiate();
  const size_t before = CountOpenFds();
  // More than the table has regions.
  MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {guest_.region()}};
  ExpectRefused(Ask<FrontendRequest::kSetMemTable>(
      table, {guest_.fd(), guest_.fd(), guest_.fd(), guest_.fd()}));
  ExpectRefused(Ask<FrontendRequest::kSetOwner>({}, {guest_.fd()}));
  EXPECT_EQ(CountOpenFds(), before);
}

// CVE-2022-2132 and its like: a message that doesn't come to its end stalls nobody.
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

// CVE-2020-10722.
TEST_F(BackendTest, RefusesALogThatIsTooSmall) {
  Negotiate();
  SetTable();
  const UniqueFd file = NewFile(4096);
  EXPECT_FALSE(
      Ask<FrontendRequest::kSetLogBase>({.mmap_size = 8, .mmap_offset = 0}, {file.get()}).ok());
  EXPECT_EQ(GetErrno(session_), EINVAL);
}

TEST_F(BackendTest, LogsWhatItWrites) {
  Negotiate(Bit(VirtioFeature::kLogAll));
  SetTable();
  StartQueue();
  const UniqueFd file = NewFile(4096);
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {file.get()}).ok());
  AddRequest();
  Kick();
  Run();
  ASSERT_TRUE(ring_.TakeUsed());
  uint8_t byte = 0;
  constexpr off_t kPage = static_cast<off_t>(kData / kLogPageSize);
  ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
  EXPECT_EQ(byte, 1 << (kPage % 8));
}

// CVE-2021-3839, and what is in flight lives on with the front-end.
TEST_F(BackendTest, InflightBufferSurvivesABackend) {
  Negotiate();
  SetTable();
  InflightArea area = {
      .mmap_size = 0, .mmap_offset = 0, .nr_queues = 100, .queue_size = kQueueSize, .padding = 0};
  EXPECT_EQ(Ask<FrontendRequest::kGetInflightFd>(area)->mmap_size, 0U);
  EXPECT_TRUE(reply_fds_.empty());
  area.nr_queues = 2;
  area = *Ask<FrontendRequest::kGetInflightFd>(area);
  const UniqueFd buffer = reply_fds_.Take(0);
  InflightArea bad = area;
  bad.nr_queues = 3;
  ExpectRefused(Ask<FrontendRequest::kSetInflightFd>(bad, {buffer.get()}));
  ASSERT_TRUE(Ask<FrontendRequest::kSetInflightFd>(area, {buffer.get()}).ok());
  StartQueue();
  device_.hold = true;
  AddRequest();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 1U);

  Disconnect();
  EXPECT_THAT(device_.log, ::testing::HasSubstr("stop0"));
  device_.held.clear();
  device_.hold = false;
  Connect(device_);
  Negotiate();
  SetTable();
  ASSERT_TRUE(Ask<FrontendRequest::kSetInflightFd>(area, {buffer.get()}).ok());
  StartQueue();
  Kick();
  Run();
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(BackendTest, ResetStopsAll) {
  Negotiate();
  SetTable();
  StartQueue();
  Kick();
  Run();
  ASSERT_TRUE(Ask<FrontendRequest::kResetDevice>().ok());
  EXPECT_EQ(device_.log, "start0 stop0 reset ");
  ASSERT_TRUE(Ask<FrontendRequest::kSetStatus>(0).ok());
  EXPECT_EQ(device_.log, "start0 stop0 reset reset ");
}

TEST_F(BackendTest, DeviceStateGoesThroughAPipe) {
  Negotiate();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  EXPECT_EQ(
      *Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()}),
      kReplyNoFd);
  out.reset();
  std::string state;
  std::array<char, 65536> piece;
  for (ssize_t got = 1; got > 0;) {
    Run();
    got = read(in.get(), piece.data(), piece.size());
    if (got > 0) state.append(piece.data(), static_cast<size_t>(got));
  }
  EXPECT_EQ(state, device_.state);
  EXPECT_EQ(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);

  ASSERT_EQ(pipe(ends.data()), 0);
  in.reset(ends[0]);
  out.reset(ends[1]);
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kLoad, .phase = TransferPhase::kStopped}, {in.get()})
          .ok());
  ASSERT_EQ(write(out.get(), "loaded", 6), 6);
  out.reset();
  EXPECT_EQ(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
  EXPECT_EQ(device_.state, "loaded");
  EXPECT_NE(*Ask<FrontendRequest::kCheckDeviceState>(), 0U) << "there was no transfer";
}

// As QEMU does when a migration is cancelled: no SIGPIPE, which would end this test.
TEST_F(BackendTest, SurvivesAPipeThatNobodyReads) {
  Negotiate();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  in.reset();
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()})
          .ok());
  for (int i = 0; i < 3; i++) Run();
  EXPECT_NE(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
  // Where it can't be held back cheaply, pipes aren't taken at all.
  ExpectRefused(Ask<FrontendRequest::kSetVringCall>(0, {out.get()}));
  ExpectRefused(Ask<FrontendRequest::kSetLogFd>({}, {out.get()}));
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
  // What is under way at the end is told.
  result.reset();
  backend_->ShmemUnmap(mapping, done);
  backend_.reset();
  EXPECT_EQ(GetErrno(*result), ECONNRESET);
}

TEST_F(BackendTest, AsksForMissingTranslations) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  StartQueue();
  AddRequest();
  Kick();
  Run();
  // The ring's three parts, then the buffers: each is asked for, and told.
  bool is_served = false;
  for (int i = 0; i < 10 && !is_served; i++) {
    Message* const message = NextOfChannel();
    ASSERT_NE(message, nullptr) << i;
    auto iotlb = FromBytes<IotlbMessage>(message->bytes());
    EXPECT_EQ(iotlb.type, IotlbType::kMiss);
    ASSERT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
    iotlb.type = IotlbType::kUpdate;
    iotlb.permissions = kIotlbRead | kIotlbWrite;
    iotlb.iova &= ~uint64_t{0xfff};
    iotlb.size = 0x1000;
    // The rings lie at user addresses, the buffers at guest ones: all of the test's own.
    iotlb.user_address = iotlb.iova >= TestGuest::kUser
                             ? iotlb.iova
                             : iotlb.iova - TestGuest::kGuest + TestGuest::kUser;
    ASSERT_TRUE(Ask<FrontendRequest::kIotlbMsg>(iotlb).ok());
    Run();
    is_served = ring_.TakeUsed().has_value();
  }
  EXPECT_TRUE(is_served);
}

TEST_F(BackendTest, PollsAQueueWithoutAKick) {
  Negotiate();
  SetTable();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(kVringNoFd).ok());
  AddRequest();
  EXPECT_LT(backend_->next_deadline(), absl::Now() + absl::Seconds(1));
  Run();
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(BackendTest, NotifiesInBand) {
  Negotiate(0, kAll | Bit(ProtocolFeature::kInbandNotifications));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(kVringNoFd).ok());
  AddRequest();
  ASSERT_TRUE(Ask<FrontendRequest::kVringKick>({.index = 0, .num = 0}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
  Message* const message = NextOfChannel();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->header.request, static_cast<uint32_t>(BackendRequest::kVringCall));
}

TEST_F(BackendTest, KickThatNeverBlocks) {
  Negotiate();
  SetTable();
  StartQueue();
  Kick();
  // The front-end takes it back before the back-end comes to it.
  EXPECT_TRUE(Take(kick_));
  Run();
  EXPECT_TRUE(session_.ok());
}

// The front-end learns where the memory is, and serves what isn't there yet.
TEST_F(BackendTest, PostcopyLetsTheFrontendServeFaults) {
  Negotiate();
  ASSERT_TRUE(Ask<FrontendRequest::kPostcopyAdvise>().ok());
  ASSERT_EQ(reply_fds_.size(), 1U) << "userfaultfd is forbidden here";
  const UniqueFd faults = reply_fds_.Take(0);
  ASSERT_TRUE(Ask<FrontendRequest::kPostcopyListen>().ok());
  const MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {guest_.region()}};
  const Format format = {.name = "SET_MEM_TABLE with bases",
                         .has_reply = true,
                         .min_reply_size = 40,
                         .max_reply_size = 40};
  uint64_t base = 0;
  frontend_->StartFormat(
      5, format, AsBytes(table), {guest_.fd()},
      [&base](const absl::StatusOr<Message*>& reply) {
        ASSERT_TRUE(reply.ok()) << reply.status();
        base = FromBytes<MemoryTable>((*reply)->bytes()).regions[0].user_address;
      },
      /*want_ack=*/false);
  for (int i = 0; i < 5; i++) Run();
  const GuestSpan memory = backend_->memory().FromGuest(kData, 4096);
  EXPECT_EQ(base + TestGuest::kData, reinterpret_cast<uintptr_t>(memory.data()));
  frontend_->Start<FrontendRequest::kSetMemTable>(
      {}, {}, [](const absl::StatusOr<Message*>&) {}, /*want_ack=*/false);
  Run();
  ASSERT_TRUE(session_.ok()) << session_;

  uint8_t seen = 0;
  std::thread device([&] { seen = *static_cast<volatile uint8_t*>(memory.data()); });
  pollfd poll_fd = {.fd = faults.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 10000), 1);
  alignas(4096) std::array<uint8_t, 4096> page;
  page.fill(7);
  uffdio_copy copy = {};
  copy.dst = reinterpret_cast<uintptr_t>(memory.data());
  copy.src = reinterpret_cast<uintptr_t>(page.data());
  copy.len = page.size();
  EXPECT_EQ(ioctl(faults.get(), UFFDIO_COPY, &copy), 0) << errno;
  device.join();
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(*Ask<FrontendRequest::kPostcopyEnd>(), 0U);
}

}  // namespace
}  // namespace gmem::vhost
