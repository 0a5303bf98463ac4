// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VM_MEMORY_MAPPER_H_
#define GMEM_VM_MEMORY_MAPPER_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "gmem/window.h"

namespace gmem {

struct VmMemoryMapperOptions {
  /// How many pieces may be mapped at a time. Each takes one of the process's mappings, of which
  /// the kernel allows 65,530 by default, except a guestmem in a window of kind kLive. 1 to
  /// 1,048,576, else InvalidArgument.
  size_t max_pieces = 1024;
};

/// A MemoryMapper over gmem.ko: the region is @p range of @p window. Map() binds a guestmem to the
/// VM, shared, and maps any other file over the window's addresses, where KVM finds it. The
/// destructor unmaps the pieces that are left. The run loop of the VMM is that of Window.
///
/// The window must be writable, outlive the mapper and not move. While the mapper lives, nothing
/// else may bind memory in @p range or refresh the window there.
///
/// Errors: AlreadyExists (EEXIST) if @p range has a binding; InvalidArgument (EINVAL) if it doesn't
/// lie in the window, or for max_pieces; PermissionDenied (EACCES) if the window is read-only.
///
/// Thread-safe.
absl::StatusOr<std::unique_ptr<MemoryMapper>> NewVmMemoryMapper(
    const Window* window, GuestRange range, const VmMemoryMapperOptions& options = {});

}  // namespace gmem

#endif  // GMEM_VM_MEMORY_MAPPER_H_
