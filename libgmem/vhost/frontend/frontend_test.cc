// SPDX-License-Identifier: MIT OR Apache-2.0
// Negotiation, and requests to the device as a whole.
#include "gmem/vhost/frontend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmem/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"

namespace gmem::vhost {
namespace {

using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::Received;
using testing::ElementsAre;

using Request = FrontendRequest;
constexpr uint64_t kAllOffered = (uint64_t{1} << 23) - 1;

class NegotiationTest : public FrontendTest {};

TEST_F(NegotiationTest, WithoutProtocolFeatures) {
  Start({.features = Bit(VirtioFeature::kVersion1)});
  ASSERT_TRUE(frontend_->Negotiate().ok());
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kGetFeatures, Request::kSetOwner));
  EXPECT_EQ(frontend_->protocol_features(), 0u);
  EXPECT_EQ(frontend_->queue_num(), 1u);
  // The back-end doesn't know these requests: nothing is sent.
  EXPECT_TRUE(absl::IsUnimplemented(frontend_->SetMtu(1500)));
  EXPECT_TRUE(absl::IsUnimplemented(frontend_->GetConfig(0, 1).status()));
  EXPECT_TRUE(frontend_->SetVringEnable(0, true).ok());
  EXPECT_TRUE(absl::IsUnimplemented(frontend_->SetVringEnable(0, false)));
  EXPECT_TRUE(backend_->TakeRequests().empty());
}

TEST_F(NegotiationTest, TakesAllButXen) {
  Start({.protocol_features = kAllOffered}, AllOptions());
  ASSERT_TRUE(frontend_->Negotiate().ok());
  EXPECT_EQ(frontend_->protocol_features(), Frontend::kDefaultProtocolFeatures);
  EXPECT_FALSE(frontend_->Has(ProtocolFeature::kXenMmap));
  EXPECT_EQ(backend_->Last(Request::kSetProtocolFeatures).As<uint64_t>(),
            Frontend::kDefaultProtocolFeatures);
  EXPECT_THAT(
      backend_->TakeRequests(),
      ElementsAre(Request::kGetFeatures, Request::kGetProtocolFeatures,
                  Request::kSetProtocolFeatures, Request::kGetQueueNum, Request::kGetMaxMemSlots,
                  Request::kSetBackendReqFd, Request::kSetOwner, Request::kGetShmemConfig));
  EXPECT_EQ(backend_->Last(Request::kSetBackendReqFd).nr_fds, 1u);
  EXPECT_EQ(frontend_->queue_num(), 4u);
  EXPECT_EQ(frontend_->max_memory_slots(), 509u);
  // A second time would make a second channel.
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Negotiate()));
}

TEST_F(NegotiationTest, LeavesOutFeaturesWithoutTheirNeeds) {
  struct Case {
    ProtocolFeature absent;
    std::vector<ProtocolFeature> with_it;
  };
  const std::vector<Case> cases = {
      {ProtocolFeature::kBackendReq,
       {ProtocolFeature::kBackendSendFd, ProtocolFeature::kInbandNotifications,
        ProtocolFeature::kHostNotifier, ProtocolFeature::kShmemMap,
        ProtocolFeature::kSharedObject}},
      {ProtocolFeature::kReplyAck,
       {ProtocolFeature::kInbandNotifications, ProtocolFeature::kPagefault}},
      {ProtocolFeature::kBackendSendFd,
       {ProtocolFeature::kHostNotifier, ProtocolFeature::kShmemMap}},
  };
  for (const Case& c : cases) {
    uint64_t expected = Frontend::kDefaultProtocolFeatures & ~Bit(c.absent);
    for (const ProtocolFeature feature : c.with_it) expected &= ~Bit(feature);
    Start({.protocol_features = kAllOffered & ~Bit(c.absent)}, AllOptions());
    ASSERT_TRUE(frontend_->Negotiate().ok());
    EXPECT_EQ(frontend_->protocol_features(), expected) << static_cast<int>(c.absent);
  }
}

