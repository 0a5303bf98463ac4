// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/guest_memory_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

#include "gmem/status.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using doubles::NewFile;

constexpr uint64_t kMax = ~uint64_t{0};

MemoryRegion Region(uint64_t guest, uint64_t size, uint64_t user = 0, uint64_t offset = 0) {
  return {.guest_address = guest, .size = size, .user_address = user, .mmap_offset = offset};
}

TEST(GuestMemoryMapTest, FindsByEachAddress) {
  const UniqueFd file = NewFile(0x4000);
  GuestMemoryMap map;
  ASSERT_TRUE(map.Add(Region(0x10000, 0x1000, 0x70000, 0x1000), file.get()).ok());
  // Not whole pages.
  ASSERT_TRUE(map.Add(Region(0x20000, 0x800, 0x50000, 0x2100), file.get()).ok());
  ASSERT_EQ(pwrite(file.get(), "a", 1, 0x1010), 1);
  ASSERT_EQ(pwrite(file.get(), "b", 1, 0x2110), 1);
  EXPECT_EQ(map.FromGuest(0x10010, 1)[0], 'a');
  EXPECT_EQ(map.FromUser(0x70010, 1)[0], 'a');
  EXPECT_EQ(map.FromGuest(0x20010, 1)[0], 'b');
  EXPECT_EQ(map.FromUser(0x50010, 1)[0], 'b');
  EXPECT_EQ(map.ToGuest(map.FromUser(0x50010, 1).data()), 0x20010U);
  EXPECT_EQ(map.guest_end(), 0x20800U);
  EXPECT_TRUE(map.FromGuest(0xffff, 1).empty());
  EXPECT_TRUE(map.FromGuest(0x10000, 0x1001).empty());
  EXPECT_TRUE(map.FromGuest(0x10fff, kMax).empty());
  EXPECT_TRUE(map.FromUser(0x50800, 1).empty());
  EXPECT_EQ(map.ToGuest(nullptr), std::nullopt);
}

TEST(GuestMemoryMapTest, RefusesBadRegions) {
  const UniqueFd file = NewFile(0x3000);
  GuestMemoryMap map;
  ASSERT_TRUE(map.Add(Region(0x10000, 0x2000), file.get()).ok());
  const auto add = [&](const MemoryRegion& region) {
    return GetErrno(map.Add(region, file.get()));
  };
  EXPECT_EQ(add(Region(0x20000, 0)), EINVAL);
  EXPECT_EQ(add(Region(kMax - 0xfff, 0x2000)), EINVAL);
  EXPECT_EQ(add(Region(0x20000, 0x2000, kMax - 0xfff)), EINVAL);
  EXPECT_EQ(add(Region(0x20000, 0x2000, 0, kMax - 0xfff)), EINVAL);
  EXPECT_EQ(add(Region(0x20000, 0x3001)), EINVAL) << "beyond the file's end";
  EXPECT_EQ(add(Region(0x20000, 0x1000, 0, 0x2001)), EINVAL);
  EXPECT_EQ(add(Region(0x20000, 0x1000, 0, uint64_t{1} << 62)), EINVAL);
  EXPECT_EQ(add(Region(0x11fff, 0x1000)), EEXIST);
  EXPECT_EQ(add(Region(0xf001, 0x1000)), EEXIST);
  EXPECT_EQ(add(Region(0x10000, 0x2000)), EEXIST);
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(pipe(pipe_fds.data()), 0);
  const UniqueFd in(pipe_fds[0]);
  const UniqueFd out(pipe_fds[1]);
  EXPECT_FALSE(map.Add(Region(0x20000, 0x1000), in.get()).ok());
  EXPECT_FALSE(map.Add(Region(0x20000, 0x1000), -1).ok());
  EXPECT_EQ(map.size(), 1U);
}

