// SPDX-License-Identifier: MIT OR Apache-2.0
// Virtqueues, the in-flight buffer, and a back-end that starts again.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/vhost/frontend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/system_calls.h"
#include "vhost/testing/frontend.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::MakeFile;
using doubles::Received;
using doubles::RunUntil;
using doubles::RunUntilEnd;
using testing::ElementsAre;
using testing::IsEmpty;
using Request = FrontendRequest;

constexpr uint64_t kOffered = (uint64_t{1} << 23) - 1;
constexpr uint64_t kUser = 0x7f0000000000;

class VringTest : public FrontendTest {
 protected:
  static FakeBackend::Options Backend() { return {.protocol_features = kOffered}; }
  void SetUp() override { StartNegotiated(Backend(), AllOptions()); }

  VringSetup RingSetup() const {
    VringSetup setup = {.size = 128, .base = 5, .kick_fd = kick_.get(), .call_fd = call_.get()};
    setup.address.descriptor = kUser;
    setup.address.available = kUser + 0x1000;
    setup.address.used = kUser + 0x2000;
    return setup;
  }
  VringState State(Request request) { return backend_->Last(request).As<VringState>(); }

  const UniqueFd kick_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const UniqueFd call_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const UniqueFd ram_ = MakeFile(MiB(1));
};

TEST_F(VringTest, StartsWithTheKick) {
  ASSERT_TRUE(frontend_->StartVring(3, RingSetup()).ok());
  EXPECT_THAT(
      backend_->TakeRequests(),
      ElementsAre(Request::kSetVringNum, Request::kSetVringBase, Request::kSetVringAddr,
                  Request::kSetVringCall, Request::kSetVringKick, Request::kSetVringEnable));
  EXPECT_EQ(State(Request::kSetVringNum).num, 128u);
  EXPECT_EQ(State(Request::kSetVringNum).index, 3u);
  EXPECT_EQ(State(Request::kSetVringBase).num, 5u);
  EXPECT_EQ(State(Request::kSetVringEnable).num, 1u);
  const auto address = backend_->Last(Request::kSetVringAddr).As<VringAddress>();
  EXPECT_EQ(address.index, 3u);
  EXPECT_EQ(address.flags, 0u);
  EXPECT_EQ(address.available, kUser + 0x1000);
  EXPECT_EQ(backend_->Last(Request::kSetVringKick).As<uint64_t>(), 3u);
  EXPECT_EQ(backend_->Last(Request::kSetVringKick).nr_fds, 1u);
}

TEST_F(VringTest, WithoutDescriptors) {
  ASSERT_TRUE(frontend_->SetVringKick(7, -1).ok());
  const Received kick = backend_->Last(Request::kSetVringKick);
  EXPECT_EQ(kick.As<uint64_t>(), 7u | kVringNoFd);
  EXPECT_EQ(kick.nr_fds, 0u);
  ASSERT_TRUE(frontend_->SetVringErr(7, call_.get()).ok());
  EXPECT_EQ(backend_->Last(Request::kSetVringErr).nr_fds, 1u);
  // Without a descriptor, the kick goes in-band.
  ASSERT_TRUE(frontend_->Kick(7).ok());
  EXPECT_EQ(State(Request::kVringKick).index, 7u);
  ASSERT_TRUE(frontend_->SetVringKick(7, kick_.get()).ok());
  backend_->TakeRequests();
  ASSERT_TRUE(frontend_->Kick(7).ok());
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
  uint64_t count = 0;
  EXPECT_EQ(read(kick_.get(), &count, sizeof(count)), 8);
}

// The back-end shares the eventfd: it may fill it and make it blocking.
TEST_F(VringTest, AFullKickIsAKick) {
  ASSERT_TRUE(frontend_->SetVringKick(7, kick_.get()).ok());
  const uint64_t most = UINT64_MAX - 1;
  ASSERT_EQ(write(kick_.get(), &most, sizeof(most)), 8);
  EXPECT_TRUE(frontend_->Kick(7).ok());
  ASSERT_EQ(fcntl(kick_.get(), F_SETFL, 0), 0);
  std::atomic<bool> is_done = false;
  std::thread kicks([&] {
    EXPECT_TRUE(frontend_->Kick(7).ok());
    is_done = true;
  });
  for (const absl::Time end = absl::Now() + absl::Seconds(10); !is_done && absl::Now() < end;) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_TRUE(is_done) << "the front-end waits for the back-end";
  // Lets the thread go on.
  uint64_t count = 0;
  EXPECT_EQ(read(kick_.get(), &count, sizeof(count)), 8);
  kicks.join();
}

// Kick() must not report success for a kick that isn't sent.
TEST_F(VringTest, KicksThatNobodyReads) {
  std::atomic<bool> goes_on = false;
  backend_->Post([&](FakeBackend&) {
    while (!goes_on) absl::SleepFor(absl::Milliseconds(1));
  });
  absl::Status status;
  for (int i = 0; i < 10000 && status.ok(); i++) status = frontend_->Kick(7);
  EXPECT_EQ(GetErrno(status), ENOMEM) << status;
  EXPECT_TRUE(frontend_->status().ok());
  goes_on = true;
  // The kicks that wait go out first.
  EXPECT_TRUE(RunUntil(*frontend_, [this] { return frontend_->Kick(7).ok(); }));
  EXPECT_TRUE(frontend_->SetVringErr(7, -1).ok());
}

