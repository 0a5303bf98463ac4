// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_KVM_CAPABILITIES_H_
#define GMEM_KVM_CAPABILITIES_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gmem::kvm {

/// A kind of guest_memfd: who can access its memory, and how. A guest_memfd belongs to the VM that
/// it was created for: no other VM can have the file in a memslot.
enum class GuestMemfdKind {
  /// Both guest and host: plain guest memory. The file can be mapped. Needs Linux 6.18 and a VM
  /// without private memory. (GUEST_MEMFD_FLAG_MMAP and GUEST_MEMFD_FLAG_INIT_SHARED)
  kShared,
  /// Only the guest, in the whole memslot. The file can be mapped, but touching the mapping raises
  /// SIGBUS: no process of the host, not even the VMM, can read the guest's memory. Needs Linux
  /// 6.18. (GUEST_MEMFD_FLAG_MMAP)
  kGuestOnly,
  /// Only the guest, in the ranges that are lent: the file is the private half of a memslot, and
  /// host memory is the shared half. The file can't be mapped. Useful only for VMs with private
  /// memory.
  kPrivate,
};

/// A text for messages: "kShared". Thread-safe.
const char* ToString(GuestMemfdKind kind);

/// The features of KVM that this part of the library uses, for one VM. A plain value.
///
/// @par Thread safety
/// Thread-safe: Query(), has_private_memory(), CheckGuestMemfd(), CheckPrivateMemory().\n
/// Needs exclusive access: assigning to the object or its members.
struct Capabilities {
  /// KVM_SET_USER_MEMORY_REGION2. Since Linux 6.8.
  bool user_memory_region2 = false;
  /// KVM_RUN reports the address of a fault that KVM can't resolve. Since Linux 6.8.
  bool memory_fault_exit = false;
  /// KVM_CREATE_GUEST_MEMFD, for this VM.
  bool guest_memfd = false;
  /// Memslots that the guest can't write.
  bool read_only_memslots = false;
  /// The number of memslots that the VM can have.
  uint32_t max_memslots = 0;
  /// The attributes (KVM_MEMORY_ATTRIBUTE_*) that this VM's memory can have; 0 for VMs without
  /// private memory.
  uint64_t memory_attributes = 0;
  /// The flags that KVM_CREATE_GUEST_MEMFD accepts. Since Linux 6.18; 0 before.
  uint64_t guest_memfd_flags = 0;

  /// Asks KVM about the VM of @p vm_fd. VMs of different types may have different capabilities.
  static absl::StatusOr<Capabilities> Query(int vm_fd);

  /// Can this VM have private memory, so that Memslot::Lend() works?
  bool has_private_memory() const;

  /// OK if the VM can have a guest_memfd of that kind. Otherwise Unimplemented (EOPNOTSUPP), with a
  /// message that says what is missing and which kernel has it.
  absl::Status CheckGuestMemfd(GuestMemfdKind kind) const;

  /// OK if the VM can have private memory. Otherwise Unimplemented (EOPNOTSUPP), with such a
  /// message.
  absl::Status CheckPrivateMemory() const;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_CAPABILITIES_H_