TEST_F(NegotiationTest, IommuNeedsBothChannelsAndAnswers) {
  constexpr uint64_t kIommu = Bit(VirtioFeature::kIommuPlatform);
  const uint64_t features = Bit(VirtioFeature::kProtocolFeatures) | kIommu;
  constexpr uint64_t kBoth = Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kReplyAck);
  for (const uint64_t offered :
       {uint64_t{0}, Bit(ProtocolFeature::kBackendReq), Bit(ProtocolFeature::kReplyAck), kBoth}) {
    Start({.features = features, .protocol_features = offered});
    ASSERT_TRUE(frontend_->Negotiate().ok());
    EXPECT_EQ(frontend_->features(), offered == kBoth ? kIommu : 0);
    EXPECT_EQ(frontend_->SetFeatures(kIommu).ok(), offered == kBoth);
  }
  // SetFeatures() adds the protocol's bit.
  EXPECT_EQ(backend_->Last(Request::kSetFeatures).As<uint64_t>(), features);
}

TEST_F(NegotiationTest, RefusesFeaturesThatArentOffered) {
  Start({});
  ASSERT_TRUE(frontend_->Negotiate().ok());
  backend_->TakeRequests();
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetFeatures(1)));
  EXPECT_TRUE(
      absl::IsInvalidArgument(frontend_->SetFeatures(Bit(VirtioFeature::kProtocolFeatures))));
  EXPECT_TRUE(backend_->TakeRequests().empty());
}

TEST_F(NegotiationTest, StatusFollowsFeatures) {
  Start({.protocol_features = Bit(ProtocolFeature::kStatus)});
  ASSERT_TRUE(frontend_->Negotiate().ok());
  backend_->TakeRequests();
  ASSERT_TRUE(frontend_->SetFeatures(Bit(VirtioFeature::kVersion1)).ok());
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kSetFeatures, Request::kGetStatus,
                                                    Request::kSetStatus, Request::kGetStatus));
  EXPECT_EQ(backend_->Last(Request::kSetStatus).As<uint64_t>(), 8u);
  ASSERT_TRUE(frontend_->DriverOk().ok());
  EXPECT_EQ(backend_->Last(Request::kSetStatus).As<uint64_t>(), 15u);
  EXPECT_EQ(*frontend_->GetStatus(), 15);
}

TEST_F(NegotiationTest, DeviceThatDropsFeaturesOk) {
  FakeBackend::Options options = {.protocol_features = Bit(ProtocolFeature::kStatus)};
  options.handlers[Request::kSetStatus] = [](FakeBackend&, Message&) {};
  Start(std::move(options));
  ASSERT_TRUE(frontend_->Negotiate().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->SetFeatures(0)));
}

TEST_F(NegotiationTest, NoDeviceHasMoreVirtqueuesThanTheProtocol) {
  Start({.protocol_features = kAllOffered, .queue_num = ~uint64_t{0}}, AllOptions());
  ASSERT_TRUE(frontend_->Negotiate().ok());
  EXPECT_EQ(frontend_->queue_num(), kMaxQueues);
}

TEST_F(NegotiationTest, DeviceWithoutVirtqueues) {
  Start({.protocol_features = kAllOffered, .queue_num = 0}, AllOptions());
  EXPECT_EQ(GetErrno(frontend_->Negotiate()), EBADMSG);
  EXPECT_EQ(GetErrno(frontend_->status()), EBADMSG);
}

class DeviceTest : public FrontendTest {
 protected:
  void SetUp() override { StartNegotiated({.protocol_features = kAllOffered}, AllOptions()); }

  // Expects the last request to carry exactly these bytes.
  template <typename Payload>
  void ExpectSent(Request request, const Payload& payload, size_t nr_fds = 0) {
    const Received last = backend_->Last(request);
    const auto bytes = AsBytes(payload);
    EXPECT_EQ(last.payload, std::string(bytes.begin(), bytes.end())) << Name(request);
    EXPECT_EQ(last.nr_fds, nr_fds) << Name(request);
    EXPECT_EQ(last.flags & kVersionMask, kVersion);
  }
};

TEST_F(DeviceTest, BytesOfSmallRequests) {
  ASSERT_TRUE(frontend_->SetMtu(9000).ok());
  ExpectSent(Request::kNetSetMtu, uint64_t{9000});
  ASSERT_TRUE(frontend_->SendRarp({0x52, 0x54, 0, 1, 2, 3}).ok());
  EXPECT_EQ(backend_->Last(Request::kSendRarp).payload, std::string("\x52\x54\0\1\2\3\0\0", 8));
  std::array<int, 2> sockets;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
  const UniqueFd a(sockets[0]), b(sockets[1]);
  ASSERT_TRUE(frontend_->SetGpuSocket(a.get()).ok());
  ExpectSent(Request::kGpuSetSocket, Empty(), 1);
  ASSERT_TRUE(frontend_->CloseCryptoSession(77).ok());
  ExpectSent(Request::kCloseCryptoSession, uint64_t{77});
  // A bad descriptor is the caller's mistake, and changes nothing.
  EXPECT_EQ(GetErrno(frontend_->SetGpuSocket(-1)), EBADF);
  EXPECT_EQ(GetErrno(frontend_->SetDeviceStateFd(TransferDirection::kSave, -1).status()), EBADF);
  EXPECT_TRUE(frontend_->status().ok());
  // The requests ask for acknowledgements.
  EXPECT_NE(backend_->Last(Request::kNetSetMtu).flags & kFlagNeedReply, 0u);
}

