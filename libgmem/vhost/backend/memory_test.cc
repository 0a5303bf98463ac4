// SPDX-License-Identifier: MIT OR Apache-2.0
// Memory, the dirty log and the inflight buffer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class MemoryTest : public BackendTest {};

TEST_F(MemoryTest, RemovedMemoryStaysForChainsInFlight) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kRemMemReg>(
      {.padding = 0, .region = guest_.region()}, {},
      [&](const absl::StatusOr<Message*>& reply) { is_answered = reply.ok(); });
  for (int i = 0; i < 5; i++) Run();
  EXPECT_FALSE(is_answered) << "the device may still write there";
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 1) << "it wakes the loop";
  for (int i = 0; i < 5; i++) Run();
  EXPECT_TRUE(is_answered);
  EXPECT_FALSE(ring_.TakeUsed()) << "the ring is away";
  ASSERT_TRUE(
      Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = guest_.region()}, {guest_.fd()})
          .ok());
  EXPECT_TRUE(ring_.TakeUsed());
  ExpectRefused(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = {}}));
}

// Only chains that point into the memory keep it.
TEST_F(MemoryTest, OtherMemoryGoesWhileChainsAreInFlight) {
  Negotiate();
  SetTable();
  StartQueue();
  device_.hold = true;
  const UniqueFd file = NewFile(kMore.size);
  AddRequest();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 1U);
  for (int i = 0; i < 3; i++) {
    ASSERT_TRUE(
        Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {file.get()}).ok());
    uint8_t* const memory = backend_->memory().FromGuest(kMore.guest_address, 1).data();
    ASSERT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = kMore}).ok());
    EXPECT_EQ(msync(memory - reinterpret_cast<uintptr_t>(memory) % 4096, 4096, MS_ASYNC), 0)
        << "the addresses are reserved";
    // The table without kMore, and what is there stays.
    SetTable();
    EXPECT_EQ(backend_->memory().nr_retired(), 0U);
  }
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  EXPECT_TRUE(ring_.TakeUsed());
}

// The device may wait for the front-end, which waits for the answer.
TEST_F(MemoryTest, AsksForTheChainsInRemovedMemory) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  const UniqueFd file = NewFile(kMore.size);
  ASSERT_TRUE(Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = kMore}, {file.get()}).ok());
  ring_.Add({{kMore.guest_address, 16, kWrite}});
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 2U);
  EXPECT_FALSE(backend_->queue(0)->IsInRemovedMemory(device_.held[1]));
  device_.finishes = true;
  ASSERT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = kMore}).ok());
  EXPECT_EQ(device_.log, "start0 removed ");
  EXPECT_TRUE(ring_.TakeUsed());
  ASSERT_EQ(device_.held.size(), 1U) << "the other one lies elsewhere";
  // The driver sees this one, too, although its ring goes.
  EXPECT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = guest_.region()}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
}

// Nobody would push it.
TEST_F(MemoryTest, AChainThatAFailureLosesDoesNotKeepMemory) {
  device_.trouble = absl::InternalError("no disk");
  Negotiate();
  SetTable();
  StartQueue();
  AddRequest();
  Kick();
  Run();
  EXPECT_EQ(device_.log, "start0 failed ");
  EXPECT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = guest_.region()}).ok());
}

// An answer would let the front-end take the memory for free.
TEST_F(MemoryTest, MemoryThatDoesNotComeFreeEndsTheSession) {
  device_.hold = true;
  device_.patience = absl::Milliseconds(50);
  Negotiate();
  SetTable();
  StartQueue();
  AddRequest();
  Kick();
  Run();
  bool is_answered = false;
  const MemoryTable none = {.nr_regions = 0, .padding = 0, .regions = {}};
  frontend_->Start<FrontendRequest::kSetMemTable>(
      none, {}, [&](const absl::StatusOr<Message*>& reply) { is_answered |= reply.ok(); });
  ExpectNoAnswerInTime();
  EXPECT_FALSE(is_answered);
}

