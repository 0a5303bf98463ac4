// SPDX-License-Identifier: Apache-2.0
// The memory table, by whole tables and by difference; the log, and postcopy.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/postcopy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::kPatience;
using doubles::kPatienceMilliseconds;
using doubles::MakeFile;
using doubles::Received;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Request = FrontendRequest;

constexpr uint64_t kAck = Bit(ProtocolFeature::kReplyAck);
constexpr uint64_t kSlots = Bit(ProtocolFeature::kConfigureMemSlots);

class MemoryTest : public FrontendTest {
 protected:
  // The region number @n, of a page.
  GuestRegion Region(uint64_t n) const {
    return {.guest_address = GuestAddress(n << 20),
            .size = KiB(4),
            .user_address = 0x7f0000000000 + (n << 20),
            .fd = file_.get(),
            .offset = ByteOffset(n * 4096)};
  }
  std::vector<GuestRegion> Regions(const std::vector<uint64_t>& numbers) const {
    std::vector<GuestRegion> regions;
    regions.reserve(numbers.size());
    for (const uint64_t n : numbers) regions.push_back(Region(n));
    return regions;
  }
  std::vector<GuestRegion> Many(uint64_t count) const {
    std::vector<GuestRegion> regions;
    for (uint64_t n = 0; n < count; n++) regions.push_back(Region(n));
    return regions;
  }
  static uint64_t NumberOf(const MemoryRegion& region) { return region.guest_address >> 20; }
  // What the back-end has, as the front-end has it.
  std::vector<uint64_t> Known() const {
    std::vector<uint64_t> numbers;
    for (const SharedRegion& region : frontend_->memory()) numbers.push_back(NumberOf(region.wire));
    return numbers;
  }
  // What was asked for: removals negative, additions positive.
  std::vector<int64_t> Changes() {
    std::vector<int64_t> changes;
    for (const Received& one : backend_->received()) {
      const auto n = static_cast<int64_t>(NumberOf(one.As<SingleMemoryRegion>().region));
      if (one.request == Request::kRemMemReg) changes.push_back(-n);
      if (one.request == Request::kAddMemReg) changes.push_back(n);
    }
    return changes;
  }

  const UniqueFd file_ = MakeFile(MiB(4));
};

TEST_F(MemoryTest, WholeTable) {
  StartNegotiated({.protocol_features = kAck});
  ASSERT_TRUE(frontend_->SetMemory(Regions({1, 2, 5})).ok());
  const Received sent = backend_->Last(Request::kSetMemTable);
  EXPECT_EQ(sent.nr_fds, 3u);
  EXPECT_EQ(sent.payload.size(), 8u + 3 * 32);
  const auto table = sent.As<MemoryTable>();
  EXPECT_EQ(table.nr_regions, 3u);
  EXPECT_EQ(table.padding, 0u);
  EXPECT_EQ(table.regions[2], (MemoryRegion{.guest_address = 5 << 20,
                                            .size = 4096,
                                            .user_address = 0x7f0000000000 + (5 << 20),
                                            .mmap_offset = uint64_t{5} * 4096}));
  EXPECT_THAT(Known(), ElementsAre(1, 2, 5));
  // What is known isn't sent again.
  backend_->TakeRequests();
  ASSERT_TRUE(frontend_->SetMemory(Regions({1, 2, 5})).ok());
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
  ASSERT_TRUE(frontend_->SetMemory({}).ok());
  EXPECT_EQ(backend_->Last(Request::kSetMemTable).payload.size(), 8u);
}

TEST_F(MemoryTest, WithoutAcknowledgementsAReadFollows) {
  StartNegotiated({});
  ASSERT_TRUE(frontend_->SetMemory(Regions({1})).ok());
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kSetMemTable, Request::kGetFeatures));
}

// More regions than a table has, without kConfigureMemSlots: refused beforehand (Q6).
TEST_F(MemoryTest, NinthRegionOfATable) {
  StartNegotiated({.protocol_features = kAck});
  ASSERT_TRUE(frontend_->SetMemory(Many(8)).ok());
  backend_->TakeRequests();
  EXPECT_EQ(GetErrno(frontend_->SetMemory(Many(9))), ENOSPC);
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
  EXPECT_EQ(Known().size(), 8u);
}

