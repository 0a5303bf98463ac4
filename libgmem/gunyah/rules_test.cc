// SPDX-License-Identifier: MIT OR Apache-2.0
// Breaks each rule that DeviceTree::Check() knows.
#include "gunyah/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libfdt.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/gunyah/machine.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/matchers.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kRam(0x80000000);
constexpr GuestAddress kShared = kRam + MiB(128);
constexpr uint32_t kLabel = kShared.value() >> 12;

DeviceTree Make(const Machine& machine) {
  auto tree = MakeDeviceTree(machine);
  EXPECT_THAT(tree, IsOk());
  return *std::move(tree);
}

// A tree and a VM that keep all rules; each test breaks one. The numbers in the names of tests are
// those of the rules in Documentation/gunyah.rst.
class RulesTest : public testing::Test {
 protected:
  RulesTest() {
    bindings_ = {Bind(kRam, MiB(64), MapMode::kLend), Bind(kShared, KiB(8), MapMode::kShare)};
    EXPECT_THAT(tree_.AddVmConfig(*PlanLayout(bindings_, kRam),
                                  {.doorbells = {{.label = 7, .interrupt = 40}, {.label = 8}}}),
                IsOk());
  }

  static Binding Bind(GuestAddress start, ByteSize size, MapMode mode) {
    return {.range = {start, size},
            .offset = ByteOffset(0),
            .memory_id = 1,
            .mode = mode,
            .read = true,
            .write = true,
            .execute = mode == MapMode::kLend};
  }

  Placement Place() const {
    return {
        .bindings = bindings_, .entry = kRam, .device_tree = {kRam + MiB(32), tree_.RoomNeeded()}};
  }

  // Changes the tree: @edit gets it with much room.
  template <typename Edit>
  void Change(const Edit& edit) {
    std::vector<uint8_t> buffer(size_t{1} << 20);
    ASSERT_EQ(fdt_open_into(tree_.bytes().data(), buffer.data(), 1 << 20), 0);
    edit(buffer.data());
    ASSERT_EQ(fdt_pack(buffer.data()), 0);
    auto tree = DeviceTree::Parse(buffer);
    ASSERT_THAT(tree, IsOk());
    tree_ = *std::move(tree);
  }

  void Remove(const char* path, const char* property) {
    Change([&](void* fdt) {
      ASSERT_EQ(fdt_delprop(fdt, fdt_path_offset(fdt, path), property), 0) << path << property;
    });
  }
  void Remove(const char* path) {
    Change([&](void* fdt) { ASSERT_EQ(fdt_del_node(fdt, fdt_path_offset(fdt, path)), 0) << path; });
  }
  void SetText(const char* path, const char* property, const char* text) {
    Change([&](void* fdt) {
      ASSERT_EQ(fdt_setprop_string(fdt, fdt_path_offset(fdt, path), property, text), 0) << path;
    });
  }
  void SetCells(const char* path, const char* property, const std::vector<uint32_t>& cells) {
    Change([&](void* fdt) {
      const int node = fdt_path_offset(fdt, path);
      fdt_delprop(fdt, node, property);
      for (const uint32_t cell : cells) {
        ASSERT_EQ(fdt_appendprop_u32(fdt, node, property, cell), 0) << path;
      }
    });
  }
  // Adds a node, for SetText() and SetCells().
  void Add(const char* parent, const char* name) {
    Change([&](void* fdt) {
      ASSERT_GE(fdt_add_subnode(fdt, fdt_path_offset(fdt, parent), name), 0) << name;
    });
  }

  void Expect(const char* text) { EXPECT_THAT(tree_.Check(Place()), FailsWith(EINVAL, text)); }

  DeviceTree tree_ = Make({.nr_cpus = 2, .virtio = {UsualVirtio(0)}});
  std::vector<Binding> bindings_;
};

constexpr char kConfig[] = "/gunyah-vm-config";
constexpr char kShm[] = "/gunyah-vm-config/vdevices/shm-88000";
constexpr char kBell[] = "/gunyah-vm-config/vdevices/doorbell-7";

TEST_F(RulesTest, AllRulesAreKept) {
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  EXPECT_THAT(DeviceTree::Parse(tree_.bytes())->Check(Place()), IsOk());
}

TEST_F(RulesTest, R01TheGuestStartsInTheImage) {
  Placement place = Place();
  place.entry = kRam + MiB(64);
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "no memory is bound at 0x84000000"));
  place.entry = kShared;
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "isn't lent"));
}

