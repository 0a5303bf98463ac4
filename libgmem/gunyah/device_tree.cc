// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/device_tree.h"

#include <libfdt.h>

#include <cerrno>
#include <cstdint>
#include <optional>
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
#include "gunyah/cpus.h"
#include "gunyah/fdt.h"
#include "gunyah/rules.h"
#include "gunyah/vm_config.h"

namespace gmem::gunyah {
namespace {

using internal::CheckError;

constexpr uint32_t kVersion = 17;
constexpr ByteSize kTreeAlignment = KiB(4);
// Bytes that the Resource Manager adds: nodes of its own, and for each region, doorbell and CPU.
constexpr uint64_t kAdded = 4096;
constexpr uint64_t kAddedForVdevice = 1024;
constexpr uint64_t kAddedForCpu = 256;

uint32_t CountVdevices(absl::Span<const uint8_t> tree) {
  uint32_t count = 0;
  for (int node = 0; node >= 0; node = fdt_next_node(tree.data(), node, nullptr)) {
    if (gunyah_internal::HasProperty(tree, node, "vdevice-type")) count++;
  }
  return count;
}

absl::Status NotATree(absl::string_view why) {
  return CheckError(EINVAL, absl::StrCat("this isn't a flattened device tree that Gunyah takes: ",
                                         why, "; make it with dtc or libfdt"));
}

// The range of /chosen/linux,initrd-start and -end; nothing without them.
std::optional<GuestRange> FindInitrd(absl::Span<const uint8_t> tree) {
  const auto chosen = gunyah_internal::FindNode(tree, "/chosen");
  if (!chosen) return std::nullopt;
  const auto number = [&](const char* property) {
    const auto wide = gunyah_internal::GetNumber(tree, *chosen, property, 2);
    return wide ? wide : gunyah_internal::GetNumber(tree, *chosen, property, 1);
  };
  const auto start = number("linux,initrd-start");
  const auto end = number("linux,initrd-end");
  if (!start || !end || *end <= *start) return std::nullopt;
  return GuestRange{GuestAddress(*start), ByteSize(*end - *start)};
}

absl::Status CheckPlace(const GuestRange& range, const Layout& layout, ByteSize room) {
  if (!IsAligned(range.start, kTreeAlignment)) {
    return CheckError(EINVAL, absl::StrCat("the device tree's address, ", ToString(range.start),
                                           ", isn't a multiple of ", ToString(kTreeAlignment),
                                           ": choose one that is"));
  }
  if (range.size < room) {
    return CheckError(EINVAL,
                      absl::StrCat("the device tree's range, ", ToString(range), ", has ",
                                   ToString(range.size), ", and Gunyah adds to the tree: it needs ",
                                   ToString(room), " (DeviceTree::RoomNeeded())"));
  }
  if (!layout.image.range.Contains(range)) {
    return CheckError(EINVAL, absl::StrCat("the device tree's range, ", ToString(range),
                                           ", isn't in the image, ", ToString(layout.image),
                                           ": put it into the same memory as the guest's first "
                                           "instruction"));
  }
  return absl::OkStatus();
}

absl::Status CheckOverlaps(const Placement& placement, std::optional<GuestRange> initrd) {
  const GuestRange& range = placement.device_tree;
  if (range.Overlaps({placement.entry, ByteSize(1)})) {
    return CheckError(EINVAL, absl::StrCat("the device tree's range, ", ToString(range),
                                           ", has the guest's first instruction, ",
                                           ToString(placement.entry), ": move one of them"));
  }
  if (initrd && range.Overlaps(*initrd)) {
    return CheckError(
        EINVAL, absl::StrCat("the device tree's range, ", ToString(range),
                             ", overlaps the initrd, ", ToString(*initrd), ": move one of them"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeviceTree> DeviceTree::Parse(absl::Span<const uint8_t> bytes) {
  // libfdt wants to read a whole header before it checks one.
  if (bytes.size() < sizeof(fdt_header)) {
    return NotATree(absl::StrCat("it has only ", bytes.size(), " bytes"));
  }
  // A copy is aligned as libfdt wants it, and nobody else changes it.
  const auto part = bytes.subspan(0, gunyah_internal::kMaxTreeSize);
  std::vector<uint8_t> copy(part.begin(), part.end());
  if (const int error = fdt_check_header(copy.data()); error != 0) {
    return NotATree(fdt_strerror(error));
  }
  if (fdt_totalsize(copy.data()) > gunyah_internal::kMaxTreeSize) {
    return NotATree(absl::StrCat("it says that it has ", fdt_totalsize(copy.data()),
                                 " bytes, and Linux takes ", gunyah_internal::kMaxTreeSize));
  }
  // Before the whole check: libfdt 1.6 crashes there at trees before version 16.
  if (fdt_version(copy.data()) < kVersion) {
    return NotATree(absl::StrCat("it has version ", fdt_version(copy.data()), ", not ", kVersion));
  }
  if (const int error = fdt_check_full(copy.data(), copy.size()); error != 0) {
    return NotATree(fdt_strerror(error));
  }
  if (fdt_get_name(copy.data(), 0, nullptr) == nullptr) return NotATree("it has no root");
  copy.resize(fdt_totalsize(copy.data()));
  return DeviceTree(std::move(copy));
}

bool DeviceTree::HasVmConfig() const { return gunyah_internal::FindConfig(bytes_).has_value(); }

uint32_t DeviceTree::CpuCount() const {
  const auto cpus = gunyah_internal::FindNode(bytes_, "/cpus");
  return cpus ? gunyah_internal::CountCpus(bytes_, *cpus) : 0;
}

ByteSize DeviceTree::RoomNeeded() const {
  const uint64_t size =
      bytes_.size() + kAdded + CountVdevices(bytes_) * kAddedForVdevice + CpuCount() * kAddedForCpu;
  // The Resource Manager makes the new tree behind the old one, if it has no room for it itself.
  const uint64_t page = kTreeAlignment.value();
  return ByteSize((2 * size + page - 1) / page * page);
}

absl::Status DeviceTree::AddVmConfig(const Layout& layout, const VmConfig& config) {
  if (HasVmConfig()) {
    return CheckError(EEXIST,
                      "the tree has /gunyah-vm-config already: remove the node, or call only "
                      "DeviceTree::Check()");
  }
  VmConfig whole = config;
  whole.doorbells.insert(whole.doorbells.end(), doorbells_.begin(), doorbells_.end());
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckReservedNodes(bytes_));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckRootCells(bytes_, layout));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckVmConfig(layout, whole));
  GMEM_ASSIGN_OR_RETURN(bytes_, gunyah_internal::AddVmConfig(bytes_, layout, whole));
  return absl::OkStatus();
}

absl::Status DeviceTree::Check(const Placement& placement) const {
  GMEM_ASSIGN_OR_RETURN(const Layout layout, PlanLayout(placement.bindings, placement.entry));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckReservedNodes(bytes_));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckRootCells(bytes_, layout));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckConfigNode(bytes_, layout));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckRegions(bytes_, layout));
  GMEM_RETURN_IF_ERROR(gunyah_internal::CheckDevices(bytes_));
  GMEM_RETURN_IF_ERROR(CheckPlace(placement.device_tree, layout, RoomNeeded()));
  return CheckOverlaps(placement, FindInitrd(bytes_));
}

}  // namespace gmem::gunyah
