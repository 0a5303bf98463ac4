// SPDX-License-Identifier: MIT OR Apache-2.0
// Names and meanings of nodes and properties are those of the public Resource Manager.
#include "gunyah/vm_config.h"

#include <libfdt.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gunyah/fdt.h"
#include "gunyah/gic.h"
#include "gunyah/tree_editor.h"

namespace gmem::gunyah_internal {
namespace {

using gunyah::Doorbell;
using gunyah::Layout;
using gunyah::Parcel;
using gunyah::Region;
using gunyah::VmConfig;
using internal::CheckError;

constexpr uint32_t kSpi = 0;
constexpr uint32_t kEdgeRising = 1;
constexpr uint32_t kLevelHigh = 4;

bool IsText(absl::string_view text) {
  return !text.empty() && text.find('\0') == absl::string_view::npos;
}

absl::Status CheckImageName(absl::string_view name) {
  if (IsText(name) && name.size() <= kMaxImageName) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat("the name of the VM, \"", Printable(name), "\", has ",
                                         name.size(), " bytes: VmConfig::image_name takes 1 to ",
                                         kMaxImageName, ", and no NUL"));
}

absl::Status CheckDoorbells(absl::Span<const Doorbell> doorbells) {
  std::set<std::pair<bool, uint32_t>> labels;
  std::set<uint32_t> interrupts;
  for (const Doorbell& doorbell : doorbells) {
    const std::string name = absl::StrCat("doorbell ", doorbell.label);
    if (!labels.emplace(doorbell.guest_rings, doorbell.label).second) {
      return CheckError(EINVAL, absl::StrCat("there are two of ", name,
                                             " in one direction, and a label names one: give the "
                                             "other a label of its own (devices of the machine "
                                             "have the numbers of their interrupts)"));
    }
    if (!doorbell.interrupt) continue;
    if (doorbell.guest_rings) {
      return CheckError(EINVAL, absl::StrCat(name, " has interrupt ", *doorbell.interrupt,
                                             " of the guest, but the guest rings it: leave "
                                             "Doorbell::interrupt empty"));
    }
    if (*doorbell.interrupt >= kNrInterrupts) {
      return CheckError(EINVAL,
                        absl::StrCat(name, " has interrupt ", *doorbell.interrupt,
                                     ": an SPI has a number from 0 to ", kNrInterrupts - 1));
    }
    if (!interrupts.insert(*doorbell.interrupt).second) {
      return CheckError(EINVAL, absl::StrCat(name, " has interrupt ", *doorbell.interrupt,
                                             ", which another doorbell has: choose another one"));
    }
  }
  return absl::OkStatus();
}

const Region* FindRegion(const VmConfig& config, const Parcel& parcel) {
  const auto region = std::find_if(config.regions.begin(), config.regions.end(),
                                   [&](const Region& r) { return r.range == parcel.range; });
  return region != config.regions.end() ? &*region : nullptr;
}

absl::Status CheckRegion(const Layout& layout, const Region& region) {
  const std::string name = absl::StrCat("region ", ToString(region.range));
  if (region.compatible.size() > kMaxCompatible) {
    return CheckError(EINVAL, absl::StrCat(name, " has ", region.compatible.size(),
                                           " texts in Region::compatible: Gunyah takes ",
                                           kMaxCompatible, " at most"));
  }
  if (!std::all_of(region.compatible.begin(), region.compatible.end(), IsText)) {
    return CheckError(EINVAL, absl::StrCat(name,
                                           " has a text in Region::compatible that is empty "
                                           "or has a NUL"));
  }
  for (const Parcel& parcel : layout.others) {
    if (parcel.range == region.range) return absl::OkStatus();
    if (parcel.range.Overlaps(region.range)) {
      return CheckError(EINVAL,
                        absl::StrCat(name, " isn't the whole of ", ToString(parcel),
                                     ", and Gunyah places whole bindings: name the range of one"));
    }
  }
  return CheckError(EINVAL, absl::StrCat(name,
                                         " isn't bound, or belongs to the image: bind it by a "
                                         "call of its own, or leave it out of VmConfig::regions"));
}

absl::Status CheckParcel(const Layout& layout, const Parcel& parcel, const VmConfig& config) {
  if (parcel.mode == MapMode::kShare || FindRegion(config, parcel) != nullptr) {
    return absl::OkStatus();
  }
  return CheckError(EINVAL, absl::StrCat(ToString(parcel), " doesn't belong to the image, ",
                                         ToString(layout.image),
                                         ", and so isn't RAM for Linux: bind both by one call of "
                                         "Vm::Map(), or add it to VmConfig::regions"));
}

void AddRegion(TreeEditor& editor, int parent, const Parcel& parcel, const Region* region) {
  const std::string name = absl::StrCat("shm-", absl::Hex(parcel.label));
  const int node = editor.AddNode(parent, name);
  editor.SetText(node, "vdevice-type", "shm");
  // The path of the node that the Resource Manager makes: by default, all have the same.
  editor.SetText(node, "generate", absl::StrCat("/hypervisor/", name));
  editor.SetEmpty(node, "peer-default");
  if (region != nullptr && !region->compatible.empty()) {
    editor.SetTexts(node, "push-compatible", region->compatible);
  }
  editor.SetCellCounts(node);
  const int memory = editor.AddNode(node, "memory");
  editor.SetU32(memory, "qcom,label", parcel.label);
  editor.SetU64(memory, "base", parcel.range.start.value());
}

void AddDoorbell(TreeEditor& editor, int parent, const Doorbell& doorbell) {
  const absl::string_view type = doorbell.guest_rings ? "doorbell-source" : "doorbell";
  const int node = editor.AddNode(parent, absl::StrCat(type, "-", absl::Hex(doorbell.label)));
  editor.SetText(node, "vdevice-type", type);
  editor.SetText(node, "generate", absl::StrCat("/hypervisor/", type));
  editor.SetEmpty(node, "peer-default");
  editor.SetU32(node, "qcom,label", doorbell.label);
  if (doorbell.source_can_clear) editor.SetEmpty(node, "source-can-clear");
  if (doorbell.interrupt) {
    editor.SetCells(node, "interrupts",
                    {kSpi, *doorbell.interrupt, doorbell.level ? kLevelHigh : kEdgeRising});
  }
}

void AddVdevices(TreeEditor& editor, int config_node, const Layout& layout,
                 const VmConfig& config) {
  const int vdevices = editor.AddNode(config_node, "vdevices");
  editor.SetCellCounts(vdevices);
  for (const Parcel& parcel : layout.others) {
    AddRegion(editor, vdevices, parcel, FindRegion(config, parcel));
  }
  for (const Doorbell& doorbell : config.doorbells) AddDoorbell(editor, vdevices, doorbell);
}

void AddNumber(std::vector<uint32_t>& cells, uint64_t value, int nr_cells) {
  if (nr_cells == 2) cells.push_back(static_cast<uint32_t>(value >> 32));
  cells.push_back(static_cast<uint32_t>(value));
}

// The parcels in which the tree has a pool for devices. Linux copies between a pool and RAM, so it
// must be able to map the pool as RAM; it keeps everything else out, because the pool is reserved.
std::vector<GuestRange> DmaPools(absl::Span<const uint8_t> tree, const Layout& layout) {
  std::vector<GuestRange> pools;
  const auto parent = FindNode(tree, "/reserved-memory");
  if (!parent) return pools;
  int node = 0;
  fdt_for_each_subnode(node, tree.data(), *parent) {
    if (!HasText(tree, node, "compatible", kDmaPool)) continue;
    const auto range =
        GetRange(tree, node, ChildAddressCells(tree, *parent), ChildSizeCells(tree, *parent));
    for (const Parcel& parcel : layout.others) {
      if (range == parcel.range) pools.push_back(parcel.range);
    }
  }
  return pools;
}

// The public Resource Manager replaces this node.
void AddMemory(TreeEditor& editor, absl::Span<const uint8_t> tree, const Layout& layout) {
  const int memory = editor.AddNode(TreeEditor::kRoot, "memory");
  std::vector<GuestRange> ranges = DmaPools(tree, layout);
  ranges.insert(ranges.begin(), layout.image.range);
  std::vector<uint32_t> reg;
  for (const GuestRange& range : ranges) {
    AddNumber(reg, range.start.value(), ChildAddressCells(tree, TreeEditor::kRoot));
    AddNumber(reg, range.size.value(), ChildSizeCells(tree, TreeEditor::kRoot));
  }
  editor.SetText(memory, "device_type", "memory");
  editor.SetCells(memory, "reg", reg);
}

}  // namespace