TEST_F(RulesTest, R02TheImageIsWhereTheTreeSays) {
  SetCells("/gunyah-vm-config/memory", "base-address", {0, 0x80200000});
  Expect("/gunyah-vm-config/memory/base-address is 0x80200000");
  SetCells("/gunyah-vm-config/memory", "base-address", {0x80000000});
  Expect("isn't a number of #address-cells (2)");
  SetCells(kConfig, "#address-cells", {3});
  Expect("isn't a number of #address-cells (3)");
  SetCells(kConfig, "#address-cells", {1});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Remove("/gunyah-vm-config/memory", "base-address");
  Expect("no memory/base-address");
  Remove("/gunyah-vm-config/memory");
  Expect("no memory/base-address");
}

TEST_F(RulesTest, R02TheImageIsAligned) {
  bindings_[0] = Bind(kRam + MiB(1), MiB(64), MapMode::kLend);
  Placement place = Place();
  place.entry = kRam + MiB(1);
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "multiple of 2 MiB"));
}

TEST_F(RulesTest, R02TheTreeIsInTheImage) {
  Placement place = Place();
  place.device_tree.start = kShared;
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "isn't in the image"));
  place.device_tree = {kRam + MiB(63) + KiB(1020), tree_.RoomNeeded()};
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "isn't in the image"));
  place.device_tree = {GuestAddress(~uint64_t{0xfff}), tree_.RoomNeeded()};
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "isn't in the image"));
  place.device_tree = {kRam + ByteSize(8), tree_.RoomNeeded()};
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "0x80000008, isn't a multiple of 4 KiB"));
  place.device_tree = {kRam, tree_.RoomNeeded()};
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "the guest's first instruction"));
}

TEST_F(RulesTest, R04EachParcelHasANode) {
  Remove(kShm);
  Expect("has no node that says where it goes");
}

TEST_F(RulesTest, R04LentMemoryHasANodeOrBelongsToTheImage) {
  bindings_.insert(bindings_.begin() + 1, Bind(kRam + MiB(64), MiB(2), MapMode::kLend));
  Expect("or bind it together with the image");
}

TEST_F(RulesTest, R04EachNodeHasAParcel) {
  bindings_.pop_back();
  Expect("shm-88000 wants a parcel with label 0x88000, and the VM has none");
  Change([](void* fdt) {
    const int node = fdt_path_offset(fdt, "/gunyah-vm-config/vdevices/shm-88000/memory");
    ASSERT_EQ(fdt_setprop_empty(fdt, node, "optional"), 0);
  });
  EXPECT_THAT(tree_.Check(Place()), IsOk());
}

TEST_F(RulesTest, R04NodesAndParcelsAgree) {
  const std::string memory = std::string(kShm) + "/memory";
  SetCells(memory.c_str(), "base", {0, 0x88001000});
  Expect("puts label 0x88000 at 0x88001000");
  SetCells(memory.c_str(), "base", {0x88000000});
  Expect("/base isn't a number");
  Remove(memory.c_str(), "base");
  Expect("an address that Gunyah chooses");
  // The label of the vdevice goes first.
  SetCells(kShm, "label", {9});
  Expect("wants a parcel with label 0x9");
  Remove(memory.c_str(), "qcom,label");
  Expect("/memory has no qcom,label");
}

TEST_F(RulesTest, R04RegionsAreWellFormed) {
  Add(kShm, "more");
  Expect("has one child, memory");
  Remove((std::string(kShm) + "/more").c_str());
  Remove(kShm, "peer-default");
  Expect("lacks the property peer-default");
  Remove((std::string(kShm) + "/memory").c_str());
  Expect("has one child, memory");
}

TEST_F(RulesTest, R04ALabelNamesOneRegion) {
  Add("/", "shm");
  SetText("/shm", "vdevice-type", "shm");
  SetText("/shm", "peer-default", "");
  Add("/shm", "memory");
  SetCells("/shm/memory", "qcom,label", {kLabel});
  SetCells("/shm/memory", "base", {0, static_cast<uint32_t>(kShared.value())});
  Expect("has label 0x88000, which another region has");
}

