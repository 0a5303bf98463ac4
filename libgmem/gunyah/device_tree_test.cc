// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/device_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libfdt.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gmem/gunyah/layout.h"
#include "gmem/gunyah/machine.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gunyah/fdt.h"
#include "testing/matchers.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;          // NOLINT(google-build-using-namespace): tests' own words
using namespace gunyah_internal;  // NOLINT(google-build-using-namespace): readers of the tree

constexpr GuestAddress kRam(0x80000000);
constexpr GuestAddress kShared = kRam + MiB(128);
constexpr uint32_t kLabel = kShared.value() >> 12;

Layout LayoutWith(std::vector<Parcel> others = {}) {
  return {.image = {.range = {kRam, MiB(64)}}, .others = std::move(others)};
}

Parcel Shared(GuestAddress start, ByteSize size) {
  return {.range = {start, size},
          .mode = MapMode::kShare,
          .execute = false,
          .label = static_cast<uint32_t>(start.value() >> 12)};
}

DeviceTree Make(const Machine& machine = {}) {
  auto tree = MakeDeviceTree(machine);
  EXPECT_THAT(tree, IsOk());
  return *std::move(tree);
}

int NodeAt(const DeviceTree& tree, const std::string& path) {
  const auto node = FindNode(tree.bytes(), path.c_str());
  EXPECT_TRUE(node) << path;
  return node.value_or(0);
}

std::vector<uint8_t> Bytes(const DeviceTree& tree) {
  return {tree.bytes().begin(), tree.bytes().end()};
}

TEST(DeviceTreeTest, ParsesWhatItMakes) {
  const DeviceTree tree = Make({.nr_cpus = 3});
  std::vector<uint8_t> bytes = Bytes(tree);
  bytes.resize(bytes.size() + 100, 0xff);
  const auto parsed = DeviceTree::Parse(bytes);
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(Bytes(*parsed), Bytes(tree));
  EXPECT_EQ(parsed->CpuCount(), 3U);
}

TEST(DeviceTreeTest, OtherBytesAreNoTree) {
  constexpr char kNoTree[] = "isn't a flattened device tree";
  EXPECT_THAT(DeviceTree::Parse({}), FailsWith(EINVAL, kNoTree));
  EXPECT_THAT(DeviceTree::Parse(std::vector<uint8_t>(39, 0xd0)), FailsWith(EINVAL, "39 bytes"));
  EXPECT_THAT(DeviceTree::Parse(std::vector<uint8_t>(4096, 0)), FailsWith(EINVAL, kNoTree));
  const DeviceTree tree = Make();
  for (size_t size = 40; size < tree.bytes().size(); size += 52) {
    EXPECT_THAT(DeviceTree::Parse(tree.bytes().subspan(0, size)), FailsWith(EINVAL, kNoTree));
  }
}

TEST(DeviceTreeTest, OldVersionsAndHugeTreesAreRefused) {
  std::vector<uint8_t> bytes = Bytes(Make());
  for (const uint32_t version : {16, 15, 2}) {
    fdt_set_version(bytes.data(), version);
    fdt_set_last_comp_version(bytes.data(), version);
    EXPECT_THAT(DeviceTree::Parse(bytes), FailsWith(EINVAL, "version " + std::to_string(version)));
  }
  bytes = Bytes(Make());
  fdt_set_totalsize(bytes.data(), (2 << 20) + 1);
  bytes.resize((2 << 20) + 1);
  EXPECT_THAT(DeviceTree::Parse(bytes), FailsWith(EINVAL, "2097153 bytes"));
}

TEST(DeviceTreeTest, AddsWhatTheResourceManagerReads) {
  DeviceTree tree = Make({.nr_cpus = 2});
  ASSERT_THAT(tree.AddVmConfig(LayoutWith(), {.image_name = "guest"}), IsOk());
  const auto bytes = tree.bytes();
  EXPECT_TRUE(tree.HasVmConfig());

  const int config = NodeAt(tree, "/gunyah-vm-config");
  EXPECT_EQ(GetText(bytes, config, "image-name"), "guest");
  EXPECT_EQ(GetNumber(bytes, NodeAt(tree, "/gunyah-vm-config/memory"), "base-address", 2),
            kRam.value());
  const int vcpus = NodeAt(tree, "/gunyah-vm-config/vcpus");
  EXPECT_EQ(GetText(bytes, vcpus, "affinity"), "proxy");
  EXPECT_EQ(GetText(bytes, vcpus, "config"), "/cpus");
  EXPECT_EQ(GetText(bytes, NodeAt(tree, "/gunyah-vm-config/interrupts"), "config"),
            "/intc@8000000");
  const int memory = NodeAt(tree, "/memory");
  EXPECT_EQ(GetRange(bytes, memory, 2, 2), (GuestRange{kRam, MiB(64)}));
  EXPECT_EQ(GetText(bytes, memory, "device_type"), "memory");
}

