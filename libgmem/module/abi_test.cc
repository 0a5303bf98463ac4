// SPDX-License-Identifier: Apache-2.0
// The library's answers on modules of several ABIs, and on kernels with fewer abilities.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/gmem.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/fake_module.h"
#include "testing/matchers.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr uint64_t kOldKernel = FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_LIVE_HUGE};
constexpr uint64_t kFirstAbi = GMEM_FEATURE_HUGEPAGE;

TEST(AbiTest, Info) {
  FakeModule module(2, GMEM_FEATURE_LIVE | GMEM_FEATURE_VIEW);
  const auto info = module.OpenDevice().Info();
  ASSERT_THAT(info, IsOk());
  EXPECT_TRUE(info->has_live_windows);
  EXPECT_FALSE(info->has_live_huge_pages);
  EXPECT_FALSE(info->has_window_descriptors);
  EXPECT_TRUE(info->has_views);
  EXPECT_FALSE(info->has_names);
  EXPECT_EQ(info->max_bindings, 1000000U);
}

TEST(AbiTest, BestWindowsAreLiveWhereTheyTakeTheMemory) {
  {
    FakeModule module;
    const Device device = module.OpenDevice();
    EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kLive);
    EXPECT_EQ(device.CreateVm({.huge_pages = true})->Windows(), WindowKind::kLive);
    EXPECT_EQ(device.CreateVm({.windows = WindowKind::kPaged})->Windows(), WindowKind::kPaged);
    EXPECT_EQ(device.CreateVm({.windows = WindowKind::kLive})->Windows(), WindowKind::kLive);
  }
  {
    FakeModule module(2, kOldKernel);
    const Device device = module.OpenDevice();
    EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kLive);
    EXPECT_EQ(device.CreateVm({.huge_pages = true})->Windows(), WindowKind::kPaged);
    EXPECT_EQ(device.CreateVm({.windows = WindowKind::kLive, .huge_pages = true})->Windows(),
              WindowKind::kLive);
  }
  {
    FakeModule module(2, GMEM_FEATURE_NAME);
    const Device device = module.OpenDevice();
    EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kPaged);
    EXPECT_THAT(device.CreateVm({.windows = WindowKind::kLive}),
                FailsWith(EOPNOTSUPP, "with live windows: this host's kernel can't have them"));
  }
}

TEST(AbiTest, ProviderWithoutLiveWindows) {
  FakeModule module;
  const Device device = module.OpenDevice();
  module.FailNext(GMEM_VM_CREATE, EOPNOTSUPP);
  EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kPaged);
  module.FailNext(GMEM_VM_CREATE, EOPNOTSUPP);
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kLive}),
              FailsWith(EOPNOTSUPP, "and live windows; this host has: window"));
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kNone}), FailsWith(EINVAL, "choose kBest"));
}

TEST(AbiTest, HugePagesInALiveWindowOfAnOldKernel) {
  FakeModule module(2, kOldKernel);
  const Device device = module.OpenDevice();
  const auto memory = device.CreateGuestMemory(MiB(2), {.huge_pages = true});
  ASSERT_THAT(memory, IsOk());
  EXPECT_THAT(device.CreateVm()->Map(*memory, {.size = MiB(2)}),
              FailsWith(EOPNOTSUPP, "create the VM with VmOptions::huge_pages"));
  EXPECT_THAT(device.CreateVm({.huge_pages = true})->Map(*memory, {.size = MiB(2)}), IsOk());
}

TEST(AbiTest, Names) {
  FakeModule module;
  const Device device = module.OpenDevice();
  const std::string longest(kMaxNameLength, '~');
  ASSERT_THAT(device.CreateVm({.name = "guest 7"}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module.last_vm().name), "guest 7");
  const auto memory = device.CreateGuestMemory(KiB(8), {.name = longest});
  ASSERT_THAT(memory, IsOk());
  EXPECT_EQ(reinterpret_cast<const char*>(module.last_memory().name), longest);
  ASSERT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}, {.name = "disk"}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module.views()[1].create.name), "disk");
  ASSERT_THAT(device.CreateVm()->OpenWindow({.size = KiB(4)}, {.name = "ram"}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module.last_window().name), "ram");

  EXPECT_THAT(device.CreateVm({.name = longest + "~"}),
              FailsWith(EINVAL, "has 32 characters: at most 31 are possible"));
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), {.name = "a\tb"}),
              FailsWith(EINVAL, "\"a\\tb\" has a character that isn't printable"));
  EXPECT_THAT(device.CreateVm({.name = std::string(1, '\0')}), FailsWith(EINVAL, "printable"));
  EXPECT_THAT(device.CreateSecretMemory(KiB(4), "\x7f"), FailsWith(EINVAL, "printable"));
  EXPECT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}, {.name = "\xc3\xa9"}),
              FailsWith(EINVAL, "printable"));
}

