// SPDX-License-Identifier: MIT OR Apache-2.0
// A region that is reserved memory of this process. Not installed.
#ifndef GMEM_MAPPER_MAPPED_REGION_H_
#define GMEM_MAPPER_MAPPED_REGION_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "mapper/region_mapper.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Maps pieces over reserved addresses. Where it unmaps a piece, it reserves the addresses again.
class MappedRegion : public RegionMapper {
 public:
  MappedRegion(Mapping memory, size_t max_pieces)
      : RegionMapper(ByteSize(memory.size()), HostPageSize(), max_pieces),
        memory_(std::move(memory)) {}

  uint8_t* data() const { return memory_.data(); }

 protected:
  // Keeps the addresses reserved for good.
  void LeakMemory() { memory_.Release(); }

 private:
  absl::Status DoMap(const Piece& piece) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    GMEM_RETURN_IF_ERROR(CheckFileReaches(piece.fd, piece.fd_offset, piece.size));
    return MapOver(memory_.span(piece.range()), piece.fd, piece.fd_offset, piece.access);
  }
  absl::Status DoUnmap(ByteRange range) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ReserveOver(memory_.span(range));
  }

  Mapping memory_;
};

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MAPPER_MAPPED_REGION_H_
