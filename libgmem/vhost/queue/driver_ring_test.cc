// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/driver_ring.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using doubles::TestGuest;
using testing::HasSubstr;

constexpr uint16_t kSize = 8;

// A ring at the begin of the guest's memory. The device is the library's own, or raw writes.
class DriverRingTest : public testing::Test {
 protected:
  DriverRingTest() {
    EXPECT_TRUE(map_.Add(guest_.region(), guest_.fd()).ok());
    Start();
  }

  void Start() {
    auto ring =
        DriverRing::Create(memory_, memory_.bytes.first(DriverRing::MemorySize(kSize)), kSize);
    EXPECT_TRUE(ring.ok()) << ring.status();
    ring_.emplace(*std::move(ring));
    const VringAddress address = ring_->address(0);
    used_ = address.used - TestGuest::kUser;
    const auto part = [this](uint64_t user_address) {
      return map_.FromGuest(user_address - TestGuest::kUser + TestGuest::kGuest, 256);
    };
    auto queue = Virtqueue::Create(map_, {.index = 0, .size = kSize},
                                   {.descriptors = part(address.descriptor),
                                    .used = part(address.used),
                                    .available = part(address.available)},
                                   0);
    EXPECT_TRUE(queue.ok()) << queue.status();
    device_.emplace(*std::move(queue));
    device_->set_call([this] { eventfd_write(ring_->call_fd(), 1); });
  }

  // Bytes for a buffer.
  absl::Span<uint8_t> Bytes(size_t size) const {
    return memory_.bytes.subspan(TestGuest::kData, size);
  }
  uint16_t Add(const std::vector<DriverRing::Buffer>& chain) {
    const auto head = ring_->Add(chain);
    EXPECT_TRUE(head.ok()) << head.status();
    return head.value_or(0xffff);
  }
  uint16_t AddWritable(size_t size) { return Add({{.bytes = Bytes(size), .is_writable = true}}); }
  // Writes a used entry, as a device that breaks the rules does.
  void PutUsed(uint16_t slot, uint32_t id, uint32_t written) {
    guest_.Put(used_ + 4 + 8 * slot, id);
    guest_.Put(used_ + 8 + 8 * slot, written);
  }
  void PutUsedIndex(uint16_t index) { guest_.Put(used_ + 2, index); }
  void ExpectBroken(const std::string& why) {
    const auto used = ring_->Next();
    EXPECT_EQ(GetErrno(used.status()), EBADMSG);
    EXPECT_THAT(std::string(used.status().message()), HasSubstr(why));
    // The ring stays broken.
    EXPECT_EQ(ring_->status(), used.status());
    EXPECT_EQ(ring_->Next().status(), used.status());
    EXPECT_EQ(ring_->Add({{.bytes = Bytes(1)}}).status(), used.status());
    EXPECT_EQ(ring_->Wait(absl::InfiniteDuration()).status(), used.status());
  }
  bool IsKicked() const {
    pollfd kick = {.fd = ring_->kick_fd(), .events = POLLIN, .revents = 0};
    return poll(&kick, 1, 0) == 1;
  }

  TestGuest guest_;
  GuestMemoryMap map_;
  const DriverRing::Memory memory_ = {.bytes = {guest_.at(0), TestGuest::kSize},
                                      .guest_address = TestGuest::kGuest,
                                      .user_address = TestGuest::kUser};
  std::optional<DriverRing> ring_;
  std::optional<Virtqueue> device_;
  // Where the used part is in the memory.
  uint64_t used_ = 0;
  Chain chain_;
};

// Some laps, with chains of different lengths that come back in another order.
TEST_F(DriverRingTest, GivesChainsAndGetsThemBack) {
  for (uint32_t lap = 0; lap < 70000; lap++) {
    std::memcpy(Bytes(4).data(), &lap, sizeof(lap));
    const uint16_t first =
        Add({{.bytes = Bytes(2)}, {.bytes = memory_.bytes.subspan(TestGuest::kData + 2, 2)}});
    const uint16_t second = AddWritable(lap % 100);
    EXPECT_EQ(ring_->in_flight(), 2U);
    std::array<Chain, 2> chains;
    for (Chain& chain : chains) ASSERT_EQ(device_->Pop(chain), Popped::kChain);
    uint32_t value = 0;
    ASSERT_TRUE(chains[0].ReadStruct(0, value));
    ASSERT_EQ(value, lap);
    ASSERT_EQ(chains[1].writable_size(), lap % 100);
    ASSERT_EQ(*ring_->Next(), std::nullopt);
    device_->Push(chains[1], lap % 10);
    device_->Push(chains[0], 0);
    for (const uint16_t head : {second, first}) {
      const auto used = ring_->Next();
      ASSERT_TRUE(used.ok() && *used) << used.status();
      EXPECT_EQ((*used)->head, head);
      ASSERT_EQ((*used)->written, head == second ? std::min(lap % 10, lap % 100) : 0);
    }
  }
  EXPECT_EQ(ring_->in_flight(), 0U);
}

