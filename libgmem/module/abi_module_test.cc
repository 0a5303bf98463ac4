// SPDX-License-Identifier: MIT OR Apache-2.0
// The library on the module that is loaded, which may be of an older ABI: each call that the module
// lacks says so, and everything else works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class AbiTest : public ModuleTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    info_ = *device().Info();
  }
  // Matches a success if the module has an ability, else the error that names the remedy.
  static testing::Matcher<const absl::Status&> WorksIf(bool has, int error,
                                                       const std::string& ability) {
    if (has) return IsOk();
    return FailsWith(error, "the module has no " + ability + "; load a gmem.ko of ABI 2 or later");
  }

  DeviceInfo info_;
};

TEST_F(AbiTest, Info) {
  EXPECT_GE(info_.abi_version, 1U);
  const bool is_second = info_.abi_version >= 2;
  EXPECT_EQ(info_.has_names, is_second);
  EXPECT_EQ(info_.has_views, is_second);
  EXPECT_LE(info_.has_window_descriptors, is_second);
  EXPECT_EQ(info_.max_bindings > 0, is_second);
  EXPECT_LE(info_.has_live_windows, is_second);
  EXPECT_LE(info_.has_live_huge_pages, info_.has_live_windows);
}

TEST_F(AbiTest, Names) {
  EXPECT_THAT(device().CreateVm({.name = "guest"}).status(),
              WorksIf(info_.has_names, EOPNOTSUPP, "names"));
  EXPECT_THAT(device().CreateGuestMemory(kPage, {.name = "ram"}).status(),
              WorksIf(info_.has_names, EOPNOTSUPP, "names"));
}

TEST_F(AbiTest, LiveWindows) {
  const absl::Status status = device().CreateVm({.windows = WindowKind::kLive}).status();
  if (info_.abi_version < 2) {
    EXPECT_THAT(status, WorksIf(false, EOPNOTSUPP, "live windows"));
  } else if (info_.has_live_windows) {
    EXPECT_THAT(status, IsOk());
  } else {
    EXPECT_THAT(status, FailsWith(EOPNOTSUPP, "this host's kernel can't have them"));
  }
}

TEST_F(AbiTest, WindowDescriptors) {
  const Vm vm = NewVm();
  const absl::Status status = vm.OpenWindow({.size = kPage}).status();
  if (vm.Windows() == WindowKind::kLive || !info_.has_window_descriptors) {
    EXPECT_THAT(status, WorksIf(info_.has_window_descriptors, ENOTTY, "window descriptors"));
  } else {
    EXPECT_THAT(status, FailsWith(EOPNOTSUPP, "create it with WindowKind::kLive"));
  }
}

TEST_F(AbiTest, Views) {
  const GuestMemory memory = NewMemory(kPage);
  const auto view = memory.CreateView({.size = kPage});
  EXPECT_THAT(view.status(), WorksIf(info_.has_views, ENOTTY, "views"));
  EXPECT_THAT(memory.RevokeView(view.ok() ? view->id() : 1).status(),
              WorksIf(info_.has_views, ENOTTY, "views"));
}

TEST_F(AbiTest, AWindowOfTheBestKind) {
  const GuestMemory memory = NewMemory(4 * kPage);
  auto window = Window::Create(NewVm(), {.size = 16 * kPage});
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(window->kind(), info_.has_live_windows ? WindowKind::kLive : WindowKind::kPaged);
  ASSERT_THAT(window->Map(memory, {.size = 4 * kPage}), IsOk());
  EXPECT_TRUE(Poke(window->data(), 1));
  EXPECT_EQ(memory.Query()->lent, 1U);
  EXPECT_EQ(*window->Unmap({.size = 16 * kPage}), 4U);
  EXPECT_EQ(Peek(window->data()), std::nullopt);
  EXPECT_EQ(window->vm().Faults()->faults.back().reason, FaultReason::kUnbound);
}

}  // namespace
}  // namespace gmem
