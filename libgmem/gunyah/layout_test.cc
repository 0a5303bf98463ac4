// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/matchers.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kRam(0x80000000);

Binding Lent(GuestAddress start, ByteSize size) {
  return {.range = {start, size},
          .offset = ByteOffset(0),
          .memory_id = 1,
          .mode = MapMode::kLend,
          .read = true,
          .write = true,
          .execute = true};
}

Binding Shared(GuestAddress start, ByteSize size) {
  Binding binding = Lent(start, size);
  binding.mode = MapMode::kShare;
  binding.execute = false;
  return binding;
}

TEST(LayoutTest, OneBindingIsTheImage) {
  const auto layout = PlanLayout({Lent(kRam, MiB(64))}, kRam + MiB(2));
  ASSERT_THAT(layout, IsOk());
  EXPECT_EQ(layout->image, Parcel({.range = {kRam, MiB(64)}}));
  EXPECT_TRUE(layout->others.empty());
}

TEST(LayoutTest, EachBindingIsAParcel) {
  const auto layout = PlanLayout({Lent(kRam, MiB(2)), Lent(kRam + MiB(2), MiB(2)),
                                  Shared(kRam + MiB(4), KiB(4)), Shared(kRam + MiB(6), KiB(8))},
                                 kRam + MiB(2));
  ASSERT_THAT(layout, IsOk());
  EXPECT_EQ(layout->image.range, (GuestRange{kRam + MiB(2), MiB(2)}));
  EXPECT_EQ(layout->image.label, 0U);
  ASSERT_EQ(layout->others.size(), 3U);
  EXPECT_EQ(layout->others[0].label, 0x80000U);
  EXPECT_EQ(layout->others[1].label, 0x80400U);
  EXPECT_EQ(layout->others[2].range, (GuestRange{kRam + MiB(6), KiB(8)}));
  EXPECT_EQ(layout->others[2].label, 0x80600U);
  EXPECT_EQ(ToString(layout->others[2]), "shared memory 0x80600000..0x80601fff (read, write)");
}

TEST(LayoutTest, TheEntryNeedsMemory) {
  EXPECT_THAT(PlanLayout({}, kRam), FailsWith(EINVAL, "no memory is bound at 0x80000000"));
  EXPECT_THAT(PlanLayout({Lent(kRam, MiB(2))}, kRam + MiB(2)),
              FailsWith(EINVAL, "no memory is bound at 0x80200000"));
}

TEST(LayoutTest, TheImageIsLentWithAllPermissions) {
  EXPECT_THAT(PlanLayout({Shared(kRam, MiB(2))}, kRam), FailsWith(EINVAL, "MapMode::kLend"));
  for (bool Binding::*access : {&Binding::read, &Binding::write, &Binding::execute}) {
    Binding binding = Lent(kRam, MiB(2));
    binding.*access = false;
    EXPECT_THAT(PlanLayout({binding}, kRam), FailsWith(EINVAL, "lacks permissions"));
  }
}

TEST(LayoutTest, TheImageIsAligned) {
  EXPECT_THAT(PlanLayout({Lent(kRam + KiB(4), MiB(2))}, kRam + KiB(4)),
              FailsWith(EINVAL, "multiple of 2 MiB"));
}

TEST(LayoutTest, MemoryLiesAboveTheDevices) {
  EXPECT_THAT(PlanLayout({Lent(GuestAddress(0x200000), MiB(2))}, GuestAddress(0x200000)),
              FailsWith(EINVAL, "0x200000..0x3fffff"));
  // The first page above the devices is the Resource Manager's.
  EXPECT_THAT(PlanLayout({Shared(kDevicesEnd, KiB(4)), Lent(kRam, MiB(2))}, kRam),
              FailsWith(EINVAL, "begins below 0x40001000"));
  EXPECT_THAT(PlanLayout({Shared(kMemoryStart, KiB(4)), Lent(kRam, MiB(2))}, kRam), IsOk());
}

TEST(LayoutTest, MemoryHas36Bits) {
  EXPECT_THAT(PlanLayout({Lent(kRam, MiB(2)), Shared(GuestAddress(0xffffff000), KiB(4))}, kRam),
              IsOk());
  EXPECT_THAT(PlanLayout({Lent(kRam, MiB(2)), Shared(GuestAddress(0xffffff000), KiB(8))}, kRam),
              FailsWith(EINVAL, "36 bits"));
  EXPECT_THAT(
      PlanLayout({Lent(kRam, MiB(2)), Shared(GuestAddress(~uint64_t{0xfff}), KiB(4))}, kRam),
      FailsWith(EINVAL, "36 bits"));
}

}  // namespace
}  // namespace gmem::gunyah
