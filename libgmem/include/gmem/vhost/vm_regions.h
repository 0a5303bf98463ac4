// SPDX-License-Identifier: Apache-2.0
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

/// Where the VMM has the guest memory of a binding.
struct BindingHost {
  /// A descriptor of the guest memory: Binding::memory_id says of which.
  int fd = -1;
  /// The first byte of the binding in the VMM: in a Window, or in a mapping.
  uint64_t user_address = 0;
};

/// What a back-end may see of a VM's memory: the bindings that are shared and that the
/// guest may read and write. Lent memory is never among them: whoever else touches it
/// takes it from the guest. Nothing else tells a back-end to keep from writing, so what
/// the guest can't write isn't among them, either.
///
/// @p bindings are Vm::Query()'s. @p find is asked for each such binding; what it knows
/// nothing of is left out. Bindings that continue each other, in guest, file and VMM, become
/// one region.
///
/// To follow Vm::Map(), call Frontend::SetMemory() with the result afterwards; to follow
/// Vm::Unmap(), call it beforehand, with the range in @p except, so that the back-end has
/// let go when the range goes. A range that is too long for 64 bits is all from its start on.
std::vector<GuestRegion> SharedRegions(
    absl::Span<const Binding> bindings,
    absl::FunctionRef<std::optional<BindingHost>(const Binding&)> find, GuestRange except = {});

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_VM_REGIONS_H_