TEST_F(RulesTest, R04ReservedMemoryIsAParcel) {
  Add("/", "reserved-memory");
  SetCells("/reserved-memory", "#address-cells", {2});
  SetCells("/reserved-memory", "#size-cells", {2});
  Add("/reserved-memory", "pool");
  Expect("/reserved-memory/pool has no reg");
  // The guest's kernel chooses.
  SetCells("/reserved-memory/pool", "size", {0, 0x1000});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  const auto shared = static_cast<uint32_t>(kShared.value());
  SetCells("/reserved-memory/pool", "reg", {0, shared, 0, 0x2000});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  SetCells("/reserved-memory/pool", "qcom,label", {kLabel});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  SetCells("/reserved-memory/pool", "qcom,label", {5});
  Expect("reserves 0x88000000..0x88001fff with label 0x5");
  SetCells("/reserved-memory/pool", "qcom,label", {kLabel});
  SetCells("/reserved-memory/pool", "reg", {0, shared, 0, 0x1000});
  Expect("reserves 0x88000000..0x88000fff");
  Remove("/reserved-memory/pool", "qcom,label");
  SetCells("/reserved-memory/pool", "reg", {1, shared, 0, 0x1000});
  Expect("reserves 0x188000000..0x188000fff");
}

TEST_F(RulesTest, R05MemoryIsWhereTheResourceManagerPutsIt) {
  bindings_[1] = Bind(kDevicesEnd, KiB(8), MapMode::kShare);
  std::swap(bindings_[0], bindings_[1]);
  Expect("begins below 0x40001000");
  bindings_ = {Bind(kRam, MiB(64), MapMode::kLend), Bind(kMemoryEnd, KiB(8), MapMode::kShare)};
  Expect("36 bits");
}

TEST_F(RulesTest, R05TheRootHasCellsForIt) {
  SetCells("/", "#size-cells", {0});
  Expect("#size-cells 0");
  SetCells("/", "#size-cells", {1});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  bindings_.push_back(Bind(GuestAddress(0x100000000), KiB(4), MapMode::kShare));
  SetCells("/", "#address-cells", {1});
  Expect("the root has #address-cells 1");
}

TEST_F(RulesTest, R06TheTreeSaysWhatTheVmIs) {
  SetText(kConfig, "image-name", "");
  Expect("has no image-name");
  SetText(kConfig, "image-name", std::string(80, 'x').c_str());
  Expect("has no image-name of 1 to 79 bytes");
  Remove(kConfig, "image-name");
  Expect("/gunyah-vm-config has no image-name");
  Remove(kConfig);
  Expect("call DeviceTree::AddVmConfig()");
}

TEST_F(RulesTest, R06TheHostRunsTheVcpus) {
  SetText("/gunyah-vm-config/vcpus", "affinity", "static");
  Expect("/vcpus has affinity \"static\"");
  SetText("/gunyah-vm-config/vcpus", "affinity", "proxy");
  SetText("/gunyah-vm-config/vcpus", "config", "/processors");
  Expect("the CPUs are at /processors, where no node is");
  Remove("/gunyah-vm-config/vcpus", "config");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Remove("/gunyah-vm-config/vcpus");
  Expect("no node vcpus");
}

TEST_F(RulesTest, R06CpusCanBeTurnedOn) {
  SetText("/cpus/cpu@1", "enable-method", "spin-table");
  Expect("/cpus/cpu@1 has enable-method \"spin-table\"");
  SetText("/cpus/cpu@1", "status", "fail-broken");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  EXPECT_EQ(tree_.CpuCount(), 1U);
  SetText("/cpus/cpu@1", "status", "okay");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  SetText("/cpus/cpu@1", "status", "sleepy");
  Expect("status \"sleepy\"");
  SetText("/cpus/cpu@1", "status", "disabled");
  Expect("enable-method \"spin-table\"");
  Remove("/cpus/cpu@1", "enable-method");
  Expect("enable-method \"\"");
  SetText("/cpus", "enable-method", "psci");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  SetText("/cpus/cpu@0", "status", "disabled");
  Expect("/cpus has no CPU that starts with the VM");
}

TEST_F(RulesTest, R06TheResourceManagerFindsTheGic) {
  SetText("/gunyah-vm-config/interrupts", "config", "/timer");
  Expect("the interrupt controller, /timer, isn't a GICv3");
  SetText("/gunyah-vm-config/interrupts", "config", "/nowhere");
  Expect("names no interrupt controller");
  SetCells("/gunyah-vm-config/interrupts", "config", {1});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Remove("/gunyah-vm-config/interrupts");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  SetCells("/intc@8000000", "#interrupt-cells", {4});
  Expect("the interrupt controller, /intc@8000000, isn't a GICv3");
  Remove("/", "interrupt-parent");
  Expect("names no interrupt controller");
}

TEST_F(RulesTest, R07TheResourceManagerAddsToChosen) {
  Remove("/chosen");
  Expect("no /chosen");
  Remove(kConfig);
  EXPECT_THAT(tree_.AddVmConfig(*PlanLayout(bindings_, kRam), {}), IsOk());
  EXPECT_THAT(tree_.Check(Place()), IsOk());
}