TEST_F(MemoryTest, ByDifferenceRemovesFirstAndLastToFirst) {
  StartNegotiated({.protocol_features = kAck | kSlots});
  ASSERT_TRUE(frontend_->SetMemory(Regions({1, 2, 3, 4})).ok());
  EXPECT_THAT(Changes(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(backend_->Last(Request::kAddMemReg).nr_fds, 1u);
  ASSERT_TRUE(frontend_->SetMemory(Regions({9, 2, 4, 8})).ok());
  EXPECT_THAT(Changes(), ElementsAre(1, 2, 3, 4, -3, -1, 9, 8));
  EXPECT_EQ(backend_->Last(Request::kRemMemReg).nr_fds, 0u);
  EXPECT_THAT(Known(), ElementsAre(2, 4, 9, 8));
}

TEST_F(MemoryTest, AnotherFileIsAnotherRegion) {
  StartNegotiated({.protocol_features = kAck | kSlots});
  std::vector<GuestRegion> regions = Regions({1});
  ASSERT_TRUE(frontend_->SetMemory(regions).ok());
  const UniqueFd same = *UniqueFd::Duplicate(file_.get());
  regions[0].fd = same.get();
  ASSERT_TRUE(frontend_->SetMemory(regions).ok());
  EXPECT_THAT(Changes(), ElementsAre(1));
  const UniqueFd other = MakeFile(MiB(4));
  regions[0].fd = other.get();
  ASSERT_TRUE(frontend_->SetMemory(regions).ok());
  EXPECT_THAT(Changes(), ElementsAre(1, -1, 1));
}

TEST_F(MemoryTest, TableIsWhatWasAcknowledged) {
  FakeBackend::Options options = {.protocol_features = kAck | kSlots};
  options.handlers[Request::kAddMemReg] = [](FakeBackend& backend, Message& message) {
    const auto region = FromBytes<SingleMemoryRegion>(message.bytes()).region;
    const uint64_t ack = NumberOf(region) == 3 ? EINVAL : 0;
    backend.Reply(message, AsBytes(ack));
  };
  StartNegotiated(std::move(options));
  const absl::Status status = frontend_->SetMemory(Regions({1, 2, 3, 4}));
  EXPECT_EQ(GetErrno(status), EIO) << status;
  EXPECT_THAT(Known(), ElementsAre(1, 2));
  EXPECT_TRUE(frontend_->status().ok());
  // Goes on from there.
  ASSERT_TRUE(frontend_->SetMemory(Regions({1, 2, 4})).ok());
  EXPECT_THAT(Changes(), ElementsAre(1, 2, 3, 4));
}

// The back-end's limit holds (Q7), and no number of regions ends anything (Q5).
TEST_F(MemoryTest, SlotsAreLimited) {
  StartNegotiated({.protocol_features = kAck | kSlots, .max_mem_slots = 32});
  ASSERT_TRUE(frontend_->SetMemory(Many(32)).ok());
  backend_->TakeRequests();
  EXPECT_EQ(GetErrno(frontend_->SetMemory(Many(33))), ENOSPC);
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());

  StartNegotiated({.protocol_features = kAck | kSlots, .max_mem_slots = 100000});
  ASSERT_TRUE(frontend_->SetMemory(Many(kMaxMemorySlots)).ok());
  EXPECT_EQ(GetErrno(frontend_->SetMemory(Many(512))), ENOSPC);
  EXPECT_EQ(Known().size(), kMaxMemorySlots);
}

TEST_F(MemoryTest, SlotsNeverShrink) {
  StartNegotiated({.protocol_features = kAck | kSlots, .max_mem_slots = 32});
  EXPECT_TRUE(absl::IsFailedPrecondition(
      frontend_->Reconnect(NewBackend({.protocol_features = kAck | kSlots, .max_mem_slots = 31}))));
  EXPECT_TRUE(frontend_->Reconnect(NewBackend({.protocol_features = kAck | kSlots})).ok());
  EXPECT_EQ(frontend_->max_memory_slots(), 509u);
}

// What was taken away while nobody was there must not go to the next one.
TEST_F(MemoryTest, TheNextBackendGetsTheLastTable) {
  StartNegotiated({.protocol_features = kAck | kSlots});
  ASSERT_TRUE(frontend_->SetMemory({Region(1), Region(2)}).ok());
  frontend_->Close();
  EXPECT_FALSE(frontend_->SetMemory({Region(2)}).ok());
  EXPECT_THAT(Known(), ElementsAre(2));
  ASSERT_TRUE(frontend_->Reconnect(NewBackend({.protocol_features = kAck | kSlots})).ok());
  EXPECT_THAT(Changes(), ElementsAre(2));
}

TEST_F(MemoryTest, RefusesBadRegions) {
  StartNegotiated({.protocol_features = kAck | kSlots});
  const auto set = [this](const std::vector<GuestRegion>& regions) {
    return GetErrno(frontend_->SetMemory(regions));
  };
  std::vector<GuestRegion> bad(6, Region(1));
  bad[0].size = ByteSize(0);
  bad[1].guest_address = GuestAddress(~uint64_t{0} - 4094);
  bad[2].user_address = ~uint64_t{0} - 4094;
  bad[3].offset = ByteOffset(~uint64_t{0} - 4094);
  bad[4].fd = -1;
  bad[5].size = ByteSize(~uint64_t{0});
  for (const GuestRegion& region : bad) EXPECT_EQ(set({region}), EINVAL);
  GuestRegion same_guest = Region(2);
  same_guest.guest_address = GuestAddress((1 << 20) + 4095);
  GuestRegion same_user = Region(2);
  same_user.user_address = Region(1).user_address + 4095;
  EXPECT_EQ(set({same_guest, Region(1)}), EINVAL);
  EXPECT_EQ(set({same_user, Region(1)}), EINVAL);
  GuestRegion closed = Region(1);
  closed.fd = 1 << 20;
  EXPECT_EQ(set({closed}), EBADF);
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
}

TEST_F(MemoryTest, KeepsNoDescriptorsOfWhatIsGone) {
  StartNegotiated({.protocol_features = kAck | kSlots});
  ASSERT_TRUE(frontend_->SetMemory({}).ok());
  const size_t before = CountOpenFds();
  for (int i = 0; i < 10; i++) {
    ASSERT_TRUE(frontend_->SetMemory(Many(20)).ok());
    ASSERT_TRUE(frontend_->SetMemory({}).ok());
  }
  backend_->TakeRequests();
  EXPECT_LE(CountOpenFds(), before + 1);
}

// One deadline for all that a method sends: each answer for itself is in time.
TEST_F(MemoryTest, SlowAnswersAddUp) {
  FakeBackend::Options options = {.protocol_features = kAck | kSlots};
  options.handlers[Request::kAddMemReg] = [](FakeBackend& backend, Message& message) {
    absl::SleepFor(absl::Milliseconds(300));
    backend.Answer(message);
  };
  StartNegotiated(std::move(options), WithTimeout(absl::Seconds(3)));
  EXPECT_EQ(GetErrno(frontend_->SetMemory(Many(20))), ETIMEDOUT);
  EXPECT_EQ(GetErrno(frontend_->status()), ETIMEDOUT);
}

// Rings in the old part go on: the back-end isn't told to let it go.
TEST_F(MemoryTest, WhatGrowsIsAddedTo) {
  StartNegotiated({.protocol_features = kAck | kSlots, .max_mem_slots = 4});
  // Pages @first to @last of one piece.
  const auto pages = [this](uint64_t first, uint64_t last) {
    GuestRegion region = Region(0);
    region.guest_address = GuestAddress((uint64_t{1} << 20) + first * 4096);
    region.user_address += (uint64_t{1} << 20) + first * 4096;
    region.offset = ByteOffset(first * 4096);
    region.size = ByteSize((last - first + 1) * 4096);
    return region;
  };
  const auto known = [this] {
    std::vector<std::pair<uint64_t, uint64_t>> all;
    for (const SharedRegion& one : frontend_->memory()) {
      const uint64_t first = (one.wire.guest_address - (uint64_t{1} << 20)) / 4096;
      EXPECT_EQ(one.wire.mmap_offset, first * 4096);
      EXPECT_EQ(one.wire.user_address, 0x7f0000000000 + one.wire.guest_address);
      all.emplace_back(first, first + one.wire.size / 4096 - 1);
    }
    return all;
  };
  ASSERT_TRUE(frontend_->SetMemory({pages(2, 3)}).ok());
  ASSERT_TRUE(frontend_->SetMemory({pages(2, 5)}).ok());
  EXPECT_THAT(known(), ElementsAre(std::pair(2, 3), std::pair(4, 5)));
  ASSERT_TRUE(frontend_->SetMemory({pages(1, 7)}).ok());
  EXPECT_THAT(known(),
              ElementsAre(std::pair(2, 3), std::pair(4, 5), std::pair(1, 1), std::pair(6, 7)));
  EXPECT_EQ(backend_->Last(Request::kRemMemReg).payload, "none came");
  // Too many pieces: the whole of it, anew.
  ASSERT_TRUE(frontend_->SetMemory({pages(1, 8)}).ok());
  EXPECT_THAT(known(), ElementsAre(std::pair(1, 8)));
  // The same pages elsewhere in the file are something else.
  GuestRegion moved = pages(1, 9);
  moved.offset = ByteOffset(0);
  ASSERT_TRUE(frontend_->SetMemory({moved}).ok());
  EXPECT_EQ(frontend_->memory().size(), 1u);
}

std::vector<std::pair<uint64_t, uint64_t>> ReadLog(const DirtyLog& log) {
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  log.ReadAndClear([&](GuestRange range) {
    runs.emplace_back(range.start.value() / kLogPageSize, range.size.value());
  });
  return runs;
}

TEST(DirtyLogTest, RunsOfPages) {
  const DirtyLog log = *DirtyLog::Create(GuestAddress(1 << 30));
  EXPECT_EQ(log.area().mmap_size, 32768u);
  Mapping theirs = *Mapping::OfFile(log.fd(), {.size = ByteSize(log.area().mmap_size)});
  EXPECT_THAT(ReadLog(log), IsEmpty());
  theirs.data()[0] = 0x81;
  theirs.data()[1] = 0x01;
  theirs.data()[7] = 0x80;
  theirs.data()[8] = 0x01;
  theirs.data()[32767] = 0x80;
  EXPECT_THAT(ReadLog(log), ElementsAre(std::pair(0, 4096), std::pair(7, 8192), std::pair(63, 8192),
                                        std::pair((1 << 18) - 1, 4096)));
  EXPECT_THAT(ReadLog(log), IsEmpty());
}

TEST(DirtyLogTest, EndsWhereMemoryEnds) {
  const DirtyLog log = *DirtyLog::Create(GuestAddress(3 * 4096 + 1));
  Mapping theirs = *Mapping::OfFile(log.fd(), {.size = ByteSize(log.area().mmap_size)});
  // A back-end that logs what isn't there.
  memset(theirs.data(), 0xff, theirs.size());
  EXPECT_THAT(ReadLog(log), ElementsAre(std::pair(0, 3 * 4096 + 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(DirtyLog::Create(GuestAddress(0)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(DirtyLog::Create(DirtyLog::kMaxEnd + ByteSize(1)).status()));
  // Nobody shortens it under us.
  EXPECT_NE(ftruncate(log.fd(), 0), 0);
}

TEST_F(MemoryTest, LogStartsAndStops) {
  constexpr uint64_t kLog = Bit(VirtioFeature::kLogAll);
  StartNegotiated({.features = Bit(VirtioFeature::kProtocolFeatures) | kLog,
                   .protocol_features = kAck | Bit(ProtocolFeature::kLogShmfd)});
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  VringAddress address = {};
  address.index = 1;
  address.log = 0x5000;
  ASSERT_TRUE(frontend_->SetVringAddr(address).ok());
  EXPECT_EQ(backend_->Last(Request::kSetVringAddr).As<VringAddress>().flags, 0u);
  backend_->TakeRequests();

  const DirtyLog log = *DirtyLog::Create(GuestAddress(1 << 30));
  ASSERT_TRUE(frontend_->StartLog(log).ok());
  EXPECT_THAT(backend_->TakeRequests(),
              ElementsAre(Request::kSetLogBase, Request::kSetFeatures, Request::kSetVringAddr));
  const Received base = backend_->Last(Request::kSetLogBase);
  EXPECT_EQ(base.nr_fds, 1u);
  EXPECT_EQ(base.As<LogArea>().mmap_size, 32768u);
  EXPECT_EQ(base.As<LogArea>().mmap_offset, 0u);
  EXPECT_NE(backend_->Last(Request::kSetFeatures).As<uint64_t>() & kLog, 0u);
  EXPECT_EQ(backend_->Last(Request::kSetVringAddr).As<VringAddress>().flags, kVringLog);

  // A driver that starts anew knows nothing of it.
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  EXPECT_NE(backend_->Last(Request::kSetFeatures).As<uint64_t>() & kLog, 0u);

  ASSERT_TRUE(frontend_->StopLog().ok());
  EXPECT_EQ(backend_->Last(Request::kSetFeatures).As<uint64_t>() & kLog, 0u);
  EXPECT_EQ(backend_->Last(Request::kSetVringAddr).As<VringAddress>().flags, 0u);
}

class LogTest : public MemoryTest {
 protected:
  static constexpr uint64_t kLog = Bit(VirtioFeature::kLogAll);
  static FakeBackend::Options Backend() {
    return {.features = Bit(VirtioFeature::kProtocolFeatures) | kLog,
            .protocol_features = kAck | Bit(ProtocolFeature::kLogShmfd)};
  }
  uint64_t SentFeatures() { return backend_->Last(Request::kSetFeatures).As<uint64_t>(); }
};

// The back-end logs, but not this virtqueue: that has to end, too.
TEST_F(LogTest, WhatStartedHalfStops) {
  FakeBackend::Options options = Backend();
  options.handlers[Request::kSetVringAddr] = [](FakeBackend& backend, Message& message) {
    const bool logs = FromBytes<VringAddress>(message.bytes()).flags != 0;
    backend.Reply(message, AsBytes(uint64_t{logs ? EINVAL : 0u}));
  };
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  VringAddress address = {};
  address.log = 0x5000;
  ASSERT_TRUE(frontend_->SetVringAddr(address).ok());
  const DirtyLog log = *DirtyLog::Create(GuestAddress(1 << 30));
  EXPECT_FALSE(frontend_->StartLog(log).ok());
  EXPECT_NE(SentFeatures() & kLog, 0u);
  ASSERT_TRUE(frontend_->StopLog().ok());
  EXPECT_EQ(SentFeatures() & kLog, 0u);
  EXPECT_EQ(frontend_->acked_features() & kLog, 0u);
}

TEST_F(LogTest, TheFirstStaysIfTheSecondFails) {
  FakeBackend::Options options = Backend();
  std::atomic<int> count = 0;
  options.handlers[Request::kSetLogBase] = [&](FakeBackend& backend, Message& message) {
    if (++count > 1) return backend.Close();
    backend.Answer(message);
  };
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  const DirtyLog first = *DirtyLog::Create(GuestAddress(1 << 30));
  const DirtyLog second = *DirtyLog::Create(GuestAddress(uint64_t{1} << 32));
  ASSERT_TRUE(frontend_->StartLog(first).ok());
  EXPECT_FALSE(frontend_->StartLog(second).ok());
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_EQ(backend_->Last(Request::kSetLogBase).As<LogArea>().mmap_size, first.area().mmap_size);
  EXPECT_NE(SentFeatures() & kLog, 0u);
}

// The real thing: a back-end stops at a page that isn't there, until we bring it.
class PostcopyTest : public MemoryTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    FakeBackend::Options options = {.protocol_features = kAck | Bit(ProtocolFeature::kPagefault) |
                                                         (GetParam() ? kSlots : 0)};
    options.handlers[Request::kPostcopyAdvise] = [this](FakeBackend& backend, Message& message) {
      uffd_ = UniqueFd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
      uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM, .ioctls = 0};
      ASSERT_EQ(ioctl(uffd_.get(), UFFDIO_API, &api), 0);
      const int fd = uffd_.get();
      backend.Reply(message, {}, {&fd, 1});
    };
    options.handlers[Request::kSetMemTable] = [this](FakeBackend& backend, Message& message) {
      if (message.header.size == sizeof(uint64_t)) {
        nr_acks_++;
        return;
      }
      auto table = FromBytes<MemoryTable>(message.bytes());
      for (size_t i = 0; i < table.nr_regions; i++) {
        table.regions[i].user_address = MapClient(table.regions[i], message.fds.get(i));
      }
      backend.Reply(message, AsBytes(table));
    };
    options.handlers[Request::kAddMemReg] = [this](FakeBackend& backend, Message& message) {
      if (message.header.size == sizeof(uint64_t)) {
        nr_acks_++;
        return;
      }
      auto single = FromBytes<SingleMemoryRegion>(message.bytes());
      single.region.user_address = MapClient(single.region, message.fds.get(0));
      backend.Reply(message, AsBytes(single));
    };
    StartNegotiated(std::move(options));
  }

  uint64_t MapClient(const MemoryRegion& region, int fd) {
    clients_.push_back(*Mapping::OfFile(
        fd, {.offset = ByteOffset(region.mmap_offset), .size = ByteSize(region.size)}));
    const auto address = reinterpret_cast<uint64_t>(clients_.back().data());
    uffdio_register reg = {.range = {.start = address, .len = region.size},
                           .mode = UFFDIO_REGISTER_MODE_MISSING,
                           .ioctls = 0};
    EXPECT_EQ(ioctl(uffd_.get(), UFFDIO_REGISTER, &reg), 0);
    return address;
  }

  UniqueFd uffd_;
  std::vector<Mapping> clients_;
  std::atomic<int> nr_acks_ = 0;
};

TEST_P(PostcopyTest, PageComesWhenItIsTouched) {
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->PostcopyListen()));
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  ASSERT_NE(frontend_->faults(), nullptr);
  ASSERT_TRUE(frontend_->PostcopyListen().ok());
  ASSERT_TRUE(frontend_->SetMemory(Regions({3, 7})).ok());
  backend_->TakeRequests();
  EXPECT_EQ(nr_acks_, 1);
  ASSERT_EQ(clients_.size(), 2u);
  EXPECT_EQ(*frontend_->memory()[1].client_address, reinterpret_cast<uint64_t>(clients_[1].data()));

  std::atomic<int> seen = -1;
  std::thread toucher([&] { seen = *static_cast<volatile uint8_t*>(clients_[1].data() + 42); });
  pollfd polled = {.fd = frontend_->faults()->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&polled, 1, kPatienceMilliseconds), 1);
  const auto fault = frontend_->faults()->Next(frontend_->memory());
  ASSERT_TRUE(fault.ok() && fault->has_value()) << fault.status();
  EXPECT_EQ((*fault)->guest_address, GuestAddress(7 << 20));
  EXPECT_FALSE((*fault)->write);
  EXPECT_EQ(seen, -1);
  // The page arrives, and whoever waits is told.
  ASSERT_EQ(pwrite(file_.get(), "x", 1, 7 * 4096 + 42), 1);
  ASSERT_TRUE(frontend_->faults()->Wake(frontend_->memory(), {GuestAddress(7 << 20), KiB(4)}).ok());
  toucher.join();
  EXPECT_EQ(seen, 'x');
  EXPECT_FALSE(frontend_->faults()->Next(frontend_->memory())->has_value());

  ASSERT_TRUE(frontend_->PostcopyEnd().ok());
  EXPECT_EQ(frontend_->faults(), nullptr);
  EXPECT_FALSE(frontend_->memory()[0].client_address.has_value());
}

