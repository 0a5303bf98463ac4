// SPDX-License-Identifier: MIT OR Apache-2.0
// The monitor on the module that is loaded, which may be of an older ABI: requests that the module
// lacks say so, and everything else works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/monitor.h"
#include "gmem/vm.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class MonitorAbiTest : public ModuleTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    info_ = *device().Info();
    auto monitor = Monitor::Open();
    ASSERT_THAT(monitor, IsOk());
    monitor_.emplace(*std::move(monitor));
  }

  DeviceInfo info_;
  std::optional<Monitor> monitor_;
};

TEST_F(MonitorAbiTest, VmsAndGuestMemories) {
  const Vm vm = NewVm();
  const auto state = monitor_->FindVm(*vm.Id());
  ASSERT_THAT(state, IsOk());
  EXPECT_EQ(state->provider, "window");
  EXPECT_EQ(state->name, "");
  EXPECT_EQ(state->windows.has_value(), info_.has_names);
  const GuestMemory memory = NewMemory(kPage);
  const auto found = monitor_->FindGuestMemory(memory.id());
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->size, kPage);
  EXPECT_EQ(found->name, "");
  EXPECT_THAT(monitor_->Bindings(), IsOk());
  EXPECT_THAT(monitor_->Stats(), IsOk());
}

TEST_F(MonitorAbiTest, WindowDescriptorsAndViews) {
  const absl::Status windows = monitor_->Windows().status();
  const absl::Status views = monitor_->Views().status();
  const absl::Status window = monitor_->FindWindow(1).status();
  const absl::Status view = monitor_->FindView(1).status();
  if (info_.abi_version >= 2) {
    EXPECT_THAT(windows, IsOk());
    EXPECT_THAT(views, IsOk());
    EXPECT_THAT(window, FailsWith(ENOENT, "no such window descriptor"));
    EXPECT_THAT(view, FailsWith(ENOENT, "no such view"));
    return;
  }
  for (const absl::Status& status : {windows, views, window, view}) {
    EXPECT_THAT(status, FailsWith(EOPNOTSUPP, "load a gmem.ko of ABI 2 or later"));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  }
}

TEST_F(MonitorAbiTest, Faults) {
  const auto faults = monitor_->Faults();
  if (faults.ok()) return;
  EXPECT_THAT(faults.status(), FailsWith(EOPNOTSUPP, "load a newer gmem.ko"));
  EXPECT_THAT(monitor_->Faults(1).status(), FailsWith(EOPNOTSUPP, "load a newer gmem.ko"));
}

TEST_F(MonitorAbiTest, Events) {
  ASSERT_THAT(monitor_->Subscribe(), IsOk());
  // The number of this guestmem distinguishes its event from those of an earlier test.
  const GuestMemory memory = NewMemory(kPage);
  pollfd poll_fd = {.fd = monitor_->fd(), .events = POLLIN, .revents = 0};
  bool found = false;
  while (!found && poll(&poll_fd, 1, 10000) > 0) {
    const auto events = monitor_->ReadEvents();
    ASSERT_THAT(events, IsOk());
    for (const Event& event : *events) {
      found |= event.type == EventType::kMemoryCreated && event.memory_id == memory.id();
    }
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace gmem
