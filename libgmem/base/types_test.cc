// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/types.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <sstream>

namespace gmem {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(TypesTest, SumThatFits) {
  EXPECT_EQ(CheckedAdd(GuestAddress(kMax - 1), ByteSize(1)), GuestAddress(kMax));
  EXPECT_EQ(CheckedAdd(ByteSize(1), ByteSize(2)), ByteSize(3));
}

TEST(TypesTest, SumThatWraps) {
  EXPECT_EQ(CheckedAdd(GuestAddress(kMax), ByteSize(1)), std::nullopt);
  EXPECT_EQ(CheckedAdd(ByteOffset(1), ByteSize(kMax)), std::nullopt);
}

TEST(TypesTest, Alignment) {
  EXPECT_TRUE(IsAligned(GuestAddress(0), KiB(4)));
  EXPECT_TRUE(IsAligned(GuestAddress(0x201000), KiB(4)));
  EXPECT_FALSE(IsAligned(GuestAddress(0x201000), MiB(2)));
}

TEST(TypesTest, RangeContains) {
  constexpr GuestRange kRange = {GuestAddress(0x1000), KiB(8)};
  EXPECT_TRUE(kRange.Contains(kRange));
  EXPECT_TRUE(kRange.Contains({GuestAddress(0x2000), KiB(4)}));
  EXPECT_FALSE(kRange.Contains({GuestAddress(0x2000), KiB(8)}));
  EXPECT_FALSE(kRange.Contains({GuestAddress(0), KiB(8)}));
}

TEST(TypesTest, EmptyRangeOverlapsNothing) {
  constexpr GuestRange kRange = {GuestAddress(0), KiB(8)};
  constexpr GuestRange kEmpty = {GuestAddress(0x1000), ByteSize(0)};
  EXPECT_FALSE(kEmpty.Overlaps(kRange));
  EXPECT_FALSE(kRange.Overlaps(kEmpty));
}

TEST(TypesTest, RangeThatWrapsContainsAndOverlapsNothing) {
  constexpr GuestRange kWrapping = {GuestAddress(0x2000), ByteSize(kMax - 0x1000)};
  constexpr GuestRange kRange = {GuestAddress(0), GiB(1)};
  EXPECT_FALSE(kWrapping.IsValid());
  EXPECT_FALSE(kRange.Contains(kWrapping));
  EXPECT_FALSE(kWrapping.Contains(kRange));
  EXPECT_FALSE(kWrapping.Overlaps(kRange));
  EXPECT_FALSE(kRange.Overlaps(kWrapping));
}

TEST(TypesTest, RangesOverlap) {
  constexpr ByteRange kRange = {ByteOffset(0x1000), KiB(4)};
  EXPECT_TRUE(kRange.Overlaps({ByteOffset(0), KiB(8)}));
  EXPECT_FALSE(kRange.Overlaps({ByteOffset(0), KiB(4)}));
  EXPECT_FALSE(kRange.Overlaps({ByteOffset(0x2000), KiB(4)}));
}

TEST(TypesTest, Text) {
  std::ostringstream out;
  out << GuestAddress(0x1000) << ' ' << ByteOffset(0) << ' ' << KiB(4) << ' ' << MiB(2) << ' '
      << GiB(3) << ' ' << ByteSize(4097) << ' ' << ByteSize(0);
  EXPECT_EQ(out.str(), "0x1000 0x0 4 KiB 2 MiB 3 GiB 4097 bytes 0 bytes");
}

TEST(TypesTest, TextOfRanges) {
  std::ostringstream out;
  out << GuestRange{GuestAddress(0x1000), KiB(8)} << ' ' << ByteRange{ByteOffset(0), KiB(4)};
  EXPECT_EQ(out.str(), "0x1000..0x2fff 0x0..0xfff");
  EXPECT_EQ(ToString(GuestRange{GuestAddress(kMax - 0xfff), KiB(4)}),
            "0xfffffffffffff000..0xffffffffffffffff");
  EXPECT_EQ(ToString(GuestRange{GuestAddress(0x1000), ByteSize(0)}), "nothing at 0x1000");
  EXPECT_EQ(ToString(GuestRange{GuestAddress(kMax - 0xfff), KiB(8)}),
            "8 KiB at 0xfffffffffffff000");
}

}  // namespace
}  // namespace gmem