INSTANTIATE_TEST_SUITE_P(TableOrSlots, PostcopyTest, ::testing::Bool());

UniqueFd NewUserfaultfd(uint64_t features) {
  UniqueFd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api = {.api = UFFD_API, .features = features, .ioctls = 0};
  EXPECT_EQ(ioctl(fd.get(), UFFDIO_API, &api), 0);
  return fd;
}

// Whose address is a guest page's, but not at a page.
TEST_F(MemoryTest, PostcopyBetweenPages) {
  const UniqueFd uffd = NewUserfaultfd(0);
  FakeBackend::Options options = {.protocol_features =
                                      kAck | kSlots | Bit(ProtocolFeature::kPagefault)};
  options.handlers[Request::kPostcopyAdvise] = [&](FakeBackend& backend, Message& message) {
    const int fd = uffd.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  options.handlers[Request::kAddMemReg] = [](FakeBackend& backend, Message& message) {
    auto single = FromBytes<SingleMemoryRegion>(message.bytes());
    single.region.user_address = 0x10001;
    backend.Reply(message, AsBytes(single));
  };
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  ASSERT_TRUE(frontend_->PostcopyListen().ok());
  EXPECT_EQ(GetErrno(frontend_->SetMemory({Region(1)})), EIO);
}

// What a back-end reads next is that, it thinks.
TEST_F(MemoryTest, NothingComesBeforeAPostcopyTableIsAcknowledged) {
  const UniqueFd uffd = NewUserfaultfd(0);
  FakeBackend::Options options = {
      .protocol_features = kAck | kSlots | Bit(ProtocolFeature::kPagefault) |
                           Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kSharedObject)};
  options.handlers[Request::kPostcopyAdvise] = [&](FakeBackend& backend, Message& message) {
    const int fd = uffd.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  uint64_t answer = 0;
  options.handlers[Request::kAddMemReg] = [&](FakeBackend& backend, Message& message) {
    if (message.header.size == sizeof(uint64_t)) return;
    answer = backend.Ask(BackendRequest::kSharedObjectAdd, AsBytes(Uuid{1}));
    auto single = FromBytes<SingleMemoryRegion>(message.bytes());
    single.region.user_address = 0x10000;
    backend.Reply(message, AsBytes(single));
  };
  StartNegotiated(std::move(options), AllOptions());
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  ASSERT_TRUE(frontend_->PostcopyListen().ok());
  backend_->TakeRequests();
  ASSERT_TRUE(frontend_->SetMemory({Region(1)}).ok());
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kAddMemReg, Request::kAddMemReg));
  EXPECT_EQ(answer, uint64_t{EBUSY});
  OnBackend([](FakeBackend& b) {
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectAdd, AsBytes(Uuid{1})), 0u);
  });
}

