// SPDX-License-Identifier: MIT OR Apache-2.0
// The library's front-end with its back-end: the back-end serves each method of the front-end.
#include "vhost/testing/both_ends.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"
#include "vhost/testing/ring.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::BothEndsTest;
using doubles::kData;
using doubles::kPage;
using doubles::kPatienceMilliseconds;
using doubles::kQueueSize;
using doubles::MakeFile;
using doubles::RunUntil;
using doubles::RunUntilEnd;
using doubles::TestGuest;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(BothEndsTest, Device) {
  Start();
  EXPECT_EQ(frontend_->queue_num(), 2u);
  EXPECT_EQ(*frontend_->GetConfig(0, 13), "configuration");
  Ok(frontend_->SetConfig(0, "CON"));
  EXPECT_EQ(*frontend_->GetConfig(1, 4), "ONfi");
  Ok(frontend_->DriverOk());
  EXPECT_EQ(*frontend_->GetStatus(), 15);
  Ok(frontend_->SetMtu(1500));
  EXPECT_EQ(GetErrno(frontend_->SetMtu(1)), EIO);
  Ok(frontend_->SendRarp({1, 2, 3, 4, 5, 6}));
  CryptoSession session = {};
  EXPECT_EQ(GetErrno(frontend_->CreateCryptoSession(session).status()), EIO);
  session.operation = 1;
  EXPECT_EQ(*frontend_->CreateCryptoSession(session), 33);
  Ok(frontend_->CloseCryptoSession(33));
  EXPECT_EQ(GetErrno(frontend_->CloseCryptoSession(34)), EIO);
  std::array<int, 2> sockets;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
  const UniqueFd ours(sockets[0]), theirs(sockets[1]);
  Ok(frontend_->SetGpuSocket(theirs.get()));
  // The device has only one endianness.
  EXPECT_TRUE(absl::IsUnimplemented(frontend_->SetVringEndian(0, true)));
  Ok(frontend_->ResetDevice());
  EXPECT_EQ(*frontend_->GetStatus(), 0);
  frontend_.reset();
  thread_.reset();
  EXPECT_EQ(device_.mac, 0x060504030201U);
  EXPECT_TRUE(device_.gpu.is_valid());
  EXPECT_GE(device_.nr_resets, 1);
}

TEST_F(BothEndsTest, DeviceState) {
  Start();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd out(ends[0]), in(ends[1]);
  auto theirs = frontend_->SetDeviceStateFd(TransferDirection::kSave, in.get());
  Ok(theirs.status());
  EXPECT_FALSE(theirs->is_valid());
  in.reset();
  std::string state;
  std::array<char, 5000> part;
  for (ssize_t got = 1; got > 0;) {
    got = read(out.get(), part.data(), part.size());
    if (got > 0) state.append(part.data(), static_cast<size_t>(got));
  }
  EXPECT_EQ(state, std::string(100000, 's'));
  Ok(frontend_->CheckDeviceState());

  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  out.reset(ends[0]);
  in.reset(ends[1]);
  Ok(frontend_->SetDeviceStateFd(TransferDirection::kLoad, out.get()).status());
  out.reset();
  ASSERT_EQ(write(in.get(), "another", 7), 7);
  in.reset();
  Ok(frontend_->CheckDeviceState());
  frontend_.reset();
  thread_.reset();
  EXPECT_EQ(device_.state, "another");
}

class BothEndsQueueTest : public BothEndsTest, public testing::WithParamInterface<bool> {
 protected:
  uint64_t Ring() const { return GetParam() ? Bit(VirtioFeature::kRingPacked) : 0; }
};

TEST_P(BothEndsQueueTest, Serves) {
  // First with one memory table and without acknowledgements, then with memory slots.
  for (const uint64_t protocol : {Bit(ProtocolFeature::kMq), kAll}) {
    frontend_.reset();
    guest_ = TestGuest();
    Start(Ring(), protocol);
    Ok(SetMemory());
    Ok(frontend_->StartVring(0, RingSetup()));
    for (int i = 0; i < 20; i++) ASSERT_TRUE(Serve()) << i;
    Ok(frontend_->SetVringEnable(0, false));
    Add();
    Ok(frontend_->Kick(0));
    Ok(frontend_->SetVringEnable(0, true));
    EXPECT_TRUE(WaitUsed());
    const auto base = frontend_->GetVringBase(0);
    Ok(base.status());
    if (!is_packed_) {
      EXPECT_EQ(*base, 21u);
    }
    // Start the virtqueue again at the index where it stopped.
    VringSetup setup = RingSetup();
    setup.base = *base;
    Ok(frontend_->StartVring(0, setup));
    EXPECT_TRUE(Serve());
    Ok(frontend_->SetMemory({}));
  }
}

TEST_P(BothEndsQueueTest, InBand) {
  Start(Ring());
  Ok(SetMemory());
  VringSetup setup = RingSetup();
  setup.kick_fd = setup.call_fd = setup.err_fd = -1;
  Ok(frontend_->StartVring(0, setup));
  EXPECT_TRUE(Serve());
  EXPECT_TRUE(RunUntil(*frontend_, [this] { return !handler_.events.empty(); }));
  EXPECT_THAT(handler_.Take(), ElementsAre("call 0"));
}

