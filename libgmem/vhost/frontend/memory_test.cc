// SPDX-License-Identifier: MIT OR Apache-2.0
// The memory table, whole and by difference.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"
#include "vhost/testing/regions.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::MakeFile;
using doubles::Received;
using doubles::RegionsTest;
using testing::ElementsAre;
using testing::IsEmpty;
using Request = FrontendRequest;

constexpr uint64_t kAck = Bit(ProtocolFeature::kReplyAck);
constexpr uint64_t kSlots = Bit(ProtocolFeature::kConfigureMemSlots);
constexpr uint64_t kWithChannel =
    kAck | kSlots | Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kConfig);

class MemoryTest : public RegionsTest {
 protected:
  std::vector<GuestRegion> Many(uint64_t count) const {
    std::vector<GuestRegion> regions;
    for (uint64_t n = 0; n < count; n++) regions.push_back(Region(n));
    return regions;
  }
  static uint64_t NumberOf(const MemoryRegion& region) { return region.guest_address >> 20; }
  // The regions that the front-end remembers.
  std::vector<uint64_t> Known() const {
    std::vector<uint64_t> numbers;
    for (const SharedRegion& region : frontend_->memory()) numbers.push_back(NumberOf(region.wire));
    return numbers;
  }
  // The requests to the back-end: removals negative, additions positive.
  std::vector<int64_t> Changes() {
    std::vector<int64_t> changes;
    for (const Received& one : backend_->received()) {
      const auto n = static_cast<int64_t>(NumberOf(one.As<SingleMemoryRegion>().region));
      if (one.request == Request::kRemMemReg) changes.push_back(-n);
      if (one.request == Request::kAddMemReg) changes.push_back(n);
    }
    return changes;
  }
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
  // A table that the back-end has isn't sent again.
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

// Without kConfigureMemSlots, a ninth region is refused before anything is sent (Q6).
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

TEST_F(MemoryTest, OnlySealedMemory) {
  Frontend::Options options = WithTimeout(doubles::kPatience);
  options.only_sealed_memory = true;
  StartNegotiated({.protocol_features = kAck}, std::move(options));
  const UniqueFd sealed(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(sealed.get(), 1 << 20), 0);
  std::vector<GuestRegion> regions = Regions({1, 2});
  regions[0].fd = sealed.get();
  // A memfd without seals, and one that can have some.
  EXPECT_EQ(GetErrno(frontend_->SetMemory(regions)), EPERM);
  regions[1].fd = sealed.get();
  EXPECT_EQ(GetErrno(frontend_->SetMemory(regions)), EPERM);
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
  EXPECT_THAT(Known(), IsEmpty());
  ASSERT_EQ(fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  ASSERT_TRUE(frontend_->SetMemory(regions).ok());
  EXPECT_THAT(Known(), ElementsAre(1, 2));
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

TEST_F(MemoryTest, RemembersAcknowledgedRegionsOnly) {
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
  // The next call goes on from there.
  ASSERT_TRUE(frontend_->SetMemory(Regions({1, 2, 4})).ok());
  EXPECT_THAT(Changes(), ElementsAre(1, 2, 3, 4));
}

// The back-end's limit holds (Q7), and no number of regions ends the connection (Q5).
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

// A region that is removed between two back-ends must not go to the second one.
TEST_F(MemoryTest, TheNextBackendGetsTheLastTable) {
  StartNegotiated({.protocol_features = kAck | kSlots});
  ASSERT_TRUE(frontend_->SetMemory({Region(1), Region(2)}).ok());
  frontend_->Close();
  EXPECT_FALSE(frontend_->SetMemory({Region(2)}).ok());
  EXPECT_THAT(Known(), ElementsAre(2));
  ASSERT_TRUE(frontend_->Reconnect(NewBackend({.protocol_features = kAck | kSlots})).ok());
  EXPECT_THAT(Changes(), ElementsAre(2));
}

// OnDisconnect() replaces the table while SetMemory() goes through the old one.
TEST_F(MemoryTest, ANewTableWhileRegionsAreRemoved) {
  FakeBackend::Options options = {.protocol_features = kWithChannel};
  CloseRightAfter(Request::kRemMemReg, options,
                  [this] { EXPECT_TRUE(absl::IsUnavailable(frontend_->SetMemory({}))); });
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->SetMemory(Regions({1, 2, 3})).ok());
  EXPECT_TRUE(absl::IsUnavailable(frontend_->SetMemory({Region(4)})));
  // The call that returns last.
  EXPECT_THAT(Known(), ElementsAre(4));
}

// Reconnect() sends the old table, or something after it, when the end comes: the table that the
// VMM has set last counts.
TEST_F(MemoryTest, ANewTableWhileABackendDies) {
  for (const Request last : {Request::kAddMemReg, Request::kSetVringNum}) {
    StartNegotiated({.protocol_features = kWithChannel});
    ASSERT_TRUE(frontend_->SetMemory({Region(1), Region(2)}).ok());
    ASSERT_TRUE(frontend_->SetVringNum(0, 128).ok());
    ASSERT_TRUE(frontend_->SetVringBase(0, 5).ok());
    FakeBackend::Options options = {.protocol_features = kWithChannel};
    CloseRightAfter(last, options, [this] {
      EXPECT_TRUE(absl::IsUnavailable(frontend_->SetMemory({Region(2)})));
    });
    EXPECT_TRUE(absl::IsUnavailable(frontend_->Reconnect(NewBackend(std::move(options)))));
    EXPECT_THAT(Known(), ElementsAre(2));
    ASSERT_TRUE(frontend_->Reconnect(NewBackend({.protocol_features = kWithChannel})).ok());
    EXPECT_THAT(Changes(), ElementsAre(2));
    EXPECT_EQ(backend_->Last(Request::kSetVringNum).As<VringState>().num, 128u);
  }
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

TEST_F(MemoryTest, ClosesDescriptorsOfRemovedRegions) {
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

// All requests of a method have one deadline. Each answer on its own is in time.
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

class GrownMemoryTest : public MemoryTest {
 protected:
  // Pages @first to @last of one piece.
  GuestRegion Pages(uint64_t first, uint64_t last) const {
    GuestRegion region = Region(0);
    region.guest_address = GuestAddress((uint64_t{1} << 20) + first * 4096);
    region.user_address += (uint64_t{1} << 20) + first * 4096;
    region.offset = ByteOffset(first * 4096);
    region.size = ByteSize((last - first + 1) * 4096);
    return region;
  }
  std::vector<std::pair<uint64_t, uint64_t>> KnownPages() const {
    std::vector<std::pair<uint64_t, uint64_t>> all;
    for (const SharedRegion& one : frontend_->memory()) {
      const uint64_t first = (one.wire.guest_address - (uint64_t{1} << 20)) / 4096;
      EXPECT_EQ(one.wire.mmap_offset, first * 4096);
      EXPECT_EQ(one.wire.user_address, 0x7f0000000000 + one.wire.guest_address);
      all.emplace_back(first, first + one.wire.size / 4096 - 1);
    }
    return all;
  }
};

// Rings in the old part go on: the back-end keeps it.
TEST_F(GrownMemoryTest, KeepsItsOldPart) {
  StartNegotiated({.protocol_features = kAck | kSlots, .max_mem_slots = 4});
  ASSERT_TRUE(frontend_->SetVringKick(0, -1).ok());
  ASSERT_TRUE(frontend_->SetMemory({Pages(2, 3)}).ok());
  ASSERT_TRUE(frontend_->SetMemory({Pages(2, 5)}).ok());
  EXPECT_THAT(KnownPages(), ElementsAre(std::pair(2, 3), std::pair(4, 5)));
  ASSERT_TRUE(frontend_->SetMemory({Pages(1, 7)}).ok());
  EXPECT_THAT(KnownPages(),
              ElementsAre(std::pair(2, 3), std::pair(4, 5), std::pair(1, 1), std::pair(6, 7)));
  EXPECT_EQ(backend_->Last(Request::kRemMemReg).payload, "none came");
  // Too many parts: the back-end gets the whole region again.
  ASSERT_TRUE(frontend_->SetMemory({Pages(1, 8)}).ok());
  EXPECT_THAT(KnownPages(), ElementsAre(std::pair(1, 8)));
  // Pages elsewhere in the file are other memory.
  GuestRegion moved = Pages(1, 9);
  moved.offset = ByteOffset(0);
  ASSERT_TRUE(frontend_->SetMemory({moved}).ok());
  EXPECT_EQ(frontend_->memory().size(), 1u);
}

// A ring that crosses the seam of two regions is refused by most back-ends.
TEST_F(GrownMemoryTest, IsWholeWhereNoVirtqueueWorks) {
  const FakeBackend::Options options = {.protocol_features = kAck | kSlots};
  StartNegotiated(options);
  ASSERT_TRUE(frontend_->SetMemory({Pages(2, 3)}).ok());
  ASSERT_TRUE(frontend_->SetMemory({Pages(2, 5)}).ok());
  EXPECT_THAT(KnownPages(), ElementsAre(std::pair(2, 5)));
  ASSERT_TRUE(frontend_->SetVringKick(0, -1).ok());
  ASSERT_TRUE(frontend_->SetMemory({Pages(1, 6), Pages(7, 7)}).ok());
  EXPECT_THAT(KnownPages(),
              ElementsAre(std::pair(2, 5), std::pair(1, 1), std::pair(6, 6), std::pair(7, 7)));
  // Joins what the front-end has cut, but not what the VMM had apart.
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(options)).ok());
  EXPECT_THAT(KnownPages(), testing::UnorderedElementsAre(std::pair(1, 6), std::pair(7, 7)));
  ASSERT_TRUE(frontend_->GetVringBase(0).ok());
  ASSERT_TRUE(frontend_->SetMemory({Pages(1, 7)}).ok());
  EXPECT_THAT(KnownPages(), ElementsAre(std::pair(1, 7)));
}

}  // namespace
}  // namespace gmem::vhost
