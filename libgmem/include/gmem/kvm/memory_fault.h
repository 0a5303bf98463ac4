// SPDX-License-Identifier: Apache-2.0
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
  /// Where.
  GuestRange range;
  /// The guest asked for private memory; if the range is shared, it wants it lent, and
  /// the other way round. Vm::SetPrivate(), Memslot::Lend() answer it.
  bool is_private = false;
  /// The page is broken (EHWPOISON): its content is lost.
  bool is_poisoned = false;
  /// Flags of newer kernels that this library doesn't know.
  uint64_t unknown_flags = 0;

  friend bool operator==(const MemoryFault& a, const MemoryFault& b) = default;
};

/// For messages: "private access to 0x1000..0x1fff". Thread-safe.
std::string ToString(const MemoryFault& fault);

/// What a KVM_RUN that failed tells of a memory fault; nothing if it failed for another
/// reason. @p run_errno is the errno of that KVM_RUN: this is the one exit that comes
/// with an error, EFAULT or EHWPOISON, and with any other the exit reason is stale.
///
/// KVM tells of accesses to a guest_memfd, and of private or shared accesses to memory of
/// the other kind. An EFAULT because host memory isn't accessible, as in the holes of a
/// MemoryMapper's region, comes without an address, and is nothing here: the access can
/// be tried again by another KVM_RUN once something is mapped.
///
/// Thread-safe; @p run is the vCPU's own, whose KVM_RUN writes it.
std::optional<MemoryFault> DecodeMemoryFault(const kvm_run& run, int run_errno);

}  // namespace gmem::kvm

#endif  // GMEM_KVM_MEMORY_FAULT_H_
