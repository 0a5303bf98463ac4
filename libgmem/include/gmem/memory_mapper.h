// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_MEMORY_MAPPER_H_
#define GMEM_MEMORY_MAPPER_H_

#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

namespace gmem {

/// A *region* of guest memory into which a VMM maps pieces of files while the guest runs. The
/// vhost-user part needs nothing else of a VM. A VMM that has several regions (one for each shared
/// memory region of a device, say) has several mappers.
///
/// NewVmMemoryMapper() makes one over gmem.ko, kvm::NewMemoryMapper() one over plain KVM; a VMM may
/// implement the interface itself.
///
/// - Offsets in the region, offsets in the file and sizes are multiples of page_size().
/// - The guest can't access a page that isn't mapped: its access is refused. A host access to it
///   raises SIGBUS or SIGSEGV.
/// - A call that fails changes nothing, except UnmapAll().
/// - When a call returns, its effect is there for the guest.
/// - The mapper has the one list of the pieces that are mapped; its users look there and keep no
///   list of their own. The list changes together with the mappings: it holds a piece from the
///   return of its Map() until the return of the call that unmaps it, and never a piece that
///   couldn't be mapped.
///
/// @par Thread safety
/// Of every implementation. Thread-safe: size(), page_size(), Map(), Unmap(), UnmapAll(),
/// NextPiece(), nr_pieces(). A look at the list during another thread's call may see the list
/// before or after that call.\n
/// Needs exclusive access: destroying.
class MemoryMapper {
 public:
  /// A piece to map. Use designated initialisers.
  struct Piece {
    /// A guestmem, or any file that can be mapped shared. Borrowed for the call: the mapping keeps
    /// the file open by itself.
    int fd = -1;
    ByteOffset fd_offset = {};
    /// First byte in the region.
    ByteOffset offset = {};
    /// Not 0.
    ByteSize size = {};
    MemoryAccess access = MemoryAccess::kReadWrite;

    ByteRange range() const { return {offset, size}; }
  };

  /// A piece that is mapped.
  struct MappedPiece {
    /// The range that Map() got.
    ByteRange range;
    MemoryAccess access = MemoryAccess::kReadWrite;
  };

  virtual ~MemoryMapper() = default;

  /// The size of the region. Fixed.
  virtual ByteSize size() const = 0;

  /// The unit of all offsets and sizes. Fixed. In a VM of gmem.ko, pieces of a guestmem with huge
  /// pages must also be multiples of GuestMemory::page_size().
  virtual ByteSize page_size() const = 0;

  /// Maps a piece. Errors: InvalidArgument (EINVAL) alignment, size 0 or beyond the region;
  /// OutOfRange (EOVERFLOW) a sum that wraps; AlreadyExists (EEXIST) overlaps what is mapped;
  /// PermissionDenied (EACCES) the descriptor isn't open for that access; ResourceExhausted too
  /// many mappings; or the system's error for the descriptor.
  virtual absl::Status Map(const Piece& piece) = 0;

  /// Unmaps the piece that one Map() mapped. NotFound (ENOENT) if @p range isn't exactly that.
  virtual absl::Status Unmap(ByteRange range) = 0;

  /// Unmaps all pieces. On an error, those that could not be unmapped stay, the rest is gone.
  virtual absl::Status UnmapAll() = 0;

  /// The first piece, by offset, that ends after @p offset: the piece that is mapped at @p offset,
  /// or the next one if nothing is mapped there. Nothing if there is none. A walk over all pieces:
  ///
  ///     for (auto piece = mapper.NextPiece(ByteOffset(0)); piece;
  ///          piece = mapper.NextPiece(piece->range.end())) ...
  ///
  /// Allocates nothing, and takes logarithmic time: devices call it for each access.
  virtual std::optional<MappedPiece> NextPiece(ByteOffset offset) const = 0;

  /// How many pieces are mapped. Takes constant time.
  virtual size_t nr_pieces() const = 0;

 protected:
  MemoryMapper() = default;
  MemoryMapper(const MemoryMapper&) = default;
  MemoryMapper& operator=(const MemoryMapper&) = default;
};

}  // namespace gmem

#endif  // GMEM_MEMORY_MAPPER_H_
