// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_KVM_MEMORY_FAULT_H_
#define GMEM_KVM_MEMORY_FAULT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "gmem/types.h"

struct kvm_run;

namespace gmem::kvm {

/// A guest access that KVM could not resolve: KVM_EXIT_MEMORY_FAULT.
struct MemoryFault {
  /// The guest addresses of the access.
  GuestRange range;
  /// The guest accessed the range as private memory (true) or as shared memory (false). If the
  /// range is of the other kind, the guest asks the VMM to convert it: use Memslot::Lend(),
  /// Memslot::Share(), Vm::SetPrivate() or Vm::SetShared().
  bool is_private = false;
  /// The page is broken (EHWPOISON): its content is lost.
  bool is_poisoned = false;
  /// Flags of newer kernels that this library doesn't know.
  uint64_t unknown_flags = 0;

  friend bool operator==(const MemoryFault& a, const MemoryFault& b) = default;
};

/// A text for messages: "private access to 0x1000..0x1fff". Thread-safe.
std::string ToString(const MemoryFault& fault);

/// Returns the memory fault of a KVM_RUN that failed; nothing if KVM_RUN failed for another reason.
/// @p run_errno is the errno of that KVM_RUN. A memory fault is the only exit with an error (EFAULT
/// or EHWPOISON); with any other errno, the exit reason is stale.
///
/// KVM reports accesses to a guest_memfd, and private or shared accesses to memory of the other
/// kind. It reports no address when host memory isn't accessible, as in the holes of a
/// MemoryMapper's region: KVM_RUN then fails with EFAULT, and this function returns nothing. After
/// the VMM has mapped memory there, another KVM_RUN repeats the access.
///
/// Thread-safe. @p run is the vCPU's own, and the vCPU's KVM_RUN writes it.
std::optional<MemoryFault> DecodeMemoryFault(const kvm_run& run, int run_errno);

}  // namespace gmem::kvm

#endif  // GMEM_KVM_MEMORY_FAULT_H_