TEST(GuestMemoryMapTest, RefusesMoreRegionsThanTheLimit) {
  const UniqueFd file = NewFile(0x1000);
  GuestMemoryMap map;
  for (uint64_t i = 0; i < kMaxMemorySlots; i++) {
    ASSERT_TRUE(map.Add(Region(0x1000 * i, 0x1000), file.get()).ok()) << i;
  }
  EXPECT_EQ(GetErrno(map.Add(Region(0x1000 * kMaxMemorySlots, 0x1000), file.get())), ENOSPC);
  ASSERT_TRUE(map.Remove(Region(0x5000, 0x1000)).ok());
  EXPECT_TRUE(map.FromGuest(0x5000, 1).empty());
  EXPECT_TRUE(map.Add(Region(0x5000, 0x1000), file.get()).ok());
}

TEST(GuestMemoryMapTest, ReplacesAllOrNothing) {
  const UniqueFd file = NewFile(0x1000);
  const auto fds = [&file](size_t n) {
    FdList list;
    for (size_t i = 0; i < n; i++) list.Add(*file.Duplicate());
    return list;
  };
  GuestMemoryMap map;
  ASSERT_TRUE(map.Replace({Region(0x1000, 0x1000)}, fds(1)).ok());
  EXPECT_EQ(GetErrno(map.Replace({Region(0x2000, 0x1000), Region(0x2000, 0x1000)}, fds(2))),
            EEXIST);
  EXPECT_EQ(GetErrno(map.Replace({Region(0x2000, 0x1000), Region(0x3000, 0x1000)}, fds(1))),
            EINVAL);
  EXPECT_EQ(map.FromGuest(0x1000, 0x1000).size(), 0x1000U);
  ASSERT_TRUE(map.Replace({Region(0x2000, 0x1000)}, fds(1)).ok());
  EXPECT_TRUE(map.FromGuest(0x1000, 1).empty());
  EXPECT_EQ(map.FromGuest(0x2000, 0x1000).size(), 0x1000U);
}

TEST(GuestMemoryMapTest, KeepsRemovedRegionsUntilTheyAreDropped) {
  const UniqueFd file = NewFile(0x1000);
  GuestMemoryMap map;
  ASSERT_TRUE(map.Add(Region(0x1000, 0x1000), file.get()).ok());
  const GuestSpan memory = map.FromGuest(0x1000, 0x1000);
  EXPECT_EQ(GetErrno(map.Remove(Region(0x1000, 0x800))), ENOENT);
  ASSERT_TRUE(map.Remove(Region(0x1000, 0x1000)).ok());
  memory[0] = 1;
  map.DropRetired();
  std::array<unsigned char, 1> resident;
  EXPECT_EQ(mincore(memory.data(), 1, resident.data()), -1);
}

// A front-end sends the memory of a guest that grows in parts, in any order.
TEST(GuestMemoryMapTest, WhatContinuesInTheGuestContinuesHere) {
  const UniqueFd file = NewFile(0x6000);
  constexpr uint64_t kUser = 0x7f0000000000;
  const auto region = [](uint64_t page, uint64_t count) {
    return Region(0x10000 + 0x1000 * page, 0x1000 * count, kUser + 0x1000 * page, 0x1000 * page);
  };
  GuestMemoryMap map;
  const auto expect_whole = [&] {
    for (const GuestSpan span :
         {map.FromGuest(0x10800, 0x5000), map.FromUser(kUser + 0x800, 0x5000)}) {
      ASSERT_EQ(span.size(), 0x5000U);
      for (uint64_t page = 1; page < 6; page++) {
        const auto byte = static_cast<uint8_t>('a' + page);
        ASSERT_EQ(pwrite(file.get(), &byte, 1, static_cast<off_t>(0x1000 * page)), 1);
        EXPECT_EQ(span[0x1000 * page - 0x800], byte);
      }
    }
    EXPECT_TRUE(map.FromGuest(0x10800, 0x5801).empty());
    EXPECT_TRUE(map.FromUser(kUser + 0x800, 0x5801).empty());
  };
  ASSERT_TRUE(map.Add(region(0, 2), file.get()).ok());
  const uint8_t* const first = map.FromGuest(0x10000, 1).data();
  ASSERT_TRUE(map.Add(region(4, 2), file.get()).ok());
  EXPECT_TRUE(map.FromGuest(0x10800, 0x5000).empty()) << "there is a hole";
  ASSERT_TRUE(map.Add(region(2, 2), file.get()).ok());
  expect_whole();
  EXPECT_EQ(map.FromGuest(0x10000, 1).data(), first) << "chains in flight point there";
  ASSERT_TRUE(map.Remove(region(2, 2)).ok());
  map.DropRetired();
  EXPECT_TRUE(map.FromUser(kUser + 0x800, 0x5000).empty());
  EXPECT_EQ(map.FromUser(kUser + 0x4000, 0x2000).size(), 0x2000U);
  ASSERT_TRUE(map.Add(region(2, 2), file.get()).ok());
  expect_whole();

  // A table, and a region below.
  FdList fds;
  for (int i = 0; i < 2; i++) fds.Add(*file.Duplicate());
  ASSERT_TRUE(map.Replace({region(4, 2), region(2, 2)}, fds).ok());
  // Otherwise the first region finds its old place taken.
  map.DropRetired();
  ASSERT_TRUE(map.Add(region(0, 2), file.get()).ok());
  expect_whole();
  // Contiguous in the guest, but not for the front-end, whose address is asked for.
  ASSERT_TRUE(map.Add(Region(0x16000, 0x1000, kUser + 0x100000, 0), file.get()).ok());
  EXPECT_EQ(map.FromGuest(0x15000, 0x2000).size(), 0x2000U);
  EXPECT_TRUE(map.FromUser(kUser + 0x5000, 0x2000).empty());
}

