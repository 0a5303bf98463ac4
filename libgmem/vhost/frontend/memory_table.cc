// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/memory_table.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

GuestRange GuestRangeOf(const GuestRegion& region) { return {region.guest_address, region.size}; }

// The user addresses, as a range of numbers.
ByteRange UserRangeOf(const GuestRegion& region) {
  return {ByteOffset(region.user_address), region.size};
}

absl::Status CheckRegion(const GuestRegion& region) {
  const std::string where = ToString(GuestRangeOf(region));
  if (region.size == ByteSize(0)) {
    return CheckError(EINVAL, absl::StrCat("the region at ", ToString(region.guest_address),
                                           " is empty: leave it out"));
  }
  if (!GuestRangeOf(region).IsValid() || !UserRangeOf(region).IsValid() ||
      !CheckedAdd(region.offset, region.size)) {
    return CheckError(EINVAL, absl::StrCat("the region of ", ToString(region.size), " at ",
                                           ToString(region.guest_address), ", user address 0x",
                                           absl::Hex(region.user_address), ", file offset ",
                                           ToString(region.offset), ": a sum wraps"));
  }
  if (region.fd < 0) {
    return CheckError(EINVAL, absl::StrCat("the region ", where, " has no descriptor: ",
                                           "only memory in a file can be shared"));
  }
  return absl::OkStatus();
}

// @range_of: the addresses of a region that may not overlap.
template <typename RangeOf>
absl::Status CheckOverlap(absl::Span<const GuestRegion> regions, RangeOf range_of,
                          absl::string_view kind) {
  std::vector<const GuestRegion*> sorted;
  sorted.reserve(regions.size());
  for (const GuestRegion& region : regions) sorted.push_back(&region);
  std::sort(sorted.begin(), sorted.end(), [&](const GuestRegion* a, const GuestRegion* b) {
    return range_of(*a).start < range_of(*b).start;
  });
  for (size_t i = 1; i < sorted.size(); i++) {
    if (!range_of(*sorted[i - 1]).Overlaps(range_of(*sorted[i]))) continue;
    return CheckError(EINVAL,
                      absl::StrCat("the ", kind, " addresses ", ToString(range_of(*sorted[i - 1])),
                                   " and ", ToString(range_of(*sorted[i])), " overlap"));
  }
  return absl::OkStatus();
}

// Does @whole have the bytes of @part, of the same file at the same addresses?
bool IsPartOf(const SharedRegion& part, const SharedRegion& whole) {
  // Wraps if @part begins before @whole.
  const uint64_t start = part.wire.guest_address - whole.wire.guest_address;
  return part.device == whole.device && part.inode == whole.inode && start < whole.wire.size &&
         part.wire.size <= whole.wire.size - start &&
         part.wire.user_address == whole.wire.user_address + start &&
         part.wire.mmap_offset == whole.wire.mmap_offset + start;
}

// Has @next the bytes behind those of @region, of the same file at the same distance?
bool Continues(const SharedRegion& region, const SharedRegion& next) {
  const uint64_t size = region.wire.size;
  return region.device == next.device && region.inode == next.inode &&
         region.wire.guest_address + size == next.wire.guest_address &&
         region.wire.user_address + size == next.wire.user_address &&
         region.wire.mmap_offset + size == next.wire.mmap_offset;
}

