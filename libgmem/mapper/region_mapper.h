// SPDX-License-Identifier: Apache-2.0
// What every MemoryMapper has in common. Not installed.
#ifndef GMEM_MAPPER_REGION_MAPPER_H_
#define GMEM_MAPPER_REGION_MAPPER_H_

#include <cstddef>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"

// Not for the shared library's users to link with.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Checks every request, remembers what is mapped, and leaves the mapping itself to the
// derived class, one call at a time. Allocates nothing after construction.
class RegionMapper : public MemoryMapper {
 public:
  // A region of @size bytes for at most @max_pieces pieces at a time: pieces come from
  // peers, and each costs the process one of its (65,530, usually) mappings.
  RegionMapper(ByteSize size, ByteSize page_size, size_t max_pieces);

  // InvalidArgument for what no process can have: room for all pieces is made beforehand.
  static absl::Status CheckMaxPieces(size_t max_pieces);

  ByteSize size() const final { return size_; }
  ByteSize page_size() const final { return page_size_; }
  absl::Status Map(const Piece& piece) final ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Unmap(ByteRange range) final ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status UnmapAll() final ABSL_LOCKS_EXCLUDED(mutex_);

 protected:
  // Map @piece, which is well-formed and overlaps nothing; on failure, change nothing.
  virtual absl::Status DoMap(const Piece& piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Unmap what one DoMap() mapped; on failure, change nothing.
  virtual absl::Status DoUnmap(ByteRange range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  // A leaf for users of the library: no method calls them back with it held. Guards what
  // a derived class keeps, too.
  mutable Mutex mutex_;

 private:
  using Pieces = std::vector<ByteRange>;

  absl::Status Check(const Piece& piece) const;
  // The first mapped piece that ends behind @offset.
  Pieces::const_iterator FindFirst(ByteOffset offset) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ByteSize size_;
  const ByteSize page_size_;
  const size_t max_pieces_;
  // In ascending order, without overlap; room for all is there from the start.
  Pieces pieces_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MAPPER_REGION_MAPPER_H_