// Regions far from each other have no addresses in common, and may not use up those of the process.
TEST(GuestMemoryMapTest, RegionsMayBeAnywhere) {
  const UniqueFd file = NewFile(0x2000);
  GuestMemoryMap map;
  for (uint64_t i = 0; i < 40; i++) {
    ASSERT_TRUE(map.Add(Region(i << 57, 0x1000), file.get()).ok()) << i;
  }
  EXPECT_TRUE(map.Add(Region(kMax - 0xfff, 0xfff), file.get()).ok());
  // Not whole pages, which can't continue each other.
  ASSERT_TRUE(map.Add(Region(0x1000, 0x800, 0x1000, 0x800), file.get()).ok());
  ASSERT_TRUE(map.Add(Region(0x1800, 0x800, 0x1800, 0x800), file.get()).ok());
  EXPECT_EQ(map.FromGuest(0x1800, 0x800).size(), 0x800U);
}

// The region that stays the same must not keep the one that has grown from its place.
TEST(GuestMemoryMapTest, ReplaceKeepsTheGuestContiguous) {
  const UniqueFd file = NewFile(0x6000);
  FdList fds;
  for (int i = 0; i < 2; i++) fds.Add(*file.Duplicate());
  GuestMemoryMap map;
  const MemoryRegion first = Region(0x10000, 0x2000, 0x10000);
  ASSERT_TRUE(map.Replace({first, Region(0x12000, 0x2000, 0x12000, 0x2000)}, fds).ok());
  ASSERT_TRUE(map.Replace({first, Region(0x12000, 0x4000, 0x12000, 0x2000)}, fds).ok());
  EXPECT_EQ(map.FromUser(0x11000, 0x2000).size(), 0x2000U) << "a ring may lie there";
  EXPECT_EQ(map.FromGuest(0x11000, 0x2000).size(), 0x2000U);
}

TEST(GuestMemoryMapTest, ReplaceKeepsWhatIsTheSame) {
  const UniqueFd file = NewFile(0x1000);
  const UniqueFd other = NewFile(0x1000);
  FdList fds;
  fds.Add(*file.Duplicate());
  fds.Add(*file.Duplicate());
  GuestMemoryMap map;
  const MemoryRegion first = Region(0x10000, 0x1000), second = Region(0x20000, 0x1000);
  ASSERT_TRUE(map.Replace({first, second}, fds).ok());
  const uint8_t* const memory = map.FromGuest(0x10000, 1).data();
  const auto hold = map.Hold(map.FromGuest(0x20800, 1).data());
  ASSERT_NE(hold, nullptr);
  FdList files;
  files.Add(*file.Duplicate());
  files.Add(*other.Duplicate());
  ASSERT_TRUE(map.Replace({first, second}, files).ok());
  EXPECT_EQ(map.FromGuest(0x10000, 1).data(), memory);
  EXPECT_NE(map.FromGuest(0x20000, 1).data(), hold->data()) << "that was another file";
  map.DropRetired();
  EXPECT_EQ(map.nr_retired(), 1U) << "it is held";
  EXPECT_EQ(map.Hold(hold->data()), nullptr) << "no chain comes to point there";
}