// Appends the bytes of @whole from @start to @end, if there are any.
absl::Status AppendPart(const SharedRegion& whole, uint64_t start, uint64_t end,
                        std::vector<SharedRegion>& regions) {
  if (start == end) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(UniqueFd fd, whole.fd.Duplicate());
  regions.push_back({.wire = {.guest_address = whole.wire.guest_address + start,
                              .size = end - start,
                              .user_address = whole.wire.user_address + start,
                              .mmap_offset = whole.wire.mmap_offset + start},
                     .fd = std::move(fd),
                     .device = whole.device,
                     .inode = whole.inode,
                     .view = {},
                     .client_address = {},
                     .is_cut = start > 0});
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRegions(absl::Span<const GuestRegion> regions, size_t max_regions) {
  if (regions.size() > max_regions) {
    return CheckError(ENOSPC, absl::StrCat(regions.size(), " regions of memory, but the back-end ",
                                           "takes ", max_regions, ": join some"));
  }
  for (const GuestRegion& region : regions) GMEM_RETURN_IF_ERROR(CheckRegion(region));
  GMEM_RETURN_IF_ERROR(CheckOverlap(regions, GuestRangeOf, "guest"));
  return CheckOverlap(regions, UserRangeOf, "user");
}

absl::StatusOr<SharedRegion> SharedRegion::Of(const GuestRegion& region) {
  struct stat stat = {};
  if (fstat(region.fd, &stat) != 0) {
    return internal::ErrnoError(errno, absl::StrCat("can't share ", ToString(GuestRangeOf(region)),
                                                    " of descriptor ", region.fd));
  }
  SharedRegion shared;
  shared.wire = {.guest_address = region.guest_address.value(),
                 .size = region.size.value(),
                 .user_address = region.user_address,
                 .mmap_offset = region.offset.value()};
  GMEM_ASSIGN_OR_RETURN(shared.fd, UniqueFd::Duplicate(region.fd));
  shared.device = stat.st_dev;
  shared.inode = stat.st_ino;
  return shared;
}

MemoryRegion SharedRegion::sent() const {
  MemoryRegion region = wire;
  // A view begins with the region.
  if (view != nullptr) region.mmap_offset = 0;
  return region;
}

TableDifference Compare(absl::Span<const SharedRegion> from, absl::Span<const SharedRegion> to) {
  TableDifference difference;
  std::vector<bool> stays(from.size());
  for (size_t i = 0; i < to.size(); i++) {
    // Most tables change at one place, so look where the region was, and around it.
    size_t found = from.size();
    for (size_t step = 0; step < from.size() && found == from.size(); step++) {
      const size_t place = (i + step) % from.size();
      if (!stays[place] && from[place].Is(to[i])) found = place;
    }
    if (found == from.size()) {
      difference.additions.push_back(i);
    } else {
      stays[found] = true;
    }
  }
  for (size_t i = from.size(); i-- > 0;) {
    if (!stays[i]) difference.removals.push_back(i);
  }
  return difference;
}

absl::StatusOr<std::vector<SharedRegion>> KeepParts(absl::Span<const SharedRegion> from,
                                                    std::vector<SharedRegion> to,
                                                    size_t max_regions) {
  std::vector<SharedRegion> cut;
  for (const SharedRegion& whole : to) {
    std::vector<const MemoryRegion*> parts;
    for (const SharedRegion& region : from) {
      if (IsPartOf(region, whole)) parts.push_back(&region.wire);
    }
    std::sort(parts.begin(), parts.end(), [](const MemoryRegion* a, const MemoryRegion* b) {
      return a->guest_address < b->guest_address;
    });
    uint64_t done = 0;
    for (const MemoryRegion* const part : parts) {
      const uint64_t start = part->guest_address - whole.wire.guest_address;
      GMEM_RETURN_IF_ERROR(AppendPart(whole, done, start, cut));
      GMEM_RETURN_IF_ERROR(AppendPart(whole, start, start + part->size, cut));
      done = start + part->size;
    }
    GMEM_RETURN_IF_ERROR(AppendPart(whole, done, whole.wire.size, cut));
  }
  return cut.size() <= max_regions ? std::move(cut) : std::move(to);
}

std::vector<SharedRegion> JoinParts(std::vector<SharedRegion> regions) {
  // The lowest first: its neighbour may be cut off another one.
  std::vector<uint64_t> cuts;
  for (const SharedRegion& region : regions) {
    if (region.is_cut) cuts.push_back(region.wire.guest_address);
  }
  std::sort(cuts.begin(), cuts.end());
  for (const uint64_t cut : cuts) {
    const auto part = std::find_if(regions.begin(), regions.end(), [&](const SharedRegion& region) {
      return region.wire.guest_address == cut;
    });
    const auto before =
        std::find_if(regions.begin(), regions.end(),
                     [&](const SharedRegion& region) { return Continues(region, *part); });
    if (before == regions.end()) continue;
    before->wire.size += part->wire.size;
    regions.erase(part);
  }
  return regions;
}

}  // namespace gmem::vhost
