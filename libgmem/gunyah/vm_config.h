// SPDX-License-Identifier: MIT OR Apache-2.0
// Adds to a device tree what the Resource Manager reads. Not installed.
#ifndef GMEM_GUNYAH_VM_CONFIG_H_
#define GMEM_GUNYAH_VM_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah_internal {

// The longest name of a VM, in bytes.
inline constexpr size_t kMaxImageName = 79;
// The most texts of Region::compatible.
inline constexpr size_t kMaxCompatible = 6;
// The first SPI that the GIC doesn't have.
inline constexpr uint32_t kNrInterrupts = 988;

// The value of "compatible" of a reserved region that is a pool for devices.
inline constexpr char kDmaPool[] = "restricted-dma-pool";

// Checks the values against the rules that DeviceTree::AddVmConfig() names.
absl::Status CheckVmConfig(const gunyah::Layout& layout, const gunyah::VmConfig& config);

// Returns the tree with /gunyah-vm-config and /memory. @config has been checked.
absl::StatusOr<std::vector<uint8_t>> AddVmConfig(absl::Span<const uint8_t> tree,
                                                 const gunyah::Layout& layout,
                                                 const gunyah::VmConfig& config);

}  // namespace gmem::gunyah_internal
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_VM_CONFIG_H_
