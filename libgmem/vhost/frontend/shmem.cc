// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/shmem.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "gmem/vhost/protocol.h"
#include "mapper/mapped_region.h"
#include "mapper/region_mapper.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

absl::Status CheckConfig(const ShmemConfig& config) {
  const auto count = static_cast<size_t>(std::count_if(config.sizes.begin(), config.sizes.end(),
                                                       [](uint64_t size) { return size != 0; }));
  if (count != config.nr_regions) {
    return CheckError(EBADMSG, absl::StrCat("the back-end has ", config.nr_regions,
                                            " shared memory regions, but sizes of ", count));
  }
  for (size_t shmid = 0; shmid < config.sizes.size(); shmid++) {
    const ByteSize size(config.sizes[shmid]);
    if (IsAligned(size, HostPageSize())) continue;
    return CheckError(EBADMSG, absl::StrCat("shared memory region ", shmid, " has ", ToString(size),
                                            ": no multiple of ", ToString(HostPageSize())));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ShmemRegion> NewHostRegion(ByteSize size, size_t max_pieces) {
  GMEM_ASSIGN_OR_RETURN(Mapping memory, Mapping::Reserve(size));
  auto region = std::make_unique<internal::MappedRegion>(std::move(memory), max_pieces);
  uint8_t* const host = region->data();
  return ShmemRegion{.mapper = std::move(region), .host = host};
}

absl::Status ShmemRegions::Configure(const ShmemConfig& config) {
  GMEM_RETURN_IF_ERROR(CheckConfig(config));
  if (is_configured_) {
    for (size_t shmid = 0; shmid < sizes_.size(); shmid++) {
      if (sizes_[shmid].value() == config.sizes[shmid]) continue;
      return absl::FailedPreconditionError(absl::StrCat(
          "shared memory region ", shmid, " had ", ToString(sizes_[shmid]), " and now has ",
          ToString(ByteSize(config.sizes[shmid])), ": its size is the guest's for good"));
    }
    return absl::OkStatus();
  }

  std::map<uint8_t, Region> regions;
  for (size_t i = 0; i < config.sizes.size(); i++) {
    if (config.sizes[i] == 0) continue;
    const auto shmid = static_cast<uint8_t>(i);
    const ByteSize size(config.sizes[i]);
    GMEM_ASSIGN_OR_RETURN(regions[shmid].made, factory_(shmid, size));
    if (regions[shmid].made.mapper == nullptr || regions[shmid].made.mapper->size() != size) {
      return CheckError(EINVAL, absl::StrCat("the region that was made for shmid ", i, " hasn't ",
                                             ToString(size)));
    }
  }
  regions_ = std::move(regions);
  for (size_t i = 0; i < sizes_.size(); i++) sizes_[i] = ByteSize(config.sizes[i]);
  is_configured_ = true;
  return absl::OkStatus();
}

absl::StatusOr<ShmemRegions::Region*> ShmemRegions::FindRegion(const ShmemMapping& mapping) {
  if (std::any_of(mapping.padding.begin(), mapping.padding.end(),
                  [](uint8_t byte) { return byte != 0; })) {
    return CheckError(EINVAL, "the padding isn't 0");
  }
  const auto found = regions_.find(mapping.shmid);
  if (found == regions_.end()) {
    return CheckError(
        ENOENT, absl::StrCat("there is no shared memory region ", static_cast<int>(mapping.shmid)));
  }
  return &found->second;
}

absl::Status ShmemRegions::Map(const ShmemMapping& mapping, int fd) {
  GMEM_ASSIGN_OR_RETURN(Region* const region, FindRegion(mapping));
  if ((mapping.flags & ~kShmemMapRw) != 0) {
    return CheckError(EINVAL, absl::StrCat("the flags 0x", absl::Hex(mapping.flags),
                                           " have bits that aren't known"));
  }
  if (nr_mappings_ == kMaxMappings) {
    return CheckError(ENOSPC, absl::StrCat("the device has ", kMaxMappings,
                                           " mappings already: unmap one first"));
  }
  const MemoryAccess access =
      mapping.flags == kShmemMapRw ? MemoryAccess::kReadWrite : MemoryAccess::kReadOnly;
  const ByteSize size(mapping.len);
  GMEM_RETURN_IF_ERROR(region->made.mapper->Map({.fd = fd,
                                                 .fd_offset = ByteOffset(mapping.fd_offset),
                                                 .offset = ByteOffset(mapping.shm_offset),
                                                 .size = size,
                                                 .access = access}));
  Remember(*region, mapping.shm_offset, size, access);
  return absl::OkStatus();
}

absl::Status ShmemRegions::Unmap(const ShmemMapping& mapping) {
  GMEM_ASSIGN_OR_RETURN(Region* const region, FindRegion(mapping));
  GMEM_RETURN_IF_ERROR(
      region->made.mapper->Unmap({ByteOffset(mapping.shm_offset), ByteSize(mapping.len)}));
  const auto piece = region->pieces.find(mapping.shm_offset);
  if (piece != region->pieces.end()) Forget(*region, piece);
  return absl::OkStatus();
}

void ShmemRegions::Remember(Region& region, uint64_t offset, ByteSize size, MemoryAccess access) {
  nr_mappings_++;
  if (spare_.empty()) {
    region.pieces.emplace(offset, std::make_pair(size, access));
    return;
  }
  Pieces::node_type piece = std::move(spare_.back());
  spare_.pop_back();
  piece.key() = offset;
  piece.mapped() = {size, access};
  region.pieces.insert(std::move(piece));
}

ShmemRegions::Pieces::iterator ShmemRegions::Forget(Region& region, Pieces::iterator piece) {
  nr_mappings_--;
  const auto next = std::next(piece);
  spare_.push_back(region.pieces.extract(piece));
  return next;
}

absl::Status ShmemRegions::UnmapAll() {
  absl::Status first_error;
  for (auto& [shmid, region] : regions_) {
    // One call, unless something stays: then it is found out what.
    if (region.pieces.empty()) continue;
    const absl::Status status = region.made.mapper->UnmapAll();
    first_error.Update(status);
    for (auto piece = region.pieces.begin(); piece != region.pieces.end();) {
      const ByteRange range = {ByteOffset(piece->first), piece->second.first};
      const absl::Status again = status.ok() ? status : region.made.mapper->Unmap(range);
      const bool stays = !again.ok() && !absl::IsNotFound(again);
      piece = stays ? std::next(piece) : Forget(region, piece);
    }
  }
  return first_error;
}

std::optional<ShmemRegions::Piece> ShmemRegions::Find(uint8_t shmid, ByteOffset offset) const {
  const auto region = regions_.find(shmid);
  if (region == regions_.end()) return std::nullopt;
  auto piece = region->second.pieces.upper_bound(offset.value());
  if (piece == region->second.pieces.begin()) return std::nullopt;
  --piece;
  const ByteRange range = {ByteOffset(piece->first), piece->second.first};
  if (offset >= range.end()) return std::nullopt;
  uint8_t* const host = region->second.made.host;
  return Piece{.range = range,
               .access = piece->second.second,
               .host = host == nullptr ? nullptr : host + range.start.value()};
}

uint8_t* ShmemRegions::HostAddress(uint8_t shmid, ByteOffset offset) const {
  const std::optional<Piece> piece = Find(shmid, offset);
  if (!piece || piece->host == nullptr) return nullptr;
  return piece->host + (offset - piece->range.start).value();
}

}  // namespace gmem::vhost
