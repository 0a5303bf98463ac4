// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/boot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/gmem_gunyah.h>

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/types/span.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/gunyah/machine.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/fake_gunyah.h"
#include "testing/fake_module.h"
#include "testing/matchers.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words
using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

constexpr GuestAddress kRam(0x80000000);
constexpr ByteSize kRamSize = MiB(16);
constexpr GuestAddress kEntry = kRam + MiB(2);
constexpr uint32_t kPc = BootRegister::Pc().number();
constexpr uint32_t kX0 = BootRegister::X(0).number();

class BootTest : public testing::Test {
 protected:
  BootTest()
      : device_(module_.OpenDevice()),
        vm_(*device_.CreateVm({.provider = kProvider})),
        memory_(*device_.CreateGuestMemory(kRamSize + MiB(2))),
        tree_(*MakeDeviceTree({.nr_cpus = 2, .uart = kUsualUart})) {}

  // Binds the RAM to the second part of the memory, so that an address is no offset.
  void BindRam() {
    ASSERT_THAT(
        vm_.Map(memory_,
                {.guest_address = kRam, .offset = ByteOffset(0) + MiB(2), .size = kRamSize}),
        IsOk());
  }

  // The tree that the guest finds.
  DeviceTree Written() {
    const GuestAddress start(gunyah_.device_tree().guest_phys_addr);
    const Mapping host = *memory_.Map();
    const uint64_t offset = MiB(2).value() + (start - kRam).value();
    auto tree = DeviceTree::Parse(absl::MakeConstSpan(host.data(), host.size()).subspan(offset));
    EXPECT_THAT(tree, IsOk());
    return *tree;
  }

  FakeGunyah gunyah_;
  FakeModule module_;
  Device device_;
  Vm vm_;
  GuestMemory memory_;
  DeviceTree tree_;
};

TEST_F(BootTest, SetsAllThatAStartNeeds) {
  BindRam();
  const auto vcpus = PrepareStart(vm_, memory_, tree_, {.entry = kEntry});
  ASSERT_THAT(vcpus, IsOk());
  EXPECT_EQ(vcpus->size(), 2U);
  EXPECT_THAT(gunyah_.vcpus(), ElementsAre(0, 1));

  const gmem_gunyah_dtb_config& place = gunyah_.device_tree();
  EXPECT_EQ(place.guest_phys_addr + place.size, (kRam + kRamSize).value());
  EXPECT_THAT(gunyah_.registers(),
              UnorderedElementsAre(Pair(kPc, kEntry.value()), Pair(kX0, place.guest_phys_addr)));
  const DeviceTree written = Written();
  EXPECT_TRUE(written.HasVmConfig());
  EXPECT_EQ(written.RoomNeeded(), ByteSize(place.size));
  EXPECT_THAT(
      written.Check({.bindings = *vm_.Query(),
                     .entry = kEntry,
                     .device_tree = {GuestAddress(place.guest_phys_addr), ByteSize(place.size)}}),
      IsOk());
}

TEST_F(BootTest, TheVmmChoosesThePlace) {
  BindRam();
  // Not a multiple of a large host page.
  const GuestAddress place = kRam + KiB(4);
  ASSERT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry, .device_tree = place}), IsOk());
  EXPECT_EQ(gunyah_.device_tree().guest_phys_addr, place.value());
  EXPECT_TRUE(Written().HasVmConfig());
}

TEST_F(BootTest, TakesATreeThatIsComplete) {
  BindRam();
  const auto layout = PlanLayout(*vm_.Query(), kEntry);
  ASSERT_THAT(layout, IsOk());
  ASSERT_THAT(tree_.AddVmConfig(*layout, {.image_name = "mine"}), IsOk());
  ASSERT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry}), IsOk());
  const DeviceTree written = Written();
  EXPECT_EQ(std::vector<uint8_t>(written.bytes().begin(), written.bytes().end()),
            std::vector<uint8_t>(tree_.bytes().begin(), tree_.bytes().end()));
}

TEST_F(BootTest, ABrokenRuleChangesNothing) {
  EXPECT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry}),
              FailsWith(EINVAL, "no memory is bound at 0x80200000"));
  BindRam();
  EXPECT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry, .device_tree = kEntry}),
              FailsWith(EINVAL, "the guest's first instruction"));
  EXPECT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry, .config = {.image_name = ""}}),
              FailsWith(EINVAL, "image_name"));
  const GuestMemory other = *device_.CreateGuestMemory(kRamSize);
  EXPECT_THAT(PrepareStart(vm_, other, tree_, {.entry = kEntry}),
              FailsWith(EINVAL, "give the memory that is bound there"));
  EXPECT_EQ(gunyah_.device_tree().size, 0U);
  EXPECT_TRUE(gunyah_.registers().empty());
  EXPECT_TRUE(gunyah_.vcpus().empty());
}

TEST_F(BootTest, AnImageTooSmallForTheTree) {
  ASSERT_THAT(vm_.Map(memory_, {.guest_address = kRam, .size = KiB(4)}), IsOk());
  EXPECT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kRam}),
              FailsWith(EINVAL, "isn't in the image"));
}

TEST_F(BootTest, ErrorsOfTheKernelComeBack) {
  BindRam();
  for (const auto call :
       std::initializer_list<unsigned int>{GMEM_GUNYAH_SET_DTB_CONFIG, GMEM_GUNYAH_SET_BOOT_CONTEXT,
                                           GMEM_GUNYAH_ADD_FUNCTION, GMEM_GUNYAH_VCPU_MMAP_SIZE}) {
    gunyah_.FailNext(call, EBUSY);
    EXPECT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry}), FailsWith(EBUSY, ""));
  }
  EXPECT_THAT(PrepareStart(vm_, memory_, tree_, {.entry = kEntry}), IsOk());
}

}  // namespace
}  // namespace gmem::gunyah
