// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/queue/in_flight.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"

namespace gmem::vhost::virtqueue_internal {
namespace {

// A guest lets one chain after the other lie in many regions, each at another place.
TEST(InFlightTest, KeepsNoRoomForChainsInManyRegions) {
  InFlight in_flight(4);
  const auto region = std::make_shared<const GuestSpan>();
  InFlight::Holds holds(100, region);
  const Chain::Token many = in_flight.Add({}, holds);
  EXPECT_EQ(region.use_count(), 101);
  in_flight.Remove(many);
  EXPECT_EQ(region.use_count(), 1);
  // A new chain gets the same place, and leaves here what that place had.
  holds.assign(1, region);
  const Chain::Token few = in_flight.Add({}, holds);
  EXPECT_LT(holds.capacity(), 100U);
  in_flight.Remove(few);
  holds.clear();
  in_flight.Add({}, holds);
  EXPECT_GE(holds.capacity(), 1U) << "the usual chain allocates nothing";
}

TEST(InFlightTest, AChainThatIsPoppedAgainCountsAsNew) {
  InFlight in_flight(4);
  InFlight::Holds holds;
  const Chain::Token first = in_flight.Add({}, holds);
  in_flight.Add({}, holds);
  const uint64_t pop = in_flight.last_pop();
  in_flight.RemoveLast();
  const Chain::Token again = in_flight.Add({}, holds);
  in_flight.RemoveSince(pop);
  EXPECT_NE(in_flight.Find(first), nullptr);
  EXPECT_EQ(in_flight.Find(again), nullptr);
}

}  // namespace
}  // namespace gmem::vhost::virtqueue_internal
