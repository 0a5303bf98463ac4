// SPDX-License-Identifier: MIT OR Apache-2.0
#include "mapper/region_mapper.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"

namespace gmem::internal {

RegionMapper::RegionMapper(ByteSize size, ByteSize page_size, size_t max_pieces)
    : size_(size), page_size_(page_size), max_pieces_(max_pieces) {
  pieces_.reserve(max_pieces);
}

absl::Status RegionMapper::CheckMaxPieces(size_t max_pieces) {
  // 24 MiB of memory. The kernel's own limit (vm.max_map_count) is 65,530 unless raised.
  constexpr size_t kMost = 1 << 20;
  if (max_pieces >= 1 && max_pieces <= kMost) return absl::OkStatus();
  return CheckError(EINVAL,
                    absl::StrCat("max_pieces ", max_pieces, " is not within 1 and ", kMost));
}

absl::Status RegionMapper::Check(const Piece& piece) const {
  const auto aligned = [this](auto value) { return IsAligned(value, page_size_); };

  if (piece.fd < 0) {
    return CheckError(EBADF, absl::StrCat("a piece needs a descriptor, not ", piece.fd));
  }
  if (piece.size == ByteSize(0)) {
    return CheckError(EINVAL, "size is 0: a piece has at least one page");
  }
  if (!aligned(piece.offset) || !aligned(piece.fd_offset) || !aligned(piece.size)) {
    return CheckError(EINVAL, absl::StrCat("offset ", ToString(piece.offset), ", file offset ",
                                           ToString(piece.fd_offset), " or size 0x",
                                           absl::Hex(piece.size.value()), " is not a multiple of ",
                                           ToString(page_size_)));
  }
  if (!piece.range().IsValid() || !CheckedAdd(piece.fd_offset, piece.size)) {
    return CheckError(EOVERFLOW,
                      absl::StrCat(ToString(piece.size), " at offset ", ToString(piece.offset),
                                   ", file offset ", ToString(piece.fd_offset), ": the sum wraps"));
  }
  if (!ByteRange{ByteOffset(0), size_}.Contains(piece.range())) {
    return CheckError(EINVAL, absl::StrCat(ToString(piece.range()), " is beyond the region of ",
                                           ToString(size_)));
  }
  return absl::OkStatus();
}

RegionMapper::Pieces::const_iterator RegionMapper::FindFirst(ByteOffset offset) const {
  return std::partition_point(pieces_.begin(), pieces_.end(),
                              [offset](const MappedPiece& p) { return p.range.end() <= offset; });
}

absl::Status RegionMapper::Map(const Piece& piece) {
  GMEM_RETURN_IF_ERROR(Check(piece));

  MutexLock lock(&mutex_);
  const auto next = FindFirst(piece.offset);
  if (next != pieces_.end() && next->range.Overlaps(piece.range())) {
    return CheckError(EEXIST,
                      absl::StrCat(ToString(piece.range()), " overlaps ", ToString(next->range),
                                   ", which is mapped: unmap that first"));
  }
  if (pieces_.size() == max_pieces_) {
    return CheckError(ENOSPC, absl::StrCat("the region holds ", max_pieces_,
                                           " pieces already, its limit: unmap one first"));
  }
  GMEM_RETURN_IF_ERROR(DoMap(piece));
  pieces_.insert(next, {.range = piece.range(), .access = piece.access});
  return absl::OkStatus();
}

absl::Status RegionMapper::Unmap(ByteRange range) {
  MutexLock lock(&mutex_);
  const auto piece = FindFirst(range.start);
  if (piece == pieces_.end() || piece->range != range) {
    std::string message =
        absl::StrCat("no piece was mapped at just ", ToString(range), " of the region");
    if (piece != pieces_.end()) {
      absl::StrAppend(&message, "; the nearest is ", ToString(piece->range));
    }
    return CheckError(ENOENT, message);
  }
  GMEM_RETURN_IF_ERROR(DoUnmap(range));
  pieces_.erase(piece);
  return absl::OkStatus();
}

absl::Status RegionMapper::UnmapAll() {
  MutexLock lock(&mutex_);
  absl::Status first_error;
  const auto gone = [this, &first_error](const MappedPiece& piece) {
    mutex_.AssertHeld();
    const absl::Status status = DoUnmap(piece.range);
    first_error.Update(status);
    return status.ok();
  };
  pieces_.erase(std::remove_if(pieces_.begin(), pieces_.end(), gone), pieces_.end());
  return first_error;
}

std::optional<MemoryMapper::MappedPiece> RegionMapper::NextPiece(ByteOffset offset) const {
  MutexLock lock(&mutex_);
  const auto piece = FindFirst(offset);
  if (piece == pieces_.end()) return std::nullopt;
  return *piece;
}

size_t RegionMapper::nr_pieces() const {
  MutexLock lock(&mutex_);
  return pieces_.size();
}

}  // namespace gmem::internal