// Its open file is the back-end's, too, which may change it at any time.
TEST(FaultsTest, ABlockingUserfaultfdIsRefused) {
  const UniqueFd theirs = NewUserfaultfd(0);
  const Faults faults = *Faults::Adopt(*theirs.Duplicate());
  EXPECT_FALSE(faults.Next({})->has_value());
  ASSERT_EQ(fcntl(theirs.get(), F_SETFL, 0), 0);
  EXPECT_EQ(GetErrno(faults.Next({}).status()), EBADF);
}

// Does this thread sleep?
bool Waits(pid_t tid) {
  std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(") ");
  return name_end != std::string::npos && (line[name_end + 2] == 'S' || line[name_end + 2] == 'D');
}

// A back-end can have events without end: no page that is missing is among them.
TEST(FaultsTest, OtherEventsAreLimited) {
  constexpr int kThreads = 100;
  constexpr size_t kPage = 4096;
  UniqueFd theirs = NewUserfaultfd(UFFD_FEATURE_EVENT_REMOVE);
  std::optional<Faults> faults = *Faults::Adopt(*theirs.Duplicate());
  auto* const memory = static_cast<uint8_t*>(
      mmap(nullptr, kThreads * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  uffdio_register reg = {
      .range = {.start = reinterpret_cast<uint64_t>(memory), .len = kThreads * kPage},
      .mode = UFFDIO_REGISTER_MODE_MISSING,
      .ioctls = 0};
  ASSERT_EQ(ioctl(theirs.get(), UFFDIO_REGISTER, &reg), 0);
  std::array<std::atomic<pid_t>, kThreads> tids = {};
  std::atomic<int> ended = 0;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      tids[static_cast<size_t>(i)] = gettid();
      madvise(memory + static_cast<size_t>(i) * kPage, kPage, MADV_DONTNEED);
      ended++;
    });
  }
  const auto nr_waiting = [&tids] {
    return std::count_if(tids.begin(), tids.end(), [](const auto& tid) { return Waits(tid); });
  };
  const absl::Time give_up = absl::Now() + kPatience;
  // An event that is taken wakes all: those that aren't meant sleep again.
  const auto have_settled = [&] {
    while (nr_waiting() + ended < kThreads) {
      if (absl::Now() > give_up) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  };
  EXPECT_TRUE(have_settled());
  EXPECT_EQ(ended, 0);
  EXPECT_FALSE(faults->Next({})->has_value());
  EXPECT_TRUE(have_settled());
  EXPECT_LE(ended, Faults::kMaxEventsAtOnce);
  while (ended < kThreads && absl::Now() < give_up) EXPECT_FALSE(faults->Next({})->has_value());
  EXPECT_EQ(ended, kThreads);
  // In any case, that lets them go.
  faults.reset();
  theirs.reset();
  for (std::thread& thread : threads) thread.join();
  munmap(memory, kThreads * kPage);
}

TEST_F(MemoryTest, PostcopyThatAnswersWrongly) {
  FakeBackend::Options options = {.protocol_features = kAck | Bit(ProtocolFeature::kPagefault)};
  options.handlers[Request::kPostcopyAdvise] = [this](FakeBackend& backend, Message& message) {
    // Not a userfaultfd: a read from it would be ours to regret.
    const int fd = file_.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  StartNegotiated(std::move(options));
  const size_t before = CountOpenFds();
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->PostcopyAdvise()));
  EXPECT_EQ(frontend_->faults(), nullptr);
  EXPECT_EQ(CountOpenFds(), before);
}

}  // namespace
}  // namespace gmem::vhost