TEST(GuestMemoryMapTest, HoldsEachRegionOnce) {
  const UniqueFd file = NewFile(0x4000);
  GuestMemoryMap map;
  std::vector<GuestSpan> spans;
  // Not in the order of the guest's addresses.
  for (const uint64_t page : {2, 0, 3, 1}) {
    ASSERT_TRUE(map.Add(Region(0x10000 + 0x100000 * page, 0x1000), file.get()).ok());
  }
  for (uint64_t i = 0; i < 100; i++) {
    spans.push_back(map.FromGuest(0x10000 + 0x100000 * (i % 3) + i, 1));
  }
  spans.push_back(GuestSpan());
  std::vector<std::shared_ptr<const GuestSpan>> holds;
  map.HoldAll(spans, holds);
  ASSERT_EQ(holds.size(), 3U);
  for (size_t i = 0; i < 3; i++) {
    EXPECT_EQ(*holds[i], map.FromGuest(0x10000 + 0x100000 * i, 0x1000));
    EXPECT_EQ(*map.Hold(holds[i]->data() + 0xfff), *holds[i]);
    EXPECT_EQ(map.ToGuest(holds[i]->data() + 0xfff), 0x10fff + 0x100000 * i);
  }
}

// The front-end changes its memory again and again while a chain is in flight.
TEST(GuestMemoryMapTest, BoundsRemovedRegions) {
  const UniqueFd file = NewFile(0x1000);
  MemoryRegion region = Region(0x10000, 0x1000);
  FdList fds;
  fds.Add(*file.Duplicate());
  GuestMemoryMap map;
  ASSERT_TRUE(map.Replace({region}, fds).ok());
  absl::Status status;
  int nr_changes = 0;
  for (; nr_changes < 10000 && status.ok(); nr_changes++) {
    region.user_address++;
    status = map.Replace({region}, fds);
  }
  region.user_address--;
  EXPECT_EQ(GetErrno(status), EBUSY);
  EXPECT_GT(nr_changes, static_cast<int>(kMaxMemorySlots));
  EXPECT_EQ(GetErrno(map.Remove(region)), EBUSY);
  EXPECT_EQ(map.size(), 1U) << "nothing has changed";
  map.DropRetired();
  EXPECT_TRUE(map.Remove(region).ok());
}

// A guest hotplugs memory that it had, in blocks of another size.
TEST(GuestMemoryMapTest, KnowsWhatIsMissingOfARemovedRegion) {
  const UniqueFd file = NewFile(0x6000);
  GuestMemoryMap map;
  ASSERT_TRUE(map.Add(Region(0x10000, 0x6000), file.get()).ok());
  ASSERT_TRUE(map.Remove(Region(0x10000, 0x6000)).ok());
  ASSERT_TRUE(map.Add(Region(0x12000, 0x2000), file.get()).ok());
  std::array<GuestSpan, 2> spans;
  const auto look_at = [&](uint64_t address) {
    size_t count = 0;
    uint64_t failed_at = 0;
    return map.Translate(address, 8, GuestAccess::kRead, absl::MakeSpan(spans), count, failed_at);
  };
  using enum GuestMemoryMap::Result;
  EXPECT_EQ(look_at(0xffff), kNotMemory);
  EXPECT_EQ(look_at(0x10000), kRemoved);
  EXPECT_EQ(look_at(0x11000), kRemoved);
  EXPECT_EQ(look_at(0x12000), kOk);
  EXPECT_EQ(look_at(0x14000), kRemoved);
  EXPECT_EQ(look_at(0x15ff0), kRemoved);
  EXPECT_EQ(look_at(0x16000), kNotMemory);
  ASSERT_TRUE(map.Add(Region(0x10000, 0x2000), file.get()).ok());
  EXPECT_EQ(look_at(0x10000), kOk);
  EXPECT_EQ(look_at(0x14000), kRemoved);
  ASSERT_TRUE(map.Remove(Region(0x10000, 0x2000)).ok());
  EXPECT_EQ(look_at(0x10000), kRemoved);
  EXPECT_EQ(look_at(0x12000), kOk);
}

