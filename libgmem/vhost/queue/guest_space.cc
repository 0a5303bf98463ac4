// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/queue/guest_space.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

namespace gmem::vhost::virtqueue_internal {

absl::StatusOr<std::shared_ptr<GuestSpace>> GuestSpace::Reserve(const Pages& first, uint64_t reach,
                                                                uint64_t& slack_left) {
  const uint64_t page = first.page_size;
  // There are no guest addresses below 0.
  const uint64_t before = std::min(kSlack, first.guest_address) / page * page;
  for (const uint64_t wanted : {reach, first.size}) {
    if (wanted > first.size && wanted - first.size > kMaxSlack) continue;
    const uint64_t more = wanted > first.size ? wanted - first.size : 0;
    const uint64_t slack = before + (more + kSlack) / page * page;
    if (slack > slack_left) continue;
    absl::StatusOr<Mapping> addresses =
        Mapping::Reserve(ByteSize(first.size + slack), ByteSize(page));
    if (!addresses.ok()) continue;
    slack_left -= slack;
    return std::shared_ptr<GuestSpace>(
        new GuestSpace(*std::move(addresses), first.guest_address - before, slack, slack_left));
  }
  GMEM_ASSIGN_OR_RETURN(Mapping addresses, Mapping::Reserve(ByteSize(first.size), ByteSize(page)));
  return std::shared_ptr<GuestSpace>(
      new GuestSpace(std::move(addresses), first.guest_address, 0, slack_left));
}

bool GuestSpace::HasRoom(const Pages& pages) const {
  const uint64_t begin = pages.guest_address - start_;
  const uint64_t size = addresses_.size();
  if (begin > size || pages.size > size - begin ||
      (reinterpret_cast<uintptr_t>(addresses_.data()) + begin) % pages.page_size != 0) {
    return false;
  }
  const auto behind = taken_.lower_bound(begin + pages.size);
  return behind == taken_.begin() || std::prev(behind)->second <= begin;
}

absl::StatusOr<absl::Span<uint8_t>> GuestSpace::Map(const Pages& pages) {
  const uint64_t begin = pages.guest_address - start_;
  const absl::Span<uint8_t> there = addresses_.span().subspan(begin, pages.size);
  GMEM_RETURN_IF_ERROR(
      internal::MapOver(there, pages.fd, ByteOffset(pages.offset), MemoryAccess::kReadWrite));
  taken_.emplace(begin, begin + pages.size);
  return there;
}

void GuestSpace::Unmap(absl::Span<uint8_t> pages) {
  const auto taken = taken_.find(static_cast<uint64_t>(pages.data() - addresses_.data()));
  // On an error the pages stay mapped until the whole space goes: nothing else may take their
  // place.
  if (internal::ReserveOver(pages).ok()) taken_.erase(taken);
}

}  // namespace gmem::vhost::virtqueue_internal
