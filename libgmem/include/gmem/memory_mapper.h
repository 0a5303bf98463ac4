// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_MEMORY_MAPPER_H_
#define GMEM_MEMORY_MAPPER_H_

#include "absl/status/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

namespace gmem {

/// A *region* of guest memory into which pieces of files can be mapped while the guest
/// runs: what the vhost-user part needs of a VM, and nothing else. A VMM that has
/// several regions (one for each shared memory region of a device, say) has several
/// mappers.
///
/// VmMemoryMapper implements it over gmem.ko, gmem::kvm over plain KVM.
///
/// - Offsets in the region, offsets in the file and sizes are multiples of page_size();
///   a guestmem with huge pages needs its own page size.
/// - What isn't mapped is inaccessible: the guest's access is refused, the host's is
///   SIGBUS or SIGSEGV.
/// - A call that fails has changed nothing.
/// - When a call returns, its effect is there for the guest.
///
/// @par Thread safety
/// Of every implementation. Thread-safe: size(), page_size(), Map(), Unmap(), UnmapAll().\n
/// Needs exclusive access: destroying.
class MemoryMapper {
 public:
  /// What to map where. Use designated initialisers.
  struct Piece {
    /// A guestmem, or any file that can be mapped shared. Borrowed for the call; the
    /// mapping keeps the file alive by itself.
    int fd = -1;
    ByteOffset fd_offset = {};
    /// First byte in the region.
    ByteOffset offset = {};
    /// Not 0.
    ByteSize size = {};
    MemoryAccess access = MemoryAccess::kReadWrite;

    ByteRange range() const { return {offset, size}; }
  };

  virtual ~MemoryMapper() = default;

  /// The size of the region. Fixed.
  virtual ByteSize size() const = 0;

  /// What every offset and size is a multiple of.
  virtual ByteSize page_size() const = 0;

  /// Maps a piece. Errors: InvalidArgument (EINVAL) alignment, size 0 or beyond the
  /// region; OutOfRange (EOVERFLOW) a sum that wraps; AlreadyExists (EEXIST) overlaps
  /// what is mapped; PermissionDenied (EACCES) the descriptor isn't open for that
  /// access; ResourceExhausted too many mappings; or what the system says of the
  /// descriptor.
  virtual absl::Status Map(const Piece& piece) = 0;

  /// Unmaps what one Map() mapped. NotFound (ENOENT) if @p range isn't exactly that.
  virtual absl::Status Unmap(ByteRange range) = 0;

  /// Unmaps all. On an error, what could not be unmapped stays, the rest is gone.
  virtual absl::Status UnmapAll() = 0;

 protected:
  MemoryMapper() = default;
  MemoryMapper(const MemoryMapper&) = default;
  MemoryMapper& operator=(const MemoryMapper&) = default;
};

}  // namespace gmem

#endif  // GMEM_MEMORY_MAPPER_H_
