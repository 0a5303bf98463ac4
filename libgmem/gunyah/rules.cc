// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gunyah/rules.h"

#include <libfdt.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
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
#include "gmem/gunyah/layout.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gunyah/cpus.h"
#include "gunyah/fdt.h"
#include "gunyah/gic.h"
#include "gunyah/vm_config.h"

namespace gmem::gunyah_internal {
namespace {

using gunyah::Layout;
using gunyah::Parcel;
using internal::CheckError;

using Tree = absl::Span<const uint8_t>;

constexpr int kRoot = 0;

template <typename... Parts>
absl::Status Broken(const Parts&... parts) {
  return CheckError(EINVAL, absl::StrCat(parts...));
}

absl::Status CheckMemoryNode(Tree tree, const Node& node) {
  if (!HasText(tree, node.offset, "device_type", "memory")) return absl::OkStatus();
  const absl::string_view name = fdt_get_name(tree.data(), node.offset, nullptr);
  if (node.depth == 1 && name == "memory") return absl::OkStatus();
  return Broken("the tree has ", PathOf(tree, node.offset),
                " with device_type \"memory\": Gunyah refuses all such nodes but /memory, which it "
                "writes itself; remove the node");
}

bool Fits(uint64_t value, int cells) { return cells == 2 || (cells == 1 && value >> 32 == 0); }

// ---- /gunyah-vm-config ----

absl::Status CheckImageName(Tree tree, int config) {
  const auto name = GetText(tree, config, "image-name");
  if (name && !name->empty() && name->size() <= kMaxImageName) return absl::OkStatus();
  return Broken(PathOf(tree, config), " has no image-name of 1 to ", kMaxImageName,
                " bytes, the name of the VM: add one");
}

absl::Status CheckImagePlace(Tree tree, int config, const Layout& layout) {
  const std::string path = PathOf(tree, config);
  const auto memory = FindChild(tree, config, "memory");
  if (!memory || !HasProperty(tree, *memory, "base-address")) {
    return Broken(path, " has no memory/base-address, the place of the image: set it to ",
                  ToString(layout.image.range.start));
  }
  const int cells = ChildAddressCells(tree, config);
  const auto base = GetNumber(tree, *memory, "base-address", cells);
  if (!base) {
    return Broken(path, "/memory/base-address isn't a number of #address-cells (", cells,
                  ") of its parent: use two cells for both");
  }
  if (GuestAddress(*base) != layout.image.range.start) {
    return Broken(path, "/memory/base-address is ", ToString(GuestAddress(*base)),
                  ", but the image, ", ToString(layout.image), ", is bound elsewhere: set it to ",
                  ToString(layout.image.range.start));
  }
  return absl::OkStatus();
}

absl::Status CheckVcpus(Tree tree, int config) {
  const std::string path = PathOf(tree, config);
  const auto vcpus = FindChild(tree, config, "vcpus");
  if (!vcpus) {
    return Broken(path, " has no node vcpus: add one with affinity \"proxy\"");
  }
  if (GetText(tree, *vcpus, "affinity") != "proxy") {
    return Broken(path, "/vcpus has affinity \"",
                  Printable(GetText(tree, *vcpus, "affinity").value_or("")),
                  "\", and then the host can't run the vCPUs: set it to \"proxy\"");
  }
  const std::string cpus(GetText(tree, *vcpus, "config").value_or("/cpus"));
  const auto node = FindNode(tree, cpus.c_str());
  if (!node) {
    return Broken(path, "/vcpus says that the CPUs are at ", Printable(cpus),
                  ", where no node is: correct its property config");
  }
  return CheckCpus(tree, *node);
}

// ---- regions ----

using ParcelsByLabel = std::map<uint32_t, const Parcel*>;

ParcelsByLabel ByLabel(const Layout& layout) {
  ParcelsByLabel parcels;
  for (const Parcel& parcel : layout.others) parcels.emplace(parcel.label, &parcel);
  return parcels;
}

const Parcel* FindParcel(const ParcelsByLabel& parcels, uint64_t label) {
  const auto found = label >> 32 == 0 ? parcels.find(static_cast<uint32_t>(label)) : parcels.end();
  return found != parcels.end() ? found->second : nullptr;
}

// A node that says where a parcel goes.
struct Place {
  int node = 0;
  uint32_t label = 0;
  // Empty if the Resource Manager shall choose.
  std::optional<GuestAddress> base;
  bool is_optional = false;
};

// The only child of a region's node: it has to have the name "memory".
std::optional<int> OnlyMemory(Tree tree, int node) {
  const int first = fdt_first_subnode(tree.data(), node);
  const auto memory = FindChild(tree, node, "memory");
  if (!memory || first != *memory || fdt_next_subnode(tree.data(), first) >= 0) return std::nullopt;
  return memory;
}

absl::StatusOr<Place> ReadPlace(Tree tree, int node) {
  const auto memory = OnlyMemory(tree, node);
  if (!memory) {
    return Broken(PathOf(tree, node),
                  " describes a region, and so has one child, memory: add it, and remove others");
  }
  if (!HasProperty(tree, node, "peer-default")) {
    return Broken(PathOf(tree, node), " lacks the property peer-default: add it, without a value");
  }
  const auto label = GetLabel(tree, *memory);
  if (!label) {
    return Broken(PathOf(tree, *memory), " has no qcom,label: set it to the label of the parcel");
  }
  const int cells = ChildAddressCells(tree, node);
  const auto base = GetNumber(tree, *memory, "base", cells);
  if (!base && HasProperty(tree, *memory, "base")) {
    return Broken(PathOf(tree, *memory), "/base isn't a number of #address-cells (", cells,
                  ") of the region: use two cells for both");
  }
  Place place = {.node = node,
                 // A label of the region's own goes before that of its memory.
                 .label = GetLabel(tree, node).value_or(*label),
                 .base = {},
                 .is_optional = HasProperty(tree, *memory, "optional")};
  if (base) place.base = GuestAddress(*base);
  return place;
}

absl::Status CheckPlace(Tree tree, const Place& place, const ParcelsByLabel& parcels) {
  const std::string label = absl::StrCat("label 0x", absl::Hex(place.label));
  const Parcel* const parcel = FindParcel(parcels, place.label);
  if (parcel == nullptr) {
    if (place.is_optional) return absl::OkStatus();
    return Broken(PathOf(tree, place.node), " wants a parcel with ", label,
                  ", and the VM has none: bind memory there (the label is the number of its first "
                  "page), or remove the node");
  }
  if (place.base == parcel->range.start) return absl::OkStatus();
  return Broken(PathOf(tree, place.node), " puts ", label, " at ",
                place.base ? ToString(*place.base) : "an address that Gunyah chooses", ", but ",
                ToString(*parcel), " has that label: set its memory/base to ",
                ToString(parcel->range.start));
}

absl::Status NoPlace(const Parcel& parcel, const Layout& layout) {
  const std::string remedy =
      parcel.mode == MapMode::kShare
          ? ""
          : absl::StrCat(", or bind it together with the image, ", ToString(layout.image),
                         ", by one call: only that is RAM for Linux");
  return Broken(ToString(parcel),
                " has no node that says where it goes, so Gunyah would choose the address: add a "
                "vdevice of type \"shm\" with label 0x",
                absl::Hex(parcel.label), remedy);
}

absl::Status CheckReservedRegion(Tree tree, int parent, int node, const Layout& layout,
                                 const ParcelsByLabel& parcels) {
  // The guest's kernel chooses the place of such a region after its start.
  if (!HasProperty(tree, node, "reg") && HasProperty(tree, node, "size")) return absl::OkStatus();
  const auto range =
      GetRange(tree, node, ChildAddressCells(tree, parent), ChildSizeCells(tree, parent));
  if (!range) return Broken(PathOf(tree, node), " has no reg with one range: give it one");

  const auto label = GetU32(tree, node, "qcom,label");
  const uint64_t first_page = range->start.value() >> 12;
  const Parcel* const parcel = FindParcel(parcels, label.value_or(first_page));
  const bool is_image = !label && layout.image.range == *range;
  if (is_image || (parcel != nullptr && parcel->range == *range)) return absl::OkStatus();
  return Broken(PathOf(tree, node), " reserves ", ToString(*range),
                label ? absl::StrCat(" with label 0x", absl::Hex(*label)) : "",
                ", and Gunyah starts no guest unless that is a whole parcel with that label: bind "
                "memory there, or remove the node");
}

absl::Status CheckReservedMemory(Tree tree, const Layout& layout, const ParcelsByLabel& parcels) {
  const auto parent = FindNode(tree, "/reserved-memory");
  if (!parent) return absl::OkStatus();
  int node = 0;
  fdt_for_each_subnode(node, tree.data(), *parent) {
    GMEM_RETURN_IF_ERROR(CheckReservedRegion(tree, *parent, node, layout, parcels));
  }
  return absl::OkStatus();
}

// ---- devices ----

// "interrupts" of a doorbell. The Resource Manager ignores one that it doesn't understand, and the
// guest would then wait for another interrupt than the one that comes.
absl::Status CheckInterrupt(Tree tree, int node) {
  int size = 0;
  const void* const value = fdt_getprop(tree.data(), node, "interrupts", &size);
  if (value == nullptr) return absl::OkStatus();
  const auto* const cells = static_cast<const fdt32_t*>(value);
  const bool is_one = size == 3 * sizeof(fdt32_t);
  if (is_one && fdt32_ld(&cells[0]) == 0 && fdt32_ld(&cells[1]) < kNrInterrupts &&
      (fdt32_ld(&cells[2]) == 1 || fdt32_ld(&cells[2]) == 4)) {
    return absl::OkStatus();
  }
  return Broken(PathOf(tree, node),
                " has interrupts that aren't one SPI: give it three cells, 0, "
                "a number below ",
                kNrInterrupts, ", and 1 (edge) or 4 (level)");
}

absl::Status CheckDoorbell(Tree tree, int node, bool guest_rings,
                           std::set<std::pair<bool, uint32_t>>& labels) {
  const auto label = GetLabel(tree, node);
  if (!label) {
    return Broken(PathOf(tree, node), " is a doorbell without a qcom,label: add one");
  }
  if (!HasProperty(tree, node, "peer-default") && !HasProperty(tree, node, "peer")) {
    return Broken(PathOf(tree, node),
                  " is a doorbell without the property peer-default: add it, without a value");
  }
  if (!labels.emplace(guest_rings, *label).second) {
    return Broken(PathOf(tree, node), " has label ", *label,
                  ", which another doorbell of the same direction has: choose another one");
  }
  return guest_rings ? absl::OkStatus() : CheckInterrupt(tree, node);
}

absl::Status CheckVirtio(Tree tree, const Node& node) {
  const auto range = GetRange(tree, node.offset, node.address_cells, node.size_cells);
  if (!range || (range->IsValid() && range->end() <= gunyah::kDevicesEnd)) return absl::OkStatus();
  return Broken(PathOf(tree, node.offset), " has registers at ", ToString(*range), ": accesses at ",
                ToString(gunyah::kDevicesEnd),
                " and above don't reach the VMM; move the device below");
}

}  // namespace

absl::Status CheckReservedNodes(Tree tree) {
  GMEM_RETURN_IF_ERROR(
      ForEachNode(tree, [&](const Node& node) { return CheckMemoryNode(tree, node); }));
  if (const auto node = FindNode(tree, "/hypervisor")) {
    return Broken("the tree has ", PathOf(tree, *node),
                  ", which Gunyah adds itself: remove the node");
  }
  return absl::OkStatus();
}

absl::Status CheckRootCells(Tree tree, const Layout& layout) {
  const int address_cells = ChildAddressCells(tree, kRoot);
  const int size_cells = ChildSizeCells(tree, kRoot);
  std::vector<Parcel> parcels = layout.others;
  parcels.push_back(layout.image);
  for (const Parcel& parcel : parcels) {
    if (Fits(parcel.range.end().value() - 1, address_cells) &&
        Fits(parcel.range.size.value(), size_cells)) {
      continue;
    }
    return Broken("the root has #address-cells ", address_cells, " and #size-cells ", size_cells,
                  ", which can't hold ", ToString(parcel), ", which Gunyah adds: set both to 2");
  }
  return absl::OkStatus();
}

absl::Status CheckConfigNode(Tree tree, const Layout& layout) {
  const auto config = FindConfig(tree);
  if (!config) {
    return Broken(
        "the tree has no /gunyah-vm-config, so Gunyah doesn't know the VM: call "
        "DeviceTree::AddVmConfig()");
  }
  GMEM_RETURN_IF_ERROR(CheckImageName(tree, *config));
  GMEM_RETURN_IF_ERROR(CheckImagePlace(tree, *config, layout));
  GMEM_RETURN_IF_ERROR(CheckVcpus(tree, *config));
  GMEM_RETURN_IF_ERROR(CheckGic(tree, *config));
  if (FindNode(tree, "/chosen")) return absl::OkStatus();
  return Broken("the tree has no /chosen, where Gunyah adds a seed: add the node");
}

absl::Status CheckRegions(Tree tree, const Layout& layout) {
  const ParcelsByLabel parcels = ByLabel(layout);
  std::set<uint32_t> labels;
  GMEM_RETURN_IF_ERROR(ForEachNode(tree, [&](const Node& node) -> absl::Status {
    if (!HasText(tree, node.offset, "vdevice-type", "shm") &&
        !HasText(tree, node.offset, "vdevice-type", "shm-doorbell")) {
      return absl::OkStatus();
    }
    GMEM_ASSIGN_OR_RETURN(const Place place, ReadPlace(tree, node.offset));
    if (labels.insert(place.label).second) return CheckPlace(tree, place, parcels);
    return Broken(PathOf(tree, node.offset), " has label 0x", absl::Hex(place.label),
                  ", which another region has: remove one of the nodes");
  }));
  for (const Parcel& parcel : layout.others) {
    if (labels.count(parcel.label) == 0) return NoPlace(parcel, layout);
  }
  return CheckReservedMemory(tree, layout, parcels);
}

absl::Status CheckDevices(Tree tree) {
  std::set<std::pair<bool, uint32_t>> labels;
  return ForEachNode(tree, [&](const Node& node) -> absl::Status {
    for (const bool guest_rings : {false, true}) {
      if (HasText(tree, node.offset, "vdevice-type",
                  guest_rings ? "doorbell-source" : "doorbell")) {
        GMEM_RETURN_IF_ERROR(CheckDoorbell(tree, node.offset, guest_rings, labels));
      }
    }
    return HasText(tree, node.offset, "compatible", "virtio,mmio") ? CheckVirtio(tree, node)
                                                                   : absl::OkStatus();
  });
}

}  // namespace gmem::gunyah_internal
