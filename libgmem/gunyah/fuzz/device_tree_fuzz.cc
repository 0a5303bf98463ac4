// SPDX-License-Identifier: MIT OR Apache-2.0
// libFuzzer: a device tree of any bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gunyah/fuzz/vms.h"

namespace gmem::gunyah {
namespace {

void Require(bool holds) {
  if (!holds) abort();
}

// The library can read each tree that it makes, and finds the same in it.
DeviceTree ParseAgain(const DeviceTree& tree) {
  auto again = DeviceTree::Parse(tree.bytes());
  Require(again.ok());
  Require(again->bytes() == tree.bytes());
  Require(again->RoomNeeded() == tree.RoomNeeded());
  Require(again->CpuCount() == tree.CpuCount());
  return *std::move(again);
}

void Use(DeviceTree tree) {
  static const std::vector<Binding> bindings = doubles::Bindings();
  static const Layout layout = *PlanLayout(bindings, doubles::kRam);
  const auto check = [](const DeviceTree& one) {
    const ByteSize room = one.RoomNeeded();
    Require(IsAligned(room, KiB(4)) && room.value() >= one.bytes().size());
    return one.Check({.bindings = bindings,
                      .entry = doubles::kRam,
                      .device_tree = {doubles::kRam + MiB(1), room}});
  };
  const bool is_complete = tree.HasVmConfig();
  const bool is_right = check(tree).ok();
  Require(is_complete || !is_right);

  const std::vector<uint8_t> before(tree.bytes().begin(), tree.bytes().end());
  const VmConfig config = {.doorbells = {{.label = 3, .interrupt = 3}}};
  if (!tree.AddVmConfig(layout, config).ok()) {
    Require(tree.bytes() == absl::MakeConstSpan(before));
    return;
  }
  Require(!is_complete && tree.HasVmConfig());
  const DeviceTree again = ParseAgain(tree);
  Require(check(again) == check(tree));
}

}  // namespace
}  // namespace gmem::gunyah

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto tree = gmem::gunyah::DeviceTree::Parse({data, size});
  if (tree.ok()) gmem::gunyah::Use(*std::move(tree));
  return 0;
}