TEST(AbiTest, WindowDescriptors) {
  FakeModule module;
  const Device device = module.OpenDevice();
  const auto vm = device.CreateVm();
  const GuestRange range = {GuestAddress(0x100000), MiB(1)};
  const auto window = vm->OpenWindow(range, {.read_only = true, .allow_discard = false});
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(window->range(), range);
  EXPECT_EQ(window->id(), module.last_window().id);
  EXPECT_EQ(module.last_window().flags, uint32_t{GMEM_WINDOW_READ_ONLY | GMEM_WINDOW_NO_DISCARD});
  ASSERT_THAT(vm->OpenWindow(range), IsOk());
  EXPECT_EQ(module.last_window().flags, 0U);

  EXPECT_THAT(vm->OpenWindow({GuestAddress(0), ByteSize(1)}), FailsWith(EINVAL, "size 0x1"));
  EXPECT_THAT(window->Map({ByteOffset(0), MiB(2)}),
              FailsWith(EINVAL, "beyond the 1 MiB of this window descriptor"));
  EXPECT_THAT(window->Discard({ByteOffset(0), MiB(2)}), FailsWith(EINVAL, "beyond the 1 MiB"));
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kPaged})->OpenWindow(range),
              FailsWith(EOPNOTSUPP, "create it with WindowKind::kLive"));
}

TEST(AbiTest, Views) {
  FakeModule module;
  const auto memory = module.OpenDevice().CreateGuestMemory(KiB(64));
  ASSERT_THAT(memory, IsOk());
  const auto view = memory->CreateView({ByteOffset(0x4000), KiB(8)}, {.read_only = true});
  ASSERT_THAT(view, IsOk());
  EXPECT_EQ(view->size(), KiB(8));
  const FakeModule::View made = module.views().at(view->id());
  EXPECT_EQ(made.create.offset, 0x4000U);
  EXPECT_EQ(made.create.flags, uint32_t{GMEM_VIEW_READ_ONLY});
  EXPECT_THAT(view->Map({ByteOffset(0x2000), KiB(4)}), FailsWith(EINVAL, "beyond the 8 KiB"));

  module.SetPinned(3);
  const auto pinned = memory->RevokeView(view->id());
  ASSERT_THAT(pinned, IsOk());
  EXPECT_EQ(*pinned, 3U);
  EXPECT_THAT(memory->RevokeView(view->id()), FailsWith(ENOENT, "revoked before"));
  module.FailNext(GMEM_MEM_REVOKE, EACCES);
  EXPECT_THAT(memory->RevokeView(view->id()), FailsWith(EACCES, "is not open for writing"));

  EXPECT_THAT(memory->CreateView({ByteOffset(1), KiB(4)}), FailsWith(EINVAL, "offset 0x1"));
  module.FailNext(GMEM_MEM_VIEW, EOPNOTSUPP);
  EXPECT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}), FailsWith(EOPNOTSUPP, "secret memory"));
  module.FailNext(GMEM_MEM_VIEW, EACCES);
  EXPECT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}), FailsWith(EACCES, "is read-only"));
}

// Everything that a module of ABI 1 lacks says so, and names the remedy.
TEST(AbiTest, FirstAbi) {
  FakeModule module(1, kFirstAbi);
  const Device device = module.OpenDevice();
  const auto info = device.Info();
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->abi_version, 1U);
  EXPECT_FALSE(info->has_live_windows || info->has_live_huge_pages ||
               info->has_window_descriptors || info->has_views || info->has_names);
  EXPECT_EQ(info->max_bindings, 0U);

  const auto vm = device.CreateVm();
  ASSERT_THAT(vm, IsOk());
  EXPECT_EQ(vm->Windows(), WindowKind::kPaged);
  const auto memory = device.CreateGuestMemory(KiB(4));
  ASSERT_THAT(memory, IsOk());

  const auto lacks = [](int error, const std::string& what) {
    return testing::AllOf(
        FailsWith(error, "the module has no " + what + "; load a gmem.ko of ABI 2 or later"),
        testing::ResultOf([](const auto& result) { return StatusOf(result).code(); },
                          absl::StatusCode::kUnimplemented));
  };
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kLive}), lacks(EOPNOTSUPP, "live windows"));
  EXPECT_THAT(device.CreateVm({.name = "a"}), lacks(EOPNOTSUPP, "names"));
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), {.name = "a"}), lacks(EOPNOTSUPP, "names"));
  EXPECT_THAT(vm->OpenWindow({.size = KiB(4)}), lacks(ENOTTY, "window descriptors"));
  EXPECT_THAT(memory->CreateView({.size = KiB(4)}), lacks(ENOTTY, "views"));
  EXPECT_THAT(memory->RevokeView(1), lacks(ENOTTY, "views"));
}

}  // namespace
}  // namespace gmem
