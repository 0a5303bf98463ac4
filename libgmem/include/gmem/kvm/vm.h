// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_KVM_VM_H_
#define GMEM_KVM_VM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/kvm/capabilities.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/kvm/memslot.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {

/// Types of VM for Vm::Create(). On arm64, KVM_VM_TYPE_ARM_IPA_SIZE() makes others.
inline constexpr uint64_t kDefaultVm = 0;
/// x86-64: private memory without hardware for it. For tests; kernels with
/// CONFIG_KVM_SW_PROTECTED_VM have it, Debian's don't.
inline constexpr uint64_t kSoftwareProtectedVm = 1;

/// Opens KVM's device. NotFound if the host has none, Unimplemented if it speaks another
/// version of the API than 12, the only one there is. Thread-safe.
absl::StatusOr<UniqueFd> OpenDevice(const std::string& path = "/dev/kvm");

/// The memory side of a KVM virtual machine. vCPUs and devices are the VMM's business:
/// fd() is there for that.
///
/// KVM serves a VM only in the process that made it: after fork() or exec(), or in a
/// process that was sent the descriptor, its calls fail with EIO.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Create(), Adopt(), fd(), capabilities(), CreateGuestMemfd(), AddMemslot(),
/// SetPrivate(), SetShared().\n
/// Needs exclusive access: moving, destroying.
class Vm {
 public:
  /// Creates a VM. @p device_fd is of OpenDevice(), and may be closed afterwards.
  static absl::StatusOr<Vm> Create(int device_fd, uint64_t type = kDefaultVm);

  /// Takes over a VM that was made elsewhere in this process. Memslot numbers below
  /// @p first_memslot stay the caller's.
  static absl::StatusOr<Vm> Adopt(UniqueFd fd, uint32_t first_memslot = 0);

  Vm(Vm&&) noexcept = default;
  Vm& operator=(Vm&&) noexcept = default;
  ~Vm();

  int fd() const;
  const Capabilities& capabilities() const;

  /// Creates a guest_memfd. @p size is a multiple of the page size and not 0, else
  /// InvalidArgument; Unimplemented (EOPNOTSUPP) if this VM can't have that kind. KVM can't
  /// make it close-on-exec at once: another thread's fork() and exec() may take it along.
  absl::StatusOr<GuestMemfd> CreateGuestMemfd(ByteSize size,
                                              GuestMemfdKind kind = GuestMemfdKind::kShared) const;

  /// Gives the guest memory, under the lowest memslot number that is free. AlreadyExists:
  /// another slot is in the way. InvalidArgument, OutOfRange: see MemslotOptions.
  /// ResourceExhausted: KVM has no more slots.
  absl::StatusOr<Memslot> AddMemslot(const MemslotOptions& options) const;

  /// Says which side of a range the guest uses: private, which the host can't reach, or
  /// shared, as all memory is at first. Whole pages; a memslot need not be there yet.
  /// Nothing changes on an error. See Memslot::Lend() for the same with the freeing of
  /// memory. Unimplemented: the VM has no private memory.
  absl::Status SetPrivate(GuestRange range) const;
  absl::Status SetShared(GuestRange range) const;

 private:
  explicit Vm(std::shared_ptr<VmState> state);

  std::shared_ptr<VmState> state_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_VM_H_