absl::Status CheckVmConfig(const Layout& layout, const VmConfig& config) {
  GMEM_RETURN_IF_ERROR(CheckImageName(config.image_name));
  GMEM_RETURN_IF_ERROR(CheckDoorbells(config.doorbells));
  for (const Region& region : config.regions) GMEM_RETURN_IF_ERROR(CheckRegion(layout, region));
  for (const Parcel& parcel : layout.others) {
    GMEM_RETURN_IF_ERROR(CheckParcel(layout, parcel, config));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint8_t>> AddVmConfig(absl::Span<const uint8_t> tree,
                                                 const Layout& layout, const VmConfig& config) {
  const std::string gic = FindGic(tree);
  const bool has_chosen = FindNode(tree, "/chosen").has_value();
  const bool has_memory = FindChild(tree, TreeEditor::kRoot, "memory").has_value();
  return EditTree(tree, [&](TreeEditor& editor) {
    const int node = editor.AddNode(TreeEditor::kRoot, "gunyah-vm-config");
    editor.SetText(node, "image-name", config.image_name);
    editor.SetText(node, "os-type", "linux");
    editor.SetCellCounts(node);
    AddVdevices(editor, node, layout, config);
    if (!gic.empty()) editor.SetText(editor.AddNode(node, "interrupts"), "config", gic);
    const int vcpus = editor.AddNode(node, "vcpus");
    editor.SetText(vcpus, "config", "/cpus");
    // The host runs the vCPUs.
    editor.SetText(vcpus, "affinity", "proxy");
    const int memory = editor.AddNode(node, "memory");
    editor.SetU64(memory, "base-address", layout.image.range.start.value());
    editor.SetCellCounts(memory);
    if (!has_memory) AddMemory(editor, tree, layout);
    // The Resource Manager adds a seed to it.
    if (!has_chosen) editor.AddNode(TreeEditor::kRoot, "chosen");
  });
}

}  // namespace gmem::gunyah_internal
