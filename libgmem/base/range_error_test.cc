// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/range_error.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

#include "gmem/types.h"

namespace gmem::internal {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

RangeRules Rules() {
  return {.start_name = "offset",
          .page_size = MiB(2),
          .page_owner = "guestmem",
          .limit = MiB(8).value(),
          .limit_name = "the 8 MiB of this guestmem"};
}

TEST(RangeErrorTest, NothingWrong) {
  EXPECT_EQ(FindRangeError(Rules(), 0, MiB(8)), "");
  EXPECT_EQ(FindRangeError(Rules(), MiB(6).value(), MiB(2)), "");
}

TEST(RangeErrorTest, EachRule) {
  EXPECT_EQ(FindRangeError(Rules(), 0, ByteSize(0)), "size is 0: ask for at least one page");
  EXPECT_EQ(FindRangeError(Rules(), 0x1000, MiB(2)),
            "offset 0x1000 is not a multiple of the 2 MiB page size of this guestmem");
  EXPECT_EQ(FindRangeError(Rules(), 0, KiB(4)),
            "size 0x1000 is not a multiple of the 2 MiB page size of this guestmem");
  EXPECT_EQ(FindRangeError(Rules(), MiB(8).value(), MiB(2)),
            "offset 0x800000 + size 0x200000 is beyond the 8 MiB of this guestmem");
  EXPECT_EQ(FindRangeError(Rules(), kMax - MiB(2).value() + 1, MiB(4)),
            "offset 0xffffffffffe00000 + size 0x400000 doesn't fit 64 bits");
}

TEST(RangeErrorTest, WithoutALimit) {
  RangeRules rules = Rules();
  rules.limit = 0;
  EXPECT_EQ(FindRangeError(rules, kMax - MiB(2).value() + 1, MiB(2)), "");
}

}  // namespace
}  // namespace gmem::internal
