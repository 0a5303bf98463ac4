// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/virtqueue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/iotlb.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr uint16_t kSize = 8;
constexpr uint64_t kData = TestGuest::kGuest + TestGuest::kData;
constexpr uint64_t kTable = TestGuest::kGuest + TestGuest::kTable;

// Both kinds of rings.
class VirtqueueTest : public testing::TestWithParam<bool> {
 protected:
  VirtqueueTest() : ring_(guest_, kSize, GetParam()) {
    EXPECT_TRUE(memory_.Add(guest_.region(), guest_.fd()).ok());
    options_ = {.index = 3, .size = kSize, .is_packed = GetParam(), .has_indirect = true};
  }

  bool is_packed() const { return GetParam(); }

  Virtqueue::Memory RingMemory() const {
    const auto at = [this](uint64_t offset, uint64_t size) {
      return memory_.FromGuest(TestGuest::kGuest + offset, size);
    };
    return {.descriptors = at(TestGuest::kDescriptors, 0x20000),
            .used = at(TestGuest::kUsed, 0x10000),
            .available = at(TestGuest::kAvailable, 0x10000)};
  }

  uint32_t FirstBase() const { return is_packed() ? 0x80008000 : 0; }

  Virtqueue New() {
    auto queue = Virtqueue::Create(memory_, options_, RingMemory(), FirstBase());
    EXPECT_TRUE(queue.ok()) << queue.status();
    return *std::move(queue);
  }

  void ExpectBroken(Virtqueue& queue, const std::string& why) {
    ASSERT_EQ(queue.Pop(chain_), Popped::kBroken);
    EXPECT_EQ(GetErrno(queue.status()), EBADMSG);
    EXPECT_THAT(std::string(queue.status().message()), testing::HasSubstr(why));
    // The virtqueue stays broken.
    EXPECT_EQ(queue.Pop(chain_), Popped::kBroken);
    EXPECT_FALSE(queue.status().ok());
  }

  TestGuest guest_;
  GuestMemoryMap memory_;
  TestRing ring_;
  Virtqueue::Options options_;
  Chain chain_;
};

TEST_P(VirtqueueTest, GivesChainsAndTakesThemBack) {
  Virtqueue queue = New();
  EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
  // Some laps, with chains of different lengths.
  for (uint32_t i = 0; i < 50; i++) {
    guest_.Put(TestGuest::kData, 1000 + i);
    std::vector<Piece> pieces = {{kData, 2, 0}, {kData + 2, 2, 0}, {kData + 0x100, 6, kWrite}};
    if (i % 3 == 0) pieces = {{kData, 4, 0}, {kData + 0x100, 6, kWrite}};
    const uint16_t id = ring_.Add(pieces);
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << i;
    EXPECT_EQ(chain_.readable_size(), 4U);
    EXPECT_EQ(chain_.writable_size(), 6U);
    uint32_t value = 0;
    ASSERT_TRUE(chain_.ReadStruct(0, value));
    EXPECT_EQ(value, 1000 + i);
    EXPECT_TRUE(chain_.WriteStruct(1, value));
    EXPECT_FALSE(ring_.TakeUsed());
    queue.Push(chain_, 5);
    const std::optional<Used> used = ring_.TakeUsed();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->id, id);
    EXPECT_EQ(used->written, 5U);
    EXPECT_EQ(guest_.Get<uint32_t>(TestGuest::kData + 0x101), 1000 + i);
    EXPECT_EQ(queue.in_flight(), 0U);
  }
}

TEST_P(VirtqueueTest, CompletesInAnyOrder) {
  Virtqueue queue = New();
  std::vector<Chain> chains(3);
  std::vector<uint16_t> ids;
  for (uint64_t i = 0; i < 3; i++) ids.push_back(ring_.Add({{kData + i, 1, kWrite}}));
  for (Chain& chain : chains) ASSERT_EQ(queue.Pop(chain), Popped::kChain);
  EXPECT_EQ(queue.in_flight(), 3U);
  for (const size_t i : {2, 0, 1}) {
    queue.Push(chains[i], 1);
    EXPECT_EQ(ring_.TakeUsed()->id, ids[i]);
  }
}