TEST_F(DeviceTest, Config) {
  EXPECT_EQ(*frontend_->GetConfig(8, 4), std::string(4, '\0'));
  EXPECT_EQ(backend_->Last(Request::kGetConfig).payload.size(), 16u);
  ASSERT_TRUE(frontend_->SetConfig(250, "abcdef", kConfigMigration).ok());
  ConfigSpace expected = {.offset = 250, .size = 6, .flags = kConfigMigration, .bytes = {}};
  memcpy(expected.bytes.data(), "abcdef", 6);
  ExpectSent(Request::kSetConfig, expected);

  backend_->TakeRequests();
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->GetConfig(0, 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->GetConfig(0, 257).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->GetConfig(0xffffffff, 2).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetConfig(251, "abcdef")));
  EXPECT_TRUE(backend_->TakeRequests().empty());
}

// The specification's error is a reply without payload, that of rust-vmm has size 0.
TEST_F(DeviceTest, ARefusedConfigIsAnError) {
  for (const size_t size : {size_t{0}, offsetof(ConfigSpace, bytes)}) {
    FakeBackend::Options options = {.protocol_features = kAllOffered};
    options.handlers[Request::kGetConfig] = [size](FakeBackend& backend, Message& message) {
      const ConfigSpace none = {};
      backend.Reply(message, AsBytes(none).first(size));
    };
    StartNegotiated(std::move(options), AllOptions());
    EXPECT_EQ(GetErrno(frontend_->GetConfig(8, 4).status()), EIO);
    EXPECT_TRUE(frontend_->status().ok()) << frontend_->status();
    EXPECT_TRUE(frontend_->SetMtu(1500).ok()) << "the connection goes on";
  }
}

TEST_F(DeviceTest, CryptoSession) {
  CryptoSession session = {};
  session.operation = 2;
  session.symmetric.key_length = 16;
  session.session_id = 5;
  EXPECT_EQ(*frontend_->CreateCryptoSession(session), 5);
  ExpectSent(Request::kCreateCryptoSession, session);
  session.session_id = -1;
  EXPECT_EQ(GetErrno(frontend_->CreateCryptoSession(session).status()), EIO);
}

TEST_F(DeviceTest, DeviceState) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  const auto theirs = frontend_->SetDeviceStateFd(TransferDirection::kSave, in.get());
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  EXPECT_FALSE(theirs->is_valid());
  ExpectSent(Request::kSetDeviceStateFd,
             DeviceStateTransfer{TransferDirection::kSave, TransferPhase::kStopped}, 1);
  EXPECT_TRUE(frontend_->CheckDeviceState().ok());
}

TEST_F(DeviceTest, DeviceStateByTheBackendsDescriptor) {
  FakeBackend::Options options = {.protocol_features = kAllOffered};
  std::atomic<uint64_t> answer = 0;
  std::atomic<size_t> nr_fds = 1;
  std::atomic<bool> is_file = false;
  options.handlers[Request::kSetDeviceStateFd] = [&](FakeBackend& b, Message& message) {
    std::array<int, 2> pipe;
    EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
    const UniqueFd theirs_out(pipe[0]), theirs_in(pipe[1]);
    EXPECT_EQ(write(theirs_in.get(), "theirs", 6), 6);
    const UniqueFd file = doubles::MakeFile(ByteSize(7), "theirs");
    const int number = is_file ? file.get() : theirs_out.get();
    const uint64_t reply = answer;
    b.Reply(message, AsBytes(reply), {&number, nr_fds});
  };
  StartNegotiated(std::move(options), AllOptions());
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  const auto set = [&] { return frontend_->SetDeviceStateFd(TransferDirection::kSave, in.get()); };
  const auto theirs = set();
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  std::array<char, 6> bytes;
  EXPECT_EQ(read(theirs->get(), bytes.data(), bytes.size()), 6);
  EXPECT_EQ(std::string(bytes.data(), bytes.size()), "theirs");
  // A read from another descriptor may do anything.
  is_file = true;
  EXPECT_EQ(GetErrno(set().status()), EIO);
  is_file = false;
  // A reply that contradicts itself, and one that refuses.
  answer = kReplyNoFd;
  EXPECT_EQ(GetErrno(set().status()), EIO);
  answer = 0;
  nr_fds = 0;
  EXPECT_EQ(GetErrno(set().status()), EIO);
  answer = 1;
  EXPECT_EQ(GetErrno(set().status()), EIO);
  EXPECT_TRUE(frontend_->status().ok());
}

