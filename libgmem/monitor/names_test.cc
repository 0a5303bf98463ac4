// SPDX-License-Identifier: MIT OR Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>

#include "gmem/monitor.h"
#include "gmem/vm.h"

namespace gmem {
namespace {

// Returns the names of the numbers from @p first to @p last. Fails if one has no name, or if the
// number after @p last has one.
template <typename Enum>
std::set<std::string> NamesOf(Enum first, Enum last) {
  std::set<std::string> names;
  auto number = static_cast<uint32_t>(first);
  for (; number <= static_cast<uint32_t>(last); number++) {
    const std::string name(ToString(static_cast<Enum>(number)));
    EXPECT_NE(name, "unknown") << number;
    EXPECT_TRUE(names.insert(name).second) << name << " twice";
  }
  EXPECT_EQ(ToString(static_cast<Enum>(number)), "unknown");
  return names;
}

TEST(MonitorNamesTest, EachNumberHasOneOfItsOwn) {
  EXPECT_EQ(NamesOf(EventType::kGap, EventType::kChange).count("reclaim-refused"), 1U);
  EXPECT_EQ(NamesOf(ReclaimCause::kHost, ReclaimCause::kChange).count("teardown"), 1U);
  EXPECT_EQ(NamesOf(FaultReason::kUnbound, FaultReason::kInterrupted).count("pinned"), 1U);
  EXPECT_EQ(NamesOf(ReclaimPolicy::kAllow, ReclaimPolicy::kDeny).count("scrub"), 1U);
  EXPECT_EQ(NamesOf(WindowKind::kNone, WindowKind::kLive).count("paged"), 1U);
}

}  // namespace
}  // namespace gmem