TEST_F(DriverRingTest, RefusesBadRings) {
  for (const uint32_t size : {0U, 3U, 65536U}) {
    EXPECT_EQ(GetErrno(DriverRing::Create(memory_, memory_.bytes, size).status()), EINVAL);
  }
  std::vector<uint8_t> elsewhere(0x10000);
  const size_t need = DriverRing::MemorySize(kSize);
  for (const auto bytes : {memory_.bytes.subspan(1), memory_.bytes.first(need - 1),
                           memory_.bytes.last(16), absl::MakeSpan(elsewhere)}) {
    EXPECT_EQ(GetErrno(DriverRing::Create(memory_, bytes, kSize).status()), EINVAL);
  }
  // The device sees the ring at an address of the memory table.
  DriverRing::Memory odd = memory_;
  odd.user_address += 8;
  EXPECT_EQ(GetErrno(DriverRing::Create(odd, memory_.bytes, kSize).status()), EINVAL);
  EXPECT_TRUE(DriverRing::Create(memory_, memory_.bytes, 1).ok());
}

TEST_F(DriverRingTest, RefusesBadChains) {
  EXPECT_EQ(GetErrno(ring_->Add({}).status()), EINVAL);
  EXPECT_EQ(
      GetErrno(
          ring_->Add({{.bytes = Bytes(1), .is_writable = true}, {.bytes = Bytes(1)}}).status()),
      EINVAL);
  std::array<uint8_t, 4> elsewhere = {};
  EXPECT_EQ(GetErrno(ring_->Add({{.bytes = absl::MakeSpan(elsewhere)}}).status()), EINVAL);
  const absl::Span<uint8_t> beyond(memory_.bytes.data() + memory_.bytes.size() - 1, 2);
  EXPECT_EQ(GetErrno(ring_->Add({{.bytes = beyond}}).status()), EINVAL);
  // Nothing is lost.
  for (int i = 0; i < kSize; i++) AddWritable(1);
  EXPECT_EQ(GetErrno(ring_->Add({{.bytes = Bytes(1)}}).status()), ENOSPC);
}

TEST_F(DriverRingTest, RefusesAUsedIndexThatJumps) {
  AddWritable(1);
  PutUsed(0, 0, 0);
  PutUsedIndex(2);
  ExpectBroken("used index 2 behind 0, with 1 chains in flight");
}

TEST_F(DriverRingTest, RefusesAUsedIndexThatGoesBack) {
  const uint16_t head = AddWritable(1);
  AddWritable(1);
  PutUsed(0, head, 0);
  PutUsedIndex(1);
  ASSERT_TRUE((*ring_->Next()).has_value());
  PutUsedIndex(0);
  ExpectBroken("used index 0 behind 1");
}

TEST_F(DriverRingTest, RefusesChainsThatTheDeviceDoesNotHave) {
  // Beyond the ring, and the second descriptor of the chain.
  for (const uint32_t id : {uint32_t{kSize}, std::numeric_limits<uint32_t>::max(), 1U}) {
    Start();
    ASSERT_EQ(Add({{.bytes = Bytes(1)}, {.bytes = Bytes(1)}}), 0);
    PutUsed(0, id, 0);
    PutUsedIndex(1);
    ExpectBroken(absl::StrCat("it returned chain ", id));
  }
  // One chain twice.
  Start();
  const uint16_t head = AddWritable(1);
  AddWritable(1);
  PutUsed(0, head, 0);
  PutUsed(1, head, 0);
  PutUsedIndex(2);
  ASSERT_TRUE((*ring_->Next()).has_value());
  ExpectBroken(absl::StrCat("it returned chain ", head));
}

TEST_F(DriverRingTest, ReportsNoMoreThanTheDeviceCouldWrite) {
  for (const uint32_t written : {11U, std::numeric_limits<uint32_t>::max()}) {
    Start();
    const uint16_t head = Add({{.bytes = Bytes(100)}, {.bytes = Bytes(10), .is_writable = true}});
    PutUsed(0, head, written);
    PutUsedIndex(1);
    const auto used = ring_->Next();
    ASSERT_TRUE(used.ok() && *used) << used.status();
    EXPECT_EQ((*used)->written, 10U);
  }
}

