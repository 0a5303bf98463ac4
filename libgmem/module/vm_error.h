// SPDX-License-Identifier: MIT OR Apache-2.0
// Texts for the errno of a VM's call: they say which value was wrong. The kernel alone decides
// whether a call is valid. These functions look for the reason only afterwards. Not installed.
#ifndef GMEM_MODULE_VM_ERROR_H_
#define GMEM_MODULE_VM_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmem/types.h"
#include "gmem/vm.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

absl::Status MapError(const Vm& vm, int guest_memory_fd, const MapOptions& options, int error);
absl::Status ChangeError(const Vm& vm, GuestRange range, const ChangeOptions& options, int error);
absl::Status UnmapExactError(const Vm& vm, int guest_memory_fd, const MapOptions& options,
                             int error);

// For a call whose only argument is a range. @progress says how far the call got.
absl::Status VmRangeError(const Vm& vm, absl::string_view verb, GuestRange range, int error,
                          absl::string_view progress);

// Describes the rule of the kernel that @range breaks; empty if it breaks none.
std::string FindGuestRangeMistake(const Vm& vm, GuestRange range);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MODULE_VM_ERROR_H_
