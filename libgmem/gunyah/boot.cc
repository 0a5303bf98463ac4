// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/boot.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem::gunyah {
namespace {

using internal::CheckError;

// Completes the tree, and decides where it goes.
absl::StatusOr<Placement> Complete(const Vm& vm, const BootOptions& options, DeviceTree& tree) {
  Placement placement = {.bindings = {}, .entry = options.entry, .device_tree = {}};
  GMEM_ASSIGN_OR_RETURN(placement.bindings, vm.Query());
  GMEM_ASSIGN_OR_RETURN(const Layout layout, PlanLayout(placement.bindings, options.entry));
  if (!tree.HasVmConfig()) GMEM_RETURN_IF_ERROR(tree.AddVmConfig(layout, options.config));

  const ByteSize room = tree.RoomNeeded();
  // An image that is too small fails the check.
  const GuestRange& image = layout.image.range;
  const ByteSize used = std::min(room, image.size);
  placement.device_tree = {
      options.device_tree.value_or(GuestAddress(image.end().value() - used.value())), room};
  GMEM_RETURN_IF_ERROR(tree.Check(placement));
  return placement;
}

// The place in the memory of what is bound at a guest range.
absl::StatusOr<ByteOffset> FindInMemory(const Placement& placement, const GuestMemory& memory) {
  const GuestRange& range = placement.device_tree;
  for (const Binding& binding : placement.bindings) {
    if (binding.memory_id != memory.id() || !binding.range.Contains(range)) continue;
    return binding.offset + (range.start - binding.range.start);
  }
  return CheckError(EINVAL, absl::StrCat("the device tree's range, ", ToString(range),
                                         ", isn't in the guest memory that was given: give the "
                                         "memory that is bound there"));
}

absl::Status Write(const GuestMemory& memory, ByteOffset offset, const DeviceTree& tree) {
  // The tree may begin in the middle of a host's page.
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t before = offset.value() % page;
  const uint64_t size = (before + tree.bytes().size() + page - 1) / page * page;
  GMEM_ASSIGN_OR_RETURN(const Mapping host,
                        memory.Map({ByteOffset(offset.value() - before), ByteSize(size)}));
  std::memcpy(host.data() + before, tree.bytes().data(), tree.bytes().size());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Vcpu>> PrepareStart(const Vm& vm, const GuestMemory& memory,
                                               const DeviceTree& tree, const BootOptions& options) {
  DeviceTree whole = tree;
  GMEM_ASSIGN_OR_RETURN(const Placement placement, Complete(vm, options, whole));
  GMEM_ASSIGN_OR_RETURN(const ByteOffset offset, FindInMemory(placement, memory));

  GMEM_RETURN_IF_ERROR(Write(memory, offset, whole));
  GMEM_RETURN_IF_ERROR(SetDeviceTree(vm, placement.device_tree));
  GMEM_RETURN_IF_ERROR(SetBootRegister(vm, BootRegister::Pc(), placement.entry.value()));
  GMEM_RETURN_IF_ERROR(
      SetBootRegister(vm, BootRegister::X(0), placement.device_tree.start.value()));
  std::vector<Vcpu> vcpus;
  for (uint32_t label = 0; label < whole.CpuCount(); label++) {
    GMEM_ASSIGN_OR_RETURN(Vcpu vcpu, Vcpu::Add(vm, label));
    vcpus.push_back(std::move(vcpu));
  }
  return vcpus;
}

}  // namespace gmem::gunyah