TEST_F(VringTest, RefusesBadNumbers) {
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetVringNum(256, 8)));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetVringNum(0, 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetVringNum(0, 32769)));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetVringKick(256, -1)));
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->GetVringBase(256).status()));
  VringAddress address = {};
  address.index = 256;
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->SetVringAddr(address)));
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
}

TEST_F(VringTest, Endian) {
  ASSERT_TRUE(frontend_->SetVringEndian(1, true).ok());
  EXPECT_EQ(State(Request::kSetVringEndian).num, 1u);
}

TEST_F(VringTest, BaseOfAnotherVirtqueue) {
  FakeBackend::Options options = Backend();
  options.handlers[Request::kGetVringBase] = [](FakeBackend& b, Message& message) {
    const VringState state = {.index = 5, .num = 9};
    b.Reply(message, AsBytes(state));
  };
  StartNegotiated(std::move(options));
  EXPECT_EQ(*frontend_->GetVringBase(5), 9u);
  EXPECT_EQ(GetErrno(frontend_->GetVringBase(4).status()), EIO);
}

class ReconnectTest : public VringTest {
 protected:
  // A back-end that makes in-flight buffers.
  FakeBackend::Options Backend() {
    FakeBackend::Options options = VringTest::Backend();
    options.handlers[Request::kGetInflightFd] = [this](FakeBackend& b, Message& message) {
      auto area = FromBytes<InflightArea>(message.bytes());
      area.mmap_size = inflight_size_;
      const UniqueFd fd = MakeFile(KiB(8));
      const int number = fd.get();
      b.Reply(message, AsBytes(area), {&number, has_inflight_ ? 1u : 0u});
    };
    return options;
  }
  void SetUp() override { StartNegotiated(Backend(), AllOptions()); }

  void Die() {
    backend_->Post([](FakeBackend& b) { b.Close(); });
    EXPECT_TRUE(RunUntilEnd(*frontend_));
  }
  absl::Status SetRam() {
    return frontend_->SetMemory({{.size = MiB(1), .user_address = kUser, .fd = ram_.get()}});
  }

  uint64_t inflight_size_ = 8192;
  bool has_inflight_ = true;
};

TEST_F(ReconnectTest, ResumesAll) {
  ASSERT_TRUE(frontend_->SetFeatures(Bit(VirtioFeature::kVersion1)).ok());
  ASSERT_TRUE(SetRam().ok());
  ASSERT_TRUE(frontend_->StartInflight(1, 128).ok());
  EXPECT_EQ(frontend_->inflight_area().mmap_size, 8192u);
  const auto sent = backend_->Last(Request::kSetInflightFd).As<InflightArea>();
  EXPECT_EQ(sent.nr_queues, 1);
  EXPECT_EQ(sent.queue_size, 128);
  ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
  ASSERT_TRUE(frontend_->DriverOk().ok());
  // The back-end gets as far as this, and dies.
  const uint16_t used = 77;
  ASSERT_EQ(pwrite(ram_.get(), &used, 2, 0x2002), 2);
  Die();
  EXPECT_FALSE(SetRam().ok() && frontend_->SetMtu(1).ok());

  // A back-end that offers less is refused, and Reconnect() forgets nothing.
  FakeBackend::Options less = Backend();
  less.protocol_features &= ~Bit(ProtocolFeature::kInflightShmfd);
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Reconnect(NewBackend(std::move(less)))));
  less = Backend();
  less.features = Bit(VirtioFeature::kProtocolFeatures);
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Reconnect(NewBackend(std::move(less)))));
  less = Backend();
  less.handlers[Request::kSetVringAddr] = [](FakeBackend& b, Message&) { b.Close(); };
  EXPECT_TRUE(absl::IsUnavailable(frontend_->Reconnect(NewBackend(std::move(less)))));

  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_TRUE(frontend_->status().ok());
  EXPECT_THAT(backend_->TakeRequests(),
              ElementsAre(Request::kGetFeatures, Request::kGetProtocolFeatures,
                          Request::kSetProtocolFeatures, Request::kGetQueueNum,
                          Request::kGetMaxMemSlots, Request::kSetBackendReqFd, Request::kSetOwner,
                          Request::kGetShmemConfig, Request::kSetFeatures, Request::kGetStatus,
                          Request::kSetStatus, Request::kGetStatus, Request::kAddMemReg,
                          Request::kSetInflightFd, Request::kSetVringNum, Request::kSetVringBase,
                          Request::kSetVringAddr, Request::kSetVringCall, Request::kSetVringKick,
                          Request::kSetVringEnable, Request::kGetStatus, Request::kSetStatus));
  EXPECT_EQ(State(Request::kSetVringBase).num, 77u);
  EXPECT_EQ(backend_->Last(Request::kSetInflightFd).nr_fds, 1u);
  EXPECT_EQ(backend_->Last(Request::kSetInflightFd).As<InflightArea>().mmap_size, 8192u);
  EXPECT_EQ(backend_->Last(Request::kSetStatus).As<uint64_t>(), 15u);
  EXPECT_EQ(frontend_->memory().size(), 1u);
}

