// SPDX-License-Identifier: MIT OR Apache-2.0
#include "events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

namespace minivmm {
namespace {

using gmem::ByteSize;
using gmem::Event;
using gmem::EventType;
using gmem::GuestAddress;
using gmem::KiB;
using testing::ElementsAre;

Event Lend(uint64_t address, ByteSize size = KiB(4)) {
  return {
      .type = EventType::kLend, .vm_id = 1, .guest_address = GuestAddress(address), .size = size};
}

TEST(EventsTest, OneOfEach) {
  const std::vector<Event> events = {
      {.type = EventType::kVmCreated, .vm_id = 1},
      {.type = EventType::kMap,
       .vm_id = 1,
       .guest_address = GuestAddress(0x10000),
       .size = KiB(8),
       .access = gmem::EventAccess{.mode = gmem::MapMode::kShare, .read = true}},
      Lend(0x10000),
      {.type = EventType::kReclaim,
       .vm_id = 1,
       .guest_address = GuestAddress(0x10000),
       .size = KiB(4),
       .cause = gmem::ReclaimCause::kHost},
      {.type = EventType::kRefused,
       .vm_id = 1,
       .guest_address = GuestAddress(0x20000),
       .size = KiB(4),
       .access = gmem::EventAccess{.write = true},
       .reason = gmem::FaultReason::kUnbound,
       .count = 1},
      {.type = EventType::kReclaimRefused,
       .vm_id = 1,
       .guest_address = GuestAddress(0x10000),
       .size = KiB(4),
       .cause = gmem::ReclaimCause::kHost,
       .error = EACCES,
       .count = 1},
      {.type = EventType::kOverrun, .lost = 7},
  };
  EXPECT_THAT(
      Describe(events),
      ElementsAre("vm-created", "map (share) 0x10000..0x11fff: 2 pages", "lend 0x10000..0x10fff",
                  "reclaim (host) 0x10000..0x10fff", "refused (write, unbound) 0x20000..0x20fff",
                  "reclaim-refused (host, Permission denied) 0x10000..0x10fff", "overrun"));
}

TEST(EventsTest, EventsOfOneKindShareALine) {
  EXPECT_THAT(Describe({}), ElementsAre());
  EXPECT_THAT(Describe(std::vector<Event>{Lend(0x4000), Lend(0x3000), Lend(0x1000, KiB(8))}),
              ElementsAre("lend 0x1000..0x4fff: 4 pages"));
  EXPECT_THAT(Describe(std::vector<Event>{Lend(0x9000), Lend(0x1000)}),
              ElementsAre("lend 0x1000..0x9fff: 2 pages"));
}

TEST(EventsTest, OrderStays) {
  const Event unmap = {
      .type = EventType::kUnmap, .vm_id = 1, .guest_address = GuestAddress(0), .size = KiB(4)};
  EXPECT_THAT(Describe(std::vector<Event>{Lend(0x1000), unmap, Lend(0x2000)}),
              ElementsAre("lend 0x1000..0x1fff", "unmap 0x0..0xfff", "lend 0x2000..0x2fff"));
}

}  // namespace
}  // namespace minivmm
