// SPDX-License-Identifier: MIT OR Apache-2.0
// Runs on a host with Gunyah, or with the EL2 monitor of selftests/el2 in its place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <variant>

#include "absl/status/status.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/boot.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/machine.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/module.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kRam(0x80000000);
constexpr GuestAddress kShared(0x90000000);
constexpr ByteSize kRamSize = MiB(2);
constexpr MmioDevice kUart = {.registers = {GuestAddress(0x10000000), ByteSize(8)}, .interrupt = 1};

// Writes the first word of the device tree to the UART, 42 to kShared, and switches the VM off.
constexpr uint32_t kProgram[] = {
    0xb9400001,  // ldr w1, [x0]
    0xd2a20002,  // mov x2, #0x10000000: kUart
    0xb9000041,  // str w1, [x2]
    0xd2b20004,  // mov x4, #0x90000000
    0x52800545,  // mov w5, #42
    0xb9000085,  // str w5, [x4]
    0x52b08000,  // mov w0, #0x84000000
    0x72800100,  // movk w0, #8: SYSTEM_OFF
    0xd4000002,  // hvc #0
    0x14000000,  // b .
};

class GunyahBootTest : public ModuleTest {
 protected:
  void SetUp() override {
    ModuleTest::SetUp();
    vm_.emplace(NewVm({.provider = kProvider}));
    ram_.emplace(NewMemory(kRamSize));
    shared_.emplace(NewMemory(kPage));
    ASSERT_THAT(vm_->Map(*ram_, {.guest_address = kRam, .size = kRamSize}), IsOk());
    ASSERT_THAT(
        vm_->Map(
            *shared_,
            {.guest_address = kShared, .size = kPage, .mode = MapMode::kShare, .execute = false}),
        IsOk());
  }

  void TearDown() override {
    vm_.reset();
    ram_.reset();
    shared_.reset();
    ModuleTest::TearDown();
  }

  // Puts the program at an offset in RAM.
  void Load(ByteSize offset) {
    const auto host = ram_->Map();
    ASSERT_THAT(host, IsOk());
    std::memcpy(host->data() + offset.value(), kProgram, sizeof(kProgram));
  }

  // Runs the guest to its end, and checks all that it does.
  void Run(Vcpu& vcpu) {
    auto exit = vcpu.Run();
    ASSERT_THAT(exit, IsOk());
    ASSERT_EQ(ToString(*exit), "write of 4 bytes at 0x10000000");
    // The first bytes of a device tree.
    constexpr uint8_t kMagic[] = {0xd0, 0x0d, 0xfe, 0xed};
    EXPECT_EQ(std::memcmp(std::get<MmioExit>(*exit).data.data(), kMagic, sizeof(kMagic)), 0);
    exit = vcpu.Run();
    ASSERT_THAT(exit, IsOk());
    EXPECT_EQ(ToString(*exit), "the VM exited (off)");
    const auto host = shared_->Map();
    ASSERT_THAT(host, IsOk());
    EXPECT_EQ(host->data()[0], 42);
  }

  std::optional<Vm> vm_;
  std::optional<GuestMemory> ram_, shared_;
};

TEST_F(GunyahBootTest, StartsAGuest) {
  Load(ByteSize(0));
  const auto tree = MakeDeviceTree({.uart = kUart});
  ASSERT_THAT(tree, IsOk());
  auto vcpus = PrepareStart(*vm_, *ram_, *tree, {.entry = kRam});
  ASSERT_THAT(vcpus, IsOk());
  ASSERT_EQ(vcpus->size(), 1U);
  ASSERT_THAT(Start(*vm_), IsOk());
  Run(vcpus->front());
}

TEST_F(GunyahBootTest, StartsInTheMiddleOfTheImage) {
  Load(MiB(1));
  const auto tree = MakeDeviceTree({.uart = kUart, .virtio = {UsualVirtio(0)}});
  ASSERT_THAT(tree, IsOk());
  auto vcpus = PrepareStart(
      *vm_, *ram_, *tree,
      {.entry = kRam + MiB(1),
       .device_tree = kRam + KiB(64),
       .config = {.image_name = "middle",
                  .doorbells = {{.label = 3}},
                  .regions = {{.range = {kShared, kPage}, .compatible = {"gmem,ring"}}}}});
  ASSERT_THAT(vcpus, IsOk());
  ASSERT_THAT(Start(*vm_), IsOk());
  Run(vcpus->front());
}

TEST_F(GunyahBootTest, ABrokenRuleUsesNothingUp) {
  Load(ByteSize(0));
  const auto tree = MakeDeviceTree({.uart = kUart});
  ASSERT_THAT(tree, IsOk());
  EXPECT_THAT(PrepareStart(*vm_, *ram_, *tree, {.entry = kShared}),
              FailsWith(EINVAL, "isn't lent"));
  EXPECT_THAT(PrepareStart(*vm_, *shared_, *tree, {.entry = kRam}),
              FailsWith(EINVAL, "give the memory"));
  auto vcpus = PrepareStart(*vm_, *ram_, *tree, {.entry = kRam});
  ASSERT_THAT(vcpus, IsOk());
  ASSERT_THAT(Start(*vm_), IsOk());
  Run(vcpus->front());
}

}  // namespace
}  // namespace gmem::gunyah
