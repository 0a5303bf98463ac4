// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_MEMORY_VIEW_H_
#define GMEM_MEMORY_VIEW_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem {

struct MemoryViewOptions {
  /// Nobody can map the view for writing, nor open it again for writing.
  bool read_only = false;
  /// At most kMaxNameLength characters. Empty: no name.
  std::string name = {};
};

/// A descriptor of a range of a guestmem, for a process that is trusted less than the owner of the
/// memory: the back-end of a device, for example. GuestMemory::CreateView() makes it.
///
/// The holder can map it shared, open it again through /proc/self/fd, and ask for its size with
/// fstat() and lseek(). The first byte of the range is its offset 0. It can neither read() nor
/// write(), bind the memory, punch holes, change the mode or the size, or reach any byte outside of
/// the range. A touch of a lent page raises SIGBUS, whatever the VM's policy says: a view never
/// takes a page from a guest. System calls that pin memory (O_DIRECT) work on a mapping of it, and
/// a page that is pinned can't be lent.
///
/// The owner can take it back: GuestMemory::RevokeView(). A view that isn't revoked keeps its
/// guestmem alive. Closing the descriptor doesn't revoke the view: other descriptors and mappings
/// of it may exist.
///
/// A userfaultfd can't wait for missing pages of a view.
///
/// @par Thread safety
/// Thread-safe: fd(), id(), size(), Map().\n
/// Needs exclusive access: Release(), moving, destroying.
class MemoryView {
 public:
  /// Close-on-exec. Pass it over a socket, or let a child inherit it.
  int fd() const { return fd_.get(); }
  /// For GuestMemory::RevokeView(). No other view of the host has this number; the module gives it
  /// out again only after all others. st_ino of the descriptor has it, too.
  uint64_t id() const { return id_; }
  ByteSize size() const { return size_; }

  /// Maps a range of the view, or all of it, into this process. PermissionDenied (EACCES) for write
  /// access to a view that is read-only.
  absl::StatusOr<Mapping> Map(ByteRange range,
                              MemoryAccess access = MemoryAccess::kReadWrite) const;
  absl::StatusOr<Mapping> Map(MemoryAccess access = MemoryAccess::kReadWrite) const {
    return Map({ByteOffset(0), size_}, access);
  }

  /// Gives the descriptor to the caller, who must close it.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  friend class GuestMemory;
  MemoryView(UniqueFd fd, uint64_t id, ByteSize size) : fd_(std::move(fd)), id_(id), size_(size) {}

  UniqueFd fd_;
  uint64_t id_;
  ByteSize size_;
};

}  // namespace gmem

#endif  // GMEM_MEMORY_VIEW_H_
