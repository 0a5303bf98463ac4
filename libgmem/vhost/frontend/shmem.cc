// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/shmem.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
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
  GMEM_RETURN_IF_ERROR(internal::RegionMapper::CheckMaxPieces(max_pieces));
  GMEM_ASSIGN_OR_RETURN(Mapping memory, Mapping::Reserve(size));
  auto region = std::make_unique<internal::MappedRegion>(std::move(memory), max_pieces);
  uint8_t* const host = region->data();
  return ShmemRegion{.mapper = std::move(region), .host = host};
}

struct [[gnu::visibility("hidden")]] ShmemRegions::Impl {
  // 0 if there is no such region.
  ByteSize SizeOf(uint8_t shmid) const;
  // OK if @config has the sizes of the regions.
  absl::Status CheckSizes(const ShmemConfig& config) const;
  // The region that @mapping names.
  absl::StatusOr<MemoryMapper*> Find(const ShmemMapping& mapping) const;

  ShmemFactory factory;
  bool is_configured = false;
  std::map<uint8_t, ShmemRegion> regions;
};

ByteSize ShmemRegions::Impl::SizeOf(uint8_t shmid) const {
  const auto region = regions.find(shmid);
  return region == regions.end() ? ByteSize(0) : region->second.mapper->size();
}

absl::Status ShmemRegions::Impl::CheckSizes(const ShmemConfig& config) const {
  for (size_t shmid = 0; shmid < config.sizes.size(); shmid++) {
    const ByteSize had = SizeOf(static_cast<uint8_t>(shmid));
    const ByteSize has(config.sizes[shmid]);
    if (has == had) continue;
    return absl::FailedPreconditionError(absl::StrCat("shared memory region ", shmid, " had ",
                                                      ToString(had), " and now has ", ToString(has),
                                                      ": the guest can't take another size"));
  }
  return absl::OkStatus();
}

absl::StatusOr<MemoryMapper*> ShmemRegions::Impl::Find(const ShmemMapping& mapping) const {
  if (std::any_of(mapping.padding.begin(), mapping.padding.end(),
                  [](uint8_t byte) { return byte != 0; })) {
    return CheckError(EINVAL, "the padding isn't 0");
  }
  const auto region = regions.find(mapping.shmid);
  if (region == regions.end()) {
    return CheckError(
        ENOENT, absl::StrCat("there is no shared memory region ", static_cast<int>(mapping.shmid)));
  }
  return region->second.mapper.get();
}

ShmemRegions::ShmemRegions(ShmemFactory factory) : impl_(std::make_unique<Impl>()) {
  impl_->factory = std::move(factory);
}

ShmemRegions::~ShmemRegions() { UnmapAll().IgnoreError(); }

absl::Status ShmemRegions::Configure(const ShmemConfig& config) {
  GMEM_RETURN_IF_ERROR(CheckConfig(config));
  if (impl_->is_configured) return impl_->CheckSizes(config);

  std::map<uint8_t, ShmemRegion> regions;
  for (size_t i = 0; i < config.sizes.size(); i++) {
    if (config.sizes[i] == 0) continue;
    const auto shmid = static_cast<uint8_t>(i);
    const ByteSize size(config.sizes[i]);
    GMEM_ASSIGN_OR_RETURN(ShmemRegion region, impl_->factory(shmid, size));
    if (region.mapper == nullptr || region.mapper->size() != size) {
      return CheckError(EINVAL, absl::StrCat("the factory made shared memory region ", i,
                                             " with another size than ", ToString(size)));
    }
    regions[shmid] = std::move(region);
  }
  impl_->regions = std::move(regions);
  impl_->is_configured = true;
  return absl::OkStatus();
}

absl::Status ShmemRegions::Map(const ShmemMapping& mapping, int fd) {
  GMEM_ASSIGN_OR_RETURN(MemoryMapper* const mapper, impl_->Find(mapping));
  if ((mapping.flags & ~kShmemMapRw) != 0) {
    return CheckError(EINVAL,
                      absl::StrCat("the flags 0x", absl::Hex(mapping.flags), " have unknown bits"));
  }
  if (nr_mappings() >= kMaxMappings) {
    return CheckError(ENOSPC, absl::StrCat("the device has ", kMaxMappings,
                                           " mappings already: unmap one first"));
  }
  return mapper->Map({.fd = fd,
                      .fd_offset = ByteOffset(mapping.fd_offset),
                      .offset = ByteOffset(mapping.shm_offset),
                      .size = ByteSize(mapping.len),
                      .access = mapping.flags == kShmemMapRw ? MemoryAccess::kReadWrite
                                                             : MemoryAccess::kReadOnly});
}

absl::Status ShmemRegions::Unmap(const ShmemMapping& mapping) {
  GMEM_ASSIGN_OR_RETURN(MemoryMapper* const mapper, impl_->Find(mapping));
  return mapper->Unmap({ByteOffset(mapping.shm_offset), ByteSize(mapping.len)});
}

absl::Status ShmemRegions::UnmapAll() {
  absl::Status first_error;
  for (const auto& [shmid, region] : impl_->regions) {
    MemoryMapper& mapper = *region.mapper;
    if (mapper.nr_pieces() == 0) continue;
    const absl::Status status = mapper.UnmapAll();
    if (status.ok()) continue;
    first_error.Update(status);
    // Try the pieces that are left once more, each on its own.
    for (auto piece = mapper.NextPiece(ByteOffset(0)); piece;
         piece = mapper.NextPiece(piece->range.end())) {
      mapper.Unmap(piece->range).IgnoreError();
    }
  }
  return first_error;
}

ByteSize ShmemRegions::size(uint8_t shmid) const { return impl_->SizeOf(shmid); }

size_t ShmemRegions::nr_mappings() const {
  size_t count = 0;
  for (const auto& [shmid, region] : impl_->regions) count += region.mapper->nr_pieces();
  return count;
}

std::optional<ShmemRegions::Piece> ShmemRegions::Find(uint8_t shmid, ByteOffset offset) const {
  const auto region = impl_->regions.find(shmid);
  if (region == impl_->regions.end()) return std::nullopt;
  const auto mapped = region->second.mapper->NextPiece(offset);
  if (!mapped || mapped->range.start > offset) return std::nullopt;
  uint8_t* const host = region->second.host;
  return Piece{.range = mapped->range,
               .access = mapped->access,
               .host = host == nullptr ? nullptr : host + mapped->range.start.value()};
}

uint8_t* ShmemRegions::HostAddress(uint8_t shmid, ByteOffset offset) const {
  const std::optional<Piece> piece = Find(shmid, offset);
  if (!piece || piece->host == nullptr) return nullptr;
  return piece->host + (offset - piece->range.start).value();
}

}  // namespace gmem::vhost
