// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/types.h"
#include "gunyah/fdt.h"
#include "testing/matchers.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;          // NOLINT(google-build-using-namespace): tests' own words
using namespace gunyah_internal;  // NOLINT(google-build-using-namespace): readers of the tree

DeviceTree Make(const Machine& machine) {
  auto tree = MakeDeviceTree(machine);
  EXPECT_THAT(tree, IsOk());
  EXPECT_THAT(DeviceTree::Parse(tree->bytes()), IsOk());
  return *std::move(tree);
}

// The path of each node, in order.
std::vector<std::string> Paths(const DeviceTree& tree) {
  std::vector<std::string> paths;
  EXPECT_THAT(ForEachNode(tree.bytes(),
                          [&](const Node& node) {
                            paths.push_back(PathOf(tree.bytes(), node.offset));
                            return absl::OkStatus();
                          }),
              IsOk());
  return paths;
}

TEST(MachineTest, TheSmallestMachine) {
  const DeviceTree tree = Make({});
  EXPECT_THAT(Paths(tree), testing::ElementsAre("/", "/chosen", "/cpus", "/cpus/cpu@0", "/psci",
                                                "/timer", "/intc@8000000"));
  EXPECT_EQ(tree.CpuCount(), 1U);
  EXPECT_FALSE(tree.HasVmConfig());
}

TEST(MachineTest, TheFirstCpuComesFirst) {
  const DeviceTree tree = Make({.nr_cpus = 16});
  EXPECT_EQ(tree.CpuCount(), 16U);
  const auto paths = Paths(tree);
  EXPECT_EQ(paths[3], "/cpus/cpu@0");
  EXPECT_EQ(paths[18], "/cpus/cpu@f");
  const auto cpu = FindNode(tree.bytes(), "/cpus/cpu@f");
  ASSERT_TRUE(cpu);
  EXPECT_EQ(GetU32(tree.bytes(), *cpu, "reg"), 15U);
  EXPECT_EQ(GetText(tree.bytes(), *cpu, "enable-method"), "psci");
}

TEST(MachineTest, DevicesAreWhereTheyShallBe) {
  const DeviceTree tree = Make({.uart = kUsualUart, .virtio = {UsualVirtio(0), UsualVirtio(1)}});
  const auto paths = Paths(tree);
  EXPECT_THAT(paths, testing::IsSupersetOf(
                         {"/serial@9000000", "/virtio_mmio@a000000", "/virtio_mmio@a000200"}));
  const auto virtio = FindNode(tree.bytes(), "/virtio_mmio@a000200");
  ASSERT_TRUE(virtio);
  EXPECT_EQ(GetRange(tree.bytes(), *virtio, 2, 2), UsualVirtio(1).registers);
  const auto chosen = FindNode(tree.bytes(), "/chosen");
  ASSERT_TRUE(chosen);
  EXPECT_EQ(GetText(tree.bytes(), *chosen, "stdout-path"), "/serial@9000000");
}

// A driver of the device never clears its doorbell: without this, its first interrupt would be its
// last.
TEST(MachineTest, TheVmmClearsTheDoorbellsOfDevices) {
  DeviceTree tree = Make({.uart = kUsualUart, .virtio = {UsualVirtio(0)}});
  ASSERT_THAT(tree.AddVmConfig({.image = {.range = {GuestAddress(0x80000000), MiB(64)}}}, {}),
              IsOk());
  for (const char* path :
       {"/gunyah-vm-config/vdevices/doorbell-1", "/gunyah-vm-config/vdevices/doorbell-10"}) {
    const auto doorbell = FindNode(tree.bytes(), path);
    ASSERT_TRUE(doorbell) << path;
    EXPECT_TRUE(HasProperty(tree.bytes(), *doorbell, "source-can-clear")) << path;
  }
}

TEST(MachineTest, VirtioDevicesUseThePool) {
  const GuestRange pool = {GuestAddress(0xd0000000), MiB(4)};
  const DeviceTree tree = Make({.virtio = {UsualVirtio(0), UsualVirtio(1)}, .dma_pool = pool});
  const auto node = FindNode(tree.bytes(), "/reserved-memory/dma-pool@d0000000");
  ASSERT_TRUE(node);
  EXPECT_EQ(GetText(tree.bytes(), *node, "compatible"), "restricted-dma-pool");
  EXPECT_EQ(GetRange(tree.bytes(), *node, 2, 2), pool);
  // Linux refuses a pool with this property: it has no mapping of such memory.
  EXPECT_FALSE(HasProperty(tree.bytes(), *node, "no-map"));
  const auto phandle = GetU32(tree.bytes(), *node, "phandle");
  ASSERT_TRUE(phandle);
  const auto parent = FindNode(tree.bytes(), "/reserved-memory");
  ASSERT_TRUE(parent);
  EXPECT_TRUE(HasProperty(tree.bytes(), *parent, "ranges"));
  for (const char* path : {"/virtio_mmio@a000000", "/virtio_mmio@a000200"}) {
    const auto device = FindNode(tree.bytes(), path);
    ASSERT_TRUE(device) << path;
    EXPECT_EQ(GetU32(tree.bytes(), *device, "memory-region"), phandle) << path;
  }
}

