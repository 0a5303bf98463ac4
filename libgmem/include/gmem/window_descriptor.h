// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_WINDOW_DESCRIPTOR_H_
#define GMEM_WINDOW_DESCRIPTOR_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem {

struct WindowDescriptorOptions {
  /// Nobody can map the descriptor for writing, nor open it again for writing.
  bool read_only = false;
  /// The holder may give memory back with fallocate(), see WindowDescriptor::Discard(). Has no
  /// effect with read_only.
  bool allow_discard = true;
  /// At most kMaxNameLength characters. Empty: no name.
  std::string name = {};
};

/// A descriptor of a range of a VM's guest memory. Its holder has the memory, and none of the VM's
/// calls: a broker that binds and unbinds memory hands it to a VMM, which needn't know gmem. (QEMU
/// takes it as a file for its RAM: Documentation/libgmem/qemu.rst.) Vm::OpenWindow() makes it, for
/// VMs with live windows.
///
/// The holder can map it shared, open it again through /proc/self/fd, ask for its size with fstat()
/// and lseek(), and give memory back. Its offset 0 is the first address of the range. A mapping
/// follows the VM's bindings by itself, as a Window of kind kLive does, and a touch counts as the
/// guest's: it is refused with SIGBUS where nothing is bound. The holder can't ask for the reason;
/// Vm::Faults() tells the owner of the VM. Nothing can pin the memory: see WindowKind::kLive.
///
/// A descriptor and each of its mappings keep the VM alive. It can't be revoked: to end the
/// holder's access, unbind the memory.
///
/// @par Thread safety
/// Thread-safe: fd(), id(), range(), Map(), Discard().\n
/// Needs exclusive access: Release(), moving, destroying.
class WindowDescriptor {
 public:
  /// Close-on-exec. Pass it over a socket, or let a child inherit it.
  int fd() const { return fd_.get(); }
  /// The number by which the host's operator knows the descriptor; st_ino of the descriptor has
  /// it, too.
  uint64_t id() const { return id_; }
  GuestRange range() const { return range_; }

  /// Maps a part of the range, or all of it, into this process. PermissionDenied (EACCES) for write
  /// access if the descriptor is read-only.
  absl::StatusOr<Mapping> Map(ByteRange part, MemoryAccess access = MemoryAccess::kReadWrite) const;
  absl::StatusOr<Mapping> Map(MemoryAccess access = MemoryAccess::kReadWrite) const {
    return Map({ByteOffset(0), range_.size}, access);
  }

  /// Empties a part of the range, as the guest's balloon does: pages that are lent, and shared
  /// pages that no other binding has, are freed, and read as zeroes when they are next used. Parts
  /// without a binding are skipped; a part of a huge page is zeroed and not freed. Nothing changes
  /// if a page can't be emptied: PermissionDenied (EACCES) if its binding doesn't allow writing,
  /// Unavailable (EBUSY) if another binding has it or if it is pinned. Unimplemented (EOPNOTSUPP)
  /// if the descriptor is read-only or was made without allow_discard.
  absl::Status Discard(ByteRange part) const;

  /// Gives the descriptor to the caller, who must close it.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  friend class Vm;
  WindowDescriptor(UniqueFd fd, uint64_t id, GuestRange range)
      : fd_(std::move(fd)), id_(id), range_(range) {}

  UniqueFd fd_;
  uint64_t id_;
  GuestRange range_;
};

}  // namespace gmem

#endif  // GMEM_WINDOW_DESCRIPTOR_H_