TEST_P(VirtqueueTest, FollowsIndirectTables) {
  Virtqueue queue = New();
  ring_.PutTable(0, {kData, 3, kNext}, 1);
  ring_.PutTable(1, {kData + 0x10, 5, kWrite}, 0);
  ring_.Add({{kTable, 32, kIndirect}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_EQ(chain_.readable_size(), 3U);
  EXPECT_EQ(chain_.writable_size(), 5U);
  EXPECT_EQ(chain_.writable()[0].data(), memory_.FromGuest(kData + 0x10, 1).data());
}

// CVE-2026-93683, CVE-2026-86848: the values that were checked are the ones that are used.
TEST_P(VirtqueueTest, IndirectTableThatChangesLaterHasNoEffect) {
  Virtqueue queue = New();
  ring_.PutTable(0, {kData, 3, kWrite}, 0);
  ring_.Add({{kTable, 16, kIndirect}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  ring_.PutTable(0, {0xffffffffffff0000, 0xffffffff, kWrite}, 0);
  EXPECT_EQ(chain_.Write(0, "abcd", 4), 3U);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(guest_.at(TestGuest::kData)), 3), "abc");
}

TEST_P(VirtqueueTest, RefusesBadIndirectTables) {
  const auto expect_broken = [this](const Piece& piece, const std::string& why) {
    TestGuest guest;
    std::swap(guest, guest_);
    memory_.Clear();
    ASSERT_TRUE(memory_.Add(guest_.region(), guest_.fd()).ok());
    Virtqueue queue = New();
    TestRing ring(guest_, kSize, is_packed());
    ring.PutTable(0, {kTable, 16, kIndirect}, 0);
    ring.Add({piece});
    ExpectBroken(queue, why);
  };
  expect_broken({kTable, 0, kIndirect}, "an indirect table of 0 bytes");
  expect_broken({kTable, 15, kIndirect}, "an indirect table of 15 bytes");
  expect_broken({kTable, 16 * 1025, kIndirect}, "an indirect table of 16400 bytes");
  expect_broken({kTable, 0xfffffff0, kIndirect}, "an indirect table of");
  expect_broken({kTable, 16, kIndirect}, "an indirect table inside");
  expect_broken({TestGuest::kGuest + TestGuest::kSize - 16, 32, kIndirect}, "isn't the guest's");
}

TEST_P(VirtqueueTest, RefusesAnIndirectTableThatWasNotNegotiated) {
  options_.has_indirect = false;
  Virtqueue queue = New();
  ring_.Add({{kTable, 16, kIndirect}});
  ExpectBroken(queue, "wasn't negotiated");
}

TEST_P(VirtqueueTest, RefusesReadableBehindWritable) {
  Virtqueue queue = New();
  ring_.Add({{kData, 1, kWrite}, {kData, 1, 0}});
  ExpectBroken(queue, "to read from follows");
}

// CVE-2018-1059: all bytes of a buffer must be memory, not only its first.
TEST_P(VirtqueueTest, RefusesBuffersThatAreNotAllMemory) {
  Virtqueue queue = New();
  ring_.Add({{TestGuest::kGuest + TestGuest::kSize - 4, 8, kWrite}});
  ExpectBroken(queue, "0x200000 isn't the guest's memory");
}

TEST_P(VirtqueueTest, RefusesAddressesThatWrap) {
  Virtqueue queue = New();
  ring_.Add({{0xfffffffffffffff0, 0x20, 0}});
  ExpectBroken(queue, "isn't the guest's memory");
}

// CVE-2026-86566: a request may be shorter than its header.
TEST_P(VirtqueueTest, ShortChainsReadShort) {
  Virtqueue queue = New();
  guest_.Put(TestGuest::kData, uint32_t{0x04030201});
  ring_.Add({{kData, 3, 0}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  uint32_t value = 0;
  EXPECT_FALSE(chain_.ReadStruct(0, value));
  EXPECT_EQ(value, 0x030201U);
  EXPECT_EQ(chain_.Read(3, &value, 1), 0U);
  EXPECT_EQ(chain_.Read(~uint64_t{0}, &value, 1), 0U);
  EXPECT_EQ(chain_.Write(0, &value, 1), 0U);
  // No more than there is.
  queue.Push(chain_, 1000);
  EXPECT_EQ(ring_.TakeUsed()->written, 0U);
}

// CVE-2022-2132: a header may have many pieces, and some may be empty.
TEST_P(VirtqueueTest, HeadersMayBeInPieces) {
  Virtqueue queue = New();
  guest_.Put(TestGuest::kData, uint64_t{0x0807060504030201});
  for (uint16_t i = 0; i < 20; i++) {
    const bool is_byte = i % 2 == 0 && i < 16;
    ring_.PutTable(i,
                   {is_byte ? kData + i / 2 : 0, is_byte ? 1U : 0U, i < 19 ? kNext : uint16_t{0}},
                   static_cast<uint16_t>(i + 1));
  }
  ring_.Add({{kTable, 16 * 20, kIndirect}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_EQ(chain_.readable_size(), 8U);
  uint64_t header = 0;
  EXPECT_TRUE(chain_.ReadStruct(0, header));
  EXPECT_EQ(header, 0x0807060504030201U);
  uint32_t half = 0;
  EXPECT_TRUE(chain_.ReadStruct(3, half));
  EXPECT_EQ(half, 0x07060504U);
  EXPECT_FALSE(chain_.ReadStruct(5, half));
}

// CVE-2021-3546: a write must stay inside of the driver's buffers.
TEST_P(VirtqueueTest, WritesStayInTheChain) {
  Virtqueue queue = New();
  std::memset(guest_.at(TestGuest::kData), '.', 64);
  ring_.Add({{kData + 2, 4, kWrite}, {kData + 10, 3, kWrite}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  const std::string much(1000, 'x');
  EXPECT_EQ(chain_.Write(2, much.data(), much.size()), 5U);
  EXPECT_EQ(chain_.Write(7, much.data(), much.size()), 0U);
  EXPECT_EQ(chain_.Write(~uint64_t{0}, much.data(), much.size()), 0U);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(guest_.at(TestGuest::kData)), 16),
            "....xx....xxx...");
  queue.Push(chain_, ~uint64_t{0});
  EXPECT_EQ(ring_.TakeUsed()->written, 7U);
}

TEST_P(VirtqueueTest, CrossesRegions) {
  const MemoryRegion more = {.guest_address = TestGuest::kGuest + TestGuest::kSize,
                             .size = 0x1000,
                             .user_address = 0x1000,
                             .mmap_offset = 0};
  ASSERT_TRUE(memory_.Add(more, NewFile(0x1000).get()).ok());
  Virtqueue queue = New();
  ring_.Add({{TestGuest::kGuest + TestGuest::kSize - 4, 8, kWrite}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_EQ(chain_.writable().size(), 2U);
  EXPECT_EQ(chain_.Write(2, "abcdef", 6), 6U);
  EXPECT_EQ(memory_.FromGuest(more.guest_address, 1)[0], 'c');
}

TEST_P(VirtqueueTest, AllEntriesMayBeInFlight) {
  Virtqueue queue = New();
  std::vector<Chain> chains(kSize);
  for (Chain& chain : chains) {
    ring_.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chain), Popped::kChain);
  }
  EXPECT_EQ(queue.Pop(chain_), Popped::kNothing) << queue.status();
  for (const Chain& chain : chains) queue.Push(chain, 1);
  ring_.Add({{kData, 1, kWrite}});
  EXPECT_EQ(queue.Pop(chain_), Popped::kChain);
}

// A receive queue's device needs several chains for one packet, and there are too few.
TEST_P(VirtqueueTest, PutsChainsBack) {
  Virtqueue queue = New();
  // More than one lap.
  for (int lap = 0; lap < 12; lap++) {
    const uint32_t base = queue.base();
    std::vector<Chain> chains(3);
    std::vector<uint16_t> ids;
    for (uint64_t i = 0; i < 3; i++) ids.push_back(ring_.Add({{kData + i, 1, kWrite}}));
    for (Chain& chain : chains) ASSERT_EQ(queue.Pop(chain), Popped::kChain);
    const uint64_t nr_popped = queue.nr_popped();
    EXPECT_FALSE(queue.Unpop(chains[1])) << "the last first";
    for (size_t i = 3; i-- > 0;) {
      EXPECT_TRUE(queue.IsInFlight(chains[i]));
      EXPECT_TRUE(queue.Unpop(chains[i]));
      EXPECT_FALSE(queue.IsInFlight(chains[i]));
      EXPECT_FALSE(queue.Unpop(chains[i])) << "once";
    }
    EXPECT_EQ(queue.in_flight(), 0U);
    EXPECT_EQ(queue.nr_popped(), nr_popped - 3);
    EXPECT_EQ(queue.base(), base);
    for (size_t i = 0; i < 3; i++) {
      ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
      EXPECT_EQ(chain_.token().id, ids[i]);
      EXPECT_EQ(chain_.writable()[0].data(), chains[i].writable()[0].data());
      // A late push of a chain that was put back, though the same chain is in flight again.
      EXPECT_FALSE(queue.Push(chains[i], 1));
      EXPECT_FALSE(ring_.TakeUsed());
      EXPECT_TRUE(queue.Push(chain_, 1));
      EXPECT_EQ(ring_.TakeUsed()->id, ids[i]);
      EXPECT_FALSE(queue.Push(chain_, 1)) << "once";
      EXPECT_FALSE(ring_.TakeUsed());
    }
  }
}

TEST_P(VirtqueueTest, AChainBeforeAPushStays) {
  Virtqueue queue = New();
  std::vector<Chain> chains(4);
  for (Chain& chain : chains) {
    ring_.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chain), Popped::kChain);
  }
  ASSERT_TRUE(queue.Push(chains[1], 1));
  EXPECT_EQ(queue.TakeBack(), 2U);
  EXPECT_TRUE(queue.IsInFlight(chains[0]));
  EXPECT_FALSE(queue.IsInFlight(chains[2]));
  EXPECT_FALSE(queue.Push(chains[3], 1));
  EXPECT_FALSE(queue.Unpop(chains[0]));
  EXPECT_EQ(queue.in_flight(), 1U);
  EXPECT_TRUE(queue.Push(chains[0], 1));
  for (int i = 0; i < 2; i++) ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << i;
  EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
}

// Otherwise the next back-end would do them twice: as chains in flight, and as new ones.
TEST_P(VirtqueueTest, PutsChainsBackInTheInflightBuffer) {
  auto buffer = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(buffer.ok());
  std::vector<uint16_t> ids;
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
    std::vector<Chain> chains(kSize / 2);
    for (Chain& chain : chains) {
      ids.push_back(ring_.Add({{kData, 1, kWrite}, {kData + 1, 1, kWrite}}));
      ASSERT_EQ(queue.Pop(chain), Popped::kChain);
    }
    // One is done, one stays in flight, and the others go back.
    ASSERT_TRUE(queue.Push(chains[0], 1));
    ASSERT_TRUE(ring_.TakeUsed());
    for (size_t i = chains.size(); i-- > 2;) ASSERT_TRUE(queue.Unpop(chains[i]));
  }
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
    // The old one, which may go back, too, to be brought again.
    for (int i = 0; i < 2; i++) {
      ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
      EXPECT_EQ(chain_.token().id, ids[1]);
      if (i == 0) {
        ASSERT_TRUE(queue.Unpop(chain_));
      } else {
        EXPECT_EQ(queue.TakeBack(), 1U);
      }
    }
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
    Chain next;
    ASSERT_EQ(queue.Pop(next), Popped::kChain);
    queue.BeginStop();
    EXPECT_TRUE(queue.Unpop(next));
    EXPECT_FALSE(queue.Unpop(chain_)) << "a back-end without the buffer wouldn't get it";
    EXPECT_EQ(queue.TakeBack(), 0U);
    ASSERT_TRUE(queue.Push(chain_, 1));
    for (size_t i = 2; i < ids.size(); i++) {
      ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << queue.status();
      EXPECT_EQ(chain_.token().id, ids[i]);
      ASSERT_TRUE(queue.Push(chain_, 1));
    }
    EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
  }
}

// The driver has passed the first of these chains, where EnableKicks() wants a kick.
TEST_P(VirtqueueTest, AwaitsMoreThanTheRingHas) {
  for (const bool has_event_idx : {false, true}) {
    options_.has_event_idx = has_event_idx;
    Virtqueue queue = New();
    for (int i = 0; i < 2; i++) ring_.Add({{kData, 1, kWrite}});
    queue.DisableKicks();
    EXPECT_TRUE(queue.EnableKicks());
    EXPECT_FALSE(queue.AwaitMore()) << "none has come";
    if (is_packed()) {
      EXPECT_EQ(guest_.Get<uint16_t>(TestGuest::kUsed + 2), 0) << "RING_EVENT_FLAGS_ENABLE";
    } else if (has_event_idx) {
      EXPECT_EQ(guest_.Get<uint16_t>(TestGuest::kUsed + 4 + 8 * kSize), ring_.next());
    } else {
      EXPECT_EQ(guest_.Get<uint16_t>(TestGuest::kUsed), 0);
    }
  }
}

TEST_P(VirtqueueTest, AChainMayFillALargeRing) {
  constexpr uint16_t kLong = 4096;
  options_.size = kLong;
  TestRing ring(guest_, kLong, is_packed());
  Virtqueue queue = New();
  std::vector<Piece> pieces;
  for (uint16_t i = 0; i < kLong; i++) {
    pieces.push_back({kData + 2 * i, 1, kWrite});
    const bool is_last = i + 1 == kLong;
    ring.PutTable(i, {kData + 2 * i, 1, static_cast<uint16_t>(kWrite | (is_last ? 0 : kNext))},
                  i + 1);
  }
  ring.Add(pieces);
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << queue.status();
  EXPECT_EQ(chain_.writable_size(), kLong);
  queue.Push(chain_, kLong);
  ASSERT_TRUE(ring.TakeUsed());
  ring.Add({{kTable, 16 * kLong, kIndirect}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << queue.status();
  EXPECT_EQ(chain_.writable_size(), kLong);
  ring.Add({{kTable, 16 * (kLong + 1), kIndirect}});
  ExpectBroken(queue, "not 1 to 4096");
}

constexpr uint16_t kLarge = 4096;

// Makes an indirect table of kLarge pieces.
void PutLargeTable(TestRing& ring) {
  for (uint16_t i = 0; i < kLarge; i++) {
    const uint16_t flags = i + 1 < kLarge ? kNext : 0;
    ring.PutTable(i, {kData, 1, flags}, static_cast<uint16_t>(i + 1));
  }
}

// A driver lets one of a device's chains after the other have many pieces.
TEST_P(VirtqueueTest, AChainKeepsNoRoomForVeryManyPieces) {
  options_.size = kLarge;
  TestRing ring(guest_, kLarge, is_packed());
  PutLargeTable(ring);
  Virtqueue queue = New();
  const auto pop = [&](const std::vector<Piece>& pieces, Chain& chain) {
    ring.Add(pieces);
    ASSERT_EQ(queue.Pop(chain), Popped::kChain) << queue.status();
    EXPECT_TRUE(queue.Push(chain, 0));
  };
  const auto used_bytes = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  // The virtqueue itself keeps a copy of the table.
  Chain other;
  pop({{kTable, 16 * kLarge, kIndirect}}, other);
  const size_t before = used_bytes();
  for (const Piece& piece : {Piece{kTable, 16 * kLarge, kIndirect}, Piece{kData, 1, 0}}) {
    pop({piece}, chain_);
  }
  EXPECT_LT(used_bytes(), before + kLarge * sizeof(GuestSpan));
}

TEST_P(VirtqueueTest, RefusesMoreInFlightThanItHas) {
  Virtqueue queue = New();
  std::vector<Chain> chains(kSize + 1);
  for (size_t i = 0; i < kSize; i++) {
    ring_.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chains[i]), Popped::kChain);
  }
  ring_.Add({{kData, 1, kWrite}});
  ExpectBroken(queue, "");
}

// All chains name the same large indirect table.
TEST_P(VirtqueueTest, BoundsThePiecesInFlight) {
  options_.size = kLarge;
  TestRing ring(guest_, kLarge, is_packed());
  PutLargeTable(ring);
  constexpr size_t kMost = Virtqueue::kMaxSpansInFlight / kLarge;
  for (size_t i = 0; i < kMost + 2; i++) ring.Add({{kTable, 16 * kLarge, kIndirect}});
  Virtqueue queue = New();
  for (size_t i = 0; i < kMost; i++) ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << i;
  EXPECT_TRUE(queue.Push(chain_, 0));
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  const uint32_t base = queue.base();
  ExpectBroken(queue, "pieces of memory in flight");
  EXPECT_EQ(queue.base(), base) << "the next start must bring this chain";
}

TEST_P(VirtqueueTest, NotifiesAsTheDriverAsks) {
  Virtqueue queue = New();
  int calls = 0;
  queue.set_call([&calls] { calls++; });
  queue.Notify();
  EXPECT_EQ(calls, 0) << "nothing was pushed";
  const auto push = [&] {
    ring_.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
    queue.Push(chain_, 1);
    ASSERT_TRUE(ring_.TakeUsed());
    queue.Notify();
  };
  push();
  EXPECT_EQ(calls, 1);
  // VRING_AVAIL_F_NO_INTERRUPT; RING_EVENT_FLAGS_DISABLE.
  guest_.Put<uint16_t>(TestGuest::kAvailable + (is_packed() ? 2 : 0), 1);
  push();
  EXPECT_EQ(calls, 1);
}

TEST_P(VirtqueueTest, NotifiesAtTheEvent) {
  options_.has_event_idx = true;
  Virtqueue queue = New();
  int calls = 0;
  queue.set_call([&calls] { calls++; });
  std::vector<int> calls_after;
  // The driver wants a call after the third chain and, in the next lap, after the tenth.
  for (uint16_t i = 0; i < 11; i++) {
    const uint16_t wanted = i <= 2 ? 2 : 9;
    if (is_packed()) {
      guest_.Put<uint16_t>(TestGuest::kAvailable, wanted == 2 ? 2 | 0x8000 : 1);
      guest_.Put<uint16_t>(TestGuest::kAvailable + 2, 2);
    } else {
      guest_.Put<uint16_t>(TestGuest::kAvailable + 4 + uint64_t{2} * kSize, wanted);
    }
    ring_.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
    queue.Push(chain_, 1);
    ASSERT_TRUE(ring_.TakeUsed());
    queue.Notify();
    calls_after.push_back(calls);
  }
  // The first chain always gets a call.
  EXPECT_THAT(calls_after, testing::ElementsAre(1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3));
}

TEST_P(VirtqueueTest, SuppressesKicks) {
  Virtqueue queue = New();
  const uint64_t flags = TestGuest::kUsed + (is_packed() ? 2 : 0);
  queue.DisableKicks();
  EXPECT_EQ(guest_.Get<uint16_t>(flags), 1);
  ring_.Add({{kData, 1, kWrite}});
  EXPECT_TRUE(queue.EnableKicks()) << "a chain came while kicks were off";
  EXPECT_EQ(guest_.Get<uint16_t>(flags), 0);
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_FALSE(queue.EnableKicks());
}

TEST_P(VirtqueueTest, BaseGoesOn) {
  uint32_t base = 0;
  {
    Virtqueue queue = New();
    for (int i = 0; i < 11; i++) {
      ring_.Add({{kData, 1, kWrite}});
      ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
      queue.Push(chain_, 1);
      ASSERT_TRUE(ring_.TakeUsed());
    }
    base = queue.base();
    // The second lap.
    EXPECT_EQ(base, is_packed() ? 0x00030003U : 11U);
  }
  auto queue = Virtqueue::Create(memory_, options_, RingMemory(), base);
  ASSERT_TRUE(queue.ok());
  EXPECT_EQ(queue->Pop(chain_), Popped::kNothing);
  ring_.Add({{kData, 1, kWrite}});
  EXPECT_EQ(queue->Pop(chain_), Popped::kChain);
}

TEST_P(VirtqueueTest, RefusesBadOptions) {
  const auto create = [this](uint32_t size, const Virtqueue::Memory& ring, uint32_t base) {
    options_.size = size;
    return Virtqueue::Create(memory_, options_, ring, base).status();
  };
  const Virtqueue::Memory ring = RingMemory();
  EXPECT_EQ(GetErrno(create(0, ring, FirstBase())), EINVAL);
  EXPECT_EQ(GetErrno(create(32769, ring, FirstBase())), EINVAL);
  EXPECT_EQ(create(6, ring, FirstBase()).ok(), is_packed());
  Virtqueue::Memory small = ring;
  small.descriptors = small.descriptors.subspan(0, 16 * kSize - 1);
  EXPECT_EQ(GetErrno(create(kSize, small, FirstBase())), EINVAL);
  Virtqueue::Memory crooked = ring;
  crooked.used.remove_prefix(1);
  EXPECT_EQ(GetErrno(create(kSize, crooked, FirstBase())), EINVAL);
  if (is_packed()) {
    EXPECT_EQ(GetErrno(create(kSize, ring, kSize)), EINVAL);
  }
}

TEST_P(VirtqueueTest, MarksItsWrites) {
  const UniqueFd file = NewFile(4096);
  auto log = DirtyMarks::Create({.mmap_size = 4096, .mmap_offset = 0}, file.get(), 0x200000);
  ASSERT_TRUE(log.ok());
  Virtqueue queue = New();
  queue.set_log(&*log, /*log_ring=*/true, 0x500000);
  ring_.Add({{kData, 1, 0}, {kData + 0x1ffe, 4, kWrite}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  queue.Push(chain_, 3);
  std::vector<uint8_t> bits(4096);
  ASSERT_EQ(pread(file.get(), bits.data(), bits.size(), 0), 4096);
  std::set<size_t> pages;
  for (size_t i = 0; i < bits.size() * 8; i++) {
    if ((bits[i / 8] >> (i % 8) & 1) != 0) pages.insert(i);
  }
  EXPECT_THAT(pages, testing::ElementsAre(0x181, 0x182, 0x500));
}

TEST_P(VirtqueueTest, WaitsForTheIotlb) {
  Virtqueue queue = New();
  Iotlb iotlb;
  memory_.set_iotlb(&iotlb, /*gives_guest=*/false);
  ring_.Add({{0x5000, 0x1001, kWrite}});
  EXPECT_EQ(queue.Pop(chain_), Popped::kMiss);
  ASSERT_TRUE(queue.miss());
  EXPECT_EQ(queue.miss()->address, 0x5000U);
  EXPECT_EQ(queue.miss()->access, GuestAccess::kWrite);
  IotlbMessage message = {.iova = 0x5000,
                          .size = 0x1000,
                          .user_address = TestGuest::kUser + TestGuest::kData,
                          .permissions = kIotlbRead,
                          .type = IotlbType::kUpdate,
                          .padding = {}};
  ASSERT_TRUE(iotlb.Apply(message).ok());
  EXPECT_EQ(queue.Pop(chain_), Popped::kMiss) << "it may only be read";
  message.permissions = kIotlbRead | kIotlbWrite;
  ASSERT_TRUE(iotlb.Apply(message).ok());
  EXPECT_EQ(queue.Pop(chain_), Popped::kMiss);
  EXPECT_EQ(queue.miss()->address, 0x6000U);
  message.iova = 0x6000;
  ASSERT_TRUE(iotlb.Apply(message).ok());
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_FALSE(queue.miss());
  EXPECT_EQ(chain_.writable_size(), 0x1001U);
}

TEST_P(VirtqueueTest, KeepsPushesWhileTheRingIsAway) {
  Virtqueue queue = New();
  ring_.Add({{kData, 1, kWrite}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  ASSERT_TRUE(queue.Move(std::nullopt).ok());
  queue.Push(chain_, 1);
  EXPECT_FALSE(ring_.TakeUsed());
  EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
  ASSERT_TRUE(queue.Move(RingMemory()).ok());
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_P(VirtqueueTest, BringsChainsAgainWhosePushesStillWaited) {
  auto buffer = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(buffer.ok());
  const uint16_t id = ring_.Add({{kData, 1, kWrite}});
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
    ASSERT_TRUE(queue.Move(std::nullopt).ok());
    queue.Push(chain_, 1);
  }
  Virtqueue queue = New();
  ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_EQ(chain_.token().id, id);
}

// A back-end dies; the next one does its chains in flight, in their old order.
TEST_P(VirtqueueTest, BringsOldChainsInFlightAgain) {
  auto buffer = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  std::vector<uint16_t> ids;
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
    std::vector<Chain> chains(5);
    for (uint64_t i = 0; i < 5; i++) {
      ids.push_back(ring_.Add({{kData + i, 1, kWrite}}));
      ASSERT_EQ(queue.Pop(chains[i]), Popped::kChain);
    }
    queue.Push(chains[3], 1);
    queue.Push(chains[0], 1);
  }
  ids.push_back(ring_.Add({{kData + 5, 1, kWrite}}));
  // The front-end invents a base.
  Virtqueue queue = New();
  ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
  std::vector<Chain> chains(4);
  for (const size_t i : {0, 1, 2, 3}) {
    ASSERT_EQ(queue.Pop(chains[i]), Popped::kChain) << i;
    const size_t was = std::vector<size_t>{1, 2, 4, 5}[i];
    EXPECT_EQ(chains[i].token().id, ids[was]);
    EXPECT_EQ(chains[i].writable()[0].data(), memory_.FromGuest(kData + was, 1).data());
  }
  EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
  for (const Chain& chain : chains) queue.Push(chain, 1);
  std::vector<uint32_t> used;
  while (const std::optional<Used> next = ring_.TakeUsed()) used.push_back(next->id);
  EXPECT_THAT(used, testing::ElementsAre(ids[3], ids[0], ids[1], ids[2], ids[4], ids[5]));
}

// The driver gets the chains together, in their order, and each with its part of the bytes.
TEST_P(VirtqueueTest, PushesChainsTogether) {
  auto buffer = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(buffer.ok());
  Virtqueue queue = New();
  ASSERT_TRUE(queue.TrackInflight(buffer->queue(0)).ok());
  std::vector<Chain> chains(3);
  // Some laps.
  for (int lap = 0; lap < 20; lap++) {
    std::vector<uint16_t> ids;
    for (Chain& chain : chains) {
      ids.push_back(ring_.Add({{kData, 10, kWrite}}));
      ASSERT_EQ(queue.Pop(chain), Popped::kChain);
    }
    ASSERT_TRUE(queue.PushAll(chains, 25));
    for (size_t i = 0; i < chains.size(); i++) {
      const std::optional<Used> used = ring_.TakeUsed();
      ASSERT_TRUE(used) << lap;
      EXPECT_EQ(used->id, ids[i]);
      EXPECT_EQ(used->written, i == 2 ? 5U : 10U);
    }
    EXPECT_FALSE(ring_.TakeUsed());
    EXPECT_EQ(queue.in_flight(), 0U);
    EXPECT_FALSE(queue.PushAll(chains, 25)) << "once";
    EXPECT_FALSE(ring_.TakeUsed());
  }
  // The next back-end has nothing to do again.
  Virtqueue next = New();
  ASSERT_TRUE(next.TrackInflight(buffer->queue(0)).ok());
  EXPECT_EQ(next.Pop(chain_), Popped::kNothing);
}

TEST_P(VirtqueueTest, PushesAllOrNothing) {
  Virtqueue queue = New();
  std::vector<Chain> chains(2);
  for (Chain& chain : chains) {
    ring_.Add({{kData, 10, kWrite}});
    ASSERT_EQ(queue.Pop(chain), Popped::kChain);
  }
  ASSERT_TRUE(queue.Push(chains[1], 1));
  ASSERT_TRUE(ring_.TakeUsed());
  EXPECT_FALSE(queue.PushAll(chains, 20));
  EXPECT_FALSE(ring_.TakeUsed());
  EXPECT_EQ(queue.in_flight(), 1U);
}

// A back-end dies after it has updated the ring, and before it has noted that.
TEST_P(VirtqueueTest, DoesNothingTwiceAfterACrashInsidePush) {
  auto buffer = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(buffer.ok());
  const GuestSpan region = buffer->queue(0);
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(region).ok());
    ring_.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
    const std::vector<uint8_t> before(region.begin(), region.end());
    queue.Push(chain_, 1);
    const std::vector<uint8_t> after(region.begin(), region.end());
    // Restore the old content, except the fields that are noted before the ring changes.
    std::copy(before.begin(), before.end(), region.begin());
    if (is_packed()) {
      // free_head, used_index, used_wrap, and the next of the entry.
      for (const size_t i : {12, 13, 16, 17, 20}) region[i] = after[i];
      for (const size_t i : {34, 35}) region[i] = after[i];
    } else {
      for (const size_t i : {12, 13}) region[i] = after[i];
    }
  }
  Virtqueue queue = New();
  ASSERT_TRUE(queue.TrackInflight(region).ok());
  EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
  ring_.Add({{kData + 1, 1, kWrite}});
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  EXPECT_EQ(chain_.writable()[0].data(), memory_.FromGuest(kData + 1, 1).data());
}

// CVE-2026-86565: the table has another size than the virtqueue.
TEST_P(VirtqueueTest, RefusesAnInflightRegionOfAnotherSize) {
  auto buffer = InflightBuffer::Create(1, kSize / 2, is_packed());
  ASSERT_TRUE(buffer.ok());
  Virtqueue queue = New();
  EXPECT_EQ(GetErrno(queue.TrackInflight(buffer->queue(0).subspan(0, 16))), EBADMSG);
  EXPECT_EQ(GetErrno(queue.TrackInflight({})), EBADMSG);
  auto right = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(queue.TrackInflight(right->queue(0)).ok());
  // The front-end can change the number of entries, too.
  for (const uint16_t entries : {uint16_t{kSize / 2}, uint16_t{0xffff}}) {
    std::memcpy(right->queue(0).data() + 10, &entries, sizeof(entries));
    Virtqueue next = New();
    EXPECT_EQ(GetErrno(next.TrackInflight(right->queue(0))), EBADMSG);
  }
}

// CVE-2021-3839, and random content.
TEST_P(VirtqueueTest, SurvivesAnyInflightRegion) {
  auto buffer = InflightBuffer::Create(1, kSize, is_packed());
  ASSERT_TRUE(buffer.ok());
  const GuestSpan region = buffer->queue(0);
  uint32_t random = 1;
  for (int round = 0; round < 2000; round++) {
    for (uint8_t& byte : region) {
      random = random * 1664525 + 1013904223;
      byte = static_cast<uint8_t>(random >> 24) % (round % 2 == 0 ? 10 : 256);
    }
    const uint16_t version[] = {1, kSize};
    std::memcpy(region.data() + 8, version, sizeof(version));
    Virtqueue queue = New();
    if (!queue.TrackInflight(region).ok()) continue;
    for (int i = 0; i < 20; i++) {
      if (queue.Pop(chain_) != Popped::kChain) break;
      queue.Push(chain_, 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rings, VirtqueueTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Packed" : "Split"; });

class SplitVirtqueueTest : public VirtqueueTest {};

// CVE-2026-86846.
TEST_P(SplitVirtqueueTest, RefusesAnAvailableIndexTooFarAhead) {
  Virtqueue queue = New();
  ring_.SetAvailableIndex(kSize + 1);
  ExpectBroken(queue, "available index 9");
}

TEST_P(SplitVirtqueueTest, RefusesIndicesBeyondTheTable) {
  {
    Virtqueue queue = New();
    guest_.Put<uint16_t>(TestGuest::kAvailable + 4, kSize);
    ring_.SetAvailableIndex(1);
    ExpectBroken(queue, "descriptor 8 of 8");
  }
  Virtqueue queue = New();
  guest_.Put<uint16_t>(TestGuest::kAvailable + 4, 0);
  ring_.PutSplit(0, {kData, 1, kNext}, 0xffff);
  ExpectBroken(queue, "descriptor 65535 of 8");
}

TEST_P(SplitVirtqueueTest, RefusesLoops) {
  {
    Virtqueue queue = New();
    ring_.PutSplit(0, {kData, 1, kNext}, 0);
    ring_.SetAvailableIndex(1);
    ExpectBroken(queue, "a loop of descriptors");
  }
  Virtqueue queue = New();
  ring_.PutTable(0, {kData, 1, kNext}, 0);
  ring_.PutSplit(0, {kTable, 16, kIndirect}, 0);
  ExpectBroken(queue, "a loop in an indirect table");
}

// With chains of the largest length, such a driver could use up a device's memory.
TEST_P(SplitVirtqueueTest, RefusesChainsThatShareDescriptors) {
  Virtqueue queue = New();
  for (uint16_t i = 0; i < kSize; i++) {
    const bool is_last = i + 1 == kSize;
    ring_.PutSplit(i, {kData, 1, static_cast<uint16_t>(is_last ? 0 : kNext)}, i + 1);
    guest_.Put<uint16_t>(TestGuest::kAvailable + 4 + 2 * i, 0);
  }
  ring_.SetAvailableIndex(2);
  ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
  Chain other;
  EXPECT_EQ(queue.Pop(other), Popped::kBroken);
}

TEST_P(SplitVirtqueueTest, RefusesAChainBehindAnIndirectTable) {
  Virtqueue queue = New();
  ring_.Add({{kTable, 16, kIndirect}, {kData, 1, 0}});
  ExpectBroken(queue, "goes on behind");
}

INSTANTIATE_TEST_SUITE_P(Rings, SplitVirtqueueTest, testing::Values(false));

class PackedVirtqueueTest : public VirtqueueTest {};

TEST_P(PackedVirtqueueTest, RefusesLoops) {
  Virtqueue queue = New();
  for (uint64_t i = 0; i < kSize; i++) {
    guest_.Put<uint16_t>(TestGuest::kDescriptors + 16 * i + 14, kNext | 1 << 7);
  }
  ExpectBroken(queue, "a loop of descriptors");
}

// DPDK sends the available position alone.
TEST_P(PackedVirtqueueTest, ABaseMayLeaveOutTheUsedPosition) {
  for (const uint32_t base : {0x00008000U, 0x80008000U}) {
    std::memset(guest_.at(TestGuest::kDescriptors), 0, size_t{16} * kSize);
    TestRing ring(guest_, kSize, /*is_packed=*/true);
    auto queue = Virtqueue::Create(memory_, options_, RingMemory(), base);
    ASSERT_TRUE(queue.ok());
    EXPECT_EQ(queue->base(), 0x80008000U);
    for (int i = 0; i < 2 * kSize; i++) {
      ring.Add({{kData, 1, kWrite}});
      ASSERT_EQ(queue->Pop(chain_), Popped::kChain);
      queue->Push(chain_, 1);
      ASSERT_TRUE(ring.TakeUsed()) << "the driver must see it";
    }
  }
  // Chains in flight: as the front-end says.
  for (const uint32_t base : {0x80008003U, 0x00040005U, 0x80060001U}) {
    EXPECT_EQ(Virtqueue::Create(memory_, options_, RingMemory(), base)->base(), base);
  }
  // As many as the ring has, or more.
  for (const uint32_t used : {0x0005U, 0x0002U, 0x8006U}) {
    EXPECT_EQ(Virtqueue::Create(memory_, options_, RingMemory(), 0x8005U | used << 16)->base(),
              0x80058005U);
  }
}

// Other back-ends let the free list end one entry too far. All entries are in flight.
TEST_P(PackedVirtqueueTest, TakesOverARegionWithoutAFreeEntry) {
  auto buffer = InflightBuffer::Create(1, kSize, /*is_packed=*/true);
  ASSERT_TRUE(buffer.ok());
  const GuestSpan region = buffer->queue(0);
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(region).ok());
    for (int i = 0; i < kSize; i++) {
      ring_.Add({{kData, 1, kWrite}});
      ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
    }
  }
  // free_head and old_free_head; the last entry's next.
  for (const size_t at : {size_t{12}, size_t{14}, size_t{32} * kSize + 2}) {
    std::memcpy(region.data() + at, &kSize, sizeof(kSize));
  }
  {
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(region).ok());
    for (int i = 0; i < kSize; i++) ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << i;
    EXPECT_EQ(queue.Pop(chain_), Popped::kNothing);
  }
  // If an entry is free, the free list must have it.
  region[32] = 0;
  Virtqueue queue = New();
  EXPECT_EQ(GetErrno(queue.TrackInflight(region)), EBADMSG);
}

// As DoesNothingTwiceAfterACrashInsidePush, while all entries are in flight: the free list begins
// and ends at the same entry, before the push and after it.
TEST_P(PackedVirtqueueTest, DoesNothingTwiceAfterACrashInAPushOfAFullRing) {
  constexpr size_t kChains = kSize / 2;
  for (size_t nr_pushed = 1; nr_pushed <= kChains; nr_pushed++) {
    std::memset(guest_.at(TestGuest::kDescriptors), 0, size_t{16} * kSize);
    TestRing ring(guest_, kSize, /*is_packed=*/true);
    auto buffer = InflightBuffer::Create(1, kSize, /*is_packed=*/true);
    ASSERT_TRUE(buffer.ok());
    const GuestSpan region = buffer->queue(0);
    std::vector<uint32_t> ids;
    {
      Virtqueue queue = New();
      ASSERT_TRUE(queue.TrackInflight(region).ok());
      std::vector<Chain> chains(kChains);
      for (Chain& chain : chains) {
        ids.push_back(ring.Add({{kData, 1, 0}, {kData + 1, 1, kWrite}}));
        ASSERT_EQ(queue.Pop(chain), Popped::kChain);
      }
      const std::vector<uint8_t> before(region.begin(), region.end());
      ASSERT_TRUE(queue.PushAll(absl::MakeConstSpan(chains).first(nr_pushed), nr_pushed));
      const std::vector<uint8_t> after(region.begin(), region.end());
      // Restore the old content, except the fields that are noted before the ring changes:
      // free_head, used_index, used_wrap, and the next of each entry.
      std::copy(before.begin(), before.end(), region.begin());
      for (const size_t i : {12, 13, 16, 17, 20}) region[i] = after[i];
      for (size_t i = 0; i < kSize; i++) {
        region[32 + 32 * i + 2] = after[32 + 32 * i + 2];
        region[32 + 32 * i + 3] = after[32 + 32 * i + 3];
      }
    }
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(region).ok()) << nr_pushed;
    while (queue.Pop(chain_) == Popped::kChain) queue.Push(chain_, 1);
    EXPECT_TRUE(queue.status().ok()) << queue.status();
    std::vector<uint32_t> used;
    while (const std::optional<Used> next = ring.TakeUsed()) used.push_back(next->id);
    EXPECT_EQ(used, ids) << nr_pushed << " pushed";
    // No entry is lost.
    for (size_t i = 0; i < kChains; i++) {
      ring.Add({{kData, 1, 0}, {kData + 1, 1, kWrite}});
      EXPECT_EQ(queue.Pop(chain_), Popped::kChain) << i;
    }
  }
}

// A back-end dies while it notes that a push at the end of a lap is done: the index, or the wrap
// counter as other back-ends do, is still the old one.
TEST_P(PackedVirtqueueTest, ACrashMayPartAnIndexFromItsWrapCounter) {
  for (const std::vector<size_t>& old_bytes : {std::vector<size_t>{18, 19}, {21}}) {
    std::memset(guest_.at(TestGuest::kDescriptors), 0, size_t{16} * kSize);
    TestRing ring(guest_, kSize, /*is_packed=*/true);
    auto buffer = InflightBuffer::Create(1, kSize, /*is_packed=*/true);
    ASSERT_TRUE(buffer.ok());
    const GuestSpan region = buffer->queue(0);
    {
      Virtqueue queue = New();
      ASSERT_TRUE(queue.TrackInflight(region).ok());
      for (int i = 0; i < kSize / 2; i++) {
        ring.Add({{kData, 1, 0}, {kData + 1, 1, kWrite}});
        ASSERT_EQ(queue.Pop(chain_), Popped::kChain);
        const std::vector<uint8_t> before(region.begin(), region.end());
        ASSERT_TRUE(queue.Push(chain_, 1));
        ASSERT_TRUE(ring.TakeUsed());
        if (i + 1 < kSize / 2) continue;
        for (const size_t at : old_bytes) region[at] = before[at];
      }
    }
    Virtqueue queue = New();
    ASSERT_TRUE(queue.TrackInflight(region).ok());
    EXPECT_EQ(queue.Pop(chain_), Popped::kNothing) << old_bytes.front();
    const uint16_t id = ring.Add({{kData, 1, kWrite}});
    ASSERT_EQ(queue.Pop(chain_), Popped::kChain) << old_bytes.front();
    queue.Push(chain_, 1);
    const std::optional<Used> used = ring.TakeUsed();
    ASSERT_TRUE(used) << old_bytes.front();
    EXPECT_EQ(used->id, id);
  }
}

INSTANTIATE_TEST_SUITE_P(Rings, PackedVirtqueueTest, testing::Values(true));

}  // namespace
}  // namespace gmem::vhost