TEST(GuestMemoryMapTest, TranslatesAcrossRegionsButNotHoles) {
  const UniqueFd file = NewFile(0x1000);
  GuestMemoryMap map;
  ASSERT_TRUE(map.Add(Region(0x1000, 0x1000), file.get()).ok());
  ASSERT_TRUE(map.Add(Region(0x2000, 0x1000), file.get()).ok());
  ASSERT_TRUE(map.Add(Region(0x4000, 0x1000), file.get()).ok());
  std::array<GuestSpan, 2> spans;
  size_t count = 0;
  uint64_t failed_at = 0;
  const auto translate = [&](uint64_t address, uint64_t size) {
    count = 0;
    return map.Translate(address, size, GuestAccess::kRead, absl::MakeSpan(spans), count,
                         failed_at);
  };
  EXPECT_EQ(translate(0x1800, 0x1000), GuestMemoryMap::Result::kOk);
  EXPECT_EQ(count, 2U);
  EXPECT_EQ(spans[0].size() + spans[1].size(), 0x1000U);
  EXPECT_EQ(translate(0x2800, 0x1000), GuestMemoryMap::Result::kNotMemory);
  EXPECT_EQ(failed_at, 0x3000U);
  EXPECT_EQ(translate(0x4800, kMax - 0x4800), GuestMemoryMap::Result::kNotMemory);
  EXPECT_EQ(translate(kMax, 2), GuestMemoryMap::Result::kNotMemory);
  EXPECT_EQ(translate(0x1000, 0), GuestMemoryMap::Result::kOk);
  EXPECT_EQ(count, 0U);
}

IotlbMessage Update(uint64_t iova, uint64_t size, uint64_t user) {
  return {.iova = iova,
          .size = size,
          .user_address = user,
          .permissions = kIotlbRead,
          .type = IotlbType::kUpdate,
          .padding = {}};
}

TEST(IotlbTest, TranslatesAndForgets) {
  Iotlb iotlb;
  ASSERT_TRUE(iotlb.Apply(Update(0x1000, 0x2000, 0x70000)).ok());
  ASSERT_TRUE(iotlb.Apply(Update(kMax - 0xfff, 0x1000, 0x90000)).ok());
  EXPECT_EQ(iotlb.Find(0x1800)->user_address, 0x70800U);
  EXPECT_EQ(iotlb.Find(0x1800)->size, 0x1800U);
  EXPECT_EQ(iotlb.Find(kMax)->size, 1U);
  EXPECT_FALSE(iotlb.Find(0xfff));
  EXPECT_FALSE(iotlb.Find(0x3000));
  IotlbMessage invalidate = Update(0x2fff, 1, 0);
  invalidate.type = IotlbType::kInvalidate;
  ASSERT_TRUE(iotlb.Apply(invalidate).ok());
  EXPECT_FALSE(iotlb.Find(0x1000));
  EXPECT_TRUE(iotlb.Find(kMax));
}

TEST(IotlbTest, RefusesBadMessages) {
  Iotlb iotlb;
  EXPECT_EQ(GetErrno(iotlb.Apply(Update(0x1000, 0, 0))), EINVAL);
  EXPECT_EQ(GetErrno(iotlb.Apply(Update(kMax, 2, 0))), EINVAL);
  EXPECT_EQ(GetErrno(iotlb.Apply(Update(0, 2, kMax))), EINVAL);
  IotlbMessage message = Update(0, 1, 0);
  message.permissions = 4;
  EXPECT_EQ(GetErrno(iotlb.Apply(message)), EINVAL);
  message = Update(0, 1, 0);
  message.type = IotlbType::kMiss;
  EXPECT_EQ(GetErrno(iotlb.Apply(message)), EINVAL);
  EXPECT_EQ(iotlb.size(), 0U);
}

