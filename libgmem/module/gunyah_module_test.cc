// SPDX-License-Identifier: MIT OR Apache-2.0
// Runs on a host without Gunyah; gunyah_el2_test.cc runs on a host with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "gmem/device.h"
#include "gmem/gunyah.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/module.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class GunyahTest : public ModuleTest {};

TEST_F(GunyahTest, OtherProvidersRefuseTheCalls) {
  const Vm vm = NewVm({.provider = "window"});
  constexpr char kWhy[] = "the VM's provider isn't \"gunyah\"";
  EXPECT_THAT(SetDeviceTree(vm, {GuestAddress(0), kPage}), FailsWith(ENOTTY, kWhy));
  EXPECT_THAT(SetBootRegister(vm, BootRegister::Pc(), 0), FailsWith(ENOTTY, kWhy));
  EXPECT_THAT(Vcpu::Add(vm, 0), FailsWith(ENOTTY, kWhy));
  EXPECT_THAT(RemoveVcpu(vm, 0), FailsWith(ENOTTY, kWhy));
  EXPECT_THAT(Start(vm), FailsWith(ENOTTY, kWhy));
}

TEST_F(GunyahTest, ExitsAsText) {
  EXPECT_EQ(ToString(MmioExit{.address = GuestAddress(0x9000000), .size = 4}),
            "read of 4 bytes at 0x9000000");
  EXPECT_EQ(ToString(PageFaultExit{.address = GuestAddress(0x1000), .error = ENOENT}),
            "memory at 0x1000 can't be provided: No such file or directory");
  EXPECT_EQ(ToString(EndExit{.status = EndExit::Status::kExited, .type = EndExit::Type::kOff}),
            "the VM exited (off)");
  EXPECT_EQ(ToString(EndExit{}), "the VM crashed");
  EXPECT_EQ(ToString(UnknownExit{.reason = 9}), "exit reason 9");
}

}  // namespace
}  // namespace gmem::gunyah