// The memory has grown: its parts are regions of their own, but a ring may lie in both.
TEST_F(MemoryTest, ARingMayCrossRegionsThatContinueEachOther) {
  Negotiate();
  MemoryRegion first = guest_.region();
  MemoryRegion second = guest_.region();
  // The seam lies in the descriptors.
  first.size = 0x1000;
  second.guest_address += first.size;
  second.user_address += first.size;
  second.mmap_offset += first.size;
  second.size -= first.size;
  for (const MemoryRegion& region : {first, second}) {
    ASSERT_TRUE(
        Ask<FrontendRequest::kAddMemReg>({.padding = 0, .region = region}, {guest_.fd()}).ok());
  }
  constexpr uint16_t kLong = 512;
  TestRing ring(guest_, kLong, /*is_packed=*/false);
  kick_.reset(eventfd(0, EFD_NONBLOCK));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 0, .num = kLong}).ok());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(Address(0)).ok());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(0, {kick_.get()}).ok());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
  for (int i = 0; i < kLong; i++) {
    ring.Add({{kData, 3, 0}, {kData + 0x100, 3, kWrite}});
    Kick();
    Run();
    ASSERT_TRUE(ring.TakeUsed()) << i;
  }
}

// CVE-2020-10722.
TEST_F(MemoryTest, RefusesALogThatIsTooSmall) {
  Negotiate();
  SetTable();
  const UniqueFd file = NewFile(4096);
  EXPECT_FALSE(
      Ask<FrontendRequest::kSetLogBase>({.mmap_size = 8, .mmap_offset = 0}, {file.get()}).ok());
  EXPECT_EQ(GetErrno(session_), EINVAL);
}

// A front-end that waits for the payload would wait for ever, in the middle of a migration.
TEST_F(MemoryTest, EchoesTheLogsArea) {
  Negotiate(Bit(VirtioFeature::kLogAll));
  SetTable();
  const UniqueFd file = NewFile(8192);
  const LogArea area = {.mmap_size = 4096, .mmap_offset = 4096};
  std::optional<LogArea> echo;
  frontend_->Start<FrontendRequest::kSetLogBase>(area, {file.get()},
                                                 [&](const absl::StatusOr<Message*>& reply) {
                                                   ASSERT_TRUE(reply.ok()) << reply.status();
                                                   EXPECT_EQ((*reply)->header.size, sizeof(area));
                                                   echo = FromBytes<LogArea>((*reply)->bytes());
                                                 });
  for (int i = 0; i < 5 && !echo; i++) Run();
  ASSERT_TRUE(echo);
  EXPECT_EQ(echo->mmap_size, area.mmap_size);
  EXPECT_EQ(echo->mmap_offset, area.mmap_offset);
}

TEST_F(MemoryTest, LogsItsWrites) {
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
  constexpr auto kPage = static_cast<off_t>(kData / kLogPageSize);
  ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
  EXPECT_EQ(byte, 1 << (kPage % 8));
}

// The ring's address for the log is an I/O virtual address, as its other addresses are.
TEST_F(MemoryTest, LogsTheRingWhereTheGuestHasIt) {
  Negotiate(Bit(VirtioFeature::kLogAll) | Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  StartQueue();
  VringAddress address = Address(0);
  address.flags = kVringLog;
  address.log = address.used;
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(address).ok());
  const UniqueFd file = NewFile(4096);
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {file.get()}).ok());
  TranslateAll();
  AddRequest();
  Kick();
  Run();
  ASSERT_TRUE(ring_.TakeUsed());
  uint8_t byte = 0;
  constexpr auto kPage = static_cast<off_t>((TestGuest::kGuest + TestGuest::kUsed) / kLogPageSize);
  ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
  EXPECT_EQ(byte, 1 << (kPage % 8));
}

