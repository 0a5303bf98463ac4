// SPDX-License-Identifier: Apache-2.0
// Memory and migration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>
#include <thread>

#include "gmem/status.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;
using doubles::kData;
using doubles::kQueueSize;
using doubles::TestDevice;
using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

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
  constexpr auto kPage = static_cast<off_t>(kData / kLogPageSize);
  ASSERT_EQ(pread(file.get(), &byte, 1, kPage / 8), 1);
  EXPECT_EQ(byte, 1 << (kPage % 8));
}

// The ring's address for the log is, as its other addresses, one of the IOTLB's.
TEST_F(BackendTest, LogsTheRingWhereTheGuestHasIt) {
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

// What is used of a packed ring, is where the descriptors are.
TEST_F(BackendTest, LogsAPackedRing) {
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

// The log begins while the ring is away, and a chain is in flight.
TEST_F(BackendTest, LogsWhatItWritesWithoutARing) {
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
  ExpectRefused(Ask<FrontendRequest::kSetVringErr>(0, {guest_.fd()}));
}

// Are faults at @address for a userfaultfd?
bool HasServedFaults(const uint8_t* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  bool is_here = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t start = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> start >> dash >> end && dash == '-') {
      is_here = wanted >= start && wanted < end;
    } else if (is_here && line.starts_with("VmFlags:")) {
      return line.find(" um") != std::string::npos;
    }
  }
  return false;
}

// Until the front-end has said that it knows the addresses, nobody would serve a fault.
TEST_F(BackendTest, PostcopyWaitsUntilTheFrontendKnowsWhereARegionIs) {
  Negotiate();
  ASSERT_TRUE(Ask<FrontendRequest::kPostcopyAdvise>().ok());
  ASSERT_EQ(reply_fds_.size(), 1U) << "userfaultfd is forbidden here";
  ASSERT_TRUE(Ask<FrontendRequest::kPostcopyListen>().ok());
  const Format format = {.name = "ADD_MEM_REG with its base",
                         .has_reply = true,
                         .min_reply_size = 40,
                         .max_reply_size = 40};
  const SingleMemoryRegion region = {.padding = 0, .region = guest_.region()};
  uint64_t base = 0;
  frontend_->StartFormat(
      static_cast<uint32_t>(FrontendRequest::kAddMemReg), format, AsBytes(region), {guest_.fd()},
      [&base](const absl::StatusOr<Message*>& reply) {
        ASSERT_TRUE(reply.ok()) << reply.status();
        base = FromBytes<SingleMemoryRegion>((*reply)->bytes()).region.user_address;
      },
      /*want_ack=*/false);
  for (int i = 0; i < 5; i++) Run();
  const GuestSpan memory = backend_->memory().FromGuest(kData, 4096);
  EXPECT_EQ(base + TestGuest::kData, reinterpret_cast<uintptr_t>(memory.data()));
  EXPECT_FALSE(HasServedFaults(memory.data()));
  Format known = {};
  known.name = "ADD_MEM_REG, the acknowledgement";
  const uint64_t ok = 0;
  frontend_->StartFormat(
      static_cast<uint32_t>(FrontendRequest::kAddMemReg), known, AsBytes(ok), {},
      [](const absl::StatusOr<Message*>&) {}, /*want_ack=*/false);
  Run();
  ASSERT_TRUE(session_.ok()) << session_;
  EXPECT_TRUE(HasServedFaults(memory.data()));
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
  EXPECT_EQ(poll(&poll_fd, 1, doubles::kPatienceMilliseconds), 1);
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