// CVE-2026-74713.
TEST(IotlbTest, IsBounded) {
  Iotlb iotlb;
  for (uint64_t i = 0; i < Iotlb::kMaxEntries + 10; i++) {
    ASSERT_TRUE(iotlb.Apply(Update(0x1000 * i, 0x1000, 0)).ok());
  }
  EXPECT_EQ(iotlb.size(), Iotlb::kMaxEntries);
  EXPECT_FALSE(iotlb.Find(0x9000)) << "the oldest went";
  EXPECT_TRUE(iotlb.Find(0xa000));
}

// CVE-2020-10722.
TEST(DirtyMarksTest, ChecksItsSize) {
  const UniqueFd file = NewFile(0x2000);
  const auto create = [&file](uint64_t size, uint64_t offset, uint64_t end) {
    return GetErrno(
        DirtyMarks::Create({.mmap_size = size, .mmap_offset = offset}, file.get(), end).status());
  };
  EXPECT_EQ(create(0x1000, 0, 0x8000000), std::nullopt);
  EXPECT_EQ(create(0x1000, 0x10, 0), std::nullopt) << "not at a page";
  EXPECT_EQ(create(0x1000, 0, 0x8000001), EINVAL);
  EXPECT_EQ(create(0, 0, 0), EINVAL);
  EXPECT_EQ(create(0x2001, 0, 0), EINVAL);
  EXPECT_EQ(create(0x1000, 0x1001, 0), EINVAL);
  EXPECT_EQ(create(0x1000, kMax - 0xfff, 0), EINVAL);
  EXPECT_EQ(create(kMax, 1, 0), EINVAL);
  EXPECT_EQ(create(uint64_t{1} << 61, 0, kMax), EINVAL);
}

TEST(DirtyMarksTest, MarksOnlyPagesThatHaveABit) {
  const UniqueFd file = NewFile(0x1000);
  auto log = DirtyMarks::Create({.mmap_size = 1, .mmap_offset = 5}, file.get(), 0x8000);
  ASSERT_TRUE(log.ok());
  log->Mark(0x1fff, 2);
  log->Mark(0x7000, kMax);
  log->Mark(kMax, 5);
  log->Mark(0, 0);
  std::array<uint8_t, 8> bytes;
  ASSERT_EQ(pread(file.get(), bytes.data(), bytes.size(), 0), 8);
  EXPECT_THAT(bytes, testing::ElementsAre(0, 0, 0, 0, 0, 0x86, 0, 0));
}

// CVE-2021-3839.
TEST(InflightBufferTest, ChecksItsCounts) {
  EXPECT_EQ(GetErrno(InflightBuffer::Create(0, 8, false).status()), EINVAL);
  EXPECT_EQ(GetErrno(InflightBuffer::Create(257, 8, false).status()), EINVAL);
  EXPECT_EQ(GetErrno(InflightBuffer::Create(3, 8, false, 2).status()), EINVAL);
  EXPECT_EQ(GetErrno(InflightBuffer::Create(1, 0, false).status()), EINVAL);
  EXPECT_EQ(GetErrno(InflightBuffer::Create(1, 32769, false).status()), EINVAL);
  auto buffer = InflightBuffer::Create(2, 8, true);
  ASSERT_TRUE(buffer.ok());
  EXPECT_FALSE(buffer->queue(1).empty());
  EXPECT_TRUE(buffer->queue(2).empty());
  const auto adopt = [&buffer](InflightArea area) {
    return GetErrno(InflightBuffer::Adopt(area, *UniqueFd::Duplicate(buffer->fd()), true).status());
  };
  InflightArea area = buffer->area();
  EXPECT_EQ(adopt(area), std::nullopt);
  area.nr_queues = 3;
  EXPECT_EQ(adopt(area), EINVAL);
  area = buffer->area();
  area.queue_size = 100;
  EXPECT_EQ(adopt(area), EINVAL);
  area = buffer->area();
  area.mmap_offset = 4096;
  EXPECT_EQ(adopt(area), EINVAL);
  area = buffer->area();
  area.mmap_size = kMax;
  EXPECT_EQ(adopt(area), EINVAL);
  area.mmap_size = area.mmap_offset = uint64_t{1} << 63;
  EXPECT_EQ(adopt(area), EINVAL);
}

}  // namespace
}  // namespace gmem::vhost