// The used entries of a packed ring are its descriptors.
TEST_F(MemoryTest, LogsAPackedRing) {
  constexpr uint64_t kIommu = Bit(VirtioFeature::kIommuPlatform);
  for (const uint64_t more : {uint64_t{0}, kIommu}) {
    Connect(device_);
    guest_.Put(TestGuest::kAvailable, uint32_t{0});
    std::memset(guest_.at(TestGuest::kDescriptors), 0, size_t{16} * kQueueSize);
    TestRing ring(guest_, kQueueSize, /*is_packed=*/true);
    Negotiate(Bit(VirtioFeature::kLogAll) | Bit(VirtioFeature::kRingPacked) | more);
    SetTable();
    // Both wrap counters are 1.
    StartQueue(0, 0x80008000);
    VringAddress address = Address(0);
    address.flags = kVringLog;
    address.log = (more != 0 ? TestGuest::kUser : TestGuest::kGuest) + TestGuest::kUsed;
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(address).ok());
    const UniqueFd file = NewFile(4096);
    ASSERT_TRUE(
        Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {file.get()})
            .ok());
    if (more != 0) TranslateAll();
    ring.Add({{kData, 3, 0}, {kData + 0x100, 3, kWrite}});
    Kick();
    Run();
    ASSERT_TRUE(ring.TakeUsed());
    uint8_t byte = 0;
    constexpr auto kPage =
        static_cast<off_t>((TestGuest::kGuest + TestGuest::kDescriptors) / kLogPageSize);
    ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
    EXPECT_EQ(byte, 1 << (kPage % 8)) << more;
  }
}

// The log begins while the ring can't be reached, and a chain is in flight.
TEST_F(MemoryTest, LogsItsWritesWithoutARing) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  TranslateAll();
  StartQueue();
  device_.hold = true;
  AddRequest();
  Kick();
  Run();
  ASSERT_EQ(device_.held.size(), 1U);
  Translate(TestGuest::kUser, 0x1000, TestGuest::kUser);
  ASSERT_FALSE(backend_->queue(0)->is_reachable());
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetFeatures>(backend_->features() | Bit(VirtioFeature::kLogAll)).ok());
  const UniqueFd file = NewFile(4096);
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {file.get()}).ok());
  TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  uint8_t byte = 0;
  constexpr auto kPage = static_cast<off_t>(kData / kLogPageSize);
  ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
  EXPECT_EQ(byte, 1 << (kPage % 8));
}

// The back-end before this one may have been killed right behind a push.
TEST_F(MemoryTest, TellsTheDriverAndTheLogOfAPushBeforeTheStart) {
  Negotiate(Bit(VirtioFeature::kLogAll));
  SetTable();
  StartQueue();
  EXPECT_FALSE(Take(call_)) << "without an inflight buffer, this is the first back-end";
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  const auto area = Ask<FrontendRequest::kGetInflightFd>(
      {.mmap_size = 0, .mmap_offset = 0, .nr_queues = 2, .queue_size = kQueueSize, .padding = 0});
  ASSERT_TRUE(area.ok());
  const UniqueFd buffer = reply_fds_.Take(0);
  ASSERT_TRUE(Ask<FrontendRequest::kSetInflightFd>(*area, {buffer.get()}).ok());
  VringAddress address = Address(0);
  address.flags = kVringLog;
  address.log = TestGuest::kGuest + TestGuest::kUsed;
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(address).ok());
  // QEMU sends the log after the kick.
  for (const bool is_log_late : {true, false}) {
    const UniqueFd file = NewFile(4096);
    const auto set_log = [&] {
      ASSERT_TRUE(
          Ask<FrontendRequest::kSetLogBase>({.mmap_size = 4096, .mmap_offset = 0}, {file.get()})
              .ok());
    };
    if (!is_log_late) set_log();
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringCall>(0, {call_.get()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(0, {kick_.get()}).ok());
    Run();
    EXPECT_TRUE(Take(call_));
    if (is_log_late) set_log();
    uint8_t byte = 0;
    constexpr auto kPage =
        static_cast<off_t>((TestGuest::kGuest + TestGuest::kUsed) / kLogPageSize);
    ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
    EXPECT_EQ(byte, 1 << (kPage % 8)) << is_log_late;
    ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  }
}

// CVE-2021-3839; the front-end keeps the buffer for the next back-end.
TEST_F(MemoryTest, InflightBufferSurvivesABackend) {
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
  EXPECT_THAT(device_.log, testing::HasSubstr("stop0"));
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

}  // namespace
}  // namespace gmem::vhost