TEST_P(BothEndsQueueTest, RequestsInFlightOutliveABackend) {
  Start(Ring());
  Ok(SetMemory());
  Ok(frontend_->StartInflight(2, kQueueSize));
  Ok(frontend_->SetInflight(frontend_->inflight_area(), frontend_->inflight_fd()));
  Ok(frontend_->StartVring(0, RingSetup()));
  Ok(frontend_->DriverOk());
  for (int round = 0; round < 5; round++) {
    // The back-end handles one of three requests, and dies.
    Ok(Ask([this](Backend&, Backend::Done done) {
      device_.nr_done = 1;
      device_.nr_kept = 0;
      done(absl::OkStatus());
    }));
    for (uint64_t i = 0; i < 3; i++) Add(kData + i * kPage);
    Ok(frontend_->Kick(0));
    ASSERT_TRUE(WaitUsed());
    ASSERT_TRUE(RunUntil(*frontend_, [this] { return device_.nr_kept == 2; }));
    thread_.reset();
    ASSERT_TRUE(RunUntilEnd(*frontend_));
    EXPECT_EQ(GetErrno(frontend_->status()), ECONNRESET);
    device_.nr_done = SIZE_MAX;
    Ok(frontend_->Reconnect(NewBackend()));
    // The next back-end handles each of the other two once, and then new requests.
    EXPECT_TRUE(WaitUsed() && WaitUsed()) << round;
    EXPECT_FALSE(ring_->TakeUsed());
    ASSERT_TRUE(Serve()) << round;
  }
}

TEST_P(BothEndsQueueTest, Log) {
  Start(Ring());
  Ok(SetMemory());
  Ok(frontend_->StartVring(0, RingSetup()));
  const DirtyLog log = *DirtyLog::Create(GuestAddress(TestGuest::kGuest + TestGuest::kSize));
  const auto written = [&log] {
    std::vector<uint64_t> pages;
    log.ReadAndClear([&](GuestRange range) {
      for (uint64_t i = 0; i < range.size.value(); i += kPage) {
        pages.push_back(range.start.value() + i);
      }
    });
    return pages;
  };
  ASSERT_TRUE(Serve());
  EXPECT_TRUE(written().empty());
  Ok(frontend_->StartLog(log));
  ASSERT_TRUE(Serve());
  EXPECT_THAT(written(), Contains(kData));
  Ok(frontend_->StopLog());
  written();
  ASSERT_TRUE(Serve());
  EXPECT_TRUE(written().empty());
}

INSTANTIATE_TEST_SUITE_P(SplitOrPacked, BothEndsQueueTest, testing::Bool());

TEST_F(BothEndsTest, Translation) {
  // Rings are at the front-end's user addresses, buffers at guest addresses. The test may choose
  // any I/O virtual addresses.
  const auto page_of = [](uint64_t iova, IotlbType type) {
    IotlbMessage message = {};
    message.iova = iova & ~(kPage - 1);
    message.size = kPage;
    message.user_address = message.iova >= TestGuest::kUser
                               ? message.iova
                               : message.iova - TestGuest::kGuest + TestGuest::kUser;
    message.permissions = kIotlbRead | kIotlbWrite;
    message.type = type;
    return message;
  };
  std::vector<uint64_t> misses;
  handler_.on_iotlb = [&](const IotlbMessage& miss) {
    misses.push_back(miss.iova & ~(kPage - 1));
    frontend_->Start<FrontendRequest::kIotlbMsg>(page_of(miss.iova, IotlbType::kUpdate), {},
                                                 [](const absl::StatusOr<Message*>& /*reply*/) {});
    return absl::OkStatus();
  };
  Start(Bit(VirtioFeature::kIommuPlatform));
  Ok(SetMemory());
  const VringSetup setup = RingSetup();
  for (const uint64_t part :
       {setup.address.descriptor, setup.address.available, setup.address.used}) {
    Ok(frontend_->SendIotlb(page_of(part, IotlbType::kUpdate)));
  }
  Ok(frontend_->StartVring(0, setup));
  EXPECT_TRUE(Serve());
  // The device may ask more than once, if it retries before the answer comes.
  EXPECT_THAT(misses, Contains(kData));
  EXPECT_THAT(misses, Each(kData));
  // After this, all answers to the device's questions have arrived.
  Ok(frontend_->GetStatus().status());
  Ok(frontend_->Process());
  misses.clear();
  EXPECT_TRUE(Serve());
  EXPECT_THAT(misses, IsEmpty()) << "the device has the translation";
  Ok(frontend_->SendIotlb(page_of(kData, IotlbType::kInvalidate)));
  EXPECT_TRUE(Serve());
  EXPECT_THAT(misses, Contains(kData));
  EXPECT_THAT(misses, Each(kData));
}

