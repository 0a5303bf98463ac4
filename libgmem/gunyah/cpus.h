// SPDX-License-Identifier: MIT OR Apache-2.0
// The nodes of a device tree that say what the VM is and which CPUs it has. Not installed.
#ifndef GMEM_GUNYAH_CPUS_H_
#define GMEM_GUNYAH_CPUS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah_internal {

// /gunyah-vm-config, or its older name; nothing if there is neither.
std::optional<int> FindConfig(absl::Span<const uint8_t> tree);

// The CPUs in a node, as the Resource Manager counts them: those that failed don't count.
uint32_t CountCpus(absl::Span<const uint8_t> tree, int cpus);

// Checks that a CPU starts with the VM, and that the guest can turn on the others.
absl::Status CheckCpus(absl::Span<const uint8_t> tree, int cpus);

}  // namespace gmem::gunyah_internal
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_CPUS_H_