TEST_F(RulesTest, R06OnlySlashMemoryIsMemory) {
  Remove("/memory");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Add("/", "memory@80000000");
  SetText("/memory@80000000", "device_type", "memory");
  Expect("/memory@80000000 with device_type \"memory\"");
  Remove("/gunyah-vm-config");
  EXPECT_THAT(tree_.AddVmConfig(*PlanLayout(bindings_, kRam), {}),
              FailsWith(EINVAL, "remove the node"));
  Remove("/memory@80000000");
  Add("/cpus", "memory");
  SetText("/cpus/memory", "device_type", "memory");
  Expect("/cpus/memory with device_type");
}

TEST_F(RulesTest, R06TheHypervisorsNodeIsItsOwn) {
  Add("/", "hypervisor");
  Expect("/hypervisor, which Gunyah adds itself");
}

TEST_F(RulesTest, R06TheTreeIsNotTooDeep) {
  std::string path;
  for (int i = 1; i <= 15; i++) {
    Add(path.empty() ? "/" : path.c_str(), "n");
    path += "/n";
  }
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Add(path.c_str(), "n");
  Expect("is too deep: Gunyah takes 15 levels");
}

TEST_F(RulesTest, R06PathsAreNotTooLong) {
  const std::string name(127, 'x');
  Add("/", name.c_str());
  Add(("/" + name).c_str(), name.substr(1).c_str());
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Add(("/" + name).c_str(), name.c_str());
  Expect("has 256 bytes");
}

TEST_F(RulesTest, R07TheTreeHasSpareRoom) {
  Placement place = Place();
  place.device_tree.size = ByteSize(place.device_tree.size.value() - KiB(4).value());
  EXPECT_THAT(tree_.Check(place), FailsWith(EINVAL, "DeviceTree::RoomNeeded()"));
}

TEST_F(RulesTest, R15DevicesAreBelowMemory) {
  SetCells("/virtio_mmio@a000000", "reg", {0, 0x40000000, 0, 0x200});
  Expect("has registers at 0x40000000..0x400001ff");
}

TEST_F(RulesTest, R17TheImageIsTheGuestsAlone) {
  bindings_[0].mode = MapMode::kShare;
  Expect("bind it with MapMode::kLend");
  bindings_[0].mode = MapMode::kLend;
  bindings_[0].execute = false;
  Expect("lacks permissions");
}

TEST_F(RulesTest, R20AllRamIsOneParcel) {
  bindings_ = {Bind(kRam, MiB(32), MapMode::kLend), Bind(kRam + MiB(32), MiB(32), MapMode::kLend)};
  Remove(kShm);
  Expect("or bind it together with the image");
}

TEST_F(RulesTest, DoorbellsAreWellFormed) {
  SetCells(kBell, "interrupts", {0, 40});
  Expect("doorbell-7 has interrupts that aren't one SPI");
  SetCells(kBell, "interrupts", {1, 10, 4});
  Expect("aren't one SPI");
  SetCells(kBell, "interrupts", {0, 988, 1});
  Expect("aren't one SPI");
  SetCells(kBell, "interrupts", {0, 40, 8});
  Expect("aren't one SPI");
  SetCells(kBell, "interrupts", {0, 987, 4});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  SetCells(kBell, "qcom,label", {8});
  Expect("has label 8, which another doorbell of the same direction has");
  SetText(kBell, "vdevice-type", "doorbell-source");
  EXPECT_THAT(tree_.Check(Place()), IsOk());
  Remove(kBell, "peer-default");
  Expect("peer-default");
  Remove(kBell, "qcom,label");
  Expect("a doorbell without a qcom,label");
}

TEST_F(RulesTest, TheInitrdIsElsewhere) {
  const auto end = static_cast<uint32_t>((kRam + MiB(32)).value()) + 1;
  SetCells("/chosen", "linux,initrd-start", {0x80000000 + 0x100000});
  SetCells("/chosen", "linux,initrd-end", {end});
  Expect("overlaps the initrd, 0x80100000..0x82000000");
  SetCells("/chosen", "linux,initrd-end", {0, end - 1});
  EXPECT_THAT(tree_.Check(Place()), IsOk());
}

TEST_F(RulesTest, MessagesArePrintable) {
  SetText("/cpus/cpu@1", "enable-method", "a\x01\xff\n");
  Expect("\"a\\x01\\xff\\n\"");
}

}  // namespace
}  // namespace gmem::gunyah
