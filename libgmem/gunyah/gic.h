// SPDX-License-Identifier: MIT OR Apache-2.0
// The interrupt controller in a device tree. Not installed.
#ifndef GMEM_GUNYAH_GIC_H_
#define GMEM_GUNYAH_GIC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah_internal {

// The path of a GICv3 that other nodes can refer to; empty if the tree has none.
std::string FindGic(absl::Span<const uint8_t> tree);

// Checks that the Resource Manager finds a GICv3: by the path in @config, the node of
// /gunyah-vm-config, or as the root's interrupt-parent. It can't make one.
absl::Status CheckGic(absl::Span<const uint8_t> tree, int config);

}  // namespace gmem::gunyah_internal
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_GIC_H_
