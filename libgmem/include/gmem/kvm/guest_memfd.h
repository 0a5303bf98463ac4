// SPDX-License-Identifier: Apache-2.0
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

/// KVM's guest_memfd: an anonymous file whose pages are a VM's memory, made by
/// Vm::CreateGuestMemfd(). Its size is fixed; what isn't allocated is allocated when it
/// is first used, and reads as zeroes. The pages can't be moved or swapped out.
///
/// The file keeps the VM alive in the kernel. The other way round, it is Memslot that
/// keeps the file open, KVM doesn't.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Adopt(), fd(), kind(), size(), range(), Map(), Allocate(), Discard(). The
/// kernel orders calls on one range.\n
/// Needs exclusive access: Release(), moving, destroying.
class GuestMemfd {
 public:
  /// Takes over a guest_memfd that this or another process made, with the kind and size
  /// it was made with. InvalidArgument if @p fd is something else, as far as one can tell:
  /// kShared and kGuestOnly look alike. Needs /proc.
  ///
  /// In another process than the one that made its VM, the file can be mapped if it is
  /// kShared, and the mapping be the host memory of a memslot of another VM. A memslot
  /// can't have the file itself then: it belongs to the old VM.
  static absl::StatusOr<GuestMemfd> Adopt(UniqueFd fd, GuestMemfdKind kind, ByteSize size);

  GuestMemfd(GuestMemfd&&) noexcept = default;
  GuestMemfd& operator=(GuestMemfd&&) noexcept = default;

  int fd() const { return fd_.get(); }
  GuestMemfdKind kind() const { return kind_; }
  ByteSize size() const { return size_; }
  ByteRange range() const { return {ByteOffset(0), size_}; }

  /// Maps all of it, or a range. FailedPrecondition for kPrivate. Of a kGuestOnly, the
  /// addresses are good for a memslot and for nothing else.
  absl::StatusOr<Mapping> Map(MemoryAccess access = MemoryAccess::kReadWrite) const;
  absl::StatusOr<Mapping> Map(ByteRange range,
                              MemoryAccess access = MemoryAccess::kReadWrite) const;

  /// Allocates a range ahead of use, according to its NUMA policy if it has one, and goes on
  /// after signals.
  /// ResourceExhausted if there is no memory; what was allocated until then stays.
  absl::Status Allocate(ByteRange range) const;

  /// Frees a range: guest and host find zeroes when they use it next.
  absl::Status Discard(ByteRange range) const;

  /// Gives the descriptor away.
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