// The ranges of /memory, of two cells each.
std::vector<GuestRange> Memory(const DeviceTree& tree) {
  int size = 0;
  const auto* const numbers = static_cast<const fdt64_t*>(
      fdt_getprop(tree.bytes().data(), NodeAt(tree, "/memory"), "reg", &size));
  std::vector<GuestRange> ranges;
  for (size_t i = 0; i < size / (2 * sizeof(*numbers)); i++) {
    ranges.push_back(
        {GuestAddress(fdt64_ld(&numbers[2 * i])), ByteSize(fdt64_ld(&numbers[2 * i + 1]))});
  }
  return ranges;
}

// Linux must map a pool for devices as RAM, and no other shared memory.
TEST(DeviceTreeTest, PoolsAreMemoryToo) {
  const GuestRange pool = {kShared, MiB(4)};
  DeviceTree tree = Make({.dma_pool = pool});
  const Layout layout =
      LayoutWith({Shared(pool.start, pool.size), Shared(kShared + MiB(4), KiB(64))});
  ASSERT_THAT(tree.AddVmConfig(layout, {}), IsOk());
  EXPECT_EQ(Memory(tree), (std::vector<GuestRange>{{kRam, MiB(64)}, pool}));

  // The pool isn't bound.
  tree = Make({.dma_pool = pool});
  ASSERT_THAT(tree.AddVmConfig(LayoutWith(), {}), IsOk());
  EXPECT_EQ(Memory(tree), (std::vector<GuestRange>{{kRam, MiB(64)}}));
}

TEST(DeviceTreeTest, AddsANodeForEachParcel) {
  DeviceTree tree = Make();
  Parcel lent = {.range = {kShared + MiB(2), MiB(2)}, .label = kLabel + 0x200};
  ASSERT_THAT(
      tree.AddVmConfig(LayoutWith({Shared(kShared, KiB(8)), lent}),
                       {.regions = {{.range = lent.range, .compatible = {"a,pool", "pool"}}}}),
      IsOk());
  const auto bytes = tree.bytes();
  const int node = NodeAt(tree, "/gunyah-vm-config/vdevices/shm-88000");
  EXPECT_EQ(GetText(bytes, node, "vdevice-type"), "shm");
  EXPECT_EQ(GetText(bytes, node, "generate"), "/hypervisor/shm-88000");
  EXPECT_TRUE(HasProperty(bytes, node, "peer-default"));
  EXPECT_FALSE(HasProperty(bytes, node, "push-compatible"));
  const int memory = NodeAt(tree, "/gunyah-vm-config/vdevices/shm-88000/memory");
  EXPECT_EQ(GetU32(bytes, memory, "qcom,label"), kLabel);
  EXPECT_EQ(GetNumber(bytes, memory, "base", 2), kShared.value());
  const int other = NodeAt(tree, "/gunyah-vm-config/vdevices/shm-88200");
  EXPECT_TRUE(HasText(bytes, other, "push-compatible", "a,pool"));
  EXPECT_TRUE(HasText(bytes, other, "push-compatible", "pool"));
}

TEST(DeviceTreeTest, AddsDoorbells) {
  DeviceTree tree = Make({.virtio = {UsualVirtio(0)}});
  ASSERT_THAT(
      tree.AddVmConfig(
          LayoutWith(),
          {.doorbells = {{.label = 7, .interrupt = 40, .level = true, .source_can_clear = true},
                         {.label = 8},
                         {.label = 7, .guest_rings = true}}}),
      IsOk());
  const auto bytes = tree.bytes();
  const auto interrupt = [&](int node) {
    int size = 0;
    const auto* const cells =
        static_cast<const fdt32_t*>(fdt_getprop(bytes.data(), node, "interrupts", &size));
    EXPECT_EQ(size, 12);
    return std::vector<uint32_t>{fdt32_ld(&cells[0]), fdt32_ld(&cells[1]), fdt32_ld(&cells[2])};
  };
  const int level = NodeAt(tree, "/gunyah-vm-config/vdevices/doorbell-7");
  EXPECT_EQ(GetText(bytes, level, "vdevice-type"), "doorbell");
  EXPECT_EQ(GetU32(bytes, level, "qcom,label"), 7U);
  EXPECT_THAT(interrupt(level), testing::ElementsAre(0, 40, 4));
  EXPECT_TRUE(HasProperty(bytes, level, "source-can-clear"));
  EXPECT_TRUE(HasProperty(bytes, level, "peer-default"));
  EXPECT_FALSE(
      HasProperty(bytes, NodeAt(tree, "/gunyah-vm-config/vdevices/doorbell-8"), "interrupts"));
  EXPECT_EQ(
      GetText(bytes, NodeAt(tree, "/gunyah-vm-config/vdevices/doorbell-source-7"), "vdevice-type"),
      "doorbell-source");
  // The device's own, with its interrupt.
  EXPECT_THAT(interrupt(NodeAt(tree, "/gunyah-vm-config/vdevices/doorbell-10")),
              testing::ElementsAre(0, 16, 1));
}

