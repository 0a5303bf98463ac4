// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_GUEST_MEMORY_H_
#define GMEM_GUEST_MEMORY_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem {

/// Pages (of the host's page size, even where the memory has huge ones) by who has them.
struct PageCounts {
  /// Without memory behind them.
  uint64_t absent = 0;
  /// Only the host.
  uint64_t host = 0;
  /// Only a guest.
  uint64_t lent = 0;
  /// A guest has used them through a shared binding.
  uint64_t shared = 0;
  /// Nobody: their provider never gave them back. PunchHole() replaces them.
  uint64_t leaked = 0;

  friend bool operator==(const PageCounts& a, const PageCounts& b) = default;
};

/// A *guestmem*: a file of pages made to be given to guests. Made by
/// Device::CreateGuestMemory(); lives as long as a descriptor, a mapping or a binding
/// refers to it.
///
/// Ranges lie within size() and are multiples of page_size(), of Map() and Query() of the
/// host's page size; else InvalidArgument (EINVAL), or OutOfRange (EOVERFLOW) for a sum that
/// wraps.
///
/// @par Thread safety
/// Thread-safe: Adopt(), IsGuestMemory(), fd(), size(), page_size(), id(), Map(),
/// Allocate(), PunchHole(), Query(), Duplicate(), Reopen(). The kernel orders calls on one
/// range.\n
/// Needs exclusive access: Release(), moving, destroying.
class GuestMemory {
 public:
  /// Takes over a descriptor that came from elsewhere, a socket say. InvalidArgument
  /// (EINVAL) if it is no guestmem; it is closed then.
  static absl::StatusOr<GuestMemory> Adopt(UniqueFd fd);

  /// Is it a descriptor of a guestmem? False for one that isn't open.
  static bool IsGuestMemory(int fd);

  int fd() const { return fd_.get(); }
  ByteSize size() const { return size_; }
  ByteSize page_size() const { return page_size_; }
  /// The same for every descriptor of this memory, and what Binding::memory_id says.
  uint64_t id() const { return id_; }

  /// Host access to a range, for as long as the mapping lives. Touching a page that is
  /// lent takes it back from the guest, as the VM's ReclaimPolicy says; under kDeny, or
  /// if it can't be taken back, the toucher gets SIGBUS.
  absl::StatusOr<Mapping> Map(ByteRange range,
                              MemoryAccess access = MemoryAccess::kReadWrite) const;
  /// The same for all of it.
  absl::StatusOr<Mapping> Map(MemoryAccess access = MemoryAccess::kReadWrite) const {
    return Map({ByteOffset(0), size_}, access);
  }

  /// Puts memory behind every page of the range that has none, and goes on after signals.
  /// ResourceExhausted (ENOMEM) if there isn't enough; what was allocated until then stays.
  absl::Status Allocate(ByteRange range) const;

  /// Frees the range; it reads as zeroes afterwards. Lent pages are taken back first; if
  /// one can't be, nothing is freed: PermissionDenied (EACCES) by policy, Internal (EIO)
  /// if the provider refuses.
  absl::Status PunchHole(ByteRange range) const;

  /// Counts the pages of a range. What lies beyond the end is absent.
  absl::StatusOr<PageCounts> Query(ByteRange range) const;
  absl::StatusOr<PageCounts> Query() const { return Query({ByteOffset(0), size_}); }

  /// Another owner of the same memory.
  absl::StatusOr<GuestMemory> Duplicate() const;

  /// Another descriptor, close-on-exec; one without write access to hand to a process
  /// that is only to read. Needs /proc.
  absl::StatusOr<UniqueFd> Reopen(MemoryAccess access) const;

  /// Gives the descriptor away.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  GuestMemory(UniqueFd fd, ByteSize size, ByteSize page_size, uint64_t id)
      : fd_(std::move(fd)), size_(size), page_size_(page_size), id_(id) {}

  absl::Status Fallocate(ByteRange range, int mode, absl::string_view verb) const;

  UniqueFd fd_;
  ByteSize size_;
  ByteSize page_size_;
  uint64_t id_;
};

}  // namespace gmem

#endif  // GMEM_GUEST_MEMORY_H_
