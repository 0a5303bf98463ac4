// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "gmem/device.h"
#include "gmem/numa_policy.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class DeviceTest : public ModuleTest {};

TEST_F(DeviceTest, Info) {
  auto info = device().Info();
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->abi_version, 4U);
  EXPECT_EQ(info->page_size, kPage);
  EXPECT_EQ(info->huge_page_size, MiB(2));
  EXPECT_TRUE(info->has_views);
  EXPECT_TRUE(info->has_names);
  EXPECT_GE(info->max_bindings, 1'000'000U);
  EXPECT_GE(info->max_user_bindings, info->max_bindings);
  EXPECT_TRUE(info->has_page_runs);
  EXPECT_LE(info->has_live_huge_pages, info->has_live_windows);
  const auto window = std::find_if(info->providers.begin(), info->providers.end(),
                                   [](const ProviderInfo& p) { return p.name == "window"; });
  ASSERT_NE(window, info->providers.end());
  EXPECT_TRUE(window->has_windows);
  EXPECT_TRUE(window->can_share_many);
  EXPECT_EQ(window->max_guest_address_bits, 52);
  EXPECT_TRUE(window->CanEnforce(true, true, true));
  EXPECT_TRUE(window->CanEnforce(true, false, true));
  EXPECT_FALSE(window->CanEnforce(true, true, false));
  EXPECT_FALSE(window->CanEnforce(false, true, false));
}

TEST_F(DeviceTest, StatsCount) {
  const auto before = device().Stats();
  ASSERT_THAT(before, IsOk());
  const Vm vm = NewVm();
  const GuestMemory memory = NewMemory(4 * kPage);
  ASSERT_THAT(vm.Map(memory, {.size = kPage}), IsOk());
  ASSERT_THAT(vm.Populate({GuestAddress(0), kPage}), IsOk());
  const auto after = device().Stats();
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->vms, before->vms + 1);
  EXPECT_EQ(after->guest_memories, before->guest_memories + 1);
  EXPECT_EQ(after->bindings, before->bindings + 1);
  EXPECT_EQ(after->lent_pages, before->lent_pages + 1);
  EXPECT_EQ(after->lends, before->lends + 1);
}

TEST_F(DeviceTest, AdoptDevice) {
  auto device = Device::Adopt(UniqueFd(open(Device::kPath, O_RDWR | O_CLOEXEC)));
  ASSERT_THAT(device, IsOk());
  EXPECT_THAT(device->CreateVm(), IsOk());
}

TEST_F(DeviceTest, CreateVmWithOptions) {
  const Vm vm = NewVm({.provider = "window", .guest_address_bits = 40});
  EXPECT_EQ(vm.GuestAddressBits(), 40);
  EXPECT_EQ(NewVm().GuestAddressBits(), 52);
}

TEST_F(DeviceTest, CreateVmErrors) {
  EXPECT_THAT(device().CreateVm({.provider = "nonsense"}),
              FailsWith(EOPNOTSUPP, "provider \"nonsense\"; this host has: window"));
  EXPECT_THAT(device().CreateVm({.provider = "a name longer than any"}),
              FailsWith(EOPNOTSUPP, "a name longer than any"));
  EXPECT_THAT(device().CreateVm({.guest_address_bits = 60}),
              FailsWith(EINVAL, "guest_address_bits 60 is not within the 52 of provider"));
  EXPECT_THAT(device().CreateVm({.provider = "mock", .guest_address_bits = -1}),
              FailsWith(EINVAL, "guest_address_bits -1 is not within"));
  EXPECT_THAT(device().CreateVm({.provider = std::string("window\0x", 8)}),
              FailsWith(EINVAL, "window\\x00x"));
  EXPECT_THAT(device().CreateVm({.policy = static_cast<ReclaimPolicy>(9)}),
              FailsWith(EINVAL, "policy"));
}

TEST_F(DeviceTest, Windows) {
  const auto info = device().Info();
  ASSERT_THAT(info, IsOk());
  const WindowKind best = info->has_live_windows ? WindowKind::kLive : WindowKind::kPaged;
  EXPECT_EQ(NewVm().Windows(), best);
  EXPECT_EQ(NewVm({.windows = WindowKind::kPaged}).Windows(), WindowKind::kPaged);
  EXPECT_EQ(NewVm({.provider = "mock"}).Windows(), WindowKind::kNone);
  EXPECT_EQ(NewVm({.huge_pages = true}).Windows(),
            info->has_live_huge_pages ? WindowKind::kLive : WindowKind::kPaged);
  EXPECT_THAT(device().CreateVm({.provider = "mock", .windows = WindowKind::kLive}),
              FailsWith(EOPNOTSUPP, "live windows"));
}

TEST_F(DeviceTest, Names) {
  EXPECT_THAT(device().CreateVm({.name = "a name"}), IsOk());
  EXPECT_THAT(device().CreateGuestMemory(kPage, {.name = "a name"}), IsOk());
  EXPECT_THAT(device().CreateVm({.name = std::string(kMaxNameLength, 'x')}), IsOk());
}

TEST_F(DeviceTest, NumaPolicy) {
  const GuestMemoryOptions bind = {.numa = {.mode = NumaMode::kBind, .nodes = {0}}};
  if (!device().Info()->has_numa_policies) {
    EXPECT_THAT(device().CreateGuestMemory(kPage, bind), FailsWith(EOPNOTSUPP, "no NUMA"));
    return;
  }
  const auto memory = device().CreateGuestMemory(kPage, bind);
  ASSERT_THAT(memory, IsOk());
  EXPECT_EQ(memory->size(), kPage);
  for (const NumaPolicy& policy : {NumaPolicy{.mode = NumaMode::kBind},
                                   {.mode = NumaMode::kDefault, .nodes = {0}},
                                   {.mode = NumaMode::kInterleave, .nodes = {0, 1023}}}) {
    EXPECT_THAT(device().CreateGuestMemory(kPage, {.numa = policy}),
                FailsWith(EINVAL, "a node doesn't exist, has no memory"));
  }
}

TEST_F(DeviceTest, CreateGuestMemoryErrors) {
  EXPECT_THAT(device().CreateGuestMemory(ByteSize(0)), FailsWith(EINVAL, "size is 0"));
  EXPECT_THAT(
      device().CreateGuestMemory(ByteSize(5000)),
      FailsWith(EINVAL, "size 0x1388 is not a multiple of the 4 KiB page size of this guestmem"));
  EXPECT_THAT(device().CreateGuestMemory(MiB(1), {.huge_pages = true}),
              FailsWith(EINVAL, "size 0x100000 is not a multiple of the 2 MiB page size"));
  EXPECT_THAT(device().CreateGuestMemory(ByteSize(uint64_t{1} << 63)),
              FailsWith(EINVAL, "too large"));
}

}  // namespace
}  // namespace gmem