TEST_F(BothEndsTest, BackendsRequests) {
  Start();
  const UniqueFd file = MakeFile(ByteSize(kPage), "content");
  ShmemMapping mapping = {};
  mapping.shmid = 1;
  mapping.shm_offset = 2 * kPage;
  mapping.len = kPage;
  Ok(Ask(
      [&](Backend& b, Backend::Done done) { b.ShmemMap(mapping, file.get(), std::move(done)); }));
  const uint8_t* const host = frontend_->shmem().HostAddress(1, ByteOffset(2 * kPage));
  ASSERT_NE(host, nullptr);
  EXPECT_STREQ(reinterpret_cast<const char*>(host), "content");
  EXPECT_FALSE(Ask([&](Backend& b, Backend::Done done) {
                 b.ShmemMap(mapping, file.get(), std::move(done));
               }).ok());
  Ok(Ask([&](Backend& b, Backend::Done done) { b.ShmemUnmap(mapping, std::move(done)); }));
  Ok(Ask(
      [&](Backend& b, Backend::Done done) { b.ShmemMap(mapping, file.get(), std::move(done)); }));
  Ok(Ask([](Backend& b, Backend::Done done) { b.ConfigChanged(std::move(done)); }));
  Ok(Ask([&](Backend& b, Backend::Done done) {
    b.SetHostNotifier(1, file.get(), 0, kPage, std::move(done));
  }));
  EXPECT_THAT(handler_.Take(), ElementsAre("config", "notifier 1"));

  // The object is listed when its owner has answered.
  const Uuid uuid = {1}, none = {2};
  for (const Uuid& one : {uuid, none}) {
    Ok(Ask([&](Backend& b, Backend::Done done) { b.AddSharedObject(one, std::move(done)); }));
  }
  Ok(frontend_->GetStatus().status());
  ASSERT_GE(objects_.Find(uuid), 0);
  EXPECT_EQ(objects_.Find(none), -1);
  std::array<char, 6> content;
  for (const bool is_there : {true, false}) {
    const absl::Status found = Ask([&](Backend& b, Backend::Done done) {
      b.LookUpSharedObject(is_there ? uuid : none,
                           [&content, done = std::move(done)](absl::StatusOr<UniqueFd> fd) mutable {
                             if (fd.ok()) {
                               EXPECT_EQ(pread(fd->get(), content.data(), content.size(), 0), 6);
                             }
                             done(fd.status());
                           });
    });
    EXPECT_EQ(found.ok(), is_there) << found;
  }
  EXPECT_EQ(std::string(content.data(), content.size()), "object");
  EXPECT_TRUE(frontend_->GetSharedObject(uuid)->is_valid());
  EXPECT_EQ(GetErrno(frontend_->GetSharedObject(none).status()), ENOENT);
  Ok(Ask([&](Backend& b, Backend::Done done) { b.RemoveSharedObject(none, std::move(done)); }));
  EXPECT_EQ(objects_.size(), 1u);

  Ok(frontend_->ResetDevice());
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
  EXPECT_THAT(handler_.Take(), ElementsAre("no notifier 1"));
  frontend_->Close();
  EXPECT_EQ(objects_.size(), 0u);
}

// The back-end stops at a missing page until the test provides the page.
TEST_F(BothEndsTest, Postcopy) {
  for (const uint64_t without : {uint64_t{0}, Bit(ProtocolFeature::kConfigureMemSlots)}) {
    frontend_.reset();
    guest_ = TestGuest();
    Start(0, kAll & ~without);
    Ok(frontend_->PostcopyAdvise());
    Ok(frontend_->PostcopyListen());
    Ok(SetMemory());
    // Pages that are present cause no fault.
    for (const uint64_t part : {TestGuest::kDescriptors, TestGuest::kAvailable, TestGuest::kUsed}) {
      std::memset(guest_.at(part), 0, kPage);
    }
    Ok(frontend_->StartVring(0, RingSetup()));
    Add();
    Ok(frontend_->Kick(0));
    pollfd polled = {.fd = (*frontend_->faults())->fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&polled, 1, kPatienceMilliseconds), 1);
    const auto fault = (*frontend_->faults())->Next(frontend_->memory());
    EXPECT_TRUE(fault.ok() && fault->has_value()) << fault.status();
    if (fault.ok() && fault->has_value()) {
      EXPECT_EQ((*fault)->guest_address, GuestAddress(kData));
    }
    EXPECT_FALSE(ring_->TakeUsed());
    // Do this in any case: the back-end's thread never ends otherwise.
    std::memcpy(guest_.at(TestGuest::kData), "xyz", 3);
    Ok((*frontend_->faults())->Wake(frontend_->memory(), {GuestAddress(kData), ByteSize(kPage)}));
    EXPECT_TRUE(WaitUsed());
    EXPECT_EQ(std::memcmp(guest_.at(TestGuest::kData + 0x100), "zyx", 3), 0);
    Ok(frontend_->PostcopyEnd());
  }
}

}  // namespace
}  // namespace gmem::vhost
