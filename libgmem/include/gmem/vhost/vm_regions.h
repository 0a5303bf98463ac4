// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_VM_REGIONS_H_
#define GMEM_VHOST_VM_REGIONS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vm.h"

namespace gmem::vhost {

/// The VMM's own access to the guest memory of a binding.
struct BindingHost {
  /// A descriptor of the guest memory that Binding::memory_id names, open for writing.
  int fd = -1;
  /// The address of the binding's first byte in the VMM, in a Window or in a mapping.
  uint64_t user_address = 0;
};

/// The regions of a VM's memory that a back-end may have: the bindings that are shared and that the
/// guest may read and write. Leaves out lent memory, since a back-end's touch would take it from
/// the guest, and memory that the guest can't write, since the protocol has no read-only regions.
///
/// @p bindings come from Vm::Query(). @p find returns the VMM's access to such a binding, or
/// nothing to leave it out. Bindings that continue each other in guest, file and VMM become one
/// region.
///
/// After memory was bound, call Frontend::SetMemory() with the result: the back-end gets a view of
/// each region. Before you unbind memory, call it with the result that leaves out the range
/// @p except: if that succeeds, the front-end has revoked the back-end's view of the range. If it
/// fails, the back-end may still have the memory: call Frontend::Close() before you unbind it. A
/// range whose end doesn't fit 64 bits stands for everything from its start. Thread-safe.
std::vector<GuestRegion> SharedRegions(
    absl::Span<const Binding> bindings,
    absl::FunctionRef<std::optional<BindingHost>(const Binding&)> find, GuestRange except = {});

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_VM_REGIONS_H_
