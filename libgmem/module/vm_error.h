// SPDX-License-Identifier: Apache-2.0
// From the errno of a VM's call to words that say which value was wrong. The kernel
// alone decides; this looks afterwards what it may have meant. Not installed.
#ifndef GMEM_MODULE_VM_ERROR_H_
#define GMEM_MODULE_VM_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmem/types.h"
#include "gmem/vm.h"

// Not for the shared library's users to link with.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

absl::Status MapError(const Vm& vm, int guest_memory_fd, const MapOptions& options, int error);
absl::Status UnmapExactError(const Vm& vm, int guest_memory_fd, const MapOptions& options,
                             int error);

// Of a call that takes nothing but a range. @progress says how far it came.
absl::Status VmRangeError(const Vm& vm, absl::string_view verb, GuestRange range, int error,
                          absl::string_view progress);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MODULE_VM_ERROR_H_
