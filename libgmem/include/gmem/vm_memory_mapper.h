// SPDX-License-Identifier: Apache-2.0
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
  /// How many pieces may be mapped at a time. Each takes one of the process's mappings,
  /// of which the kernel allows 65,530 by default. 1 to 1,048,576, else InvalidArgument.
  size_t max_pieces = 1024;
};

/// A MemoryMapper over gmem.ko: the region is @p range of @p window, which is writable,
/// lives longer than the mapper and stays where it is. A guestmem is bound to the VM,
/// shared; any other file is mapped over the window's addresses, where KVM finds it.
///
/// Errors: AlreadyExists (EEXIST) if something is bound in @p range, InvalidArgument if
/// it doesn't lie in the window. While the mapper lives, nobody else binds anything
/// there or refreshes the window there. When it goes, it unmaps what is left.
///
/// Thread-safe.
absl::StatusOr<std::unique_ptr<MemoryMapper>> NewVmMemoryMapper(
    const Window* window, GuestRange range, const VmMemoryMapperOptions& options = {});

}  // namespace gmem

#endif  // GMEM_VM_MEMORY_MAPPER_H_
