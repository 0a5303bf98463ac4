// SPDX-License-Identifier: MIT OR Apache-2.0
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
/// x86-64: private memory without special hardware, for tests. Needs a kernel with
/// CONFIG_KVM_SW_PROTECTED_VM; Debian's kernels don't have it.
inline constexpr uint64_t kSoftwareProtectedVm = 1;

/// Opens KVM's device. NotFound if the host has none, Unimplemented if KVM's API has another
/// version than 12, the only one that exists. Thread-safe.
absl::StatusOr<UniqueFd> OpenDevice(const std::string& path = "/dev/kvm");

/// The memory side of a KVM virtual machine. The VMM uses fd() for vCPUs and devices.
///
/// KVM serves a VM only in the process that made it. In a child after fork(), after exec(), or in a
/// process that received the descriptor, the VM's calls fail with EIO.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Create(), Adopt(), fd(), capabilities(), CreateGuestMemfd(), AddMemslot(),
/// SetPrivate(), SetShared().\n
/// Needs exclusive access: moving, destroying.
class Vm {
 public:
  /// Creates a VM. @p device_fd comes from OpenDevice(); the caller may close it afterwards.
  static absl::StatusOr<Vm> Create(int device_fd, uint64_t type = kDefaultVm);

  /// Takes over a VM that other code of this process made. The library uses no memslot number below
  /// @p first_memslot; the caller may use those.
  static absl::StatusOr<Vm> Adopt(UniqueFd fd, uint32_t first_memslot = 0);

  Vm(Vm&&) noexcept = default;
  Vm& operator=(Vm&&) noexcept = default;
  ~Vm();

  int fd() const;
  const Capabilities& capabilities() const;

  /// Creates a guest_memfd. InvalidArgument if @p size is 0 or no multiple of the page size;
  /// Unimplemented (EOPNOTSUPP) if this VM can't have that kind. The descriptor is close-on-exec,
  /// but KVM can't set that flag at creation: a fork() and exec() of another thread may leak the
  /// descriptor to the new program.
  absl::StatusOr<GuestMemfd> CreateGuestMemfd(ByteSize size,
                                              GuestMemfdKind kind = GuestMemfdKind::kShared) const;

  /// Adds a memslot, under the lowest free memslot number, so that the guest can use its memory.
  /// AlreadyExists if another slot overlaps. InvalidArgument or OutOfRange if the options break a
  /// rule of MemslotOptions. ResourceExhausted if the VM has no free memslot number.
  absl::StatusOr<Memslot> AddMemslot(const MemslotOptions& options) const;

  /// Selects the side of a range that the guest uses: private, which the host can't access, or
  /// shared, which all memory is at first. The range consists of whole pages; no memslot need exist
  /// there yet. Nothing changes on an error. Memslot::Lend() and Memslot::Share() also free the
  /// unused side. Unimplemented if the VM has no private memory.
  absl::Status SetPrivate(GuestRange range) const;
  absl::Status SetShared(GuestRange range) const;

 private:
  explicit Vm(std::shared_ptr<VmState> state);

  std::shared_ptr<VmState> state_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_VM_H_
