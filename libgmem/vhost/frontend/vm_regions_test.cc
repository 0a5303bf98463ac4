// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/vm_regions.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gmem::vhost {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kPage = 4096;

// A binding of @pages pages at @page of the guest, to memory 1 at the same offset.
Binding Shared(uint64_t page, uint64_t pages = 1) {
  return {.range = {GuestAddress(page * kPage), ByteSize(pages * kPage)},
          .offset = ByteOffset(page * kPage),
          .memory_id = 1,
          .mode = MapMode::kShare,
          .read = true,
          .write = true,
          .execute = true};
}

// The VMM has memory 1 as descriptor 41, mapped at page 1000.
std::optional<BindingHost> Find(const Binding& binding) {
  if (binding.memory_id != 1) return std::nullopt;
  return BindingHost{.fd = 41, .user_address = 1000 * kPage + binding.offset.value()};
}

// Describes each region as "guest+size@file", in pages.
std::vector<std::string> Describe(const std::vector<Binding>& bindings, GuestRange except = {}) {
  std::vector<std::string> all;
  for (const GuestRegion& region : SharedRegions(bindings, Find, except)) {
    EXPECT_EQ(region.fd, 41);
    EXPECT_EQ(region.user_address, 1000 * kPage + region.offset.value());
    all.push_back(absl::StrCat(region.guest_address.value() / kPage, "+",
                               region.size.value() / kPage, "@", region.offset.value() / kPage));
  }
  return all;
}

TEST(VmRegionsTest, OnlySharedAndWritableBindings) {
  Binding lent = Shared(1), rom = Shared(2), blind = Shared(3), unknown = Shared(4);
  lent.mode = MapMode::kLend;
  rom.write = false;
  blind.read = false;
  unknown.memory_id = 2;
  EXPECT_THAT(Describe({Shared(0), lent, rom, blind, unknown, Shared(5)}),
              ElementsAre("0+1@0", "5+1@5"));
  EXPECT_THAT(Describe({lent}), IsEmpty());
}

TEST(VmRegionsTest, JoinsBindingsThatContinue) {
  Binding elsewhere = Shared(3);
  elsewhere.offset = ByteOffset(9 * kPage);
  EXPECT_THAT(Describe({Shared(0), Shared(1, 2), elsewhere, Shared(4), Shared(6)}),
              ElementsAre("0+3@0", "3+1@9", "4+1@4", "6+1@6"));
}

TEST(VmRegionsTest, LeavesOutARange) {
  const auto pages = [](uint64_t page, uint64_t count) {
    return GuestRange{GuestAddress(page * kPage), ByteSize(count * kPage)};
  };
  const std::vector<Binding> bindings = {Shared(2, 4), Shared(8, 2)};
  EXPECT_THAT(Describe(bindings, pages(3, 1)), ElementsAre("2+1@2", "4+2@4", "8+2@8"));
  EXPECT_THAT(Describe(bindings, pages(0, 4)), ElementsAre("4+2@4", "8+2@8"));
  EXPECT_THAT(Describe(bindings, pages(4, 5)), ElementsAre("2+2@2", "9+1@9"));
  EXPECT_THAT(Describe(bindings, pages(0, 100)), IsEmpty());
  EXPECT_THAT(Describe(bindings, pages(6, 2)), ElementsAre("2+4@2", "8+2@8"));
  // A range that ends beyond 64 bits leaves out everything from its start.
  const GuestAddress start(5 * kPage);
  EXPECT_THAT(Describe(bindings, {start, ByteSize(0 - start.value())}), ElementsAre("2+3@2"));
  EXPECT_THAT(Describe(bindings, {start, ByteSize(~uint64_t{0})}), ElementsAre("2+3@2"));
}

}  // namespace
}  // namespace gmem::vhost
