// SPDX-License-Identifier: MIT OR Apache-2.0
// The rules of the public Resource Manager (2023) for the device tree of a VM. Each function names
// the first rule that is broken, with the value and the remedy. Not installed.
#ifndef GMEM_GUNYAH_RULES_H_
#define GMEM_GUNYAH_RULES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/gunyah/layout.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah_internal {

// Nodes that only the Resource Manager may make: memory beside /memory, and /hypervisor. A guest
// could take other memory nodes for RAM that isn't there.
absl::Status CheckReservedNodes(absl::Span<const uint8_t> tree);

// The numbers of cells of the root, in which the Resource Manager writes the guest's memory.
absl::Status CheckRootCells(absl::Span<const uint8_t> tree, const gunyah::Layout& layout);

// The node that says what the VM is: its name, the place of its image, its CPUs
// and their interrupt controller.
absl::Status CheckConfigNode(absl::Span<const uint8_t> tree, const gunyah::Layout& layout);

// The place of each parcel: nodes that describe regions of memory.
absl::Status CheckRegions(absl::Span<const uint8_t> tree, const gunyah::Layout& layout);

// Doorbells, and devices that the VMM emulates.
absl::Status CheckDevices(absl::Span<const uint8_t> tree);

}  // namespace gmem::gunyah_internal
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_RULES_H_
