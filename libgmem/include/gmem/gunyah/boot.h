// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_GUNYAH_BOOT_H_
#define GMEM_GUNYAH_BOOT_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem::gunyah {

/// How a guest starts.
struct BootOptions {
  /// The guest's first instruction, in lent memory: for Linux, the start of its image.
  GuestAddress entry = {};
  /// Where the device tree goes, with DeviceTree::RoomNeeded() after DeviceTree::AddVmConfig(); a
  /// multiple of 4 KiB. If empty, it goes to the end of the image's memory.
  std::optional<GuestAddress> device_tree = std::nullopt;
  /// Not used if the tree has /gunyah-vm-config.
  VmConfig config = {};
};

/// Makes a VM ready for Start(), from memory that is bound, and a kernel that is in it:
/// - adds what the Resource Manager reads to the tree (DeviceTree::AddVmConfig()), unless it is
///   there;
/// - checks the rules (DeviceTree::Check());
/// - writes the tree to guest memory, and sets its address;
/// - sets the first vCPU's registers: PC is the entry, and X0 the address of the tree;
/// - adds the vCPUs of the tree.
///
/// Returns the vCPUs in the order of their labels. @p memory is what is bound where the tree goes.
///
/// InvalidArgument (EINVAL) if a rule is broken: nothing has changed then. Other errors: those of
/// SetDeviceTree(), SetBootRegister(), Vcpu::Add() and GuestMemory::Map(). The call may be repeated
/// until Start(). Thread-safe.
absl::StatusOr<std::vector<Vcpu>> PrepareStart(const Vm& vm, const GuestMemory& memory,
                                               const DeviceTree& tree, const BootOptions& options);

}  // namespace gmem::gunyah

#endif  // GMEM_GUNYAH_BOOT_H_
