// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_KVM_GUEST_MEMFD_H_
#define GMEM_KVM_GUEST_MEMFD_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/kvm/capabilities.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {

class Vm;

/// KVM's guest_memfd: an anonymous file whose pages are a VM's memory. Vm::CreateGuestMemfd() makes
/// it. Its size is fixed. The kernel allocates a page, zeroed, at its first use, and never moves
/// pages or swaps them out.
///
/// The file keeps the VM alive in the kernel. KVM's memslot doesn't keep the file open; the Memslot
/// object does.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Adopt(), fd(), kind(), size(), range(), Map(), Allocate(), Discard(). The kernel
/// orders calls on one range.\n
/// Needs exclusive access: Release(), moving, destroying.
class GuestMemfd {
 public:
  /// Takes over a guest_memfd that this or another process made; @p kind and @p size are those of
  /// its creation. InvalidArgument if @p fd isn't such a guest_memfd. Adopt() can't distinguish
  /// kShared from kGuestOnly. Needs /proc.
  ///
  /// KVM ties the file to the VM that it was created for. A process that didn't make that VM can
  /// map a kShared file, and use the mapping as the host memory of a memslot of another VM. That
  /// memslot can't have the file itself.
  static absl::StatusOr<GuestMemfd> Adopt(UniqueFd fd, GuestMemfdKind kind, ByteSize size);

  GuestMemfd(GuestMemfd&&) noexcept = default;
  GuestMemfd& operator=(GuestMemfd&&) noexcept = default;

  int fd() const { return fd_.get(); }
  GuestMemfdKind kind() const { return kind_; }
  ByteSize size() const { return size_; }
  ByteRange range() const { return {ByteOffset(0), size_}; }

  /// Maps a range, or all of the file. FailedPrecondition for kPrivate. For kGuestOnly, use the
  /// addresses only for a memslot: touching them raises SIGBUS.
  absl::StatusOr<Mapping> Map(MemoryAccess access = MemoryAccess::kReadWrite) const;
  absl::StatusOr<Mapping> Map(ByteRange range,
                              MemoryAccess access = MemoryAccess::kReadWrite) const;

  /// Allocates a range before its first use, according to its NUMA policy if it has one. Continues
  /// after signals. ResourceExhausted if the host hasn't enough memory; pages that are allocated by
  /// then stay.
  absl::Status Allocate(ByteRange range) const;

  /// Frees a range: guest and host find zeroes at their next access.
  absl::Status Discard(ByteRange range) const;

  /// Gives the descriptor to the caller, who must close it.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  friend class Vm;

  GuestMemfd(UniqueFd fd, GuestMemfdKind kind, ByteSize size)
      : fd_(std::move(fd)), kind_(kind), size_(size) {}

  absl::Status CheckRange(ByteRange range) const;
  absl::Status Fallocate(int mode, ByteRange range, const char* what) const;

  UniqueFd fd_;
  GuestMemfdKind kind_;
  ByteSize size_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_GUEST_MEMFD_H_