TEST(MachineTest, PoolsThatCantBe) {
  for (const GuestRange& pool :
       {GuestRange{GuestAddress(0xd0000000), {}}, GuestRange{GuestAddress(0x3ffff000), MiB(1)},
        GuestRange{GuestAddress(0xd0000800), MiB(1)}, GuestRange{GuestAddress(0xd0000000), KiB(5)},
        GuestRange{GuestAddress(~uint64_t{0xfff}), MiB(1)}}) {
    EXPECT_THAT(MakeDeviceTree({.dma_pool = pool}),
                FailsWith(EINVAL, "give whole pages of 4 KiB at 0x40000000 or above"));
  }
}

TEST(MachineTest, TheKernelFindsItsArgumentsAndItsInitrd) {
  const GuestRange initrd = {GuestAddress(0x1'8800'0000), KiB(5)};
  const DeviceTree tree = Make({.boot_args = "console=ttyS0 panic=-1", .initrd = initrd});
  const auto chosen = FindNode(tree.bytes(), "/chosen");
  ASSERT_TRUE(chosen);
  EXPECT_EQ(GetText(tree.bytes(), *chosen, "bootargs"), "console=ttyS0 panic=-1");
  EXPECT_EQ(GetNumber(tree.bytes(), *chosen, "linux,initrd-start", 2), initrd.start.value());
  EXPECT_EQ(GetNumber(tree.bytes(), *chosen, "linux,initrd-end", 2), initrd.end().value());
}

TEST(MachineTest, ManyDevicesFit) {
  Machine machine;
  for (uint32_t i = 0; i < 300; i++) {
    machine.virtio.push_back(
        {.registers = {GuestAddress(0x10000000 + uint64_t{0x1000} * i), KiB(4)}, .interrupt = i});
  }
  EXPECT_EQ(Paths(Make(machine)).size(), 307U);
}

TEST(MachineTest, ATreeHasAnEnd) {
  EXPECT_THAT(MakeDeviceTree({.boot_args = std::string(3 << 20, 'x')}),
              FailsWith(ENOSPC, "larger than 2 MiB"));
}

TEST(MachineTest, NumbersOfCpus) {
  EXPECT_THAT(MakeDeviceTree({.nr_cpus = 0}), FailsWith(EINVAL, "nr_cpus is 0"));
  EXPECT_THAT(MakeDeviceTree({.nr_cpus = 17}), FailsWith(EINVAL, "choose 1 to 16"));
}

TEST(MachineTest, DevicesThatCantBe) {
  const auto virtio = [](uint64_t address, uint32_t interrupt) {
    return MmioDevice{.registers = {GuestAddress(address), KiB(4)}, .interrupt = interrupt};
  };
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0x3ffff000, 987)}}), IsOk());
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0x3ffff000, 988)}}),
              FailsWith(EINVAL, "virtio device 0 has interrupt 988"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0x40000000, 5)}}),
              FailsWith(EINVAL, "only below 0x40000000"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0x3ffff800, 5)}}),
              FailsWith(EINVAL, "only below 0x40000000"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(~uint64_t{0xfff}, 5)}}),
              FailsWith(EINVAL, "only below 0x40000000"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0x829f000, 5)}}),
              FailsWith(EINVAL, "the GIC has 0x8000000..0x829ffff"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0x82a0000, 5)}}), IsOk());
  EXPECT_THAT(MakeDeviceTree({.uart = kUsualUart, .virtio = {virtio(0xa000000, 1)}}),
              FailsWith(EINVAL, "the UART and virtio device 0 both have interrupt 1"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {virtio(0xa000000, 1), virtio(0xa000800, 2)}}),
              FailsWith(EINVAL, "both have registers at 0xa000800"));
  EXPECT_THAT(MakeDeviceTree({.virtio = {MmioDevice{.registers = {GuestAddress(0xa000000), {}},
                                                    .interrupt = 1}}}),
              FailsWith(EINVAL, "virtio device 0"));
}

TEST(MachineTest, ArgumentsThatCantBe) {
  EXPECT_THAT(MakeDeviceTree({.boot_args = std::string("a\0b", 3)}), FailsWith(EINVAL, "NUL"));
  EXPECT_THAT(MakeDeviceTree({.initrd = GuestRange{GuestAddress(0x80000000), {}}}),
              FailsWith(EINVAL, "initrd"));
}

}  // namespace
}  // namespace gmem::gunyah