TEST_F(ReconnectTest, AShortenedFileRaisesNoSigbus) {
  ASSERT_TRUE(SetRam().ok());
  ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
  Die();
  ASSERT_EQ(ftruncate(ram_.get(), 0), 0);
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_EQ(State(Request::kSetVringBase).num, 5u);
}

// Files that can only be mapped, as KVM's guest_memfd.
class NoRead : public gmem::doubles::SystemCalls {
 public:
  std::optional<int> Ioctl(int /*fd*/, unsigned long /*request*/, void* /*argument*/) override {
    return std::nullopt;
  }
  bool HasRead(int /*fd*/) const override { return false; }
};

// The double must be there before the back-end's thread, and longer.
class ReconnectWithoutReadTest : public NoRead, public ReconnectTest {};

TEST_F(ReconnectWithoutReadTest, MapsTheRing) {
  ASSERT_TRUE(SetRam().ok());
  ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
  const uint16_t used = 77;
  ASSERT_EQ(pwrite(ram_.get(), &used, 2, 0x2002), 2);
  Die();
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_EQ(State(Request::kSetVringBase).num, 77u);
}

// Without SET_VRING_KICK, the first kick in-band starts a virtqueue.
TEST_F(ReconnectTest, VirtqueuesThatAreKickedInBandHaveStarted) {
  VringAddress address = RingSetup().address;
  address.index = 4;
  ASSERT_TRUE(frontend_->SetVringNum(4, 8).ok());
  ASSERT_TRUE(frontend_->SetVringAddr(address).ok());
  ASSERT_TRUE(frontend_->Kick(4).ok());
  // No addresses: a kick starts nothing.
  ASSERT_TRUE(frontend_->SetVringNum(5, 8).ok());
  ASSERT_TRUE(frontend_->Kick(5).ok());
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_TRUE(frontend_->SetVringErr(0, -1).ok());
  EXPECT_EQ(State(Request::kVringKick).index, 4u);
  // They are stopped where the back-end has no reset.
  FakeBackend::Options options = Backend();
  options.protocol_features &=
      ~(Bit(ProtocolFeature::kResetDevice) | Bit(ProtocolFeature::kStatus));
  StartNegotiated(options, AllOptions());
  ASSERT_TRUE(frontend_->SetVringNum(4, 8).ok());
  ASSERT_TRUE(frontend_->SetVringAddr(address).ok());
  ASSERT_TRUE(frontend_->Kick(4).ok());
  backend_->TakeRequests();
  ASSERT_TRUE(frontend_->ResetDevice().ok());
  EXPECT_THAT(backend_->TakeRequests(), testing::Contains(Request::kGetVringBase));
  EXPECT_EQ(State(Request::kGetVringBase).index, 4u);
}

TEST_F(ReconnectTest, StoppedVirtqueuesStayStopped) {
  ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
  ASSERT_TRUE(frontend_->GetVringBase(0).ok());
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_EQ(backend_->Last(Request::kSetVringKick).payload, "none came");
}

TEST_F(ReconnectTest, BadInflightBuffers) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{8193}, ~uint64_t{0}}) {
    inflight_size_ = size;
    EXPECT_FALSE(frontend_->StartInflight(1, 128).ok()) << size;
  }
  inflight_size_ = 8192;
  has_inflight_ = false;
  EXPECT_EQ(GetErrno(frontend_->StartInflight(1, 128)), EIO);
  EXPECT_EQ(frontend_->inflight_fd(), -1);
  EXPECT_EQ(backend_->Last(Request::kSetInflightFd).payload, "none came");
}

// OnDisconnect() replaces the memory table while Reconnect() goes through the virtqueues.
TEST_F(ReconnectTest, ANewTableWhileVirtqueuesResume) {
  ASSERT_TRUE(SetRam().ok());
  ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
  FakeBackend::Options options = Backend();
  CloseRightAfter(Request::kSetVringNum, options,
                  [this] { EXPECT_TRUE(absl::IsUnavailable(frontend_->SetMemory({}))); });
  EXPECT_TRUE(absl::IsUnavailable(frontend_->Reconnect(NewBackend(std::move(options)))));
}

TEST_F(ReconnectTest, RepetitionLeaksNothing) {
  ASSERT_TRUE(frontend_->StartInflight(1, 128).ok());
  ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
  ASSERT_TRUE(SetRam().ok());
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  backend_->TakeRequests();
  const size_t before = CountOpenFds();
  for (int i = 0; i < 10; i++) {
    ASSERT_TRUE(frontend_->StartInflight(1, 128).ok());
    ASSERT_TRUE(frontend_->StartVring(0, RingSetup()).ok());
    ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  }
  backend_->TakeRequests();
  EXPECT_EQ(CountOpenFds(), before);
}

}  // namespace
}  // namespace gmem::vhost
