// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_KVM_CAPABILITIES_H_
#define GMEM_KVM_CAPABILITIES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gmem::kvm {

/// Who can reach the memory of a guest_memfd, and how. A guest_memfd belongs to the VM
/// that it was created for: no other VM can have it in a memslot of its own.
enum class GuestMemfdKind {
  /// Guest and host: plain guest memory. Can be mapped. Linux 6.18 or later, in VMs
  /// without private memory. (GUEST_MEMFD_FLAG_MMAP and GUEST_MEMFD_FLAG_INIT_SHARED)
  kShared,
  /// The guest alone, of all that the memslot covers. A mapping is possible, and
  /// touching it is SIGBUS: nobody on the host can read the guest's memory, the VMM not
  /// either. Linux 6.18 or later. (GUEST_MEMFD_FLAG_MMAP)
  kGuestOnly,
  /// The guest alone, of the ranges that are lent: the private half of a memslot, whose
  /// shared half is host memory. Can't be mapped. Of use in VMs with private memory.
  kPrivate,
};

/// For messages: "kShared". Thread-safe.
const char* ToString(GuestMemfdKind kind);

/// What a VM's KVM offers of what this part of the library uses. A plain value.
///
/// @par Thread safety
/// Thread-safe: Query(), has_private_memory(), CheckGuestMemfd(), CheckPrivateMemory().\n
/// Needs exclusive access: assigning, to it or its members.
struct Capabilities {
  /// KVM_SET_USER_MEMORY_REGION2. Linux 6.8.
  bool user_memory_region2 = false;
  /// KVM_RUN tells where a fault was that it can't resolve. Linux 6.8.
  bool memory_fault_exit = false;
  /// KVM_CREATE_GUEST_MEMFD, for this VM.
  bool guest_memfd = false;
  /// Memslots that the guest can't write.
  bool read_only_memslots = false;
  /// How many memslots the VM can have.
  uint32_t max_memslots = 0;
  /// Attributes that this VM's memory can have; 0 for VMs without private memory.
  uint64_t memory_attributes = 0;
  /// What KVM_CREATE_GUEST_MEMFD takes. Linux 6.18; 0 before.
  uint64_t guest_memfd_flags = 0;

  /// Asks KVM about the VM of @p vm_fd: a VM of another type may have others.
  static absl::StatusOr<Capabilities> Query(int vm_fd);

  /// Can this VM have private memory, so that ranges of it can be lent?
  bool has_private_memory() const;

  /// OK if the VM can have a guest_memfd of that kind; else Unimplemented (EOPNOTSUPP)
  /// with a message that says what is missing, and which kernel has it.
  absl::Status CheckGuestMemfd(GuestMemfdKind kind) const;

  /// The same for private memory.
  absl::Status CheckPrivateMemory() const;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_CAPABILITIES_H_
