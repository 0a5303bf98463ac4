// SPDX-License-Identifier: MIT OR Apache-2.0
// The common part of all MemoryMappers of the library. Not installed.
#ifndef GMEM_MAPPER_REGION_MAPPER_H_
#define GMEM_MAPPER_REGION_MAPPER_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Checks every request, keeps the list of pieces, and leaves the mapping itself to the derived
// class, one call at a time. Allocates nothing after construction.
class RegionMapper : public MemoryMapper {
 public:
  // A region of @size bytes for at most @max_pieces pieces at a time. The limit protects the
  // process: peers ask for pieces, and each piece takes one of its mappings (65,530, usually).
  RegionMapper(ByteSize size, ByteSize page_size, size_t max_pieces);

  // InvalidArgument for 0 and for more than any process can have.
  static absl::Status CheckMaxPieces(size_t max_pieces);

  ByteSize size() const final { return size_; }
  ByteSize page_size() const final { return page_size_; }
  absl::Status Map(const Piece& piece) final ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Unmap(ByteRange range) final ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status UnmapAll() final ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<MappedPiece> NextPiece(ByteOffset offset) const final ABSL_LOCKS_EXCLUDED(mutex_);
  size_t nr_pieces() const final ABSL_LOCKS_EXCLUDED(mutex_);

 protected:
  // Maps @piece, which is well-formed and overlaps nothing. Changes nothing on failure.
  virtual absl::Status DoMap(const Piece& piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Unmaps the piece of one DoMap(). Changes nothing on failure.
  virtual absl::Status DoUnmap(ByteRange range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  // No method calls code of the library's user while it holds this. Guards the members of derived
  // classes, too.
  mutable Mutex mutex_;

 private:
  using Pieces = std::vector<MappedPiece>;

  absl::Status Check(const Piece& piece) const;
  // The first mapped piece that ends after @offset.
  Pieces::const_iterator FindFirst(ByteOffset offset) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ByteSize size_;
  const ByteSize page_size_;
  const size_t max_pieces_;
  // In ascending order, without overlap. The constructor makes room for all.
  Pieces pieces_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MAPPER_REGION_MAPPER_H_
