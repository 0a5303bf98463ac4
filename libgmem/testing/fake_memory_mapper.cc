// SPDX-License-Identifier: MIT OR Apache-2.0
#include "testing/fake_memory_mapper.h"

#include <memory>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "mapper/region_mapper.h"

namespace gmem::doubles {

FakeMemoryMapper::FakeMemoryMapper(Mapping memory)
    : RegionMapper(ByteSize(memory.size()), HostPageSize(), kMaxPieces),
      memory_(std::move(memory)) {}

absl::StatusOr<std::unique_ptr<FakeMemoryMapper>> FakeMemoryMapper::Create(ByteSize size) {
  GMEM_ASSIGN_OR_RETURN(Mapping memory, Mapping::Reserve(size));
  return absl::WrapUnique(new FakeMemoryMapper(std::move(memory)));
}

absl::Status FakeMemoryMapper::DoMap(const Piece& piece) {
  GMEM_RETURN_IF_ERROR(std::exchange(next_status_, absl::OkStatus()));
  GMEM_RETURN_IF_ERROR(
      internal::MapOver(memory_.span(piece.range()), piece.fd, piece.fd_offset, piece.access));
  ++piece_count_;
  return absl::OkStatus();
}

absl::Status FakeMemoryMapper::DoUnmap(ByteRange range) {
  GMEM_RETURN_IF_ERROR(std::exchange(next_status_, absl::OkStatus()));
  GMEM_RETURN_IF_ERROR(internal::ReserveOver(memory_.span(range)));
  --piece_count_;
  return absl::OkStatus();
}

}  // namespace gmem::doubles