// The device writes to the parts that only the driver may write.
TEST_F(DriverRingTest, TrustsNothingInTheRing) {
  for (int lap = 0; lap < 20; lap++) {
    const uint16_t first = Add({{.bytes = Bytes(1)}, {.bytes = Bytes(1)}, {.bytes = Bytes(1)}});
    const uint16_t second = Add({{.bytes = Bytes(1)}, {.bytes = Bytes(1)}});
    std::memset(guest_.at(0), 0xff, used_);
    PutUsed(static_cast<uint16_t>(2 * lap % kSize), first, 0);
    PutUsed(static_cast<uint16_t>((2 * lap + 1) % kSize), second, 0);
    PutUsedIndex(static_cast<uint16_t>(2 * lap + 2));
    for (int i = 0; i < 2; i++) ASSERT_TRUE((*ring_->Next()).has_value());
    // All descriptors are free again, each once.
    EXPECT_EQ(ring_->in_flight(), 0U);
  }
  std::set<uint16_t> heads;
  for (int i = 0; i < kSize; i++) heads.insert(AddWritable(1));
  EXPECT_EQ(heads.size(), kSize);
}

TEST_F(DriverRingTest, SurvivesAnyRing) {
  uint32_t random = 1;
  const auto next = [&random] {
    random = random * 1664525 + 1013904223;
    return random >> 16;
  };
  for (int round = 0; round < 1000; round++) {
    Start();
    std::set<uint16_t> in_flight;
    for (int step = 0; step < 30; step++) {
      if (const auto head = ring_->Add({{.bytes = Bytes(1)}, {.bytes = Bytes(1)}}); head.ok()) {
        EXPECT_TRUE(in_flight.insert(*head).second) << *head;
      }
      // Anything in the driver's parts, and often something possible in the used part.
      *guest_.at(next() % used_) = static_cast<uint8_t>(next());
      PutUsed(static_cast<uint16_t>(next() % kSize), next() % (kSize + 1), next());
      if (next() % 4 == 0) PutUsedIndex(static_cast<uint16_t>(next() % (kSize / 2)));
      const auto used = ring_->Next();
      if (!used.ok()) break;
      if (*used) {
        EXPECT_EQ(in_flight.erase((*used)->head), 1U);
      }
      EXPECT_EQ(ring_->in_flight(), in_flight.size());
    }
  }
}

TEST_F(DriverRingTest, KicksAsTheDeviceAsks) {
  AddWritable(1);
  ring_->Kick();
  EXPECT_TRUE(IsKicked());
  eventfd_t kicks = 0;
  ASSERT_EQ(eventfd_read(ring_->kick_fd(), &kicks), 0);
  device_->DisableKicks();
  ring_->Kick();
  EXPECT_FALSE(IsKicked());
  device_->EnableKicks();
  ring_->Kick();
  EXPECT_TRUE(IsKicked());
}

// The device fills the counter, and makes both eventfds blocking.
TEST_F(DriverRingTest, WaitsForNoEventfd) {
  ASSERT_EQ(eventfd_write(ring_->kick_fd(), std::numeric_limits<uint64_t>::max() - 1), 0);
  for (const int fd : {ring_->kick_fd(), ring_->call_fd()}) {
    ASSERT_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
  }
  AddWritable(1);
  ring_->Kick();
  EXPECT_TRUE(IsKicked());
  EXPECT_EQ(GetErrno(ring_->Wait(absl::Milliseconds(5)).status()), ETIMEDOUT);
}

TEST_F(DriverRingTest, WaitsForAUsedChain) {
  EXPECT_EQ(GetErrno(ring_->Wait(absl::ZeroDuration()).status()), ETIMEDOUT);
  // A call without a used chain.
  ASSERT_EQ(eventfd_write(ring_->call_fd(), 1), 0);
  EXPECT_EQ(GetErrno(ring_->Wait(absl::Milliseconds(5)).status()), ETIMEDOUT);
  const uint16_t head = AddWritable(4);
  std::thread device([this] {
    ASSERT_EQ(device_->Pop(chain_), Popped::kChain);
    device_->Push(chain_, 3);
    device_->Notify();
  });
  const auto used = ring_->Wait(absl::InfiniteDuration());
  device.join();
  ASSERT_TRUE(used.ok()) << used.status();
  EXPECT_EQ(used->head, head);
  EXPECT_EQ(used->written, 3U);
}

// The addresses are those of the memory table.
TEST_F(DriverRingTest, NamesItsParts) {
  const VringAddress address = ring_->address(5);
  EXPECT_EQ(address.index, 5U);
  EXPECT_EQ(address.descriptor, TestGuest::kUser);
  EXPECT_EQ(address.available, TestGuest::kUser + 16 * kSize);
  EXPECT_LE(address.used + 4 + 8 * kSize - TestGuest::kUser, DriverRing::MemorySize(kSize));
  EXPECT_EQ(ring_->size(), kSize);
}

}  // namespace
}  // namespace gmem::vhost