TEST_F(DeviceTest, Iotlb) {
  constexpr uint64_t kIommu = Bit(VirtioFeature::kIommuPlatform);
  IotlbMessage update = {};
  update.iova = 0x1000;
  update.size = 0x2000;
  update.user_address = 0x7f0000001000;
  update.permissions = kIotlbRead | kIotlbWrite;
  update.type = IotlbType::kUpdate;
  EXPECT_TRUE(absl::IsUnimplemented(frontend_->SendIotlb(update)));
  StartNegotiated({.features = Bit(VirtioFeature::kProtocolFeatures) | kIommu,
                   .protocol_features = kAllOffered},
                  AllOptions());
  ASSERT_TRUE(frontend_->SetFeatures(kIommu).ok());
  ASSERT_TRUE(frontend_->SendIotlb(update).ok());
  ExpectSent(Request::kIotlbMsg, update);
  EXPECT_NE(backend_->Last(Request::kIotlbMsg).flags & kFlagNeedReply, 0u);
}

TEST_F(DeviceTest, ResetForgetsVirtqueues) {
  ASSERT_TRUE(frontend_->SetFeatures(Bit(VirtioFeature::kVersion1)).ok());
  ASSERT_TRUE(frontend_->SetVringNum(0, 8).ok());
  backend_->TakeRequests();
  ASSERT_TRUE(frontend_->ResetDevice().ok());
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kResetDevice, Request::kSetStatus));
  ExpectSent(Request::kSetStatus, uint64_t{0});
  EXPECT_EQ(frontend_->acked_features(), 0u);
}

// virtiofsd and passt, for example.
TEST_F(FrontendTest, ResetOfABackendThatHasNone) {
  constexpr uint64_t kAck = Bit(ProtocolFeature::kReplyAck);
  FakeBackend::Options refuses = {.protocol_features = kAck | Bit(ProtocolFeature::kResetDevice)};
  refuses.handlers[Request::kResetDevice] = [](FakeBackend& backend, Message& message) {
    backend.Reply(message, AsBytes(uint64_t{EOPNOTSUPP}));
  };
  for (const FakeBackend::Options& options :
       {FakeBackend::Options{.protocol_features = kAck}, refuses}) {
    StartNegotiated(options);
    ASSERT_TRUE(frontend_->SetVringKick(0, -1).ok());
    ASSERT_TRUE(frontend_->SetVringNum(1, 8).ok());
    ASSERT_TRUE(frontend_->SetVringKick(2, -1).ok());
    backend_->TakeRequests();
    EXPECT_TRUE(frontend_->ResetDevice().ok());
    std::vector<Request> requests = backend_->TakeRequests();
    if (!options.handlers.empty()) {
      EXPECT_EQ(requests.front(), Request::kResetDevice);
      requests.erase(requests.begin());
    }
    EXPECT_THAT(requests, ElementsAre(Request::kGetVringBase, Request::kGetVringBase));
    EXPECT_EQ(backend_->Last(Request::kGetVringBase).As<VringState>().index, 2u);
    EXPECT_TRUE(frontend_->status().ok());
    // They are forgotten.
    EXPECT_TRUE(frontend_->ResetDevice().ok());
    EXPECT_LE(backend_->TakeRequests().size(), 1u);
  }
}

TEST_F(FrontendTest, WithoutAcknowledgementsAReadFollows) {
  StartNegotiated({.protocol_features = Bit(ProtocolFeature::kResetDevice)});
  ASSERT_TRUE(frontend_->ResetDevice().ok());
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kResetDevice, Request::kGetFeatures));
  EXPECT_EQ(backend_->Last(Request::kResetDevice).flags, kVersion);
}

}  // namespace
}  // namespace gmem::vhost