TEST(DeviceTreeTest, ManyParcelsFit) {
  std::vector<Parcel> others;
  for (uint64_t i = 0; i < 200; i++) others.push_back(Shared(kShared + i * KiB(8), KiB(4)));
  DeviceTree tree = Make();
  const ByteSize before = tree.RoomNeeded();
  ASSERT_THAT(tree.AddVmConfig(LayoutWith(others), {}), IsOk());
  EXPECT_GE(tree.RoomNeeded(), before + ByteSize(200 * 1024));
  EXPECT_TRUE(IsAligned(tree.RoomNeeded(), KiB(4)));
  EXPECT_GE(tree.RoomNeeded(), ByteSize(2 * tree.bytes().size()));
}

TEST(DeviceTreeTest, ValuesThatTheResourceManagerRefuses) {
  DeviceTree tree = Make({.uart = kUsualUart});
  const std::vector<uint8_t> before = Bytes(tree);
  const Layout layout = LayoutWith({Shared(kShared, KiB(8))});
  const auto add = [&](const VmConfig& config) { return tree.AddVmConfig(layout, config); };
  EXPECT_THAT(add({.image_name = ""}), FailsWith(EINVAL, "image_name takes 1 to 79"));
  EXPECT_THAT(add({.image_name = std::string(80, 'x')}), FailsWith(EINVAL, "has 80 bytes"));
  EXPECT_THAT(add({.image_name = std::string("a\0b", 3)}), FailsWith(EINVAL, "no NUL"));

  EXPECT_THAT(add({.doorbells = {{.label = 5}, {.label = 5}}}),
              FailsWith(EINVAL, "two of doorbell 5"));
  EXPECT_THAT(add({.doorbells = {{.label = 1}}}), FailsWith(EINVAL, "numbers of their interrupts"));
  EXPECT_THAT(add({.doorbells = {{.label = 5, .interrupt = 988}}}),
              FailsWith(EINVAL, "doorbell 5 has interrupt 988"));
  EXPECT_THAT(add({.doorbells = {{.label = 5, .interrupt = 1}}}),
              FailsWith(EINVAL, "another doorbell has"));
  EXPECT_THAT(add({.doorbells = {{.label = 5, .guest_rings = true, .interrupt = 9}}}),
              FailsWith(EINVAL, "the guest rings it"));

  EXPECT_THAT(add({.regions = {{.range = {kShared, KiB(4)}, .compatible = {}}}}),
              FailsWith(EINVAL, "isn't the whole of shared memory"));
  EXPECT_THAT(add({.regions = {{.range = {kRam, KiB(4)}, .compatible = {}}}}),
              FailsWith(EINVAL, "isn't bound, or belongs to the image"));
  EXPECT_THAT(add({.regions = {{.range = {kShared, KiB(8)},
                                .compatible = std::vector<std::string>(7, "x")}}}),
              FailsWith(EINVAL, "7 texts"));
  EXPECT_THAT(add({.regions = {{.range = {kShared, KiB(8)}, .compatible = {""}}}}),
              FailsWith(EINVAL, "empty or has a NUL"));
  EXPECT_EQ(Bytes(tree), before);

  ASSERT_THAT(add({}), IsOk());
  EXPECT_THAT(add({}), FailsWith(EEXIST, "/gunyah-vm-config already"));
}

TEST(DeviceTreeTest, LentMemoryBesideTheImageIsNoRam) {
  const Parcel lent = {.range = {kRam + MiB(64), MiB(2)}, .label = 0x84000};
  EXPECT_THAT(Make().AddVmConfig(LayoutWith({lent}), {}),
              FailsWith(EINVAL, "bind both by one call of Vm::Map()"));
}

}  // namespace
}  // namespace gmem::gunyah
